"""``impasto replay``: repeat what a picture says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.options import say
from impasto.cli.stylize import check_output
from impasto.config import StylizeConfig

if TYPE_CHECKING:
    from impasto.field import StyleField
    from impasto.stylizer import Stylizer

__all__ = ["register"]

_LAYOUT = {"content": str, "engine": str, "weights": str, "settings": dict, "styles": list, "saved": dict}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(_replay)


def _replay(
    picture: Annotated[Path, typer.Argument(help="A picture that impasto painted.", show_default=False)],
    content: Annotated[
        Path | None,
        typer.Option(help="The photograph; by default the recipe's file name, beside the picture.", show_default=False),
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="The mask, likewise.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the recipe.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="With other weights: encode presets and style files again.")
    ] = False,
) -> None:
    """Paint again with the settings embedded in a picture; says when the weights differ."""
    recipe = _recipe_of(picture)
    if show:
        say(json.dumps(recipe, indent=2, ensure_ascii=False))
        return

    from impasto.stylizer import Stylizer

    source = content or _beside(picture, recipe["content"], "--content")
    if mask is None and "mask" in recipe:
        mask = _beside(picture, recipe["mask"], "--mask")
    target = output or picture.with_name(f"{picture.stem}.replay{picture.suffix}")
    check_output(source, target)
    stylizer = Stylizer.load(recipe["engine"])
    field = _field_of(recipe, stylizer, picture, anyway)
    result = stylizer.render(source, field, _settings_of(recipe, picture), mask=mask)
    saved = recipe["saved"] if target.suffix.lower() == picture.suffix.lower() else {}
    result.save(target, depth=saved.get("depth", 8), quality=saved.get("quality", 95))
    say(target)


def _recipe_of(picture: Path) -> dict[str, Any]:
    from impasto.errors import UsageError
    from impasto.image import read_recipe

    text = read_recipe(picture)
    if text is None:
        raise UsageError(f"'{picture}' carries no recipe: it was not painted by impasto, or its metadata was stripped")
    try:
        recipe: dict[str, Any] = {"saved": {}} | json.loads(text)
        for key, kind in _LAYOUT.items():
            if not isinstance(recipe[key], kind):
                raise TypeError(f"'{key}' is no {kind.__name__}")
        maps = [str(style["name"]) for style in recipe["styles"] if style["weight"] is None]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the recipe in '{picture}' is damaged or of another version of impasto: {error}") from error
    if maps:
        raise UsageError(f"'{picture}' has weight maps ({', '.join(maps)}), which its recipe does not hold")
    return recipe


def _settings_of(recipe: dict[str, Any], picture: Path) -> StylizeConfig:
    from impasto.errors import UsageError

    try:
        return StylizeConfig(**recipe["settings"])
    except TypeError as error:
        raise UsageError(
            f"'{picture}' was painted by impasto {recipe.get('impasto')} with other settings: {error}"
        ) from error


def _field_of(recipe: dict[str, Any], stylizer: Stylizer, picture: Path, anyway: bool) -> StyleField:
    """The recipe's field; with other weights an error, or the styles encoded again."""
    from impasto.errors import FieldError
    from impasto.field import StyleField
    from impasto.stylizer import field_from_recipe

    identity = stylizer.engine.identity
    if recipe["weights"] == identity:
        return field_from_recipe(recipe, stylizer.engine)
    differ = (
        f"'{picture}' was painted with the weights {recipe['weights']} of {recipe['engine']}, installed are {identity}"
    )
    if not anyway:
        raise FieldError(f"{differ}; --anyway encodes the styles again, with a different result")
    typer.echo(f"impasto: {differ}; encoding the styles again", err=True)
    names = [str(style["name"]) for style in recipe["styles"]]
    weights = [float(style["weight"]) for style in recipe["styles"]]
    presets = stylizer.engine.presets()
    codes = [stylizer.encode(name if name in presets else _beside(picture, name)) for name in names]
    return StyleField.mixed(codes, weights, strength=min(1.0, sum(weights)))


def _beside(picture: Path, name: str, option: str = "") -> Path:
    """The file of a recipe, beside the picture or in the current folder; a recipe names no other places."""
    from impasto.errors import UsageError

    for folder in (picture.parent, Path()):
        found = folder / Path(name).name
        if name and found.is_file():
            return found
    advice = f"give it with {option}" if option else "copy it there"
    raise UsageError(f"'{name}' of the recipe is not beside '{picture}'; {advice}")

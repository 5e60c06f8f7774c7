"""``impasto replay``: repeat what a picture says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.options import say
from impasto.cli.stylize import check_output
from impasto.config import StylizeConfig
from impasto.regions.specs import parse_region

if TYPE_CHECKING:
    from impasto.field import StyleCode, StyleField
    from impasto.stylizer import Stylization, Stylizer

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
    style: Annotated[
        list[Path] | None,
        typer.Option(help="File of a style that the recipe only names, likewise; repeat in the recipe's order."),
    ] = None,
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
    settings = _settings_of(recipe, picture)
    styles = _Styles(stylizer, picture, settings, style or [])
    if "regions" in recipe:
        result = _replayed_regions(recipe, source, styles, mask, anyway)
    else:
        result = stylizer.render(source, _field_of(recipe, styles, anyway), settings, mask=mask)
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


@dataclass
class _Styles:
    """Finds and encodes the styles that a recipe names: presets, files given, files beside the picture."""

    stylizer: Stylizer
    picture: Path
    config: StylizeConfig
    given: list[Path]

    def __call__(self, name: str) -> StyleCode:
        if name in self.stylizer.engine.presets():
            return self.stylizer.encode(name)
        picture, _, part = name.rpartition("@")
        if picture and not (self.picture.parent / name).is_file():  # the style of a part of a picture
            spec = parse_region(part)
            if spec.file is not None:
                spec = spec.with_file(_beside(self.picture, spec.file))
            path = self.given.pop(0) if self.given else _beside(self.picture, picture, "--style")
            return replace(self.stylizer.encode_part(path, spec, config=self.config), name=name)
        path = self.given.pop(0) if self.given else _beside(self.picture, name, "--style")
        return self.stylizer.encode(path, name=name, config=self.config)


def _replayed_regions(
    recipe: dict[str, Any], source: Path, styles: _Styles, mask: Path | None, anyway: bool
) -> Stylization:
    """A picture with regions, painted again; the regions are found anew and must be the same."""
    from impasto.stylizer import code_from_recipe, regions_from_recipe

    stylizer = styles.stylizer
    again = _weights_differ(recipe, styles, anyway)
    base, regions, region_config = regions_from_recipe(
        recipe,
        lambda style: styles(str(style["name"])) if again else code_from_recipe(style, stylizer.engine, styles),
        lambda name: _beside(styles.picture, name),
        check=not anyway,
    )
    return stylizer.stylize(source, base, regions=regions, region_config=region_config, mask=mask, config=styles.config)


def _field_of(recipe: dict[str, Any], styles: _Styles, anyway: bool) -> StyleField:
    """The recipe's field; with other weights an error, or the styles encoded again."""
    from impasto.field import StyleField
    from impasto.stylizer import field_from_recipe

    if not _weights_differ(recipe, styles, anyway):
        return field_from_recipe(recipe, styles.stylizer.engine, styles)
    names = [str(style["name"]) for style in recipe["styles"]]
    weights = [float(style["weight"]) for style in recipe["styles"]]
    return StyleField.mixed([styles(name) for name in names], weights, strength=min(1.0, sum(weights)))


def _weights_differ(recipe: dict[str, Any], styles: _Styles, anyway: bool) -> bool:
    """Whether the styles must be encoded again.

    Raises:
        FieldError: they must, and ``--anyway`` was not given.
    """
    from impasto.errors import FieldError
    from impasto.stylizer import weights_in_use

    identity = weights_in_use(styles.stylizer.engine, styles.config)
    if recipe["weights"] == identity:
        return False
    differ = (
        f"'{styles.picture}' was painted with the weights {recipe['weights']} of {recipe['engine']}, "
        f"installed are {identity}"
    )
    if not anyway:
        raise FieldError(f"{differ}; --anyway encodes the styles again, with a different result")
    typer.echo(f"impasto: {differ}; encoding the styles again", err=True)
    return True


def _beside(picture: Path, name: str, option: str = "") -> Path:
    """The file of a recipe, beside the picture or in the current folder; a recipe names no other places."""
    from impasto.errors import UsageError

    for folder in (picture.parent, Path()):
        found = folder / Path(name).name
        if name and found.is_file():
            return found
    advice = f"give it with {option}" if option else "copy it there"
    raise UsageError(f"'{name}' of the recipe is not beside '{picture}'; {advice}")

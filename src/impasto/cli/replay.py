"""``impasto replay``: repeat what a picture says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from impasto.cli.stylize import check_output

__all__ = ["register"]


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
    from impasto.errors import FieldError, UsageError
    from impasto.image import read_mask, read_picture, read_recipe

    text = read_recipe(picture)
    if text is None:
        raise UsageError(f"'{picture}' carries no recipe: it was not painted by impasto, or its metadata was stripped")
    recipe: dict[str, Any] = json.loads(text)
    if show:
        typer.echo(json.dumps(recipe, indent=2, ensure_ascii=False))
        return

    from impasto.config import StylizeConfig
    from impasto.field import StyleField
    from impasto.stylizer import Stylizer, field_from_recipe

    source = content or _beside(picture, recipe.get("content", ""), "--content")
    target = output or picture.with_name(f"{picture.stem}.replay{picture.suffix}")
    check_output(source, target)
    config = StylizeConfig(**recipe["settings"])
    stylizer = Stylizer.load(recipe["engine"])
    try:
        field = field_from_recipe(recipe, stylizer.engine)
    except FieldError as error:
        if not anyway:
            raise FieldError(f"{error}; --anyway encodes the styles again, with a different result") from None
        typer.echo(f"impasto: {error}; encoding the styles again", err=True)
        codes = [
            stylizer.encode(name if name in stylizer.engine.presets() else _beside(picture, name, "the style"))
            for name in (style["name"] for style in recipe["styles"])
        ]
        field = StyleField.mixed(codes, [style["weight"] for style in recipe["styles"]])
    photograph = read_picture(source)
    if "mask" in recipe:
        field = field.times(read_mask(mask or _beside(picture, recipe["mask"], "--mask"), photograph.size))
    result = stylizer.render(photograph, field, config)
    result.save(target)
    typer.echo(str(target))


def _beside(picture: Path, name: str, option: str) -> Path:
    from impasto.errors import UsageError

    for folder in (picture.parent, Path()):
        if name and (folder / name).is_file():
            return folder / name
    raise UsageError(f"'{name}' of the recipe is not beside '{picture}'; give it with {option}")

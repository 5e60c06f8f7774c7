"""``impasto stylize``: one photograph, one painting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from impasto.cli.options import parse_shares, say, setting_option
from impasto.config import StylizeConfig
from impasto.errors import OutputError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stylize")(_stylize)


def _stylize(
    photo: Annotated[Path, typer.Argument(help="The photograph: JPEG, PNG, WebP, TIFF, BMP, ...", show_default=False)],
    style: Annotated[
        list[str],
        typer.Option("--style", "-s", help="A preset's name, a picture, or a saved code; repeat to mix several."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write; the suffix decides the format.", show_default=False),
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="Weights of several styles, like 0.7,0.3.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Picture that is white where the style goes.", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option(help="Method; see 'impasto engines'.")] = "brush",
    strength: Annotated[float, setting_option("strength")] = StylizeConfig.strength,
    style_scale: Annotated[float, setting_option("style_scale")] = StylizeConfig.style_scale,
    preserve_color: Annotated[str, setting_option("preserve_color")] = StylizeConfig.preserve_color,
    mix_mode: Annotated[str, setting_option("mix_mode")] = StylizeConfig.mix_mode,
    size: Annotated[int | None, setting_option("size")] = StylizeConfig.size,
    seed: Annotated[int, setting_option("seed")] = StylizeConfig.seed,
    tile: Annotated[int, setting_option("tile")] = StylizeConfig.tile,
    depth: Annotated[int, typer.Option(help="Bits per channel of the result: 8, or 16 for PNG and TIFF.")] = 8,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP.", min=1, max=100)] = 95,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out all metadata, the recipe too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False,
) -> None:
    """Paint a photograph in the style of a picture or a preset.

    impasto stylize photo.jpg --style ukiyo-e -o painting.jpg
    """
    config = StylizeConfig(
        strength=strength,
        style_scale=style_scale,
        preserve_color=preserve_color,
        mix_mode=mix_mode,
        size=size,
        seed=seed,
        tile=tile,
    )
    shares = parse_shares(mix, len(style))
    target = output or photo.parent / f"{photo.stem}.{_label(style)}{photo.suffix or '.png'}"
    check_output(photo, target)

    from impasto.stylizer import StyleRequest, Stylizer

    stylizer = Stylizer.load(engine)
    requests = [StyleRequest(one, share) for one, share in zip(style, shares, strict=True)]
    result = stylizer.stylize(photo, requests, mask=mask, config=config)
    result.save(target, depth=depth, quality=quality, strip=strip)
    if as_json:
        height, width = result.stored.shape[:2]
        said = {"output": str(target), "height": height, "width": width, "seconds": round(result.seconds, 4)}
        say(json.dumps(said | {"recipe": result.recipe}, ensure_ascii=False))
    else:
        say(f"{target}  ({result.seconds:.2f} s)")


def _label(styles: list[str]) -> str:
    return "+".join(Path(style).stem for style in styles)[:80]


def check_output(source: Path, target: Path) -> None:
    """Refuse early what cannot be written.

    Raises:
        OutputError: the result would replace the photograph, or its folder does not exist.
    """
    if source.exists() and target.exists() and source.resolve() == target.resolve():
        raise OutputError(f"'{target}' is the photograph itself; name another output")
    if not target.parent.is_dir():
        raise OutputError(f"the folder '{target.parent}' does not exist")

"""``impasto stylize``: one photograph, one painting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.options import (
    engine_setting_option,
    parse_settings,
    parse_shares,
    region_list_option,
    region_option,
    say,
    setting_option,
)
from impasto.config import StylizeConfig
from impasto.errors import OutputError, UsageError
from impasto.regions.settings import RegionConfig
from impasto.regions.specs import RegionStyle

if TYPE_CHECKING:
    from impasto.types import FloatArray

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stylize")(_stylize)


def _stylize(
    photo: Annotated[Path, typer.Argument(help="The photograph: JPEG, PNG, WebP, TIFF, BMP, ...", show_default=False)],
    style: Annotated[
        list[str] | None,
        typer.Option("--style", "-s", help="A preset's name, a picture, or a saved code; repeat to mix several."),
    ] = None,
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
    region: Annotated[list[str] | None, region_list_option()] = None,
    feather: Annotated[float, region_option("feather")] = RegionConfig.feather,
    feather_mode: Annotated[str, region_option("feather_mode")] = RegionConfig.feather_mode,
    segments: Annotated[int, region_option("segments")] = RegionConfig.segments,
    protect: Annotated[str, region_option("protect")] = RegionConfig.protect,
    protect_strength: Annotated[float, region_option("protect_strength")] = RegionConfig.protect_strength,
    sam: Annotated[str | None, region_option("sam")] = RegionConfig.sam,
    engine: Annotated[str, typer.Option(help="Method; see 'impasto engines'.")] = "brush",
    strength: Annotated[float, setting_option("strength")] = StylizeConfig.strength,
    style_scale: Annotated[float, setting_option("style_scale")] = StylizeConfig.style_scale,
    preserve_color: Annotated[str, setting_option("preserve_color")] = StylizeConfig.preserve_color,
    mix_mode: Annotated[str, setting_option("mix_mode")] = StylizeConfig.mix_mode,
    size: Annotated[int | None, setting_option("size")] = StylizeConfig.size,
    seed: Annotated[int, setting_option("seed")] = StylizeConfig.seed,
    tile: Annotated[int, setting_option("tile")] = StylizeConfig.tile,
    settings: Annotated[list[str] | None, engine_setting_option()] = None,
    depth: Annotated[int, typer.Option(help="Bits per channel of the result: 8, or 16 for PNG and TIFF.")] = 8,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP.", min=1, max=100)] = 95,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out all metadata, the recipe too.")] = False,
    preview: Annotated[
        Path | None,
        typer.Option(help="Of slow engines: keep this picture up to date while they paint.", show_default=False),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="Of engines with attention: write a picture of where they look.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False,
) -> None:
    """Paint a photograph in the style of a picture or a preset.

    impasto stylize photo.jpg --style ukiyo-e -o painting.jpg

    impasto stylize photo.jpg --region sky.png=monet.jpg:0.9 --region box:10,20,300,400=ukiyo-e
    """
    config = StylizeConfig(
        strength=strength,
        style_scale=style_scale,
        preserve_color=preserve_color,
        mix_mode=mix_mode,
        size=size,
        seed=seed,
        tile=tile,
        options=parse_settings(settings),
    )
    styles, regions = style or [], [RegionStyle.parse(text) for text in region or ()]
    if not styles and not regions:
        raise UsageError("name a --style for the photograph, or a --region with its style")
    region_config = RegionConfig(feather, feather_mode, segments, protect, protect_strength, sam)
    shares = parse_shares(mix, len(styles))
    label = _label(styles or [str(one.style) for one in regions if one.style is not None])
    target = output or photo.parent / f"{photo.stem}.{label}{photo.suffix or '.png'}"
    check_output(photo, target)

    for besides in (preview, explain):
        if besides is not None:
            check_output(photo, besides)
    if explain is not None and explain.resolve() == target.resolve():
        raise UsageError(f"'{explain}' cannot be painting and explanation at once; name another --explain")

    from impasto.cli.progress import show_progress
    from impasto.stylizer import StyleRequest, Stylizer

    stylizer = Stylizer.load(engine)
    if explain is not None:
        stylizer.check_explaining()
    requests = [StyleRequest(one, share) for one, share in zip(styles, shares, strict=True)]
    with show_progress(engine, preview, quiet=as_json) as on_progress:
        result = stylizer.stylize(
            photo,
            requests,
            regions=regions,
            region_config=region_config,
            mask=mask,
            config=config,
            explain=explain is not None,
            on_progress=on_progress,
        )
    result.save(target, depth=depth, quality=quality, strip=strip)
    if explain is not None and result.explanation is not None:
        _write_explanation(explain, result.explanation)
    if as_json:
        height, width = result.stored.shape[:2]
        said = {"output": str(target), "height": height, "width": width, "seconds": round(result.seconds, 4)}
        say(json.dumps(said | {"recipe": result.recipe}, ensure_ascii=False))
    else:
        say(f"{target}  ({result.seconds:.2f} s)")


def _write_explanation(path: Path, shown: FloatArray) -> None:
    import numpy as np

    from impasto.image import write_picture
    from impasto.ops.tiling import quantised

    write_picture(path, quantised(shown, np.uint8), strip=True)


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

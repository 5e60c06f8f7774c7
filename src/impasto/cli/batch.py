"""``impasto batch``: a folder of photographs to a folder of paintings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
from impasto.errors import BatchError, UsageError
from impasto.regions.settings import RegionConfig
from impasto.regions.specs import RegionStyle

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("batch")(_batch)


def _batch(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs, searched recursively.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the paintings.", show_default=False)],
    style: Annotated[
        list[str] | None, typer.Option("--style", "-s", help="A preset's name, a picture, or a saved code.")
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="Weights of several styles, like 0.7,0.3.", show_default=False)
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
    suffix: Annotated[
        str | None, typer.Option(help="Format of the paintings, like .png; by default each photograph's own.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Bits per channel: 8, or 16 for PNG and TIFF.")] = 8,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP.", min=1, max=100)] = 95,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out all metadata, the recipe too.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Paint everything anew instead of going on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False,
) -> None:
    """Paint every photograph of a folder; a second call goes on where the first one stopped."""
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
    styles, regions = style or [], tuple(region or ())
    if not styles and not regions:
        raise UsageError("name a --style for the photographs, or a --region with its style")
    for text in regions:
        RegionStyle.parse(text)  # before anything is loaded
    region_config = RegionConfig(feather, feather_mode, segments, protect, protect_strength, sam)
    shares = parse_shares(mix, len(styles))

    from rich.console import Console
    from rich.progress import track

    from impasto.batch import BatchJob, SaveOptions, run_batch

    save = SaveOptions(suffix, depth, quality, strip)
    named = tuple(zip(styles, shares, strict=True))
    job = BatchJob(folder, output, engine, named, config, save, regions, region_config)
    console = Console(stderr=True)
    todo, done_before = job.plan(again=again)
    steps = run_batch(job, todo)
    failures = []
    for outcome in track(steps, total=len(todo), description="painting", console=console, disable=as_json):
        if outcome.error:
            failures.append(outcome)
    painted = len(todo) - len(failures)
    if as_json:
        failed = {str(one.source): one.error for one in failures}
        say(json.dumps({"painted": painted, "done_before": done_before, "failed": failed}, ensure_ascii=False))
    else:
        typer.echo(f"{painted} painted, {done_before} done before, {len(failures)} failed")
        for one in failures:
            typer.echo(f"  {one.source}: {one.error}", err=True)
    if failures:
        raise BatchError(f"{len(failures)} of {len(todo)} pictures failed; the same command tries them again")

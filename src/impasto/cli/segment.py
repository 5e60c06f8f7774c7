"""``impasto segment``: show and save the regions of a photograph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from impasto.cli.options import region_option, say
from impasto.errors import OutputError
from impasto.regions.settings import RegionConfig

__all__ = ["register"]

OVERLAY = "overlay.png"
MANIFEST = "regions.json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("segment")(_segment)


def _segment(
    photo: Annotated[Path, typer.Argument(help="The photograph.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=f"Folder for {OVERLAY}, the masks and {MANIFEST}.", show_default=False),
    ],
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            help="A region to cut out instead of the automatic segments: box:10,20,300,400, click:120,80, foreground, "
            "faces, labelme:file.json#label, mask.png, ...; repeat for several, later ones on top.",
            rich_help_panel="Regions",
        ),
    ] = None,
    segments: Annotated[int, region_option("segments")] = RegionConfig.segments,
    feather: Annotated[float, region_option("feather")] = RegionConfig.feather,
    feather_mode: Annotated[str, region_option("feather_mode")] = RegionConfig.feather_mode,
    sam: Annotated[str | None, region_option("sam")] = RegionConfig.sam,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was found as JSON.")] = False,
) -> None:
    """Divide a photograph into numbered segments, or cut out regions; save a picture that shows them, and the masks.

    impasto segment photo.jpg -o regions

    impasto stylize photo.jpg --region segment:3=ukiyo-e
    """
    config = RegionConfig(feather=feather, feather_mode=feather_mode, segments=segments, sam=sam)
    if output.is_file():
        raise OutputError(f"'{output}' is a file; name a folder")

    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from impasto.image import read_picture, write_picture
    from impasto.ops.tiling import quantised
    from impasto.regions import RegionFinder, Regions, draw_overlay

    picture = read_picture(photo)
    finder = RegionFinder(picture, config)
    names = region or [f"segment:{number}" for number in range(1, finder.segment_count + 1)]
    regions = finder.feathered(Regions.stacked((name, finder.find(name)) for name in names))
    files = regions.save(output)
    overlay = draw_overlay(quantised(picture.pixels, np.uint8), regions)
    write_picture(output / OVERLAY, np.asarray(overlay))
    rows = []
    for number, name in enumerate(regions, start=1):
        shown, share = regions[name] >= 0.5, float(regions[name].mean())
        row = {"number": number, "region": name, "file": files[name].name, "share": round(share, 4)}
        if shown.any():
            down, across = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
            row["box"] = [int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1]
        rows.append(row)
    found = {"photo": photo.name, "height": picture.height, "width": picture.width, "regions": rows}
    _write(output / MANIFEST, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    table = Table("number", "region", "share", "mask", box=None)
    for row in rows:
        table.add_row(str(row["number"]), str(row["region"]), f"{row['share']:.1%}", str(output / str(row["file"])))
    Console().print(table)
    say(output / OVERLAY)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error

"""``impasto export``: deployment files from a training's result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(_export)


def _export(
    weights: Annotated[Path, typer.Argument(help="NAME.safetensors of a training.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of a set of weights of brush.")] = "brush",
    encoder: Annotated[
        str, typer.Option(help="Encoder of local: lens, or the file of the one that it was trained behind.")
    ] = "lens",
    artworks: Annotated[
        list[Path] | None,
        typer.Option(help="Folder or tar with the pictures that the presets name; repeat for several."),
    ] = None,
    presets: Annotated[
        Path | None, typer.Option(help="Table of presets; by default the packaged one.", show_default=False)
    ] = None,
) -> None:
    """Write ONNX graphs, half-precision weights, presets and the card; parity with PyTorch is checked."""
    from impasto.errors import MissingExtraError

    try:
        from impasto.export import export_set
    except ImportError as error:
        raise MissingExtraError("export", "export") from error
    written = export_set(weights, output, name=name, encoder=encoder, artworks=artworks or (), presets=presets)
    for file in written:
        typer.echo(f"{file.name}  {file.bytes / 1e6:.2f} MB  sha256 {file.sha256}")

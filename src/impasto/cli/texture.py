"""``impasto texture``: more of a texture, a picture drawn with it, holes filled."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.checks import check_choice
from impasto.cli.options import parse_settings, say
from impasto.cli.stylize import check_output
from impasto.config import StylizeConfig, field_info, resolve_options
from impasto.errors import UsageError

if TYPE_CHECKING:
    from impasto.types import FloatArray

__all__ = ["register"]

METHOD_HELP = (
    "quilting: whole pieces cut along the best seams, in seconds; efros-leung: pixel by pixel, for small pictures; "
    "portilla-simoncelli: new pixels with the same statistics."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("texture")(_texture)


def _texture(
    sample: Annotated[Path, typer.Argument(help="Picture of the texture.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.", show_default=False)],
    method: Annotated[str, typer.Option(help=METHOD_HELP)] = "quilting",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the result; twice the sample's by default.", show_default=False)
    ] = None,
    tileable: Annotated[bool, typer.Option("--tileable", help="The result repeats without a seam (quilting).")] = False,
    onto: Annotated[
        Path | None, typer.Option(help="Draw this picture with the texture (texture transfer).", show_default=False)
    ] = None,
    fill: Annotated[
        Path | None,
        typer.Option(help="Fill the sample where this mask is white (efros-leung).", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method: NAME=VALUE; repeat for several; --settings lists them."),
    ] = None,
    show_settings: Annotated[bool, typer.Option("--settings", help="List the method's settings and stop.")] = False,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same texture.", min=0, max=2**63 - 1)
    ] = StylizeConfig.seed,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP.", min=1, max=100)] = 95,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False,
) -> None:
    """Make more of a texture, draw a picture with it, or fill holes.

    impasto texture brick.jpg -o wall.png --size 1024x1024
    """
    from impasto.texture import METHODS
    from impasto.texture.settings import settings_type

    check_choice("method", method, METHODS)
    job = _job(method, onto, fill)
    kind = settings_type(job)
    if show_settings:
        _list_settings(job, kind)
        return
    if (onto or fill) and (size or tileable):
        raise UsageError("--size and --tileable are for new textures: --onto and --fill keep the picture's size")
    chosen = resolve_options(kind, parse_settings(settings))
    check_output(sample, output)
    begun = time.perf_counter()
    with _bar(job, quiet=as_json) as tell:
        made = _made(job, sample, onto or fill, chosen, parse_size(size), seed, tileable, tell)
    seconds = time.perf_counter() - begun
    _write(output, made, quality)
    if as_json:
        said = {
            "output": str(output), "method": job, "height": made.shape[0], "width": made.shape[1], "seed": seed,
            "settings": dataclasses.asdict(chosen), "seconds": round(seconds, 4),
        }  # fmt: skip
        say(json.dumps(said, ensure_ascii=False))
    else:
        say(f"{output}  ({seconds:.2f} s)")


def _job(method: str, onto: Path | None, fill: Path | None) -> str:
    if onto is not None and fill is not None:
        raise UsageError("--onto and --fill are different jobs; give one of them")
    if onto is not None:
        if method != "quilting":
            raise UsageError(f"--onto draws by quilting; it does not go with --method {method}")
        return "transfer"
    if fill is not None:
        if method not in ("quilting", "efros-leung"):
            raise UsageError(f"--fill works by efros-leung; it does not go with --method {method}")
        return "efros-leung"
    return method


def _made(
    job: str,
    sample: Path,
    second: Path | None,
    settings: Any,
    size: tuple[int, int] | None,
    seed: int,
    tileable: bool,
    tell: Callable[[float], None] | None,
) -> FloatArray:
    from impasto import texture

    if job == "transfer" and second is not None:
        return texture.transfer(sample, second, settings=settings, seed=seed, on_progress=tell)
    if second is not None:
        return texture.fill(sample, second, settings=settings, seed=seed, on_progress=tell)
    return texture.synthesize(sample, job, size=size, settings=settings, seed=seed, tileable=tileable, on_progress=tell)


def _write(output: Path, made: FloatArray, quality: int) -> None:
    from impasto.image import write_picture

    write_picture(output, made, quality=quality)


def _list_settings(job: str, kind: type[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "default", "range", "what it does", box=None, title=job, title_justify="left")
    for info in dataclasses.fields(kind):
        default, metadata = field_info(kind, info.name)
        limits = ", ".join(metadata["choices"]) or f"{metadata['smallest']:g} to {metadata['largest']:g}"
        shown = f"{default:.3g}" if isinstance(default, float) else str(default)
        table.add_row(info.name, f"{shown} {metadata['unit']}".strip(), limits, metadata["help"])
    Console().print(table)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``512x384`` (width x height) to (384, 512); ``512`` is a square.

    Raises:
        UsageError: no such text.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--size takes WIDTHxHEIGHT in pixels, like 512x384, not '{text}'")
    numbers = [int(part) for part in parts]
    return numbers[-1], numbers[0]


@contextlib.contextmanager
def _bar(job: str, *, quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A progress bar where somebody looks, None elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn(job), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(job, total=1.0)
        yield lambda done: bar.update(task, completed=done)

"""A progress bar, and a picture on disk that follows the work, for engines that take their time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from impasto.engines import ProgressCallback, RenderProgress

__all__ = ["show_progress"]

PREVIEW_SECONDS = 3.0  # between two previews: writing one takes time from the work


@contextlib.contextmanager
def show_progress(
    engine: str, preview: Path | None = None, *, quiet: bool = False
) -> Iterator[ProgressCallback | None]:
    """A callback for the engine, None where nobody looks: fast engines without a preview.

    A slow engine's estimate of time and memory is printed before it starts and stays; the bar is for terminals.

    Args:
        engine: its name.
        preview: a picture to write again and again.
        quiet: neither bar nor estimate.
    """
    from impasto.engines import engine_spec

    told = not quiet and engine_spec(engine).capabilities.slow
    if not told and preview is None:
        yield None
        return
    bar = _bar() if told and sys.stderr.isatty() else None
    with bar or contextlib.nullcontext():
        yield _Display(engine, bar, preview, told=told)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}"),
        console=Console(stderr=True),
        transient=True,
    )


class _Display:
    """Prints what the engine says first, and brings the bar and the preview up to date."""

    def __init__(self, engine: str, bar: Progress | None, preview: Path | None, *, told: bool) -> None:
        self._bar = bar
        self._engine = engine if told else ""
        self._task = None if bar is None else bar.add_task(engine, total=1.0, message="")
        self._preview = preview
        self._next = time.monotonic()

    def __call__(self, progress: RenderProgress) -> None:
        if self._engine and progress.done == 0 and progress.message:
            import typer

            typer.echo(f"{self._engine}: {progress.message}", err=True)
            self._engine = ""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.done, message=progress.message)
        if self._preview is None or progress.preview is None or time.monotonic() < self._next:
            return
        from impasto.image import write_picture

        write_picture(self._preview, progress.preview())
        self._next = time.monotonic() + PREVIEW_SECONDS

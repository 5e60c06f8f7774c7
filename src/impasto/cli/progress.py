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
    """A callback for the engine, None where nobody looks: fast engines, pipes without a preview.

    Args:
        engine: its name.
        preview: a picture to write again and again.
        quiet: no bar.
    """
    from impasto.engines import engine_spec

    bar = None if quiet or not engine_spec(engine).capabilities.slow or not sys.stderr.isatty() else _bar()
    if bar is None and preview is None:
        yield None
        return
    with bar or contextlib.nullcontext():
        yield _Display(engine, bar, preview)


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
    """Brings the bar and the preview up to date."""

    def __init__(self, engine: str, bar: Progress | None, preview: Path | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task(engine, total=1.0, message="")
        self._preview = preview
        self._next = time.monotonic()

    def __call__(self, progress: RenderProgress) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.done, message=progress.message)
        if self._preview is None or progress.preview is None or time.monotonic() < self._next:
            return
        from impasto.image import write_picture

        write_picture(self._preview, progress.preview())
        self._next = time.monotonic() + PREVIEW_SECONDS

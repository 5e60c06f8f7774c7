"""Compiling inner loops with numba, and running them on strips of a picture in threads."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

__all__ = ["compiled", "cut", "on_strips", "processors"]

MATHS = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order, for vectors of numbers; infinity stays what it is


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` when it is first called; it releases the interpreter's lock while it runs.

    The machine code is kept beside Python's own byte code (or in the user's cache folder where that may not be
    written), so that only the first call after an installation waits. It is not kept where Python is told not to
    write byte code (``PYTHONDONTWRITEBYTECODE``), or where there is no folder for it.
    """
    if not sys.dont_write_bytecode:
        try:
            kept: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=MATHS, error_model="numpy")(function)
            return kept
        except RuntimeError:  # no folder that may be written
            pass
    made: Callable[..., Any] = numba.njit(nogil=True, fastmath=MATHS, error_model="numpy")(function)
    return made


def cut(length: int, count: int) -> list[tuple[int, int]]:
    """``[0, length)`` in at most ``count`` parts of nearly equal size."""
    count = max(1, min(count, length))
    marks = [length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(marks))


def on_strips(work: Callable[[int, int, int], None], strips: list[tuple[int, int]]) -> None:
    """Call ``work(index, begin, end)`` for every strip, several at a time where there are several processors.

    What a strip does must not depend on the others, so that the result is the same on any number of processors.
    """
    workers = min(len(strips), processors())
    if workers < 2:
        for index, (begin, end) in enumerate(strips):
            work(index, begin, end)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, index, *strip) for index, strip in enumerate(strips)]:
            done.result()


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Polygons, rectangles and circles to masks with anti-aliased edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from impasto.types import FloatArray

__all__ = ["circle_points", "polygon_mask", "rectangle_points", "union"]

SCANLINES = 8  # per row of pixels; along a row the covered share is exact
CIRCLE_STEP = 0.5  # longest side, in pixels, of the polygon that stands for a circle


def polygon_mask(points: ArrayLike, size: tuple[int, int]) -> FloatArray:
    """The share of every pixel that a polygon covers, by the even-odd rule.

    Args:
        points: ``[N, 2]`` corners ``(x, y)``; pixel ``(0, 0)`` reaches from 0 to 1 on both axes. Parts outside of the
            picture are cut off.
        size: ``(height, width)``.

    Returns:
        ``[H, W]`` in ``[0, 1]``; exact along rows, to 1/8 of a pixel along columns.
    """
    height, width = size
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    begin, end = corners, np.roll(corners, -1, axis=0)
    rows, places = _crossings(begin, end, height * SCANLINES)
    order = np.lexsort((places, rows))  # on each scanline from left to right: in, out, in, out
    rows, places = rows[order] // SCANLINES, np.clip(places[order], 0, width)
    signs = np.where(np.arange(len(rows)) % 2 == 0, 1.0, -1.0)
    # A crossing at x opens (or closes) everything to its right, pixel floor(x) only in part: two steps whose running
    # sum is that share.
    column = np.floor(places).astype(np.intp)
    rest = places - column
    steps = np.zeros(height * (width + 2))
    start = rows * (width + 2) + column
    steps += np.bincount(start, signs * (1 - rest), minlength=len(steps))
    steps += np.bincount(start + 1, signs * rest, minlength=len(steps))
    covered = np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width] / SCANLINES
    return np.clip(covered, 0, 1).astype(np.float32)


def _crossings(
    begin: NDArray[np.float64], end: NDArray[np.float64], lines: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which edges cross which scanline, and at which x: a scanline's height is ``(line + 0.5) / SCANLINES``."""
    low, high = np.minimum(begin[:, 1], end[:, 1]), np.maximum(begin[:, 1], end[:, 1])
    first = np.clip(np.ceil(low * SCANLINES - 0.5), 0, lines).astype(np.intp)
    last = np.clip(np.ceil(high * SCANLINES - 0.5), 0, lines).astype(np.intp)  # half open: a corner counts once
    counts = last - first
    edge = np.repeat(np.arange(len(begin)), counts)
    offset = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = first[edge] + offset
    y = (row + 0.5) / SCANLINES
    share = (y - begin[edge, 1]) / (end[edge, 1] - begin[edge, 1])
    return row, begin[edge, 0] + share * (end[edge, 0] - begin[edge, 0])


def rectangle_points(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """The four corners ``[4, 2]`` of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def circle_points(x: float, y: float, radius: float) -> NDArray[np.float64]:
    """Corners ``[N, 2]`` of a polygon that is a circle to well below a pixel."""
    count = max(16, int(np.ceil(2 * np.pi * radius / CIRCLE_STEP)))
    angle = np.linspace(0, 2 * np.pi, min(count, 4096), endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def union(masks: Sequence[FloatArray]) -> FloatArray:
    """Where any of the masks is: their maximum."""
    result: FloatArray = np.maximum.reduce(list(masks))
    return result

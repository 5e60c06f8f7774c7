"""What a ControlNet sees of a photograph."""

from __future__ import annotations

import numpy as np

from impasto.image.color import luminance
from impasto.ops.neighbourhood import box_mean, running_maximum
from impasto.types import FloatArray

__all__ = ["canny_edges"]

WEAK, STRONG = 0.10, 0.20  # of the gradient, for a step from black to white over one pixel
LONGEST = 64  # pixels that a weak edge is followed from a strong one


def canny_edges(picture: FloatArray) -> FloatArray:
    """White edges, one pixel wide, on black, as ControlNets for "canny" were trained on (Canny 1986).

    Args:
        picture: ``[H, W, 3]`` in ``[0, 1]``.

    Returns:
        ``[H, W, 3]``, 0 or 1.
    """
    grey = np.asarray(np.pad(box_mean(luminance(picture), 1), 1, mode="edge"), np.float32)
    across: FloatArray = (grey[1:-1, 2:] - grey[1:-1, :-2]) / np.float32(2)
    down: FloatArray = (grey[2:, 1:-1] - grey[:-2, 1:-1]) / np.float32(2)
    size = np.hypot(across, down)
    ridge = size >= _along_gradient(size, across, down)
    weak, edge = ridge & (size >= WEAK / 2), ridge & (size >= STRONG / 2)
    for _ in range(LONGEST):  # hysteresis: weak edges that hang on strong ones
        grown = weak & (running_maximum(edge.astype(np.float32), 1) > 0)
        if np.array_equal(grown, edge):
            break
        edge = grown | edge
    return np.repeat(edge.astype(np.float32)[..., None], 3, axis=2)


def _along_gradient(size: FloatArray, across: FloatArray, down: FloatArray) -> FloatArray:
    """The larger of each pixel's two neighbours in the direction of its gradient, of four directions."""
    around = np.pad(size, 1)
    height, width = size.shape

    def at(row: int, column: int) -> FloatArray:
        return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    sector = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    steps = ((0, 1), (1, 1), (1, 0), (1, -1))
    pairs = [np.maximum(at(row, column), at(-row, -column)) for row, column in steps]
    return np.asarray(np.choose(sector, pairs), np.float32)

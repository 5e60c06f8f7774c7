"""Minimum-cut seams by dynamic programming (Efros & Freeman 2001, section 2.1; Dijkstra's path on a strip)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from impasto.types import FloatArray

__all__ = ["seam", "seam_cost"]


def seam(surface: FloatArray) -> NDArray[np.intp]:
    """The cheapest way from the first row to the last, moving by at most one column from row to row.

    Args:
        surface: ``[H, W]`` the error ``e = (B1 - B2)^2`` of cutting at each pixel.

    Returns:
        ``[H]`` the column of the cut in each row.
    """
    height, width = surface.shape
    total = np.empty((height, width), np.float64)
    total[0] = surface[0]
    walled = np.full(width + 2, np.inf)
    for row in range(1, height):  # E_ij = e_ij + min(E_i-1,j-1, E_i-1,j, E_i-1,j+1)
        walled[1:-1] = total[row - 1]
        total[row] = surface[row] + np.minimum(np.minimum(walled[:-2], walled[1:-1]), walled[2:])
    path = np.empty(height, np.intp)
    path[-1] = np.argmin(total[-1])
    for row in range(height - 2, -1, -1):
        first = max(0, path[row + 1] - 1)
        path[row] = first + np.argmin(total[row, first : path[row + 1] + 2])
    return path


def seam_cost(surface: FloatArray, path: NDArray[np.intp]) -> float:
    """What a cut costs: the sum of the surface along it."""
    return float(surface[np.arange(len(path)), path].sum(dtype=np.float64))

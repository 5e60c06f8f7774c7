"""Seams of pictures that were painted in tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import UsageError

__all__ = ["SeamError", "seam_error", "seam_visibility"]

REACH = 8  # lines on either side that say what a step is like where there is no seam
QUIET = 0.5 / 255  # steps below half an 8-bit level cannot be seen


@dataclass(frozen=True)
class SeamError:
    """Difference between a picture painted in tiles and in one piece: ``largest`` and ``mean`` in ``[0, 1]``."""

    largest: float
    mean: float


def seam_error(tiled: NDArray[Any], whole: NDArray[Any]) -> SeamError:
    """How far tiling changes a picture; 0 where tiles share everything that matters.

    Args:
        tiled: ``[H, W, C]`` in ``[0, 1]``, painted in tiles.
        whole: the same, painted in one piece.

    Raises:
        UsageError: the shapes differ.
    """
    if tiled.shape != whole.shape:
        raise UsageError(f"pictures of one shape can be compared, not {tiled.shape} with {whole.shape}")
    difference = np.abs(tiled.astype(np.float64) - whole.astype(np.float64))
    return SeamError(float(difference.max()), float(difference.mean()))


def seam_visibility(picture: NDArray[Any], *, rows: Sequence[int] = (), columns: Sequence[int] = ()) -> float:
    """How much larger the steps across seams are than the steps beside them; 1 where nothing is to be seen.

    For each seam the mean absolute step across it is divided by the mean over the lines up to 8 pixels to either side;
    the largest of these ratios is returned. It needs no picture without seams. An edge of the content that lies
    exactly on a seam counts as one: take several pictures.

    Args:
        picture: ``[H, W, C]`` or ``[H, W]`` in ``[0, 1]``.
        rows: seams lie between row ``r - 1`` and row ``r``.
        columns: likewise.

    Raises:
        UsageError: no seam, or one that lies outside.
    """
    values = picture.astype(np.float64).reshape(*picture.shape[:2], -1)
    ratios = [_visibility(values, row) for row in rows]
    ratios += [_visibility(values.swapaxes(0, 1), column) for column in columns]
    if not ratios:
        raise UsageError("at least one seam is needed, a row or a column")
    return max(ratios)


def _visibility(values: NDArray[np.float64], seam: int) -> float:
    steps = np.abs(np.diff(values, axis=0)).mean((1, 2))  # [H - 1], step k lies between rows k and k + 1
    if not 1 <= seam <= len(steps):
        raise UsageError(f"a seam at {seam} does not lie inside of {len(values)} pixels")
    at = seam - 1
    beside = np.concatenate([steps[max(0, at - REACH) : at], steps[at + 1 : at + 1 + REACH]])
    return float((steps[at] + QUIET) / ((beside.mean() if beside.size else 0.0) + QUIET))

"""Structural similarity of two pictures, and the diversity of several.

Sources: SSIM, Wang, Bovik, Sheikh & Simoncelli 2004 (IEEE TIP 13(4)); MS-SSIM, Wang, Simoncelli & Bovik 2003
(Asilomar). Both with the papers' constants: a Gaussian window of 11 x 11 pixels with deviation 1.5, K1 = 0.01,
K2 = 0.03, values in ``[0, 1]``, and only windows that lie inside of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import UsageError

__all__ = ["WINDOW", "diversity", "ms_ssim", "ssim"]

WINDOW = 11
DEVIATION = 1.5
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2

Plane = NDArray[np.float64]


def ssim(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean structural similarity, from -1 to 1; 1 for equal pictures. Symmetric.

    Args:
        first: ``[H, W]`` or ``[H, W, C]`` in ``[0, 1]``; of several channels the mean is taken. The paper compares
            luminance: see :func:`impasto.image.luminance`.
        second: of the same shape.

    Raises:
        UsageError: the shapes differ, or a side is shorter than the window.
    """
    similarity, _ = _similarity(*_planes(first, second))
    return float(similarity.mean())


def ms_ssim(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean structural similarity over five scales, from 0 to 1; 1 for equal pictures. Symmetric.

    Pictures too small for five scales (a side below 176 pixels) are compared at as many as they hold, with the weights
    of those scaled to the sum of all.

    Args:
        first: ``[H, W]`` or ``[H, W, C]`` in ``[0, 1]``.
        second: of the same shape.

    Raises:
        UsageError: the shapes differ, or a side is shorter than the window.

    Differs from the paper: negative means count as 0, since a fractional power of them is no real number; the paper
    says nothing about them.
    """
    planes = _planes(first, second)
    side = min(planes[0].shape[:2])
    scales = 1
    while scales < len(SCALE_WEIGHTS) and side >> scales >= WINDOW:
        scales += 1
    weights = np.array(SCALE_WEIGHTS[:scales]) * (sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales]))
    product = 1.0
    for scale, weight in enumerate(weights, start=1):
        similarity, contrast = _similarity(*planes)
        mean = (similarity if scale == scales else contrast).mean()  # luminance enters at the coarsest scale, eq. 7
        product *= max(float(mean), 0.0) ** weight
        planes = _halved(planes[0]), _halved(planes[1])
    return float(product)


def diversity(pictures: Sequence[NDArray[Any]]) -> float:
    """How much stylizations of the same pair with other seeds differ: mean of ``1 - SSIM`` over all pairs of them.

    0 when all are equal; a deterministic engine has 0 by nature.

    Args:
        pictures: two or more of one shape, as :func:`ssim` takes them.

    Raises:
        UsageError: fewer than two, or of different shapes.
    """
    if len(pictures) < 2:
        raise UsageError(f"diversity compares pictures with each other: 2 are needed, not {len(pictures)}")
    return float(np.mean([1 - ssim(first, second) for first, second in combinations(pictures, 2)]))


def _planes(first: NDArray[Any], second: NDArray[Any]) -> tuple[Plane, Plane]:
    """Both as ``[H, W, C]`` in double precision."""
    if first.shape != second.shape:
        raise UsageError(f"pictures of one shape can be compared, not {first.shape} with {second.shape}")
    if first.ndim not in (2, 3) or min(first.shape[:2]) < WINDOW:
        raise UsageError(f"SSIM needs pictures of {WINDOW} pixels or more on each side, not of shape {first.shape}")
    shape = (*first.shape[:2], -1)
    return first.astype(np.float64).reshape(shape), second.astype(np.float64).reshape(shape)


def _similarity(first: Plane, second: Plane) -> tuple[Plane, Plane]:
    """Maps of SSIM (eq. 13) and of its contrast-structure part, ``[H - 10, W - 10, C]``."""
    mean_first, mean_second = _blurred(first), _blurred(second)
    variance_first = _blurred(first * first) - mean_first**2
    variance_second = _blurred(second * second) - mean_second**2
    covariance = _blurred(first * second) - mean_first * mean_second
    luminance = (2 * mean_first * mean_second + C1) / (mean_first**2 + mean_second**2 + C1)
    contrast = (2 * covariance + C2) / (variance_first + variance_second + C2)
    return luminance * contrast, contrast


def _blurred(planes: Plane) -> Plane:
    """Gaussian means of all windows inside: ``[H, W, C]`` to ``[H - 10, W - 10, C]``."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-0.5 * (offsets / DEVIATION) ** 2)
    kernel /= kernel.sum()
    height, width = planes.shape[0] - WINDOW + 1, planes.shape[1] - WINDOW + 1
    rows = np.zeros((height, *planes.shape[1:]))
    for index, weight in enumerate(kernel):
        rows += weight * planes[index : index + height]
    found = np.zeros((height, width, planes.shape[2]))
    for index, weight in enumerate(kernel):
        found += weight * rows[:, index : index + width]
    return found


def _halved(planes: Plane) -> Plane:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = planes.shape[0] // 2, planes.shape[1] // 2
    cut = planes[: 2 * height, : 2 * width]
    return np.asarray(cut.reshape(height, 2, width, 2, -1).mean((1, 3)))

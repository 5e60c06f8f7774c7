"""Distances between two sets of feature vectors: whether the stylizations, as a whole, look like the artworks.

Sources: Fréchet distance, Heusel et al. 2017 (arXiv:1706.08500, eq. 6); kernel distance, Bińkowski et al. 2018
(arXiv:1801.01401, section 4); their product with a content distance, Wright & Ommer 2022 (ArtFID, arXiv:2207.12280).

FID is the name of the first over the 2048 numbers of Inception-v3's last pooling; over any other network it is a
Fréchet distance of that network's features, with values on another scale, and nothing here is called FID.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import UsageError

__all__ = ["art_score", "frechet_distance", "kernel_distance"]

Vectors = NDArray[np.float64]


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets: 0 when mean and covariance agree. Symmetric.

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)

    With few vectors it is too large (the estimated covariances are too different): compare only values that come from
    equally many pictures.

    Args:
        first: ``[N, D]``, N of 2 or more.
        second: ``[M, D]``.

    Raises:
        UsageError: other shapes.
    """
    x, y = _vectors(first, second)
    gap = x.mean(0) - y.mean(0)
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)  # [N, D], S1 = a' a
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)  # [M, D], S2 = b' b
    # S1 S2 = a' (a b') b has the non-zero eigenvalues of (a b')(a b')', so that the trace of its root is the sum of the
    # singular values of a b': no square root of a matrix of D x D, which would have rank N - 1 only
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(gap @ gap + (a * a).sum() + (b * b).sum() - 2 * cross))


def kernel_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Squared maximum mean discrepancy with the kernel ``(x'y / D + 1)^3``; without bias, even for few vectors.

    0 on average for two samples of one distribution; single values may be a little below 0. Symmetric.

    Args:
        first: ``[N, D]``, N of 2 or more.
        second: ``[M, D]``.

    Raises:
        UsageError: other shapes.
    """
    x, y = _vectors(first, second)
    within = [
        (kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in (_cubic(x, x), _cubic(y, y))
    ]
    return float(sum(within) - 2 * _cubic(x, y).mean())


def art_score(content: float, style: float) -> float:
    """``(1 + content) (1 + style)``, ArtFID's way to need both: 1 at best (Wright & Ommer 2022).

    ArtFID itself is this with LPIPS and with the Fréchet distance over Inception-v3 trained on artworks.

    Args:
        content: mean distance of the stylizations from their contents, 0 or more.
        style: distance of the set of stylizations from the set of artworks, 0 or more.
    """
    return (1 + content) * (1 + style)


def _cubic(first: Vectors, second: Vectors) -> Vectors:
    return np.asarray((first @ second.T / first.shape[1] + 1) ** 3)


def _vectors(first: NDArray[Any], second: NDArray[Any]) -> tuple[Vectors, Vectors]:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise UsageError(
            f"two sets of at least 2 vectors of one length can be compared, not {first.shape} with {second.shape}"
        )
    return first.astype(np.float64), second.astype(np.float64)

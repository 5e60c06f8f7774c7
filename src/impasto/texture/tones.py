"""Tones of one map given to another."""

from __future__ import annotations

import numpy as np

from impasto.types import FloatArray

__all__ = ["match_tones"]

_QUANTILES = np.linspace(0, 1, 257)
_LEAST_DEVIATION = 0.5 / 255  # spread below half an 8-bit step is no spread


def match_tones(values: FloatArray, reference: FloatArray, amount: float = 1.0) -> FloatArray:
    """``values`` with the tones of ``reference``.

    Args:
        values: ``[H, W]``.
        reference: ``[h, w]``.
        amount: 1 gives the histogram of the reference (exact histogram specification through 256 quantiles), 0 only its
            mean and standard deviation (Hertzmann et al. 2001, section 3.4), which keeps the distances of tones;
            between, a mean of both.

    Returns:
        ``[H, W]``; a constant map becomes the reference's median or mean.
    """
    deviation = float(values.std())
    if deviation <= _LEAST_DEVIATION:
        return np.full_like(values, amount * np.median(reference) + (1 - amount) * reference.mean())
    linear = (values - values.mean()) * (float(reference.std()) / deviation) + reference.mean()
    if amount == 0:
        return np.asarray(linear, np.float32)
    known, wanted = np.quantile(values, _QUANTILES), np.quantile(reference, _QUANTILES)
    middles, inverse = np.unique(known, return_inverse=True)  # equal quantiles: their mean
    means = np.bincount(inverse, wanted) / np.bincount(inverse)
    ranked = np.interp(values, middles, means)
    return np.asarray(amount * ranked + (1 - amount) * linear, np.float32)

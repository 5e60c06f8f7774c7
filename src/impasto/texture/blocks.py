"""Where in a sample a block fits best: sums of squared differences at all places at once, by the FFT.

    SSD(p) = sum_x M(x) (T(x) - S(p + x))^2 = sum M T^2 - 2 (M T) * S + M * S^2

with ``*`` for cross-correlation. The sample is transformed once; a query costs a transform for each of the template's
channels and one back. (Kwatra et al. 2003, "Graphcut textures", section 3.1, put patch matching this way.)
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from impasto.types import FloatArray

__all__ = ["BlockSearch", "draw_place"]

_LEAST = 1e-6  # of the mean energy: below, differences are rounding of the transforms


class BlockSearch:
    """All places of a sample, ready to be compared with templates of one size.

    Args:
        sample: ``[h, w, C]``.
        block: height and width of the templates; not larger than the sample.
    """

    def __init__(self, sample: FloatArray, block: tuple[int, int]) -> None:
        height, width = sample.shape[:2]
        self.places = (height - block[0] + 1, width - block[1] + 1)
        self._block = block
        self._mean = np.mean(sample, axis=(0, 1), dtype=np.float64).astype(np.float32)
        centred = sample - self._mean  # smaller numbers, less rounding
        self._size = (scipy.fft.next_fast_len(height, True), scipy.fft.next_fast_len(width, True))
        self._sample = self._transform(centred.transpose(2, 0, 1))  # [C, U, V]
        self._squares = self._transform((centred * centred).sum(2)[None])[0]
        self._energies: dict[bytes, FloatArray] = {}
        self._least = _LEAST * float((centred * centred).sum(2).mean()) * block[0] * block[1]

    def distances(self, template: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
        """Sum of squared differences of the template's masked pixels from every place of the sample.

        Args:
            template: ``[b, b', C]``.
            mask: ``[b, b']``, True where the template counts.

        Returns:
            ``[h - b + 1, w - b' + 1]``, not negative.
        """
        wanted = (template - self._mean) * mask[..., None]
        cross = self._correlate(self._sample, wanted)
        result = self.energy(mask) - 2 * cross + np.float32(np.sum(wanted * wanted, dtype=np.float64))
        return np.asarray(np.maximum(result, self._least), np.float32)

    def energy(self, mask: NDArray[np.bool_]) -> FloatArray:
        """``M * S^2`` at every place; kept for each mask, because there are few."""
        key = mask.tobytes()
        if key not in self._energies:
            self._energies[key] = self._correlate(self._squares[None], mask[..., None].astype(np.float32))
        return self._energies[key]

    def _correlate(self, transformed: NDArray[np.complex64], template: FloatArray) -> FloatArray:
        product = (transformed * self._transform(template.transpose(2, 0, 1)).conj()).sum(0)
        whole = scipy.fft.irfft2(product, self._size)
        return np.asarray(whole[: self.places[0], : self.places[1]], np.float32)

    def _transform(self, planes: FloatArray) -> NDArray[np.complex64]:
        rows = scipy.fft.rfft(np.ascontiguousarray(planes, np.float32), self._size[1], axis=-1)
        return np.asarray(scipy.fft.fft(rows, self._size[0], axis=-2), np.complex64)


def draw_place(distances: FloatArray, tolerance: float, generator: np.random.Generator) -> tuple[int, int]:
    """One of the places that are at most ``1 + tolerance`` times as far as the nearest, all with the same chance."""
    near = np.flatnonzero(distances <= distances.min() * (1 + tolerance))
    place = int(near[generator.integers(len(near))])
    return place // distances.shape[1], place % distances.shape[1]

"""The guided filter: an edge-preserving, linear-time smoothing of a mask that follows a picture's edges.

Reference: He, Sun, Tang (2013), "Guided Image Filtering", IEEE TPAMI 35(6), with a colour guide (section 3.5), and
He, Sun (2015), "Fast Guided Filter", arXiv:1505.00996, which computes the coefficients on a smaller copy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import FieldError
from impasto.ops.neighbourhood import box_mean
from impasto.types import FloatArray

__all__ = ["guided_filter"]

_ROWS_AT_ONCE = 512


def guided_filter(guide: FloatArray, mask: FloatArray, *, radius: int, epsilon: float, step: int = 1) -> FloatArray:
    """Smooth ``mask`` so that it changes where ``guide`` does.

    In each window the result is a linear function of the guide's colour, ``q = aᵀ I + b`` (eq. 16), with

        a = (Sigma + epsilon U)⁻¹ (mean(I p) - mean(I) mean(p))        (eq. 17)
        b = mean(p) - aᵀ mean(I)                                       (eq. 18)

    and each pixel takes the mean of all windows that cover it (eq. 19). The filter is linear in ``mask``, and a
    constant mask stays as it is; therefore masks that sum to 1 still do.

    Args:
        guide: ``[H, W, 3]`` in ``[0, 1]``.
        mask: ``[H, W]``, or ``[H, W, K]`` for several masks at once.
        radius: of the windows in pixels of the guide.
        epsilon: variance of the guide's colour below which it counts as flat (0.01² to 0.1²).
        step: compute a and b on every ``step``-th pixel and enlarge them: ``step²`` times as fast, for large pictures.

    Returns:
        The shape of ``mask``. Values may leave the mask's range a little; clip them.

    Raises:
        FieldError: guide and mask differ in size.
    """
    if guide.shape[:2] != mask.shape[:2]:
        raise FieldError(f"the guide is {guide.shape[:2]}, the mask {mask.shape[:2]} (height, width)")
    planes = mask[..., None] if mask.ndim == 2 else mask  # [H, W, K]
    step = max(1, min(step, min(guide.shape[:2])))
    small_guide, small_mask = _reduced(guide, step), _reduced(planes, step)
    slope, offset = _coefficients(small_guide, small_mask, max(1, round(radius / step)), epsilon)
    smooth = _applied(guide, slope, offset)
    return smooth[..., 0] if mask.ndim == 2 else smooth


def _coefficients(
    guide: NDArray[np.float64], mask: NDArray[np.float64], radius: int, epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The averaged a ``[h, w, 3, K]`` and b ``[h, w, K]`` of every pixel."""
    height, width, count = mask.shape
    mean_guide = box_mean(guide, radius)  # [h, w, 3]
    mean_mask = box_mean(mask, radius)  # [h, w, K]
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = np.stack([guide[..., i] * guide[..., j] for i, j in pairs], axis=-1)
    second = box_mean(products, radius) - np.stack([mean_guide[..., i] * mean_guide[..., j] for i, j in pairs], axis=-1)
    inverse = _inverse(second, epsilon)  # [h, w, 3, 3]
    slope = np.empty((height, width, 3, count))
    for one in range(count):
        joint = box_mean(guide * mask[..., one : one + 1], radius) - mean_guide * mean_mask[..., one : one + 1]
        slope[..., one] = np.einsum("hwij,hwj->hwi", inverse, joint)  # eq. 17
    offset = mean_mask - np.einsum("hwik,hwi->hwk", slope, mean_guide)  # eq. 18
    slope = box_mean(slope.reshape(height, width, -1), radius).reshape(slope.shape)  # the means of eq. 19
    return slope, box_mean(offset, radius)


def _inverse(second: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """(Sigma + epsilon U)⁻¹ of the symmetric 3x3 matrices whose upper triangles are ``second`` ``[h, w, 6]``."""
    rr, rg, rb, gg, gb, bb = np.moveaxis(second, -1, 0)
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    cofactors = [gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb]
    determinant = rr * cofactors[0] + rg * cofactors[1] + rb * cofactors[2]
    rest = [rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg]
    first, second_, third = cofactors
    rows = [[first, second_, third], [second_, rest[0], rest[1]], [third, rest[1], rest[2]]]
    inverse = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    return np.asarray(inverse / determinant[..., None, None], np.float64)


def _applied(guide: FloatArray, slope: NDArray[np.float64], offset: NDArray[np.float64]) -> FloatArray:
    """The result q = aᵀ I + b at the guide's full size, some rows at a time when a and b must be enlarged."""
    height, width = guide.shape[:2]
    if slope.shape[:2] == (height, width):
        return np.asarray(np.einsum("hwik,hwi->hwk", slope, guide) + offset, np.float32)
    count = offset.shape[2]
    planes = np.concatenate([slope.reshape(*slope.shape[:2], -1), offset], axis=2).astype(np.float32)
    large = np.stack([_enlarged(planes[..., i], (height, width)) for i in range(planes.shape[2])], axis=-1)
    result = np.empty((height, width, count), np.float32)
    for top in range(0, height, _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        linear = large[rows, :, : 3 * count].reshape(-1, width, 3, count)
        result[rows] = np.einsum("hwik,hwi->hwk", linear, guide[rows]) + large[rows, :, 3 * count :]
    return result


def _enlarged(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)


def _reduced(planes: FloatArray, step: int) -> NDArray[np.float64]:
    """Means over ``step`` x ``step`` pixels; what is left at the right and lower border forms smaller blocks."""
    if step == 1:
        return np.asarray(planes, np.float64)
    height, width = -(-planes.shape[0] // step), -(-planes.shape[1] // step)
    parts = [Image.fromarray(np.ascontiguousarray(planes[..., i], np.float32)) for i in range(planes.shape[2])]
    box = (0, 0, planes.shape[1], planes.shape[0])
    small = [np.asarray(part.resize((width, height), Image.Resampling.BOX, box=box)) for part in parts]
    return np.stack(small, axis=-1).astype(np.float64)

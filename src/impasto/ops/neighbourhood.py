"""Means and extremes over square windows, in a time that does not depend on the window's size (or hardly)."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_mean", "running_maximum", "running_minimum"]

Values = TypeVar("Values", bound=NDArray[Any])


def box_mean(values: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Mean over the ``(2 radius + 1)²`` window around each pixel.

    At the border the window is what lies inside the picture, so a constant stays itself.

    Args:
        values: ``[H, W]`` or ``[H, W, C]``.
        radius: in pixels, 0 or more.

    Returns:
        Of the same shape.
    """
    result = np.asarray(values, np.float64)
    for axis in (0, 1):
        result = _running_mean(result, radius, axis)
    return result


def _running_mean(values: NDArray[np.float64], radius: int, axis: int) -> NDArray[np.float64]:
    """Mean over ``2 radius + 1`` neighbours along an axis, by differences of the cumulative sum."""
    length = values.shape[axis]
    shape = [1] * values.ndim
    shape[axis] = length
    sums = np.concatenate([np.zeros_like(values.take([0], axis)), np.cumsum(values, axis)], axis)  # [length + 1]
    places = np.arange(length)
    begin, end = np.maximum(places - radius, 0), np.minimum(places + radius + 1, length)
    means: NDArray[np.float64] = (sums.take(end, axis) - sums.take(begin, axis)) / (end - begin).reshape(shape)
    return means


def running_maximum(values: Values, radius: int) -> Values:
    """Largest value in the ``(2 radius + 1)²`` window around each pixel of ``[H, W]`` or ``[H, W, C]``."""
    return _extreme(_extreme(values, radius, 0, np.maximum), radius, 1, np.maximum)


def running_minimum(values: Values, radius: int) -> Values:
    """Smallest value in the ``(2 radius + 1)²`` window around each pixel of ``[H, W]`` or ``[H, W, C]``."""
    return _extreme(_extreme(values, radius, 0, np.minimum), radius, 1, np.minimum)


def _extreme(values: Values, radius: int, axis: int, choose: np.ufunc) -> Values:
    """Along one axis, by windows that double: two that overlap cover any width in between."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (radius, radius)
    current, width, wanted = np.pad(values, padding, mode="edge"), 1, 2 * radius + 1
    while width < wanted:
        shift = min(width, wanted - width)
        length = current.shape[axis]
        first, second = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        first[axis], second[axis] = slice(0, length - shift), slice(shift, length)
        current = choose(current[tuple(first)], current[tuple(second)])
        width += shift
    return current  # type: ignore[return-value]

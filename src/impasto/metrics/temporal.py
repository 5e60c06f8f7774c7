"""Steadiness of films: what moves with the scene may change, nothing else.

Sources: warp error, Lai et al. 2018 (arXiv:1808.00449); occlusion by the consistency of forward and backward flow,
Sundaram, Brox & Keutzer 2010 (ECCV), as in Ruder, Dosovitskiy & Brox 2016 (arXiv:1604.08610, section 3.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import UsageError
from impasto.types import FloatArray

__all__ = ["visible", "warp", "warp_error"]


def warp(picture: NDArray[Any], flow: NDArray[Any]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The picture as flow moves it: each pixel is fetched, bilinearly, from where the flow points.

    Args:
        picture: ``[H, W, C]`` or ``[H, W]``.
        flow: ``[H, W, 2]``: steps to the right and down, in pixels, from the result's pixel to where it comes from.

    Returns:
        The moved picture in the shape of ``picture``, and ``[H, W]``, true where it came from inside of the picture.

    Raises:
        UsageError: flow of another size.
    """
    height, width = picture.shape[:2]
    if flow.shape != (height, width, 2):
        raise UsageError(f"a flow of shape {(height, width, 2)} is needed for this picture, not {flow.shape}")
    across = np.arange(width)[None] + flow[..., 0].astype(np.float64)
    down = np.arange(height)[:, None] + flow[..., 1].astype(np.float64)
    inside = (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1)
    across, down = np.clip(across, 0, width - 1), np.clip(down, 0, height - 1)
    left = np.minimum(across.astype(np.intp), max(width - 2, 0))
    top = np.minimum(down.astype(np.intp), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    rest = (...,) + (None,) * (picture.ndim - 2)
    x, y = (across - left)[rest], (down - top)[rest]
    values = picture.astype(np.float64)
    upper = values[top, left] * (1 - x) + values[top, right] * x
    lower = values[bottom, left] * (1 - x) + values[bottom, right] * x
    return (upper * (1 - y) + lower * y).astype(np.float32), inside


def visible(flow: NDArray[Any], back: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a pixel's origin is seen in the other frame: flow there and back again ends near where it began.

    Args:
        flow: ``[H, W, 2]`` from this frame to the other.
        back: ``[H, W, 2]`` from the other to this one.

    Returns:
        ``[H, W]``, false where ``|w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5`` or the origin lies outside.
    """
    returned, inside = warp(back, flow)
    there = flow.astype(np.float64)
    gap = ((there + returned) ** 2).sum(-1)
    allowed = 0.01 * ((there**2).sum(-1) + (returned.astype(np.float64) ** 2).sum(-1)) + 0.5
    return np.asarray(inside & (gap <= allowed))


def warp_error(
    frame: NDArray[Any], other: NDArray[Any], flow: NDArray[Any], mask: NDArray[np.bool_] | None = None
) -> float:
    """Mean squared difference between a frame and another one moved onto it, where that one can be seen.

    0 for a film that moves as the flow says and changes nothing else. With the frame before it measures flicker,
    with one far back or the first it measures drift. A film of one colour has 0 too: read it beside a style distance.

    Args:
        frame: ``[H, W, C]`` in ``[0, 1]``.
        other: the same shape.
        flow: ``[H, W, 2]`` from ``frame`` to ``other``, as :func:`warp` takes it.
        mask: ``[H, W]``, pixels that count, such as :func:`visible` gives them; all by default.

    Raises:
        UsageError: different shapes, or not a pixel that counts.
    """
    if frame.shape != other.shape:
        raise UsageError(f"frames of one shape can be compared, not {frame.shape} with {other.shape}")
    moved, counted = warp(other, flow)
    if mask is not None:
        counted = counted & mask
    if not counted.any():
        raise UsageError("no pixel of the frame can be seen in the other one; the warp error is not defined")
    return float(np.square(frame.astype(np.float64) - moved)[counted].mean())

"""Style fields at another size of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.field import StyleField, StyleLayer, blend_codes
from impasto.image.color import resize
from impasto.ops.neighbourhood import box_mean, running_maximum
from impasto.ops.tiling import quantised, to_float
from impasto.types import FloatArray

__all__ = ["composite", "resize_field", "slerped", "spread_field"]

SPREAD = 24  # pixels: three blocks of the coarsest grid on which engines weigh a field
SHARES_PIXELS = 1_000_000  # copy on which it is looked up which style lies nearest


def resize_field(field: StyleField, size: tuple[int, int]) -> StyleField:
    """The field with its maps resampled to ``size`` (height, width); constant weights stay as they are.

    Lanczos overshoots a little at edges: weights are clipped to ``[0, 1]``, and where they would exceed 1 together they
    are scaled down.
    """
    if field.size is None:
        return field
    weights = [np.asarray(layer.weight, np.float32) for layer in field.layers]
    resized = [np.clip(resize(weight, size), 0, 1) if weight.ndim else weight for weight in weights]
    total = np.maximum(sum(resized), 1)
    return StyleField(
        tuple(
            StyleLayer(layer.code, np.asarray(weight / total, np.float32))
            for layer, weight in zip(field.layers, resized, strict=True)
        )
    )


def slerped(field: StyleField) -> StyleField:
    """Several codes as one on the sphere, if their shares are the same everywhere; regions stay as they are.

    For a field of at least one style that is not empty everywhere, whose codes are vectors.
    """
    total = field.total
    maps = [np.asarray(layer.weight, np.float32) for layer in field.layers]
    shares = [float(np.max(weight) / np.max(total)) for weight in maps]
    if any(np.max(np.abs(weight - share * total)) > 1e-5 for weight, share in zip(maps, shares, strict=True)):
        return field
    code = blend_codes([layer.code for layer in field.layers], shares, mode="slerp")
    return StyleField((StyleLayer(code, np.minimum(total, np.float32(1))),))


def spread_field(field: StyleField) -> tuple[StyleField, FloatArray | None]:
    """The field as an engine should paint it, and how much of the painting to take.

    Engines weigh a field on grids of 4 or 8 pixels and look around each of its points. Where a region ends, the
    photograph's own code would therefore reach into it and leave a rim of old colour. So each style goes on for
    some pixels beyond its border, and is cut off at the border afterwards, pixel by pixel.

    With T the sum of the weights and M its maximum nearby, the total becomes ``T' = T + u (M - T)``; u falls from 1
    where the field is empty to 0 some pixels further in, so that ramps keep what they are. What is added goes to the
    styles nearby, by their weights there.

    Returns:
        The field, and ``T / T'`` as a map ``[H, W]`` for :func:`composite`: exactly 0 where the field is empty. None in
        place of the map, and the field itself, where there is nothing to cut off.
    """
    if field.size is None or not bool((field.total == 0).any()):
        return field, None
    total = field.total
    step = max(1, int(np.ceil(np.sqrt(total.size / SHARES_PIXELS))))
    reach = max(1, SPREAD // step)
    empty = _coarse(running_maximum((total == 0).astype(np.float32), SPREAD), step)
    nearness = np.clip(resize(box_mean(empty, reach).astype(np.float32), field.size), 0, 1)  # u
    wanted = total + nearness * (running_maximum(total, SPREAD) - total)  # T'
    wanted = np.where(total == 0, np.maximum(wanted, 0), np.maximum(wanted, total)).astype(np.float32)
    added = wanted - total
    weights = [np.broadcast_to(np.asarray(layer.weight, np.float32), field.size) for layer in field.layers]
    near = [box_mean(_coarse(weight, step), reach + 1) for weight in weights]
    sums = np.maximum(sum(near), 1e-9)
    shares = [np.clip(resize((one / sums).astype(np.float32), field.size), 0, 1) for one in near]
    norm = np.maximum(sum(shares), 1e-6)
    layers = [
        StyleLayer(layer.code, np.asarray(weight + added * (share / norm), np.float32))
        for layer, weight, share in zip(field.layers, weights, shares, strict=True)
    ]
    cover = np.divide(total, wanted, out=np.zeros_like(total), where=wanted > 0)
    return StyleField(tuple(layers)), cover


def _coarse(plane: FloatArray, step: int) -> FloatArray:
    """Means over blocks of ``step`` pixels."""
    if step == 1:
        return plane
    size = (-(-plane.shape[1] // step), -(-plane.shape[0] // step))
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX))


def composite(content: NDArray[Any], painted: FloatArray, weight: FloatArray | float) -> NDArray[Any]:
    """The painting over the photograph, for engines that do not render a field natively.

    Args:
        content: ``[H, W, 3]``, uint8, uint16 or float32.
        painted: ``[H, W, 3]`` float32 in ``[0, 1]``.
        weight: how much of the painting, a number or a map ``[H, W]`` in ``[0, 1]``.

    Returns:
        The shape and type of ``content``; exactly the content where the weight is 0.
    """
    share = np.asarray(weight, np.float32)
    share = np.broadcast_to(share, content.shape[:2])[..., None]
    base = to_float(content)
    result = quantised(base + share * (painted - base), content.dtype)
    untouched = share[..., 0] == 0
    result[untouched] = content[untouched]
    return result

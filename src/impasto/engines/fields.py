"""Style fields at another size of the picture."""

from __future__ import annotations

import numpy as np

from impasto.field import StyleField, StyleLayer
from impasto.image.color import resize

__all__ = ["resize_field"]


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

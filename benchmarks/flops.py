"""Floating-point operations of one pass of the brush network, from the shapes of its layers.

A multiplication and an addition count as two. Counted are the convolutions and the linear map from codes to gains and
biases; normalisation, activations and pixel shuffles are left out: they move memory more than they compute, so the
rate that is achieved looks lower than it is, never higher.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from impasto.weights import Card, read_weights

__all__ = ["brush_flops", "embedded_shapes"]

STRIDES = {"stem": 4, "down": 8, "middle": 8, "up": 8, "fine": 4, "paint": 4}
"""At which fraction of the picture's resolution each part of :class:`impasto.nets.brush.BrushNet` gives its output."""


def embedded_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's parameters by name, from the header of the card's training file; needs no torch."""
    content = read_weights(card, "training")
    length = int.from_bytes(content[:8], "little")  # safetensors: length of the header, then JSON
    header = json.loads(content[8 : 8 + length])
    return {
        name.removeprefix("net."): tuple(entry["shape"]) for name, entry in header.items() if name.startswith("net.")
    }


def brush_flops(shapes: Mapping[str, tuple[int, ...]], height: int, width: int, *, codes: int = 2) -> int:
    """Operations for a padded picture of ``height`` x ``width``, multiples of 8.

    Args:
        shapes: of the parameters, by their names in ``BrushNet.state_dict()``.
        height: of the padded picture.
        width: of the padded picture.
        codes: style codes of the field, with the content's own.

    Raises:
        ValueError: a size that is no multiple of 8, or a parameter of a layer that is not known here.
    """
    if height % 8 or width % 8:
        raise ValueError(f"height and width must be multiples of 8, not {height} x {width}")
    total = 0
    for name, shape in shapes.items():
        if name == "affine.weight":
            total += 2 * math.prod(shape) * codes
        elif name.endswith(".weight"):
            part = name.partition(".")[0]
            if part not in STRIDES:
                raise ValueError(f"the layer '{name}' is not known: bring STRIDES up to date with BrushNet")
            stride = STRIDES[part]
            total += 2 * math.prod(shape) * (height // stride) * (width // stride)  # [out, in, k, k] at each position
    return total

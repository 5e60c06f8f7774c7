"""Cutting a picture into tiles, padding tiles, and turning integers into floats one tile at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.types import FloatArray

__all__ = ["Tile", "block_means", "pad_to_multiple", "plan_tiles", "quantised", "to_float"]


@dataclass(frozen=True)
class Tile:
    """One rectangle of the result (the core) and the rectangle of the content it is computed from (with its halo)."""

    top: int
    left: int
    height: int
    width: int
    outer_top: int
    outer_left: int
    outer_height: int
    outer_width: int

    @property
    def core(self) -> tuple[slice, slice]:
        """The core in the picture."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @property
    def outer(self) -> tuple[slice, slice]:
        """Core and halo in the picture."""
        return (
            slice(self.outer_top, self.outer_top + self.outer_height),
            slice(self.outer_left, self.outer_left + self.outer_width),
        )

    @property
    def inner(self) -> tuple[slice, slice]:
        """The core within the outer rectangle."""
        top, left = self.top - self.outer_top, self.left - self.outer_left
        return slice(top, top + self.height), slice(left, left + self.width)


def plan_tiles(height: int, width: int, *, tile: int, halo: int, multiple: int = 8) -> Iterator[Tile]:
    """Tiles of nearly equal size that cover the picture, cores starting at multiples of ``multiple``.

    Args:
        height: of the picture.
        width: of the picture.
        tile: largest side of a core; sides are rounded up to ``multiple``.
        halo: pixels around a core that influence it.
        multiple: alignment of the cores.
    """
    rows, columns = _cuts(height, tile, multiple), _cuts(width, tile, multiple)
    for top, bottom in rows:
        for left, right in columns:
            outer_top, outer_left = max(0, top - halo), max(0, left - halo)
            outer_bottom, outer_right = min(height, bottom + halo), min(width, right + halo)
            yield Tile(
                top, left, bottom - top, right - left,
                outer_top, outer_left, outer_bottom - outer_top, outer_right - outer_left,
            )  # fmt: skip


def _cuts(length: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    count = max(1, -(-length // tile))
    step = -(-length // count)
    step = -(-step // multiple) * multiple
    return [(begin, min(begin + step, length)) for begin in range(0, length, step)]


def pad_to_multiple(picture: FloatArray, margin: int, multiple: int) -> tuple[FloatArray, tuple[slice, slice]]:
    """Reflect ``[H, W, C]`` or ``[H, W]`` by ``margin`` on every side, then up to the next ``multiple``.

    Pictures smaller than the margin are reflected repeatedly. Returns the padded array and where the picture lies.
    """
    height, width = picture.shape[:2]
    below = -(height + 2 * margin) % multiple
    right = -(width + 2 * margin) % multiple
    widths = [(margin, margin + below), (margin, margin + right)] + [(0, 0)] * (picture.ndim - 2)
    padded = np.pad(picture, widths, mode="symmetric")
    return padded, (slice(margin, margin + height), slice(margin, margin + width))


def block_means(maps: FloatArray, block: int) -> FloatArray:
    """Mean over ``block`` x ``block`` pixels: ``[H, W, K]`` to ``[1, K, H / block, W / block]``."""
    height, width, count = maps.shape
    blocks = maps.reshape(height // block, block, width // block, block, count).mean((1, 3))
    return np.asarray(blocks.transpose(2, 0, 1)[None], np.float32)


def to_float(pixels: NDArray[Any]) -> FloatArray:
    """uint8, uint16 or float to float32 in ``[0, 1]``."""
    if pixels.dtype == np.uint8:
        return np.asarray(np.multiply(pixels, np.float32(1 / 255), dtype=np.float32))
    if pixels.dtype == np.uint16:
        return np.asarray(np.multiply(pixels, np.float32(1 / 65535), dtype=np.float32))
    return np.asarray(pixels, np.float32)


def quantised(pixels: FloatArray, dtype: Any) -> NDArray[Any]:
    """Float in ``[0, 1]`` to ``dtype`` (uint8, uint16 or float32), rounded and clipped."""
    clipped = np.clip(pixels, 0, 1)
    if np.dtype(dtype) == np.float32:
        return clipped
    largest = np.iinfo(dtype).max
    return np.asarray(clipped * np.float32(largest) + np.float32(0.5)).astype(dtype)

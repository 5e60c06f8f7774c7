"""Sizes of the pyramid, tiles that move, and a picture as a sum of bands: the geometry of ``gatys``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Scale", "Window", "bands_of", "picture_of", "plan_scales", "plan_windows"]

STEP = math.sqrt(2)  # from one size to the next
FALL = 0.65  # iterations of a size, in those of the next smaller one
HALO = 80  # pixels around a tile that its features see: 64 of lens, 85 of VGG-19 to relu5_1, the last few hardly at all
FINE_CHROMA = 0.12  # of the finest band's step, doubled for each coarser one up to 1
STRIDE = 16  # the coarsest stride of the encoders: tiles begin at its multiples


@dataclass(frozen=True)
class Scale:
    """One size of the pyramid.

    Attributes:
        height: of the picture, in pixels.
        width: likewise.
        iterations: how many are spent on it.
    """

    height: int
    width: int
    iterations: int


def plan_scales(size: tuple[int, int], *, smallest: int, iterations: int) -> list[Scale]:
    """Sizes that grow by sqrt(2) up to ``size`` (height, width), with most iterations where they cost least.

    The first has a longer side of at least ``smallest`` (or the picture's own). Each size has 0.65 times the iterations
    of the one before; there are never more sizes than iterations, and the last gets at least one.
    """
    height, width = size
    count = 1 + max(0, math.floor(math.log(max(size) / smallest, STEP) + 1e-9)) if max(size) > smallest else 1
    count = min(count, iterations)
    shares = np.array([FALL**index for index in range(count)])
    ends = np.round(np.cumsum(shares / shares.sum()) * (iterations - count)).astype(int) + np.arange(1, count + 1)
    spent = np.diff(ends, prepend=0)
    factors = [STEP ** (index + 1 - count) for index in range(count)]
    return [
        Scale(max(1, round(height * factor)), max(1, round(width * factor)), int(number))
        for factor, number in zip(factors, spent, strict=True)
    ]


@dataclass(frozen=True)
class Window:
    """A tile: the rectangle that it stands for (core) within the one that is looked at (outer).

    Attributes:
        outer: rows and columns of the padded picture.
        begin: first row and column of the core within the outer rectangle.
        end: the ones after its last.
    """

    outer: tuple[slice, slice]
    begin: tuple[int, int]
    end: tuple[int, int]

    def core(self, features: Tensor, stride: int) -> Tensor:
        """The part of a feature map ``[B, C, h, w]`` that belongs to the core."""
        rows, columns = self.inside(stride)
        return features[:, :, rows, columns]

    def inside(self, stride: int) -> tuple[slice, slice]:
        """Rows and columns of a feature map that belong to the core; a map's last ones may lie before their end."""
        rows, columns = (
            slice(begin // stride, max(begin // stride + 1, end // stride))
            for begin, end in zip(self.begin, self.end, strict=True)
        )
        return rows, columns


def plan_windows(size: tuple[int, int], tile: int, shift: tuple[float, float], *, margin: int) -> list[Window]:
    """Tiles that cover a picture, their cores disjoint.

    Args:
        size: of the padded picture, ``(height, width)``.
        tile: longest side of a core. A picture that fits is one window.
        shift: of the grid, as shares of a tile in ``[0, 1)``: where the first cut lies.
        margin: what was padded on each side, a multiple of 16: it is looked at, but belongs to no core. Features there
            know of the encoder's own padding.
    """
    rows, columns = (_cuts(length, tile, share, margin) for length, share in zip(size, shift, strict=True))
    return [
        Window(
            (slice(top.start, top.stop), slice(left.start, left.stop)),
            (top.begin, left.begin),
            (top.end, left.end),
        )
        for top in rows
        for left in columns
    ]


@dataclass(frozen=True)
class _Cut:
    """One side of a window: outer rectangle from ``start`` to ``stop``, core within from ``begin`` to ``end``."""

    start: int
    stop: int
    begin: int
    end: int


def _cuts(length: int, tile: int, share: float, margin: int) -> list[_Cut]:
    last = length - margin
    edges = [margin, last]
    if last - margin > tile:
        tile = max(STRIDE, tile // STRIDE * STRIDE)
        first = max(tile // 4 // STRIDE * STRIDE, int(share * tile) // STRIDE * STRIDE) or tile  # no slivers
        edges = [margin, *range(margin + first, last - tile // 4, tile), last]
    cuts = []
    for begin, end in itertools.pairwise(edges):
        start, stop = max(0, begin - HALO), min(length, end + HALO)
        cuts.append(_Cut(start, stop, begin - start, end - start))
    return cuts


def bands_of(picture: Tensor, count: int) -> list[Tensor]:
    """A picture ``[B, 3, H, W]`` as a Laplacian pyramid (Burt & Adelson 1983) of opponent colours, finest band first.

    Optimising the bands in the place of pixels lets one step of Adam move a whole area: colours settle in a few
    iterations, and grain is no cheaper than form (as in NNST, Kolkin et al. 2022, section 3.1). In the finest bands
    chroma counts less than lightness, so that steps of the same size leave no coloured speckles (decorrelated colours:
    Olah et al. 2017, "Feature visualization"). One band is the picture
    itself, which is all that there is of one below 8 pixels.
    """
    if count == 1 or min(picture.shape[2:]) < 8:
        return [picture.clone()]
    bands: list[Tensor] = []
    rest = torch.einsum("oc,bchw->bohw", _opponent(picture), picture)
    while len(bands) < count - 1 and min(rest.shape[2:]) >= 8:
        half = functional.interpolate(
            rest, size=((rest.shape[2] + 1) // 2, (rest.shape[3] + 1) // 2), mode="bilinear", antialias=True
        )
        bands.append(rest - _enlarged(half, rest))
        rest = half
    bands.append(rest)
    return [band / _gain(index, band) for index, band in enumerate(bands)]


def picture_of(bands: Sequence[Tensor]) -> Tensor:
    """The picture that :func:`bands_of` took apart."""
    if len(bands) == 1:
        return bands[0] * 1
    scaled = [band * _gain(index, band) for index, band in enumerate(bands)]
    picture = scaled[-1]
    for band in reversed(scaled[:-1]):
        picture = band + _enlarged(picture, band)
    return torch.einsum("oc,bohw->bchw", _opponent(picture), picture)


def _opponent(like: Tensor) -> Tensor:
    """Lightness, red against blue, green against both: orthonormal rows ``[3, 3]``."""
    rows = [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [-1 / math.sqrt(6), 2 / math.sqrt(6), -1 / math.sqrt(6)],
    ]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _gain(index: int, like: Tensor) -> Tensor:
    """How far a step of one moves lightness and chroma of a band: ``[1, 3, 1, 1]``."""
    chroma = min(1.0, FINE_CHROMA * 2**index)
    return torch.tensor([1.0, chroma, chroma], dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def _enlarged(small: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(small, size=(like.shape[2], like.shape[3]), mode="bilinear", align_corners=False)

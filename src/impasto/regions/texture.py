"""A rectangular picture out of a region of one: what engines can take a style from.

Engines encode rectangles, and pool what they see over all of it. Pixels outside of a region must therefore not be
there, nor be replaced by something that has statistics of its own, such as black or a blur. The crop around the region
is filled with patches of the region itself, each the best of some that were drawn at random (image quilting, Efros &
Freeman 2001, without its cuts: patches fade into each other).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from impasto.errors import FieldError
from impasto.types import FloatArray

__all__ = ["region_texture"]

LARGEST_PATCH = 96
SMALLEST_PATCH = 8
SOURCES = 24  # a patch's size must fit into the region at this many places at least
CANDIDATES = 40
OVERLAP = 0.25  # of a patch's side
INSIDE = 0.5  # mask from which a pixel belongs to the region

Bitmap = NDArray[np.bool_]


def region_texture(pixels: FloatArray, mask: FloatArray, *, about: str = "the region", seed: int = 0) -> FloatArray:
    """The region's bounding box, with everything else in it replaced by patches of the region.

    Args:
        pixels: ``[H, W, 3]``.
        mask: ``[H, W]`` in ``[0, 1]``; pixels of 0.5 or more belong to the region.
        about: the region's name, for errors.
        seed: of the patches that are drawn.

    Returns:
        ``[h, w, 3]``; pixels of the region stay where they are.

    Raises:
        FieldError: no square of 8 pixels fits into the region.
    """
    inside = mask >= INSIDE
    if not inside.any():
        raise FieldError(f"the region '{about}' of the style is empty")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    crop = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    canvas, inside = pixels[crop].astype(np.float32), inside[crop]
    if inside.all():
        return canvas
    side, places = _patch_size(inside, about)
    return _filled(canvas, inside, side, places, np.random.default_rng(seed))


def _patch_size(inside: Bitmap, about: str) -> tuple[int, NDArray[np.intp]]:
    """The largest side of a square that fits into the region at enough places, and these places ``[N, 2]``."""
    side = min(LARGEST_PATCH, *inside.shape)
    sums = np.pad(np.cumsum(np.cumsum(inside, axis=0), axis=1), ((1, 0), (1, 0)))
    while side >= SMALLEST_PATCH:
        full = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == side * side
        places = np.argwhere(full)
        if len(places) >= SOURCES or (side == SMALLEST_PATCH and len(places)):
            return side, places
        side = max(SMALLEST_PATCH, int(side * 0.8)) if side > SMALLEST_PATCH else 0
    raise FieldError(
        f"the region '{about}' of the style is too thin to take a style from: no square of {SMALLEST_PATCH} pixels "
        "fits into it"
    )


def _filled(
    canvas: FloatArray, inside: Bitmap, side: int, places: NDArray[np.intp], chance: np.random.Generator
) -> FloatArray:
    """Patches over all that is not inside, row by row; what is known already decides which patch fits best."""
    height, width = inside.shape
    source, known = canvas.copy(), inside.copy()
    result = np.where(inside[..., None], canvas, 0).astype(np.float32)
    step = max(1, round(side * (1 - OVERLAP)))
    fade = _fade(side, max(1, side - step))
    for top in range(0, height, step):
        for left in range(0, width, step):
            target = np.s_[top : min(top + side, height), left : min(left + side, width)]
            here = known[target]
            if here.all():
                continue
            drawn = places[chance.integers(len(places), size=CANDIDATES)]
            shape = here.shape
            offers = [source[y : y + shape[0], x : x + shape[1]] for y, x in drawn]
            wanted, weight = result[target], here[..., None]
            costs = [float((np.square(offer - wanted) * weight).sum()) for offer in offers]
            best = offers[int(np.argmin(costs))]
            # Known pixels of the region stay. Those of earlier patches fade into this one.
            share = np.where(here, fade[: shape[0], : shape[1]], 1.0)
            share = np.where(inside[target], 0.0, share)[..., None].astype(np.float32)
            result[target] += share * (best - result[target])
            known[target] = True
    return result


def _fade(side: int, overlap: int) -> FloatArray:
    """A patch's share over what lies under it: 0 at its upper and left border, 1 from the overlap's end on."""
    ramp = np.clip((np.arange(side) + 0.5) / overlap, 0, 1)
    return np.minimum(ramp[:, None], ramp[None]).astype(np.float32)

"""Cutting an object out of a photograph from a box, from clicks or from a guess, by GrabCut.

References: Rother, Kolmogorov, Blake (2004), "GrabCut: interactive foreground extraction using iterated graph cuts",
SIGGRAPH (OpenCV's implementation does the cutting); Bai, Sapiro (2007), "A geodesic framework for fast interactive
image and video segmentation", ICCV, for the guess that clicks begin with.

All functions work on a small copy of the photograph (:data:`WORKING_SIDE`); :func:`refined` brings their result to the
photograph's size, along its edges.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import FieldError, MissingExtraError
from impasto.regions.guided import guided_filter
from impasto.regions.masks import limited
from impasto.types import FloatArray

__all__ = ["WORKING_SIDE", "cut_from_box", "cut_from_clicks", "cut_from_guess", "optional", "refined"]

WORKING_SIDE = 400  # longer side of the copy that is cut; GrabCut's time grows faster than the number of pixels
ITERATIONS = 4
BOX_MARGIN = 0.4  # what lies further from the box than this share of its sides says nothing about its background
BOX_CORE = 0.4  # half axes of the ellipse in the middle of a box that is taken to belong to the object
CLICK_RADIUS = 0.03  # of the disc around a click, in longer sides
CLICK_SPACE = 2.0  # cost of a step of one pixel, in the units of CIELAB's differences
CLICK_ALIKE = 8.0  # difference to the clicked colour, in CIELAB units, up to which the border may belong to the thing
CLICK_FRAME = 0.3  # the picture's border is background where it is further from the clicks than this, in its medians
GUESS_SURE = 0.75  # surely foreground: this share of the way from 1 down to Otsu's threshold
GUESS_UNSURE = 0.25  # surely background: below this share of the threshold
REFINE_EPSILON = 0.02**2
REFINE_PIXELS = 1_500_000
REFINE_STEEPNESS = 0.15  # what the guided filter leaves below this counts as 0, above 1 minus this as 1

_BACKGROUND, _FOREGROUND, _MAYBE_BACKGROUND, _MAYBE_FOREGROUND = 0, 1, 2, 3  # OpenCV's values

Pixels = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]
Point = tuple[float, float]


def optional(module: str, what: str, extra: str = "regions") -> Any:
    """A module of an optional part.

    Raises:
        MissingExtraError: it is not installed; ``what`` names the feature that needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error


def cut_from_box(pixels: Pixels, box: tuple[float, float, float, float], *, about: str) -> Bitmap:
    """The object in a box.

    What lies outside of the box is background; colours are learned from the box's surroundings only, and the middle of
    the box is taken to belong to the object, which keeps GrabCut from losing objects that resemble their background.

    Differs from the paper: the sure middle, and the background from nearby only.

    Args:
        pixels: ``[h, w, 3]``.
        box: left, top, right, bottom in pixels.
        about: the region's name, for errors.

    Returns:
        ``[h, w]``.

    Raises:
        FieldError: the box fills the picture, is too small, or nothing can be told from its surroundings.
        MissingExtraError: OpenCV is not installed.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    room_x, room_y = BOX_MARGIN * (right - left) + 4, BOX_MARGIN * (bottom - top) + 4
    rows = slice(max(0, int(top - room_y)), min(height, int(np.ceil(bottom + room_y))))
    columns = slice(max(0, int(left - room_x)), min(width, int(np.ceil(right + room_x))))
    part = pixels[rows, columns]
    y, x = np.mgrid[rows, columns] + 0.5
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    if inside.all():
        raise FieldError(f"the region '{about}' fills the whole picture; leave some background around the object")
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    reach_x, reach_y = BOX_CORE * (right - left) / 2, BOX_CORE * (bottom - top) / 2
    core = ((x - centre_x) / reach_x) ** 2 + ((y - centre_y) / reach_y) ** 2 <= 1
    trimap = np.where(inside, _MAYBE_FOREGROUND, _BACKGROUND).astype(np.uint8)
    trimap[core & inside] = _FOREGROUND
    result = np.zeros((height, width), bool)
    result[rows, columns] = _grab_cut(part, trimap, about) & inside
    return _without_specks(result, about)


def cut_from_clicks(pixels: Pixels, inside: Sequence[Point], outside: Sequence[Point], *, about: str) -> Bitmap:
    """The thing at the clicks.

    A first guess is what is nearer to the clicks than to the clicks that say "not this" and to the picture's border,
    where a path is long that crosses edges (geodesic distance); the border near the clicks is left open, so that a sky
    can be clicked at. GrabCut decides from there. Parts that hold no click are dropped.

    Args:
        pixels: ``[h, w, 3]``.
        inside: clicks ``(x, y)`` on the object, in pixels.
        outside: clicks on what does not belong to it.
        about: the region's name, for errors.

    Returns:
        ``[h, w]``.

    Raises:
        FieldError: nothing can be told from the surroundings.
        MissingExtraError: OpenCV or scikit-image is not installed.
    """
    height, width = pixels.shape[:2]
    radius = max(1.5, CLICK_RADIUS * max(height, width))
    ours, theirs = _discs((height, width), inside, radius), _discs((height, width), outside, radius)
    ours &= ~_discs((height, width), outside, radius / 2)
    theirs &= ~_discs((height, width), inside, radius / 2)
    lab = _smooth_lab(pixels)
    cost = CLICK_SPACE + _slope(lab)
    if not ours.any():
        raise FieldError(f"the clicks of the region '{about}' inside and outside are too close to tell them apart")
    near = _geodesic(cost, ours)
    away = _far_frame(near, _contrast(lab, inside, radius)) & ~ours
    known = theirs | away  # nothing, if all of the border may belong to it, as with a sky around a balloon
    closer = near < (_geodesic(cost, known) if known.any() else 0.5 * near.max())
    trimap = np.where(closer, _MAYBE_FOREGROUND, _MAYBE_BACKGROUND).astype(np.uint8)
    trimap[theirs | away] = _BACKGROUND
    trimap[ours] = _FOREGROUND
    found = _grab_cut(pixels, trimap, about)
    return _parts_at(found, inside)


def cut_from_guess(pixels: Pixels, likelihood: FloatArray, *, about: str) -> Bitmap:
    """What a map of likelihoods ``[h, w]`` in ``[0, 1]`` points to.

    Otsu's threshold divides it in two; what is far below or above counts as sure, GrabCut decides the rest.

    Raises:
        FieldError: the map singles nothing out.
        MissingExtraError: OpenCV or scikit-image is not installed.
    """
    filters = optional("skimage.filters", "the automatic foreground")
    if float(np.ptp(likelihood)) == 0:
        raise FieldError(f"nothing stands out: the region '{about}' cannot be found; draw a mask or a box instead")
    threshold = float(filters.threshold_otsu(likelihood))
    trimap = np.where(likelihood > threshold, _MAYBE_FOREGROUND, _MAYBE_BACKGROUND).astype(np.uint8)
    trimap[likelihood > 1 - GUESS_SURE * (1 - threshold)] = _FOREGROUND
    trimap[likelihood < GUESS_UNSURE * threshold] = _BACKGROUND
    return _without_specks(_grab_cut(pixels, trimap, about), about)


def refined(mask: NDArray[Any], pixels: FloatArray) -> FloatArray:
    """A small mask at the picture's size, its border moved to the picture's edges by a guided filter.

    Further from the border than the small mask is inexact, the result is exactly 0 or 1.

    Args:
        mask: ``[h, w]`` of truth values, or of shares in ``[0, 1]``.
        pixels: ``[H, W, 3]`` in ``[0, 1]``.

    Returns:
        ``[H, W]`` in ``[0, 1]``.
    """
    height, width = pixels.shape[:2]
    small = Image.fromarray(np.asarray(mask, np.float32))
    rough = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    factor = max(1.0, height / mask.shape[0])
    radius = max(2, round(1.5 * factor))
    step = max(1, int(np.ceil(np.sqrt(height * width / REFINE_PIXELS))))
    soft = guided_filter(pixels, rough, radius=radius, epsilon=REFINE_EPSILON, step=step)
    soft = (soft - REFINE_STEEPNESS) / (1 - 2 * REFINE_STEEPNESS)
    return limited(np.clip(soft, 0, 1)[..., None], rough[..., None], 2 * radius)[..., 0]


# -- GrabCut -----------------------------------------------------------------------------------------------------------


def _grab_cut(pixels: Pixels, trimap: NDArray[np.uint8], about: str) -> Bitmap:
    cv2 = optional("cv2", "cutting out boxes and clicks")
    sure = (trimap == _FOREGROUND) | (trimap == _MAYBE_FOREGROUND)
    if not sure.any() or sure.all():
        raise FieldError(f"the region '{about}' cannot be told from its surroundings; draw a mask or a polygon instead")
    cv2.setRNGSeed(0)  # the clustering of colours begins at random
    decided = np.ascontiguousarray(trimap)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(np.ascontiguousarray(pixels), decided, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error as error:
        raise FieldError(f"the region '{about}' cannot be cut out: {' '.join(str(error).split())}") from error
    found: Bitmap = (decided == _FOREGROUND) | (decided == _MAYBE_FOREGROUND)
    return found


def _without_specks(found: Bitmap, about: str) -> Bitmap:
    """Without parts and holes below a hundredth of the object; small holes in an object are rarely meant."""
    area = int(found.sum())
    if area == 0:
        raise FieldError(f"nothing was found in the region '{about}'; draw a mask or a polygon instead")
    kept = found & ~_small_parts(found, 0.01 * area)
    return kept | _small_parts(~kept, 0.01 * area)


def _small_parts(bitmap: Bitmap, area: float) -> Bitmap:
    labels, sizes = _parts(bitmap)
    small: Bitmap = (sizes < area)[labels] & bitmap
    return small


def _parts_at(found: Bitmap, points: Sequence[Point]) -> Bitmap:
    """The connected parts that hold one of the points, with small holes filled."""
    labels, _ = _parts(found)
    height, width = found.shape
    held = {labels[min(height - 1, int(y)), min(width - 1, int(x))] for x, y in points} - {0}
    kept = np.isin(labels, list(held))
    return kept | _small_parts(~kept, 0.01 * int(kept.sum()))


def _parts(bitmap: Bitmap) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected parts (4 neighbours) as numbers from 1, and their sizes; number 0 is the rest, as large as can be."""
    cv2 = optional("cv2", "cutting out boxes and clicks")
    count, labels = cv2.connectedComponents(bitmap.astype(np.uint8), connectivity=4)
    sizes = np.bincount(labels.ravel(), minlength=count)
    sizes[0] = bitmap.size
    return labels, sizes


# -- geodesic distance -------------------------------------------------------------------------------------------------


def _discs(size: tuple[int, int], points: Sequence[Point], radius: float) -> Bitmap:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    near = [(x - column) ** 2 + (y - row) ** 2 <= radius**2 for column, row in points]
    return functools.reduce(np.logical_or, near, np.zeros(size, bool))


def _smooth_lab(pixels: Pixels) -> NDArray[np.float64]:
    color = optional("skimage.color", "cutting out clicks")
    filters = optional("skimage.filters", "cutting out clicks")
    return np.asarray(filters.gaussian(color.rgb2lab(pixels), sigma=1, channel_axis=-1), np.float64)


def _contrast(lab: NDArray[np.float64], points: Sequence[Point], radius: float) -> NDArray[np.float64]:
    """Difference of each pixel's colour to that around the most alike of the points, in CIELAB units, ``[h, w]``."""
    size = lab.shape[0], lab.shape[1]
    lab = optional("skimage.filters", "cutting out clicks").gaussian(lab, sigma=2, channel_axis=-1)  # against noise
    colors = [lab[_discs(size, [point], radius)].mean(axis=0) for point in points]
    return np.asarray(np.min([np.linalg.norm(lab - one, axis=-1) for one in colors], axis=0), np.float64)


def _far_frame(near: NDArray[np.float64], contrast: NDArray[np.float64]) -> Bitmap:
    """The part of the picture's border that is taken for background: far from the clicks, and of another colour."""
    frame = np.zeros(near.shape, bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    away: Bitmap = frame & (near >= CLICK_FRAME * np.median(near[frame])) & (contrast > CLICK_ALIKE)
    return away


def _slope(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of the colour's gradient, ``[h, w]``."""
    lengths = np.zeros(lab.shape[:2])
    for axis in (0, 1):
        if lab.shape[axis] > 1:  # a single row has no slope across
            lengths += np.square(np.gradient(lab, axis=axis)).sum(axis=-1)
    return np.asarray(np.sqrt(lengths))


def _geodesic(cost: NDArray[np.float64], seeds: Bitmap) -> NDArray[np.float64]:
    """Cost of the cheapest path to a seed, ``[h, w]``."""
    graph = optional("skimage.graph", "cutting out clicks")
    distance, _ = graph.MCP_Geometric(cost).find_costs(np.argwhere(seeds))
    return np.asarray(distance, np.float64)

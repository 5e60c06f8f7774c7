"""Texture grown pixel by pixel, and holes filled from what is around them.

Source: Efros & Leung 1999, "Texture synthesis by non-parametric sampling" (ICCV). A pixel is drawn from the sample's
pixels whose neighbourhoods look like what is already known around it: distance d = sum of squared differences over the
known neighbours, weighted by a Gaussian of a window/6.4 pixels and normalised by the sum of the weights; candidates
are all with d <= (1 + epsilon) d_best; pixels with the most known neighbours come first, equal ones in random order; a
match that is worse than a bound waits, and the bound grows by a tenth when a whole round brought no pixel.

Differs from the paper: colour pictures; d is the mean over the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from impasto.errors import UsageError
from impasto.texture.compiled import compiled
from impasto.texture.settings import EfrosLeungSettings
from impasto.types import FloatArray

__all__ = ["fill_holes", "gaussian_window", "grow"]

SEED_SIDE = 3
SIGMA = 1 / 6.4  # of the window
GROWTH = 1.1  # of the largest error, when nothing was good enough
Progress = Callable[[float], None]


def grow(
    sample: FloatArray,
    size: tuple[int, int],
    settings: EfrosLeungSettings | None = None,
    *,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """A texture of any size, grown from 3 x 3 pixels of the sample in its middle.

    Args:
        sample: ``[h, w, 3]`` in ``[0, 1]``.
        size: height and width of the result.
        settings: window, tolerance, where the seed comes from.
        seed: the same seed gives the same texture.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[*size, 3]``; every pixel is one of the sample's.

    Raises:
        UsageError: the sample is smaller than the window.
    """
    chosen = settings or EfrosLeungSettings()
    places = _places(np.zeros(sample.shape[:2], np.bool_), chosen.window)
    generator = np.random.default_rng(seed)
    canvas, filled = np.zeros((*size, sample.shape[2]), np.float32), np.zeros(size, np.bool_)
    part = tuple(slice((side - min(side, SEED_SIDE)) // 2, (side + min(side, SEED_SIDE)) // 2) for side in size)
    first = canvas[part].shape
    free = (sample.shape[0] - first[0], sample.shape[1] - first[1])
    if chosen.seed_place == "centre":
        top, left = free[0] // 2, free[1] // 2
    else:
        top, left = (int(generator.integers(side + 1)) for side in free)
    canvas[part], filled[part] = sample[top : top + first[0], left : left + first[1]], True
    return _grown(sample, places, canvas, filled, chosen, generator, on_progress)


def fill_holes(
    picture: FloatArray,
    holes: NDArray[np.bool_],
    settings: EfrosLeungSettings | None = None,
    *,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """Fill holes with texture from the rest of the picture (section 3, "constrained synthesis").

    Args:
        picture: ``[H, W, 3]`` in ``[0, 1]``.
        holes: ``[H, W]``, True where pixels are to be made; what they hold does not matter.
        settings: window and tolerance.
        seed: the same seed gives the same result.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[H, W, 3]``, equal to the picture outside of the holes.

    Raises:
        UsageError: the mask has another size, or no window lies wholly outside of the holes.
    """
    if holes.shape != picture.shape[:2]:
        raise UsageError(f"the mask of holes is {holes.shape}, the picture {picture.shape[:2]} (height, width)")
    chosen = settings or EfrosLeungSettings()
    if not holes.any():
        return picture.copy()
    places = _places(holes, chosen.window)
    canvas = np.where(holes[..., None], np.float32(0), picture)
    return _grown(picture, places, canvas, ~holes, chosen, np.random.default_rng(seed), on_progress)


def gaussian_window(window: int) -> FloatArray:
    """``[window, window]`` Gaussian of ``window / 6.4`` pixels; its sum is 1."""
    away = np.arange(window) - window // 2
    line = np.exp(-(away**2) / (2 * (window * SIGMA) ** 2))
    weights = np.outer(line, line)
    return np.asarray(weights / weights.sum(), np.float32)


def _places(holes: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    """``[h - window + 1, w - window + 1]`` True where the sample has a window without a hole, by its corner."""
    height, width = holes.shape
    if min(height, width) < window:
        raise UsageError(
            f"the sample is {width} x {height} px (width x height), smaller than the window of {window} px; "
            f"choose a window of at most {min(height, width)}"
        )
    sums = np.pad(holes.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window] + sums[:-window, :-window]
    if (inside > 0).all():
        raise UsageError(f"no window of {window} px lies outside of the holes; choose a smaller window")
    return np.asarray(inside == 0)


def _grown(
    sample: FloatArray,
    places: NDArray[np.bool_],
    canvas: FloatArray,
    filled: NDArray[np.bool_],
    settings: EfrosLeungSettings,
    generator: np.random.Generator,
    on_progress: Progress | None,
) -> FloatArray:
    """Grow ``canvas`` from where it is filled until it is full (the paper's GrowImage)."""
    window, half = settings.window, settings.window // 2
    weights = gaussian_window(window)
    planes = np.ascontiguousarray(sample.transpose(2, 0, 1))  # [C, h, w]
    framed = np.pad(canvas, ((half, half), (half, half), (0, 0)))
    known = np.pad(filled, half)
    inner = (slice(half, half + filled.shape[0]), slice(half, half + filled.shape[1]))
    wanted, bound = int((~filled).sum()), settings.largest_error
    while not known[inner].all():
        if on_progress is not None:
            on_progress(1 - int((~known[inner]).sum()) / wanted)
        layer = _unfilled_neighbours(known, inner, window, generator)
        grown = _grow_layer(
            planes, places, framed, known, weights, layer, generator.random(len(layer)), settings.epsilon, bound
        )
        if grown == 0:
            bound *= GROWTH
    if on_progress is not None:
        on_progress(1.0)
    return np.ascontiguousarray(framed[inner])


def _unfilled_neighbours(
    known: NDArray[np.bool_], inner: tuple[slice, slice], window: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``[N, 2]`` unfilled pixels beside filled ones, those with the most known neighbours first, ties at random."""
    edge = ndimage.binary_dilation(known, np.ones((3, 3))) & ~known
    framed = np.zeros_like(known)
    framed[inner] = edge[inner]
    pixels = np.argwhere(framed)
    neighbours = ndimage.uniform_filter(known.astype(np.float64), window, mode="constant") * window * window
    order = np.lexsort((generator.random(len(pixels)), -np.rint(neighbours[framed])))
    return np.asarray(pixels[order], np.int64)


@compiled
def _grow_layer(planes, places, framed, known, weights, layer, chance, epsilon, bound):  # type: ignore[no-untyped-def]
    """Fill the pixels of a layer in turn; returns how many found a match."""
    channels = planes.shape[0]
    rows, columns = places.shape
    window = weights.shape[0]
    half = window // 2
    errors = np.empty((rows, columns), np.float32)
    grown = 0
    for index in range(layer.shape[0]):
        y, x = layer[index, 0], layer[index, 1]
        errors[:] = 0
        total = np.float32(0)
        for dy in range(window):
            for dx in range(window):
                if not known[y - half + dy, x - half + dx]:
                    continue
                weight = weights[dy, dx]
                total += weight
                for channel in range(channels):
                    wanted = framed[y - half + dy, x - half + dx, channel]
                    for row in range(rows):
                        line = planes[channel, row + dy, dx : dx + columns]
                        into = errors[row]
                        for column in range(columns):
                            gap = line[column] - wanted
                            into[column] += weight * gap * gap
        best = np.float32(np.inf)
        for row in range(rows):
            for column in range(columns):
                if places[row, column] and errors[row, column] < best:
                    best = errors[row, column]
        if best > bound * total * channels:
            continue
        limit = best * (1 + epsilon)
        count = 0
        for row in range(rows):
            for column in range(columns):
                if places[row, column] and errors[row, column] <= limit:
                    count += 1
        chosen = int(chance[index] * count)
        for row in range(rows):
            for column in range(columns):
                if places[row, column] and errors[row, column] <= limit:
                    if chosen == 0:
                        for channel in range(channels):
                            framed[y, x, channel] = planes[channel, row + half, column + half]
                        known[y, x] = True
                    chosen -= 1
        grown += 1
    return grown

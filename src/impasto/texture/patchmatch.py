"""PatchMatch with an occupancy term, and the vote of overlapping patches: the inner loops of guided synthesis.

A *nearest-neighbour field* gives every target pixel the place of a patch in the source. Places are top left corners in
the source; the target is padded by half a patch, so that the patch around pixel ``(y, x)`` has its corner at ``(y, x)``
of the padded target.

Sources: Barnes, Shechtman, Finkelstein, Goldman 2009, "PatchMatch: a randomized correspondence algorithm for structural
image editing" (the search); Kaspar, Neubert, Lischinski, Pauly, Kopf 2015, "Self tuning texture optimization" (the
occupancy term, which StyLit and its successors use in one form or another); Wexler, Shechtman, Irani 2007,
"Space-time completion of video" (the weighted vote).

Differs from the papers: the target is searched in strips that see each other's matches and occupancy as they were
before the pass, so that the result does not depend on the number of processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from impasto.texture.compiled import compiled, cut, on_strips
from impasto.types import FloatArray

__all__ = ["Problem", "costs", "occupancy", "random_field", "search", "vote"]

STRIPS = 4  # fixed, so that results do not depend on the machine; more would see each other's choices too late
SMALLEST_STRIP = 24  # rows
CHANNELS, DETAILS = 8, 1  # numbers of channels, known to the compiler

IntArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Problem:
    """What does not change while a nearest-neighbour field is improved.

    Attributes:
        target: ``[H + P - 1, W + P - 1, 8]`` channels that always count (``P`` is the patch's side).
        target_detail: ``[H + P - 1, W + P - 1, 1]`` channel that counts as much as ``gate`` says.
        gate: ``[H, W]`` weight of the detail channels around each target pixel.
        source: ``[h, w, 8]``.
        source_detail: ``[h, w, 1]``.
        labels: ``[H, W]`` uint8, which source region a target pixel takes its patches from.
        regions: ``[K, 4]`` first row, end row, first column, end column (of the corners of patches) of each region.
        wanted: ``[K]`` how often a pixel of each region is covered if the region is used evenly.
        patch: side of a patch in pixels, odd.
        uniformity: weight of the occupancy term.
    """

    target: FloatArray
    target_detail: FloatArray
    gate: FloatArray
    source: FloatArray
    source_detail: FloatArray
    labels: NDArray[np.uint8]
    regions: IntArray
    wanted: FloatArray
    patch: int
    uniformity: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the target."""
        return self.gate.shape[0], self.gate.shape[1]

    @property
    def rows(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Target, its detail, gate, source, its detail; pictures as ``[H, W * C]``, views of the same numbers."""
        target, target_detail, source, source_detail = (
            array.reshape(array.shape[0], -1)
            for array in (self.target, self.target_detail, self.source, self.source_detail)
        )
        return target, target_detail, self.gate, source, source_detail


def random_field(problem: Problem, generator: np.random.Generator) -> IntArray:
    """A nearest-neighbour field ``[H, W, 2]`` of chance: each pixel gets a patch of its region."""
    regions = problem.regions[problem.labels]  # [H, W, 4]
    chance = generator.random((*problem.size, 2))
    first, end = regions[..., 0::2], regions[..., 1::2]
    return np.asarray(first + np.floor(chance * (end - first)), np.int32)


def costs(problem: Problem, field: IntArray) -> FloatArray:
    """``[H, W]`` distance of each target patch from its match, mean over the patch's pixels, sum over channels."""
    result = np.empty(problem.size, np.float32)

    def work(_index: int, begin: int, end: int) -> None:
        _costs(*problem.rows, problem.patch, field, result, begin, end)

    on_strips(work, _strips(problem))
    return result


def occupancy(problem: Problem, field: IntArray) -> FloatArray:
    """``[h, w]`` how many matches cover each source pixel."""
    height, width = problem.source.shape[:2]
    corners = np.zeros((height, width), np.float32)
    np.add.at(corners, (field[..., 0], field[..., 1]), 1)
    sums = np.pad(corners, ((problem.patch, 0), (problem.patch, 0))).cumsum(0, np.float64).cumsum(1)
    size = problem.patch
    return np.asarray(sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size], np.float32)


def search(problem: Problem, field: IntArray, *, sweeps: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Improve a nearest-neighbour field.

    Args:
        problem: what is matched with what.
        field: ``[H, W, 2]``; stays as it is.
        sweeps: passes over the picture, by turns down and up.
        seed: of the random search.

    Returns:
        The better field, and its costs as of :func:`costs` (without the occupancy term).
    """
    current, strips = field.copy(), _strips(problem)
    found = costs(problem, current)
    for sweep in range(sweeps):
        before, used = current.copy(), occupancy(problem, current)

        work = partial(_sweep_strip, problem, seed, sweep, before, used, current, found)
        on_strips(work, strips)
    return current, found


def _sweep_strip(
    problem: Problem,
    seed: int,
    sweep: int,
    before: IntArray,
    used: FloatArray,
    field: IntArray,
    found: FloatArray,
    index: int,
    begin: int,
    end: int,
) -> None:
    """One strip of a pass; changes ``field`` and ``found`` in its rows."""
    state = np.random.SeedSequence([seed, sweep, index]).generate_state(1, np.uint64)[0] | np.uint64(1)
    _sweep(
        *problem.rows, problem.labels, problem.regions, problem.wanted, problem.patch, np.float32(problem.uniformity),
        before, used.copy(), sweep % 2 == 0, state, field, found, begin, end,
    )  # fmt: skip


def vote(problem: Problem, field: IntArray, weights: FloatArray, colors: FloatArray) -> FloatArray:
    """The picture that the matched patches make together: at each pixel the weighted mean of all patches over it.

    Args:
        problem: as searched.
        field: ``[H, W, 2]``.
        weights: ``[H, W]`` positive weight of each target patch.
        colors: ``[h, w, 3]`` of the source.

    Returns:
        ``[H, W, 3]``.
    """
    result = np.empty((*problem.size, 3), np.float32)

    def work(_index: int, begin: int, end: int) -> None:
        _vote(field, weights, colors, problem.patch, result, begin, end)

    on_strips(work, _strips(problem))
    return result


def _strips(problem: Problem) -> list[tuple[int, int]]:
    height = problem.size[0]
    return cut(height, min(STRIPS, max(1, height // SMALLEST_STRIP)))


@compiled
def _distance(target, target_detail, gate, source, source_detail, patch, y, x, v, u, limit):  # type: ignore[no-untyped-def]
    """Distance of the target's patch at ``(y, x)`` from the source's at ``(v, u)``; may stop early above ``limit``.

    The pictures come with the channels of a row side by side, ``[H, W * C]``: a row of a patch is one run of numbers.
    """
    channels, details = CHANNELS, DETAILS
    total = np.float32(0)
    scale = np.float32(1.0 / (patch * patch))
    for row in range(patch):
        here, there = target[y + row], source[v + row]
        part = np.float32(0)
        for index in range(patch * channels):
            gap = here[x * channels + index] - there[u * channels + index]
            part += gap * gap
        fine_here, fine_there = target_detail[y + row], source_detail[v + row]
        detail = np.float32(0)
        for index in range(patch * details):
            gap = fine_here[x * details + index] - fine_there[u * details + index]
            detail += gap * gap
        total += (part + gate * detail) * scale
        if total > limit:
            return total
    return total


@compiled
def _costs(target, target_detail, gate, source, source_detail, patch, field, result, begin, end):  # type: ignore[no-untyped-def]
    for y in range(begin, end):
        for x in range(gate.shape[1]):
            result[y, x] = _distance(
                target, target_detail, gate[y, x], source, source_detail, patch, y, x,
                field[y, x, 0], field[y, x, 1], np.float32(np.inf),
            )  # fmt: skip


@compiled
def _covered(used, patch, v, u):  # type: ignore[no-untyped-def]
    """Mean of ``used`` over a patch."""
    total = np.float32(0)
    for row in range(patch):
        for column in range(patch):
            total += used[v + row, u + column]
    return total / np.float32(patch * patch)


@compiled
def _cover(used, patch, v, u, amount):  # type: ignore[no-untyped-def]
    for row in range(patch):
        for column in range(patch):
            used[v + row, u + column] += amount


@compiled
def _sweep(  # type: ignore[no-untyped-def]
    target, target_detail, gates, source, source_detail, labels, regions, wanted, patch, uniformity,
    before, used, forward, state, field, found, begin, end,
):  # fmt: skip
    """One pass over the rows ``[begin, end)``: propagation from two neighbours, then random search (section 3.2)."""
    width = gates.shape[1]
    step = 1 if forward else -1
    reach = max(used.shape[0], used.shape[1])
    for index in range(end - begin):
        y = begin + index if forward else end - 1 - index
        for jndex in range(width):
            x = jndex if forward else width - 1 - jndex
            label, gate = labels[y, x], gates[y, x]
            top, bottom, left, right = regions[label, 0], regions[label, 1], regions[label, 2], regions[label, 3]
            per_use = uniformity / wanted[label]
            old_v, old_u = field[y, x, 0], field[y, x, 1]
            best_v, best_u, best = old_v, old_u, found[y, x]
            _cover(used, patch, old_v, old_u, np.float32(-1))
            best_total = best + per_use * _covered(used, patch, best_v, best_u)
            radius, attempt = reach, 0
            while radius >= 1:
                if attempt < 2:  # propagation: the match of a neighbour, shifted
                    near_y, near_x = (y - step, x) if attempt == 0 else (y, x - step)
                    attempt += 1
                    if near_y < 0 or near_y >= gates.shape[0] or near_x < 0 or near_x >= width:
                        continue
                    if near_y < begin or near_y >= end:  # another strip's: as it was
                        v, u = before[near_y, near_x, 0] + y - near_y, before[near_y, near_x, 1] + x - near_x
                    else:
                        v, u = field[near_y, near_x, 0] + y - near_y, field[near_y, near_x, 1] + x - near_x
                    if v < top or v >= bottom or u < left or u >= right:
                        continue
                else:  # random search in shrinking windows around the best match so far
                    low_v, high_v = max(top, best_v - radius), min(bottom, best_v + radius + 1)
                    low_u, high_u = max(left, best_u - radius), min(right, best_u + radius + 1)
                    state ^= state << np.uint64(13)  # xorshift, Marsaglia 2003
                    state ^= state >> np.uint64(7)
                    state ^= state << np.uint64(17)
                    v = low_v + np.int64((state >> np.uint64(40)) % np.uint64(high_v - low_v))
                    u = low_u + np.int64((state >> np.uint64(8) & np.uint64(0xFFFFFF)) % np.uint64(high_u - low_u))
                    radius //= 2
                if v == best_v and u == best_u:
                    continue
                extra = per_use * _covered(used, patch, v, u)
                if extra >= best_total:
                    continue
                cost = _distance(
                    target, target_detail, gate, source, source_detail, patch, y, x, v, u, best_total - extra
                )
                if cost + extra < best_total:
                    best_v, best_u, best, best_total = v, u, cost, cost + extra
            _cover(used, patch, best_v, best_u, np.float32(1))
            field[y, x, 0], field[y, x, 1], found[y, x] = best_v, best_u, best


@compiled
def _vote(field, weights, colors, patch, result, begin, end):  # type: ignore[no-untyped-def]
    height, width = weights.shape
    half = patch // 2
    for y in range(begin, end):
        for x in range(width):
            total = np.float32(0)
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for near_y in range(max(0, y - half), min(height, y + half + 1)):
                for near_x in range(max(0, x - half), min(width, x + half + 1)):
                    v = field[near_y, near_x, 0] + half + y - near_y
                    u = field[near_y, near_x, 1] + half + x - near_x
                    weight = weights[near_y, near_x]
                    total += weight
                    red += weight * colors[v, u, 0]
                    green += weight * colors[v, u, 1]
                    blue += weight * colors[v, u, 2]
            result[y, x, 0], result[y, x, 1], result[y, x, 2] = red / total, green / total, blue / total

"""Automatic segments: superpixels, merged along their neighbourhood graph until a given number is left.

References: Achanta et al. (2012), "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 34(11)
(scikit-image's implementation); Ward (1963) for the cost of a merge. No weights are involved.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impasto.regions.cutting import Pixels, optional

__all__ = ["Superpixels", "merge_superpixels", "superpixels"]

COMPACTNESS = 10.0
EDGE_WEIGHT = 0.15  # how much a contrast of one CIELAB unit along a border raises the cost of a merge across it

Labels = NDArray[np.intp]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Superpixels:
    """A picture in small patches of even colour.

    Attributes:
        labels: ``[h, w]``, the number of each pixel's patch, from 0.
        colors: ``[N, 3]``, mean CIELAB colours.
        areas: ``[N]``, in pixels.
        centres: ``[N, 2]``, mean row and column in shares of the longer side.
        pairs: ``[E, 2]``, patches that touch, the smaller number first.
        borders: ``[E]``, length of what they share, in pixels.
        contrasts: ``[E]``, mean difference of the colours on both sides of it, in CIELAB units.
    """

    labels: Labels
    colors: Doubles
    areas: Doubles
    centres: Doubles
    pairs: Labels
    borders: Doubles
    contrasts: Doubles

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.areas)


def superpixels(pixels: Pixels, count: int) -> Superpixels:
    """Divide ``pixels`` ``[h, w, 3]`` into about ``count`` superpixels.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    segmentation = optional("skimage.segmentation", "automatic segments")
    lab = optional("skimage.color", "automatic segments").rgb2lab(pixels)
    found = segmentation.slic(pixels, count, COMPACTNESS, sigma=1, start_label=0, channel_axis=-1)
    _, flat = np.unique(found, return_inverse=True)  # without gaps
    labels = flat.reshape(found.shape).astype(np.intp)
    height, width = labels.shape
    number = int(labels.max()) + 1
    areas = np.bincount(labels.ravel(), minlength=number).astype(np.float64)
    rows, columns = (np.mgrid[:height, :width] + 0.5) / max(height, width)
    sums = [np.bincount(labels.ravel(), plane.ravel(), number) for plane in (*np.moveaxis(lab, -1, 0), rows, columns)]
    means = np.stack(sums, axis=1) / areas[:, None]
    pairs, borders, contrasts = _neighbours(labels, lab)
    return Superpixels(labels, means[:, :3], areas, means[:, 3:], pairs, borders, contrasts)


def _neighbours(labels: Labels, lab: Doubles) -> tuple[Labels, Doubles, Doubles]:
    """Which patches touch, over how many pixels, and with which contrast."""
    number = int(labels.max()) + 1
    keys, steps = [], []
    for axis in (0, 1):
        first = labels.take(range(labels.shape[axis] - 1), axis)
        second = labels.take(range(1, labels.shape[axis]), axis)
        step = np.linalg.norm(np.diff(lab, axis=axis), axis=-1)
        differ = first != second
        low, high = np.minimum(first, second)[differ], np.maximum(first, second)[differ]
        keys.append(low * number + high)
        steps.append(step[differ])
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    borders = np.bincount(place, minlength=len(found)).astype(np.float64)
    contrasts = np.bincount(place, np.concatenate(steps), len(found)) / np.maximum(borders, 1)
    return np.stack([found // number, found % number], axis=1), borders, contrasts


def merge_superpixels(patches: Superpixels, count: int) -> Labels:
    """Merge neighbours, the most alike first, until ``count`` segments are left.

    The cost of a merge is what it adds to the variance of the colours inside segments (Ward),

        n_i n_j / (n_i + n_j) |c_i - c_j|²,

    times ``1 + EDGE_WEIGHT e`` with e the mean contrast along the common border.

    Returns:
        ``[h, w]``, numbers from 1, the largest segment first; at most ``count`` of them.
    """
    graph = _Graph(patches)
    while graph.alive > count and graph.merge_cheapest():
        pass
    roots = np.array([graph.root(patch) for patch in range(patches.count)])
    _, segments = np.unique(roots, return_inverse=True)
    areas = np.bincount(segments, patches.areas)
    rank = np.empty(len(areas), np.intp)
    rank[np.argsort(-areas, kind="stable")] = np.arange(1, len(areas) + 1)
    numbers: Labels = rank[segments][patches.labels]
    return numbers


class _Graph:
    """Segments that merge: colours and areas of the roots, borders between them, and a heap of possible merges."""

    def __init__(self, patches: Superpixels) -> None:
        self.alive = patches.count
        self._parent = list(range(patches.count))
        self._colors = patches.colors.copy()
        self._areas = patches.areas.copy()
        self._version = [0] * patches.count
        self._borders: list[dict[int, tuple[float, float]]] = [{} for _ in range(patches.count)]  # length, contrast sum
        self._heap: list[tuple[float, int, int, int, int]] = []
        for (first, second), length, contrast in zip(
            patches.pairs.tolist(), patches.borders.tolist(), patches.contrasts.tolist(), strict=True
        ):
            self._borders[first][second] = self._borders[second][first] = (length, length * contrast)
        for first, second in patches.pairs.tolist():
            self._offer(first, second)

    def root(self, patch: int) -> int:
        while self._parent[patch] != patch:
            patch = self._parent[patch]
        return patch

    def merge_cheapest(self) -> bool:
        """Merge the two segments that cost least; False when no two touch any more."""
        while self._heap:
            _, first, second, first_version, second_version = heapq.heappop(self._heap)
            if (self._version[first], self._version[second]) == (first_version, second_version):
                self._merge(first, second)
                return True
        return False

    def _offer(self, first: int, second: int) -> None:
        length, contrast = self._borders[first][second]
        areas, difference = self._areas, self._colors[first] - self._colors[second]
        ward = areas[first] * areas[second] / (areas[first] + areas[second]) * float(difference @ difference)
        cost = ward * (1 + EDGE_WEIGHT * contrast / length)
        heapq.heappush(self._heap, (cost, first, second, self._version[first], self._version[second]))

    def _merge(self, first: int, second: int) -> None:
        areas = self._areas
        total = areas[first] + areas[second]
        self._colors[first] = (areas[first] * self._colors[first] + areas[second] * self._colors[second]) / total
        areas[first] = total
        self._parent[second] = first
        self._version[first] += 1
        self._version[second] = -1  # no offer has this
        self.alive -= 1
        for other, (length, contrast) in self._borders[second].items():
            del self._borders[other][second]
            if other != first:
                before = self._borders[first].get(other, (0.0, 0.0))
                joint = (before[0] + length, before[1] + contrast)
                self._borders[first][other] = self._borders[other][first] = joint
        for other in self._borders[first]:
            self._offer(first, other)

"""A photograph painted with whole patches of paintings, from coarse to fine.

The energy is that of texture optimisation (Kwatra, Essa, Bobick, Kwatra 2005): the sum over all pixels of the
distance of the patch around them from its match in the painting. A patch's distance compares the colours of the
picture so far with the painting's, and guides with guides (:mod:`impasto.texture.guidance`), as in Image Analogies
(Hertzmann et al. 2001, section 3) and StyLit (Fišer et al. 2016, eq. 2). It is lowered by turns (Wexler et al. 2007;
StyLit, section 3.2): search the matches with PatchMatch, let the matched patches vote for the picture, at scale after
scale. An occupancy term (Kaspar et al. 2015) keeps one part of the painting from being used everywhere.

Several paintings lie in one source, one below the other; a map of labels says which of them a pixel takes its patches
from, so that paintings meet along a patch's width.

Differs from the papers: guides without a given pair; guides of detail count only near the photograph's edges, so that
strokes run freely elsewhere; StyLit's budget of matches is replaced by the occupancy term; votes are weighted by how
well patches match, which keeps edges of strokes sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from impasto.image.color import resize
from impasto.texture.guidance import Guides, photo_guides, style_guides
from impasto.texture.patchmatch import IntArray, Problem, costs, random_field, search, vote
from impasto.texture.settings import GuidedSettings
from impasto.types import FloatArray

__all__ = ["Step", "label_map", "paint", "plan_steps"]

COLOR_WEIGHT = 2.0  # of the picture's colours against the painting's, where guides have weights about 1
UNIFORMITY = 0.06
COLOR_FLOOR = 0.03  # spread of colours below which a painting has none
FIRST_SWEEPS, SWEEPS = 8, 2
SHARPNESS = 2.0  # of the vote: a patch of median cost weighs exp(-2)
DECAY = 30.0  # largest exponent of a vote's weight
LABEL_SIGMA = 1.5  # pixels of the coarsest scale

Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Step:
    """Told after each iteration.

    Attributes:
        number: iterations behind.
        count: iterations in all.
        done: share of the work behind, 0 to 1.
        scale: which scale, from 1 (the coarsest).
        scales: how many.
        size: height and width of the picture so far.
        picture: ``[*size, 3]``.
    """

    number: int
    count: int
    done: float
    scale: int
    scales: int
    size: tuple[int, int]
    picture: FloatArray


def plan_steps(
    size: tuple[int, int], styles: Sequence[tuple[int, int]], settings: GuidedSettings
) -> list[tuple[tuple[int, int], int]]:
    """Size of the picture and number of iterations at every scale, the coarsest first.

    Args:
        size: height and width of the photograph.
        styles: heights and widths of the paintings.
        settings: ``coarsest`` and ``iterations``.
    """
    shortest = min(min(size), *(min(one) for one in styles))
    scales = 1
    while shortest / 2**scales >= settings.coarsest:
        scales += 1
    counts = [settings.iterations + 1] * scales
    counts[0], counts[-1] = 2 * settings.iterations, settings.iterations
    return [(_halved(size, scales - 1 - index), count) for index, count in enumerate(counts)]


def paint(
    photo: FloatArray,
    styles: Sequence[FloatArray],
    labels: Labels,
    settings: GuidedSettings | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> FloatArray:
    """Paint a photograph with patches of paintings.

    Args:
        photo: ``[H, W, 3]`` in ``[0, 1]``.
        styles: paintings ``[h, w, 3]`` in ``[0, 1]``, of any sizes; the size of their strokes stays as it is.
        labels: ``[H, W]`` which painting each pixel takes its patches from.
        settings: weights, patch, iterations.
        seed: the same seed gives the same picture, whatever the number of processors.
        on_step: called after every iteration; an exception that it raises stops the work.

    Returns:
        ``[H, W, 3]`` in ``[0, 1]``.
    """
    chosen = settings or GuidedSettings()
    plan = plan_steps(photo.shape[:2], [style.shape[:2] for style in styles], chosen)
    effort = sum(height * width * count for (height, width), count in plan)
    behind, number, count = 0, 0, sum(count for _, count in plan)
    scale: _Scale | None = None
    field, picture = np.zeros((0, 0, 2), np.int32), photo
    for index, (size, iterations) in enumerate(plan):
        factor, before = len(plan) - 1 - index, scale
        small = [_shrink(style, _halved(style.shape[:2], factor)) for style in styles]
        scale = _Scale(_shrink(photo, size), small, _nearest(labels, size), chosen)
        generator = np.random.default_rng([seed, index])
        if before is None:
            field = random_field(scale.problem, generator)
            scale.show(scale.colors)  # nothing is painted yet: the photograph with the painting's colours
            field, _ = search(scale.problem, field, sweeps=FIRST_SWEEPS, seed=_mixed(seed, index, 0))
        else:
            field = scale.refined(field, before, generator)
            scale.show(scale.voted(field, np.ones(size, np.float32)))
        for iteration in range(iterations):
            field, found = search(scale.problem, field, sweeps=SWEEPS, seed=_mixed(seed, index, iteration + 1))
            picture = scale.voted(field, _trust(found))
            scale.show(picture)
            behind, number = behind + size[0] * size[1], number + 1
            if on_step is not None:
                on_step(Step(number, count, behind / effort, index + 1, len(plan), size, picture))
    return picture


def label_map(
    photo: FloatArray,
    styles: Sequence[FloatArray],
    shares: Sequence[FloatArray],
    settings: GuidedSettings | None = None,
    *,
    seed: int = 0,
) -> Labels:
    """Which painting goes where, so that each gets its share and lies where it fits best.

    The paintings are fitted to the photograph one by one at the coarsest scale. Where two compete, the pixels are
    ordered by which of them fits better; a pixel goes to the second if its rank in this order is below the second's
    share there. Regions of shares 0 and 1 are exact, and the area of a painting only grows with its share.

    Args:
        photo: ``[H, W, 3]``.
        styles: paintings ``[h, w, 3]``.
        shares: ``[H, W]`` for each painting; their ratios count.
        settings: as :func:`paint`.
        seed: as :func:`paint`.

    Returns:
        ``[H, W]`` index of a painting.
    """
    size = (photo.shape[0], photo.shape[1])
    labels, used = np.zeros(size, np.uint8), shares[0].astype(np.float64)
    if len(styles) == 1:
        return labels
    chosen = settings or GuidedSettings()
    fits = [_fit(photo, style, chosen, seed) for style in styles]
    for index in range(1, len(styles)):
        used = used + shares[index]
        share = np.divide(shares[index], used, out=np.zeros(size), where=used > 0)
        better = fits[index] - np.choose(labels, fits)
        ranks = np.ones(size)
        for rival in range(index):  # from each of the others in proportion
            ranks[labels == rival] = _ranks(better[labels == rival])
        labels[ranks < share] = index
    return labels


class _Scale:
    """One scale: the search problem, with the picture's colours in its first three channels."""

    def __init__(
        self, photo: FloatArray, styles: Sequence[FloatArray], labels: Labels, settings: GuidedSettings
    ) -> None:
        side, self.half = settings.patch, settings.patch // 2
        pictures = [_at_least(style, side) for style in styles]
        self.sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        self.tops = np.concatenate([[0], np.cumsum([height for height, _ in self.sizes])])
        sources = [style_guides(picture, settings) for picture in pictures]
        targets = [photo_guides(photo, picture, settings) for picture in pictures]
        spreads = [_color_spread(picture) for picture in pictures]
        self.style = _stacked(pictures)
        self.scaling = np.array([COLOR_WEIGHT / spread for spread in spreads], np.float32)[labels][..., None]
        self.colors = _chosen([target.colors for target in targets], labels)
        source = [
            np.concatenate([picture * np.float32(COLOR_WEIGHT / spread), guides.base], axis=-1)
            for picture, spread, guides in zip(pictures, spreads, sources, strict=True)
        ]
        self.problem = self._problem(source, sources, targets, labels, settings)

    def _problem(
        self,
        source: list[FloatArray],
        sources: list[Guides],
        targets: list[Guides],
        labels: Labels,
        settings: GuidedSettings,
    ) -> Problem:
        side = settings.patch
        base = _chosen([target.base for target in targets], labels)
        regions = np.array(
            [
                (top, top + height - side + 1, 0, width - side + 1)
                for top, (height, width) in zip(self.tops[:-1], self.sizes, strict=True)
            ],
            np.int32,
        )
        places = (regions[:, 1] - regions[:, 0]) * (regions[:, 3] - regions[:, 2])
        pixels = np.maximum(np.bincount(labels.ravel(), minlength=len(places)), 1)
        return Problem(
            target=self._framed(np.concatenate([np.zeros((*labels.shape, 3), np.float32), base], axis=-1)),
            target_detail=self._framed(_chosen([target.detail for target in targets], labels)),
            gate=np.ascontiguousarray(_chosen([target.gate for target in targets], labels)),
            source=_stacked(source),
            source_detail=_stacked([guides.detail for guides in sources]),
            labels=labels,
            regions=regions,
            wanted=np.asarray(side * side * pixels / places, np.float32),
            patch=side,
            uniformity=UNIFORMITY * settings.uniformity,
        )

    def show(self, picture: FloatArray) -> None:
        """Compare these colours from now on."""
        self.problem.target[..., :3] = self._framed(picture * self.scaling)

    def voted(self, field: IntArray, weights: FloatArray) -> FloatArray:
        """The picture that the matches make."""
        return vote(self.problem, field, weights, self.style)

    def refined(self, field: IntArray, coarser: _Scale, generator: np.random.Generator) -> IntArray:
        """Matches of the scale before, at this one: every pixel becomes four. New labels get matches of chance."""
        height, width = self.problem.size
        rows = np.minimum(np.arange(height) // 2, field.shape[0] - 1)[:, None]
        columns = np.minimum(np.arange(width) // 2, field.shape[1] - 1)[None]
        labels, before = self.problem.labels, coarser.problem.labels[rows, columns]
        middle = field[rows, columns] + self.half  # [H, W, 2]
        middle[..., 0] -= coarser.tops[before]
        corner = 2 * middle - self.half
        corner[..., 0] += (np.arange(height) % 2)[:, None]
        corner[..., 1] += (np.arange(width) % 2)[None]
        corner[..., 0] += self.tops[before]
        regions = self.problem.regions[before]
        inside = np.clip(corner, regions[..., 0::2], regions[..., 1::2] - 1)
        fresh = random_field(self.problem, generator)
        return np.asarray(np.where((labels == before)[..., None], inside, fresh), np.int32)

    def _framed(self, picture: FloatArray) -> FloatArray:
        widths = ((self.half, self.half), (self.half, self.half), (0, 0))
        return np.ascontiguousarray(np.pad(picture, widths, mode="symmetric"), np.float32)


def _ranks(values: FloatArray) -> NDArray[np.float64]:
    """``[N]`` the place of each value in their order, from 0 to 1."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / max(1, len(values))
    return ranks


def _fit(photo: FloatArray, style: FloatArray, settings: GuidedSettings, seed: int) -> FloatArray:
    """``[H, W]`` how badly a painting fits, from its matches at the coarsest scale."""
    plan = plan_steps(photo.shape[:2], [style.shape[:2]], settings)
    size, small = plan[0][0], _shrink(style, _halved(style.shape[:2], len(plan) - 1))
    scale = _Scale(_shrink(photo, size), [small], np.zeros(size, np.uint8), settings)
    scale.show(scale.colors)
    field = random_field(scale.problem, np.random.default_rng([seed, 0]))
    field, _ = search(scale.problem, field, sweeps=FIRST_SWEEPS, seed=_mixed(seed, 0, 0))
    smooth = ndimage.gaussian_filter(costs(scale.problem, field), LABEL_SIGMA, mode="reflect")
    return resize(np.asarray(smooth, np.float32), photo.shape[:2])


def _trust(found: FloatArray) -> FloatArray:
    """``[H, W]`` weight of each patch in the vote, falling with its cost (Wexler et al. 2007, section 3.2)."""
    middle = float(np.median(found)) + 1e-6
    return np.asarray(np.exp(-np.minimum(SHARPNESS * found / middle, DECAY)), np.float32)


def _color_spread(picture: FloatArray) -> float:
    return float(np.sqrt(picture.reshape(-1, 3).var(0).sum())) + COLOR_FLOOR


def _chosen(pictures: Sequence[FloatArray], labels: Labels) -> FloatArray:
    """At each pixel, the picture of its label."""
    result = pictures[0].copy()
    for index, picture in enumerate(pictures[1:], start=1):
        result[labels == index] = picture[labels == index]
    return result


def _stacked(pictures: Sequence[FloatArray]) -> FloatArray:
    """Pictures ``[h, w, C]`` one below the other, in the width of the widest."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
    return np.ascontiguousarray(np.concatenate(padded), np.float32)


def _at_least(picture: FloatArray, side: int) -> FloatArray:
    """The picture, mirrored where it is smaller than a patch."""
    below, right = max(0, side - picture.shape[0]), max(0, side - picture.shape[1])
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else picture


def _shrink(picture: FloatArray, size: tuple[int, int]) -> FloatArray:
    return np.clip(resize(picture, size), 0, 1)


def _nearest(labels: Labels, size: tuple[int, int]) -> Labels:
    rows = (np.arange(size[0]) * labels.shape[0] + labels.shape[0] // 2) // size[0]
    columns = (np.arange(size[1]) * labels.shape[1] + labels.shape[1] // 2) // size[1]
    return np.ascontiguousarray(labels[rows[:, None], columns[None]])


def _halved(size: tuple[int, ...], times: int) -> tuple[int, int]:
    return max(1, round(size[0] / 2**times)), max(1, round(size[1] / 2**times))


def _mixed(seed: int, scale: int, iteration: int) -> int:
    """One number of three, for seeds of searches."""
    return int(np.random.SeedSequence([seed, scale, iteration]).generate_state(1, np.uint32)[0])

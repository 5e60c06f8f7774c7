"""Image quilting: textures of any size, and pictures drawn with a texture, from whole blocks of a sample.

Source: Efros & Freeman 2001, "Image quilting for texture synthesis and transfer" (SIGGRAPH): blocks in scan order,
drawn from those within a tolerance of the best fit in the overlap (section 2), cut along the path of least error
(section 2.1); for transfer a second map says how well a block matches the picture, and several passes with smaller
blocks also look at what the pass before made (section 3).

Differs from the paper: each row of blocks is tried several times, and the try with the least error along its seams
stays (``attempts``); parts of the sample that were taken often count as worse (``variety``), so that eye-catching
details are not repeated in every block; a tile that repeats without a seam is quilted on a torus, where the last
blocks of a row and of a column overlap the first ones too, so that they have seams on up to four sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from impasto.errors import UsageError
from impasto.image.color import luminance
from impasto.texture.blocks import BlockSearch, draw_place
from impasto.texture.seams import seam, seam_cost
from impasto.texture.settings import QuiltingSettings, TransferSettings
from impasto.texture.tones import match_tones
from impasto.types import FloatArray

__all__ = ["quilt", "transfer"]

SMALLEST_BLOCK = 6  # of transfer: below, blocks carry no texture
Progress = Callable[[float], None]


def quilt(
    sample: FloatArray,
    size: tuple[int, int],
    settings: QuiltingSettings | None = None,
    *,
    seed: int = 0,
    tileable: bool = False,
    on_progress: Progress | None = None,
) -> FloatArray:
    """A texture of any size from a sample.

    Args:
        sample: ``[h, w, 3]`` in ``[0, 1]``.
        size: height and width of the result.
        settings: block, overlap, tolerance.
        seed: the same seed gives the same texture.
        tileable: the result can be laid beside and below itself without a seam.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[*size, 3]``, made of pixels of the sample.

    Raises:
        UsageError: the sample is smaller than a block.
    """
    chosen = settings or QuiltingSettings()
    _check_block(sample, chosen.block, "block")
    generator = np.random.default_rng(seed)
    grid = _Grid.plan(size, chosen.block, _overlap(chosen.block, chosen.overlap), tileable=tileable)
    work = _Quilting(sample, chosen, _Canvas.empty(grid, sample.shape[2]))
    for index, top in enumerate(grid.rows):
        if on_progress is not None:
            on_progress(index / len(grid.rows))
        tries = [work.with_row(top, grid.columns, generator) for _ in range(chosen.attempts)]
        work = min(tries, key=lambda one: one.canvas.cost)
    if on_progress is not None:
        on_progress(1.0)
    return work.canvas.pixels[: size[0], : size[1]].copy()


def transfer(
    texture: FloatArray,
    picture: FloatArray,
    settings: TransferSettings | None = None,
    *,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """A picture drawn with a texture: blocks of the texture whose blurred brightness follows the picture's.

    Args:
        texture: ``[h, w, 3]`` in ``[0, 1]``.
        picture: ``[H, W, 3]`` in ``[0, 1]``.
        settings: blocks, passes, and how much the texture's own fit counts.
        seed: the same seed gives the same result.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[H, W, 3]``, made of pixels of the texture.

    Raises:
        UsageError: the texture is smaller than a block.
    """
    chosen = settings or TransferSettings()
    _check_block(texture, chosen.block, "block")
    generator = np.random.default_rng(seed)
    # the correspondence map, "luminance ... blurred", with the texture's tones so that both can be compared
    source_map = _blurred(luminance(texture), chosen.blur)
    target_map = match_tones(_blurred(luminance(picture), chosen.blur), source_map)
    drawn = picture
    for number, block in enumerate(_block_sides(chosen)):
        steps = max(1, chosen.passes - 1)
        alpha = chosen.first_alpha + (chosen.last_alpha - chosen.first_alpha) * number / steps  # eq. in section 3
        work = _Transfer(texture, source_map, block, alpha, chosen.tolerance)

        def tell(done: float, number: int = number) -> None:
            if on_progress is not None:
                on_progress((number + done) / chosen.passes)

        grid = _Grid.plan(target_map.shape, block, _overlap(block, chosen.overlap), tileable=False)
        drawn = work.run(grid, target_map, drawn if number else None, generator, tell)
    if on_progress is not None:
        on_progress(1.0)
    return drawn


@dataclass(frozen=True)
class _Grid:
    """Where blocks lie: their top left corners in scan order, on a canvas that may wrap around.

    Attributes:
        rows: first rows of the blocks.
        columns: first columns.
        block: side.
        size: of the canvas.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    block: int
    size: tuple[int, int]

    @classmethod
    def plan(cls, size: tuple[int, ...], block: int, overlap: int, *, tileable: bool) -> _Grid:
        lines, extents = [], []
        for length in size[:2]:
            if tileable and length <= block:
                raise UsageError(f"a tile of {length} px cannot be made of blocks of {block} px; choose smaller blocks")
            if tileable:  # evenly spread, so that the last overlaps the first
                count = max(2, -(-length // (block - overlap)))
                lines.append(tuple(round(index * length / count) for index in range(count)))
                extents.append(length)
            else:
                count = 1 + max(0, -(-(length - block) // (block - overlap)))
                lines.append(tuple(index * (block - overlap) for index in range(count)))
                extents.append(lines[-1][-1] + block)
        return cls(lines[0], lines[1], block, (extents[0], extents[1]))

    @property
    def corners(self) -> list[tuple[int, int]]:
        return [(top, left) for top in self.rows for left in self.columns]


@dataclass(eq=False)
class _Canvas:
    """The picture under construction. Windows wrap around its edges.

    Attributes:
        block: side of the blocks.
        pixels: ``[H, W, C]``.
        filled: ``[H, W]``, where it is finished.
        cost: sum of the errors along all seams.
    """

    block: int
    pixels: FloatArray
    filled: NDArray[np.bool_]
    cost: float = 0.0

    @classmethod
    def empty(cls, grid: _Grid, channels: int) -> _Canvas:
        return cls(grid.block, np.zeros((*grid.size, channels), np.float32), np.zeros(grid.size, np.bool_))

    def copy(self) -> _Canvas:
        return _Canvas(self.block, self.pixels.copy(), self.filled.copy(), self.cost)

    def window(self, top: int, left: int) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Pixels ``[b, b, C]`` under a block, and which of them are finished ``[b, b]``."""
        index = self._index(top, left)
        return self.pixels[index], self.filled[index]

    def lay(self, top: int, left: int, block: FloatArray) -> None:
        """Lay a block ``[b, b, C]`` over the canvas, cut along the cheapest seams of its overlaps."""
        index = self._index(top, left)
        known, filled = self.pixels[index], self.filled[index]
        cover, cost = _cut_sides(((known - block) ** 2).sum(2), filled)
        self.pixels[index] = np.where((cover | ~filled)[..., None], block, known)
        self.cost += cost
        self.filled[index] = True

    def _index(self, top: int, left: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        height, width = self.filled.shape
        rows, columns = (np.arange(top, top + self.block) % height), (np.arange(left, left + self.block) % width)
        return rows[:, None], columns[None]


def _cut_sides(errors: FloatArray, filled: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], float]:
    """``[b, b]`` True where a new block covers what is there, and the error along the seams.

    It covers what lies inside the seams of all sides that overlap something. A side overlaps if the line of pixels
    along it is finished; the strip is as wide as finished lines follow each other.
    """
    cover, cost = np.ones_like(filled), 0.0
    for turns in range(4):  # left, top, right, bottom: the block turned so that the side lies on the left
        turned, error, inside = np.rot90(filled, turns), np.rot90(errors, turns), np.rot90(cover, turns)
        if not turned[:, 0].all():
            continue
        strip = error[:, : _run_length(turned)]
        path = seam(strip)
        cost += seam_cost(strip, path)
        inside[:, : strip.shape[1]] &= np.arange(strip.shape[1]) >= path[:, None]  # a view: it writes to cover
    return cover, cost


def _run_length(filled: NDArray[np.bool_]) -> int:
    """How many columns from the left are finished over the whole height."""
    open_columns = np.flatnonzero(~np.all(filled, axis=0))
    return int(open_columns[0]) if open_columns.size else filled.shape[1]


class _Quilting:
    """A canvas with what was taken from the sample so far."""

    def __init__(
        self,
        sample: FloatArray,
        settings: QuiltingSettings,
        canvas: _Canvas,
        search: BlockSearch | None = None,
        used: FloatArray | None = None,
    ) -> None:
        self.sample, self.settings, self.canvas = sample, settings, canvas
        self.search = search or BlockSearch(sample, (settings.block, settings.block))
        self.used = np.zeros(self.search.places, np.float32) if used is None else used

    def with_row(self, top: int, columns: tuple[int, ...], generator: np.random.Generator) -> _Quilting:
        """The same with another row of blocks."""
        block = self.settings.block
        after = _Quilting(self.sample, self.settings, self.canvas.copy(), self.search, self.used.copy())
        for left in columns:
            known, filled = after.canvas.window(top, left)
            if filled.any():
                errors = self.search.distances(known, filled) * (1 + self.settings.variety * after.used)
                place = draw_place(errors, self.settings.tolerance, generator)
            else:
                place = (int(generator.integers(self.used.shape[0])), int(generator.integers(self.used.shape[1])))
            _use(after.used, place, block / 2)
            after.canvas.lay(top, left, _block(self.sample, place, block))
        return after


class _Transfer:
    """One pass of texture transfer."""

    def __init__(self, texture: FloatArray, brightness: FloatArray, block: int, alpha: float, tolerance: float) -> None:
        self.texture, self.block, self.alpha, self.tolerance = texture, block, alpha, tolerance
        self.colors = BlockSearch(texture, (block, block))
        self.tones = BlockSearch(brightness[..., None], (block, block))
        self.everything = np.ones((block, block), np.bool_)

    def run(
        self,
        grid: _Grid,
        target: FloatArray,
        before: FloatArray | None,
        generator: np.random.Generator,
        tell: Progress,
    ) -> FloatArray:
        height, width = target.shape
        below, right = grid.size[0] - height, grid.size[1] - width
        wanted = np.pad(target, ((0, below), (0, right)), mode="symmetric")[..., None]
        earlier = None if before is None else np.pad(before, ((0, below), (0, right), (0, 0)), mode="symmetric")
        canvas = _Canvas.empty(grid, self.texture.shape[2])
        for index, (top, left) in enumerate(grid.corners):
            tell(index / len(grid.corners))
            known, filled = canvas.window(top, left)
            part = (slice(top, top + self.block), slice(left, left + self.block))
            errors = self.errors(known, filled, wanted[part], None if earlier is None else earlier[part])
            canvas.lay(top, left, _block(self.texture, draw_place(errors, self.tolerance, generator), self.block))
        return canvas.pixels[:height, :width].copy()

    def errors(
        self, known: FloatArray, filled: NDArray[np.bool_], wanted: FloatArray, earlier: FloatArray | None
    ) -> FloatArray:
        """``alpha (overlap + earlier pass) + (1 - alpha) correspondence``, section 3, all per channel and pixel."""
        pixels, channels = self.block * self.block, self.texture.shape[2]
        result = (1 - self.alpha) * self.tones.distances(wanted, self.everything) / pixels
        if filled.any():
            result += self.alpha * self.colors.distances(known, filled) / (filled.sum() * channels)
        if earlier is not None:
            result += self.alpha * self.colors.distances(earlier, self.everything) / (pixels * channels)
        return np.asarray(result, np.float32)


def _block_sides(settings: TransferSettings) -> list[int]:
    """The side of the blocks in each pass: "reduced by a third each time"."""
    sides = [settings.block]
    while len(sides) < settings.passes:
        sides.append(max(SMALLEST_BLOCK, round(sides[-1] * 2 / 3)))
    return sides


def _overlap(block: int, share: float) -> int:
    return min(block - 1, max(1, round(block * share)))


def _block(sample: FloatArray, place: tuple[int, int], side: int) -> FloatArray:
    return sample[place[0] : place[0] + side, place[1] : place[1] + side]


def _use(used: FloatArray, place: tuple[int, int], radius: float) -> None:
    """Count a block taken at ``place``: 1 there, less around it, 0 from ``radius`` on."""
    lines = [
        np.maximum(0, 1 - np.abs(np.arange(side) - at) / radius) for side, at in zip(used.shape, place, strict=True)
    ]
    used += np.outer(lines[0], lines[1]).astype(np.float32)


def _blurred(plane: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(plane, sigma, mode="reflect"), np.float32)


def _check_block(sample: FloatArray, block: int, name: str) -> None:
    height, width = sample.shape[:2]
    if min(height, width) < block:
        raise UsageError(
            f"the sample is {width} x {height} px (width x height), smaller than a {name} of {block} px; "
            f"choose a {name} of at most {min(height, width)}"
        )

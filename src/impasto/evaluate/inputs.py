"""Pictures of an evaluation: found in folders, read once, reduced, and paired in a fair order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from impasto.errors import UsageError
from impasto.image import read_picture
from impasto.image.color import resize
from impasto.stylizer import file_stamp
from impasto.types import FloatArray

__all__ = ["SUFFIXES", "Source", "as_content", "find_pictures", "fitted", "paired", "read_reduced", "reduced"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
SAME_SHAPE = 0.02  # sides of a result and its content may differ by this much, as roundings of engines do


@dataclass(frozen=True)
class Source:
    """A photograph, an artwork or a preset.

    Attributes:
        name: the file's name without its suffix, or the preset's.
        path: None for presets.
    """

    name: str
    path: Path | None

    @property
    def stamp(self) -> list[int] | None:
        """Size and time of the file, to see whether it changed."""
        found = None if self.path is None else file_stamp(self.path)
        return None if found is None else list(found)


def find_pictures(folder: Path) -> list[Source]:
    """The pictures of a folder, by name; folders below are not searched.

    Raises:
        UsageError: no folder, no picture in it, or two files that differ in their suffix only.
    """
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise UsageError(f"no picture found in '{folder}' ({', '.join(sorted(SUFFIXES))})")
    names: dict[str, Path] = {}
    for path in files:
        other = names.setdefault(path.stem, path)
        if other != path:
            raise UsageError(f"'{other}' and '{path}' have the same name; results could not be told apart")
    return [Source(name, path) for name, path in names.items()]


def paired(
    contents: Sequence[Source], styles: Sequence[Source], count: int | None, seed: int
) -> list[tuple[Source, Source]]:
    """Pairs in an order in which every photograph and every style comes equally often, as far as one goes.

    The photographs and the styles are shuffled by the seed; pair ``k`` then takes photograph ``k mod C`` and style
    ``(k + k // lcm(C, S)) mod S``, which visits all ``C S`` pairs once.

    Args:
        contents: C photographs.
        styles: S styles.
        count: take the first so many; all by default.
        seed: of the shuffling.
    """
    generator = np.random.default_rng(seed)
    first = [contents[index] for index in generator.permutation(len(contents))]
    second = [styles[index] for index in generator.permutation(len(styles))]
    lap = math.lcm(len(first), len(second))
    everything = len(first) * len(second)
    return [
        (first[k % len(first)], second[(k + k // lap) % len(second)])
        for k in range(everything if count is None else min(count, everything))
    ]


def reduced(pixels: FloatArray, longer: int) -> FloatArray:
    """The picture with its longer side at most ``longer`` pixels, in 8-bit steps, as files hold it."""
    factor = min(1.0, longer / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[0] * factor)), max(1, round(pixels.shape[1] * factor))
    return _stepped(resize(pixels, size))


def read_reduced(path: Path, longer: int) -> FloatArray:
    """A file as :func:`reduced` gives it.

    Raises:
        ImageError: it cannot be read.
    """
    return reduced(read_picture(path).pixels, longer)


def fitted(pixels: FloatArray, size: tuple[int, int]) -> FloatArray:
    """The picture scaled and cropped about its middle to a size (height, width), nothing of it distorted."""
    factor = max(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    scaled = max(size[0], round(pixels.shape[0] * factor)), max(size[1], round(pixels.shape[1] * factor))
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return _stepped(resize(pixels, scaled)[top : top + size[0], left : left + size[1]])


def as_content(result: FloatArray, content: FloatArray) -> FloatArray:
    """A result at the size of its content.

    Raises:
        UsageError: it has another shape.
    """
    ratio = (result.shape[1] / result.shape[0]) / (content.shape[1] / content.shape[0])
    pixel = 1 / min(*result.shape[:2], *content.shape[:2])  # small pictures: a pixel more or less
    if abs(math.log(ratio)) > SAME_SHAPE + pixel:
        raise UsageError(
            f"the result has {result.shape[1]} x {result.shape[0]} pixels, its content {content.shape[1]} x "
            f"{content.shape[0]}: not the same shape"
        )
    return _stepped(resize(result, (content.shape[0], content.shape[1])))


def _stepped(pixels: FloatArray) -> FloatArray:
    """Rounded to 8 bits: what is measured is what can be saved."""
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255) / np.float32(255), np.float32)

"""Masks to train with: photographs with a mask of their object, and shapes that are made up.

Like the pictures (:mod:`impasto.training.data`), a mask is a function of the generator alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import TrainingError
from impasto.training.data import CropRule, PixelArray, random_crop

__all__ = ["MaskedPictures", "generated_mask", "pair_names"]

MANIFEST = "manifest.csv"
SOFTEST = 12  # pixels over which a made-up edge may run


class MaskedPictures:
    """Photographs, each with a mask of its object.

    Args:
        folders: each has a ``manifest.csv`` with the columns ``photo`` and ``mask``: names of files in the folder.

    Raises:
        TrainingError: no manifest, a file that is missing or no picture, or a mask of another size than its photograph.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.pairs: list[PixelArray] = []
        for folder in folders:
            for photo, mask in pair_names(Path(folder)):
                self.pairs.append(_pair(Path(folder) / photo, Path(folder) / mask))
        if not self.pairs:
            raise TrainingError(f"no masks in {', '.join(map(str, folders)) or 'an empty list of folders'}")

    def __len__(self) -> int:
        return len(self.pairs)

    def crop(self, rng: np.random.Generator, rule: CropRule) -> tuple[PixelArray, PixelArray]:
        """A photograph ``[3, size, size]`` and its mask ``[1, size, size]``, uint8, the same piece of both.

        The mask is that of the object or of what surrounds it, with equal chance.
        """
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        seed = int(rng.integers(2**32))
        plain = replace(rule, jitter=0.0, grey=0.0)
        photo = random_crop(pair[..., :3], np.random.default_rng(seed), plain)
        mask = random_crop(np.repeat(pair[..., 3:], 3, axis=2), np.random.default_rng(seed), plain)[..., 0]
        if rng.random() < 0.5:
            mask = 255 - mask
        return np.ascontiguousarray(photo.transpose(2, 0, 1)), np.ascontiguousarray(mask[None])


def pair_names(folder: Path) -> list[tuple[str, str]]:
    """Photographs and masks that a folder's manifest names.

    Raises:
        TrainingError: there is none, or it has other columns.
    """
    path = folder / MANIFEST
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = [(row.get("photo"), row.get("mask")) for row in csv.DictReader(handle)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"cannot read '{path}', which should name photographs and masks in the columns photo and mask: {error}"
        ) from error
    named = [(photo, mask) for photo, mask in rows if photo and mask]
    if not named:
        raise TrainingError(f"'{path}' is no CSV with the columns photo and mask")
    return named


def _pair(photo: Path, mask: Path) -> PixelArray:
    """``[H, W, 4]``: the photograph, and its mask as a fourth channel."""
    found = []
    for path, mode in ((photo, "RGB"), (mask, "L")):
        try:
            with Image.open(path) as opened:
                found.append(np.asarray(opened.convert(mode)))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise TrainingError(f"cannot read '{path}': {error}") from error
    if found[0].shape[:2] != found[1].shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in found]
        raise TrainingError(f"the mask '{mask}' is {sizes[1]}, its photograph '{photo.name}' is {sizes[0]}")
    return np.dstack(found)


def generated_mask(rng: np.random.Generator, size: int) -> PixelArray:
    """A made-up region ``[1, size, size]``, uint8: blobs, a half-plane or a box, hard or soft at its edge."""
    kind = rng.integers(3)
    level = (_blobs, _half_plane, _box)[kind](rng, size)  # signed distance or the like, in pixels
    softness = float(rng.choice([1.0, rng.uniform(1.0, SOFTEST)]))
    mask = np.clip(level / softness + 0.5, 0, 1)
    return np.asarray(np.round(255 * mask), np.uint8)[None]


Level = NDArray[np.float64]


def _blobs(rng: np.random.Generator, size: int) -> Level:
    """Smooth noise above a level that leaves between a fifth and four fifths."""
    cells = int(rng.integers(2, 6))
    noise = Image.fromarray(rng.normal(size=(cells + 1, cells + 1)).astype(np.float32))
    smooth = np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), np.float64)
    level = smooth - np.quantile(smooth, rng.uniform(0.2, 0.8))
    slope = float(np.mean(np.hypot(*np.gradient(level))))
    return np.asarray(level / max(slope, 1e-6))


def _half_plane(rng: np.random.Generator, size: int) -> Level:
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3) * size
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(rows * np.sin(angle) + columns * np.cos(angle) - offset)


def _box(rng: np.random.Generator, size: int) -> Level:
    """The inside of a rectangle, or all but it."""
    half = rng.uniform(0.15, 0.4, size=2) * size
    centre = rng.uniform(0.3, 0.7, size=2) * size
    rows, columns = np.mgrid[:size, :size] + 0.5
    inside = np.minimum(half[0] - np.abs(rows - centre[0]), half[1] - np.abs(columns - centre[1]))
    return np.asarray(inside if rng.random() < 0.7 else -inside)

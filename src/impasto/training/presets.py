"""The table of style presets: which artworks each is made of, and what a training sees of them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from impasto.errors import UsageError
from impasto.training.data import CropRule, PictureSet, PixelArray, random_crop

__all__ = ["SEEN_SIDE", "PresetArt", "PresetEntry", "preset_artworks", "preset_table"]

SEEN_SIDE = 288
"""Short side, in pixels, at which ``brush`` looks at a style."""
LONGEST = 2  # longer side of what is seen, in short sides; more is cut off on both ends


@dataclass(frozen=True)
class PresetEntry:
    """One row of the table.

    Attributes:
        name: by which it is called.
        title: what it looks like.
        credit: whose pictures it is made of.
        files: names of the artworks' files.
    """

    name: str
    title: str
    credit: str
    files: tuple[str, ...]

    @property
    def described(self) -> dict[str, str]:
        """What the shipped file of presets says about it."""
        return {"name": self.name, "title": self.title, "credit": self.credit}


def preset_table(path: Path | None = None) -> list[PresetEntry]:
    """The rows of a table of presets (TOML); by default the packaged one.

    Raises:
        UsageError: the file cannot be read or is no such table.
    """
    source = path if path is not None else resources.files("impasto.training") / "recipes/brush-presets.toml"
    try:
        rows = tomllib.loads(source.read_text(encoding="utf-8"))["preset"]
        return [PresetEntry(row["name"], row["title"], row["credit"], tuple(row["files"])) for row in rows]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"'{path}' is no table of presets: {error}") from error


def preset_artworks(entries: Sequence[PresetEntry], artworks: PictureSet) -> list[list[PixelArray]]:
    """The artworks of each preset, ``[H, W, 3]`` uint8.

    Raises:
        UsageError: a preset names a picture that is not among the artworks.
    """
    index = {file: position for position, file in enumerate(artworks.names)}
    found = []
    for entry in entries:
        missing = [file for file in entry.files if file not in index]
        if missing:
            raise UsageError(f"the preset '{entry.name}' names '{missing[0]}', which is not among the artworks")
        found.append([artworks.picture(index[file]) for file in entry.files])
    return found


class PresetArt:
    """Artworks of presets at the size at which the engine looks at styles.

    Args:
        artworks: of each preset, ``[H, W, 3]`` uint8.
    """

    def __init__(self, artworks: Sequence[Sequence[PixelArray]]) -> None:
        self.pictures = [[_seen(picture) for picture in pictures] for pictures in artworks]

    def __len__(self) -> int:
        return len(self.pictures)

    def crop(self, preset: int, rng: np.random.Generator, side: int) -> PixelArray:
        """A random part ``[3, side, side]`` of one of a preset's artworks, at the size at which it is seen."""
        pictures = self.pictures[preset]
        part = min(side / SEEN_SIDE, 1.0)
        crop = random_crop(pictures[int(rng.integers(len(pictures)))], rng, CropRule(side, part, part))
        return crop.transpose(2, 0, 1)


def _seen(picture: PixelArray) -> PixelArray:
    height, width = picture.shape[:2]
    short = min(height, width)
    top, left = (max(0, (side - LONGEST * short) // 2) for side in (height, width))
    middle = picture[top : top + LONGEST * short, left : left + LONGEST * short]
    size = (round(middle.shape[1] * SEEN_SIDE / short), round(middle.shape[0] * SEEN_SIDE / short))
    return np.asarray(Image.fromarray(middle).resize(size, Image.Resampling.LANCZOS))

"""The table of style presets: which artworks each is made of, and what a training sees of them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from impasto.engines.brush import STYLE_SIDE, seen_size
from impasto.errors import UsageError
from impasto.training.data import CropRule, PictureSet, PixelArray, random_crop

__all__ = ["PresetArt", "PresetEntry", "preset_artworks", "preset_table"]


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
        entries = [_entry(row) for row in rows]
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not entries or twice:
            raise ValueError(f"'{twice[0]}' is there twice" if twice else "there is none in it")
    except (OSError, TypeError, ValueError) as error:  # broken TOML and texts are ValueErrors
        raise UsageError(f"'{source}' is no table of presets: {error}") from error
    except KeyError as error:
        raise UsageError(f"'{source}' is no table of presets: {error.args[0]} is missing") from error
    return entries


def _entry(row: dict[str, object]) -> PresetEntry:
    """A row of the table.

    Raises:
        KeyError: a key is missing.
        ValueError: a value is not what it should be.
    """
    files = row["files"]
    if not isinstance(files, list) or not files or not all(isinstance(file, str) for file in files):
        raise ValueError("files is a list of one name or more")
    texts = [row[key] for key in ("name", "title", "credit")]
    if not all(isinstance(text, str) for text in texts) or not row["name"]:
        raise ValueError("name, title and credit are texts")
    name, title, credit = map(str, texts)
    return PresetEntry(name, title, credit, tuple(files))


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
    """Artworks of presets at the size at which ``brush`` looks at styles.

    Args:
        artworks: of each preset, ``[H, W, 3]`` uint8.
    """

    def __init__(self, artworks: Sequence[Sequence[PixelArray]]) -> None:
        self.pictures = [[_seen(picture) for picture in pictures] for pictures in artworks]

    def __len__(self) -> int:
        return len(self.pictures)

    def crop(self, preset: int, rng: np.random.Generator, side: int) -> PixelArray:
        """A random part ``[3, side, side]`` of one of a preset's artworks, mirrored half of the time.

        It is shown as the engine sees it; above 288 pixels enlarged.
        """
        pictures = self.pictures[preset]
        part = min(side / STYLE_SIDE, 1.0)
        crop = random_crop(pictures[int(rng.integers(len(pictures)))], rng, CropRule(side, part, part))
        return crop.transpose(2, 0, 1)


def _seen(picture: PixelArray) -> PixelArray:
    height, width = seen_size(picture.shape[0], picture.shape[1])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))

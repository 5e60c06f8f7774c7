"""Training pictures: folders or tar shards, decoded once, cropped by a seed that depends on the step alone.

Because batch ``n`` is a pure function of ``(seed, n)``, a training run that was killed goes on with exactly the
pictures it would have seen.
"""

from __future__ import annotations

import csv
import io
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import TrainingError

__all__ = ["CropRule", "PictureSet", "PixelArray", "genre_weights", "hsv_jitter", "random_crop"]

PixelArray = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class CropRule:
    """How a crop is taken.

    Attributes:
        size: side of the square crop, in pixels.
        smallest: the crop's smallest side before it is resized to ``size``, as a part of the picture's short side.
        largest: the largest, likewise; 1 is the whole short side.
        jitter: strength of the HSV jitter, 0 for none.
        grey: how often (0 to 1) a crop is made monochrome.
    """

    size: int
    smallest: float = 0.5
    largest: float = 1.0
    jitter: float = 0.0
    grey: float = 0.0


@dataclass(frozen=True)
class _Place:
    """Where the encoded bytes of a picture lie; a length of -1 is the rest of the file."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.path.open("rb") as handle:
            handle.seek(self.offset)
            return handle.read(self.length)


class PictureSet:
    """Pictures from folders (searched recursively) and tar files, with an optional sampling weight for each.

    Only the places of the pictures are kept at first; pixels are decoded at first use and stay in memory while
    ``cache_bytes`` allows. Several threads may ask for pictures at once.

    Args:
        sources: folders and tar files; hidden files are left out.
        weights: sampling weight by file name; a picture that is not named is never drawn. None draws all alike.
        cache_bytes: memory for decoded pictures; by default a quarter of the machine's, 6 GB at most.

    Raises:
        TrainingError: a source does not exist or holds no picture.
    """

    def __init__(
        self, sources: Sequence[Path], *, weights: dict[str, float] | None = None, cache_bytes: int | None = None
    ) -> None:
        self.names: list[str] = []
        self._places: list[_Place] = []
        for source in sources:
            self._find(Path(source))
        if not self._places:
            raise TrainingError(f"no picture found in {', '.join(map(str, sources)) or 'an empty list of sources'}")
        self._decoded: dict[int, PixelArray] = {}
        self._budget = _default_cache() if cache_bytes is None else cache_bytes
        self._lock = threading.Lock()
        chance = np.array([1.0 if weights is None else weights.get(name, 0.0) for name in self.names])
        if chance.sum() <= 0:
            raise TrainingError("the sampling weights name none of the pictures")
        self.chance = chance / chance.sum()

    def __len__(self) -> int:
        return len(self._places)

    def _find(self, source: Path) -> None:
        if source.is_dir():
            for path in sorted(p for p in source.rglob("*") if _is_picture(p) and p.is_file()):
                self._add(path.name, _Place(path, 0, -1))
            return
        try:
            with tarfile.open(source, "r:") as archive:
                for member in archive:
                    if member.isfile() and _is_picture(Path(member.name)):
                        self._add(Path(member.name).name, _Place(source, member.offset_data, member.size))
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"'{source}' is neither a folder nor an uncompressed tar file") from error

    def _add(self, name: str, place: _Place) -> None:
        self.names.append(name)
        self._places.append(place)

    def picture(self, index: int) -> PixelArray:
        """Pixels ``[H, W, 3]``, uint8 sRGB."""
        known = self._decoded.get(index)
        if known is not None:
            return known
        pixels = self._decode(index)  # outside the lock: two threads may decode the same picture, one result is kept
        with self._lock:
            if index not in self._decoded and pixels.nbytes < self._budget:
                self._budget -= pixels.nbytes
                self._decoded[index] = pixels
            return self._decoded.get(index, pixels)

    def _decode(self, index: int) -> PixelArray:
        try:
            with Image.open(io.BytesIO(self._places[index].read())) as opened:
                return np.asarray(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise TrainingError(
                f"cannot read the picture '{self.names[index]}' of '{self._places[index].path}': {error}; "
                "take it out and run again"
            ) from error

    def crops(self, rng: np.random.Generator, count: int, rule: CropRule) -> PixelArray:
        """Random crops ``[count, 3, size, size]``, uint8."""
        if count == 0:
            return np.empty((0, 3, rule.size, rule.size), np.uint8)
        chosen = rng.choice(len(self), size=count, p=self.chance)
        stacked = np.stack([random_crop(self.picture(int(index)), rng, rule) for index in chosen])
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _default_cache() -> int:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        memory = 8_000_000_000
    return min(6_000_000_000, memory // 4)


def random_crop(pixels: PixelArray, rng: np.random.Generator, rule: CropRule) -> PixelArray:
    """One square crop ``[size, size, 3]``: random place and scale, flipped half of the time, jittered as asked."""
    height, width = pixels.shape[:2]
    side = max(8.0, min(height, width) * rng.uniform(rule.smallest, rule.largest))
    top, left = rng.uniform(0, max(height - side, 0)), rng.uniform(0, max(width - side, 0))
    box = (left, top, min(left + side, width), min(top + side, height))
    crop = Image.fromarray(pixels).resize((rule.size, rule.size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rule.jitter > 0:
        crop = hsv_jitter(crop, rng, rule.jitter)
    if rule.grey > 0 and rng.random() < rule.grey:
        crop = crop.convert("L").convert("RGB")
    return np.asarray(crop)


def hsv_jitter(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Hue turned by up to ``strength`` of the circle, saturation and value scaled by up to ``2 * strength``."""
    hue, saturation, value = image.convert("HSV").split()
    turn = int(rng.uniform(-strength, strength) * 255)
    gains = 1 + rng.uniform(-2 * strength, 2 * strength, size=2)
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    saturation = saturation.point([min(255, int(level * gains[0])) for level in range(256)])
    value = value.point([min(255, int(level * gains[1])) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def genre_weights(manifest: Path, *, power: float = 0.5) -> dict[str, float]:
    """Sampling weights from a CSV with columns ``file`` and ``genre``: a genre of ``n`` pictures gets ``n ** power``.

    With ``power`` 1 every picture is as likely as the next, with 0 every genre is; between, rare genres are raised.
    """
    try:
        with manifest.open(newline="", encoding="utf-8") as handle:
            rows: list[dict[str, Any]] = [row for row in csv.DictReader(handle) if row.get("file")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"cannot read the manifest '{manifest}': {error}") from error
    if not rows or "genre" not in rows[0]:
        raise TrainingError(f"'{manifest}' is no CSV with the columns file and genre")
    counts = Counter(row["genre"] for row in rows)
    return {Path(row["file"]).name: counts[row["genre"]] ** (power - 1) for row in rows}

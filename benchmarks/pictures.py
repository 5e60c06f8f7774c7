"""Pictures for the benchmarks: smooth shapes with texture over them, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["photograph", "write_photograph"]

STRIP = 256  # rows made at once, so that a huge picture costs little more than its bytes


def photograph(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """A stand-in for a photograph, ``[H, W, 3]`` uint8: light from one side, waves, stripes and grain.

    A network without branches on its values takes the same time for every picture; what matters is that JPEG decoding
    and the statistics of the features meet both flat and busy regions.
    """
    generator = np.random.default_rng(seed)
    picture = np.empty((height, width, 3), np.uint8)
    across = np.linspace(0, 1, width, dtype=np.float32)[None]  # [1, W]
    for top in range(0, height, STRIP):
        down = (np.arange(top, min(top + STRIP, height), dtype=np.float32) / max(1, height - 1))[:, None]  # [h, 1]
        light = 0.25 + 0.5 * across * (1 - 0.5 * down)
        waves = 0.15 * np.sin(40 * across + 6 * np.sin(9 * down)) * down
        stripes = 0.1 * np.sign(np.sin(300 * (across + 0.6 * down))) * (across > 0.5)
        grain = 0.05 * generator.standard_normal((down.shape[0], width), dtype=np.float32)
        for channel, (share, offset) in enumerate(((1.0, 0.05), (0.85, 0.0), (0.7, 0.15))):
            value = offset + share * (light + grain) + (waves, stripes, waves - stripes)[channel]
            picture[top : top + STRIP, :, channel] = np.clip(value, 0, 1) * 255 + 0.5
    return picture


def write_photograph(path: Path, height: int, width: int) -> None:
    """Write the stand-in as a file; the suffix decides the format."""
    Image.fromarray(photograph(height, width)).save(path, quality=92)

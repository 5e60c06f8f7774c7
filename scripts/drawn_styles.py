"""Style pictures drawn by code, for the pictures of the docs: nothing is downloaded, and they belong to nobody else."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["draw_glass", "draw_ink"]


def draw_glass(side: int = 512, cells: int = 130, seed: int = 3) -> Image.Image:
    """Stained glass: Voronoi cells of saturated colours, each a little uneven, between dark leads."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, side, size=(cells, 2))
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    distances = np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1])  # [H, W, cells]
    nearest = distances.argmin(-1)
    ordered = np.partition(distances, 1, axis=-1)
    gap = ordered[..., 1] - ordered[..., 0]
    palette = np.array([(24, 74, 168), (196, 38, 40), (238, 182, 44), (28, 122, 84), (94, 40, 128), (226, 118, 40)])
    colours = palette[rng.integers(0, len(palette), cells)] * rng.uniform(0.75, 1.2, size=(cells, 1))
    glow = 1.12 - 0.35 * ordered[..., 0] / ordered[..., 0].max() + rng.normal(0, 0.02, (side, side))
    glass = colours[nearest] * glow[..., None]
    lead = np.clip((gap - 3) / 2.5, 0, 1)[..., None]
    picture = lead * glass + (1 - lead) * np.array((18, 16, 20))
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def draw_ink(side: int = 512, seed: int = 7) -> Image.Image:
    """Pen and ink on cream paper: hatching in layers, denser where a smooth field of tones is darker."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray((rng.uniform(0, 1, (6, 6)) * 255).astype(np.uint8))
    tone = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255  # 0 is dark
    picture = Image.new("RGB", (side, side), (244, 238, 224))
    draw = ImageDraw.Draw(picture)
    for angle, limit in ((0.9, 0.85), (-0.5, 0.55), (0.2, 0.35), (1.6, 0.22)):
        for row, column in rng.uniform(0, side, size=(5200, 2)):
            if tone[int(row), int(column)] > limit * rng.uniform(0.6, 1.1):
                continue
            turn = angle + 0.5 * (tone[int(row), int(column)] - 0.5) + rng.normal(0, 0.06)
            length = rng.uniform(9, 24)
            step = np.array([np.cos(turn), np.sin(turn)]) * length / 2
            shade = int(rng.uniform(18, 60))
            line = [column - step[0], row - step[1], column + step[0], row + step[1]]
            draw.line(line, fill=(shade, shade, shade + 6), width=int(rng.choice([1, 1, 2])))
    return picture.filter(ImageFilter.GaussianBlur(0.5))

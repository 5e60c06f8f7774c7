"""The first minute: a photograph in several styles on one sheet, and a cat in the strokes of one picture.

Photographs are those that scikit-image carries; the style picture is painted here, so nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter

import impasto
from impasto.image import Picture, write_picture
from impasto.image.color import resize
from impasto.sheet import label_grid
from impasto.types import FloatArray

FILTERS = ["composition-vii", "sunlit-mill", "starry-pen", "great-wave"]  # of the engine johnson
PRESETS = ["ink-wash", "tarot", "expressionism", "divisionism", "rain-print", "bold-blocks"]  # of the engine brush
WIDTH = 384


def paint_style(side: int = 512, seed: int = 4) -> Image.Image:
    """A night of swirling strokes: short brush marks that follow a flow around a few vortices."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.1, 0.9, size=(5, 2)) * side
    turns = rng.choice([-1.0, 1.0], size=5)
    picture = Image.new("RGB", (side, side), (18, 28, 66))
    draw = ImageDraw.Draw(picture)
    palette = np.array([(24, 42, 104), (38, 78, 156), (70, 122, 190), (132, 172, 204), (236, 196, 84), (246, 226, 150)])
    for width, count in ((13, 2600), (8, 3600), (5, 4200)):
        for x, y in rng.uniform(0, side, size=(count, 2)):
            offsets = np.array([x, y]) - centres
            distance = np.hypot(offsets[:, 0], offsets[:, 1])
            weight = np.exp(-((distance / (0.24 * side)) ** 2)) * turns
            direction = np.array([(-offsets[:, 1] * weight).sum() + 9, (offsets[:, 0] * weight).sum() + 3])
            direction /= np.hypot(*direction) + 1e-6
            glow = 5 * np.exp(-((distance.min() / (0.09 * side)) ** 2)) + rng.normal(0, 0.7) + 1.4
            colour = palette[int(np.clip(glow, 0, 5))] + rng.normal(0, 9, 3)
            length = width * rng.uniform(1.6, 3.2)
            start, end = np.array([x, y]) - direction * length / 2, np.array([x, y]) + direction * length / 2
            fill = tuple(int(v) for v in np.clip(colour, 0, 255))
            draw.line([*start, *end], fill=fill, width=width)
            for tip in (start, end):
                draw.ellipse([*(tip - width / 2), *(tip + width / 2)], fill=fill)
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def paint_sheet(photo: Picture, style: Image.Image) -> FloatArray:
    """The photograph, presets of ``brush``, filters of ``johnson``, and the style of a picture by ``local``."""
    size = (max(1, round(photo.height * WIDTH / photo.width)), WIDTH)
    small = np.clip(resize(photo.pixels, size), 0, 1)
    cells = [("photograph", small)]
    local = impasto.Stylizer.load("local")
    for engine, names in (("brush", PRESETS), ("johnson", FILTERS)):
        stylizer = impasto.Stylizer.load(engine)
        for name in names:
            field = impasto.StyleField.constant(stylizer.encode(name))
            cells.append((name, stylizer.render(small, field).pixels))
    swirls = impasto.StyleField.constant(local.encode(style, name="style.png"))
    cells.append(("style.png, painted by this script", local.render(small, swirls).pixels))
    return label_grid(cells, columns=4)


def main(folder: Path) -> None:
    """Write the pictures and say where they are."""
    begun = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    photo = impasto.read_picture(skimage.data.coffee())
    Image.fromarray(skimage.data.coffee()).save(folder / "photo.png")
    style = paint_style()
    style.save(folder / "style.png")

    write_picture(folder / "sheet.png", paint_sheet(photo, style))
    impasto.stylize(photo.pixels, FILTERS[0], engine="johnson").save(folder / f"coffee-{FILTERS[0]}.jpg")
    count = len(FILTERS) + len(PRESETS) + 2
    print(f"{count} paintings in {time.perf_counter() - begun:.1f} s, now one stroke by stroke ...")
    cat = impasto.stylize(skimage.data.chelsea(), style, engine="quilt")
    cat.save(folder / "cat.png")
    print(f"look at {(folder / 'cat.png').resolve()}")
    print(f"    and {(folder / 'sheet.png').resolve()}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))

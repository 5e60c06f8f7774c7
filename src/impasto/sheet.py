"""Contact sheets: one photograph in many styles, labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.config import StylizeConfig
from impasto.field import StyleCode, StyleField
from impasto.image import Picture
from impasto.image.color import resize
from impasto.ops.tiling import quantised
from impasto.stylizer import Stylizer
from impasto.types import FloatArray, PictureSource

__all__ = ["contact_sheet", "label_grid"]

GAP = 12
LABEL = 26


def contact_sheet(
    stylizer: Stylizer,
    photo: Picture,
    styles: Sequence[PictureSource | StyleCode],
    *,
    names: Sequence[str] | None = None,
    config: StylizeConfig | None = None,
    width: int = 384,
    columns: int = 4,
) -> FloatArray:
    """The photograph and its paintings in a grid, ``[H, W, 3]`` in ``[0, 1]``.

    Args:
        stylizer: engine to paint with.
        photo: the photograph; it is reduced to ``width`` pixels for the sheet.
        styles: presets, pictures or codes.
        names: labels; by default the codes' names.
        config: settings of every painting.
        width: of one cell.
        columns: of the grid.
    """
    height = max(1, round(photo.height * width / photo.width))
    small = np.clip(resize(photo.pixels, (height, width)), 0, 1)
    cells = [("photograph", small)]
    for index, style in enumerate(styles):
        code = stylizer.encode(style, config=config)
        painted = stylizer.render(small, StyleField.constant(code), config).pixels
        cells.append((names[index] if names else code.name, painted))
    return label_grid(cells, columns=columns)


def label_grid(cells: Sequence[tuple[str, FloatArray]], *, columns: int) -> FloatArray:
    """Pictures of one size in a grid on a warm white, each with its label below."""
    height, width = cells[0][1].shape[:2]
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    size = (columns * (width + GAP) + GAP, rows * (height + LABEL + GAP) + GAP)
    sheet = Image.new("RGB", size, (250, 248, 244))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for index, (label, pixels) in enumerate(cells):
        left = GAP + (index % columns) * (width + GAP)
        top = GAP + (index // columns) * (height + LABEL + GAP)
        sheet.paste(Image.fromarray(quantised(pixels, np.uint8)), (left, top))
        draw.text((left + 2, top + height + 5), label, fill=(60, 56, 50), font=font)
    return np.asarray(sheet, np.float32) / np.float32(255)

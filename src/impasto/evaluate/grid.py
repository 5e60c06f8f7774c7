"""The picture grid of an evaluation as one JPEG: a row for each pair, content and style first."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.errors import OutputError
from impasto.evaluate.results import Evaluation
from impasto.evaluate.tasks import CONTROLS, Album
from impasto.types import FloatArray

__all__ = ["jpeg", "save_grid", "shown_pairs"]

CELL = 256
GAP = 10
HEAD = 30
PAPER, INK, FAINT = (250, 248, 244), (48, 44, 40), (226, 221, 212)


def shown_pairs(evaluation: Evaluation, count: int) -> list[tuple[str, str]]:
    """The pairs to show, spread over all of them."""
    pairs = sorted({(record.content, record.style) for record in evaluation.records})
    if len(pairs) <= count:
        return pairs
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).round().astype(int)] if count else []


def save_grid(evaluation: Evaluation, album: Album, path: Path, *, count: int) -> None:
    """Write the grid.

    Args:
        evaluation: what was measured.
        album: its pictures.
        path: a JPEG.
        count: pairs to show.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [row.name for row in evaluation.rows if row.name not in CONTROLS]
    pairs = shown_pairs(evaluation, count)
    heads = ["content", "style", *rows]
    size = (len(heads) * (CELL + GAP) + GAP, HEAD + len(pairs) * (CELL + GAP) + GAP)
    sheet, font = Image.new("RGB", size, PAPER), ImageFont.load_default(15)
    draw = ImageDraw.Draw(sheet)
    for index, head in enumerate(heads):
        draw.text((GAP + index * (CELL + GAP) + 2, 9), _clipped(head, draw, font), fill=INK, font=font)
    for number, pair in enumerate(pairs):
        cells = [*album.sources(pair), *(album.result(row, pair) for row in rows)]
        for index, pixels in enumerate(cells):
            corner = GAP + index * (CELL + GAP), HEAD + number * (CELL + GAP)
            _place(sheet, draw, pixels, corner)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encoded(sheet, 90))
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error


def jpeg(pixels: FloatArray) -> bytes:
    """A picture ``[H, W, 3]`` in ``[0, 1]`` as a JPEG file."""
    return _encoded(_image(pixels), 88)


def _place(sheet: Image.Image, draw: ImageDraw.ImageDraw, pixels: FloatArray | None, corner: tuple[int, int]) -> None:
    """A picture within its cell, its middle in the cell's; an empty frame where there is none."""
    if pixels is None:
        draw.rectangle((*corner, corner[0] + CELL - 1, corner[1] + CELL - 1), outline=FAINT)
        draw.line((*corner, corner[0] + CELL - 1, corner[1] + CELL - 1), fill=FAINT)
        return
    image = _image(pixels)
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    sheet.paste(image, (corner[0] + (CELL - image.width) // 2, corner[1] + (CELL - image.height) // 2))


def _clipped(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while len(text) > 1 and draw.textlength(text, font) > CELL - 4:
        text = text[:-2] + "…"
    return text


def _image(pixels: FloatArray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _encoded(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
    return stream.getvalue()

"""A picture that shows regions: colours over the dimmed photograph, outlines, and a number on each."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from impasto.regions.masks import Regions
from impasto.types import FloatArray

__all__ = ["draw_overlay", "palette", "spot_of"]

SATURATION, LIGHT = 0.75, 0.55
TINT = 0.5  # share of the colour over the photograph
SEARCH_SIDE = 256  # copy on which a number's place is looked for

# Okabe & Ito's colours, which people with colour-blindness tell apart; further ones go round the circle of hues.
_OKABE_ITO = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (130, 130, 130),
)  # fmt: skip
_GOLDEN = 0.618034


def palette(count: int) -> list[tuple[int, int, int]]:
    """``count`` colours that differ well, 8 bits each."""
    colors = list(_OKABE_ITO[:count])
    for index in range(count - len(colors)):
        red, green, blue = colorsys.hls_to_rgb((0.05 + index * _GOLDEN) % 1, LIGHT - 0.12 * (index % 3), SATURATION)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


def draw_overlay(pixels: NDArray[np.uint8], regions: Regions, labels: Sequence[str] | None = None) -> Image.Image:
    """The photograph with its regions in colours, outlined and labelled.

    Args:
        pixels: ``[H, W, 3]``.
        regions: of the same size.
        labels: short texts for the regions, in their order; by default numbers from 1.

    Returns:
        An RGB picture of the same size.
    """
    colors = palette(len(regions))
    texts = [str(number) for number in range(1, len(regions) + 1)] if labels is None else list(labels)
    canvas = _dimmed(pixels)
    for color, name in zip(colors, regions, strict=True):
        canvas += TINT * regions[name][..., None] * (np.array(color, np.float32) - canvas)
    image = Image.fromarray(np.round(np.clip(canvas, 0, 255)).astype(np.uint8))
    thickness = max(1, round(max(image.size) / 700))
    for color, name in zip(colors, regions, strict=True):
        outline = _outline(regions[name], thickness)
        image.paste(
            tuple(channel // 3 for channel in color), mask=outline.filter(ImageFilter.MaxFilter(2 * thickness + 1))
        )
        image.paste((255, 255, 255), mask=outline)
    for color, text, name in zip(colors, texts, regions, strict=True):
        _write(image, text, spot_of(regions[name]), color)
    return image


def _dimmed(pixels: NDArray[np.uint8]) -> FloatArray:
    """Paler and greyer, so that the regions' colours stand out."""
    values = pixels.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    return np.asarray(40 + 0.75 * (0.5 * values + 0.5 * grey), np.float32)


def _outline(mask: FloatArray, thickness: int) -> Image.Image:
    inside = Image.fromarray((mask >= 0.5).astype(np.uint8) * 255)
    inner = inside.filter(ImageFilter.MinFilter(2 * thickness + 1))
    return Image.fromarray(np.where(np.asarray(inside) != np.asarray(inner), 255, 0).astype(np.uint8))


def spot_of(mask: FloatArray) -> tuple[float, float]:
    """The place ``(x, y)`` inside a region that is furthest from its border, to within some pixels.

    The region is eaten away from all sides, the picture's border included, until nothing is left.
    """
    height, width = mask.shape
    factor = min(1.0, SEARCH_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(Image.fromarray(np.asarray(mask, np.float32)).resize(size, Image.Resampling.BOX))
    left = np.pad(small >= 0.5 * float(small.max()), 1)
    eaten = left
    while eaten.any():
        left = eaten
        shrunk = Image.fromarray(left).convert("L").filter(ImageFilter.MinFilter(3))
        eaten = np.asarray(shrunk) > 0
        eaten = eaten & np.pad(np.ones((left.shape[0] - 2, left.shape[1] - 2), bool), 1)
    rows, columns = np.nonzero(left)
    middle = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return (columns[middle] - 0.5) / factor, (rows[middle] - 0.5) / factor


def _write(image: Image.Image, text: str, spot: tuple[float, float], color: tuple[int, int, int]) -> None:
    """A dark label with a light text, framed in the region's colour, inside the picture."""
    height = max(11, round(max(image.size) / 36))
    font = ImageFont.load_default(height)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    room = height // 3
    width, tall = right - left + 2 * room, bottom - top + 2 * room
    width = max(width, tall)
    x = min(max(0, spot[0] - width / 2), max(0, image.width - width))
    y = min(max(0, spot[1] - tall / 2), max(0, image.height - tall))
    box = (x, y, x + width, y + tall)
    draw.rounded_rectangle(box, radius=tall / 2.5, fill=(20, 20, 20), outline=color, width=max(1, height // 9))
    draw.text((x + width / 2, y + tall / 2), text, font=font, fill=(255, 255, 255), anchor="mm")

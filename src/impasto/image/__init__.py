"""Pictures: reading, writing, colour and size. Pure functions on numpy arrays; no torch."""

from impasto.image.color import (
    LUMA_WEIGHTS,
    color_transfer,
    luminance,
    match_color_statistics,
    preserve_luminance_only,
    resize,
)
from impasto.image.picture import Picture, PictureInfo
from impasto.image.reading import DEFAULT_PIXEL_LIMIT, read_mask, read_picture, read_recipe
from impasto.image.writing import write_picture

__all__ = [
    "DEFAULT_PIXEL_LIMIT",
    "LUMA_WEIGHTS",
    "Picture",
    "PictureInfo",
    "color_transfer",
    "luminance",
    "match_color_statistics",
    "preserve_luminance_only",
    "read_mask",
    "read_picture",
    "read_recipe",
    "resize",
    "write_picture",
]

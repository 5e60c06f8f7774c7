"""Cutting objects out of a picture for the studio: boxes and clicks to a mask, by :mod:`impasto.regions`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from impasto.errors import UsageError
from impasto.image import Picture, resize
from impasto.ops.tiling import quantised
from impasto.types import FloatArray

__all__ = ["can_segment", "segment"]


def can_segment() -> bool:
    """Whether the packages that cut objects out are installed."""
    return importlib.util.find_spec("cv2") is not None and importlib.util.find_spec("skimage") is not None


def segment(picture: Picture, box: Sequence[float] | None, points: Sequence[dict[str, Any]]) -> FloatArray:
    """The mask ``[H, W]`` in ``[0, 1]`` of an object, its border on the picture's edges.

    Clicks decide what is found; a box beside them says how far it may reach. A box alone finds what fills it.

    Args:
        picture: the photograph.
        box: left, top, right, bottom in pixels around the object, or None.
        points: clicks with ``x``, ``y`` and whether they belong to the object (``keep``).

    Raises:
        UsageError: a box or a click outside of the picture, or nothing that belongs to the object.
        FieldError: nothing can be found there.
        MissingExtraError: OpenCV or scikit-image is not installed.
    """
    from impasto.regions.cutting import WORKING_SIDE, cut_from_box, cut_from_clicks, refined

    _check(picture.size, box, points)
    factor = min(1.0, WORKING_SIDE / max(picture.size))
    size = max(1, round(picture.height * factor)), max(1, round(picture.width * factor))
    small = quantised(np.clip(resize(picture.pixels, size), 0, 1), np.uint8)
    scale_x, scale_y = size[1] / picture.width, size[0] / picture.height
    frame = None if box is None else (box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y)
    inside = [(point["x"] * scale_x, point["y"] * scale_y) for point in points if point["keep"]]
    outside = [(point["x"] * scale_x, point["y"] * scale_y) for point in points if not point["keep"]]
    if frame is not None and not points:
        return refined(cut_from_box(small, frame, about="box"), picture.pixels)
    if frame is not None and not inside:
        inside = [((frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2)]
    found = cut_from_clicks(small, inside, outside, about="clicks")
    if frame is not None:
        rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
        found &= (columns > frame[0]) & (columns < frame[2]) & (rows > frame[1]) & (rows < frame[3])
    return refined(found, picture.pixels)


def _check(size: tuple[int, int], box: Sequence[float] | None, points: Sequence[dict[str, Any]]) -> None:
    height, width = size
    if box is None and not any(point["keep"] for point in points):
        raise UsageError("say what belongs to the object: a box, or a point to keep")
    if box is not None:
        left, top, right, bottom = box
        if not (left >= 0 and left + 2 <= right <= width and top >= 0 and top + 2 <= bottom <= height):
            raise UsageError(f"the box {list(box)} does not lie in the picture of {height} x {width} (height x width)")
    for point in points:
        if not (0 <= point["x"] <= width and 0 <= point["y"] <= height):
            raise UsageError(
                f"the point ({point['x']:g}, {point['y']:g}) lies outside of the picture of {height} x {width}"
            )

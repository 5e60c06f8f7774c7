"""Finding what people want spared from a style: faces and text. Offline, without weights of this project.

Faces: scikit-image's cascade of local binary patterns (Liao et al. 2007, trained by OpenCV), on the upright picture and
on two tilted copies; what it finds must have the colours of skin (Chai & Ngan 1999, "Face segmentation using skin-color
map in videophone applications", IEEE TCSVT 9(4)).

Text: parts that stand out from their surroundings and could be letters, by their shape and the evenness of their
stroke's width (the idea of Epshtein, Ofek, Wexler 2010, "Detecting text in natural scenes with stroke width transform",
CVPR), in rows of letters of like height, stroke and tone.

Both miss things: profiles and small faces, handwriting and single letters.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.regions.cutting import Bitmap, Pixels, optional
from impasto.types import FloatArray

__all__ = ["Ellipse", "TextBox", "box_mask", "ellipse_mask", "find_faces", "find_text"]

FACE_SIDE = 448  # longer side of the copy on which faces are looked for
FACE_LEAST = 24  # smallest face in pixels of that copy: what the cascade was trained on
FACE_TILTS = (0, -20, 20)  # degrees
FACE_SKIN = 0.4  # least share of skin colour in the middle of a face
FACE_GREY = 4.0  # pictures with less mean chroma (of 128) have no colour of skin to ask for
FACE_WIDTH, FACE_HEIGHT = 0.5, 0.7  # half axes of the ellipse over a face, in sides of the cascade's square
TEXT_SIDE = 1000
TEXT_WINDOWS = (31, 101)  # sides of the windows that letters stand out from, in pixels of that copy
TEXT_CONTRAST = 16.0  # least difference to the window's mean, of 255
TEXT_DEVIATION = 0.5  # and in the window's standard deviations
TEXT_CLEARNESS = 1.8  # least difference of a letter's and its surroundings' tone, in sums of their deviations
TEXT_LETTERS = 4  # fewest letters of a row
TEXT_STROKE_SPREAD = 0.55  # largest deviation of the stroke's width in a letter, in mean widths


# -- faces -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ellipse:
    """An upright ellipse: centre and half axes, in pixels."""

    x: float
    y: float
    across: float
    down: float


def find_faces(pixels: Pixels) -> list[Ellipse]:
    """Faces that look at the camera, ears, forehead and chin included.

    Args:
        pixels: ``[H, W, 3]``.

    Returns:
        Ellipses in pixels of the picture; none where no face is found.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    height, width = pixels.shape[:2]
    factor = min(1.0, FACE_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    if min(size) < FACE_LEAST:
        return []
    skin = _skin(small)
    found: list[tuple[float, float, float]] = []
    for tilt in FACE_TILTS:
        for x, y, side in _squares(small, tilt):
            if _share(skin, x, y, side) >= FACE_SKIN and not any(_same(x, y, side, *other) for other in found):
                found.append((x, y, side))
    return [
        Ellipse(x / factor, y / factor, FACE_WIDTH * side / factor, FACE_HEIGHT * side / factor) for x, y, side in found
    ]


@functools.cache
def _cascade() -> Any:
    data = optional("skimage.data", "protecting faces")
    feature = optional("skimage.feature", "protecting faces")
    return feature.Cascade(data.lbp_frontal_face_cascade_filename())


def _squares(image: Image.Image, tilt: int) -> list[tuple[float, float, float]]:
    """Centre and side of the cascade's squares, on the picture turned by ``tilt`` degrees, turned back."""
    turned = np.asarray(image.rotate(-tilt, Image.Resampling.BILINEAR) if tilt else image)
    least = (FACE_LEAST, FACE_LEAST)
    largest = (min(image.size), min(image.size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pictures without any candidate
        boxes = _cascade().detect_multi_scale(
            np.ascontiguousarray(turned),
            scale_factor=1.2,
            step_ratio=1.3,
            min_size=least,
            max_size=largest,
            min_neighbor_number=4 if tilt else 3,
        )
    angle, centre = np.radians(-tilt), np.array([image.width, image.height]) / 2
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result = []
    for box in boxes:
        x, y = back @ (np.array([box["c"] + box["width"] / 2, box["r"] + box["height"] / 2]) - centre) + centre
        result.append((float(x), float(y), float(box["width"])))
    return result


def _skin(image: Image.Image) -> Bitmap:
    """Pixels that can be skin, of any tone: it varies in brightness far more than in Cb and Cr; all of a grey one."""
    chroma = np.asarray(image.convert("YCbCr"), np.int16)[..., 1:]
    if float(np.abs(chroma - 128).mean()) < FACE_GREY:
        return np.ones(chroma.shape[:2], bool)
    blue, red = chroma[..., 0], chroma[..., 1]
    skin: Bitmap = (blue >= 77) & (blue <= 127) & (red >= 133) & (red <= 177)
    return skin


def _share(skin: Bitmap, x: float, y: float, side: float) -> float:
    rows = slice(max(0, int(y - 0.4 * side)), max(0, int(y + 0.4 * side)))
    columns = slice(max(0, int(x - 0.3 * side)), max(0, int(x + 0.3 * side)))
    part = skin[rows, columns]
    return float(part.mean()) if part.size else 0.0


def _same(x: float, y: float, side: float, other_x: float, other_y: float, other_side: float) -> bool:
    return bool(np.hypot(x - other_x, y - other_y) < 0.5 * max(side, other_side))


def ellipse_mask(ellipses: list[Ellipse], size: tuple[int, int]) -> FloatArray:
    """Soft ellipses ``[H, W]``: 1 inside, and a smooth fall to 0 within a quarter of the half axes around them."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5
    mask = np.zeros(size, np.float32)
    for one in ellipses:
        radius = np.sqrt(((x - one.x) / one.across) ** 2 + ((y - one.y) / one.down) ** 2)
        np.maximum(mask, _fall((radius - 1) / 0.25), out=mask)
    return mask


def _fall(distance: FloatArray) -> FloatArray:
    """1 up to 0, 0 from 1 on, a smooth step between."""
    share = np.clip(1 - distance, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


# -- text --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextBox:
    """A row of letters: left, top, right, bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class _Letter:
    left: int
    top: int
    right: int
    bottom: int
    stroke: float
    tone: float

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def find_text(pixels: Pixels) -> list[TextBox]:
    """Rows of at least four printed letters, level or nearly so.

    Args:
        pixels: ``[H, W, 3]``.

    Returns:
        Boxes around the rows, in pixels of the picture; none where no text is found.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    height, width = pixels.shape[:2]
    factor = min(2.0, TEXT_SIDE / max(height, width))  # small letters are enlarged
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if min(size) < 8:
        return []
    grey = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS).convert("L"))
    boxes = []
    for polarity in (grey, 255 - grey):
        for window in TEXT_WINDOWS:
            for row in _rows(_letters(polarity, window)):
                room = 0.3 * float(np.median([one.height for one in row]))
                left, top = min(one.left for one in row) - room, min(one.top for one in row) - room
                right, bottom = max(one.right for one in row) + room, max(one.bottom for one in row) + room
                boxes.append(TextBox(left / factor, top / factor, right / factor, bottom / factor))
    return boxes


def _letters(grey: NDArray[np.uint8], window: int) -> list[_Letter]:
    """Connected dark parts with the shape of a letter; dark is what lies well below the mean of a window around it."""
    cv2 = optional("cv2", "protecting text")
    values = grey.astype(np.float32)
    mean = cv2.boxFilter(values, -1, (window, window), borderType=cv2.BORDER_REFLECT)
    square = cv2.boxFilter(values * values, -1, (window, window), borderType=cv2.BORDER_REFLECT)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    dark = (mean - values > np.maximum(TEXT_CONTRAST, TEXT_DEVIATION * deviation)).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    tones = np.bincount(labels.ravel(), values.ravel(), count) / np.bincount(labels.ravel(), minlength=count)
    letters = []
    for number in range(1, count):
        left, top, width, height, _ = (int(value) for value in boxes[number])
        if not (8 <= height <= window and 2 <= width <= 1.8 * height and width >= 0.08 * height):
            continue
        bitmap = np.pad((labels[top : top + height, left : left + width] == number).astype(np.uint8), 1)
        stroke = _even_stroke(bitmap)
        if stroke is not None and _stands_out(values, bitmap, left, top):
            letters.append(_Letter(left, top, left + width, top + height, stroke, float(tones[number])))
    return letters


def _even_stroke(bitmap: NDArray[np.uint8]) -> float | None:
    """The width of a region's stroke, or None where it is too uneven, or the region too full or empty, for a letter."""
    cv2 = optional("cv2", "protecting text")
    filled = bitmap[1:-1, 1:-1].mean()
    slim = bitmap.shape[1] < 0.35 * bitmap.shape[0]  # an I or l fills its box
    if filled < 0.15 or (filled > 0.9 and not slim):
        return None
    depth = cv2.distanceTransform(bitmap, cv2.DIST_L2, 3)
    ridge = (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)) - 1e-3) & (bitmap > 0)  # about the skeleton
    widths = 2 * depth[ridge]
    mean = float(widths.mean())
    if float(widths.std()) > TEXT_STROKE_SPREAD * mean or mean > 0.45 * bitmap.shape[0]:
        return None
    return mean


def _stands_out(values: FloatArray, bitmap: NDArray[np.uint8], left: int, top: int) -> bool:
    """Ink on paper: the tones of a letter and of the ring around it differ by more than they vary. Leaves do not."""
    cv2 = optional("cv2", "protecting text")
    wide = np.pad(bitmap, 2)
    near, far = (cv2.dilate(wide, np.ones((side, side), np.uint8)) for side in (3, 7))  # the edge itself is blurred
    core = cv2.erode(wide, np.ones((2, 2), np.uint8))
    rows = np.clip(np.arange(wide.shape[0]) + top - 3, 0, values.shape[0] - 1)
    columns = np.clip(np.arange(wide.shape[1]) + left - 3, 0, values.shape[1] - 1)
    around = values[np.ix_(rows, columns)]
    ink, paper = around[core > 0] if core.any() else around[wide > 0], around[(far > 0) & (near == 0)]
    return bool(paper.mean() - ink.mean() > TEXT_CLEARNESS * (paper.std() + ink.std()))


def _rows(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters that follow each other: like height, stroke and tone, on a level, about a letter's width apart."""
    ordered = sorted(letters, key=lambda one: one.left)
    parent = list(range(len(ordered)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for i, first in enumerate(ordered):
        for j in range(i + 1, len(ordered)):
            second = ordered[j]
            if second.left - first.right > 1.5 * max(first.height, second.height):
                if second.left - first.left > 6 * first.height + first.width:
                    break
                continue
            if _follow(first, second):
                parent[root(j)] = root(i)
    rows: dict[int, list[_Letter]] = {}
    for index, letter in enumerate(ordered):
        rows.setdefault(root(index), []).append(letter)
    return [row for row in rows.values() if _is_text(row)]


def _follow(first: _Letter, second: _Letter) -> bool:
    tall, short = max(first.height, second.height), min(first.height, second.height)
    gap = second.left - first.right
    return (
        tall <= 2.0 * short
        and -0.3 * short <= gap <= 1.0 * tall
        and abs(first.bottom - second.bottom) <= 0.4 * tall
        and max(first.stroke, second.stroke) <= 2.0 * min(first.stroke, second.stroke)
        and abs(first.tone - second.tone) <= 40
    )


def _is_text(row: list[_Letter]) -> bool:
    """Long enough, on one line, of one hand; and no fence: letters differ in width, its bars do not."""
    if len(row) < TEXT_LETTERS:
        return False
    widths, heights, strokes, bottoms, places = np.array(
        [(one.width, one.height, one.stroke, one.bottom, one.left) for one in row], np.float64
    ).T
    slope = np.median(np.diff(bottoms) / np.maximum(np.diff(places), 1))
    level = bottoms - slope * places
    off = np.median(np.abs(level - np.median(level)))  # descenders are the smaller half
    return bool(
        off <= 0.12 * heights.mean()
        and heights.std() <= 0.35 * heights.mean()
        and strokes.std() <= 0.35 * strokes.mean()
        and (widths / heights).mean() >= 0.25
        and widths.std() > 0.1 * widths.mean()
    )


def box_mask(boxes: list[TextBox], size: tuple[int, int]) -> FloatArray:
    """Soft boxes ``[H, W]``: 1 inside, and a smooth fall to 0 within a third of their height around them."""
    y, x = np.arange(size[0], dtype=np.float32) + 0.5, np.arange(size[1], dtype=np.float32) + 0.5
    mask = np.zeros(size, np.float32)
    for box in boxes:
        reach = max(1.0, (box.bottom - box.top) / 3)
        across = np.maximum(np.maximum(box.left - x, x - box.right), 0) / reach
        down = np.maximum(np.maximum(box.top - y, y - box.bottom), 0) / reach
        np.maximum(mask, _fall(np.sqrt(down[:, None] ** 2 + across[None] ** 2)), out=mask)
    return mask

"""Regions from annotation files: Labelme JSON, and COCO with polygons or run lengths.

Formats: Labelme 5 writes one JSON file per picture, with ``shapes`` of points ``[x, y]``. COCO
(https://cocodataset.org/#format-data) describes many pictures in one file; a ``segmentation`` is a list of polygons
``[x0, y0, x1, y1, ...]``, or run lengths over the columns of the mask, first of zeros, then of ones, and so on, either
as a list of numbers or packed into a string.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import FieldError, ImageError, UnknownNameError
from impasto.image import read_mask
from impasto.regions.masks import VISIBLE
from impasto.regions.polygons import circle_points, polygon_mask, rectangle_points, union
from impasto.types import FloatArray

__all__ = ["coco_mask", "decode_rle", "labelme_masks", "unpack_counts"]

_SHAPE_SLACK = 0.01  # how much the aspect ratio of an annotated picture may differ


def labelme_masks(path: str | PathLike[str], size: tuple[int, int]) -> dict[str, FloatArray]:
    """The regions of a Labelme file, one per label, in the file's order; shapes of one label are joined.

    Polygons, rectangles, circles (centre and a point of the edge) and masks are read. Where the annotated picture had
    another size but the same shape, the points are scaled.

    Args:
        path: the JSON file.
        size: ``(height, width)`` of the picture.

    Returns:
        Masks ``[H, W]`` in ``[0, 1]`` by label.

    Raises:
        FieldError: no Labelme file, made for a picture of another shape, or a shape that has no area, lies outside of
            the picture, or is of a kind without area (a line, a point). The message names file and label.
    """
    document = _read_json(path, "Labelme")
    shapes = document.get("shapes")
    if not isinstance(shapes, list):
        raise FieldError(f"'{path}' is no Labelme file: it has no list of 'shapes'")
    if not shapes:
        raise FieldError(f"the Labelme file '{path}' holds no shape")
    scale = _scale(document.get("imageHeight"), document.get("imageWidth"), size, f"'{path}'")
    parts: dict[str, list[FloatArray]] = {}
    for index, shape in enumerate(shapes):
        label = str(shape.get("label", "")) if isinstance(shape, dict) else ""
        about = f"shape {index + 1} ('{label}') of '{path}'"
        try:
            mask = _labelme_shape(shape, scale, size, about)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise FieldError(f"{about} cannot be understood: {error}") from error
        parts.setdefault(label, []).append(mask)
    return {label: union(masks) for label, masks in parts.items()}


def _labelme_shape(
    shape: Mapping[str, Any], scale: tuple[float, float], size: tuple[int, int], about: str
) -> FloatArray:
    kind = shape.get("shape_type") or "polygon"
    points = np.asarray(shape["points"], np.float64).reshape(-1, 2) * scale
    if not np.isfinite(points).all():
        raise FieldError(f"{about} has corners that are no numbers")
    if kind == "mask":
        return _labelme_bitmap(shape, points, size, about)
    if kind == "rectangle":
        low, high = points.min(axis=0), points.max(axis=0)
        points = rectangle_points(low[0], low[1], high[0], high[1])
    elif kind == "circle":
        (x, y), edge = points[0], points[1]
        points = circle_points(x, y, float(np.hypot(*(edge - points[0]))))
    elif kind != "polygon":
        raise FieldError(f"{about} is a {kind}, which has no area; draw a polygon, rectangle or circle")
    return _outline(points, size, about)


def _labelme_bitmap(
    shape: Mapping[str, Any], points: NDArray[np.float64], size: tuple[int, int], about: str
) -> FloatArray:
    """A bitmap between two corners, both inside, as PNG in base64."""
    try:
        bitmap = read_mask(base64.b64decode(shape["mask"], validate=True), None)
    except (binascii.Error, ImageError) as error:
        raise FieldError(f"{about} holds no readable mask: {error}") from error
    height, width = size
    (left, top), (right, bottom) = np.round(points.min(axis=0)), np.round(points.max(axis=0))
    room = (max(1, int(bottom - top) + 1), max(1, int(right - left) + 1))
    if bitmap.shape != room:  # the picture was scaled
        bitmap = np.asarray(Image.fromarray(bitmap).resize(room[::-1], Image.Resampling.BILINEAR), np.float32)
    mask = np.zeros((height, width), np.float32)
    first_row, first_column = max(0, int(top)), max(0, int(left))
    last_row, last_column = min(height, int(top) + room[0]), min(width, int(left) + room[1])
    if first_row >= last_row or first_column >= last_column:
        raise FieldError(f"{about} lies outside of the picture of {height} x {width} pixels (height x width)")
    part = bitmap[first_row - int(top) : last_row - int(top), first_column - int(left) : last_column - int(left)]
    mask[first_row:last_row, first_column:last_column] = part > 0 if part.max() <= 1 / 255 else part
    if mask.max() <= VISIBLE:
        raise FieldError(f"{about} is empty")
    return mask


def coco_mask(path: str | PathLike[str], key: str, size: tuple[int, int], picture: str) -> FloatArray:
    """One region of a COCO file.

    Args:
        path: the JSON file with ``images``, ``annotations`` and ``categories``.
        key: an annotation's id, or a category's name: then all annotations of it on the picture are joined.
        size: ``(height, width)`` of the picture.
        picture: the picture's file name, by which a category's annotations are found if the file describes several.

    Returns:
        ``[H, W]`` in ``[0, 1]``.

    Raises:
        UnknownNameError: no annotation and no category of that name on this picture.
        FieldError: no COCO file, one about other pictures or a picture of another shape, or a segmentation that cannot
            be decoded, has no area or lies outside.
    """
    document = _read_json(path, "COCO")
    annotations, images = document.get("annotations"), document.get("images", [])
    if not isinstance(annotations, list) or not isinstance(images, list):
        raise FieldError(f"'{path}' is no COCO file: it has no list of 'annotations'")
    try:
        names = {entry["id"]: str(entry["name"]) for entry in document.get("categories", [])}
        sizes = {entry["id"]: (entry.get("height"), entry.get("width")) for entry in images}
        chosen = [entry for entry in annotations if str(entry.get("id")) == key]
        if not chosen:
            image = _coco_image(images, picture, path)
            here = [entry for entry in annotations if image is None or entry.get("image_id") == image]
            chosen = [entry for entry in here if names.get(entry.get("category_id")) == key]
            if not chosen:
                present = {names.get(entry.get("category_id"), "") for entry in here} - {""}
                known = sorted(present | {str(entry.get("id")) for entry in here})
                raise UnknownNameError(f"annotation or category on '{picture}' in '{path}'", key, known)
        return union([_coco_annotation(entry, sizes.get(entry.get("image_id")), size, path) for entry in chosen])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FieldError(f"the COCO file '{path}' cannot be understood: {type(error).__name__}: {error}") from error


def _coco_image(images: Sequence[Mapping[str, Any]], picture: str, path: str | PathLike[str]) -> Any:
    """The id of the picture: the one of its file name, or the only one there is; None if the file lists none."""
    name = Path(picture).name
    found = [entry["id"] for entry in images if PureWindowsPath(str(entry.get("file_name", ""))).name == name]
    if found or len(images) <= 1:
        return found[0] if found else (images[0]["id"] if images else None)
    raise FieldError(f"'{path}' describes {len(images)} pictures, none called '{name}'; name an annotation by its id")


def _coco_annotation(
    entry: Mapping[str, Any], annotated: tuple[Any, Any] | None, size: tuple[int, int], path: str | PathLike[str]
) -> FloatArray:
    about = f"annotation {entry.get('id')} of '{path}'"
    outline = entry.get("segmentation")
    if isinstance(outline, dict):
        bitmap = decode_rle(outline, about)
        _scale(bitmap.shape[0], bitmap.shape[1], size, about)
        return read_mask(bitmap, size)
    if not isinstance(outline, list) or not outline:
        raise FieldError(f"{about} has no segmentation")
    height, width = annotated or (None, None)
    scale = _scale(height, width, size, about)
    return union([_outline(np.asarray(part, np.float64).reshape(-1, 2) * scale, size, about) for part in outline])


def decode_rle(encoded: Mapping[str, Any], about: str = "the run lengths") -> NDArray[np.bool_]:
    """A COCO mask from its run lengths ``{"size": [height, width], "counts": ...}``, packed or not.

    Returns:
        ``[H, W]``.

    Raises:
        FieldError: counts that are negative, damaged, or do not add up to the size.
    """
    try:
        height, width = (int(side) for side in encoded["size"])
        counts = encoded["counts"]
        lengths = unpack_counts(counts) if isinstance(counts, str | bytes) else [int(count) for count in counts]
    except (KeyError, TypeError, ValueError) as error:
        raise FieldError(f"{about} hold no mask: {error}") from error
    if height < 1 or width < 1 or any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise FieldError(f"{about}: runs of {sum(lengths)} pixels do not make a mask of {height} x {width}")
    values = np.arange(len(lengths)) % 2 == 1  # zeros first
    return np.repeat(values, lengths).reshape(width, height).T  # runs go down the columns


def unpack_counts(packed: str | bytes) -> list[int]:
    """The run lengths in COCO's string: numbers in groups of 5 bits, lowest first, from the character ``0`` on.

    Bit 5 of a group says that more follow, bit 4 of the last one is the sign; from the third run on a number is the
    difference to the run two before.

    Raises:
        ValueError: a character that does not occur, or a string that ends inside a number.
    """
    codes = packed.encode("ascii") if isinstance(packed, str) else packed
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        group = code - 48
        if not 0 <= group < 64:
            raise ValueError(f"the character {chr(code)!r} is no part of packed run lengths")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the packed run lengths end in the middle of a number")
    return counts


# -- helpers -----------------------------------------------------------------------------------------------------------


def _read_json(path: str | PathLike[str], kind: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FieldError(f"the {kind} file '{path}' cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise FieldError(f"'{path}' is no {kind} file: {error}") from error
    if not isinstance(document, dict):
        raise FieldError(f"'{path}' is no {kind} file: it holds a {type(document).__name__}")
    return document


def _scale(height: Any, width: Any, size: tuple[int, int], about: str) -> tuple[float, float]:
    """Factors for x and y from the annotated picture to this one.

    Raises:
        FieldError: the two have different shapes.
    """
    if not height or not width:
        return 1.0, 1.0
    across, down = size[1] / float(width), size[0] / float(height)
    if abs(across / down - 1) > _SHAPE_SLACK:
        raise FieldError(
            f"{about} was drawn on a picture of {height} x {width} pixels (height x width), this one has "
            f"{size[0]} x {size[1]}: the shapes differ"
        )
    return across, down


def _outline(points: NDArray[np.float64], size: tuple[int, int], about: str) -> FloatArray:
    """A polygon's mask.

    Raises:
        FieldError: fewer than three corners, no area, or nothing inside of the picture.
    """
    height, width = size
    if len(points) < 3:
        raise FieldError(f"{about} has {len(points)} corners; a polygon needs three")
    if not np.isfinite(points).all():
        raise FieldError(f"{about} has corners that are no numbers")
    low, high = points.min(axis=0), points.max(axis=0)
    if float((high - low).min()) == 0:
        raise FieldError(f"{about} has no area")
    if (high <= 0).any() or low[0] >= width or low[1] >= height:
        raise FieldError(f"{about} lies outside of the picture of {height} x {width} pixels (height x width)")
    mask = polygon_mask(points, size)
    if float(mask.max()) <= VISIBLE:
        raise FieldError(f"{about} has no area")
    return mask

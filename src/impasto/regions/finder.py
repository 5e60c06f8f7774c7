"""Finding regions on one picture: from what was written to soft masks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import FieldError, UnknownNameError
from impasto.image import Picture, read_mask, read_picture
from impasto.ops.tiling import quantised, to_float
from impasto.regions.annotations import coco_mask, labelme_masks
from impasto.regions.masks import VISIBLE, Regions
from impasto.regions.polygons import polygon_mask, rectangle_points
from impasto.regions.sam import SamView, load_sam
from impasto.regions.settings import RegionConfig
from impasto.regions.specs import Coordinate, RegionSpec, check_coordinate, parse_numbers, parse_region
from impasto.types import FloatArray, PictureSource

__all__ = ["RegionFinder", "mask_digest"]

PATCHES = 400  # superpixels that automatic segments are merged from
_COLOR_SLACK = 0.15  # a mask with more chroma than this in some of its pixels is a coloured picture
_COLORED_SHARE = 0.005


class RegionFinder:
    """Finds regions on one picture. What is costly (segments, the foreground, SAM's view) is computed once.

    Args:
        picture: the picture.
        config: settings.
    """

    def __init__(self, picture: Picture, config: RegionConfig | None = None) -> None:
        self.picture = picture
        self.config = config or RegionConfig()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.picture.size

    def find(self, region: str | RegionSpec | PictureSource) -> FloatArray:
        """The mask of one region, before it is stacked and feathered.

        Args:
            region: a text as :func:`~impasto.regions.specs.parse_region` reads it, or a mask of the picture's shape.

        Returns:
            ``[H, W]`` in ``[0, 1]``.

        Raises:
            FieldError: the region is empty, lies outside, does not fit the picture, or cannot be found on it.
            UsageError: the text cannot be understood.
            ImageError: the mask's file cannot be read.
            MissingExtraError: it needs an optional part.
        """
        if isinstance(region, str):
            region = parse_region(region)
        if not isinstance(region, RegionSpec):
            name = str(region) if isinstance(region, PathLike) else "<mask>"
            return self._checked(self._mask(region, name), name)
        finders: dict[str, Callable[[RegionSpec], FloatArray]] = {
            "file": lambda spec: self._mask(spec.argument, spec.text),
            "box": self._box,
            "click": self._clicks,
            "rectangle": self._rectangle,
            "polygon": self._polygon,
            "labelme": self._labelme,
            "coco": self._coco,
            "segment": self._segment,
            "foreground": lambda spec: self.foreground,
            "background": lambda spec: np.asarray(1 - self.foreground, np.float32),
            "faces": lambda spec: self.faces,
            "text": lambda spec: self.text,
        }
        return self._checked(finders[region.kind](region), region.text)

    def feathered(self, regions: Regions) -> Regions:
        """The regions with borders as soft as the settings say."""
        guide = self._pixels if self.config.feather and self.config.feather_mode == "guided" else None
        return regions.feathered(self.config.feather, mode=self.config.feather_mode, guide=guide)

    # -- what the picture holds ----------------------------------------------------------------------------------------

    @cached_property
    def segment_numbers(self) -> NDArray[np.intp]:
        """Automatic segments on the working copy, ``[h, w]``, numbered from 1, the largest first."""
        from impasto.regions.segments import merge_superpixels, superpixels

        return merge_superpixels(superpixels(self._small, PATCHES), self.config.segments)

    @property
    def segment_count(self) -> int:
        """How many segments there are: as many as asked for, fewer on small or even pictures."""
        return int(self.segment_numbers.max())

    @cached_property
    def foreground(self) -> FloatArray:
        """What stands out: saliency, then GrabCut, then the picture's edges; ``[H, W]``.

        Raises:
            FieldError: nothing does.
        """
        from impasto.regions.cutting import cut_from_guess, refined
        from impasto.regions.saliency import saliency_map

        return refined(cut_from_guess(self._small, saliency_map(self._small), about="foreground"), self._pixels)

    @cached_property
    def faces(self) -> FloatArray:
        """Soft ellipses over the faces, ``[H, W]``; 0 everywhere where there is none."""
        from impasto.regions.detection import ellipse_mask, find_faces

        return ellipse_mask(find_faces(self._bytes), self.size)

    @cached_property
    def text(self) -> FloatArray:
        """Soft boxes over the rows of printed text, ``[H, W]``; 0 everywhere where there is none."""
        from impasto.regions.detection import box_mask, find_text

        return box_mask(find_text(self._bytes), self.size)

    # -- kinds ---------------------------------------------------------------------------------------------------------

    def _mask(self, source: PictureSource, name: str) -> FloatArray:
        picture = read_picture(source)
        drawn_with_opacity = picture.alpha is not None and float(picture.alpha.min()) < 1
        pixels = picture.pixels
        chroma = pixels.max(axis=2) - pixels.min(axis=2)
        if not drawn_with_opacity and float((chroma > _COLOR_SLACK).mean()) > _COLORED_SHARE:
            raise FieldError(f"'{name}' is a picture in colours, not a mask; draw the region in white on black")
        try:
            return read_mask(source, self.size)
        except FieldError as error:
            raise FieldError(f"the region '{name}' does not fit: {error}") from error

    def _box(self, spec: RegionSpec) -> FloatArray:
        box = self._corners(spec)
        if self.config.sam is not None:
            return self._sam.cut(box=box, about=spec.text)
        from impasto.regions.cutting import cut_from_box, refined

        return refined(cut_from_box(self._small, self._to_small(box), about=spec.text), self._pixels)

    def _clicks(self, spec: RegionSpec) -> FloatArray:
        inside: list[tuple[float, float]] = []
        outside: list[tuple[float, float]] = []
        for part in spec.argument.split("/"):
            negative = part.strip().startswith("-")
            numbers = parse_numbers(part.strip().removeprefix("-"), 2, spec.text)
            (outside if negative else inside).append(self._point(numbers, spec, "the click"))
        if not inside:
            raise FieldError(
                f"the region '{spec.text}' says only what does not belong to it; add a click on the object"
            )
        if set(inside) & set(outside):
            raise FieldError(f"the region '{spec.text}' has the same spot inside and outside")
        if self.config.sam is not None:
            return self._sam.cut(inside=inside, outside=outside, about=spec.text)
        from impasto.regions.cutting import cut_from_clicks, refined

        near, away = ([self._small_point(point) for point in points] for points in (inside, outside))
        return refined(cut_from_clicks(self._small, near, away, about=spec.text), self._pixels)

    def _rectangle(self, spec: RegionSpec) -> FloatArray:
        return polygon_mask(rectangle_points(*self._corners(spec)), self.size)

    def _polygon(self, spec: RegionSpec) -> FloatArray:
        parts = spec.argument.split("/")
        if len(parts) < 3:
            raise FieldError(f"the region '{spec.text}' has {len(parts)} corners; a polygon needs three")
        points = [self._point(parse_numbers(part, 2, spec.text), spec, "the corner") for part in parts]
        mask = polygon_mask(points, self.size)
        if float(mask.max()) <= VISIBLE:
            raise FieldError(f"the region '{spec.text}' has no area")
        return mask

    def _labelme(self, spec: RegionSpec) -> FloatArray:
        masks = labelme_masks(spec.argument, self.size)
        if not spec.key and len(masks) == 1:
            return next(iter(masks.values()))
        if not spec.key:
            raise FieldError(f"the region '{spec.text}' must name one of the labels: {', '.join(masks)} (after a #)")
        if spec.key not in masks:
            raise UnknownNameError(f"label in '{spec.argument}'", spec.key, masks)
        return masks[spec.key]

    def _coco(self, spec: RegionSpec) -> FloatArray:
        return coco_mask(spec.argument, spec.key, self.size, self.picture.info.source)

    def _segment(self, spec: RegionSpec) -> FloatArray:
        from impasto.regions.cutting import refined

        if not spec.argument.isdigit() or not 1 <= int(spec.argument) <= self.segment_count:
            raise FieldError(
                f"the region '{spec.text}': segments are numbered from 1 to {self.segment_count}; "
                "'impasto segment' shows them, --segments changes how many there are"
            )
        return refined(self.segment_numbers == int(spec.argument), self._pixels)

    # -- the picture ---------------------------------------------------------------------------------------------------

    @property
    def _pixels(self) -> FloatArray:
        return to_float(self.picture.stored)

    @property
    def _bytes(self) -> NDArray[np.uint8]:
        stored = self.picture.stored
        return stored if stored.dtype == np.uint8 else quantised(to_float(stored), np.uint8)

    @cached_property
    def _small(self) -> NDArray[np.uint8]:
        """The working copy, ``[h, w, 3]``."""
        from impasto.regions.cutting import WORKING_SIDE

        height, width = self.size
        factor = min(1.0, WORKING_SIDE / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(Image.fromarray(self._bytes).resize(size, Image.Resampling.BOX))

    @cached_property
    def _sam(self) -> SamView:
        return SamView(load_sam(str(self.config.sam)), self._bytes)

    def _small_point(self, point: tuple[float, float]) -> tuple[float, float]:
        height, width = self._small.shape[:2]
        return point[0] * width / self.size[1], point[1] * height / self.size[0]

    def _to_small(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        return (*self._small_point(box[:2]), *self._small_point(box[2:]))

    # -- checks --------------------------------------------------------------------------------------------------------

    def _corners(self, spec: RegionSpec) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a box inside the picture."""
        numbers = parse_numbers(spec.argument, 4, spec.text)
        left, top = self._point(numbers[:2], spec, "the corner")
        right, bottom = self._point(numbers[2:], spec, "the corner")
        if right - left < 1 or bottom - top < 1:
            raise FieldError(
                f"the region '{spec.text}' has no area: left {left:g} to right {right:g}, "
                f"top {top:g} to bottom {bottom:g}"
            )
        return left, top, right, bottom

    def _point(self, numbers: list[Coordinate], spec: RegionSpec, what: str) -> tuple[float, float]:
        height, width = self.size
        x = check_coordinate(numbers[0].of(width), width, f"{what}'s x", spec.text, self.size)
        y = check_coordinate(numbers[1].of(height), height, f"{what}'s y", spec.text, self.size)
        return x, y

    def _checked(self, mask: FloatArray, name: str) -> FloatArray:
        if float(mask.max()) <= VISIBLE:
            kind = name.partition(":")[0]
            if kind in ("faces", "text"):
                raise FieldError(f"the region '{name}' is empty: no {kind} found on '{self._picture_name}'")
            raise FieldError(f"the region '{name}' is empty on '{self._picture_name}'")
        return mask

    @property
    def _picture_name(self) -> str:
        return Path(self.picture.info.source).name


def mask_digest(mask: FloatArray) -> str:
    """First 16 digits of the SHA-256 of a mask in 8 bits: tells whether two are the same."""
    shades = np.round(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return hashlib.sha256(f"{shades.shape}".encode() + shades.tobytes()).hexdigest()[:16]

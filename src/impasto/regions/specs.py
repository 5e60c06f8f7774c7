"""How people write regions, and which style goes into them. Imports nothing heavy.

A region is the name of a mask's file, or one of the kinds of :data:`KINDS`, as in ``box:10,20,300,400``. Coordinates
are pixels of the upright picture from its upper left corner, x before y, or percentages of its sides (``50%``).

A style goes into a region as ``REGION=STYLE``, with a strength ``REGION=STYLE:0.9``, and from a part of the style
picture only ``REGION=STYLE@REGION-OF-THE-STYLE``. An equals sign inside a name is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from impasto.checks import check_range
from impasto.errors import FieldError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from impasto.field import StyleCode
    from impasto.types import PictureSource

__all__ = ["KEEP", "KINDS", "Coordinate", "RegionSpec", "RegionStyle", "parse_numbers", "parse_region"]

KEEP = "keep"
"""The word that stands for a style where the photograph shall stay as it is."""

KINDS = {
    "box": "box:LEFT,TOP,RIGHT,BOTTOM - the object in a box",
    "click": "click:X,Y - the thing at a spot; more with a slash between (click:120,80/200,90), -X,Y for 'not this'",
    "rectangle": "rectangle:LEFT,TOP,RIGHT,BOTTOM - all of a rectangle",
    "polygon": "polygon:X,Y/X,Y/X,Y - a polygon",
    "labelme": "labelme:FILE.json#LABEL - shapes of a Labelme file",
    "coco": "coco:FILE.json#ID - an annotation of a COCO file by its id, or all of a category on the picture",
    "segment": "segment:NUMBER - an automatic segment; 'impasto segment' shows the numbers",
    "foreground": "foreground - what stands out",
    "background": "background - the rest",
    "faces": "faces - faces that look at the camera",
    "text": "text - printed text",
}
"""Kinds of regions with their help, beside mask files."""

_PLAIN = ("foreground", "background", "faces", "text")
_FILES = ("labelme", "coco")
_STRENGTH = re.compile(r"^(?P<style>.+):(?P<strength>\d+(\.\d*)?|\.\d+)$", re.DOTALL)
_EQUALS = re.compile(r"(?<!=)=(?!=)")
_NUMBER = re.compile(r"^\d+(\.\d*)?%?$|^\.\d+%?$")


@dataclass(frozen=True)
class RegionSpec:
    """A region as it was written.

    Attributes:
        text: the whole of it.
        kind: one of :data:`KINDS`, or ``file`` for a mask.
        argument: what stands after the colon; for ``labelme`` and ``coco`` without the part after ``#``.
        key: the part after ``#``.
    """

    text: str
    kind: str
    argument: str = ""
    key: str = ""

    @property
    def file(self) -> str | None:
        """The file that the region is read from, if it is."""
        return self.argument if self.kind == "file" or self.kind in _FILES else None

    def with_file(self, path: str | PathLike[str]) -> RegionSpec:
        """The same region, from a file elsewhere."""
        if self.file is None:
            return self
        text = str(path) if self.kind == "file" else f"{self.kind}:{path}" + (f"#{self.key}" if self.key else "")
        return replace(self, text=text, argument=str(path))

    @property
    def portable(self) -> str:
        """The text with the file's name only, without its folder, as recipes keep it."""
        return self.text if self.file is None else self.with_file(Path(self.file).name).text


def parse_region(text: str) -> RegionSpec:
    """What a person wrote as a region.

    Raises:
        UsageError: an empty text, or a kind without what must follow it.
        UnknownNameError: a kind that does not exist; near matches are named.
    """
    written = text.strip()
    if not written:
        raise UsageError("a region needs a name: a mask's file, or something like box:10,20,300,400")
    if written in _PLAIN:
        return RegionSpec(written, written)
    kind, colon, argument = written.partition(":")
    if colon and kind in KINDS:
        if kind in _PLAIN or not argument:
            raise UsageError(f"the region '{written}' is not complete or has too much; write {KINDS[kind]}")
        path, _, key = argument.partition("#") if kind in _FILES else (argument, "", "")
        if not path or (kind == "coco" and not key):
            raise UsageError(f"the region '{written}' is not complete; write {KINDS[kind]}")
        return RegionSpec(written, kind, path, key)
    if written in KINDS:
        raise UsageError(f"the region '{written}' is not complete; write {KINDS[written]}")
    if colon and len(kind) > 1 and kind.isalpha() and not Path(written).exists():
        raise UnknownNameError("kind of region", kind, KINDS)
    if not Path(written).suffix and not Path(written).exists():
        raise UnknownNameError("region or mask file", written, KINDS)
    return RegionSpec(written, "file", written)


@dataclass(frozen=True)
class Coordinate:
    """A number of pixels, or a share of a side."""

    value: float
    relative: bool = False

    def of(self, side: int) -> float:
        """In pixels of a side of that length."""
        return self.value * side if self.relative else self.value


def parse_numbers(text: str, count: int, about: str) -> list[Coordinate]:
    """``10,20%,300,400`` to ``count`` coordinates.

    Raises:
        UsageError: not as many numbers; ``about`` names the region.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(_NUMBER.match(part) for part in parts):
        wanted = "two numbers (x,y)" if count == 2 else f"{count} numbers (left,top,right,bottom)"
        raise UsageError(f"the region '{about}' needs {wanted}, not '{text}'")
    return [
        Coordinate(float(part.rstrip("%")) / (100 if part.endswith("%") else 1), part.endswith("%")) for part in parts
    ]


@dataclass(frozen=True, eq=False)
class RegionStyle:
    """A style for a region of the photograph.

    Attributes:
        region: as :func:`parse_region` reads it; or a mask: an array ``[H, W]`` or a PIL image.
        style: a preset's name, a picture, a saved code, or a code. None keeps the photograph there.
        strength: how much of the style, 0 to 1.
        style_region: the part of the style picture to take the style from, written like ``region``; None for all of it.
        digest: SHA-256 of the mask that the region must have, from a recipe; empty where any will do.

    Raises:
        UsageError: a strength out of range, or a part of a style that is no picture.
    """

    region: str | PictureSource
    style: PictureSource | StyleCode | None
    strength: float = 1.0
    style_region: str | PictureSource | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        check_range(f"the strength of the region '{self.name}'", self.strength, 0.0, 1.0)
        if self.style is None and self.style_region is not None:
            raise UsageError(f"the region '{self.name}' keeps the photograph: there is no style to take a part of")

    @property
    def name(self) -> str:
        """The region's text, or ``<mask>``."""
        return (
            self.region.strip()
            if isinstance(self.region, str)
            else (str(self.region) if isinstance(self.region, PathLike) else "<mask>")
        )

    @classmethod
    def parse(cls, text: str) -> RegionStyle:
        """Read ``REGION=STYLE[@PART][:STRENGTH]``, such as ``sky.png=monet.jpg@sky_of_monet.png:0.9``.

        The style ``keep`` leaves the photograph as it is. A style whose whole text is a file's name has no part, so
        that names with ``@`` in them work.

        Raises:
            UsageError: no single equals sign, nothing on one of its sides, or a strength out of range.
        """
        sides = _EQUALS.split(text)
        if len(sides) != 2 or not all(side.strip() for side in sides):
            raise UsageError(
                f"--region takes REGION=STYLE, like sky.png=monet.jpg:0.9, not '{text}' "
                "(an equals sign in a name is written twice)"
            )
        region, style = (side.strip().replace("==", "=") for side in sides)
        parse_region(region)
        strength = 1.0
        found = _STRENGTH.match(style)
        if found:
            style, strength = found["style"], float(found["strength"])
        part = None
        if "@" in style and not Path(style).is_file():
            style, _, part = style.rpartition("@")
            if not style or not part:
                raise UsageError(f"the style of the region '{region}' is not complete: write PICTURE@REGION")
            parse_region(part)
        return cls(region, None if style == KEEP else style, strength, part)


def check_coordinate(value: float, side: int, what: str, about: str, size: tuple[int, int]) -> float:
    """A coordinate in pixels.

    Raises:
        FieldError: it lies outside of the picture.
    """
    if not 0 <= value <= side:
        raise FieldError(
            f"the region '{about}': {what} {value:g} lies outside of the picture of {size[1]} x {size[0]} pixels "
            "(width x height)"
        )
    return value

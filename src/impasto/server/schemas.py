"""The JSON that clients send, as pydantic models. Settings, ranges and help come from the library's dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from impasto.config import StylizeConfig, field_info
from impasto.engines import ENGINES, options_type
from impasto.regions.settings import FEATHER_MODES, RegionConfig
from impasto.server.settings import PREVIEW_LARGEST, PREVIEW_SMALLEST
from impasto.stylizer import DEFAULT_ENGINE

__all__ = [
    "MOST_CONTENTS",
    "BatchRequest",
    "EstimateRequest",
    "PhotosRequest",
    "PictureRef",
    "PreviewRequest",
    "Region",
    "SegmentRequest",
    "Settings",
    "StyleRef",
    "StylizeRequest",
    "describe_settings",
    "is_free_text",
    "options_schema",
]

MOST_STYLES = 16
MOST_REGIONS = 16
MOST_CONTENTS = 500
MOST_POINTS = 256
MOST_OPTIONS = 64
MOST_WEIGHT = 1e6


class _Strict(BaseModel):
    """No unknown keys, no texts for numbers, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# -- from the library's dataclasses ------------------------------------------------------------------------------------

_TYPES: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str}


def _annotation(info: dataclasses.Field[Any]) -> Any:
    """A field's type with its range, as pydantic understands it."""
    metadata, text = info.metadata, str(info.type)
    nullable = "None" in text
    kind: Any
    if metadata["choices"]:
        kind = Literal[tuple(metadata["choices"])]
    else:
        kind = _TYPES[text.partition("|")[0].strip()]
        if metadata["smallest"] is not None:
            number = int if kind is int else float
            kind = Annotated[kind, Field(ge=number(metadata["smallest"]), le=number(metadata["largest"]))]
    return kind | None if nullable else kind


def _help(metadata: Any) -> str:
    return f"{metadata['help']} [{metadata['unit']}]" if metadata["unit"] else str(metadata["help"])


def _model_of(kind: type, name: str) -> type[BaseModel]:
    """A model with the settings of a dataclass: types, ranges, choices, defaults and help."""
    fields: dict[str, Any] = {
        info.name: (_annotation(info), Field(default=info.default, description=_help(info.metadata)))
        for info in dataclasses.fields(kind)
        if info.metadata and not is_free_text(info)
    }
    return cast(
        "type[BaseModel]",
        create_model(name, __base__=_Strict, __doc__=f"Settings with their ranges ({kind.__name__}).", **fields),
    )


def is_free_text(info: dataclasses.Field[Any]) -> bool:
    """Whether a setting takes any text, which an engine may understand as a file or an address: not for clients."""
    return bool(info.metadata) and not info.metadata["choices"] and str(info.type).startswith("str")


def describe_settings(kind: type) -> list[dict[str, Any]]:
    """The settings of a dataclass that clients may choose, for those that make controls of them."""
    names = {"bool": "boolean", "float": "number", "int": "integer", "str": "string"}
    rows = []
    for info in dataclasses.fields(kind):
        if not info.metadata or is_free_text(info):
            continue
        text, metadata = str(info.type), info.metadata
        rows.append(
            {
                "name": info.name,
                "type": names[text.partition("|")[0].strip()],
                "default": info.default,
                "minimum": metadata["smallest"],
                "maximum": metadata["largest"],
                "choices": list(metadata["choices"]),
                "unit": metadata["unit"],
                "help": metadata["help"],
                "nullable": "None" in text,
            }
        )
    return rows


def options_schema() -> dict[str, dict[str, Any]]:
    """JSON schemas of the engines' own options, by the name of the component."""
    schemas = {}
    for name in ENGINES:
        kind = options_type(name)
        if kind is not None:
            component = "".join(part.capitalize() for part in name.replace("_", "-").split("-")) + "Options"
            schemas[component] = _model_of(kind, component).model_json_schema() | {"x-engine": name}
    return schemas


Settings = _model_of(StylizeConfig, "Settings")
_FEATHER, _FEATHER_FACTS = field_info(RegionConfig, "feather")
_MODE, _MODE_FACTS = field_info(RegionConfig, "feather_mode")
Name = Annotated[str, Field(max_length=255)]
Identifier = Annotated[str, Field(min_length=1, max_length=128)]

# -- pictures and styles -----------------------------------------------------------------------------------------------


class PictureRef(_Strict):
    """A picture: an upload, or the file itself in base64. Never an address, never a path."""

    upload: Identifier | None = Field(default=None, description="id of an upload")
    data: str | None = Field(
        default=None, description="the file in base64", json_schema_extra={"contentEncoding": "base64"}
    )
    name: Name | None = Field(default=None, description="for people and downloads; no folders")

    @model_validator(mode="after")
    def _one_source(self) -> PictureRef:
        if (self.upload is None) == (self.data is None):
            raise ValueError("give either 'upload' or 'data'")
        return self


class StyleRef(_Strict):
    """A style: a preset, or a picture; with its share."""

    preset: Name | None = Field(default=None, description="name of a preset; see GET /v1/presets")
    upload: Identifier | None = Field(default=None, description="id of an upload")
    data: str | None = Field(
        default=None, description="the file in base64", json_schema_extra={"contentEncoding": "base64"}
    )
    name: Name | None = Field(default=None, description="for people; no folders")
    weight: float = Field(
        default=1.0, ge=0, le=MOST_WEIGHT, description="share; the shares of several styles are scaled to sum to 1"
    )

    @model_validator(mode="after")
    def _one_source(self) -> StyleRef:
        if sum(source is not None for source in (self.preset, self.upload, self.data)) != 1:
            raise ValueError("give one of 'preset', 'upload' and 'data'")
        return self


Styles = Annotated[list[StyleRef], Field(max_length=MOST_STYLES)]


class Region(_Strict):
    """A part of the picture with styles of its own."""

    mask: PictureRef = Field(description="white where the region is; the content's shape")
    styles: Styles = Field(default_factory=list, description="without any, the photograph stays as it is there")
    strength: float = Field(
        default=1.0, ge=0, le=1, description="how much of the styles here; multiplied with settings.strength"
    )


class Output(_Strict):
    """How a result is written."""

    format: Literal["jpeg", "png", "webp"] = Field(default="jpeg", description="of the result")
    quality: int = Field(default=95, ge=1, le=100, description="of JPEG and WebP")
    strip: bool = Field(default=False, description="leave out all metadata, the recipe too")


class _Painting(_Strict):
    """What all requests for a painting have."""

    styles: Styles = Field(default_factory=list, description="over the whole picture, beneath the regions")
    engine: Name = Field(default=DEFAULT_ENGINE, description="see GET /v1/engines")
    settings: Settings = Field(default_factory=Settings)  # type: ignore[valid-type]
    options: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, max_length=MOST_OPTIONS, description="settings that only this engine has"
    )


class _Regional(_Painting):
    content: PictureRef
    mask: PictureRef | None = Field(default=None, description="white where anything is painted at all")
    regions: list[Region] = Field(default_factory=list, max_length=MOST_REGIONS, description="later ones lie on top")
    feather: float = Field(
        default=_FEATHER, ge=_FEATHER_FACTS["smallest"], le=_FEATHER_FACTS["largest"], description=_help(_FEATHER_FACTS)
    )
    feather_mode: Literal[FEATHER_MODES] = Field(default=_MODE, description=_help(_MODE_FACTS))  # type: ignore[valid-type]


class StylizeRequest(_Regional):
    """A painting in full."""

    output: Output = Field(default_factory=Output)


class PreviewRequest(_Regional):
    """A small painting, soon."""

    longer_side: int = Field(default=512, ge=PREVIEW_SMALLEST, le=PREVIEW_LARGEST, description="of the preview [px]")
    format: Literal["jpeg", "webp"] = "jpeg"
    quality: int = Field(default=85, ge=1, le=100)


class BatchRequest(_Painting):
    """Several photographs, painted alike."""

    contents: list[PictureRef] = Field(
        default_factory=list, max_length=MOST_CONTENTS, description="one at least; none when the batch is opened"
    )
    open: bool = Field(
        default=False, description="photographs follow (POST /v1/batches/{id}/photos) until it is closed"
    )
    output: Output = Field(default_factory=Output)

    @model_validator(mode="after")
    def _something(self) -> BatchRequest:
        if bool(self.contents) == self.open:
            raise ValueError("give 'contents', or open the batch and add them one after the other")
        return self


class PhotosRequest(_Strict):
    """More photographs for a batch that was opened to grow."""

    contents: list[PictureRef] = Field(min_length=1, max_length=MOST_CONTENTS)


class EstimateRequest(_Strict):
    """A painting that is thought of."""

    engine: Name = DEFAULT_ENGINE
    height: int = Field(ge=1, le=65536)
    width: int = Field(ge=1, le=65536)
    styles: int = Field(default=1, ge=1, le=MOST_STYLES, description="how many")
    settings: Settings = Field(default_factory=Settings)  # type: ignore[valid-type]
    options: dict[str, bool | int | float | str | None] = Field(default_factory=dict, max_length=MOST_OPTIONS)


class Point(_Strict):
    """A click, in pixels of the upright picture."""

    x: float = Field(ge=0, le=65536)
    y: float = Field(ge=0, le=65536)
    keep: bool = Field(default=True, description="true: belongs to the object; false: does not")


class SegmentRequest(_Strict):
    """An object to be cut out."""

    content: PictureRef
    box: tuple[float, float, float, float] | None = Field(default=None, description="left, top, right, bottom [px]")
    points: list[Point] = Field(default_factory=list, max_length=MOST_POINTS)
    longer_side: int | None = Field(
        default=None, ge=PREVIEW_SMALLEST, le=65536, description="of the mask; the content's by default [px]"
    )

    @model_validator(mode="after")
    def _something(self) -> SegmentRequest:
        if self.box is None and not self.points:
            raise ValueError("give a box, or points, or both")
        return self

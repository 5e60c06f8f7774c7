"""The OpenAPI document: what FastAPI knows of the routes, and the bodies that the routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from impasto.server.media import READ_TYPES
from impasto.server.problems import KINDS, MEDIA_TYPE
from impasto.server.schemas import (
    MOST_CONTENTS,
    BatchRequest,
    EstimateRequest,
    PhotosRequest,
    PreviewRequest,
    SegmentRequest,
    Settings,
    StylizeRequest,
    options_schema,
)

__all__ = ["body_of", "document", "form_of", "photos_form", "problems", "upload_body"]

_REFERENCE = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}
_PHOTOS = {"type": "array", "items": _BINARY, "maxItems": MOST_CONTENTS}
_EVERYWHERE = (401, 403, 421, 500)
_MODELS = (StylizeRequest, PreviewRequest, BatchRequest, PhotosRequest, EstimateRequest, SegmentRequest)


def problems(*statuses: int, also: dict[int | str, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: its own problems, those that every route has, and others as they are."""
    titles: dict[int, list[str]] = {}
    for status, title in KINDS.values():
        titles.setdefault(status, []).append(title)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found = dict(also or {})
    for status in sorted({*statuses, *_EVERYWHERE}):
        found[status] = {"description": "; ".join(titles[status]), "content": content}
        if status in (429, 503):
            found[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return found


def body_of(model: str, form: dict[str, Any] | None = None) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads JSON, and a form where one is given."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}}
    if form is not None:
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def upload_body() -> dict[str, Any]:
    """``openapi_extra`` of the upload: a form with one file, or the file itself."""
    form = {"type": "object", "required": ["file"], "properties": {"file": _BINARY}, "additionalProperties": False}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    content |= {media_type: {"schema": _BINARY} for media_type in READ_TYPES}
    return {"requestBody": {"required": True, "content": content}}


def photos_form() -> dict[str, Any]:
    """The form that adds photographs to a batch."""
    properties = {"content": _PHOTOS}
    return {"type": "object", "required": ["content"], "properties": properties, "additionalProperties": False}


def form_of(*, many: bool = False, preview: bool = False) -> dict[str, Any]:
    """The form that says the same as a painting's JSON; settings with their ranges."""
    properties: dict[str, Any] = {
        "content": _PHOTOS if many else _BINARY,
        "style": {
            "type": "array",
            "items": _BINARY,
            "description": "preset names (text) or pictures (files), in order",
        },
        "mix": {"type": "string", "description": "shares of the styles, like 0.7,0.3"},
        "engine": {"type": "string"},
        "options": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "the engine's own settings",
        },
    }
    if many:
        properties["open"] = {"type": "boolean", "description": "photographs follow; without it, one at least"}
    else:
        properties |= {
            "mask": _BINARY,
            "region_mask": {"type": "array", "items": _BINARY},
            "region_style": {"type": "array", "items": _BINARY, "description": "one for each region_mask"},
            "region_strength": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
            "feather": StylizeRequest.model_json_schema()["properties"]["feather"],
            "feather_mode": StylizeRequest.model_json_schema()["properties"]["feather_mode"],
        }
    source = PreviewRequest if preview else None
    output = (
        source.model_json_schema()["properties"]
        if source
        else StylizeRequest.model_json_schema()["$defs"]["Output"]["properties"]
    )
    names = ("longer_side", "format", "quality") if preview else ("format", "quality", "strip")
    properties |= {name: output[name] for name in names}
    properties |= Settings.model_json_schema()["properties"]
    required = [] if many else ["content"]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def document(app: FastAPI, *, token: bool) -> dict[str, Any]:
    """The whole document; made once."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    _, definitions = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCE)
    schemas |= definitions["$defs"]
    options = options_schema()
    schemas |= options
    _refer_to_options(made, options)
    schemas["Problem"] = _problem()
    _without_fastapis_errors(made)
    if token:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    app.openapi_schema = made
    return made


def _refer_to_options(made: dict[str, Any], options: dict[str, dict[str, Any]]) -> None:
    """Let ``options`` of the bodies be one of the engines' own schemas, and the form's JSON text hold one of them."""
    fitting = [
        {"$ref": _REFERENCE.format(model=name), "description": f"where 'engine' is {schema['x-engine']}"}
        for name, schema in options.items()
    ]
    if not fitting:
        return
    for schema in made["components"]["schemas"].values():
        found = schema.get("properties", {}).get("options")
        if found is not None and "additionalProperties" in found:
            for key in ("additionalProperties", "maxProperties", "type"):
                found.pop(key, None)
            found["anyOf"] = fitting
    for operations in made["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            form = content.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
            if "options" in form:
                form["options"] = form["options"] | {"contentSchema": {"anyOf": fitting}}


def _without_fastapis_errors(made: dict[str, Any]) -> None:
    """FastAPI documents its own form of a 422 for every route with a parameter; the server answers with a problem."""
    ours = problems(422)[422]
    for operations in made["paths"].values():
        for operation in operations.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = ours
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)


def _problem() -> dict[str, Any]:
    place = {"type": "object", "properties": {"location": {"type": "string"}, "message": {"type": "string"}}}
    return {
        "type": "object",
        "description": "Problem details (RFC 9457)",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "urn:impasto:problem:KIND"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "one line for people"},
            "instance": {"type": "string", "format": "uri"},
            "errors": {"type": "array", "items": place},
            "near": {"type": "array", "items": {"type": "string"}, "description": "names that may have been meant"},
            "retry_after": {"type": "integer", "description": "seconds"},
        },
    }

"""Requests as they arrive: bounded in bytes and in time, JSON or form, turned into one model."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from impasto.config import StylizeConfig
from impasto.server.media import check_name, recognise
from impasto.server.problems import ProblemError
from impasto.server.schemas import MOST_CONTENTS, PictureRef, StyleRef, describe_settings
from impasto.server.settings import ServerSettings
from impasto.server.uploads import UploadStore, key_of

__all__ = ["Body", "Intake", "Part", "read_form", "until_gone", "validation_problem"]

MOST_FIELDS = 256
MOST_FIELD_BYTES = 1 << 20
SLOWEST_BODY = 2048  # bytes a second, after the longest silence
PART = "part:"  # how a picture of a form is called inside a model; uploads never have such an id

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Part:
    """A file of a form."""

    data: bytes
    declared: str
    name: str


@dataclass
class Body:
    """A request, checked, with the pictures it brought or referred to.

    Attributes:
        model: the request.
        parts: files of the form, by the ids that the model has for them.
        pictures: bytes by key, as collected by :meth:`reference`.
        fresh: keys of pictures that no upload has checked before, with what they are.
    """

    model: Any
    parts: Mapping[str, Part]
    uploads: UploadStore
    most_bytes: int
    pictures: dict[str, bytes] = field(default_factory=dict)
    fresh: dict[str, dict[str, str]] = field(default_factory=dict)

    def reference(self, picture: PictureRef | StyleRef, role: str) -> dict[str, str]:
        """Resolve a picture to ``{"key", "name", "role"}`` and keep its bytes.

        Raises:
            ProblemError: no such upload, no base64, no picture, too large.
        """
        part = self.parts.get(picture.upload or "")
        if picture.upload is not None and part is None:
            upload = self.uploads.get(picture.upload)
            self.pictures[upload.key] = upload.data
            return {"key": upload.key, "name": check_name(picture.name, role) or upload.name, "role": role}
        if part is None:
            part = Part(_from_base64(picture.data or "", role), "", picture.name or "")
        if len(part.data) > self.most_bytes:
            raise ProblemError(
                "too-large", f"the {role} picture has {len(part.data):,} bytes, more than {self.most_bytes:,}"
            )
        name = check_name(part.name, role)
        recognise(part.data, part.declared, role)
        key = key_of(part.data)
        self.pictures[key] = part.data
        found = {"key": key, "name": name, "role": role}
        self.fresh.setdefault(key, found)
        return found


def _from_base64(text: str, role: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError("invalid", f"the {role} picture is not in base64: {error}") from error


class Intake:
    """Reads bodies. One for the whole server: it counts what all requests hold together."""

    def __init__(self, settings: ServerSettings, uploads: UploadStore) -> None:
        self._settings = settings
        self._uploads = uploads
        self.held = 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its bytes count as held until the block ends.

        Raises:
            ProblemError: too large, too slow, or too much held already.
        """
        length = request.headers.get("content-length")
        if length is not None and length.isdigit() and int(length) > self._settings.request_bytes:
            self._too_large()
        chunks: list[bytes] = []
        size = 0
        begun = time.monotonic()
        try:
            stream = aiter(request.stream())
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(stream), self._settings.body_seconds)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    seconds = self._settings.body_seconds
                    raise ProblemError("slow-body", f"nothing arrived for {seconds:g} seconds") from None
                if time.monotonic() - begun > self._settings.body_seconds + size / SLOWEST_BODY:
                    raise ProblemError("slow-body", f"less than {SLOWEST_BODY} bytes arrived in a second")
                size += len(chunk)
                self.held += len(chunk)
                if size > self._settings.request_bytes:
                    self._too_large()
                if self.held > self._settings.received_bytes:
                    raise ProblemError("busy", "too many large requests at a time; try again later", retry_after=5)
                chunks.append(chunk)
            yield _joined(chunks)  # no name for it here: whoever reads it may let go of it
        finally:
            chunks.clear()
            self.held -= size

    def _too_large(self) -> None:
        raise ProblemError("too-large", f"the request has more than {self._settings.request_bytes:,} bytes")

    @contextlib.asynccontextmanager
    async def read(self, request: Request, kind: type[Model], *, many: bool = False) -> AsyncIterator[Body]:
        """A request for a painting: JSON, or a form.

        Args:
            request: with the body not yet read.
            kind: the model.
            many: several contents, as a batch has them.

        Raises:
            ProblemError: another media type, damaged, or values that are not valid.
        """
        async with self.receive(request) as data:
            model, parts = await _understood(request, data, kind, many=many)
            del data  # the parts hold the pictures now
            yield Body(model, parts, self._uploads, self._settings.picture_bytes)


async def _understood(
    request: Request, data: bytes, kind: type[Model], *, many: bool
) -> tuple[Model, Mapping[str, Part]]:
    """A body as a model, and the files of a form."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        return _validated(lambda: kind.model_validate_json(data)), {}
    if media_type != "multipart/form-data":
        raise ProblemError("media-type", "send application/json or multipart/form-data")
    fields, parts = _fields_of(await read_form(request, data), kind, many=many)
    return _validated(lambda: kind.model_validate(fields)), parts


def _joined(chunks: list[bytes]) -> bytes:
    """All chunks in one; they are not kept beside it."""
    data = b"".join(chunks)
    chunks.clear()
    return data


def _validated(call: Callable[[], Model]) -> Model:
    try:
        return call()
    except ValidationError as error:
        raise validation_problem(error.errors(include_url=False, include_context=False, include_input=False)) from error


def validation_problem(errors: Any) -> ProblemError:
    """The problem of values that are not valid, each with its place."""
    rows = [
        {
            "location": ".".join(str(part) for part in one["loc"]) or "body",
            "message": str(one["msg"]).removeprefix("Value error, "),
        }
        for one in errors
    ]
    first = rows[0] if rows else {"location": "body", "message": "not valid"}
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return ProblemError("invalid", f"{first['location']}: {first['message']}{more}", errors=rows[:100])


# -- forms -------------------------------------------------------------------------------------------------------------


async def read_form(request: Request, data: bytes) -> FormData:
    """Parse a form that is in memory already; its files stay there too.

    Raises:
        ProblemError: it is damaged, or has too many fields.
    """

    async def once() -> Any:
        yield data

    parser = MultiPartParser(
        request.headers, once(), max_files=MOST_CONTENTS + 64, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES
    )
    parser.spool_max_size = len(data) + 1  # never a file on disk
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise ProblemError("bad-request", f"the form cannot be understood: {error.message}") from error
    except (KeyError, UnicodeError, ValueError) as error:
        raise ProblemError("bad-request", "the form cannot be understood") from error


def _fields_of(form: FormData, kind: type[BaseModel], *, many: bool) -> tuple[dict[str, Any], dict[str, Part]]:
    """A form as the JSON that would say the same; files become references to the parts."""
    reader = _FormReader(form)
    body: dict[str, Any] = {}
    if many:
        body["contents"] = reader.pictures("content")
    else:
        content = _one(reader, "content")
        if content is not None:
            body["content"] = content
    if "styles" in kind.model_fields:
        body["styles"] = reader.styles("style", reader.numbers("mix"))
        body |= _painting_fields(reader, kind)
    return body | reader.rest(), reader.parts


def _one(reader: _FormReader, name: str) -> dict[str, Any] | None:
    """The only picture of a name, None where there is none.

    Raises:
        ProblemError: several.
    """
    found = reader.pictures(name)
    if len(found) > 1:
        message = "give one picture"
        raise ProblemError("invalid", f"{name}: {message}", errors=[{"location": name, "message": message}])
    return found[0] if found else None


def _painting_fields(reader: _FormReader, kind: type[BaseModel]) -> dict[str, Any]:
    """What a painting's form has besides its contents and styles."""
    body: dict[str, Any] = {}
    mask = _one(reader, "mask")
    if mask is not None:
        body["mask"] = mask
    regions = reader.regions()
    if regions:
        body["regions"] = regions
    settings = {row["name"]: reader.value(row) for row in describe_settings(StylizeConfig) if row["name"] in reader}
    if settings:
        body["settings"] = settings
    if "options" in reader:
        body["options"] = reader.json("options")
    plain = {"format": "string", "quality": "integer", "strip": "boolean"}
    output = {name: reader.value({"name": name, "type": text}) for name, text in plain.items() if name in reader}
    if "output" in kind.model_fields:
        if output:
            body["output"] = output
    else:
        body |= output
    for name, text in {
        "engine": "string",
        "open": "boolean",
        "longer_side": "integer",
        "feather": "number",
        "feather_mode": "string",
    }.items():
        if name in reader:
            body[name] = reader.value({"name": name, "type": text})
    return body


class _FormReader:
    """Takes fields out of a form, and knows at the end which were left over."""

    def __init__(self, form: FormData) -> None:
        self._fields: dict[str, list[str | UploadFile]] = {}
        for name, value in form.multi_items():
            self._fields.setdefault(name, []).append(value)
        self._taken: set[str] = set()
        self.parts: dict[str, Part] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def _take(self, name: str) -> list[str | UploadFile]:
        self._taken.add(name)
        return self._fields.get(name, [])

    def rest(self) -> dict[str, Any]:
        """Fields that nobody asked for; the model refuses them by name."""
        return {name: "" for name in self._fields if name not in self._taken}

    def _part(self, file: UploadFile) -> str:
        identifier = f"{PART}{len(self.parts)}"
        stream: Any = file.file
        stream.seek(0)
        self.parts[identifier] = Part(stream.read(), file.content_type or "", file.filename or "")
        stream.close()
        return identifier

    def pictures(self, name: str) -> list[dict[str, Any]]:
        """Files as references; texts under ``NAME_upload`` as uploads, behind them."""
        found: list[dict[str, Any]] = []
        for value in self._take(name):
            if isinstance(value, str):
                raise ProblemError(
                    "invalid",
                    f"{name}: send the picture as a file (curl -F {name}=@photo.jpg)",
                    errors=[{"location": name, "message": "send the picture as a file"}],
                )
            found.append({"upload": self._part(value)})
        found += [{"upload": value} for value in self._take(f"{name}_upload") if isinstance(value, str)]
        return found

    def _style(self, value: str | UploadFile) -> dict[str, Any]:
        if isinstance(value, str):
            return {"preset": value}
        return {"upload": self._part(value)}

    def styles(self, name: str, weights: list[Any] | None) -> list[dict[str, Any]]:
        """Texts as presets and files as pictures, in their order, with their shares."""
        found = [self._style(value) for value in self._take(name)]
        if weights is not None:
            if len(weights) != len(found):
                message = f"{len(found)} styles need {len(found)} weights, not {len(weights)}"
                raise ProblemError("invalid", f"mix: {message}", errors=[{"location": "mix", "message": message}])
            for style, weight in zip(found, weights, strict=True):
                style["weight"] = weight
        return found

    def regions(self) -> list[dict[str, Any]]:
        """Masks, styles and strengths of regions, three lists side by side."""
        masks = self.pictures("region_mask")
        styles = [self._style(value) for value in self._take("region_style")]
        strengths = [_number(str(value)) for value in self._take("region_strength")]
        if len(styles) != len(masks) or (strengths and len(strengths) != len(masks)):
            message = "each region_mask needs one region_style (and one region_strength, or none at all)"
            raise ProblemError("invalid", message, errors=[{"location": "region_style", "message": message}])
        rows: list[dict[str, Any]] = [
            {"mask": mask, "styles": [style]} for mask, style in zip(masks, styles, strict=True)
        ]
        for row, strength in zip(rows, strengths, strict=False):
            row["strength"] = strength
        return rows

    def _text(self, name: str) -> str:
        value = self._take(name)[-1]
        if not isinstance(value, str):
            raise ProblemError(
                "invalid", f"{name}: must be a text, not a file", errors=[{"location": name, "message": "not a file"}]
            )
        return value

    def numbers(self, name: str) -> list[Any] | None:
        """``0.7,0.3``, or None where there is no such field."""
        return [_number(part) for part in self._text(name).split(",")] if name in self else None

    def json(self, name: str) -> Any:
        """A field that holds JSON; the text itself if it does not, for the model to refuse."""
        text = self._text(name)
        try:
            return from_json(text)  # as strict as a JSON body: no half of a surrogate pair, no endless nesting
        except ValueError:
            return text

    def value(self, row: Mapping[str, Any]) -> Any:
        """A field as the type of a setting; the text itself where it is none, for the model to refuse."""
        text = self._text(row["name"])
        if row.get("nullable") and text.lower() in ("", "none", "null"):
            return None
        if row["type"] == "boolean":
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        return text if row["type"] == "string" else _number(text, whole=row["type"] == "integer")


def _number(text: str, *, whole: bool = False) -> Any:
    with contextlib.suppress(ValueError):
        return int(text) if whole else float(text)
    return text


async def until_gone(request: Request) -> None:
    """Wait until the client has gone away; the body must have been read."""
    with contextlib.suppress(ClientDisconnect):
        while (await request.receive())["type"] != "http.disconnect":
            pass

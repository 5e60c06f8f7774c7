"""The endpoints. Bodies of paintings are read here by hand, bounded, and checked by the models of :mod:`.schemas`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import zipfile
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from impasto.config import StylizeConfig
from impasto.server.bodies import Body, Part, read_form, until_gone
from impasto.server.gate import COOKIE, session_of
from impasto.server.jobs import result_name
from impasto.server.media import READ_TYPES, WRITTEN
from impasto.server.metrics import CONTENT_TYPE
from impasto.server.openapi import body_of, form_of, photos_form, problems, upload_body
from impasto.server.pool import Lane
from impasto.server.problems import ProblemError
from impasto.server.schemas import (
    MOST_CONTENTS,
    BatchRequest,
    EstimateRequest,
    PhotosRequest,
    PictureRef,
    PreviewRequest,
    SegmentRequest,
    StylizeRequest,
    describe_settings,
)
from impasto.server.segmenting import can_segment
from impasto.server.service import Painted, Service, list_engines
from impasto.server.settings import PREVIEW_LARGEST, PREVIEW_SMALLEST
from impasto.stylizer import DEFAULT_ENGINE
from impasto.version import __version__

__all__ = ["router"]

router = APIRouter()
Value = TypeVar("Value")

BLOCK = 1 << 18  # bytes of a file that are sent at a time
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURES: dict[str, Any] = {"description": "the picture", "content": {kind: _BINARY for kind, _ in WRITTEN.values()}}
_TAKING = (400, 404, 408, 413, 415, 422, 429, 501, 503)  # what any request with pictures in it can end with
_PAINTING = (*_TAKING, 504)
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
}
_STREAM: dict[str, Any] = {"description": "server-sent events", "content": {"text/event-stream": {"schema": _EVENT}}}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(_service)]


async def wanted(request: Request, work: Awaitable[Value]) -> Value:
    """Wait for ``work`` as long as the client does; its work is taken back when it goes away.

    Raises:
        ProblemError: the client went away; nobody reads this.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        raise ProblemError("cancelled", "the client went away")
    finally:
        task.cancel()
        gone.cancel()


# -- state -------------------------------------------------------------------------------------------------------------


@router.get("/healthz", tags=["state"], responses=problems())
async def healthz() -> dict[str, str]:
    """Whether the server lives."""
    return {"status": "ok"}


@router.get("/readyz", tags=["state"], responses=problems(503))
async def readyz(service: Serving) -> dict[str, str]:
    """Whether paintings can be made at once."""
    if not service.ready:
        raise ProblemError("not-ready", "the workers are starting", retry_after=1)
    return {"status": "ready"}


@router.get(
    "/metrics",
    tags=["state"],
    response_class=Response,
    responses=problems(
        also={200: {"description": "for Prometheus", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    ),
)
async def metrics(service: Serving) -> Response:
    """Figures in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.post("/v1/session", tags=["state"], status_code=204, responses=problems())
async def open_session(service: Serving) -> Response:
    """Turn the token of this request into a cookie, for pictures and event streams that a page loads."""
    response = Response(status_code=204)
    if service.settings.token is not None:
        response.set_cookie(COOKIE, session_of(service.settings.token), httponly=True, samesite="strict", path="/")
    return response


@router.get("/v1/info", tags=["lists"], responses=problems())
async def info(service: Serving) -> dict[str, Any]:
    """Version, limits and formats."""
    settings = service.settings
    return {
        "version": __version__,
        "default_engine": DEFAULT_ENGINE,
        "segmentation": can_segment(),
        "limits": {
            "bytes": settings.picture_bytes,
            "request_bytes": settings.request_bytes,
            "pixels": settings.pixels,
            "batch": MOST_CONTENTS,
            "jobs": settings.jobs,
            "upload_seconds": settings.upload_seconds,
            "upload_bytes": settings.upload_bytes,
            "keep_seconds": settings.keep_seconds,
            "preview": {"smallest": PREVIEW_SMALLEST, "largest": PREVIEW_LARGEST, "default": 512},
        },
        "formats": list(WRITTEN),
        "reads": list(READ_TYPES),
    }


# -- lists -------------------------------------------------------------------------------------------------------------


@router.get("/v1/engines", tags=["lists"], responses=problems())
async def engines() -> dict[str, Any]:
    """Engines with their options, and the settings that all of them have."""
    rows = await asyncio.to_thread(list_engines)
    return {"default": DEFAULT_ENGINE, "settings": describe_settings(StylizeConfig), "engines": rows}


@router.get("/v1/presets", tags=["lists"], responses=problems(404, 422, 429, 501, 503, 504))
async def presets(service: Serving, engine: Annotated[str, Query(max_length=255)] = DEFAULT_ENGINE) -> dict[str, Any]:
    """Presets of an engine."""
    spec = await service.checked_engine(engine, {})
    known = await service.presets(engine)
    rows = [
        row
        | {
            "thumbnail": None
            if spec.capabilities.slow
            else f"/v1/presets/{quote(engine)}/{quote(row['name'])}/thumbnail"
        }
        for row in known["presets"]
    ]
    return {"engine": engine, "presets": rows}


@router.get(
    "/v1/presets/{engine}/{name}/thumbnail",
    tags=["lists"],
    response_class=Response,
    responses=problems(
        400,
        404,
        422,
        429,
        501,
        503,
        504,
        also={
            200: {"description": "the thumbnail", "content": {"image/webp": _BINARY}},
            304: {"description": "as before"},
        },
    ),
)
async def thumbnail(request: Request, service: Serving, engine: str, name: str) -> Response:
    """A photograph painted with the preset, 256 pixels wide or high."""
    data, tag = await service.thumbnail(engine, name)
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/webp", headers=headers)


@router.post("/v1/estimate", tags=["lists"], openapi_extra=body_of("EstimateRequest"), responses=problems(*_PAINTING))
async def estimate(request: Request, service: Serving) -> dict[str, Any]:
    """Time and memory that a painting would take."""
    async with service.intake.read(request, EstimateRequest) as body:
        model = body.model
        spec = await service.checked_engine(model.engine, model.options)
        order = {"kind": "estimate", **model.model_dump()}
        pool = "slow" if spec.capabilities.slow else "fast"
        return (await wanted(request, service.paint(order, {}, Lane.REQUEST, pool))).facts


# -- uploads -----------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/uploads", tags=["uploads"], status_code=201, openapi_extra=upload_body(), responses=problems(*_PAINTING)
)
async def upload(request: Request, service: Serving) -> JSONResponse:
    """Send a picture once, to refer to it often."""
    async with service.intake.receive(request) as data:
        declared = request.headers.get("content-type", "")
        if declared.partition(";")[0].strip().lower() == "multipart/form-data":
            part = await _only_file(request, data)
        else:
            part = Part(data, declared or "application/octet-stream", "")
        model = PictureRef(upload="part:0")
        body = Body(model, {"part:0": part}, service.uploads, service.settings.picture_bytes)
        kept = await wanted(request, service.upload(body))
    return JSONResponse(service.uploads.describe(kept), 201, {"Location": f"/v1/uploads/{kept.id}"})


async def _only_file(request: Request, data: bytes) -> Part:
    items = (await read_form(request, data)).multi_items()
    if len(items) != 1 or items[0][0] != "file" or isinstance(items[0][1], str):
        message = "send one picture as the field 'file'"
        raise ProblemError("invalid", message, errors=[{"location": "file", "message": message}])
    file = items[0][1]
    stream: Any = file.file
    stream.seek(0)
    return Part(stream.read(), file.content_type or "", file.filename or "")


@router.get("/v1/uploads/{upload_id}", tags=["uploads"], responses=problems(404))
async def get_upload(service: Serving, upload_id: str) -> dict[str, Any]:
    """What is known of an upload."""
    return service.uploads.describe(service.uploads.get(upload_id))


@router.delete("/v1/uploads/{upload_id}", tags=["uploads"], status_code=204, responses=problems(404))
async def delete_upload(service: Serving, upload_id: str) -> Response:
    """Forget an upload."""
    service.uploads.remove(service.uploads.get(upload_id).id)
    return Response(status_code=204)


@router.get(
    "/v1/uploads/{upload_id}/picture",
    tags=["uploads"],
    response_class=Response,
    responses=problems(404, 413, 422, 429, 503, 504, also={200: _PICTURES}),
)
async def show_upload(
    request: Request,
    service: Serving,
    upload_id: str,
    size: Annotated[int, Query(ge=16, le=8192, description="longer side [px]; never enlarged")] = 1024,
    format: Annotated[Literal["jpeg", "png", "webp"], Query()] = "webp",
) -> Response:
    """An upload as it is painted: upright, in sRGB."""
    kept = service.uploads.get(upload_id)
    content = {"key": kept.key, "name": kept.name, "role": "uploaded"}
    order = {"kind": "picture", "content": content, "longer_side": size, "format": format, "quality": 90}
    done = await wanted(request, service.paint(order, {kept.key: kept.data}, Lane.PREVIEW))
    return Response(done.data, media_type=done.facts["media_type"], headers={"Cache-Control": "private, max-age=600"})


# -- paintings while one waits -----------------------------------------------------------------------------------------


def _picture_response(done: Painted, name: str = "") -> Response:
    facts = done.facts
    headers = {"Server-Timing": f"wait;dur={done.waited * 1e3:.1f}, paint;dur={facts.get('seconds', 0) * 1e3:.1f}"}
    if "seconds" in facts:
        headers["X-Impasto-Seconds"] = f"{facts['seconds']:.4f}"
    if name:
        headers["Content-Disposition"] = _disposition("inline", name)
    return Response(done.data, media_type=facts["media_type"], headers=headers)


def _disposition(kind: str, name: str) -> str:
    plain = name.encode("ascii", "replace").decode("ascii").replace("?", "_").replace('"', "_")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@router.post(
    "/v1/stylize",
    tags=["paintings"],
    response_class=Response,
    openapi_extra=body_of("StylizeRequest", form_of()),
    responses=problems(*_PAINTING, also={200: _PICTURES}),
)
async def stylize(request: Request, service: Serving) -> Response:
    """Paint a photograph with a fast engine and wait for it."""
    async with service.intake.read(request, StylizeRequest) as body:
        order, _ = await service.painting_order("render", body, fast=True)
        content = body.reference(body.model.content, "content")
        order |= {"content": content, "output": body.model.output.model_dump()}
        done = await wanted(request, service.paint(order, body.pictures, Lane.REQUEST))
    styles = [style.get("preset") or style.get("name") or "style" for style in order["styles"]]
    return _picture_response(done, result_name(content["name"], styles, order["output"]["format"]))


@router.post(
    "/v1/previews",
    tags=["paintings"],
    response_class=Response,
    openapi_extra=body_of("PreviewRequest", form_of(preview=True)),
    responses=problems(*_PAINTING, also={200: _PICTURES}),
)
async def preview(request: Request, service: Serving) -> Response:
    """A small painting, soon: for sliders. Uploads and their styles stay decoded and encoded between calls."""
    async with service.intake.read(request, PreviewRequest) as body:
        order, _ = await service.painting_order("preview", body, fast=True)
        model = body.model
        order |= {"content": body.reference(model.content, "content"), "longer_side": model.longer_side}
        order |= {"format": model.format, "quality": model.quality}
        done = await wanted(request, service.paint(order, body.pictures, Lane.PREVIEW))
    return _picture_response(done)


@router.post(
    "/v1/segment",
    tags=["paintings"],
    response_class=Response,
    openapi_extra=body_of("SegmentRequest"),
    responses=problems(*_PAINTING, also={200: {"description": "the mask, grey", "content": {"image/png": _BINARY}}}),
)
async def segment(request: Request, service: Serving) -> Response:
    """Cut an object out by a box or by clicks: the mask of a region."""
    async with service.intake.read(request, SegmentRequest) as body:
        model = body.model
        points = [point.model_dump() for point in model.points]
        order = {
            "kind": "segment",
            "content": body.reference(model.content, "content"),
            "box": model.box,
            "points": points,
        }
        order["longer_side"] = model.longer_side
        done = await wanted(request, service.paint(order, body.pictures, Lane.REQUEST))
    return _picture_response(done)


# -- jobs --------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/jobs",
    tags=["jobs"],
    status_code=202,
    openapi_extra=body_of("StylizeRequest", form_of()),
    responses=problems(*_PAINTING),
)
async def new_job(request: Request, service: Serving) -> JSONResponse:
    """Put a painting into the queue; it survives a restart of the server."""
    async with service.intake.read(request, StylizeRequest) as body:
        order, pool = await service.painting_order("render", body, fast=False)
        content = body.reference(body.model.content, "content")
        await wanted(request, service.inspect(body))
        order["output"] = body.model.output.model_dump()
        jobs = service.new_jobs(order, pool, [content])
        (job_id,) = await service.manager.submit(jobs, body.pictures)
    return JSONResponse(service.manager.get(job_id), 202, {"Location": f"/v1/jobs/{job_id}"})


@router.get("/v1/jobs/{job_id}", tags=["jobs"], responses=problems(404))
async def get_job(service: Serving, job_id: str) -> dict[str, Any]:
    """A job as it stands."""
    return service.manager.get(job_id)


@router.get(
    "/v1/jobs/{job_id}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses=problems(404, also={200: _STREAM}),
)
async def job_events(service: Serving, job_id: str) -> StreamingResponse:
    """A job as it goes on: ``job``, ``progress``, ``preview``, and ``end`` at last."""
    service.manager.get(job_id)
    return _events(service.manager.events(job_id))


def _events(stream: Any) -> StreamingResponse:
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get(
    "/v1/jobs/{job_id}/preview",
    tags=["jobs"],
    response_class=Response,
    responses=problems(
        404, also={200: {"description": "the newest intermediate picture", "content": {"image/webp": _BINARY}}}
    ),
)
async def job_preview(service: Serving, job_id: str) -> Response:
    """The newest intermediate picture; made only while somebody listens to the job's events."""
    return Response(service.manager.preview(job_id), media_type="image/webp")


@router.get(
    "/v1/jobs/{job_id}/result",
    tags=["jobs"],
    response_class=Response,
    responses=problems(404, 409, 413, 422, 429, 503, 504, also={200: _PICTURES}),
)
async def job_result(
    request: Request,
    service: Serving,
    job_id: str,
    download: Annotated[bool, Query(description="as a file to be saved")] = False,
    format: Annotated[Literal["jpeg", "png", "webp"] | None, Query(description="another than it was made in")] = None,
    quality: Annotated[int, Query(ge=1, le=100, description="of another JPEG or WebP")] = 95,
    strip: Annotated[bool, Query(description="without metadata, the recipe too")] = False,
    size: Annotated[int | None, Query(ge=16, le=8192, description="longer side of a thumbnail [px]")] = None,
) -> Response:
    """The painting, as the job asked for it, or written anew in another format or size."""
    record, path = service.manager.result(job_id)
    facts = record.result or {}
    kinds = {media_type: name for name, (media_type, _) in WRITTEN.items()}
    kind: str = format or kinds[facts["media_type"]]
    name = str(Path(record.name).with_suffix(WRITTEN[kind][1]))
    headers = {"Content-Disposition": _disposition("attachment" if download else "inline", name)}
    output = {"format": kind, "quality": quality, "strip": strip}
    if size is None and ((format is None and not strip) or _is_written_so(facts, output)):
        return _file(path, facts["media_type"], headers)
    done = await wanted(request, service.rewritten(path, output, size))
    return Response(done.data, media_type=done.facts["media_type"], headers=headers)


def _file(path: Path, media_type: str, headers: Mapping[str, str]) -> Response:
    """A file that is opened before the answer begins: it may be removed at any moment.

    Raises:
        ProblemError: it was.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ProblemError("not-found", "the result was removed") from error
    size = os.fstat(stream.fileno()).st_size
    return StreamingResponse(
        iter(lambda: stream.read(BLOCK), b""),
        media_type=media_type,
        headers=dict(headers) | {"Content-Length": str(size)},
        background=BackgroundTask(stream.close),
    )


def _is_written_so(facts: Mapping[str, Any], output: Mapping[str, Any]) -> bool:
    """Whether a result's file is what is asked for already; without loss, quality means nothing."""
    asked = [WRITTEN[output["format"]][0], output["strip"], output["quality"]]
    found = [facts["media_type"], facts.get("strip", False), facts.get("quality", 95)]
    return found[:2] == asked[:2] and (output["format"] == "png" or found == asked)


@router.post("/v1/jobs/{job_id}/cancel", tags=["jobs"], responses=problems(404, 409))
async def cancel_job(service: Serving, job_id: str) -> dict[str, Any]:
    """Take a job back."""
    return await service.manager.cancel(job_id)


@router.delete("/v1/jobs/{job_id}", tags=["jobs"], status_code=204, responses=problems(404))
async def delete_job(service: Serving, job_id: str) -> Response:
    """Take a job back if it has not ended, and remove everything of it."""
    await service.manager.remove(job_id)
    return Response(status_code=204)


# -- batches -----------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/batches",
    tags=["batches"],
    status_code=202,
    openapi_extra=body_of("BatchRequest", form_of(many=True)),
    responses=problems(*_PAINTING),
)
async def new_batch(request: Request, service: Serving) -> JSONResponse:
    """Put several photographs into the queue, all painted alike; a ZIP archive at the end.

    With ``open`` it begins empty and grows by ``POST /v1/batches/{batch_id}/photos`` until it is closed.
    """
    async with service.intake.read(request, BatchRequest, many=True) as body:
        order, pool = await service.painting_order("render", body, fast=False)
        order["output"] = body.model.output.model_dump()
        if body.model.open:
            await wanted(request, service.inspect(body))
            batch_id = await service.manager.open_batch(pool, order, body.pictures)
        else:
            contents = [body.reference(content, "content") for content in body.model.contents]
            await wanted(request, service.inspect(body))
            jobs = service.new_jobs(order, pool, contents)
            batch_id, *_ = await service.manager.submit(jobs, body.pictures, batch=True)
    return JSONResponse(service.manager.describe_batch(batch_id), 202, {"Location": f"/v1/batches/{batch_id}"})


@router.post(
    "/v1/batches/{batch_id}/photos",
    tags=["batches"],
    status_code=202,
    openapi_extra=body_of("PhotosRequest", photos_form()),
    responses=problems(*_PAINTING, 409),
)
async def add_photos(request: Request, service: Serving, batch_id: str) -> dict[str, Any]:
    """Add photographs to a batch that was opened to grow; ``jobs`` of the answer are the new ones."""
    batch = service.manager.opened(batch_id)
    async with service.intake.read(request, PhotosRequest, many=True) as body:
        contents = [body.reference(content, "content") for content in body.model.contents]
        await wanted(request, service.inspect(body))
        jobs = service.new_jobs(batch.order, batch.pool, contents)
        return await service.manager.add_photos(batch_id, jobs, body.pictures)


@router.post("/v1/batches/{batch_id}/close", tags=["batches"], responses=problems(404, 409))
async def close_batch(service: Serving, batch_id: str) -> dict[str, Any]:
    """Say that nothing more will be added; what is in the batch is painted to its end."""
    return await service.manager.close_batch(batch_id)


@router.get("/v1/batches/{batch_id}", tags=["batches"], responses=problems(404))
async def get_batch(service: Serving, batch_id: str) -> dict[str, Any]:
    """A batch as it stands."""
    return service.manager.describe_batch(batch_id)


@router.get(
    "/v1/batches/{batch_id}/events",
    tags=["batches"],
    response_class=StreamingResponse,
    responses=problems(404, also={200: _STREAM}),
)
async def batch_events(service: Serving, batch_id: str) -> StreamingResponse:
    """A batch as it goes on: ``batch``, ``job``, and ``end`` at last."""
    service.manager.describe_batch(batch_id, jobs=False)
    return _events(service.manager.batch_events(batch_id))


@router.get(
    "/v1/batches/{batch_id}/zip",
    tags=["batches"],
    response_class=StreamingResponse,
    responses=problems(404, 409, also={200: {"description": "the paintings", "content": {"application/zip": _BINARY}}}),
)
async def batch_zip(service: Serving, batch_id: str) -> StreamingResponse:
    """All paintings of a batch; what failed stands in ``errors.json``."""
    files, failures = service.manager.batch_results(batch_id)
    headers = {"Content-Disposition": _disposition("attachment", "impasto.zip")}
    return StreamingResponse(zipped(files, failures), media_type="application/zip", headers=headers)


@router.post("/v1/batches/{batch_id}/cancel", tags=["batches"], responses=problems(404, 409))
async def cancel_batch(service: Serving, batch_id: str) -> dict[str, Any]:
    """Take back what is left of a batch."""
    return await service.manager.cancel_batch(batch_id)


@router.delete("/v1/batches/{batch_id}", tags=["batches"], status_code=204, responses=problems(404))
async def delete_batch(service: Serving, batch_id: str) -> Response:
    """Take back and remove a whole batch."""
    await service.manager.remove_batch(batch_id)
    return Response(status_code=204)


class _Sink:
    """A file that cannot be rewound: collects what the archive writes until it is sent."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def taken(self) -> bytes:
        data, self._chunks = b"".join(self._chunks), []
        return data


def zipped(
    files: Sequence[tuple[str, Path]], failures: Sequence[dict[str, Any]], *, block: int = BLOCK
) -> Iterator[bytes]:
    """A ZIP archive, block by block, so that a large one takes no memory; pictures are compressed already."""
    sink = _Sink()
    missing: list[dict[str, Any]] = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for name, path in files:
            try:
                stream = path.open("rb")
            except OSError:  # removed meanwhile
                missing.append({"name": name, "status": "removed", "error": None})
                continue
            with stream, archive.open(name, "w") as entry:
                while data := stream.read(block):
                    entry.write(data)
                    yield sink.taken()
        if failures or missing:
            archive.writestr("errors.json", json.dumps([*failures, *missing], indent=2, ensure_ascii=False))
    yield sink.taken()

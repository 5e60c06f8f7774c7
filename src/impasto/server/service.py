"""What the server is made of, and the way from a checked request to an order for a worker."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.engines import ENGINES, EngineSpec, engine_options, engine_spec, options_type
from impasto.errors import MissingExtraError, UnknownNameError, UsageError
from impasto.server.bodies import Body, Intake
from impasto.server.jobs import JobManager, NewJob, result_name
from impasto.server.logs import log_event
from impasto.server.media import recognise
from impasto.server.metrics import Metrics
from impasto.server.pool import Lane, Pool, PoolSettings
from impasto.server.problems import ProblemError
from impasto.server.schemas import Region, StyleRef, describe_settings, is_free_text
from impasto.server.settings import ServerSettings, default_state_folder
from impasto.server.store import JobRecord, JobStore
from impasto.server.uploads import Upload, UploadStore, key_of
from impasto.stylizer import DEFAULT_ENGINE

__all__ = ["Painted", "Service", "list_engines", "missing_extra"]

SLOW_IDLE_SECONDS = 600.0  # PyTorch's memory goes back after so long without a slow job


@dataclass(frozen=True)
class Painted:
    """An answer of a worker: facts, bytes, and how long it had to wait for its turn."""

    facts: dict[str, Any]
    data: bytes
    waited: float


class Service:
    """Uploads, pools and jobs of one server. ``start`` and ``close`` belong into the event loop."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.uploads = UploadStore(settings.upload_bytes, settings.upload_seconds)
        self.intake = Intake(settings, self.uploads)
        self.metrics = Metrics(self._gauges)
        self.pools: dict[str, Pool] = {}
        self.jobs: JobManager | None = None
        self._store: JobStore | None = None
        self._presets: dict[str, dict[str, Any]] = {}
        self._thumbnails: dict[tuple[str, str], bytes] = {}

    def open(self) -> JobStore:
        """Open the state folder, if it is not open yet; whoever wants to know early whether that works calls it.

        Raises:
            OutputError: the state folder cannot be used.
            UsageError: another server uses it.
        """
        if self._store is None:
            self._store = JobStore(self.settings.state or default_state_folder())
        return self._store

    async def start(self) -> None:
        """Open the state folder, start the workers, take up the queue.

        Raises:
            OutputError: the state folder cannot be used.
            UsageError: another server uses it.
        """
        settings = self.settings
        store = await asyncio.to_thread(self.open)
        limits = {"pixels": settings.pixels, "memory": settings.memory}
        folder = str(store.temporary)
        fast = PoolSettings(
            "fast", settings.workers, settings.queue, (DEFAULT_ENGINE,), None, settings.setup, folder, limits
        )
        slow = PoolSettings(
            "slow", settings.slow_workers, settings.queue, (), SLOW_IDLE_SECONDS, settings.setup, folder, limits
        )
        self.pools = {"fast": Pool(fast, log_event), "slow": Pool(slow, log_event)}
        for pool in self.pools.values():
            pool.start()
        self.jobs = JobManager(settings, store, self.pools, log_event)
        self.jobs.finished = self._job_ended
        self.jobs.start()

    async def close(self) -> None:
        """Stop everything; what was queued waits for the next start."""
        if self.jobs is None:
            return
        self.jobs.end_streams()
        for pool in self.pools.values():
            await pool.close()
        await self.jobs.close()
        self.jobs.store.close()
        self._store = None

    def end_streams(self) -> None:
        """Let the event streams end: the server is about to."""
        if self.jobs is not None:
            self.jobs.end_streams()

    @property
    def ready(self) -> bool:
        """Whether paintings can be made at once."""
        return self.jobs is not None and all(pool.ready for pool in self.pools.values())

    @property
    def manager(self) -> JobManager:
        """The jobs.

        Raises:
            ProblemError: the server has not started yet.
        """
        if self.jobs is None:
            raise ProblemError("not-ready", "the server is starting", retry_after=1)
        return self.jobs

    def _job_ended(self, record: JobRecord) -> None:
        if record.finished is not None:
            self.metrics.job(record.engine, record.status, record.finished - record.created)
        if record.result is not None:
            self.metrics.painting(record.engine, Lane.JOB, record.result["seconds"])

    def _gauges(self) -> Iterable[tuple[str, str, dict[str, str], float]]:
        for name, pool in self.pools.items():
            for lane in Lane:
                yield (
                    "impasto_waiting",
                    "Orders that wait for a worker",
                    {"pool": name, "lane": lane},
                    pool.waiting(lane),
                )
            yield "impasto_running", "Orders that are worked on", {"pool": name}, pool.running
            yield "impasto_workers", "Worker processes", {"pool": name}, pool.alive
            yield (
                "impasto_worker_deaths",
                "Workers that ended unexpectedly or were stopped",
                {"pool": name},
                pool.restarts,
            )
        yield "impasto_uploads", "Uploads held", {}, len(self.uploads)
        yield "impasto_upload_bytes", "Memory of uploads", {}, self.uploads.bytes
        yield "impasto_received_held_bytes", "Memory of requests that are worked on", {}, self.intake.held
        if self.jobs is not None:
            yield "impasto_storage_bytes", "Disk space of jobs", {}, self.jobs.store.bytes
            for status, count in self.jobs.store.counts().items():
                yield "impasto_jobs", "Jobs by status", {"status": status}, count

    # -- orders --------------------------------------------------------------------------------------------------------

    async def paint(
        self,
        order: dict[str, Any],
        pictures: dict[str, bytes],
        lane: Lane,
        pool: str = "fast",
    ) -> Painted:
        """Have an order done while the client waits, not longer than requests may for their turn.

        Raises:
            ProblemError: whatever went wrong.
        """
        place = self.pools[pool]
        seconds = self.settings.request_seconds
        ticket = place.submit(order, pictures, lane=lane, seconds=seconds, patience=seconds)
        try:
            facts, data = await ticket.done
        finally:
            place.stop(ticket)
        if "seconds" in facts and "engine" in order and order["kind"] != "estimate":
            self.metrics.painting(order["engine"], lane, facts["seconds"])
        return Painted(facts, data, ticket.waited)

    async def rewritten(self, path: Path, output: dict[str, Any], size: int | None) -> Painted:
        """A result in another format, with its recipe; or as a thumbnail, without.

        Raises:
            ProblemError: it was removed meanwhile, or cannot be written so.
        """
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise ProblemError("not-found", "the result was removed") from error
        content = {"key": key_of(data), "name": "", "role": "painted"}
        order: dict[str, Any] = {"kind": "convert", "content": content, "output": output}
        if size is not None:
            order |= {"kind": "picture", "longer_side": size, "format": output["format"], "quality": output["quality"]}
        return await self.paint(order, {key_of(data): data}, Lane.PREVIEW)

    async def checked_engine(self, name: str, options: dict[str, Any], *, fast: bool = False) -> EngineSpec:
        """The engine that a request names, if it can be used with these options.

        Raises:
            UnknownNameError: there is none of that name, or no such option.
            UsageError: an option out of range.
            MissingExtraError: its packages are not installed.
            ProblemError: ``fast`` is asked for and it is not.
        """
        spec = engine_spec(name)
        engine_options(name, options)
        _refuse_free_texts(name, options)
        if missing_extra(spec.extra):
            raise MissingExtraError(f"the engine '{name}'", spec.extra)
        if fast and spec.capabilities.slow:
            raise ProblemError("slow-engine", f"the engine '{name}' takes long; send this to POST /v1/jobs")
        return spec

    async def painting_order(self, kind: str, body: Body, *, fast: bool) -> tuple[dict[str, Any], str]:
        """The order of a request for a painting, without its content; and the pool it belongs to.

        Raises:
            ImpastoError: names or pictures that do not exist or cannot be used.
        """
        model = body.model
        spec = await self.checked_engine(model.engine, model.options, fast=fast)
        order: dict[str, Any] = {
            "kind": kind,
            "engine": model.engine,
            "settings": model.settings.model_dump(),
            "options": model.options,
            "styles": [self._style(style, body) for style in model.styles],
            "mask": None,
            "regions": [],
            "feather": 0.0,
            "feather_mode": "gaussian",
        }
        regions: Sequence[Region] = getattr(model, "regions", ())
        if getattr(model, "mask", None) is not None:
            order["mask"] = body.reference(model.mask, "mask")
        for region in regions:
            styles = [self._style(style, body) for style in region.styles]
            order["regions"].append(
                {"mask": body.reference(region.mask, "region mask"), "styles": styles, "strength": region.strength}
            )
        if regions:
            order |= {"feather": model.feather, "feather_mode": model.feather_mode}
        pool = "slow" if spec.capabilities.slow else "fast"
        if pool == "fast":
            await self._check_presets(model.engine, [model.styles, *(region.styles for region in regions)])
        return order, pool

    def _style(self, style: StyleRef, body: Body) -> dict[str, Any]:
        if style.preset is not None:
            return {"preset": style.preset, "weight": style.weight}
        return body.reference(style, "style") | {"weight": style.weight}

    async def _check_presets(self, engine: str, groups: Iterable[Sequence[StyleRef]]) -> None:
        """Answer a wrong name at once, and not only when a worker comes to it."""
        named = {style.preset for styles in groups for style in styles if style.preset is not None}
        if named:
            known = {row["name"] for row in (await self.presets(engine))["presets"]}
            for name in sorted(named - known):
                raise UnknownNameError(f"preset of {engine}", name, known)

    async def inspect(self, body: Body) -> dict[str, tuple[int, int]]:
        """Decode the pictures that no upload has checked before: a bad one is answered now; gives their sizes by key.

        Raises:
            ProblemError: one cannot be read, or is too large.
        """
        sizes = {}
        for key, reference in body.fresh.items():
            done = await self.paint({"kind": "inspect", "content": reference}, {key: body.pictures[key]}, Lane.REQUEST)
            sizes[key] = (int(done.facts["height"]), int(done.facts["width"]))
        return sizes

    def new_jobs(self, order: dict[str, Any], pool: str, contents: Sequence[dict[str, str]]) -> list[NewJob]:
        """A job for each content, with one order for all."""
        shared = _keys_in(order)
        styles = [style for one in (order, *order["regions"]) for style in one["styles"]]
        names = [style.get("preset") or style.get("name") or "style" for style in styles]
        return [
            NewJob(
                order | {"content": content},
                pool,
                result_name(content["name"], names, order["output"]["format"]),
                (content["key"], *shared),
            )
            for content in contents
        ]

    # -- uploads and lists ---------------------------------------------------------------------------------------------

    async def upload(self, body: Body) -> Upload:
        """Keep a picture that was sent, once it is known that it can be read.

        Raises:
            ProblemError: it cannot, or is too large.
        """
        reference = body.reference(body.model, "uploaded")
        sizes = await self.inspect(body)
        key, part = reference["key"], body.pictures[reference["key"]]
        return self.uploads.add(part, recognise(part, None, "uploaded"), reference["name"], sizes[key])

    async def presets(self, engine: str) -> dict[str, Any]:
        """Names, titles and credits of an engine's presets, as its worker knows them.

        Raises:
            ImpastoError: there is no such engine, or it cannot be loaded.
        """
        if engine not in self._presets:
            spec = await self.checked_engine(engine, {})
            pool = "slow" if spec.capabilities.slow else "fast"
            done = await self.paint({"kind": "presets", "engine": engine}, {}, Lane.REQUEST, pool)
            self._presets[engine] = done.facts
        return self._presets[engine]

    async def thumbnail(self, engine: str, name: str) -> tuple[bytes, str]:
        """A preset's thumbnail (WebP), painted once; and a tag that changes when it would.

        Raises:
            ImpastoError: there is no such engine or preset.
        """
        spec = await self.checked_engine(engine, {}, fast=True)
        known = await self.presets(spec.name)
        names = [row["name"] for row in known["presets"]]
        if name not in names:
            raise UnknownNameError(f"preset of {engine}", name, names)
        if (engine, name) not in self._thumbnails:
            order = {"kind": "thumbnail", "engine": engine, "name": name}
            self._thumbnails[engine, name] = (await self.paint(order, {}, Lane.PREVIEW)).data
        return self._thumbnails[engine, name], f'"{known["identity"]}"'


def _refuse_free_texts(engine: str, options: Mapping[str, Any]) -> None:
    """Engines may take files and addresses by such options; a client must not make the server open one.

    Raises:
        UsageError: an option that takes any text.
    """
    kind = options_type(engine)
    for info in () if kind is None else dataclasses.fields(kind):
        if info.name in options and is_free_text(info):
            raise UsageError(f"the option '{info.name}' of {engine} may name files; the server does not take it")


def _keys_in(order: dict[str, Any]) -> tuple[str, ...]:
    """Keys of the pictures of an order besides its content."""
    found = {style["key"] for one in (order, *order["regions"]) for style in one["styles"] if "key" in style}
    found |= {region["mask"]["key"] for region in order["regions"]}
    if order["mask"] is not None:
        found.add(order["mask"]["key"])
    return tuple(sorted(found))


@functools.cache
def missing_extra(extra: str) -> bool:
    """Whether a package of an optional part is not installed; read from the package's own metadata."""
    return bool(extra) and any(not _installed(name) for name in _packages_of(extra, frozenset()))


def _packages_of(extra: str, seen: frozenset[str]) -> set[str]:
    try:
        lines = importlib.metadata.requires("impasto") or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    found: set[str] = set()
    for line in lines:
        requirement, _, marker = line.partition(";")
        if re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", marker) is None:
            continue
        name, _, extras = re.split(r"[<>=!~ ]", requirement.strip(), maxsplit=1)[0].partition("[")
        if name.lower() != "impasto":
            found.add(name)
            continue
        for other in extras.rstrip("]").split(","):
            if other and other not in seen:
                found |= _packages_of(other.strip(), seen | {extra})
    return found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def list_engines() -> list[dict[str, Any]]:
    """The registry, for clients."""
    rows = []
    for spec in ENGINES.values():
        kind, missing = options_type(spec.name), missing_extra(spec.extra)
        without_model = bool(spec.environment) and not os.environ.get(spec.environment)
        needed = f"pip install 'impasto[{spec.extra}]'" if missing else f"{spec.environment}=FOLDER"
        rows.append(
            {
                "name": spec.name,
                "summary": spec.summary,
                "available": not missing and not without_model,
                "install": needed if missing or without_model else "",
                "slow": spec.capabilities.slow,
                "capabilities": dataclasses.asdict(spec.capabilities),
                "options": [] if kind is None else describe_settings(kind),
            }
        )
    return rows

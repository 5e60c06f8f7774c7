"""Jobs and batches: from the store to the workers and back, and what clients hear of it meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from impasto.errors import OutputError
from impasto.server.media import WRITTEN, entry_name
from impasto.server.pool import Lane, Pool, Ticket
from impasto.server.problems import Problem, ProblemError
from impasto.server.schemas import MOST_CONTENTS
from impasto.server.settings import ServerSettings
from impasto.server.store import ENDED, JobRecord, JobStore, OpenBatch

__all__ = ["JobManager", "NewJob", "event", "result_name"]

KEEP_ALIVE = 15.0  # seconds between two signs of life on a quiet stream
STORE_TROUBLE = 5.0  # seconds after which a queue that could not be written is tried again
OPEN_SECONDS = 600.0  # a batch to which nothing was added for so long is closed
QUIET = 0.2  # seconds that a batch's stream waits to tell of several changes at once


@dataclass(frozen=True)
class NewJob:
    """A job to be: the worker's order, and what it is called."""

    order: dict[str, Any]
    pool: str
    name: str
    keys: tuple[str, ...]


class _Signal:
    """Wakes everybody who waits, each time. Who takes :attr:`next` before looking misses nothing that comes after."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def send(self) -> None:
        self.next.set()
        self.next = asyncio.Event()


async def _came(signal: asyncio.Event, seconds: float) -> bool:
    """Wait for a signal; False when it did not come in time."""
    try:
        await asyncio.wait_for(signal.wait(), seconds)
    except TimeoutError:
        return False
    return True


@dataclass(eq=False)
class _Live:
    """What is known of a job beyond its row: only while it waits, runs, or somebody listens."""

    progress: dict[str, Any] = field(default_factory=lambda: {"done": 0.0, "step": 0, "steps": 0, "message": ""})
    preview: bytes = b""
    preview_size: tuple[int, int] = (0, 0)
    version: int = 0
    status_version: int = 0
    listeners: int = 0
    ticket: Ticket | None = None
    changed: _Signal = field(default_factory=_Signal)


class JobManager:
    """Runs the store's jobs in the pools. All methods are to be called in the event loop."""

    def __init__(
        self, settings: ServerSettings, store: JobStore, pools: Mapping[str, Pool], log: Callable[..., None]
    ) -> None:
        self._settings = settings
        self.store = store
        self._pools = pools
        self._log = log
        self._live: dict[str, _Live] = {}
        self._arrived = {name: asyncio.Event() for name in pools}
        self._batch_changed: dict[str, _Signal] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._entering = asyncio.Lock()  # from looking whether there is room to taking it
        self.closing = asyncio.Event()
        self.finished: Callable[[JobRecord], None] = lambda record: None

    def start(self) -> None:
        """Take up what waits, and what ran when the server went away."""
        waiting, given_up = self.store.recover()
        if waiting or given_up:
            self._log("queue taken up", waiting=waiting, given_up=len(given_up))
        for name, pool in self._pools.items():
            self._tasks += [asyncio.create_task(self._run(name)) for _ in range(pool.settings.size)]
        self._tasks.append(asyncio.create_task(self._forget()))

    def end_streams(self) -> None:
        """Let the event streams end."""
        self.closing.set()
        for signal in (*(live.changed for live in self._live.values()), *self._batch_changed.values()):
            signal.send()

    async def close(self) -> None:
        """Stop; jobs that ran wait in the store for the next start."""
        self.end_streams()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- coming and going ----------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob], pictures: Mapping[str, bytes], *, batch: bool = False) -> list[str]:
        """Store jobs, all or none; gives their ids, and with ``batch`` the batch's id first.

        Raises:
            ProblemError: too many jobs or too many bytes are there already.
        """
        async with self._entering:
            self._check_room(len(jobs), pictures)
            batch_id = secrets.token_urlsafe(16) if batch else None
            ids = await self._stored(jobs, pictures, batch_id)
        return ([batch_id] if batch_id is not None else []) + ids

    def _check_room(self, jobs: int, pictures: Mapping[str, bytes]) -> None:
        counts = self.store.counts()
        if counts["queued"] + counts["running"] + jobs > self._settings.jobs:
            room = max(0, self._settings.jobs - counts["queued"] - counts["running"])
            raise ProblemError(
                "busy", f"there is room for {room} more jobs, not for {jobs}; try again later", retry_after=30
            )
        if self.store.bytes + sum(map(len, pictures.values())) > self._settings.storage_bytes:
            raise ProblemError(
                "busy", "the disk space for jobs is used up; remove results, or try again later", retry_after=60
            )

    async def _stored(self, jobs: Sequence[NewJob], pictures: Mapping[str, bytes], batch_id: str | None) -> list[str]:
        rows = [
            {
                "id": secrets.token_urlsafe(16),
                "batch": batch_id,
                "pool": job.pool,
                "engine": job.order["engine"],
                "name": job.name,
                "order": job.order,
                "keys": job.keys,
            }
            for job in jobs
        ]
        try:
            await asyncio.to_thread(self.store.add, rows, pictures)
        except OutputError as error:
            self._log("job not stored", error=str(error))
            raise ProblemError("busy", "the job cannot be stored at the moment", retry_after=60) from error
        for job in jobs:
            self._arrived[job.pool].set()
        return [row["id"] for row in rows]

    async def open_batch(self, pool: str, order: dict[str, Any], pictures: Mapping[str, bytes]) -> str:
        """Begin a batch that grows by :meth:`add_photos` until :meth:`close_batch`; gives its id.

        Args:
            pool: that paints it.
            order: what all its jobs have in common.
            pictures: that all of them need.

        Raises:
            ProblemError: too many bytes are there already.
        """
        batch = OpenBatch(secrets.token_urlsafe(16), pool, order)
        async with self._entering:
            self._check_room(0, pictures)
            try:
                await asyncio.to_thread(self.store.open_batch, batch, pictures)
            except OutputError as error:
                self._log("batch not stored", error=str(error))
                raise ProblemError("busy", "the batch cannot be stored at the moment", retry_after=60) from error
        return batch.id

    def opened(self, batch_id: str) -> OpenBatch:
        """A batch that still grows; asking for it keeps it open.

        Raises:
            ProblemError: there is none of that id, or it is closed.
        """
        found = self.store.opened(batch_id)
        if found is None:
            self._batch(batch_id)
            raise ProblemError("state", "the batch is closed; nothing can be added to it")
        self.store.touch_batch(batch_id)
        return found

    async def add_photos(self, batch_id: str, jobs: Sequence[NewJob], pictures: Mapping[str, bytes]) -> dict[str, Any]:
        """Let a batch grow; gives it with its new jobs only.

        Raises:
            ProblemError: it is closed or gone, or there is no room.
        """
        async with self._entering:
            self.opened(batch_id)
            room = MOST_CONTENTS - len(self.store.batch(batch_id))
            if len(jobs) > room:
                raise ProblemError("invalid", f"a batch has {MOST_CONTENTS} photographs at most; this one takes {room}")
            self._check_room(len(jobs), pictures)
            ids = await self._stored(jobs, pictures, batch_id)
        self._batch_signal(batch_id)
        return self.describe_batch(batch_id, jobs=False) | {"jobs": [self.get(job_id) for job_id in ids]}

    async def close_batch(self, batch_id: str) -> dict[str, Any]:
        """Nothing more will be added to a batch; closing it twice is no error.

        Raises:
            ProblemError: there is none of that id, or nothing in it.
        """
        if not self._batch(batch_id):
            raise ProblemError("state", "the batch has no photographs; add some, or remove it")
        await self._closed(batch_id)
        return self.describe_batch(batch_id)

    async def _closed(self, batch_id: str) -> bool:
        async with self._entering:
            changed = await asyncio.to_thread(self.store.close_batch, batch_id)
        self._batch_signal(batch_id)
        return changed

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Take a job back.

        Raises:
            ProblemError: there is none of that id, or it has ended.
        """
        record = self._record(job_id)
        if not await self._cancelled(record):
            raise ProblemError("state", f"the job has ended already ({record.status})")
        return self.describe(self._record(job_id))

    async def _cancelled(self, record: JobRecord) -> bool:
        if not await asyncio.to_thread(self.store.cancel, record.id):
            return False
        live = self._live.get(record.id)
        if live is not None and live.ticket is not None:
            self._pools[record.pool].stop(live.ticket)
        self._changed(record.id)
        return True

    async def remove(self, job_id: str) -> None:
        """Take a job back if it has not ended, and forget it.

        Raises:
            ProblemError: there is none of that id.
        """
        await self._cancelled(self._record(job_id))
        await asyncio.to_thread(self.store.remove, [job_id])
        self._changed(job_id)

    async def cancel_batch(self, batch_id: str) -> dict[str, Any]:
        """Take back what is left of a batch.

        Raises:
            ProblemError: there is none of that id, or all of it has ended.
        """
        if not self._batch(batch_id):
            raise ProblemError("state", "the batch has no photographs; add some, or remove it")
        closed = await self._closed(batch_id)
        stopped = [await self._cancelled(record) for record in self._batch(batch_id) if not record.ended]
        if not closed and not any(stopped):
            raise ProblemError("state", "the batch has ended already")
        return self.describe_batch(batch_id)

    async def remove_batch(self, batch_id: str) -> None:
        """Take back and forget a batch.

        Raises:
            ProblemError: there is none of that id.
        """
        self._batch(batch_id)
        await self._closed(batch_id)
        records = self.store.batch(batch_id)
        for record in records:
            await self._cancelled(record)
        await asyncio.to_thread(self.store.remove, [record.id for record in records])
        for record in records:
            self._changed(record.id)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _record(self, job_id: str) -> JobRecord:
        record = self.store.get(job_id)
        if record is None:
            raise ProblemError("not-found", f"there is no job {job_id[:64]!r}, or no more")
        return record

    def _batch(self, batch_id: str) -> list[JobRecord]:
        """Jobs of a batch; none if it was opened and nothing was added yet."""
        records = self.store.batch(batch_id)
        if not records and self.store.opened(batch_id) is None:
            raise ProblemError("not-found", f"there is no batch {batch_id[:64]!r}, or no more")
        return records

    def get(self, job_id: str) -> dict[str, Any]:
        """A job as clients see it.

        Raises:
            ProblemError: there is none of that id.
        """
        return self.describe(self._record(job_id))

    def describe(self, record: JobRecord) -> dict[str, Any]:
        """A job as clients see it."""
        live = self._live.get(record.id) or _Live()
        progress = live.progress if record.status != "done" else live.progress | {"done": 1.0}
        result = record.result
        return {
            "id": record.id,
            "status": record.status,
            "engine": record.engine,
            "name": record.name,
            "batch": record.batch,
            "created": _time(record.created),
            "started": _time(record.started),
            "finished": _time(record.finished),
            "position": self.store.position(record) if record.status == "queued" else None,
            "attempts": record.attempts,
            "progress": progress,
            "preview": _preview_url(record.id, live.version) if live.version and not record.ended else None,
            "result": None if result is None else result | {"url": f"/v1/jobs/{record.id}/result"},
            "error": record.error,
        }

    def preview(self, job_id: str) -> bytes:
        """The newest intermediate picture of a job, WebP.

        Raises:
            ProblemError: there is none.
        """
        live = self._live.get(self._record(job_id).id)
        if live is None or not live.preview:
            raise ProblemError("not-found", "the job has no preview, or not yet")
        return live.preview

    def result(self, job_id: str) -> tuple[JobRecord, Path]:
        """A job that is done, and where its result lies.

        Raises:
            ProblemError: there is none of that id, or it is not done.
        """
        record = self._record(job_id)
        if record.status != "done":
            raise ProblemError("state", f"the job is {record.status}; it has no result")
        return record, self.store.result(job_id)

    def describe_batch(self, batch_id: str, *, jobs: bool = True) -> dict[str, Any]:
        """A batch as clients see it.

        Raises:
            ProblemError: there is none of that id.
        """
        records = self._batch(batch_id)
        counts = {status: sum(record.status == status for record in records) for status in ENDED}
        opened = self.store.opened(batch_id) is not None
        ended = not opened and all(record.ended for record in records)
        shares = [1.0 if record.ended else self._done_of(record) for record in records]
        return {
            "id": batch_id,
            "status": "done" if ended else "open" if opened else "running",
            "total": len(records),
            **counts,
            "progress": sum(shares) / max(1, len(shares)),
            "jobs": [self.describe(record) for record in records] if jobs else [],
            "zip": f"/v1/batches/{batch_id}/zip" if ended else None,
        }

    def _done_of(self, record: JobRecord) -> float:
        live = self._live.get(record.id)
        return float(live.progress["done"]) if live is not None else 0.0

    def batch_results(self, batch_id: str) -> tuple[list[tuple[str, Path]], list[dict[str, Any]]]:
        """File names and places of a batch's results, and what failed.

        Raises:
            ProblemError: there is none of that id, or some of it has not ended.
        """
        records = self._batch(batch_id)
        if self.store.opened(batch_id) is not None or not all(record.ended for record in records):
            raise ProblemError("state", "the batch has not ended yet")
        names: set[str] = set()
        files = []
        for record in records:
            if record.status == "done":
                name = _unique(record.name, names)
                files.append((name, self.store.result(record.id)))
        failures = [
            {"name": one.name, "status": one.status, "error": one.error} for one in records if one.status != "done"
        ]
        return files, failures

    # -- streams -------------------------------------------------------------------------------------------------------

    async def events(self, job_id: str) -> AsyncIterator[bytes]:
        """A job's server-sent events until it ends; begins with the job as it is."""
        live = self._live.setdefault(job_id, _Live())
        live.listeners += 1
        self._watch(job_id, live)
        told: tuple[int, int, Any] = (-1, live.version, live.progress)
        try:
            while not self.closing.is_set():
                changed, now = live.changed.next, (live.status_version, live.version, live.progress)
                record = self.store.get(job_id)
                if record is None:
                    return
                if record.ended:
                    yield event("end", self.describe(record))
                    return
                if now[0] != told[0]:
                    yield event("job", self.describe(record))
                else:
                    if now[1] != told[1]:
                        height, width = live.preview_size
                        facts = {"url": _preview_url(job_id, now[1]), "version": now[1]}
                        yield event("preview", facts | {"height": height, "width": width})
                    if now[2] is not told[2]:
                        yield event("progress", now[2])
                told = now
                if not await _came(changed, KEEP_ALIVE):
                    yield b": keep-alive\n\n"
        finally:
            live.listeners -= 1
            self._watch(job_id, live)
            self._let_go(job_id, live)

    async def batch_events(self, batch_id: str) -> AsyncIterator[bytes]:
        """A batch's server-sent events until all of it has ended."""
        signal = self._batch_changed.setdefault(batch_id, _Signal())
        known: dict[str, str] = {}
        first = True
        while not self.closing.is_set():
            changed = signal.next
            opened = self.store.opened(batch_id) is not None
            records = self.store.batch(batch_id)
            if not records and not opened:
                return
            for record in records:
                if known.get(record.id) != record.status:
                    known[record.id] = record.status
                    if not first:
                        yield event("job", self.describe(record))
            first = False
            if not opened and all(record.ended for record in records):
                yield event("end", self.describe_batch(batch_id))
                self._batch_changed.pop(batch_id, None)
                return
            yield event("batch", self.describe_batch(batch_id, jobs=False))
            if not await _came(changed, KEEP_ALIVE):
                yield b": keep-alive\n\n"
            await asyncio.sleep(QUIET)

    def _watch(self, job_id: str, live: _Live) -> None:
        if live.ticket is not None:
            record = self.store.get(job_id)
            if record is not None:
                self._pools[record.pool].watch(live.ticket, live.listeners > 0)

    def _let_go(self, job_id: str, live: _Live) -> None:
        if live.listeners == 0 and live.ticket is None and self._live.get(job_id) is live:
            record = self.store.get(job_id)
            if record is None or record.ended or record.status == "queued":
                del self._live[job_id]

    def _changed(self, job_id: str) -> None:
        """The row of a job changed: tell everybody who listens."""
        live = self._live.get(job_id)
        if live is not None:
            live.status_version += 1
            live.changed.send()
            self._let_go(job_id, live)
        record = self.store.get(job_id)
        if record is not None:
            self._batch_signal(record.batch)

    def _batch_signal(self, batch_id: str | None) -> None:
        if batch_id in self._batch_changed:
            self._batch_changed[batch_id].send()

    # -- running -------------------------------------------------------------------------------------------------------

    async def _run(self, name: str) -> None:
        """Take one job after the other to a pool."""
        arrived = self._arrived[name]
        while True:
            arrived.clear()
            try:
                record = await asyncio.to_thread(self.store.claim, name)
                if record is not None:
                    await self._see_through(record)
            except sqlite3.Error as error:  # a full disk, for instance: it must not end the queue
                self._log("queue cannot be written", pool=name, error=str(error))
                await asyncio.sleep(STORE_TROUBLE)
                continue
            if record is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), 30)

    async def _see_through(self, record: JobRecord) -> None:
        """Carry a job out, whatever comes."""
        try:
            await self._carry_out(record)
        except Exception as error:  # a bug must not end the queue
            self._log("job failed unexpectedly", job=record.id, error=repr(error))
            problem = Problem("internal", "the job failed unexpectedly; the log has more")
            await asyncio.to_thread(self.store.fail, record.id, problem.as_dict())
        finally:
            self._end_live(record.id)

    async def _carry_out(self, record: JobRecord) -> None:
        live = self._live.setdefault(record.id, _Live())
        self._changed(record.id)
        try:
            pictures = await asyncio.to_thread(self.store.pictures, record.id)
            if self._status(record.id) != "running":
                return  # it was cancelled meanwhile
            live.ticket = self._pools[record.pool].submit(
                record.order,
                pictures,
                lane=Lane.JOB,
                seconds=self._settings.job_seconds,
                on_event=lambda kind, facts, data: self._heard(record.id, live, kind, facts, data),
            )
            self._watch(record.id, live)
            facts, data = await live.ticket.done
            await asyncio.to_thread(self.store.finish, record.id, facts, data)
        except ProblemError as error:
            if error.problem.kind == "not-ready" and self.closing.is_set():
                return  # it stays "running" in the store and is taken up at the next start
            await asyncio.to_thread(self.store.fail, record.id, error.problem.as_dict())
        except OutputError as error:
            self._log("job not stored", job=record.id, error=str(error))
            problem = Problem("internal", "the job's pictures cannot be read or written; the log has more")
            await asyncio.to_thread(self.store.fail, record.id, problem.as_dict())

    def _status(self, job_id: str) -> str | None:
        record = self.store.get(job_id)
        return None if record is None else record.status

    def _end_live(self, job_id: str) -> None:
        live = self._live.get(job_id)
        if live is not None:
            live.ticket = None
        record = self.store.get(job_id)
        if record is not None and record.ended:
            self.finished(record)
        self._changed(job_id)

    def _heard(self, job_id: str, live: _Live, kind: str, facts: dict[str, Any], data: bytes) -> None:
        if kind == "attempt":
            self.store.count_attempt(job_id)
            live.progress = _Live().progress
            live.status_version += 1
        elif kind == "progress":
            live.progress = {name: facts[name] for name in ("done", "step", "steps", "message")}
        elif kind == "preview":
            live.preview, live.preview_size = data, (facts["height"], facts["width"])
            live.version += 1
        live.changed.send()
        record = self.store.get(job_id)
        if record is not None:
            self._batch_signal(record.batch)

    async def _forget(self) -> None:
        """Remove what ended long ago; close batches whose client went away."""
        while True:
            try:
                for batch_id in await asyncio.to_thread(self.store.forgotten_batches, time.time() - OPEN_SECONDS):
                    await self._closed(batch_id)
                gone = await asyncio.to_thread(self.store.expire, time.time() - self._settings.keep_seconds)
            except (OSError, sqlite3.Error) as error:
                self._log("results cannot be removed", error=str(error))
                gone = []
            for job_id in gone:
                self._changed(job_id)
            if gone:
                self._log("results removed", jobs=len(gone))
            await asyncio.sleep(min(60.0, self._settings.keep_seconds))


def event(name: str, facts: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(facts, separators=(',', ':'))}\n\n".encode()


def result_name(content: str, styles: Sequence[str], file_format: str) -> str:
    """What a result is called: the photograph's and the styles' names."""
    stem = entry_name(content or "photo", "")
    label = "+".join(entry_name(style, "") for style in styles)[:60] or "painting"
    return f"{stem}.{label}{WRITTEN[file_format][1]}"


def _unique(name: str, taken: set[str]) -> str:
    stem, dot, suffix = name.rpartition(".")
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{stem} ({number}){dot}{suffix}"
    taken.add(found.casefold())
    return found


def _preview_url(job_id: str, version: int) -> str:
    return f"/v1/jobs/{job_id}/preview?version={version}"


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

"""Pools of worker processes: what is painted runs there, so that it can crash, be stopped, or be timed out for good.

A pool has a fixed number of places; each has one process, started by ``spawn``, which works on one order at a time and
stays warm for the next. Orders wait in three lanes: previews before requests before jobs, with every eighth turn given
to the lane that would otherwise starve.

Fast engines have a pool of their own, whose processes start with the server. Slow engines have another one, whose
processes start when they are needed and end after some minutes of rest, since PyTorch's memory is large.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import shutil
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from impasto.server.problems import Problem, ProblemError
from impasto.server.wire import Message, pack, unpack
from impasto.server.worker import work

__all__ = ["ATTEMPTS", "Lane", "Pool", "PoolSettings", "Ticket"]

ATTEMPTS = 2  # an order whose worker dies is tried once more
GRACE = 2.0  # seconds that an engine has to stop by itself before its process is killed
START_AGAIN = 5.0  # seconds until a worker that should be there and did not come up is tried again
START_SECONDS = 120.0  # for a worker to come up
FAIR_TURN = 8  # one in so many turns goes to the lowest lane that has something waiting

EventHandler = Callable[[str, dict[str, Any], bytes], None]
"""Called in the event loop with ``progress``, ``preview`` or ``attempt``, the facts, and a picture's bytes."""


class Lane(StrEnum):
    """Who waits: the first goes first."""

    PREVIEW = "preview"
    REQUEST = "request"
    JOB = "job"


@dataclass(frozen=True)
class PoolSettings:
    """What a pool's workers are.

    Attributes:
        name: for logs and metrics.
        size: processes.
        waiting: previews and requests that may wait; jobs wait in their own store.
        warm: engines that are loaded beforehand; processes of a pool without any start when they are needed.
        idle_seconds: a process that had nothing to do for so long ends; None keeps it.
        setup: see :class:`~impasto.server.settings.ServerSettings`.
        folder: private folder, in which each process has one of its own that goes with it.
        limits: further fields of :class:`~impasto.server.rendering.RenderLimits`.
    """

    name: str
    size: int
    waiting: int
    warm: tuple[str, ...]
    idle_seconds: float | None
    setup: str
    folder: str
    limits: Mapping[str, Any]


@dataclass(eq=False)
class Ticket:
    """An order on its way.

    Attributes:
        order: what to do, for :class:`~impasto.server.rendering.Renderer`.
        blobs: the pictures it refers to, by key.
        lane: see :class:`Lane`.
        seconds: longest time of one attempt.
        on_event: hears of progress.
        done: facts and bytes at the end, or a :class:`~impasto.server.problems.ProblemError`.
        attempts: workers that began with it.
    """

    order: dict[str, Any]
    blobs: Mapping[str, bytes]
    lane: Lane
    seconds: float
    done: asyncio.Future[tuple[dict[str, Any], bytes]]
    on_event: EventHandler | None = None
    watched: bool = False
    attempts: int = 0
    stopped: str = ""  # the kind of problem that ended it from outside
    number: int = field(default_factory=itertools.count(1).__next__)
    worker: _Worker | None = None
    queued: float = field(default_factory=time.monotonic)
    waited: float = 0.0


class _WorkerDiedError(Exception):
    """The process ended without an answer."""


class _Worker:
    """One process, seen from the server. ``call`` blocks and belongs into a thread."""

    def __init__(self, settings: PoolSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._folder = tempfile.mkdtemp(dir=settings.folder)  # readable by the owner only
        limits = dict(settings.limits) | {"folder": self._folder}
        arguments = (theirs, settings.setup, settings.warm, limits)
        self.process = context.Process(target=work, args=arguments, name=f"impasto-{settings.name}", daemon=True)
        self._sending = threading.Lock()
        try:
            self.process.start()
        finally:
            theirs.close()

    def wait_ready(self) -> None:
        """Wait until it has loaded what it needs.

        Raises:
            _WorkerDiedError: it ended, or took too long.
        """
        if not self._connection.poll(START_SECONDS):
            self.kill()
        header, _ = self._receive()
        if header["type"] != "ready":
            raise _WorkerDiedError

    def call(self, ticket: Ticket, tell: Callable[[dict[str, Any], list[bytes]], None]) -> Message:
        """Have an order done; ``tell`` hears of progress.

        Raises:
            _WorkerDiedError: the process ended without an answer.
        """
        self.send({"type": "task", "task": ticket.number, "order": ticket.order})
        self.send({"type": "watch", "task": ticket.number, "on": ticket.watched})
        while True:
            header, parts = self._receive()
            if header["type"] in ("done", "error"):
                return header, parts
            if header["type"] == "need":
                keys = [key for key in header["keys"] if key in ticket.blobs]
                answer = {"type": "blobs", "task": ticket.number, "keys": keys}
                self.send(answer, [ticket.blobs[key] for key in keys])
            else:
                tell(header, parts)

    def send(self, header: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        try:
            with self._sending:
                self._connection.send_bytes(pack(header, parts))
        except (OSError, ValueError) as error:
            raise _WorkerDiedError from error

    def _receive(self) -> Message:
        try:
            return unpack(self._connection.recv_bytes())
        except (EOFError, OSError, ValueError) as error:
            raise _WorkerDiedError from error

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(Exception):
            self.process.kill()

    def close(self) -> None:
        """End the process and give everything of it back."""
        self.kill()
        self.process.join(10)
        with contextlib.suppress(OSError):
            self._connection.close()
        with contextlib.suppress(ValueError):
            self.process.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Pool:
    """Worker processes behind three lanes. All methods are to be called in the event loop."""

    def __init__(self, settings: PoolSettings, log: Callable[..., None]) -> None:
        self.settings = settings
        self._log = log
        self._lanes: dict[Lane, deque[Ticket]] = {lane: deque() for lane in Lane}
        self._arrived = asyncio.Condition()
        self._turn = 0
        self._places: list[_Worker | None] = [None] * settings.size
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(settings.size + 1, thread_name_prefix=f"impasto-{settings.name}")
        self._mean = 0.2  # seconds of a request, smoothed
        self.restarts = 0
        self.running = 0

    # -- outside -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        self._tasks = [asyncio.create_task(self._serve(place)) for place in range(self.settings.size)]

    async def close(self) -> None:
        """End all processes; orders that are under way end with a problem."""
        for task in self._tasks:
            task.cancel()
        for worker in self._places:
            if worker is not None:
                worker.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for ticket in lane:
                _fail(ticket, Problem("not-ready", "the server is closing"))
        await asyncio.to_thread(self._close_places)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _close_places(self) -> None:
        for worker in self._places:
            if worker is not None:
                worker.close()

    @property
    def ready(self) -> bool:
        """Whether a worker is there; pools that start theirs when needed are always ready."""
        return not self.settings.warm or any(worker is not None for worker in self._places)

    @property
    def alive(self) -> int:
        """Processes that are there."""
        return sum(worker is not None for worker in self._places)

    def waiting(self, lane: Lane | None = None) -> int:
        """Orders that wait, in one lane or in all."""
        return sum(len(queue) for name, queue in self._lanes.items() if lane in (None, name))

    @property
    def retry_after(self) -> int:
        """Seconds after which a request that found the queue full may try again."""
        return max(1, min(120, round(self.waiting() * self._mean / self.settings.size)))

    def submit(
        self,
        order: dict[str, Any],
        blobs: Mapping[str, bytes],
        *,
        lane: Lane,
        seconds: float,
        on_event: EventHandler | None = None,
        patience: float | None = None,
    ) -> Ticket:
        """Put an order into a lane; its ``done`` ends with the answer.

        Args:
            order: see :class:`Ticket`, like the following.
            blobs: by key.
            lane: who waits.
            seconds: of one attempt.
            on_event: hears of progress.
            patience: seconds after which an order that no worker has begun with is sent away; None waits.

        Raises:
            ProblemError: too many are waiting.
        """
        if lane is not Lane.JOB and self.waiting(Lane.PREVIEW) + self.waiting(Lane.REQUEST) >= self.settings.waiting:
            raise ProblemError("busy", "too many requests are waiting; try again later", retry_after=self.retry_after)
        ticket = Ticket(order, blobs, lane, seconds, asyncio.get_running_loop().create_future(), on_event)
        self._lanes[lane].append(ticket)
        if patience is not None:
            timer = asyncio.get_running_loop().call_later(patience, self._send_away, ticket)
            ticket.done.add_done_callback(lambda _: timer.cancel())
        asyncio.create_task(self._notify())  # noqa: RUF006 - a moment long, and nothing depends on its end
        return ticket

    def stop(self, ticket: Ticket, kind: str = "cancelled") -> None:
        """Take an order back: out of its lane, or by stopping its worker, which gets a moment to do so by itself."""
        with contextlib.suppress(ValueError):
            self._lanes[ticket.lane].remove(ticket)
            _fail(ticket, Problem(kind, "the request was taken back"))
            return
        if ticket.done.done() and ticket.stopped:
            return
        ticket.stopped = ticket.stopped or kind
        worker = ticket.worker
        if worker is None:  # between two workers: the next one does not begin with it
            return
        with contextlib.suppress(_WorkerDiedError):
            worker.send({"type": "cancel", "task": ticket.number})
        asyncio.get_running_loop().call_later(GRACE, lambda: worker.kill() if ticket.worker is worker else None)

    def _send_away(self, ticket: Ticket) -> None:
        """The end of an order's patience."""
        with contextlib.suppress(ValueError):
            self._lanes[ticket.lane].remove(ticket)
            facts = {"retry_after": max(5, self.retry_after)}
            _fail(ticket, Problem("busy", "no worker was free in time; try again later", facts))

    def watch(self, ticket: Ticket, on: bool) -> None:
        """Say whether anybody wants to see previews of an order."""
        ticket.watched = on
        if ticket.worker is not None:
            with contextlib.suppress(_WorkerDiedError):
                ticket.worker.send({"type": "watch", "task": ticket.number, "on": on})

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify()

    async def _next(self) -> Ticket:
        async with self._arrived:
            await self._arrived.wait_for(self.waiting)
            self._turn += 1
            order = list(Lane) if self._turn % FAIR_TURN else list(reversed(Lane))
            return next(self._lanes[lane].popleft() for lane in order if self._lanes[lane])

    async def _serve(self, place: int) -> None:
        """The life of one place."""
        if self.settings.warm:
            await self._worker_at(place)
        while True:
            try:
                missing = bool(self.settings.warm) and self._places[place] is None
                ticket = await asyncio.wait_for(self._next(), START_AGAIN if missing else self.settings.idle_seconds)
            except TimeoutError:
                await (self._worker_at(place) if missing else self._vacate(place))
                continue
            self.running += 1
            begun = time.monotonic()
            ticket.waited = begun - ticket.queued
            try:
                await self._carry_out(place, ticket)
            except Exception:  # a full disk, no more processes, a bug: must not end the place
                self._log("order failed unexpectedly", pool=self.settings.name, trace=traceback.format_exc())
                _fail(ticket, Problem("internal", "painting failed unexpectedly; the log has more"))
            except BaseException:
                _fail(ticket, Problem("not-ready", "the server is closing"))
                raise
            finally:
                self.running -= 1
            if ticket.lane is not Lane.JOB:
                self._mean += 0.1 * (time.monotonic() - begun - self._mean)

    async def _carry_out(self, place: int, ticket: Ticket) -> None:
        """One order, tried once more if its worker dies."""
        for _ in range(ATTEMPTS):
            worker = await self._worker_at(place)
            if worker is None or ticket.stopped:
                break
            ticket.attempts += 1
            self._tell(ticket, {"type": "attempt", "attempts": ticket.attempts}, [])
            try:
                header, parts = await self._called(worker, ticket)
            except _WorkerDiedError:
                self._log(
                    "worker died", pool=self.settings.name, stopped=ticket.stopped, exit_code=worker.process.exitcode
                )
                await self._vacate(place)
                self.restarts += 1
                if ticket.stopped:
                    break
                continue
            self._settle(ticket, header, parts)
            return
        _fail(ticket, self._reason(ticket))
        if self.settings.warm and self._places[place] is None:
            await self._worker_at(place)  # be ready for the next

    async def _called(self, worker: _Worker, ticket: Ticket) -> Message:
        loop = asyncio.get_running_loop()

        def tell(header: dict[str, Any], parts: list[bytes]) -> None:
            loop.call_soon_threadsafe(self._tell, ticket, header, parts)

        ticket.worker = worker
        timer = loop.call_later(ticket.seconds, self.stop, ticket, "time-limit")
        try:
            return await loop.run_in_executor(self._threads, worker.call, ticket, tell)
        finally:
            timer.cancel()
            ticket.worker = None

    def _tell(self, ticket: Ticket, header: dict[str, Any], parts: list[bytes]) -> None:
        if ticket.on_event is not None and not ticket.done.done():
            ticket.on_event(str(header["type"]), header, parts[0] if parts else b"")

    def _settle(self, ticket: Ticket, header: dict[str, Any], parts: list[bytes]) -> None:
        if header["type"] == "done":
            if not ticket.done.done():
                ticket.done.set_result((header["facts"], parts[0]))
            return
        if "trace" in header:
            self._log("painting failed", pool=self.settings.name, trace=header["trace"])
        problem = Problem.from_dict(header["problem"])
        _fail(ticket, self._reason(ticket) if problem.kind == "cancelled" and ticket.stopped else problem)

    def _reason(self, ticket: Ticket) -> Problem:
        if ticket.stopped == "time-limit":
            return Problem("time-limit", f"painting took longer than the limit of {ticket.seconds:g} seconds")
        if ticket.stopped:
            return Problem(ticket.stopped, "the request was taken back")
        if ticket.attempts == 0:
            return Problem("not-ready", "no worker could be started; the log says why", {"retry_after": 5})
        return Problem("crashed", f"the worker that painted this ended unexpectedly, {ticket.attempts} times")

    async def _worker_at(self, place: int) -> _Worker | None:
        """The process of a place, started if it is not there; None if it does not come up."""
        found = self._places[place]
        if found is not None and found.process.is_alive():
            return found
        if found is not None:
            await self._vacate(place)
        begun = time.monotonic()
        try:
            worker = await asyncio.to_thread(_Worker, self.settings)
        except OSError as error:  # no space, no more processes
            self._log("worker did not start", pool=self.settings.name, error=str(error))
            return None
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, worker.wait_ready)
        except _WorkerDiedError:
            self._log("worker did not start", pool=self.settings.name)
            await asyncio.to_thread(worker.close)
            return None
        except BaseException:
            worker.kill()
            raise
        self._places[place] = worker
        self._log("worker ready", pool=self.settings.name, seconds=round(time.monotonic() - begun, 3))
        return worker

    async def _vacate(self, place: int) -> None:
        worker, self._places[place] = self._places[place], None
        if worker is not None:
            await asyncio.to_thread(worker.close)


def _fail(ticket: Ticket, problem: Problem) -> None:
    if not ticket.done.done():
        ticket.done.set_exception(ProblemError(problem.kind, problem.detail, **problem.extra))
        ticket.done.exception()  # whoever waited may be gone: that is no error

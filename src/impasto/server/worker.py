"""A worker process: takes one order at a time from the server, asks for the pictures it needs, answers.

Messages from the server: ``task`` (an order), ``blobs`` (pictures that were asked for), ``cancel``, ``watch`` (whether
anybody looks at previews). Messages to it: ``ready``, ``need`` (keys of pictures), ``progress``, ``preview``, and at
the end of an order ``done`` or ``error``. When the server goes away, however it ends, the worker ends too.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from impasto.errors import CancelledError, ImpastoError
from impasto.server.problems import Problem, problem_of
from impasto.server.wire import Message, pack, unpack

__all__ = ["PREVIEW_SIDE", "call_setup", "work"]

PROGRESS_SECONDS = 0.1  # between two messages of progress
PREVIEW_SECONDS = 1.0  # between two previews
PREVIEW_SIDE = 768


def work(connection: Connection, setup: str, warm: Sequence[str], limits: dict[str, Any]) -> None:
    """Serve orders until the server closes the connection.

    Args:
        connection: to the server.
        setup: ``module:function`` to call first, or an empty string.
        warm: engines to load before the first order.
        limits: fields of :class:`~impasto.server.rendering.RenderLimits`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides what ends
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would take the cores of other workers
    call_setup(setup)
    from impasto.server.rendering import Renderer, RenderLimits

    renderer = Renderer(RenderLimits(**limits))
    for engine in warm:
        renderer.warm(engine)
    line = _Line(connection)
    line.send({"type": "ready"})
    while True:
        header, _ = line.orders.get()
        line.send(*_answer(renderer, header["order"], _Conversation(line, header["task"])))


def call_setup(setup: str) -> None:
    """Call ``module:function``; nothing for an empty string."""
    if setup:
        module, _, function = setup.partition(":")
        getattr(importlib.import_module(module), function)()


def _answer(renderer: Any, order: dict[str, Any], talk: _Conversation) -> tuple[dict[str, Any], Sequence[bytes]]:
    try:
        answer = renderer.handle(order, talk.fetch, talk.on_progress)
    except ImpastoError as error:
        return {"type": "error", "task": talk.task, "problem": problem_of(error).as_dict()}, ()
    except MemoryError:
        problem = Problem("image-limit", "there is not enough memory for this; make the picture smaller")
        return {"type": "error", "task": talk.task, "problem": problem.as_dict()}, ()
    except Exception as error:
        problem = Problem("internal", f"painting failed unexpectedly ({type(error).__name__}); the log has more")
        trace = traceback.format_exc()
        return {"type": "error", "task": talk.task, "problem": problem.as_dict(), "trace": trace}, ()
    return {"type": "done", "task": talk.task, "facts": answer.facts}, (answer.data,)


class _Line:
    """The connection: one thread reads it all the time, so that a cancel is heard and the server's end noticed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self.orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.blobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.cancelled = -1
        self.watched = -1
        threading.Thread(target=self._listen, name="impasto-line", daemon=True).start()

    def send(self, header: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        with self._sending:
            self._connection.send_bytes(pack(header, parts))

    def _listen(self) -> None:
        try:
            while True:
                header, parts = unpack(self._connection.recv_bytes())
                kind = header["type"]
                if kind == "task":
                    self.orders.put((header, parts))
                elif kind == "blobs":
                    self.blobs.put((header, parts))
                elif kind == "cancel":
                    self.cancelled = header["task"]
                elif kind == "watch":
                    self.watched = header["task"] if header["on"] else -1
        except (EOFError, OSError, ValueError):
            os._exit(0)  # the server is gone; whatever is being painted, nobody wants it


class _Conversation:
    """What is said about one order while it is worked on."""

    def __init__(self, line: _Line, task: int) -> None:
        self.task = task
        self._line = line
        self._next_progress = 0.0
        self._next_preview = 0.0

    def fetch(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Pictures from the server, by their keys."""
        self._line.send({"type": "need", "task": self.task, "keys": list(keys)})
        while True:
            header, parts = self._line.blobs.get()
            if header["task"] == self.task:
                return dict(zip(header["keys"], parts, strict=True))

    def on_progress(self, progress: Any) -> None:
        """Tell the server now and then; stop the engine when the order was taken back.

        Raises:
            CancelledError: nobody wants the picture any more.
        """
        if self._line.cancelled == self.task:
            raise CancelledError("the painting was called off")
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            header = {"type": "progress", "task": self.task, "done": progress.done, "step": progress.step}
            self._line.send(header | {"steps": progress.steps, "message": progress.message})
        if progress.preview is not None and self._line.watched == self.task and now >= self._next_preview:
            self._send_preview(progress.preview())
            self._next_preview = time.monotonic() + PREVIEW_SECONDS

    def _send_preview(self, pixels: Any) -> None:
        import numpy as np
        from PIL import Image

        from impasto.ops.tiling import quantised
        from impasto.server.rendering import encoded

        image = Image.fromarray(quantised(np.clip(pixels, 0, 1), np.uint8))
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        header = {"type": "preview", "task": self.task, "height": image.height, "width": image.width}
        self._line.send(header, (encoded(image, "webp", 80),))

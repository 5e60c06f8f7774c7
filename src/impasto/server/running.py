"""Running the server: a socket, uvicorn, and an end that lets nobody hang."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from impasto.errors import UsageError
from impasto.server.app import create_app
from impasto.server.logs import configure_logging
from impasto.server.service import Service
from impasto.server.settings import ServerSettings, is_loopback

__all__ = ["check_exposure", "listening", "run", "serve"]

BACKLOG = 512
GRACEFUL_SECONDS = 5


class _Server(uvicorn.Server):
    """Tells the application when it is to end: uvicorn would wait for open event streams."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: Any) -> None:
        """On Ctrl-C and SIGTERM."""
        self._on_exit()
        super().handle_exit(sig, frame)


def listening(settings: ServerSettings) -> socket.socket:
    """A socket at the address of the settings.

    Raises:
        UsageError: the address does not exist, or is in use.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host.strip("[]"), settings.port))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; name another --port"
        ) from error
    return found


def serve(settings: ServerSettings, *, on_listening: Callable[[str], None] | None = None, quiet: bool = False) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Args:
        settings: see :class:`~impasto.server.settings.ServerSettings`.
        on_listening: called with the address, like ``http://127.0.0.1:8400``, once requests can come.
        quiet: log warnings only.

    Raises:
        UsageError: the address cannot be used, or others could reach it without a token.
        OutputError: the state folder cannot be used.
    """
    check_exposure(settings)
    app = create_app(settings)
    service: Service = app.state.service
    with listening(settings) as found, contextlib.closing(service.open()):
        run(app, found, on_exit=service.end_streams, on_listening=on_listening, quiet=quiet)


def check_exposure(settings: ServerSettings) -> None:
    """Nobody should open a server to the network by accident.

    Raises:
        UsageError: others can reach the address, and neither a token nor ``anonymous`` is set.
    """
    if not is_loopback(settings.host) and settings.token is None and not settings.anonymous:
        raise UsageError(
            f"everybody in the network could use a server on {settings.host}; give it a --token (or IMPASTO_TOKEN), "
            "or say --anonymous"
        )


def run(
    app: FastAPI,
    found: socket.socket,
    *,
    on_exit: Callable[[], None] = lambda: None,
    on_listening: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> None:
    """Serve an application on a socket until Ctrl-C or SIGTERM.

    Args:
        app: the application.
        found: of :func:`listening`.
        on_exit: called when the end begins.
        on_listening: called with the address, once requests can come.
        quiet: log warnings only.
    """
    configure_logging(quiet=quiet)
    host, port = found.getsockname()[:2]
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        backlog=BACKLOG,
    )
    if on_listening is not None:
        shown = f"[{host}]" if ":" in host else host
        on_listening(f"http://{shown}:{port}")
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after an orderly end
        _Server(config, on_exit).run(sockets=[found])

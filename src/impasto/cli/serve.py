"""``impasto serve`` and ``impasto studio``: the server, and the server with its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from impasto.config import field_info
from impasto.server.settings import ServerSettings, default_state_folder

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve")(_serve)
    app.command("studio")(_studio)


def _option(name: str, panel: str = "Limits") -> Any:
    """The ``--name`` option of a :class:`~impasto.server.settings.ServerSettings` field."""
    _, metadata = field_info(ServerSettings, name)
    text = f"{metadata['help']} ({metadata['unit']})" if metadata["unit"] else metadata["help"]
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=text,
        min=metadata["smallest"],
        max=metadata["largest"],
        rich_help_panel=panel,
    )


_Token = Annotated[
    str | None,
    typer.Option(
        envvar="IMPASTO_TOKEN", help="Let in only who sends this token; at least 16 characters.", show_default=False
    ),
]
_State = Annotated[
    Path | None,
    typer.Option(help="Private folder for the queue and its pictures; by default one of your own.", show_default=False),
]


def _serve(
    host: Annotated[str, _option("host", "Address")] = ServerSettings.host,
    port: Annotated[int, _option("port", "Address")] = ServerSettings.port,
    token: _Token = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Let in everybody, also on an address that others can reach.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name under which the server is known; may be repeated.", show_default=False),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Site whose pages may use the server, like https://example.org; may be repeated.", show_default=False
        ),
    ] = None,
    state: _State = None,
    workers: Annotated[int, _option("workers")] = ServerSettings.workers,
    slow_workers: Annotated[int, _option("slow_workers")] = ServerSettings.slow_workers,
    queue: Annotated[int, _option("queue")] = ServerSettings.queue,
    jobs: Annotated[int, _option("jobs")] = ServerSettings.jobs,
    picture_bytes: Annotated[int, _option("picture_bytes")] = ServerSettings.picture_bytes,
    request_bytes: Annotated[int, _option("request_bytes")] = ServerSettings.request_bytes,
    pixels: Annotated[int, _option("pixels")] = ServerSettings.pixels,
    memory: Annotated[int, _option("memory")] = ServerSettings.memory,
    request_seconds: Annotated[float, _option("request_seconds")] = ServerSettings.request_seconds,
    job_seconds: Annotated[float, _option("job_seconds")] = ServerSettings.job_seconds,
    storage_bytes: Annotated[int, _option("storage_bytes")] = ServerSettings.storage_bytes,
    keep_seconds: Annotated[float, _option("keep_seconds")] = ServerSettings.keep_seconds,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings only.")] = False,
) -> None:
    r"""Serve paintings over HTTP (needs impasto\[studio]); logs are JSON lines on stderr.

    curl -F content=@photo.jpg -F style=ukiyo-e http://127.0.0.1:8400/v1/stylize -o painting.jpg
    """
    settings = ServerSettings(
        host=host,
        port=port,
        token=token,
        anonymous=anonymous,
        allowed_hosts=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        state=state,
        workers=workers,
        slow_workers=slow_workers,
        queue=queue,
        jobs=jobs,
        picture_bytes=picture_bytes,
        request_bytes=request_bytes,
        pixels=pixels,
        memory=memory,
        request_seconds=request_seconds,
        job_seconds=job_seconds,
        storage_bytes=storage_bytes,
        keep_seconds=keep_seconds,
    )
    _run(settings, lambda address: typer.echo(f"impasto serves at {address}"), quiet=quiet)


def _studio(
    port: Annotated[int, _option("port", "Address")] = ServerSettings.port,
    token: _Token = None,
    state: _State = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    r"""Open the studio, a page to paint in, served from this machine alone (needs impasto\[studio])."""
    settings = ServerSettings(
        port=port, token=token, state=state or default_state_folder().with_name("studio"), studio=True
    )

    def tell(address: str) -> None:
        page = f"{address}/" if token is None else f"{address}/#token={token}"
        typer.echo(f"The studio is at {page}   (Ctrl-C ends it)")
        if browser:
            import threading
            import webbrowser

            threading.Timer(0.3, webbrowser.open, [page]).start()  # the socket listens already: requests wait for it

    _run(settings, tell, quiet=True)


def _run(settings: ServerSettings, tell: Callable[[str], None], *, quiet: bool) -> None:
    from impasto import server

    server.serve(settings, on_listening=tell, quiet=quiet)

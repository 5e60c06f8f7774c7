"""Settings of the server: where it listens, how much it takes on, what it forgets when.

The module imports neither FastAPI nor numpy, so that the command line can read the defaults.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from impasto.checks import check_range
from impasto.config import check_settings, setting
from impasto.errors import UsageError

__all__ = ["PREVIEW_LARGEST", "PREVIEW_SMALLEST", "ServerSettings", "default_state_folder", "is_loopback"]

MIB = 1024 * 1024
PREVIEW_SMALLEST = 32
PREVIEW_LARGEST = 1024


@dataclass(frozen=True)
class ServerSettings:
    """What decides how a server behaves; pictures are decided by :class:`~impasto.config.StylizeConfig`.

    Attributes:
        token: clients must send it; None lets everybody in who can reach the port.
        state: private folder for the queue and its pictures; None takes the user's own state folder.
        allowed_hosts: names beside the loopback ones under which the server may be addressed.
        cors_origins: other sites whose pages may use the server, like ``https://example.org``.
        anonymous: listen on an address that others can reach without asking for a token.
        studio: serve the studio's page too.
        setup: ``module:function`` called without arguments by the server and by every worker before anything else,
            for applications that add engines of their own to :data:`impasto.engines.ENGINES`.

    Raises:
        UsageError: a value outside of its range, a token too short to be one, an origin that is none.
    """

    host: str = setting("127.0.0.1", "address to listen on; others than 127.0.0.1 can be reached from the network")
    port: int = setting(8400, "port to listen on; 0 takes a free one", smallest=0, largest=65535)
    workers: int = setting(1, "processes that paint with fast engines", smallest=1, largest=64)
    slow_workers: int = setting(1, "processes that paint with slow engines", smallest=1, largest=64)
    queue: int = setting(
        64, "requests that may wait for a worker before others are sent away", smallest=1, largest=4096
    )
    jobs: int = setting(500, "jobs that may wait or run at a time", smallest=1, largest=100_000)
    picture_bytes: int = setting(32 * MIB, "largest picture file", smallest=1024, largest=2048 * MIB, unit="bytes")
    request_bytes: int = setting(256 * MIB, "largest request", smallest=1024, largest=8192 * MIB, unit="bytes")
    received_bytes: int = setting(
        1024 * MIB, "all requests together that are held at a time", smallest=1024, largest=65536 * MIB, unit="bytes"
    )
    pixels: int = setting(50_000_000, "most pixels of a picture, before and after", smallest=1, largest=4_000_000_000)
    memory: int = setting(
        6144 * MIB,
        "most memory that painting one picture may take, as estimated",
        smallest=MIB,
        largest=2**44,
        unit="bytes",
    )
    request_seconds: float = setting(
        60.0, "longest wait for one painting of a request", smallest=0.1, largest=86400.0, unit="s"
    )
    job_seconds: float = setting(3600.0, "longest run of one job", smallest=0.1, largest=7 * 86400.0, unit="s")
    body_seconds: float = setting(
        30.0, "longest silence while a request arrives", smallest=0.1, largest=3600.0, unit="s"
    )
    upload_bytes: int = setting(512 * MIB, "memory for uploads", smallest=1024, largest=65536 * MIB, unit="bytes")
    upload_seconds: float = setting(
        3600.0, "an upload goes this long after its last use", smallest=1.0, largest=7 * 86400.0, unit="s"
    )
    storage_bytes: int = setting(
        4096 * MIB, "disk space for the pictures of jobs", smallest=1024, largest=2**44, unit="bytes"
    )
    keep_seconds: float = setting(
        6 * 3600.0, "results of jobs go this long after their end", smallest=1.0, largest=365 * 86400.0, unit="s"
    )
    token: str | None = None
    state: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    anonymous: bool = False
    studio: bool = False
    setup: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.token is not None:
            if not self.token.isascii() or not self.token.isprintable() or " " in self.token:
                raise UsageError("the token must be of printable ASCII characters without spaces")
            check_range("the token's length", len(self.token), 16, 4096)
        for origin in self.cors_origins:
            scheme, separator, rest = origin.partition("://")
            if scheme not in ("http", "https") or not separator or not rest or "/" in rest or "*" in rest:
                raise UsageError(f"'{origin}' is no origin; write it like https://example.org, without a path")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_state_folder() -> Path:
    """Where the user's own queue lies: ``$XDG_STATE_HOME/impasto/server`` or the system's equivalent."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base or Path.home() / "AppData" / "Local") / "impasto" / "server"
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "impasto" / "server"

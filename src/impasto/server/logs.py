"""Logs as JSON lines: what happened, never what was in a picture or what it was called."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

__all__ = ["JsonFormatter", "configure_logging", "log_event"]

_LOGGER = logging.getLogger("impasto.server")


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record; ``facts`` of a record become members."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_event(event: str, /, *, level: int = logging.INFO, **facts: Any) -> None:
    """Write one event with its facts."""
    _LOGGER.log(level, event, extra={"facts": facts})


def configure_logging(*, quiet: bool = False) -> None:
    """Send the server's and uvicorn's logs to stderr as JSON; with ``quiet`` only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("impasto.server", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
    access = logging.getLogger("uvicorn.access")  # the server writes its own line for each request
    access.handlers[:] = []
    access.propagate = False

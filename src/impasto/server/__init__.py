"""The HTTP server: paintings as a service, jobs that survive a restart, and what the studio's page talks to.

``impasto serve`` runs it; an application mounts :func:`create_app` like any other ASGI application. It needs the extra
``studio``. docs/server.md describes the interface.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from impasto.errors import MissingExtraError
from impasto.server.settings import ServerSettings

if TYPE_CHECKING:
    from types import ModuleType

    from impasto.server.app import create_app
    from impasto.server.running import serve

__all__ = ["ServerSettings", "create_app", "serve", "web_module"]

_HOMES = {"create_app": "impasto.server.app", "serve": "impasto.server.running"}
_PACKAGES = frozenset(
    {"fastapi", "multipart", "prometheus_client", "pydantic", "python_multipart", "starlette", "uvicorn"}
)


def web_module(name: str) -> ModuleType:
    """A module that needs the web framework.

    Raises:
        MissingExtraError: that is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _PACKAGES:
            raise MissingExtraError("the server", "studio") from error
        raise


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'impasto.server' has no attribute '{name}'")
    return getattr(web_module(home), name)

"""The application: routes, error handlers, the gate, the studio's page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from impasto.errors import ImpastoError, UsageError
from impasto.server.bodies import validation_problem
from impasto.server.gate import Gate
from impasto.server.openapi import document
from impasto.server.problems import MEDIA_TYPE, Problem, problem_of
from impasto.server.routes import router
from impasto.server.service import Service
from impasto.server.settings import ServerSettings
from impasto.server.worker import call_setup
from impasto.version import __version__

__all__ = ["answer_with_problems", "create_app", "studio_folder"]

_DESCRIPTION = "Image style transfer: photographs in any painting's style. Errors are problem details (RFC 9457)."
_KIND_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method",
    413: "too-large",
    415: "media-type",
    422: "invalid",
}


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The server as an ASGI application; its workers start and end with the application's lifespan.

    Args:
        settings: see :class:`~impasto.server.settings.ServerSettings`.

    Raises:
        UsageError: the studio's page is asked for and not part of this installation.
    """
    settings = settings or ServerSettings()
    call_setup(settings.setup)
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="impasto",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(router)
    app.openapi = lambda: document(app, token=settings.token is not None)  # type: ignore[method-assign]
    answer_with_problems(app)
    app.add_middleware(Gate, settings=settings, metrics=service.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Location", "Retry-After", "Server-Timing", "X-Impasto-Seconds", "X-Request-Id"],
            max_age=600,
        )
    if settings.studio:
        app.mount("/", StaticFiles(directory=studio_folder(), html=True), name="studio")
    return app


def answer_with_problems(app: FastAPI) -> None:
    """Let every error of an application become problem details."""
    app.add_exception_handler(ImpastoError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_status)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)


def studio_folder() -> Path:
    """Where the studio's page lies.

    Raises:
        UsageError: it is not part of this installation.
    """
    folder = Path(str(resources.files("impasto"))) / "studio" / "static"
    if not (folder / "index.html").is_file():
        raise UsageError("the studio's page is not part of this installation; 'impasto serve' starts the server alone")
    return folder


def _respond(request: Request, problem: Problem, headers: Any = None) -> Response:
    named: dict[str, str] = dict(headers or {})
    if "retry_after" in problem.extra:
        named["Retry-After"] = str(problem.extra["retry_after"])
    identifier = request.scope.get("state", {}).get("request_id")
    body = json.dumps(problem.as_dict(identifier))  # in ASCII: what a client wrote may be no text
    return Response(body.encode(), problem.status, named, media_type=MEDIA_TYPE)


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ImpastoError):
        raise error
    return _respond(request, problem_of(error))


async def _answer_status(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = _KIND_OF_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "bad-request")
    details = {404: f"there is nothing at {request.scope['path'][:200]}", 405: f"{request.method} does not exist here"}
    problem = Problem(kind, details.get(error.status_code, str(error.detail)))
    return _respond(request, problem, error.headers)


async def _answer_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return _respond(request, validation_problem(error.errors()).problem)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return _respond(request, Problem("cancelled", "the client went away"))

"""The gate that every request passes: who may come in, under which name, from which page; and what is noted of it.

Pure ASGI, since a middleware of another kind would hide it from the handlers when a client goes away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
import traceback
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.server.logs import log_event
from impasto.server.metrics import Metrics
from impasto.server.problems import MEDIA_TYPE, Problem
from impasto.server.settings import ServerSettings, is_loopback

__all__ = ["COOKIE", "Gate", "session_of"]

COOKIE = "impasto_session"
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OPEN = frozenset({"/healthz", "/readyz"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "worker-src 'self' blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def session_of(token: str) -> str:
    """What the cookie holds of a token: enough to know it again, not enough to make it."""
    return hmac.new(token.encode(), b"impasto session", hashlib.sha256).hexdigest()


def _same_site(origin: str, host: str) -> bool:
    """Whether a page's origin is the server itself, as the request names it."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # like http://[
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host


class Gate:
    """Checks of host, origin and token; request ids, security headers, one log line and the figures of each request."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._token = settings.token
        self._session = None if settings.token is None else session_of(settings.token)
        self._names = None
        if is_loopback(settings.host) or settings.allowed_hosts:
            self._names = _LOOPBACK_NAMES | {settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self._origins = frozenset(settings.cors_origins)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send)
        try:
            problem = self._refusal(scope)
            if problem is not None:
                await passage.answer(problem)
            else:
                await self._app(scope, passage.receive, passage.send)
        except Exception:
            log_event("request failed", level=logging.ERROR, request=passage.id, trace=traceback.format_exc())
            if passage.status == 0:
                await passage.answer(Problem("internal", "something went wrong inside the server; its log has more"))
        finally:
            self._note(scope, passage)

    def _refusal(self, scope: Scope) -> Problem | None:
        """Why a request may not come in; None if it may."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
        if self._names is not None and name not in self._names:
            return Problem("host", "the server is not known under this name; name it with --allow-host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _same_site(origin, host):
            return Problem("origin", "pages of other sites may not use this server; allow them with --cors-origin")
        site = headers.get("sec-fetch-site")
        if origin is None and site == "cross-site" and scope["method"] not in _SAFE:
            return Problem("origin", "pages of other sites may not use this server")
        if self._token is not None and self._guarded(scope) and not self._known(headers):
            return Problem("token", "send the server's token: Authorization: Bearer TOKEN")
        return None

    def _guarded(self, scope: Scope) -> bool:
        """Whether a path needs the token: all of the API; not the page's own files, which hold nothing secret."""
        path = scope["path"]
        if path in _OPEN or (scope["method"] == "OPTIONS" and self._origins):
            return False
        return path.startswith("/v1/") or path in ("/v1", "/metrics", "/openapi.json")

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        token = self._token or ""
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), (self._session or "").encode())

    def _note(self, scope: Scope, passage: _Passage) -> None:
        seconds = time.perf_counter() - passage.begun
        route = getattr(scope.get("route"), "path", "") or "other"
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        status = passage.status or 499  # the client went away before the answer
        self._metrics.request(route, method, status, seconds, passage.received)
        facts: dict[str, Any] = {"request": passage.id, "method": method, "route": route, "status": status}
        facts |= {"seconds": round(seconds, 4), "received": passage.received, "sent": passage.sent}
        log_event("request", **facts, client=(scope.get("client") or ("",))[0])


class _Passage:
    """One request on its way through: counts bytes, adds headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = self.id
        self.begun = time.perf_counter()
        self.status = 0
        self.received = 0
        self.sent = 0
        self._path = scope["path"]
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["content-security-policy"] = _API_POLICY if self._path.startswith("/v1") else _PAGE_POLICY
            if "cache-control" not in headers:
                headers["cache-control"] = "no-store" if self._path.startswith("/v1") else "no-cache"
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)

    async def answer(self, problem: Problem) -> None:
        """Send a problem."""
        body = json.dumps(problem.as_dict(self.id)).encode()
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if problem.kind == "token":
            headers.append((b"www-authenticate", b'Bearer realm="impasto"'))
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

"""Errors as the server says them: problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from impasto.errors import ImpastoError, OutputError, UnknownNameError

__all__ = ["KINDS", "MEDIA_TYPE", "Problem", "ProblemError", "problem_of"]

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:impasto:problem:"

KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "usage": (400, "An option or a combination is wrong"),
    "field": (400, "No style field can be made of this"),
    "slow-engine": (400, "This engine takes long: start a job"),
    "token": (401, "A token is needed"),
    "origin": (403, "Pages of other sites may not use this server"),
    "not-found": (404, "There is nothing here"),
    "unknown-name": (404, "There is nothing of that name"),
    "method": (405, "This method does not exist here"),
    "slow-body": (408, "The request arrived too slowly"),
    "state": (409, "Not possible in the present state"),
    "too-large": (413, "The request is too large"),
    "image-limit": (413, "The picture is too large"),
    "media-type": (415, "This kind of content is not read"),
    "host": (421, "The server is not known under this name"),
    "invalid": (422, "Some values are not valid"),
    "image": (422, "A picture cannot be read"),
    "output": (422, "The result cannot be written in this format"),
    "busy": (429, "Too much to do at the moment"),
    "cancelled": (499, "The request was taken back"),
    "internal": (500, "Something went wrong inside the server"),
    "crashed": (500, "The worker that painted this ended unexpectedly"),
    "missing-extra": (501, "An optional part is not installed"),
    "weights": (503, "The engine's weights cannot be used"),
    "not-ready": (503, "The server is not ready"),
    "time-limit": (504, "The painting took too long"),
}
"""Kinds of problems: HTTP status and title."""

_KIND_OF_ERROR = {
    "CancelledError": "cancelled",
    "FieldError": "field",
    "ImageError": "image",
    "ImageLimitError": "image-limit",
    "MissingExtraError": "missing-extra",
    "OutputError": "output",
    "UnknownNameError": "unknown-name",
    "UsageError": "usage",
    "WeightsError": "weights",
}


@dataclass(frozen=True)
class Problem:
    """One problem, ready for JSON.

    Attributes:
        kind: a key of :data:`KINDS`; the last part of the problem's type.
        detail: one line for people.
        extra: further members: ``errors``, ``near``, ``retry_after``.
    """

    kind: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind][0]

    def as_dict(self, request: str | None = None) -> dict[str, Any]:
        """The members of RFC 9457 and the extra ones; ``request`` is the request's id."""
        status, title = KINDS[self.kind]
        body: dict[str, Any] = {"type": PREFIX + self.kind, "title": title, "status": status, "detail": self.detail}
        if request is not None:
            body["instance"] = f"urn:impasto:request:{request}"
        return body | dict(self.extra)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Problem:
        """What :meth:`as_dict` made."""
        known = {"type", "title", "status", "detail", "instance"}
        extra = {key: value for key, value in body.items() if key not in known}
        return cls(str(body["type"]).removeprefix(PREFIX), str(body["detail"]), extra)


class ProblemError(ImpastoError):
    """A request that ends with a problem."""

    def __init__(self, kind: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail, extra)
        self.http_status = self.problem.status


def problem_of(error: ImpastoError) -> Problem:
    """The problem that an error of the library is for a client."""
    if isinstance(error, ProblemError):
        return error.problem
    for kind in type(error).__mro__:
        name = _KIND_OF_ERROR.get(kind.__name__)
        if name is not None:
            break
    else:
        name = "internal"
    extra: dict[str, Any] = {"near": error.near} if isinstance(error, UnknownNameError) and error.near else {}
    detail = str(error)
    if isinstance(error, OutputError):
        detail = detail.replace("cannot write '", "cannot write the result '", 1)
    return Problem(name, detail, extra)

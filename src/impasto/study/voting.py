"""The voting page and what it talks to: pictures without names, one comparison at a time.

Voters get pixels only: pictures are sent as PNG without metadata (results carry their recipe, which names the method)
under addresses that say nothing, made of a secret that lives as long as the server.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import io
import secrets
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.image import read_picture
from impasto.ops.tiling import quantised
from impasto.server.app import answer_with_problems
from impasto.server.gate import Gate
from impasto.server.metrics import Metrics
from impasto.server.problems import ProblemError
from impasto.server.settings import ServerSettings
from impasto.study.pairs import Comparison, Study
from impasto.study.votes import Vote, VoteStore
from impasto.version import __version__

__all__ = ["create_voting_app"]

KEPT_PICTURES = 24
LONGEST_SIDE = 2000  # of a picture that is shown; larger ones are reduced on both sides alike
MOST_SECONDS = 24 * 3600.0
MOST_BYTES = 64 * 1024  # of a request


class _Ballot(BaseModel):
    """A vote as the page sends it."""

    model_config = ConfigDict(extra="forbid")
    number: int = Field(ge=0, le=1_000_000)
    choice: Literal["left", "right", "tie"]
    seconds: float = Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)


Voter = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{16,64}$")]


def create_voting_app(study: Study, store: VoteStore, settings: ServerSettings) -> FastAPI:
    """The voting page as an ASGI application.

    Args:
        study: what is compared.
        store: where the votes go.
        settings: of the server; only address, hosts and origins count.
    """
    app = FastAPI(title="impasto study", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    booth = _Booth(study, store)

    @app.post("/v1/voters", status_code=201)
    async def enter() -> dict[str, Any]:
        """A new voter."""
        return booth.state(secrets.token_urlsafe(16))

    @app.get("/v1/voters/{voter}")
    async def state(voter: Voter) -> dict[str, Any]:
        """Where a voter stands."""
        return await asyncio.to_thread(booth.state, voter)

    @app.post("/v1/voters/{voter}/votes")
    async def vote(voter: Voter, ballot: _Ballot) -> dict[str, Any]:
        """Take a vote; answers with the next comparison."""
        await asyncio.to_thread(booth.take, voter, ballot)
        return await asyncio.to_thread(booth.state, voter)

    @app.get("/v1/voters/{voter}/pictures/{number}/{side}")
    async def picture(voter: Voter, number: int, side: Literal["left", "right", "reference"], tag: str) -> Response:
        """A picture of a comparison."""
        data = await asyncio.to_thread(booth.picture, voter, number, side, tag)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    app.mount("/", StaticFiles(directory=Path(str(resources.files("impasto.study"))) / "page", html=True), name="page")
    answer_with_problems(app)
    app.add_middleware(_SmallBodies)
    app.add_middleware(Gate, settings=settings, metrics=Metrics(lambda: ()))
    return app


class _SmallBodies:
    """Ends requests that send more than any vote has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = MOST_BYTES

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise ProblemError("too-large", f"the request has more than {MOST_BYTES:,} bytes")
            return message

        await self._app(scope, bounded, send)


class _Booth:
    """Plans of voters, their votes and their pictures."""

    def __init__(self, study: Study, store: VoteStore) -> None:
        self._study = study
        self._store = store
        self._secret = secrets.token_bytes(32)
        self._plan = functools.lru_cache(maxsize=1024)(study.plan)
        self._png = functools.lru_cache(maxsize=KEPT_PICTURES)(_png)

    def state(self, voter: str) -> dict[str, Any]:
        """The question, how far a voter is, and the next comparison: the first without a vote."""
        plan, done = self._plan(voter), self._store.done(voter)
        number = next((index for index in range(len(plan)) if index not in done), None)
        config = self._study.config
        facts = {"voter": voter, "question": config.question, "ties": config.ties, "total": len(plan)}
        return facts | {"done": len(done), "comparison": None if number is None else self._shown(voter, number)}

    def _shown(self, voter: str, number: int) -> dict[str, Any]:
        sides = ["left", "right"]
        if self._plan(voter)[number].subject in self._study.reference:
            sides.append("reference")
        return {"number": number} | {side: self._address(voter, number, side) for side in sides}

    def _address(self, voter: str, number: int, side: str) -> str:
        return f"/v1/voters/{voter}/pictures/{number}/{side}?tag={self._tag(voter, number, side)}"

    def _tag(self, voter: str, number: int, side: str) -> str:
        return hmac.new(self._secret, f"{voter}/{number}/{side}".encode(), hashlib.sha256).hexdigest()[:32]

    def _comparison(self, voter: str, number: int) -> Comparison:
        plan = self._plan(voter)
        if not 0 <= number < len(plan):
            raise ProblemError("not-found", f"there is no comparison {number}")
        return plan[number]

    def take(self, voter: str, ballot: _Ballot) -> None:
        """Write a vote.

        Raises:
            ProblemError: there is no such comparison, or no ties are allowed.
        """
        asked = self._comparison(voter, ballot.number)
        if ballot.choice == "tie" and not self._study.config.ties:
            raise ProblemError("usage", "this study allows no ties; choose a picture")
        names = self._study.methods
        self._store.add(
            Vote(
                voter,
                ballot.number,
                asked.subject,
                names[asked.left],
                names[asked.right],
                ballot.choice,
                ballot.seconds,
            )
        )

    def picture(self, voter: str, number: int, side: str, tag: str) -> bytes:
        """A picture as PNG.

        Raises:
            ProblemError: there is none under this address.
            ImageError: its file cannot be read.
        """
        asked = self._comparison(voter, number)
        if not hmac.compare_digest(tag.encode(), self._tag(voter, number, side).encode()):
            raise ProblemError("not-found", "there is no such picture")
        if side == "reference":
            path = self._study.reference.get(asked.subject)
            if path is None:
                raise ProblemError("not-found", "there is no such picture")
        else:
            path = self._study.pictures[asked.subject][asked.left if side == "left" else asked.right]
        return self._png(path)


def _png(path: Path) -> bytes:
    """The pixels of a file and nothing else."""
    image = Image.fromarray(quantised(read_picture(path).pixels, "uint8"))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue()

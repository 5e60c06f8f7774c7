"""Pictures that clients uploaded once to refer to them often; in memory only, for a while, within a bound."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from impasto.server.problems import ProblemError

__all__ = ["Upload", "UploadStore", "key_of"]


def key_of(data: bytes) -> str:
    """The name of a picture inside the server: its SHA-256."""
    return hashlib.sha256(data).hexdigest()


@dataclass(eq=False)
class Upload:
    """One uploaded picture.

    Attributes:
        id: what clients call it; not to be guessed.
        key: SHA-256 of the bytes.
        data: the file.
        media_type: as recognised.
        name: as the client called it.
        height: of the upright picture.
        width: of the upright picture.
        used: when it was last asked for, by the store's clock.
    """

    id: str
    key: str
    data: bytes
    media_type: str
    name: str
    height: int
    width: int
    used: float


class UploadStore:
    """Uploads by id. What was not used for a while goes; when memory is short, what was not used for longest goes."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def add(self, data: bytes, media_type: str, name: str, size: tuple[int, int]) -> Upload:
        """Keep a picture.

        Raises:
            ProblemError: it alone is larger than all uploads together may be.
        """
        if len(data) > self._most_bytes:
            raise ProblemError(
                "too-large", f"uploads may take {self._most_bytes:,} bytes together, this has {len(data):,}"
            )
        self.expire()
        while self._uploads and self.bytes + len(data) > self._most_bytes:
            self.remove(next(iter(self._uploads)))
        upload = Upload(secrets.token_urlsafe(16), key_of(data), data, media_type, name, *size, self._clock())
        self._uploads[upload.id] = upload
        self.bytes += len(data)
        return upload

    def get(self, upload_id: str) -> Upload:
        """An upload; it counts as used now.

        Raises:
            ProblemError: there is none of that id, or no more.
        """
        self.expire()
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise ProblemError(
                "not-found", f"there is no upload {upload_id[:64]!r}, or no more; upload the picture again"
            )
        upload.used = self._clock()
        self._uploads.move_to_end(upload_id)
        return upload

    def remove(self, upload_id: str) -> None:
        """Forget an upload; nothing if there is none."""
        upload = self._uploads.pop(upload_id, None)
        if upload is not None:
            self.bytes -= len(upload.data)

    def expire(self) -> None:
        """Forget what was not used for long."""
        limit = self._clock() - self._seconds
        while self._uploads and next(iter(self._uploads.values())).used < limit:
            self.remove(next(iter(self._uploads)))

    def describe(self, upload: Upload) -> dict[str, Any]:
        """What clients are told of an upload."""
        left = self._seconds - (self._clock() - upload.used)
        return {
            "id": upload.id,
            "height": upload.height,
            "width": upload.width,
            "bytes": len(upload.data),
            "media_type": upload.media_type,
            "name": upload.name,
            "expires": (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds"),
        }

"""Messages between the server and its workers: a JSON header and binary parts.

Not pickle: a worker handles pictures from strangers, and what it says must not be able to run code in the server.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["Message", "pack", "unpack"]

Message = tuple[dict[str, Any], list[bytes]]
"""Header and parts."""


def pack(header: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """One message as bytes: length of the header (4, big endian), the header in JSON, the parts."""
    head = json.dumps(header | {"parts": [len(part) for part in parts]}, separators=(",", ":")).encode("utf-8")
    return b"".join((struct.pack(">I", len(head)), head, *parts))


def unpack(data: bytes) -> Message:
    """What :func:`pack` made.

    Raises:
        ValueError: the bytes are no message.
    """
    if len(data) < 4:
        raise ValueError("a message without a header")
    (length,) = struct.unpack_from(">I", data)
    header = json.loads(data[4 : 4 + length])
    if not isinstance(header, dict):
        raise ValueError("a message whose header is no table")
    parts, position = [], 4 + length
    for size in header.pop("parts", []):
        parts.append(data[position : position + size])
        position += size
    if position != len(data):
        raise ValueError(f"a message of {len(data)} bytes whose header speaks of {position}")
    return header, parts

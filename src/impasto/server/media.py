"""What a client sent as a picture: recognised by its first bytes, never by its name, before any decoder sees it."""

from __future__ import annotations

import re
import struct
import unicodedata

from impasto.server.problems import ProblemError

__all__ = ["READ_TYPES", "WRITTEN", "check_name", "entry_name", "recognise"]

WRITTEN = {"jpeg": ("image/jpeg", ".jpg"), "png": ("image/png", ".png"), "webp": ("image/webp", ".webp")}
"""Formats of results: media type and suffix."""

READ_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "image/avif")
"""Media types of pictures that are read."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"BM", "image/bmp"),
)
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "image/tif": "image/tiff",
    "image/tiff-fx": "image/tiff",
    "image/apng": "image/png",
}
_UNSPECIFIC = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
_HEAD = 1024  # browsers and PDF readers look this far for the beginning of another format
_IN_HEAD = re.compile(rb"%pdf-|<!doctype|<html|<script|<svg|<\?php|<iframe", re.IGNORECASE)
_ANYWHERE = re.compile(rb"<script[\s>/]|<\?php\s", re.IGNORECASE)
_ZIP_END = b"PK\x05\x06"
_ZIP_TAIL = 22 + 65535
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def recognise(data: bytes, declared: str | None, what: str) -> str:
    """The media type of a picture's bytes.

    Args:
        data: the file.
        declared: the Content-Type that the client gave it, if any.
        what: what it is to the request (``content``, ``style``, …), for messages.

    Raises:
        ProblemError: empty, of a format that is not read, another format than declared, or a picture that is also a
            ZIP archive, a PDF, a page or a script.
    """
    if not data:
        raise ProblemError("image", f"the {what} picture is empty")
    found = _sniff(data)
    if found is None:
        raise ProblemError(
            "media-type", f"the {what} picture is {_guess(data)}; send JPEG, PNG, WebP, TIFF, BMP or AVIF"
        )
    said = (declared or "").partition(";")[0].strip().lower()
    if said not in _UNSPECIFIC and _ALIASES.get(said, said) != found:
        raise ProblemError("media-type", f"the {what} picture was sent as {said[:80]!r} but is {found}")
    other = _second_nature(data)
    if other:
        raise ProblemError("media-type", f"the {what} picture is also {other}; save it anew as a plain picture")
    return found


def _sniff(data: bytes) -> str | None:
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "image/avif"
    return None


def _guess(data: bytes) -> str:
    """What people may have meant by these bytes."""
    head = data[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "HEIC, which cannot be read"
    if head.startswith((b"<?xml", b"<svg")) or b"<svg" in head:
        return "a drawing (SVG), not a pixel picture"
    if head.startswith((b"%pdf-", b"%!ps")):
        return "a document"
    if head.startswith((b"<!doctype", b"<html")):
        return "a web page"
    if head.startswith((b"http://", b"https://")):
        return "an address; the server fetches nothing"
    return "in no format that is read"


def _second_nature(data: bytes) -> str:
    """What else a file is that begins like a picture; an empty string when nothing."""
    inside = _IN_HEAD.search(data, 0, _HEAD)
    if inside:
        return "a document" if inside.group().lower() == b"%pdf-" else "a page or a script"
    if _ANYWHERE.search(data):
        return "a page or a script"
    return "a ZIP archive" if _ends_as_zip(data) else ""


def _ends_as_zip(data: bytes) -> bool:
    """Whether the end is a ZIP archive's: its end record reaches to the last byte and points into the file."""
    start = max(0, len(data) - _ZIP_TAIL)
    position = data.rfind(_ZIP_END, start)
    while position >= 0:
        if position + 22 <= len(data):
            size, offset, comment = struct.unpack_from("<IIH", data, position + 12)
            if position + 22 + comment == len(data) and size + offset <= position:
                return True
        position = data.rfind(_ZIP_END, start, position)
    return False


def check_name(name: str | None, what: str) -> str:
    """A client's name for a picture: only for people and for downloads, never opened; an empty string where none is.

    Raises:
        ProblemError: a name with a folder in it, with control characters, or too long.
    """
    if not name:
        return ""
    hostile = any(unicodedata.category(letter) in ("Cc", "Cs") or letter in _BIDI for letter in name)
    if hostile or "/" in name or "\\" in name or name in (".", ".."):
        raise ProblemError(
            "invalid", f"the name of the {what} picture holds folders or control characters; send a plain name"
        )
    if len(name.encode("utf-8")) > 255:
        raise ProblemError("invalid", f"the name of the {what} picture is longer than 255 bytes")
    return name


def entry_name(name: str, suffix: str) -> str:
    """A name that is safe on every system, for downloads and archives: the stem of ``name`` with ``suffix``."""
    stem = name.rpartition(".")[0] or name
    plain = re.sub(r"[^\w \-.+()]", "_", stem, flags=re.UNICODE).strip(" .")
    plain = plain[:100].rstrip(" .") or "painting"
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", plain, re.IGNORECASE)
    return f"{'_' if reserved else ''}{plain}{suffix}"

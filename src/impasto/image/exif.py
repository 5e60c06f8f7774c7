"""EXIF blocks, patched in place so that everything else in them (maker notes included) stays byte for byte.

An EXIF block is a small TIFF file: a header, a first directory (IFD0) of 12-byte entries, and values that lie anywhere.
Values are found by offset, so a block survives edits only if nothing moves. Three kinds of edit are enough here:
overwrite a value where it stands, zero what must go, and write a new IFD0 behind everything else. The same directory
writer makes the project's TIFF files (`impasto.image.tiff`), whose IFD0 is an EXIF block's IFD0 with the picture's
own tags added.

Reference: TIFF 6.0 (1992), section 2; Exif 2.32 (CIPA DC-008), section 4.6.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "HISTORY_TAG",
    "Entry",
    "block_of",
    "directory_bytes",
    "entries_of",
    "history_entry",
    "orientation",
    "places_of",
    "recipe_in",
    "rendition_block",
    "upright",
    "upright_xmp",
    "xmp_orientation",
]

ORIENTATION_TAG = 0x0112
HISTORY_TAG = 0x9213  # ImageHistory: "a record of what has been done to the image" (TIFF/EP, ISO 12234-2)
THUMBNAIL_OFFSET_TAG, THUMBNAIL_LENGTH_TAG = 0x0201, 0x0202
ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
RECIPE_MARK = "impasto recipe: "

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))([1-8])")


@dataclass(frozen=True)
class Entry:
    """One value of a directory: TIFF type, count, and the value's bytes in the block's byte order."""

    type: int
    count: int
    value: bytes


@dataclass(frozen=True)
class _Located:
    """An entry together with where its value lies in the block."""

    tag: int
    entry: Entry
    offset: int
    inline: bool


def block_of(raw: bytes | None) -> bytes | None:
    """The TIFF block inside raw EXIF bytes, or ``None`` if there is none that can be read."""
    if not raw:
        return None
    block = raw.removeprefix(b"Exif\x00\x00")
    try:
        _directory(block, _first_offset(block))
    except (struct.error, ValueError):
        return None
    return block


def byte_order(block: bytes) -> str:
    """``"<"`` or ``">"``, struct's sign for the block's byte order; ``ValueError`` if it is no TIFF block."""
    orders = {b"II*\x00": "<", b"MM\x00*": ">"}
    if block[:4] not in orders:
        raise ValueError("not a TIFF block")
    return orders[block[:4]]


def entries_of(block: bytes) -> dict[int, Entry]:
    """The first directory's entries by tag."""
    located, _ = _directory(block, _first_offset(block))
    return {item.tag: item.entry for item in located}


def places_of(block: bytes) -> dict[int, int]:
    """Where the first directory's values lie in the block, by tag; those inside the directory are left out."""
    located, _ = _directory(block, _first_offset(block))
    return {item.tag: item.offset for item in located if not item.inline}


def orientation(block: bytes) -> int | None:
    """The orientation (1 to 8), or ``None`` where the block has no valid one."""
    entry = entries_of(block).get(ORIENTATION_TAG)
    if entry is None or entry.type != SHORT or entry.count != 1:
        return None
    (value,) = struct.unpack(byte_order(block) + "H", entry.value)
    return int(value) if 1 <= value <= 8 else None


def upright(block: bytes) -> bytes:
    """The same block with its orientation, if it has one, set to 1."""
    located, _ = _directory(block, _first_offset(block))
    patched = bytearray(block)
    for item in located:
        if item.tag == ORIENTATION_TAG and item.entry.type == SHORT and item.entry.count == 1:
            struct.pack_into(byte_order(block) + "H", patched, item.offset, 1)
    return bytes(patched)


def xmp_orientation(packet: bytes) -> int | None:
    """The orientation an XMP packet states, if any."""
    found = _XMP_ORIENTATION.search(packet)
    return int(found[2]) if found else None


def upright_xmp(packet: bytes) -> bytes:
    """The same packet with its orientation, if it states one, set to 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def recipe_in(history: bytes) -> str | None:
    """The recipe inside the bytes of an ImageHistory value, if there is one."""
    text = history.rstrip(b"\x00").decode("utf-8", "replace")
    _, mark, recipe = text.rpartition(RECIPE_MARK)
    return recipe if mark else None


def history_entry(recipe: str | None, previous: bytes = b"") -> Entry | None:
    """The ImageHistory value that holds ``recipe`` behind what others wrote there; an older recipe goes.

    Args:
        recipe: JSON text without line breaks of its own outside strings; any unicode.
        previous: The value that stood there before.

    Returns:
        The value, or ``None`` if nothing is left to write.
    """
    foreign = previous.rstrip(b"\x00").partition(RECIPE_MARK.encode())[0].rstrip(b"\n")
    own = (RECIPE_MARK + recipe).encode("utf-8") if recipe is not None else b""
    value = b"\n".join(part for part in (foreign, own) if part)
    # Type ASCII with UTF-8 in it, as most writers do: Exif 3.0's own UTF-8 type (129) is unknown to most readers.
    return Entry(ASCII, len(value) + 1, value + b"\x00") if value else None


def rendition_block(block: bytes | None, recipe: str | None) -> bytes | None:
    """The EXIF block of a picture made from the one that ``block`` describes.

    The thumbnail goes, since it shows the old picture, and so does an older recipe; all else stays.

    Args:
        block: The source's EXIF block, or ``None``.
        recipe: The new recipe, or ``None``.

    Returns:
        The new block, or ``None`` if it would be empty.
    """
    if block is None:
        if recipe is None:
            return None
        block = b"II*\x00" + struct.pack("<I", 8) + bytes(6)  # a directory without entries
    block = _without_thumbnail(block)
    located, _ = _directory(block, _first_offset(block))
    old = next((item for item in located if item.tag == HISTORY_TAG), None)
    new = history_entry(recipe, old.entry.value if old else b"")
    if (old.entry if old else None) == new:
        return block
    entries = {item.tag: item.entry for item in located if item.tag != HISTORY_TAG}
    if new is not None:
        entries[HISTORY_TAG] = new
    if not entries:
        return None
    order = byte_order(block)
    kept = bytearray(block)
    # The old directory and the old recipe are wiped; other values keep their places, as maker notes need it.
    _wipe(kept, _first_offset(block), 6 + 12 * len(located))
    if old is not None and not old.inline:
        _wipe(kept, old.offset, len(old.entry.value))
    kept += bytes(len(kept) % 2)
    places = {tag: place for tag, place in places_of(block).items() if tag != HISTORY_TAG}
    body, start = directory_bytes(entries, len(kept), order, places)
    struct.pack_into(order + "I", kept, 4, start)
    return bytes(kept) + body


def directory_bytes(
    entries: Mapping[int, Entry], position: int, order: str, places: Mapping[int, int] | None = None
) -> tuple[bytes, int]:
    """A directory and the values that do not fit into it, to be put at ``position``.

    Args:
        entries: Values by tag.
        position: Where in the file the bytes will lie; even.
        order: ``"<"`` or ``">"``.
        places: Offsets of values that lie in the file already.

    Returns:
        The bytes, and the offset of the directory itself within the file.
    """
    places = places or {}
    values = bytearray()
    rows = []
    for tag in sorted(entries):
        entry = entries[tag]
        head = struct.pack(order + "HHI", tag, entry.type, entry.count)
        if len(entry.value) <= 4:
            rows.append(head + entry.value.ljust(4, b"\x00"))
            continue
        offset = places.get(tag)
        if offset is None:
            offset = position + len(values)
            values += entry.value + bytes(len(entry.value) % 2)
        rows.append(head + struct.pack(order + "I", offset))
    directory = struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4)
    return bytes(values) + directory, position + len(values)


def _first_offset(block: bytes) -> int:
    return int(struct.unpack_from(byte_order(block) + "I", block, 4)[0])


def _directory(block: bytes, offset: int) -> tuple[list[_Located], int]:
    """The entries of the directory at ``offset``, and the offset of the next one; damaged entries are left out."""
    order = byte_order(block)
    (count,) = struct.unpack_from(order + "H", block, offset)
    located = []
    for place in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, place)
        length = _TYPE_BYTES.get(kind, 0) * number
        inline = length <= 4
        start = place + 8 if inline else int(struct.unpack_from(order + "I", block, place + 8)[0])
        if length == 0 or start + length > len(block):
            continue
        located.append(_Located(tag, Entry(kind, number, block[start : start + length]), start, inline))
    tail = offset + 2 + 12 * count
    # Some cameras leave out the last four bytes where no second directory follows.
    following = struct.unpack_from(order + "I", block, tail)[0] if tail + 4 <= len(block) else 0
    return located, int(following)


def _without_thumbnail(block: bytes) -> bytes:
    """The same block without its second directory, which holds the thumbnail."""
    order = byte_order(block)
    first = _first_offset(block)
    (count,) = struct.unpack_from(order + "H", block, first)
    _, second = _directory(block, first)
    if not second:
        return block
    cut = bytearray(block)
    struct.pack_into(order + "I", cut, first + 2 + 12 * count, 0)
    try:
        located, _ = _directory(block, second)
    except struct.error:
        return bytes(cut)
    numbers = {item.tag: item.entry.value for item in located if item.entry.type == LONG and item.entry.count == 1}
    if THUMBNAIL_OFFSET_TAG in numbers and THUMBNAIL_LENGTH_TAG in numbers:
        (offset,) = struct.unpack(order + "I", numbers[THUMBNAIL_OFFSET_TAG])
        (length,) = struct.unpack(order + "I", numbers[THUMBNAIL_LENGTH_TAG])
        if offset >= 8:
            _wipe(cut, offset, length)
    return bytes(cut)


def _wipe(block: bytearray, offset: int, length: int) -> None:
    """Remove bytes at the block's end, zero them anywhere else: nothing else may move."""
    if offset + length >= len(block) - 1:
        del block[offset:]
    else:
        block[offset : offset + length] = bytes(length)

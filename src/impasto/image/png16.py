"""PNG files with 16 bits a channel, which Pillow would reduce to 8.

Reference: Portable Network Graphics (PNG) Specification, third edition (W3C, 2025), sections 5, 7, 9 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_png16", "encode_png16", "unfilter"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # colour type -> samples a pixel: grey, RGB, grey + alpha, RGBA
_ROWS_AT_ONCE = 64

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    color_type: int
    interlaced: bool


def decode_png16(stream: BinaryIO) -> NDArray[np.uint16] | None:
    """The samples of a 16-bit PNG file.

    Args:
        stream: The file, at its beginning. Its size in pixels must have been checked before.

    Returns:
        ``[H, W, C]`` with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); a colour key (tRNS) becomes alpha.
        ``None`` for files that are not 16-bit, are interlaced, or damaged: Pillow reads those or says what is wrong.
    """
    if stream.read(8) != SIGNATURE:
        return None
    try:
        header, key, data = _gather(stream)
        if header is None or header.depth != 16 or header.interlaced or header.color_type not in _CHANNELS:
            return None
        channels = _CHANNELS[header.color_type]
        stride = 1 + header.width * channels * 2
        raw = _inflate(data, stride * header.height)
        rows = np.frombuffer(raw, np.uint8).reshape(header.height, stride)
        plain = unfilter(rows[:, 0], rows[:, 1:].reshape(header.height, header.width, channels * 2))
    except (struct.error, zlib.error, ValueError):
        return None
    samples = plain.reshape(header.height, header.width, channels, 2).view(">u2")[..., 0].astype(np.uint16)
    if key is not None and header.color_type in (0, 2) and len(key) == 2 * channels:
        opaque = (samples != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
        samples = np.concatenate([samples, opaque * np.uint16(65535)], axis=2)
    return samples


def unfilter(types: Bytes, filtered: Bytes) -> Bytes:
    """Undo PNG's line filters.

    Every byte is predicted from those to the left (a), above (b) and above left (c), so the only order that lets many
    be computed at once is along antidiagonals x + y = const. Rows without a filter that mixes the two directions
    (Average, Paeth) at the top and bottom are done row by row, which is quicker still.

    Args:
        types: ``[H]`` filter types, 0 to 4.
        filtered: ``[H, W, bytes a pixel]``.

    Returns:
        The plain bytes, the same shape.

    Raises:
        ValueError: A filter type above 4.
    """
    height, width, depth = filtered.shape
    if (types > 4).any():
        raise ValueError("unknown PNG filter type")
    # A row above and a pixel to the left, both zero, as the specification wants them: [H + 1, W + 1, bytes]
    plain = np.zeros((height + 1, width + 1, depth), np.uint8)
    plain[1:, 1:] = filtered
    mixed = np.flatnonzero(types > 2)
    first, last = (int(mixed[0]), int(mixed[-1]) + 1) if mixed.size else (height, height)
    _unfilter_rows(plain, types, range(first))
    _unfilter_diagonals(plain, types, first, last)
    _unfilter_rows(plain, types, range(last, height))
    return plain[1:, 1:]


def _unfilter_rows(plain: Bytes, types: Bytes, rows: range) -> None:
    for y in rows:
        if types[y] == 1:
            np.add.accumulate(plain[y + 1], axis=0, dtype=np.uint8, out=plain[y + 1])
        elif types[y] == 2:
            plain[y + 1] += plain[y]


def _unfilter_diagonals(plain: Bytes, types: Bytes, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` (exclusive) of any filter type, antidiagonal by antidiagonal."""
    width = plain.shape[1] - 1
    flat = plain.reshape(-1, plain.shape[2])
    step = width  # from (y, x) to (y + 1, x - 1) in rows of width + 1 pixels
    kinds = types[first:last, None]
    # With the neighbours a filter does not use set to zero, Paeth's rule gives None, Sub and Up as well.
    use_a = np.isin(kinds, (1, 3, 4)).astype(np.int16)
    use_b = np.isin(kinds, (2, 3, 4)).astype(np.int16)
    use_c = (kinds == 4).astype(np.int16)
    average = kinds == 3
    any_average = bool(average.any())
    for diagonal in range(width + last - first - 1):
        top = max(0, diagonal - width + 1)  # rows of this diagonal, counted from `first`
        bottom = min(last - first, diagonal + 1)
        start = (first + top + 1) * (width + 1) + diagonal - top + 1
        end = start + (bottom - top - 1) * step + 1
        rows = slice(top, bottom)
        a = flat[start - 1 : end - 1 : step] * use_a[rows]
        b = flat[start - width - 1 : end - width - 1 : step] * use_b[rows]
        c = flat[start - width - 2 : end - width - 2 : step] * use_c[rows]
        to_a = b - c  # p - a, where p = a + b - c
        to_b = a - c
        to_c = np.abs(to_a + to_b)
        np.abs(to_a, out=to_a)
        np.abs(to_b, out=to_b)
        predicted = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        if any_average:
            predicted = np.where(average[rows], (a + b) >> 1, predicted)
        flat[start:end:step] += predicted.astype(np.uint8)


def encode_png16(
    stream: BinaryIO, samples: NDArray[np.uint16], chunks: Sequence[tuple[bytes, bytes]] = (), *, level: int = 6
) -> None:
    """Write a 16-bit PNG file.

    Every line has the filter Up: it needs no search, and lets the reader above go row by row.

    Args:
        stream: Where to write.
        samples: ``[H, W, C]`` with C = 1, 2, 3 or 4.
        chunks: Further chunks (name, data) between header and pixels, such as `icc_chunk` makes them.
        level: zlib's compression level.
    """
    height, width, channels = samples.shape
    color_type = {number: kind for kind, number in _CHANNELS.items()}[channels]
    stream.write(SIGNATURE)
    _write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    for name, data in chunks:
        _write_chunk(stream, name, data)
    squeezer = zlib.compressobj(level, strategy=zlib.Z_FILTERED)
    for lines in _filtered_up(samples):
        if packed := squeezer.compress(lines):
            _write_chunk(stream, b"IDAT", packed)
    _write_chunk(stream, b"IDAT", squeezer.flush())
    _write_chunk(stream, b"IEND", b"")


def icc_chunk(profile: bytes) -> tuple[bytes, bytes]:
    """An ``iCCP`` chunk."""
    return b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(profile)


def resolution_chunk(dpi: tuple[float, float]) -> tuple[bytes, bytes]:
    """A ``pHYs`` chunk: dots a metre."""
    return b"pHYs", struct.pack(">IIB", round(dpi[0] / 0.0254), round(dpi[1] / 0.0254), 1)


def text_chunk(keyword: str, text: bytes) -> tuple[bytes, bytes]:
    """An uncompressed ``iTXt`` chunk; ``text`` is UTF-8."""
    return b"iTXt", keyword.encode("latin-1") + b"\x00\x00\x00\x00\x00" + text


def _filtered_up(samples: NDArray[np.uint16]) -> Iterator[bytes]:
    height = samples.shape[0]
    above = np.zeros((1, samples[0].size * 2), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        band = np.ascontiguousarray(samples[top : top + _ROWS_AT_ONCE], ">u2").view(np.uint8)
        band = band.reshape(band.shape[0], -1)
        lines = np.empty((band.shape[0], 1 + band.shape[1]), np.uint8)
        lines[:, 0] = 2
        lines[:, 1:] = band - np.concatenate([above, band[:-1]])
        above = band[-1:]
        yield lines.tobytes()


def _gather(stream: BinaryIO) -> tuple[_Header | None, bytes | None, list[bytes]]:
    """The header, the colour key and the compressed pixels; a wrong checksum raises ``ValueError``."""
    header = None
    key = None
    data: list[bytes] = []
    while True:
        length, name = struct.unpack(">I4s", stream.read(8))
        body = stream.read(length)
        (checksum,) = struct.unpack(">I", stream.read(4))
        if name in (b"IHDR", b"IDAT", b"tRNS") and zlib.crc32(name + body) != checksum:
            raise ValueError("wrong checksum")
        if name == b"IHDR":
            width, height, depth, color_type, _, _, interlace = struct.unpack(">IIBBBBB", body)
            header = _Header(width, height, depth, color_type, interlace != 0)
            if depth != 16 or interlace:
                return header, None, []
        elif name == b"tRNS":
            key = body
        elif name == b"IDAT":
            data.append(body)
        elif name == b"IEND":
            return header, key, data


def _inflate(parts: list[bytes], size: int) -> bytes:
    """Exactly ``size`` bytes; a stream that holds more is not unpacked further."""
    raw = zlib.decompressobj().decompress(b"".join(parts), size)
    if len(raw) != size:
        raise ValueError("too few pixels")
    return raw


def _write_chunk(stream: BinaryIO, name: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))

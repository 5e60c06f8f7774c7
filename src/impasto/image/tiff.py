"""TIFF files: 16-bit and float ones read through tifffile, 8-bit and 16-bit ones written here.

Pillow reads 16-bit colour as 8 bits and float colour not at all, so those go through tifffile. Writing is done by hand
because neither library can put a foreign EXIF block (with its sub-directories and maker notes) into a 16-bit file:
here the EXIF block, a TIFF file itself, is the file's beginning, and the picture's own tags join its first directory.

Reference: TIFF 6.0 (1992); Adobe Photoshop TIFF Technical Notes (2002) for Deflate; extratags XMP 700 and ICC 34675.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from impasto.image import exif
from impasto.image.exif import LONG, RATIONAL, SHORT, UNDEFINED, Entry

__all__ = ["DeepTiff", "decode_deep_tiff", "encode_tiff", "is_tiff"]

XMP_TAG, ICC_TAG = 700, 34675
# Tags that describe how the pixels of some other file are laid out; they must not follow a picture into a new file.
STRUCTURE_TAGS = frozenset(
    {*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301, *range(317, 326), 330, 332}
    | {334, *range(336, 343), 347, *range(512, 522), *range(529, 533), XMP_TAG, ICC_TAG}
)
_STRIP_BYTES = 1 << 20
_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2


@dataclass(frozen=True)
class DeepTiff:
    """The first page of a TIFF file with more than 8 bits a channel.

    Attributes:
        samples: ``[H, W, C]`` with C = 1 to 4; grey or RGB, then alpha. uint16 or float32, black is 0.
        orientation: 1 to 8, not yet applied.
        icc: The ICC profile.
        xmp: The XMP packet.
    """

    samples: NDArray[Any]
    orientation: int
    icc: bytes | None
    xmp: bytes | None


def is_tiff(prefix: bytes) -> bool:
    """Whether a file that begins so is a TIFF or BigTIFF file."""
    return prefix[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def decode_deep_tiff(stream: BinaryIO, limit_pixels: int) -> DeepTiff | None:
    """The first page of a 16-bit or float TIFF file, grey or RGB, chunky or planar, with or without alpha.

    Args:
        stream: The file.
        limit_pixels: Pages with more pixels are not decoded.

    Returns:
        ``None`` for what is left to Pillow: 8-bit pages, other colour models, compressions that tifffile cannot undo
        without its optional codecs, and damaged files.
    """
    import tifffile

    try:
        with tifffile.TiffFile(stream) as file:
            page: Any = file.pages[0]
            if page.imagewidth * page.imagelength > limit_pixels or not _is_deep(page):
                return None
            samples = _chunky(page, page.asarray())
            tags = {
                code: page.tags[code].value for code in (exif.ORIENTATION_TAG, ICC_TAG, XMP_TAG) if code in page.tags
            }
    except Exception:  # a damaged file can fail anywhere in tifffile; Pillow says what is wrong with it
        return None
    turned = tags.get(exif.ORIENTATION_TAG, 1)
    icc, xmp = tags.get(ICC_TAG), tags.get(XMP_TAG)
    return DeepTiff(
        samples,
        int(turned) if turned in range(1, 9) else 1,
        icc if isinstance(icc, bytes) else None,
        xmp if isinstance(xmp, bytes) else None,
    )


def _is_deep(page: Any) -> bool:
    kind = np.dtype(page.dtype) if page.dtype is not None else None
    return kind is not None and (
        kind in (np.uint16, np.float16, np.float32, np.float64)
        and page.bitspersample in (16, 32, 64)
        and int(page.photometric) in (_MINISWHITE, _MINISBLACK, _RGB)
        and page.imagedepth == 1
    )


def _chunky(page: Any, array: NDArray[Any]) -> NDArray[Any]:
    """``[H, W, C]`` with black at 0 and alpha, if any, last and not premultiplied."""
    height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
    samples = array.reshape(count, height, width).transpose(1, 2, 0) if page.planarconfig == 2 else array
    samples = samples.reshape(height, width, count)
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32)
    colors = 3 if int(page.photometric) == _RGB else 1
    if int(page.photometric) == _MINISWHITE and samples.dtype == np.uint16:
        samples = np.concatenate([65535 - samples[..., :1], samples[..., 1:]], axis=2)
    extra = [int(kind) for kind in page.extrasamples]
    alpha = next((i for i, kind in enumerate(extra) if kind in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA)), None)
    if alpha is None:
        return samples[..., :colors]
    opacity = samples[..., colors + alpha, None]
    color = samples[..., :colors]
    if extra[alpha] == _ASSOCIATED_ALPHA:
        full = 65535.0 if samples.dtype == np.uint16 else 1.0
        plain = np.minimum(color / np.maximum(opacity / full, 1e-6), full)
        color = (np.rint(plain) if samples.dtype == np.uint16 else plain).astype(samples.dtype)
    return np.concatenate([color, opacity], axis=2)


def encode_tiff(
    stream: BinaryIO,
    samples: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    icc: bytes | None = None,
    block: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    recipe: str | None = None,
) -> None:
    """Write a TIFF file of one page, Deflate-compressed with horizontal differencing.

    Args:
        stream: Where to write; seekable.
        samples: ``[H, W, 3]`` or ``[H, W, 4]`` (alpha not premultiplied).
        icc: The profile of the pixels.
        block: The EXIF block to carry on.
        xmp: The XMP packet to carry on.
        dpi: Resolution in dots an inch.
        recipe: The recipe, into the tag ImageHistory.
    """
    block = exif.rendition_block(block, recipe) or b"II*\x00\x08\x00\x00\x00" + bytes(6)
    order = exif.byte_order(block)
    entries = {tag: entry for tag, entry in exif.entries_of(block).items() if tag not in STRUCTURE_TAGS}
    stream.write(block + bytes(len(block) % 2))
    offsets, lengths = [], []
    rows = max(1, _STRIP_BYTES // samples[0].nbytes)
    for strip in _strips(samples, rows, order):
        offsets.append(stream.tell())
        lengths.append(len(strip))
        stream.write(strip + bytes(len(strip) % 2))

    def numbers(kind: int, *values: int) -> Entry:
        return Entry(kind, len(values), struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))

    height, width, channels = samples.shape
    own = {
        256: numbers(LONG, width),
        257: numbers(LONG, height),
        258: numbers(SHORT, *[samples.itemsize * 8] * channels),
        259: numbers(SHORT, 8),  # Deflate
        262: numbers(SHORT, _RGB),
        exif.ORIENTATION_TAG: numbers(SHORT, 1),
        273: numbers(LONG, *offsets),
        277: numbers(SHORT, channels),
        278: numbers(LONG, rows),
        279: numbers(LONG, *lengths),
        284: numbers(SHORT, 1),  # chunky
        317: numbers(SHORT, 2),  # horizontal differencing
        339: numbers(SHORT, *[1] * channels),  # unsigned integers
    }
    if channels == 4:
        own[338] = numbers(SHORT, _UNASSOCIATED_ALPHA)
    if dpi is not None:
        for tag, value in zip((282, 283), dpi, strict=True):
            own[tag] = Entry(RATIONAL, 1, struct.pack(order + "II", round(value * 1000), 1000))
        own[296] = numbers(SHORT, 2)  # inches
    if icc is not None:
        own[ICC_TAG] = Entry(UNDEFINED, len(icc), icc)
    if xmp is not None:
        own[XMP_TAG] = Entry(1, len(xmp), xmp)
    # A value that stands in the block already is pointed at, not written twice; the picture's own tags are new.
    places = {tag: place for tag, place in exif.places_of(block).items() if tag not in own}
    body, start = exif.directory_bytes(entries | own, stream.tell(), order, places)
    stream.write(body)
    stream.seek(4)
    stream.write(struct.pack(order + "I", start))


def _strips(samples: NDArray[Any], rows: int, order: str) -> Iterator[bytes]:
    for top in range(0, samples.shape[0], rows):
        band = samples[top : top + rows].copy()
        band[:, 1:] -= samples[top : top + rows, :-1]  # modulo 2^8 or 2^16, as predictor 2 wants it
        yield zlib.compress(band.astype(f"{order}u{samples.itemsize}").tobytes(), 6)


def history_of(value: object) -> bytes:
    """The bytes of an ImageHistory tag as Pillow hands it out (ASCII decoded as Latin-1)."""
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    return value if isinstance(value, bytes) else b""

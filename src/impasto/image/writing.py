"""Writing pictures: the format by the name's suffix, never half a file, metadata and recipe carried along."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from struct import error as struct_error
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from impasto.errors import ImageError, OutputError, UsageError
from impasto.image import exif, icc
from impasto.image.picture import PictureInfo
from impasto.image.png16 import encode_png16, icc_chunk, resolution_chunk, text_chunk
from impasto.image.tiff import encode_tiff
from impasto.types import FloatArray

__all__ = ["write_picture"]

_ALPHA_FORMATS = frozenset({"AVIF", "GIF", "ICO", "JPEG2000", "PNG", "TGA", "TIFF", "WEBP"})
_EXIF_FORMATS = frozenset({"AVIF", "JPEG", "PNG", "TIFF", "WEBP"})
_NOT_PICTURES = frozenset({"EPS", "PDF", "PALM", "XBM", "XV"})  # Pillow writes them, but not as full-colour pictures
_COMMON_SUFFIXES = ".jpg, .png, .webp, .tif, .bmp"
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535}
_JPEG_SEGMENT = 65533 - len(b"Exif\x00\x00")
_JPEG_XMP = 65533 - len(b"http://ns.adobe.com/xap/1.0/\x00")
_FULL_CHROMA_QUALITY = 90  # from here on JPEG keeps colour at full resolution


@dataclass(frozen=True)
class _Metadata:
    """What goes into a file beside its pixels."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    recipe: str | None = None


def write_picture(
    path: str | PathLike[str],
    pixels: NDArray[Any],
    *,
    alpha: FloatArray | None = None,
    like: PictureInfo | None = None,
    depth: int = 8,
    quality: int = 95,
    recipe: str | None = None,
    strip: bool = False,
) -> None:
    """Write a picture; the file appears whole under its name or not at all.

    EXIF, XMP and resolution of ``like`` are kept, its EXIF thumbnail (of the old picture) and an older recipe are
    not. An sRGB profile is written if ``like`` had any profile, since pixels are sRGB. The recipe becomes the last
    line of EXIF's ImageHistory (tag 0x9213, UTF-8) in JPEG, PNG, WebP, AVIF and TIFF; `read_recipe` finds it. BMP,
    GIF and other formats cannot carry one, nor EXIF. A JPEG segment holds 64 kB: EXIF or XMP above that is left out
    of JPEG files.

    Args:
        path: Where to; the suffix gives the format, an existing file is replaced.
        pixels: ``[H, W, 3]`` sRGB: floats, clipped to ``[0, 1]``, or uint8.
        alpha: ``[H, W]`` opacity; formats without it (JPEG, BMP, …) show the picture on white.
        like: The metadata to carry on, normally the content's `Picture.info`.
        depth: Bits a channel, 8 or 16; 16 in PNG and TIFF only.
        quality: 1 to 100 for JPEG, WebP and AVIF; from 90 on, JPEG keeps colour at full resolution.
        recipe: JSON text.
        strip: Write pixels only: no profile, EXIF, XMP, resolution or recipe.

    Raises:
        UsageError: A depth or quality that does not exist, or 16 bits in a format without them.
        ImageError: Pixels or alpha of another shape, or NaN or infinite values in them.
        OutputError: An unknown suffix, a folder that is missing or cannot be written, a picture too large
            for the format.
    """
    file_format = _format_of(path)
    _check_options(file_format, depth, quality)
    _check_pixels(pixels, alpha)
    _check_sides(file_format, path, pixels)
    if alpha is not None and file_format not in _ALPHA_FORMATS:
        pixels, alpha = _on_white(pixels, alpha), None
    metadata = _Metadata() if strip else _metadata(file_format, path, like, recipe)
    with _replacing(path) as stream:
        if file_format == "TIFF":
            _save_tiff(stream, _quantized(pixels, alpha, depth), metadata)
        elif depth == 16:
            encode_png16(stream, _quantized(pixels, alpha, 16), _png_chunks(metadata))
        else:
            _save_with_pillow(stream, file_format, _quantized(pixels, alpha, 8), metadata, quality)


# --- what is asked for -----------------------------------------------------------------------------------------------


def _format_of(path: str | PathLike[str]) -> str:
    Image.init()
    suffix = Path(path).suffix.lower()
    file_format = Image.registered_extensions().get(suffix)
    if file_format is None or file_format not in Image.SAVE or file_format in _NOT_PICTURES:
        known = f"unknown picture suffix '{suffix}'" if suffix else "no suffix"
        raise OutputError(f"cannot write '{path}': {known}; common ones are {_COMMON_SUFFIXES}")
    return "PNG" if file_format == "APNG" else file_format


def _check_options(file_format: str, depth: int, quality: int) -> None:
    if depth not in (8, 16):
        raise UsageError(f"depth is {depth}; pictures are written with 8 or 16 bits a channel")
    if depth == 16 and file_format not in ("PNG", "TIFF"):
        raise UsageError(f"{file_format} holds 8 bits a channel; write 16 bits as .png or .tif")
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}; it goes from 1 to 100")


def _check_pixels(pixels: NDArray[Any], alpha: FloatArray | None) -> None:
    known = pixels.dtype.kind == "f" or pixels.dtype == np.uint8
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape or not known:
        raise ImageError(
            f"cannot write an array of shape {pixels.shape} and {pixels.dtype}; give [H, W, 3] floats or uint8"
        )
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise ImageError(f"alpha is {alpha.shape}, the picture {pixels.shape[:2]}; they must have the same size")
    if not np.isfinite(pixels).all() or (alpha is not None and not np.isfinite(alpha).all()):
        raise ImageError("cannot write a picture with NaN or infinite values")


def _check_sides(file_format: str, path: str | PathLike[str], pixels: NDArray[Any]) -> None:
    height, width = pixels.shape[:2]
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise OutputError(
            f"cannot write '{path}': {height} x {width} pixels, and {file_format} ends at {longest} a side; "
            "use .png or .tif"
        )


def _metadata(file_format: str, path: str | PathLike[str], like: PictureInfo | None, recipe: str | None) -> _Metadata:
    profile = icc.srgb_profile() if like is not None and like.icc else None
    block, packet, dpi = (like.exif, like.xmp, like.dpi) if like is not None else (None, None, None)
    block = exif.block_of(block)
    if file_format == "TIFF":
        return _Metadata(profile, block, packet, dpi, recipe)
    if file_format not in _EXIF_FORMATS:
        return _Metadata(profile, None, None, dpi)
    rendition = exif.rendition_block(block, recipe)
    if file_format == "JPEG":
        packet = packet if packet and len(packet) <= _JPEG_XMP else None
        if rendition is not None and len(rendition) > _JPEG_SEGMENT:
            rendition = exif.rendition_block(None, recipe)
        if rendition is not None and len(rendition) > _JPEG_SEGMENT:
            raise OutputError(f"cannot write '{path}': the recipe is too long for JPEG; use .png, .webp or .tif")
    return _Metadata(profile, rendition, packet, dpi)


# --- pixels ----------------------------------------------------------------------------------------------------------


def _as_unit(pixels: NDArray[Any]) -> FloatArray:
    """Floats in [0, 1] from floats or uint8."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels.astype(np.float32) / np.float32(255))
    return np.asarray(np.clip(pixels, 0, 1))


def _on_white(pixels: NDArray[Any], alpha: FloatArray) -> FloatArray:
    opacity = np.clip(alpha, 0, 1)[..., None]
    return np.asarray(_as_unit(pixels) * opacity + (1 - opacity))


def _quantized(pixels: NDArray[Any], alpha: FloatArray | None, depth: int) -> NDArray[Any]:
    """``[H, W, 3]`` or ``[H, W, 4]``, uint8 or uint16, rounded to the nearest."""
    if pixels.dtype == np.uint8 and alpha is None and depth == 8:
        return np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    full, kind = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    samples = np.empty((height, width, 3 if alpha is None else 4), kind)
    for channel in range(samples.shape[2]):
        plane = pixels[..., channel] if channel < 3 or alpha is None else alpha
        samples[..., channel] = np.rint(_as_unit(plane) * full)
    return samples


# --- formats ---------------------------------------------------------------------------------------------------------


def _save_tiff(stream: BinaryIO, samples: NDArray[Any], metadata: _Metadata) -> None:
    encode_tiff(
        stream,
        samples,
        icc=metadata.icc,
        block=metadata.exif,
        xmp=metadata.xmp,
        dpi=metadata.dpi,
        recipe=metadata.recipe,
    )


def _png_chunks(metadata: _Metadata) -> list[tuple[bytes, bytes]]:
    chunks = []
    if metadata.icc is not None:
        chunks.append(icc_chunk(metadata.icc))
    if metadata.dpi is not None:
        chunks.append(resolution_chunk(metadata.dpi))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        chunks.append(text_chunk("XML:com.adobe.xmp", metadata.xmp))
    return chunks


def _save_with_pillow(
    stream: BinaryIO, file_format: str, samples: NDArray[np.uint8], metadata: _Metadata, quality: int
) -> None:
    options: dict[str, Any] = {}
    if file_format in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if file_format == "JPEG":
        options["subsampling"] = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
    if metadata.icc is not None:
        options["icc_profile"] = metadata.icc
    if metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    if metadata.exif is not None:
        options["exif"] = b"Exif\x00\x00" + metadata.exif
    if metadata.xmp is not None and file_format == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    Image.fromarray(samples).save(stream, file_format, **options)


# --- files -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _replacing(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A file beside ``path`` that takes its place if all goes well, and vanishes if not."""
    target = Path(os.path.realpath(path))  # a link stays a link, to the new file
    if target.is_dir():
        raise OutputError(f"cannot write '{path}': it is a folder; name a file")
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write '{path}': it is not a regular file")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write '{path}': there is no folder '{target.parent}'; create it first")
    # Created by plain open, unlike tempfile's, so that the file gets the permissions the user's umask gives.
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with draft.open("x+b") as stream:
            yield stream
        draft.replace(target)
    except (OSError, ValueError, struct_error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise OutputError(f"cannot write '{path}': {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)

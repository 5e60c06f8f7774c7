"""Reading pictures of any kind into upright float32 sRGB."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from impasto.errors import FieldError, ImageError, ImageLimitError
from impasto.image import exif, icc
from impasto.image.color import luminance
from impasto.image.picture import Picture, PictureInfo
from impasto.image.png16 import decode_png16
from impasto.image.tiff import STRUCTURE_TAGS, decode_deep_tiff, history_of, is_tiff
from impasto.types import FloatArray, PictureSource

__all__ = ["DEFAULT_PIXEL_LIMIT", "read_mask", "read_picture", "read_recipe"]

DEFAULT_PIXEL_LIMIT = 200_000_000
"""Pictures with more pixels are refused unless the caller says otherwise."""

_ANIMATED_FORMATS = frozenset({"AVIF", "FLI", "GIF", "PNG", "WEBP"})  # several frames mean a film, not pages
_UNSAFE_FORMATS = frozenset({"EPS", "WMF"})  # Pillow would start Ghostscript or the system's renderer
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_SUB_DIRECTORIES = (0x8769, 0x8825)  # Exif and GPS
_RANGE_SLACK = 1e-3
_GREY_SLACK = 2 / 255
_ASPECT_SLACK = 0.01


@dataclass(frozen=True)
class _Samples:
    """A picture between decoding and finishing: uint8, or floats in [0, 1]; grey or sRGB, not yet turned."""

    color: NDArray[Any]  # [H, W, 1] or [H, W, 3]
    alpha: FloatArray | None
    depth: int


def read_picture(source: PictureSource, *, limit_pixels: int = DEFAULT_PIXEL_LIMIT) -> Picture:
    """Read one picture: any file Pillow knows, 16-bit PNG and TIFF in full depth, a PIL image, or an array.

    EXIF orientation is applied. Colours are converted to sRGB through the embedded ICC profile; a broken one is
    ignored. Of files with pages (TIFF, multi-picture JPEG) the first is read, of a PIL image the current frame.

    Args:
        source: A path, a file's bytes, a PIL image, or an array: ``[H, W]`` or ``[H, W, C]`` with C = 1, 3 or 4, of
            bool, uint8, uint16, or float in ``[0, 1]``.
        limit_pixels: The largest height times width; checked before decoding.

    Returns:
        The picture.

    Raises:
        ImageLimitError: More than ``limit_pixels`` pixels.
        ImageError: Missing, empty, damaged, animated or no picture; an array of another shape, type or range.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, limit_pixels)
    if isinstance(source, Image.Image):
        _check_size(source.height, source.width, limit_pixels, "<image>")
        with _decoding("<image>"):
            return _from_image(source, _decode_image(source, "<image>"), "<image>")
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(source), "<bytes>", limit_pixels)
    if isinstance(source, str | PathLike):
        with _opened(source) as stream:
            return _from_stream(stream, str(source), limit_pixels)
    raise ImageError(f"cannot read a picture from {type(source).__name__}; give a path, bytes, a PIL image or an array")


def read_mask(source: PictureSource, size: tuple[int, int] | None) -> FloatArray:
    """Read a weight map: the luma of a picture, or its opacity where the shape was drawn with that.

    Opacity is the mask if some of it is transparent and the visible pixels have no colour variation; in other pictures
    with alpha, transparent parts count as black.

    Args:
        source: As for `read_picture`.
        size: ``(height, width)`` of the picture it belongs to; the mask is resized to it. ``None`` keeps its own size.

    Returns:
        ``[H, W]`` in ``[0, 1]``.

    Raises:
        FieldError: The mask's aspect ratio differs from the picture's by more than 1 %.
        ImageError: As for `read_picture`.
    """
    picture = read_picture(source)
    mask = _mask_of(picture)
    if size is None or mask.shape == tuple(size):
        return mask
    height, width = size
    ratio = (picture.width / picture.height) / (width / height)
    if abs(ratio - 1) > _ASPECT_SLACK:
        raise FieldError(
            f"the mask '{picture.info.source}' is {picture.height} x {picture.width} pixels (height x width), "
            f"the picture {height} x {width}: the shapes differ; crop or redraw the mask to the picture's shape"
        )
    # Pillow's bilinear filter widens with the reduction, which makes it an area average when it shrinks.
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.array(resized, np.float32), 0, 1)


def read_recipe(path: str | PathLike[str]) -> str | None:
    """The recipe that `write_picture` put into a file.

    Args:
        path: The file.

    Returns:
        The JSON text, or ``None`` if the file holds none.

    Raises:
        ImageError: The file is missing or no picture.
    """
    with _opened(path) as stream, _decoding(str(path)):
        image = _open_image(stream)
        if image is None:
            raise _not_a_picture(stream, str(path))
        if image.format == "TIFF":
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            return exif.recipe_in(history_of(tags.get(exif.HISTORY_TAG)))
        block = exif.block_of(image.info.get("exif"))
    entry = exif.entries_of(block).get(exif.HISTORY_TAG) if block else None
    return exif.recipe_in(entry.value) if entry else None


# --- sources ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below, where errors are no longer about opening
    except FileNotFoundError:
        raise ImageError(f"there is no file '{path}'; check the name") from None
    except IsADirectoryError:
        raise ImageError(f"'{path}' is a folder, not a picture; name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"cannot open '{path}': {reason}") from error
    with stream:
        yield stream if stream.seekable() else io.BytesIO(stream.read())


def _from_array(array: NDArray[Any], limit_pixels: int) -> Picture:
    name = "<array>"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"an array of shape {array.shape} is no picture; give [H, W] or [H, W, C] with C = 1, 3 or 4")
    if array.dtype.kind != "f" and array.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ImageError(f"an array of {array.dtype} is no picture; give uint8, uint16, or float in [0, 1]")
    _check_size(array.shape[0], array.shape[1], limit_pixels, name)
    depth = 8 if array.dtype.itemsize == 1 else 16
    planes = np.array(array if array.ndim == 3 else array[..., None])  # the caller may go on writing into theirs
    samples = _split(planes if planes.dtype == np.uint8 else _unit(planes, name), depth)
    info = PictureInfo(None, depth, str(array.dtype), None, None, None, None, name)
    return _finished(samples, info, 1)


def _from_stream(stream: BinaryIO, name: str, limit_pixels: int) -> Picture:
    with _decoding(name):
        prefix = stream.read(16)
        if not prefix:
            raise ImageError(f"'{name}' is empty")
        image = _open_image(stream)
        if image is not None:
            _check_size(image.height, image.width, limit_pixels, name)
            _check_still(image, name)
        if is_tiff(prefix):
            stream.seek(0)
            deep = decode_deep_tiff(stream, limit_pixels)
            if deep is not None:
                info = _info(image, name, deep.icc, deep.xmp)
                samples = _deep_in_srgb(_split(_unit(deep.samples, name), 16), deep.icc)
                return _finished(samples, info, deep.orientation)
        if image is None:
            raise _not_a_picture(stream, name)
        return _from_image(image, _decode_png16(image, stream) or _decode_image(image, name), name)


def _from_image(image: Image.Image, samples: _Samples, name: str) -> Picture:
    """What a decoded PIL image and its samples make together."""
    profile, packet, block = _icc_of(image), _xmp_of(image), _exif_of(image)
    turned = 1
    if image.format != "TIFF":  # Pillow turns TIFF files itself while loading
        turned = (exif.orientation(block) if block else None) or (exif.xmp_orientation(packet) if packet else None) or 1
    return _finished(samples, _info(image, name, profile, packet), turned)


# --- opening ---------------------------------------------------------------------------------------------------------

_header_lock = threading.Lock()


def _open_image(stream: BinaryIO) -> ImageFile.ImageFile | None:
    """The opened header of a picture file, or ``None`` if no plugin knows it.

    `PIL.Image.open` compares the size with a limit of its own, a global that belongs to the application; this asks the
    same registered plugins without it, so that ``limit_pixels`` alone decides.
    """
    stream.seek(0)
    prefix = stream.read(16)
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata; under the lock since filters are global
        Image.init()
        for name in Image.ID:
            if name in _UNSAFE_FORMATS or name not in Image.OPEN:
                continue
            factory, accept = Image.OPEN[name]
            try:
                if accept is None or accept(prefix) is True or accept(prefix) == 1:
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # how plugins say "not mine"
    return None


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Everything that goes wrong while decoding becomes an `ImageError` of one line that names the file."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageLimitError(f"'{name}' unpacks to more pixels than allowed: {_one_line(error)}") from error
    except Exception as error:  # damaged files fail in every way inside the decoders
        raise ImageError(f"'{name}' is damaged or incomplete: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _not_a_picture(stream: BinaryIO, name: str) -> ImageError:
    stream.seek(0)
    prefix = stream.read(64)
    if not prefix:
        return ImageError(f"'{name}' is empty")
    if prefix[4:8] == b"ftyp" and prefix[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1"):
        return ImageError(f"'{name}' is a HEIC picture, which cannot be read; save it as JPEG or PNG first")
    if b"<svg" in prefix or prefix.lstrip()[:5] == b"<?xml" or prefix[:4] in (b"%PDF", b"%!PS"):
        return ImageError(f"'{name}' is a drawing or document, not a pixel picture; export it as PNG first")
    return ImageError(f"'{name}' is not a picture that can be read, or its beginning is damaged")


def _check_size(height: int, width: int, limit_pixels: int, name: str) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"'{name}' has no pixels ({height} x {width})")
    if height * width > limit_pixels:
        raise ImageLimitError(
            f"'{name}' has {height} x {width} = {height * width:,} pixels, more than the limit of {limit_pixels:,}; "
            "make it smaller or raise the limit"
        )


def _check_still(image: Image.Image, name: str) -> None:
    frames = int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED_FORMATS else 1
    if frames > 1:
        raise ImageError(
            f"'{name}' is animated ({frames} frames); save the frame you want as PNG, "
            "or pass it as a PIL image after image.seek(n)"
        )


# --- decoding --------------------------------------------------------------------------------------------------------


def _decode_png16(image: Image.Image, stream: BinaryIO) -> _Samples | None:
    if image.format != "PNG":
        return None
    stream.seek(0)
    samples = decode_png16(stream)
    if samples is None:
        return None
    return _deep_in_srgb(_split(_unit(samples, ""), 16), _icc_of(image))


def _decode_image(image: Image.Image, name: str) -> _Samples:
    """A PIL image of any mode, in sRGB."""
    image.load()
    profile = _icc_of(image)
    if image.mode in _DEEP_MODES:
        values = np.asarray(image)
        if image.mode == "I":
            values = _sixteen_bits(values, name)
        elif image.mode != "F":
            values = values.astype(np.uint16)  # native byte order
        return _deep_in_srgb(_Samples(_unit(values[..., None], name), None, 16), profile)
    image, alpha = _without_alpha(image)
    converted = icc.to_srgb(image, profile) if profile and image.mode in ("L", "RGB", "CMYK", "LAB") else None
    if converted is not None:
        image = converted
    elif image.mode == "LAB":
        image = icc.lab_to_srgb(image)
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    color = np.asarray(image)
    return _Samples(color[..., None] if color.ndim == 2 else color, alpha, 8)


def _without_alpha(image: Image.Image) -> tuple[Image.Image, FloatArray | None]:
    """The picture without its opacity, in a mode that a profile may describe; and the opacity."""
    if image.mode == "1" and "transparency" not in image.info:
        return image.convert("L"), None
    if image.mode in ("LA", "La"):
        image = image.convert("LA")  # from premultiplied, if it is
        grey, alpha = image.split()
        return grey, _unit(np.asarray(alpha), "")
    if image.has_transparency_data:  # also palettes and single colours marked as transparent
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), _unit(np.asarray(rgba.getchannel("A")), "")
    return (image.convert("RGB") if image.mode in ("P", "PA", "RGBX") else image), None


def _sixteen_bits(values: NDArray[Any], name: str) -> NDArray[np.uint16]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"'{name}' holds integers from {low} to {high}; 32-bit pictures are read up to 65535, scale it"
        )
    return values.astype(np.uint16)


def _unit(values: NDArray[Any], name: str) -> FloatArray:
    """Samples of any type as float32 in [0, 1]."""
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    if values.dtype.kind == "u":
        scaled: FloatArray = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
        return scaled
    if not np.isfinite(values).all():
        raise ImageError(f"'{name}' holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
        raise ImageError(f"'{name}' holds floats from {low:.4g} to {high:.4g}; scale them to [0, 1]")
    clipped: FloatArray = np.clip(values, 0, 1).astype(np.float32)
    return clipped


def _split(samples: NDArray[Any], depth: int) -> _Samples:
    """Opacity, the last of two or four channels, apart from colour."""
    if samples.shape[2] in (2, 4):
        return _Samples(samples[..., :-1], _unit(samples[..., -1], ""), depth)
    return _Samples(samples, None, depth)


def _deep_in_srgb(samples: _Samples, profile: bytes | None) -> _Samples:
    if not profile:
        return samples
    converted = icc.deep_to_srgb(samples.color, profile)
    if converted is not None:
        return replace(samples, color=converted)
    # A profile of tables: LittleCMS can apply it, though to 8 bits only.
    shallow = np.rint(samples.color * 255).astype(np.uint8)
    image = icc.to_srgb(Image.fromarray(shallow[..., 0] if shallow.shape[2] == 1 else shallow), profile)
    return samples if image is None else _Samples(_unit(np.asarray(image), ""), samples.alpha, 8)


def _finished(samples: _Samples, info: PictureInfo, turned: int) -> Picture:
    """Three channels, upright, in memory of its own."""
    color = _turn(samples.color, turned)
    pixels = np.ascontiguousarray(np.broadcast_to(color, (*color.shape[:2], 3)))
    alpha = None if samples.alpha is None else np.array(_turn(samples.alpha, turned), np.float32, order="C")
    return Picture(pixels, alpha, replace(info, depth=samples.depth))


def _turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows and columns as they are to be seen, for EXIF orientation 1 to 8."""
    if orientation >= 5:  # rows and columns change places
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


# --- metadata --------------------------------------------------------------------------------------------------------


def _info(image: Image.Image | None, name: str, profile: bytes | None, packet: bytes | None) -> PictureInfo:
    """The facts beside the pixels; ``image`` is ``None`` for TIFF files that only tifffile can read."""
    packet = exif.upright_xmp(packet) if packet else None
    if image is None:
        return PictureInfo("TIFF", 16, "float", profile, None, packet, None, name)
    block = _exif_of(image)
    return PictureInfo(
        format=image.format,
        depth=8,
        mode=image.mode,
        icc=profile,
        exif=exif.upright(block) if block else None,
        xmp=packet,
        dpi=_dpi_of(image),
        source=name,
    )


def _icc_of(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def _xmp_of(image: Image.Image) -> bytes | None:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    return packet if isinstance(packet, bytes) and packet else None


def _exif_of(image: Image.Image) -> bytes | None:
    raw = image.info.get("exif")
    if isinstance(raw, bytes) and raw:
        return exif.block_of(raw)
    with _header_lock, warnings.catch_warnings(), contextlib.suppress(Exception):  # damaged metadata is left out
        warnings.simplefilter("ignore")
        tags = image.getexif()  # a TIFF file's own tags, or those of old PNG text chunks
        kept = Image.Exif()
        kept.endian = tags.endian
        for tag, value in tags.items():
            if tag not in STRUCTURE_TAGS and tag != exif.ORIENTATION_TAG:
                kept[tag] = tags.get_ifd(tag) if tag in _SUB_DIRECTORIES else value
        return exif.block_of(kept.tobytes()) if len(kept) else None
    return None


def _dpi_of(image: Image.Image) -> tuple[float, float] | None:
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        across, down = (float(value) for value in image.info["dpi"])
        if 0 < across < 1e6 and 0 < down < 1e6:
            return across, down
    return None


def _mask_of(picture: Picture) -> FloatArray:
    luma = np.clip(luminance(picture.pixels), 0, 1)
    if picture.alpha is None:
        return luma
    visible = picture.pixels[picture.alpha > 0]
    plain = len(visible) == 0 or float(np.ptp(visible, axis=0).max()) < _GREY_SLACK
    return picture.alpha if plain and picture.alpha.min() < 1 else luma * picture.alpha

"""From a picture's own colour space to sRGB.

8-bit pictures go through LittleCMS (Pillow's ImageCms), with relative colorimetric intent and black point compensation.
Pillow has no 16-bit colour mode to hand to LittleCMS, so for 16-bit pictures the common kind of profile, three curves
and a matrix (Adobe RGB, Display P3, ProPhoto, …), is computed here in floating point.

Reference: ICC.1:2022, sections 8.3 (matrix/TRC profiles), 10.6 (curveType), 10.18 (parametricCurveType), 10.31
(XYZType); IEC 61966-2-1 for sRGB.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from impasto.types import FloatArray

__all__ = ["deep_to_srgb", "lab_to_srgb", "srgb_profile", "to_srgb"]

Curve = Callable[[FloatArray], FloatArray]

# sRGB's primaries relative to D50 (Bradford), columns R, G, B: linear RGB -> the profile connection space.
_SRGB_TO_PCS = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_ROWS_AT_ONCE = 256
# A transform that moves no colour further than this is taken for sRGB itself, and the pixels stay as they are.
_SAME_LEVELS = 1  # of 255
_SAME = 0.003


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """The sRGB profile written into files; the same bytes at every call and on every day."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2025, 1, 1, 0, 0, 0)  # LittleCMS puts the time of the call here
    profile[84:100] = bytes(16)  # the profile's checksum, where 0 means "not computed"
    return bytes(profile)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """An 8-bit picture without alpha, converted from its profile's space.

    Args:
        image: Mode ``L``, ``RGB``, ``CMYK`` or ``LAB``.
        profile: The ICC profile's bytes.

    Returns:
        A picture of mode ``RGB``; ``None`` if the profile is broken or belongs to another kind of picture.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB", _INTENT, _FLAGS)
        if image.mode == "RGB" and _leaves_colors(transform):
            return image
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """A picture of mode ``LAB`` (CIE L*a*b*, D50) without a profile of its own, as ``RGB``."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", _INTENT, _FLAGS
    )
    converted = ImageCms.applyTransform(image, transform)
    return image.convert("RGB") if converted is None else converted


def deep_to_srgb(pixels: FloatArray, profile: bytes) -> FloatArray | None:
    """A 16-bit or float picture, converted from its profile's space.

    Args:
        pixels: ``[H, W, 1]`` or ``[H, W, 3]`` in ``[0, 1]``.
        profile: The ICC profile's bytes.

    Returns:
        ``[H, W, 3]`` sRGB in ``[0, 1]``, colours outside sRGB clipped; ``None`` if the profile is broken, belongs to
        another kind of picture, or is built of tables instead of curves and a matrix.
    """
    try:
        curves, matrix = _curves_and_matrix(profile, pixels.shape[2])
    except (struct.error, ValueError, KeyError):
        return None
    probe = np.linspace(0, 1, 5, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[probe] * pixels.shape[2], indexing="ij"), axis=-1).reshape(1, -1, pixels.shape[2])
    if np.abs(_through(grid, curves, matrix) - grid).max() < _SAME:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)
    converted = np.empty((*pixels.shape[:2], 3), np.float32)
    for top in range(0, len(pixels), _ROWS_AT_ONCE):
        band = slice(top, top + _ROWS_AT_ONCE)
        converted[band] = _through(pixels[band], curves, matrix)
    return converted


def _leaves_colors(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    moved = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return moved is not None and int(np.abs(np.asarray(moved, np.int16) - grid).max()) <= _SAME_LEVELS


def _through(pixels: FloatArray, curves: list[Curve], matrix: FloatArray) -> FloatArray:
    linear = np.stack([curve(pixels[..., i]) for i, curve in enumerate(curves)], axis=-1)
    moved = np.clip(linear @ matrix.T, 0, 1)  # [H, W, 3] linear sRGB
    encoded = np.where(moved <= 0.0031308, moved * 12.92, 1.055 * np.maximum(moved, 0.0031308) ** (1 / 2.4) - 0.055)
    result: FloatArray = encoded.astype(np.float32)
    return result


def _curves_and_matrix(profile: bytes, channels: int) -> tuple[list[Curve], FloatArray]:
    """The tone curves of each channel, and the matrix from linear channels to linear sRGB, ``[3, channels]``."""
    space, connection, magic = profile[16:20], profile[20:24], profile[36:40]
    if magic != b"acsp" or connection != b"XYZ " or space != {1: b"GRAY", 3: b"RGB "}.get(channels):
        raise ValueError("not a matrix/TRC profile for this picture")
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for i in range(min(count, 200)):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        tags[name] = profile[offset : offset + size]
    if b"A2B0" in tags or b"A2B1" in tags:
        raise ValueError("a profile of tables")
    if channels == 1:
        return [_curve(tags[b"kTRC"])], np.ones((3, 1), np.float32)
    columns = [np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536 for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    matrix = np.linalg.solve(_SRGB_TO_PCS, np.stack(columns, axis=1))
    return [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")], matrix.astype(np.float32)


def _curve(tag: bytes) -> Curve:
    if tag[:4] == b"curv":
        return _sampled_curve(tag)
    if tag[:4] == b"para":
        return _parametric_curve(tag)
    raise ValueError("unknown curve")


def _sampled_curve(tag: bytes) -> Curve:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda x: x
    values = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
    if count == 1:
        gamma = float(values[0]) / 256
        return lambda x: (x**gamma).astype(np.float32)
    places = np.linspace(0, 1, count)
    return lambda x: np.interp(x, places, values / 65535).astype(np.float32)


def _parametric_curve(tag: bytes) -> Curve:
    (kind,) = struct.unpack_from(">H", tag, 8)
    number = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(kind)
    if number is None:
        raise ValueError("unknown parametric curve")
    values = [value / 65536 for value in struct.unpack_from(f">{number}i", tag, 12)]
    # All kinds are cases of the last: (a x + b)^gamma + e from x = d on, c x + f below.
    gamma, a, b, c, d, e, f = (values + [0.0] * 7)[:7]
    if kind == 0:
        a, d = 1.0, 0.0
    elif kind in (1, 2):
        c, d, e, f = 0.0, -b / a if a else 0.0, c, c

    def curve(x: FloatArray) -> FloatArray:
        power = np.maximum(a * x + b, 0) ** gamma + e
        result: FloatArray = np.where(x >= d, power, c * x + f).astype(np.float32)
        return result

    return curve

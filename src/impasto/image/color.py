"""Colour and size of float pictures: luma, colour-preserving stylization, resizing.

Nothing here clips: results may leave ``[0, 1]``, and whoever shows or saves them clips (`write_picture` does).

Reference: Gatys, Bethge, Hertzmann, Shechtman (2016), "Preserving Color in Neural Artistic Style Transfer",
arXiv:1606.05897.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import UsageError
from impasto.types import FloatArray

__all__ = ["LUMA_WEIGHTS", "color_transfer", "luminance", "match_color_statistics", "preserve_luminance_only", "resize"]

LUMA_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. ITU-R BT.709's weights of R, G and B; their sum is 1."""

# Spread below half an 8-bit step is rounding noise; stretching it to a content's colours would show nothing but noise.
_LEAST_DEVIATION = 0.5 / 255
_PIXELS_AT_ONCE = 1 << 20


def luminance(pixels: FloatArray) -> FloatArray:
    """Rec. 709 luma Y': the weighted sum of the gamma-encoded channels, not the linear-light luminance.

    Args:
        pixels: ``[..., 3]`` sRGB.

    Returns:
        ``[...]``, in the range of the input.
    """
    return pixels @ LUMA_WEIGHTS


def preserve_luminance_only(content: FloatArray, painted: FloatArray) -> FloatArray:
    """The painted picture's luma with the content's chroma ("luminance-only transfer", section 4 of the paper).

    With luma weights that sum to 1, adding the same number to R, G and B changes Y' by it and leaves every colour
    difference (R - Y', B - Y', hence I and Q, Cb and Cr) alone, so no change of colour space is needed.

    Differs from the paper: Rec. 709's luma in place of YIQ's (Rec. 601).

    Args:
        content: ``[H, W, 3]`` sRGB.
        painted: ``[H, W, 3]``, the stylization of it.

    Returns:
        ``[H, W, 3]``, not clipped; clipping changes the luma of the pixels it touches.

    Raises:
        UsageError: The two differ in size.
    """
    if content.shape != painted.shape:
        raise UsageError(
            f"content {content.shape[:2]} and painted {painted.shape[:2]} differ in size; resize one to the other"
        )
    return content + (luminance(painted) - luminance(content))[..., None]


def color_transfer(source: FloatArray, target: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """The map of colours that gives ``source`` the mean and covariance of ``target``; it works on any picture or tile.

    The linear transfer of section 3 of Gatys et al. 2016 in its symmetric (PCA) form: x -> A x + b with
    A = T^1/2 S^-1/2, b = m_T - A m_S, where m and S, T are means and covariances of the RGB pixels. Directions in which
    the source has no spread to begin with (a grey or constant picture) keep none: A uses the pseudo-inverse there.

    Args:
        source: ``[H, W, 3]`` sRGB, the picture whose colours move.
        target: ``[H', W', 3]`` sRGB.

    Returns:
        A function from ``[h, w, 3]`` to ``[h, w, 3]``, not clipped.
    """
    source_mean, source_covariance = _color_moments(source)
    target_mean, target_covariance = _color_moments(target)
    values, vectors = np.linalg.eigh(source_covariance)
    spread = values > _LEAST_DEVIATION**2
    whitening = (vectors * np.where(spread, 1 / np.sqrt(np.where(spread, values, 1)), 0)) @ vectors.T  # S^-1/2
    values, vectors = np.linalg.eigh(target_covariance)
    coloring = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # T^1/2
    transfer = coloring @ whitening  # [3, 3], A
    shift = target_mean - transfer @ source_mean  # [3], b
    matrix, offset = transfer.T.astype(np.float32), shift.astype(np.float32)
    return lambda pixels: np.asarray(pixels @ matrix + offset, np.float32)


def match_color_statistics(style: FloatArray, content: FloatArray) -> FloatArray:
    """The style picture with its colours moved to the content's mean and covariance, before stylization.

    Args:
        style: ``[H, W, 3]`` sRGB.
        content: ``[H', W', 3]`` sRGB.

    Returns:
        ``[H, W, 3]``, not clipped; see :func:`color_transfer`.
    """
    return color_transfer(style, content)(style)


def resize(pixels: FloatArray, size: tuple[int, int]) -> FloatArray:
    """A picture or map in another size, by Lanczos filtering with antialiasing.

    Args:
        pixels: ``[H, W, C]`` or ``[H, W]``, float32.
        size: ``(height, width)`` of the result.

    Returns:
        ``[*size, C]`` or ``[*size]``. Lanczos overshoots at edges, so values may leave the input's range by some
        percent; clip.

    Raises:
        UsageError: A side of the result below 1.
    """
    height, width = size
    if height < 1 or width < 1:
        raise UsageError(f"cannot resize to {height} x {width} pixels; both sides must be at least 1")
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = np.stack([_resize_plane(planes[..., i], size) for i in range(planes.shape[2])], axis=-1)
    return resized[..., 0] if pixels.ndim == 2 else resized


def _resize_plane(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.array(image.resize((size[1], size[0]), Image.Resampling.LANCZOS), np.float32)


def _color_moments(pixels: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``[3]`` and covariance ``[3, 3]`` of the pixels, in double precision."""
    total = np.zeros(3)
    for part in _parts(pixels):
        total += part.sum(axis=0)
    mean = total / (pixels.shape[0] * pixels.shape[1])
    covariance = np.zeros((3, 3))
    for part in _parts(pixels):
        covariance += (part - mean).T @ (part - mean)
    return mean, covariance / (pixels.shape[0] * pixels.shape[1])


def _parts(pixels: FloatArray) -> Iterator[NDArray[np.float64]]:
    flat = pixels.reshape(-1, 3)
    for start in range(0, len(flat), _PIXELS_AT_ONCE):
        yield flat[start : start + _PIXELS_AT_ONCE].astype(np.float64)

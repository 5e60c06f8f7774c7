"""What a photograph and a painting have in common: the channels that tell which patch may go where.

The pair of an Image Analogy (Hertzmann et al. 2001: A, A' and B) is not given here; as in their "artistic filters"
(section 4.2) the unpainted A is a blurred copy of the painting, so brightness, colour and direction of the painting
seen without its strokes are compared with those of the photograph. Every channel is divided by its spread in the
painting, so that weights mean the same for pale and for bold pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from impasto.image.color import color_transfer, luminance
from impasto.texture.settings import GuidedSettings
from impasto.texture.tones import match_tones
from impasto.types import FloatArray

__all__ = ["Guides", "photo_guides", "style_guides"]

STROKE = 1.5  # pixels of each scale: the blur that takes the strokes off the painting
FINE = 0.7  # pixels: the blur of the detail channel
SMOOTHING = 1e-3  # variance below which the photograph's texture is smoothed away (guided filter)
RADIUS = 4  # pixels of the guided filter
EDGE_SHARE = 0.93  # edges stronger than this share of the photograph's pixels count fully
FLAT = 0.03  # what the detail channel counts where there is no edge
TONE_WEIGHT, DETAIL_WEIGHT, HUE_WEIGHT, DIRECTION_WEIGHT = 1.0, 10.0, 0.6, 0.3
LOST_HUE = 0.4  # of colourfulness, how much darker it makes
TONE_FLOOR, COLOR_FLOOR = 0.02, 0.02  # spreads below are noise


@dataclass(frozen=True, eq=False)
class Guides:
    """Channels of one picture at one scale.

    Attributes:
        base: ``[H, W, 5]`` tone, two of colour, two of direction.
        detail: ``[H, W, 1]`` tone with its edges.
        gate: ``[H, W]`` how much the detail counts; 1 in a painting.
        colors: ``[H, W, 3]`` the picture itself; of a photograph, with the painting's colours.
    """

    base: FloatArray
    detail: FloatArray
    gate: FloatArray
    colors: FloatArray


@dataclass(frozen=True)
class _Spreads:
    tone: float
    hue: float


def style_guides(style: FloatArray, settings: GuidedSettings) -> Guides:
    """The painting's own channels."""
    tone, hue = _opponent(style)
    without, spreads = _blur(tone, STROKE), _spreads(style)
    base = _base(without, _blur(hue, STROKE), _directions(tone, 1.0, 2.0), spreads, settings)
    return Guides(base, _detail(_blur(tone, FINE), spreads, settings), np.ones_like(tone), style)


def photo_guides(photo: FloatArray, style: FloatArray, settings: GuidedSettings) -> Guides:
    """The photograph's channels in the terms of a painting: with its tones and colours."""
    smooth = _guided_filter(_tone_with_lost_hue(photo, style))
    style_tone = _blur(_opponent(style)[0], STROKE)
    matched = match_tones(smooth, style_tone, settings.tones)
    moved = color_transfer(_blur(photo, 1.0), style)(photo)  # [H, W, 3]
    hue = _opponent(_blur(moved, 1.0))[1]
    spreads = _spreads(style)
    base = _base(_blur(matched, STROKE), hue, _directions(smooth, 1.0, 3.0), spreads, settings)
    colors = np.clip(moved + (matched - luminance(moved))[..., None], 0, 1)
    return Guides(base, _detail(matched, spreads, settings), _edges(smooth), colors)


def _base(
    tone: FloatArray, hue: FloatArray, direction: FloatArray, spreads: _Spreads, settings: GuidedSettings
) -> FloatArray:
    """Channels times the roots of their weights: the squared difference is the weighted one."""
    parts = [
        np.sqrt(TONE_WEIGHT * settings.structure) * tone[..., None] / spreads.tone,
        np.sqrt(HUE_WEIGHT * settings.hue) * hue / spreads.hue,
        np.sqrt(DIRECTION_WEIGHT * settings.direction) * direction,
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _detail(tone: FloatArray, spreads: _Spreads, settings: GuidedSettings) -> FloatArray:
    weight = DETAIL_WEIGHT * settings.structure * settings.detail
    return np.asarray(np.sqrt(weight) * tone[..., None] / spreads.tone, np.float32)


def _spreads(style: FloatArray) -> _Spreads:
    tone, hue = _opponent(style)
    return _Spreads(float(_blur(tone, STROKE).std()) + TONE_FLOOR, max(float(_blur(hue, 1.0).std()), COLOR_FLOOR))


def _opponent(picture: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Luma ``[H, W]`` and the colour differences B - Y', R - Y' ``[H, W, 2]``."""
    tone = luminance(picture)
    return tone, np.stack([picture[..., 2] - tone, picture[..., 0] - tone], axis=-1)


def _tone_with_lost_hue(photo: FloatArray, style: FloatArray) -> FloatArray:
    """``[H, W]`` luma, darker where the photograph is more colourful than the painting can show.

    A yellow thing before a white sky has no edge in an engraving's tones otherwise.
    """
    tone, hue = _opponent(photo)
    ours, theirs = float(hue.std()), float(_opponent(style)[1].std())
    lost = 1 - min(1.0, theirs / ours) if ours > COLOR_FLOOR else 0.0
    return np.asarray(tone - LOST_HUE * lost * np.sqrt((hue * hue).sum(-1)), np.float32)


def _directions(tone: FloatArray, inner: float, outer: float) -> FloatArray:
    """``[H, W, 2]`` cosine and sine of twice the angle of the structure tensor, as long as edges there agree.

    Twice the angle, because a stroke has no beginning. The length is the tensor's anisotropy times the root of its
    strength relative to the picture's mean, at most 1, so that flat areas ask for nothing.
    """
    down = ndimage.gaussian_filter(tone, inner, order=(1, 0), mode="reflect")
    right = ndimage.gaussian_filter(tone, inner, order=(0, 1), mode="reflect")
    cosine, sine = _blur(right * right - down * down, outer), _blur(2 * right * down, outer)
    strength = _blur(right * right + down * down, outer)
    scale = np.sqrt(float(strength.mean()) * strength) + np.float32(1e-6)
    vectors = np.stack([cosine, sine], axis=-1) / scale[..., None]
    length = np.sqrt((vectors**2).sum(-1, keepdims=True))
    return np.asarray(vectors / np.maximum(1, length), np.float32)


def _edges(smooth: FloatArray) -> FloatArray:
    """``[H, W]`` from :data:`FLAT` where the photograph is smooth to 1 along its edges."""
    slope = _blur(ndimage.gaussian_gradient_magnitude(smooth, 0.8, mode="reflect"), 0.8)
    strong = np.clip(slope / (np.quantile(slope, EDGE_SHARE) + 1e-4), 0, 1)
    return np.asarray(FLAT + (1 - FLAT) * _blur(strong, 1.0), np.float32)


def _guided_filter(tone: FloatArray) -> FloatArray:
    """Edges kept, texture gone: the guided filter with itself as guide (He, Sun, Tang 2010, eq. 5, 6 and 8)."""

    def mean(plane: FloatArray) -> FloatArray:
        return np.asarray(ndimage.uniform_filter(plane, 2 * RADIUS + 1, mode="reflect"), np.float32)

    average = mean(tone)
    variance = np.maximum(mean(tone * tone) - average * average, np.float32(0))
    gain = np.asarray(variance / (variance + np.float32(SMOOTHING)), np.float32)
    return np.asarray(mean(gain) * tone + mean(average - gain * average), np.float32)


def _blur(picture: FloatArray, sigma: float) -> FloatArray:
    sigmas = (sigma, sigma) + (0,) * (picture.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(picture, sigmas, mode="reflect"), np.float32)

"""What the diffusion network is told: hints of a content without its style, and what is to be known of a style.

Both come from the frozen encoder ``lens``. A content shows

* its features at 1/4 and 1/8 of the picture, instance-normalised: ``(F - mean) / deviation`` of each channel, which
  takes out what AdaIN would exchange (Huang & Belongie 2017, arXiv:1703.06868);
* its luminance at 1/4, with mean 0 and deviation 1, and its edges there (length of Sobel's gradient).

Finer detail is left out on purpose: it is the style's to paint.

A style shows means and deviations of its features over the whole, over 4x4 and over 8x8 cells: the first as a vector,
all of them as tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from impasto.nets.adain import channel_moments
from impasto.nets.prior import Colours, colours_of

__all__ = [
    "CELLS",
    "HINT_LAYERS",
    "STYLE_LAYERS",
    "ContentHints",
    "HintStatistics",
    "StyleFeatures",
    "content_hints",
    "hint_statistics",
    "style_features",
]

HINT_LAYERS = ("relu3_1", "relu4_1")
"""At 1/4 and 1/8 of the picture."""
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
CELLS = (1, 4, 8)
"""Cells along a side, of each scale of the style tokens."""
TOKENS = sum(cells**2 for cells in CELLS)

Maps = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class HintStatistics:
    """By what a content is normalised; measured once, so that tiles agree.

    Attributes:
        middle: mean and deviation of ``relu3_1``, ``[B, 2, C]``.
        deep: of ``relu4_1``.
        light: of luminance and edges, ``[B, 2, 2]``.
    """

    middle: Tensor
    deep: Tensor
    light: Tensor


@dataclass(frozen=True, eq=False)
class ContentHints:
    """A content without its style.

    Attributes:
        deep: ``relu4_1``, ``[B, C, h, w]``.
        middle: ``relu3_1``, ``[B, C', 2 h, 2 w]``.
        light: luminance and edges, ``[B, 2, 2 h, 2 w]``.
    """

    deep: Tensor
    middle: Tensor
    light: Tensor


@dataclass(frozen=True, eq=False)
class StyleFeatures:
    """Statistics of a style's features, before anything learned.

    Attributes:
        cells: of the cells of all scales, coarse to fine, ``[B, 81, F]``.
        whole: of the whole over all layers, ``[B, G]``.
        colours: mean and covariance.
    """

    cells: Tensor
    whole: Tensor
    colours: Colours


def _light(picture: Tensor) -> Tensor:
    """Luminance (Rec. 709) and edges at 1/4: ``[B, 3, H, W]`` to ``[B, 2, H/4, W/4]``."""
    grey = (picture * picture.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)
    sobel = picture.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([sobel, sobel.T])[:, None]  # [2, 1, 3, 3]
    gradient = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    edges = (gradient.square().sum(1, keepdim=True) + 1e-8).sqrt()
    return functional.avg_pool2d(torch.cat([grey, edges], dim=1), 4)


def hint_statistics(maps: Maps, picture: Tensor) -> HintStatistics:
    """Means and deviations over a whole picture ``[B, 3, H, W]`` in ``[0, 1]`` and its features."""
    middle, deep = (channel_moments(maps[layer]) for layer in HINT_LAYERS)
    return HintStatistics(middle, deep, channel_moments(_light(picture)))


def content_hints(maps: Maps, picture: Tensor, statistics: HintStatistics) -> ContentHints:
    """The hints of a picture ``[B, 3, H, W]``, sides multiples of 8, or of a part of it, from the features of it."""
    middle, deep = (maps[layer] for layer in HINT_LAYERS)
    return ContentHints(
        _normalised(deep, statistics.deep),
        _normalised(middle, statistics.middle),
        _normalised(_light(picture), statistics.light).clamp(-4, 4),
    )


def _normalised(maps: Tensor, moments: Tensor) -> Tensor:
    return (maps - moments[:, 0, :, None, None]) / moments[:, 1, :, None, None].clamp_min(1e-2)


def style_features(maps: Maps, picture: Tensor) -> StyleFeatures:
    """Statistics of a style ``[B, 3, H, W]`` in ``[0, 1]``, both sides at least 64 pixels, and of its features.

    A cell has means and deviations of the colours, of ``relu2_1`` and of ``relu3_1``, and the means of ``relu4_1``.
    """
    rows = []
    for cells in CELLS:
        parts = [torch.cat(_cell_moments(maps_, cells), dim=1) for maps_ in (picture, maps["relu2_1"], maps["relu3_1"])]
        parts.append(functional.adaptive_avg_pool2d(maps["relu4_1"], cells))
        rows.append(torch.cat(parts, dim=1).flatten(2).transpose(1, 2))  # [B, cells^2, F]
    whole = [channel_moments(picture), *(channel_moments(maps[layer]) for layer in STYLE_LAYERS)]
    return StyleFeatures(
        torch.cat(rows, dim=1), torch.cat([moments.flatten(1) for moments in whole], dim=1), colours_of(picture)
    )


def _cell_moments(maps: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    mean = functional.adaptive_avg_pool2d(maps, cells)
    square = functional.adaptive_avg_pool2d(maps.square(), cells)
    return mean, (square - mean.square()).clamp_min(0).add(1e-6).sqrt()

"""Style as statistics of feature maps: means, deviations and Gram matrices, from one matrix product.

Every function takes a guidance map (:mod:`impasto.losses.guidance`), so that a region has statistics of its own. Sums
over places can be added (:class:`FeatureSums`): the statistics of a large picture come from its tiles.

Sources: Gram matrices, Gatys, Ecker & Bethge 2015 (arXiv:1505.07376, arXiv:1508.06576); moments, Li et al. 2017
("Demystifying neural style transfer", arXiv:1701.01036) and Huang & Belongie 2017 (arXiv:1703.06868); guided Gram
matrices, Gatys et al. 2017 (arXiv:1611.07865).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.losses.guidance import EMPTY, area_weight

__all__ = [
    "FeatureSums",
    "Statistics",
    "feature_statistics",
    "feature_sums",
    "full_precision",
    "gatys_gram_loss",
    "gram_loss",
    "gram_matrix",
    "moment_loss",
    "statistics_of",
    "style_distance",
]


@dataclass(frozen=True)
class Statistics:
    """First and second order statistics of feature maps.

    Attributes:
        mean: ``[B, C]``.
        deviation: standard deviations ``[B, C]``.
        covariance: centred Gram matrix ``[B, C, C]``, divided by the number of positions.
    """

    mean: Tensor
    deviation: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class FeatureSums:
    """Sums over places; those of a whole are the sums of its parts.

    Attributes:
        mass: sum of the guidance map, ``[B]``; the number of places where there is none.
        first: sum of ``w x``, ``[B, C]``.
        second: sum of ``w x x'``, ``[B, C, C]``.
    """

    mass: Tensor
    first: Tensor
    second: Tensor

    def __add__(self, other: FeatureSums) -> FeatureSums:
        return FeatureSums(self.mass + other.mass, self.first + other.first, self.second + other.second)


def full_precision(values: Tensor) -> Tensor:
    """float32 where the values are float16 or bfloat16; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def feature_sums(features: Tensor, weight: Tensor | None = None) -> FeatureSums:
    """Sums of feature maps ``[B, C, H, W]`` over their places, each counted by the guidance map ``[B or 1, 1, h, w]``.

    The product runs in the memory format that the features have: nothing is copied for ``channels_last``.
    """
    # Products of features are large, their differences small: not in half precision as they are, even under autocast.
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype == torch.bfloat16 and weight is None:
            return _centred_sums(features)
        values = full_precision(features)
        count = values.shape[2] * values.shape[3]
        if weight is None:
            mass, weighted = values.new_full((values.shape[0],), float(count)), values
        else:
            reduced = area_weight(weight.to(values.dtype), (values.shape[2], values.shape[3]))
            mass, weighted = reduced.sum((1, 2, 3)).expand(values.shape[0]), values * reduced
        if values.stride(1) == 1:  # channels_last
            rows = values.permute(0, 2, 3, 1).reshape(values.shape[0], count, -1)  # [B, N, C]
            weighted_rows = weighted.permute(0, 2, 3, 1).reshape(rows.shape)
            return FeatureSums(mass, weighted_rows.sum(1), torch.matmul(weighted_rows.transpose(1, 2), rows))
        flat, weighted_flat = values.flatten(2), weighted.flatten(2)  # [B, C, N]
        return FeatureSums(mass, weighted_flat.sum(2), torch.matmul(weighted_flat, flat.transpose(1, 2)))


def _centred_sums(features: Tensor) -> FeatureSums:
    """Sums of bfloat16 features, multiplied in bfloat16 after their means were taken away, and put together in float32.

    Of the covariances two to three digits are kept, as of everything in that format, and not of the squares of the
    means. Processors and GPUs with matrix units for bfloat16 are several times faster this way.
    """
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)  # [B, N, C], a view of channels_last
    count = rows.shape[1]
    shift = rows.detach().sum(1, keepdim=True) / count
    centred = rows - shift
    first = torch.matmul(centred.new_ones(len(rows), 1, count), centred)[:, 0].float()  # about 0: the shift is rounded
    second = torch.matmul(centred.transpose(1, 2), centred).float()
    mean = shift[:, 0].float()
    crossed = first[:, :, None] * mean[:, None, :]
    second = second + crossed + crossed.transpose(1, 2) + count * mean[:, :, None] * mean[:, None, :]
    return FeatureSums(mean.new_full((len(rows),), float(count)), first + count * mean, second)


def statistics_of(sums: FeatureSums, channel_scale: Tensor | None = None) -> Statistics:
    """Moments and covariance from sums; zeros (and the smallest deviation) where the mass is zero.

    Args:
        sums: of one picture or region, complete.
        channel_scale: ``[C]``, each channel is divided by it, so that loud channels do not drown the quiet ones.
    """
    share = torch.where(sums.mass > EMPTY, 1 / sums.mass.clamp_min(EMPTY), torch.zeros_like(sums.mass))
    mean = sums.first * share[:, None]  # [B, C]
    covariance = sums.second * share[:, None, None] - mean[:, :, None] * mean[:, None, :]  # E[xx'] - E[x]E[x]'
    if channel_scale is not None:  # on the small matrices, not on the maps
        mean = mean / channel_scale
        covariance = covariance / (channel_scale[:, None] * channel_scale[None, :])
    variance = torch.diagonal(covariance, dim1=1, dim2=2)
    return Statistics(mean, torch.sqrt(variance.clamp_min(0) + 1e-4), covariance)


def gram_matrix(features: Tensor, weight: Tensor | None = None) -> Tensor:
    """Gram matrix ``[B, C, C]`` of feature maps ``[B, C, H, W]``, divided by the number of positions.

    Source: Gatys 2015, eq. 1; with a guidance map, divided by its sum, Gatys et al. 2017, eq. 5.
    """
    sums = feature_sums(features, weight)
    share = torch.where(sums.mass > EMPTY, 1 / sums.mass.clamp_min(EMPTY), torch.zeros_like(sums.mass))
    return sums.second * share[:, None, None]


def feature_statistics(
    features: Tensor, channel_scale: Tensor | None = None, weight: Tensor | None = None
) -> Statistics:
    """Moments and covariance of ``[B, C, H, W]`` from a single product.

    Args:
        features: feature maps.
        channel_scale: ``[C]``, each channel is divided by it; see :func:`statistics_of`.
        weight: guidance map ``[B or 1, 1, h, w]``.
    """
    return statistics_of(feature_sums(features, weight), channel_scale)


def gatys_gram_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """The style loss of one layer with the paper's own weighting: ``[B]``.

    ``E = 1 / (4 N^2 M^2) sum_ij (G_ij - A_ij)^2`` with ``N`` channels and ``M`` positions (Gatys et al. 2016, eq. 4).
    The matrices of :func:`gram_matrix` are divided by ``M`` already, which is where ``1 / M^2`` stands here.

    Differs from the paper: picture and style may have different numbers of positions; each is divided by its own.

    Args:
        found: Gram matrices of the picture ``[B, C, C]``.
        wanted: those of the style.
    """
    return (found - wanted).square().sum((1, 2)) / (4 * found.shape[1] ** 2)


def moment_loss(found: Statistics, wanted: Statistics) -> Tensor:
    """Squared differences of means and deviations, averaged over channels: ``[B]``."""
    means = (found.mean - wanted.mean).square().mean(1)
    deviations = (found.deviation - wanted.deviation).square().mean(1)
    return means + deviations


def gram_loss(found: Statistics, wanted: Statistics) -> Tensor:
    """Squared Frobenius distance of the centred Gram matrices over ``C``: ``[B]``.

    Differs from the paper: centred, so that it does not repeat the means; normalised channels take the place of the
    weighting 1/(4 N^2 M^2), which :func:`gatys_gram_loss` has.
    """
    channels = found.covariance.shape[1]
    return (found.covariance - wanted.covariance).square().sum((1, 2)) / channels


def style_distance(found: Statistics, wanted: Statistics, *, gram_weight: float = 1.0) -> Tensor:
    """Moments plus weighted Gram distance, each relative to how far the target is from a flat picture: ``[B]``.

    The relative form keeps quiet styles (ink on paper) and loud ones (Kandinsky) at the same weight.
    """
    energy = wanted.deviation.square().mean(1) + 0.1
    size = wanted.covariance.square().sum((1, 2)) / wanted.covariance.shape[1] + 0.1
    return moment_loss(found, wanted) / energy + gram_weight * gram_loss(found, wanted) / size

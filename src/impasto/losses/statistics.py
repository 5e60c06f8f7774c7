"""Style as statistics of feature maps: means, deviations and Gram matrices, from one matrix product.

Sources: Gram matrices, Gatys, Ecker & Bethge 2015 (arXiv:1505.07376, arXiv:1508.06576); moments, Li et al. 2017
("Demystifying neural style transfer", arXiv:1701.01036) and Huang & Belongie 2017 (arXiv:1703.06868).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Statistics",
    "feature_statistics",
    "full_precision",
    "gram_loss",
    "gram_matrix",
    "moment_loss",
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


def gram_matrix(features: Tensor) -> Tensor:
    """Gram matrix ``[B, C, C]`` of feature maps ``[B, C, H, W]``, divided by the number of positions."""
    # Products of features are large and their differences small: never in half precision, not even under autocast.
    with torch.autocast(features.device.type, enabled=False):
        flat = full_precision(features).flatten(2)  # [B, C, N]
        return torch.matmul(flat, flat.transpose(1, 2)) / flat.shape[2]  # [B, C, C], Gatys 2015, eq. 1


def full_precision(values: Tensor) -> Tensor:
    """float32 where the values are float16 or bfloat16; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def feature_statistics(features: Tensor, channel_scale: Tensor | None = None) -> Statistics:
    """Moments and covariance of ``[B, C, H, W]`` from a single product.

    Args:
        features: feature maps.
        channel_scale: ``[C]``, each channel is divided by it, so that loud channels do not drown the quiet ones.
    """
    mean = full_precision(features).flatten(2).mean(2)  # [B, C]
    covariance = gram_matrix(features) - mean[:, :, None] * mean[:, None, :]  # E[xx'] - E[x]E[x]'
    if channel_scale is not None:  # on the small matrices, not on the maps
        mean = mean / channel_scale
        covariance = covariance / (channel_scale[:, None] * channel_scale[None, :])
    variance = torch.diagonal(covariance, dim1=1, dim2=2)
    return Statistics(mean, torch.sqrt(variance.clamp_min(0) + 1e-4), covariance)


def moment_loss(found: Statistics, wanted: Statistics) -> Tensor:
    """Squared differences of means and deviations, averaged over channels: ``[B]``."""
    means = (found.mean - wanted.mean).square().mean(1)
    deviations = (found.deviation - wanted.deviation).square().mean(1)
    return means + deviations


def gram_loss(found: Statistics, wanted: Statistics) -> Tensor:
    """Squared Frobenius distance of the centred Gram matrices over ``C``: ``[B]``.

    Differs from the paper: centred, so that it does not repeat the means; normalised channels take the place of the
    weighting 1/(4 N^2 M^2).
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

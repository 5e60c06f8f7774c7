"""Histogram loss: each channel of features has the style's histogram, not only its mean and variance.

Source: Risser, Wilmot & Barnes 2017 ("Stable and controllable neural texture synthesis and style transfer using
histogram losses", arXiv:1701.08893), section 4.3. It removes the instability of Gram matrices, which leave open by
which mixture of mean and variance they are met.
"""

from __future__ import annotations

import torch
from torch import Tensor

from impasto.losses.guidance import flat_weight, weighted_mean
from impasto.losses.quantiles import quantile_ranks, quantiles_at

__all__ = ["histogram_loss", "match_histogram"]


@torch.no_grad()
def match_histogram(features: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The features with each channel's values moved, in their order, to the target's distribution.

    Args:
        features: ``[B, C, H, W]``.
        target: ``[B, C, h, w]``, of any size.
        weight: guidance map ``[B or 1, 1, h, w]``: ranks are counted within the region.

    Returns:
        The shape of ``features``. Equal values may get different ones, as their order is arbitrary.

    Differs from the paper: exact order statistics (interpolated where the sizes differ) in the place of 256 bins.
    """
    flat = features.flatten(2)  # [B, C, N]
    shares = (
        flat.new_full((flat.shape[0], flat.shape[2]), 1 / flat.shape[2])
        if weight is None
        else flat_weight(weight, features)
    )
    order = flat.argsort(dim=2, stable=True)
    _, ranks = quantile_ranks(shares, order)  # of each value, within the region
    values = quantiles_at(target.flatten(2).sort(dim=2).values, ranks)
    return torch.empty_like(flat).scatter_(2, order, values).reshape(features.shape)


def histogram_loss(features: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of the features to themselves with the target's histogram: ``[B]``.

    ``L = |O - R(O)|^2`` where ``R`` is :func:`match_histogram`, through which no gradient passes.

    Args:
        features: ``[B, C, H, W]``.
        target: features of the style ``[B, C, h, w]``.
        weight: guidance map ``[B or 1, 1, h, w]``; 0 where it is empty.

    Differs from the paper: a mean in the place of the sum, so that it does not grow with the picture.
    """
    return weighted_mean((features - match_histogram(features, target, weight)).square(), weight)

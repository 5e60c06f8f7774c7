"""Sliced Wasserstein distance: two clouds of feature vectors compared along random lines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from impasto.losses.guidance import flat_weight
from impasto.losses.quantiles import quantile_ranks, quantiles_at

__all__ = ["random_directions", "sliced_wasserstein"]


def random_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """``[count, channels]`` unit vectors, uniform on the sphere, drawn on the CPU."""
    return functional.normalize(torch.randn(count, channels, generator=generator), dim=1)


def sliced_wasserstein(features: Tensor, target: Tensor, directions: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of sorted projections, averaged over the directions: ``[B]``.

    Unlike moments and Gram matrices it compares whole distributions: of colours, when the features are RGB.

    Args:
        features: ``[B, C, H, W]``.
        target: ``[B, C, h, w]``; when it has another number of positions, its quantiles are interpolated at the
            middle of each feature's piece of the mass.
        directions: ``[D, C]`` unit vectors.
        weight: guidance map ``[B or 1, 1, h, w]`` over the features: the region's distribution is compared with the
            whole of the target's. 0 where it is empty. A map of ones gives what none does.

    Source: Bonneel et al. 2015; as a texture loss Heitz et al. 2021 (arXiv:2006.07229), eq. 4. With weights, the
    transport on the line goes between the weighted quantile functions.
    """
    with torch.autocast(
        features.device.type, enabled=False
    ):  # half precision would round colours before they are sorted
        found = torch.sort(torch.matmul(directions, features.flatten(2)), dim=2)  # [B, D, N]
        wanted = torch.sort(torch.matmul(directions, target.flatten(2)), dim=2).values  # [B, D, n]
        if weight is not None:
            return _weighted(found.values, found.indices, wanted, flat_weight(weight, features))
    if wanted.shape[2] != found.values.shape[2]:  # at (i + 1/2) n / N - 1/2: `quantiles_at` the ranks of equal weights
        wanted = functional.interpolate(wanted, size=found.values.shape[2], mode="linear", align_corners=False)
    return (found.values - wanted).square().mean((1, 2))


def _weighted(found: Tensor, order: Tensor, wanted: Tensor, shares: Tensor) -> Tensor:
    """Sorted projections ``[B, D, N]`` against the target's quantiles at the same cumulative weight."""
    sorted_shares, ranks = quantile_ranks(shares, order)
    return (sorted_shares * (found - quantiles_at(wanted, ranks)).square()).sum(2).mean(1)

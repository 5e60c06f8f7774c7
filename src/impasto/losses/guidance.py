"""Guidance maps: which places of a feature map count, and how much.

A style loss with a guidance map looks at a region only (Gatys et al. 2017, "Controlling perceptual factors in neural
style transfer", arXiv:1611.07865, section 4.1). Maps are given at any resolution, best the picture's; each loss reduces
them to the size of its features by averaging over areas, so that a place at a region's border counts for the share that
lies within. Everything is normalised by the map's sum: a small region weighs as much as a large one, and scaling a map
changes nothing. An empty map gives zero, never NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["EMPTY", "area_weight", "flat_weight", "weighted_mean"]

EMPTY = 1e-12
"""A map whose sum is below this has no region."""


def area_weight(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """A guidance map ``[B, 1, H, W]`` at the ``size`` (height, width) of a layer: means over areas."""
    if weight.shape[2:] == size:
        return weight
    return functional.adaptive_avg_pool2d(weight, size)


def flat_weight(weight: Tensor, features: Tensor) -> Tensor:
    """The map at the places of ``features`` ``[B, C, H, W]``, as ``[B, N]`` with sum 1; zeros where it is empty."""
    reduced = area_weight(weight.to(features.dtype), (features.shape[2], features.shape[3])).flatten(1)  # [B, N]
    mass = reduced.sum(1, keepdim=True)
    shares = torch.where(mass > EMPTY, reduced / mass.clamp_min(EMPTY), torch.zeros_like(reduced))
    return shares.expand(features.shape[0], -1)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over channels and places of ``[B, C, H, W]``, places counted by the map: ``[B]``; 0 where it is empty."""
    if weight is None:
        return values.mean((1, 2, 3))
    return (values.mean(1).flatten(1) * flat_weight(weight, values)).sum(1)

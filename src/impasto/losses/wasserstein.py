"""Sliced Wasserstein distance: two clouds of feature vectors compared along random lines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["random_directions", "sliced_wasserstein"]


def random_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """``[count, channels]`` unit vectors, uniform on the sphere, drawn on the CPU."""
    return functional.normalize(torch.randn(count, channels, generator=generator), dim=1)


def sliced_wasserstein(features: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    """Mean squared difference of sorted projections, averaged over the directions: ``[B]``.

    Unlike moments and Gram matrices it compares whole distributions: of colours, when the features are RGB.

    Args:
        features: ``[B, C, H, W]``.
        target: ``[B, C, h, w]``; when it has another number of positions, its quantiles are interpolated.
        directions: ``[D, C]`` unit vectors.

    Source: Bonneel et al. 2015; as a texture loss Heitz et al. 2021 (arXiv:2006.07229), eq. 4.
    """
    with torch.autocast(
        features.device.type, enabled=False
    ):  # half precision would round colours before they are sorted
        found = torch.sort(torch.matmul(directions, features.flatten(2)), dim=2).values  # [B, D, N]
        wanted = torch.sort(torch.matmul(directions, target.flatten(2)), dim=2).values  # [B, D, n]
    if wanted.shape[2] != found.shape[2]:
        wanted = functional.interpolate(wanted, size=found.shape[2], mode="linear", align_corners=True)
    return (found - wanted).square().mean((1, 2))

"""Losses of a reconstruction: pixels that forgive, and features that see what pixels do not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["charbonnier", "perceptual_loss"]


def charbonnier(picture: Tensor, target: Tensor, *, softness: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + softness^2)``, an absolute difference that is smooth at 0 (Charbonnier et al. 1994)."""
    return torch.sqrt((picture - target).square() + softness**2).mean()


def perceptual_loss(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of unit-length feature vectors, averaged over places and layers (Zhang et al. 2018, eq. 1).

    Source: LPIPS, arXiv:1801.03924. Differs from the paper: no learned heads, all channels count alike.

    Args:
        found: feature maps by layer, ``[B, C, h, w]``.
        wanted: maps of the same shapes.
    """
    parts = []
    for layer, maps in found.items():
        gap = functional.normalize(maps.float(), dim=1, eps=1e-6) - functional.normalize(
            wanted[layer].float(), dim=1, eps=1e-6
        )
        parts.append(gap.square().sum(1).mean())
    return torch.stack(parts).mean()

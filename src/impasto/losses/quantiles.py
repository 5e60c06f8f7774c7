"""Quantiles of sorted values, where a cumulative weight says which."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["quantile_ranks", "quantiles_at"]


def quantile_ranks(shares: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Where each sorted value stands in its distribution.

    Args:
        shares: weights of the values ``[B, N]``, summing to 1.
        order: ``[B, C, N]`` indices that sort them.

    Returns:
        The sorted values' shares and their ranks in ``(0, 1)``, the middle of each one's piece of the mass; both
        ``[B, C, N]``.
    """
    sorted_shares = torch.gather(shares[:, None].expand(order.shape), 2, order)
    return sorted_shares, torch.cumsum(sorted_shares, 2) - sorted_shares / 2


def quantiles_at(sorted_values: Tensor, ranks: Tensor) -> Tensor:
    """The quantile function of sorted values of equal weight at some ranks, linear between the values.

    Args:
        sorted_values: ``[B, C, n]``, ascending.
        ranks: ``[B, C, N]`` in ``[0, 1]``.

    Returns:
        ``[B, C, N]``.
    """
    count = sorted_values.shape[2]
    position = (ranks * count - 0.5).clamp(0, count - 1)
    below = position.floor().long().clamp(max=max(0, count - 2))
    above = (below + 1).clamp(max=count - 1)
    return torch.lerp(torch.gather(sorted_values, 2, below), torch.gather(sorted_values, 2, above), position - below)

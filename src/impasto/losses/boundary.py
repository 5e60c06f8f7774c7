"""What a painting that was made for a region owes to the rest of the picture.

A network that is given a mask paints the whole picture: it should leave what lies outside alone, and come to the
region's edge in such a way that none is seen. Both terms are 0 where there is no edge and no outside: for a mask that
covers everything, or nothing and a painting that equals the photograph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from impasto.losses.guidance import EMPTY

__all__ = ["outside_loss", "seam_loss"]


def outside_loss(painted: Tensor, content: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference from the photograph where the mask is empty, places counted by ``1 - weight``.

    Args:
        painted: ``[B, 3, H, W]``, before it is laid over the photograph.
        content: of the same shape.
        weight: the mask ``[B, 1, H, W]`` in ``[0, 1]``.

    Returns:
        A number; 0 where the masks cover everything.
    """
    outside = 1 - weight
    difference = ((painted - content).abs() * outside).sum((1, 2, 3)) / painted.shape[1]
    mass = outside.sum((1, 2, 3))
    return _quotient(difference, mass).mean()


def seam_loss(painted: Tensor, content: Tensor, weight: Tensor) -> Tensor:
    """The gradient that laying the painting over the photograph adds along the mask's edge.

    With mask ``m``, painting ``p`` and photograph ``c`` the picture is ``g = m p + (1 - m) c``; one without a seam has
    the mixed gradient ``m grad p + (1 - m) grad c`` in the band where ``m`` changes, as in Poisson editing (Pérez et
    al. 2003). What is left of ``grad g`` is ``(p - c) grad m``: its mean absolute value, in the band.

    Args:
        painted: ``[B, 3, H, W]``.
        content: of the same shape.
        weight: the mask ``[B, 1, H, W]`` in ``[0, 1]``.

    Returns:
        A number; 0 where no mask has an edge.
    """
    difference = painted - content
    sums, masses = [], []
    for axis in (2, 3):
        length = painted.shape[axis] - 1
        steps = weight.diff(dim=axis).abs()  # |grad m|
        between = 0.5 * (difference.narrow(axis, 0, length) + difference.narrow(axis, 1, length))
        sums.append((between.abs() * steps).sum((1, 2, 3)) / painted.shape[1])
        masses.append(steps.sum((1, 2, 3)))
    return _quotient(sums[0] + sums[1], masses[0] + masses[1]).mean()


def _quotient(amount: Tensor, mass: Tensor) -> Tensor:
    """``amount / mass``, 0 where there is none."""
    return torch.where(mass > EMPTY, amount / mass.clamp_min(EMPTY), torch.zeros_like(amount))

"""Adversarial losses: a critic tells real pictures from made ones, and what makes them learns to pass for real."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adaptive_weight", "hinge_critic_loss", "hinge_generator_loss"]


def hinge_critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """What the critic minimises (Lim & Ye 2017, arXiv:1705.02894): real pictures score above 1, made ones below -1.

    Args:
        real: scores of real pictures, of any shape.
        made: scores of made pictures.
    """
    return (torch.relu(1 - real).mean() + torch.relu(1 + made).mean()) / 2


def hinge_generator_loss(made: Tensor) -> Tensor:
    """What the generator minimises: the critic's mean score, with the sign turned."""
    return -made.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, picture: Tensor, *, largest: float = 100.0) -> Tensor:
    """The weight by which the two losses pull equally hard (Esser et al. 2021, VQGAN, arXiv:2012.09841, eq. 7).

    Differs from the paper: gradients with respect to the picture, not to the last layer's weights, which would need a
    second pass through it.

    Args:
        reconstruction: a loss of ``picture``.
        adversarial: another one.
        picture: what both depend on; its graph is kept.
        largest: upper limit of the weight.
    """
    (wanted,) = torch.autograd.grad(reconstruction, picture, retain_graph=True)
    (found,) = torch.autograd.grad(adversarial, picture, retain_graph=True)
    weight: Tensor = (wanted.norm() / (found.norm() + 1e-8)).clamp(0, largest).detach()
    return weight

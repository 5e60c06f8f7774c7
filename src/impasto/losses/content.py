"""Content losses: what the photograph shows must still be there."""

from __future__ import annotations

import torch
from torch import Tensor

from impasto.losses.guidance import weighted_mean

__all__ = ["content_loss", "instance_normalised", "normalised_content_loss"]


def content_loss(features: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of feature maps (Gatys et al. 2016, eq. 1).

    Args:
        features: ``[B, C, H, W]``.
        target: of the same shape.
        weight: guidance map ``[B or 1, 1, h, w]``, how much each place counts; see :mod:`impasto.losses.guidance`.

    Returns:
        A number; 0 where the map is empty.

    Differs from the paper: a mean in the place of half the sum, so that it does not grow with the picture.
    """
    return weighted_mean((features - target).square(), weight).mean()


def instance_normalised(features: Tensor) -> Tensor:
    """Feature maps with zero mean and unit variance over the picture, per channel: ``[B, C, H, W]``."""
    mean = features.mean((2, 3), keepdim=True)
    centred = features - mean
    return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-4)


def normalised_content_loss(features: Tensor, target_normalised: Tensor) -> Tensor:
    """:func:`content_loss` on instance-normalised features, which colour and contrast of a style leave free.

    Source: the normalised perceptual loss of Wang & Xing, e.g. in StyTr2 (Deng et al. 2022, arXiv:2105.14576).
    ``target_normalised`` comes from :func:`instance_normalised`.
    """
    return content_loss(instance_normalised(features), target_normalised)

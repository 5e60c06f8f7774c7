"""Content losses: what the photograph shows must still be there."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["content_loss", "instance_normalised", "normalised_content_loss"]


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of feature maps ``[B, C, H, W]`` (Gatys et al. 2016, eq. 1, without the factor 1/2)."""
    return (features - target).square().mean()


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

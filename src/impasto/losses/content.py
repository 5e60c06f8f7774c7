"""Content losses: what the photograph shows must still be there."""

from __future__ import annotations

import torch
from torch import Tensor

from impasto.losses.guidance import weighted_mean
from impasto.losses.statistics import full_precision

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
    ``target_normalised`` comes from :func:`instance_normalised`. The square is multiplied out, so that only sums over
    places are needed: with ``v`` the variance of a channel, ``r = (v + 1e-4)^(-1/2)`` and ``t`` the target,
    ``E[(r (x - E x) - t)^2] = r^2 v - 2 r (E[x t] - E x E t) + E[t^2]``.

    Args:
        features: ``[B, C, H, W]``.
        target_normalised: of the same shape.

    Returns:
        A number.
    """
    rows, wanted = (_rows(full_precision(maps)) for maps in (features, target_normalised))  # [B, N, C]
    rows = rows - rows.detach().mean(1, keepdim=True)  # small numbers, so that differences of squares stay exact
    mean = rows.mean(1)
    variance = ((rows * rows).mean(1) - mean.square()).clamp_min(0)
    shared = (rows * wanted).mean(1) - mean * wanted.mean(1)
    root = torch.rsqrt(variance + 1e-4)
    return (root.square() * variance - 2 * root * shared + (wanted * wanted).mean(1)).mean()


def _rows(features: Tensor) -> Tensor:
    """``[B, C, H, W]`` as ``[B, N, C]``: a view of ``channels_last``, whose gradients keep that layout."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)

"""Markov random field of neural patches: every patch of features looks like one of the style's.

Source: CNNMRF, Li & Wand 2016 ("Combining Markov random fields and convolutional neural networks for image
synthesis", arXiv:1601.04589), eqs. 2 and 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from impasto.losses.guidance import area_weight, weighted_mean

__all__ = ["extract_patches", "mrf_loss", "nearest_patches"]

AT_ONCE = 1 << 22  # entries of the similarity matrix that are held at a time, 16 MB


def extract_patches(features: Tensor, size: int = 3, stride: int = 1) -> Tensor:
    """All patches of ``[B, C, H, W]`` as rows: ``[B, N, C size size]``.

    A map smaller than a patch is repeated at its edges until one fits.
    """
    below, right = max(0, size - features.shape[2]), max(0, size - features.shape[3])
    if below or right:
        features = functional.pad(features, (0, right, 0, below), mode="replicate")
    return functional.unfold(features, size, stride=stride).transpose(1, 2)


@torch.no_grad()
def nearest_patches(patches: Tensor, bank: Tensor) -> Tensor:
    """For each of ``[N, D]`` the row of ``[M, D]`` with the largest normalised cross-correlation (eq. 3): ``[N]``."""
    directions = functional.normalize(bank, dim=1)  # the own patch's length does not change which is nearest
    rows = max(1, AT_ONCE // bank.shape[0])
    return torch.cat([torch.argmax(part @ directions.T, dim=1) for part in torch.split(patches, rows)])


def mrf_loss(features: Tensor, target: Tensor, weight: Tensor | None = None, *, size: int = 3) -> Tensor:
    """Mean squared difference of each patch of features to the nearest of the style's: ``[B]``.

    Args:
        features: ``[B, C, H, W]``.
        target: features of the style, ``[B, C, h, w]``; rotated and scaled copies can be appended by the caller as
            more rows of one map.
        weight: guidance map ``[B or 1, 1, h, w]``; a patch counts as much as the place in its middle.
        size: of the patches' sides, in places of the feature map.

    Differs from the paper: a mean over patches and their entries in the place of the sum, so that it does not grow with
    the picture; patches of the picture and of the style are taken at every place.
    """
    patches, bank = extract_patches(features, size), extract_patches(target, size)  # [B, N, D], [B, M, D]
    wanted = torch.stack([part[nearest_patches(own, part)] for own, part in zip(patches.detach(), bank, strict=True)])
    distance = (patches - wanted).square().mean(2)  # [B, N], eq. 2
    if weight is None:
        return distance.mean(1)
    rows, columns = (max(1, side - size + 1) for side in features.shape[2:])
    reduced = area_weight(weight.to(features.dtype), (features.shape[2], features.shape[3]))
    top, left = (features.shape[2] - rows) // 2, (features.shape[3] - columns) // 2
    middle = reduced[:, :, top : top + rows, left : left + columns]
    return weighted_mean(distance.reshape(-1, 1, rows, columns), middle)

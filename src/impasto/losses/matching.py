"""Nearest-neighbour feature matching: every place of the picture takes after the style's feature most like it.

Sources: NNST, Kolkin et al. 2022 ("Neural neighbor style transfer", arXiv:2203.13215); NNFM, Zhang et al. 2022
("ARF: artistic radiance fields", arXiv:2206.06360), eq. 2. A statistic may be met by smearing; a feature of the style
may not: results are sharper than with Gram matrices, and can carry whole details of the style.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from impasto.losses.guidance import flat_weight

__all__ = ["FeatureBank", "cosine_distance", "matching_loss", "nearest"]

AT_ONCE = 1 << 22  # entries of the similarity matrix that are held at a time, 16 MB


class FeatureBank:
    """Features of a style to choose from.

    Args:
        features: ``[M, C]``.

    Attributes:
        features: as given.
        mean: ``[C]``.
        directions: ``[M, C]``, centred and of unit length: what is compared.
        units: ``[M, C]``, of unit length: what is aimed at.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features.detach()
        self.mean = self.features.mean(0)
        self.directions = functional.normalize(self.features - self.mean, dim=1)
        self.units = functional.normalize(self.features, dim=1)


@torch.no_grad()
def nearest(features: Tensor, mean: Tensor, bank: FeatureBank, *, half: bool = False) -> Tensor:
    """Index into the bank of the feature with the largest cosine similarity, for each of ``[N, C]``: ``[N]``.

    Args:
        features: of the picture.
        mean: ``[C]``, their mean over the whole picture. Both sides are centred on their own mean, so that a dark photo
            finds its way through a light painting (NNST, section 3.2).
        bank: of the style.
        half: compare in bfloat16; of two that are equally near, the other may be taken.
    """
    rows = max(1, AT_ONCE // bank.directions.shape[0])
    directions = (bank.directions.bfloat16() if half else bank.directions).T
    # the length of a picture's feature does not change which is nearest: it is not divided out
    return torch.cat(
        [torch.argmax((part - mean).to(directions.dtype) @ directions, dim=1) for part in torch.split(features, rows)]
    )


def cosine_distance(features: Tensor, units: Tensor) -> Tensor:
    """One minus the cosine of the angle between the rows ``[N, C]`` of both: ``[N]``.

    Args:
        features: of any length; those of length 0 are at distance 1 from everything.
        units: of unit length.
    """
    length = features.square().sum(1).clamp_min(1e-12).sqrt()
    return 1 - (features * units).sum(1) / length


def matching_loss(features: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cosine distance of feature maps ``[B, C, H, W]`` to the ``wanted`` ones of the same shape: ``[B]``.

    Args:
        features: of the picture.
        wanted: for each place the style's feature that :func:`nearest` chose.
        weight: guidance map ``[B or 1, 1, h, w]``; 0 where it is empty.

    Source: ARF, eq. 2; NNST, eq. 1.
    """
    distance = 1 - functional.cosine_similarity(features, wanted, dim=1, eps=1e-6)  # [B, H, W]
    if weight is None:
        return distance.mean((1, 2))
    return (distance.flatten(1) * flat_weight(weight, features)).sum(1)

"""Style contrast: a painting must lie nearer to its own style than to the others of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["style_contrast_loss"]


def style_contrast_loss(
    found: Tensor, wanted: Tensor, *, temperature: float = 0.1, same: Tensor | None = None
) -> Tensor:
    """InfoNCE over style descriptors.

    Args:
        found: descriptors of the paintings ``[B, D]``.
        wanted: descriptors of the styles ``[B, D]``; row ``i`` belongs to painting ``i``.
        temperature: of the softmax over cosine similarities.
        same: ``[B, B]``, pairs of rows that show one style: none is a negative of the other.

    Source: contrastive arbitrary style transfer (CAST), Zhang et al. 2022, arXiv:2205.09542.
    Differs from the paper: descriptors are the teacher's feature moments instead of a learned projector, so the
    loss costs nothing beyond what the style loss has computed.
    """
    centre = wanted.mean(0, keepdim=True)
    with torch.autocast(found.device.type, enabled=False):  # a difference of cosines drowns in half precision
        similarity = functional.normalize(found - centre, dim=1) @ functional.normalize(wanted - centre, dim=1).T
    target = torch.arange(found.shape[0], device=found.device)
    if same is not None:
        others = same & (target[:, None] != target)
        similarity = similarity.masked_fill(others, -torch.inf)
    return functional.cross_entropy(similarity / temperature, target)

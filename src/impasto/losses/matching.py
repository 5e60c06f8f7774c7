"""Nearest-neighbour feature matching: every place of the picture takes after the style's feature most like it.

Sources: NNST, Kolkin et al. 2022 ("Neural neighbor style transfer", arXiv:2203.13215); NNFM, Zhang et al. 2022
("ARF: artistic radiance fields", arXiv:2206.06360), eq. 2. A statistic may be met by smearing; a feature of the style
may not: results are sharper than with Gram matrices, and can carry whole details of the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from impasto.losses.guidance import flat_weight

__all__ = ["FeatureBank", "chosen_distance", "cosine_distance", "matching_loss", "nearest"]

AT_ONCE = 1 << 22  # entries of the similarity matrix that are held at a time, 16 MB
AXES = 128  # principal axes of a bank along which features are compared
STRIP = 256  # places that are compared with their chosen features at a time: their vectors stay in the cache


class FeatureBank:
    """Features of a style to choose from.

    Args:
        features: ``[M, C]``.

    Attributes:
        features: as given.
        mean: ``[C]``.
        axes: ``[C, D]``, orthonormal: the bank's principal axes, as many as are used to compare.
        directions: ``[M, D]``, centred, of unit length and projected on the axes: what is compared.
        units: ``[M, C]``, of unit length: what is aimed at.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features.detach()
        self.mean = self.features.mean(0)
        directions = functional.normalize(self.features - self.mean, dim=1)
        self.axes = _principal_axes(directions)
        self.directions = directions @ self.axes
        self.units = functional.normalize(self.features, dim=1)


@torch.no_grad()
def _principal_axes(directions: Tensor) -> Tensor:
    """The axes ``[C, D]`` that hold most of the rows ``[M, C]``; all of them where there are few."""
    channels = directions.shape[1]
    if channels <= 2 * AXES:
        return torch.eye(channels, dtype=directions.dtype, device=directions.device)
    # not every backend has an eigensolver, and the matrix is small
    _, vectors = torch.linalg.eigh((directions.T @ directions).double().cpu())
    axes: Tensor = vectors[:, -AXES:].to(directions)
    return axes


@torch.no_grad()
def nearest(features: Tensor, mean: Tensor, bank: FeatureBank, *, half: bool = False) -> Tensor:
    """Index into the bank of the feature with the largest cosine similarity, for each of ``[N, C]``: ``[N]``.

    Args:
        features: of the picture.
        mean: ``[C]``, their mean over the whole picture. Both sides are centred on their own mean, so that a dark photo
            finds its way through a light painting (NNST, section 3.2).
        bank: of the style.
        half: compare in bfloat16; of two that are equally near, the other may be taken.

    Differs from the paper: long features are compared along the bank's 128 principal axes, a sixth of the work; the one
    that is taken is the nearest or nearly so.
    """
    rows = max(1, AT_ONCE // bank.directions.shape[0])
    directions = (bank.directions.bfloat16() if half else bank.directions).T
    # the length of a picture's feature does not change which is nearest: it is not divided out
    return torch.cat(
        [
            torch.argmax(((part - mean) @ bank.axes).to(directions.dtype) @ directions, dim=1)
            for part in torch.split(features, rows)
        ]
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


def chosen_distance(
    maps: Sequence[Tensor],
    inside: tuple[slice, slice],
    units: Tensor,
    chosen: Tensor,
    *,
    loudness: Sequence[float],
    weight: Tensor,
) -> Tensor:
    """Weighted sum of :func:`cosine_distance` of hypercolumns to the features that :func:`nearest` chose: a number.

    The same as stacking the maps to rows, dividing each layer by its loudness and summing, without any of these copies:
    the gradient is found on the way, strip by strip. It cannot be differentiated twice.

    Args:
        maps: of each layer, all of one height and width, ``[1, C_l, h, w]``, float32.
        inside: rows and columns that count.
        units: ``[M, sum C_l]``, of unit length.
        chosen: a row of ``units`` for each place inside, ``[N]``.
        loudness: of each layer, what it is divided by.
        weight: of each place inside, ``[N]``.
    """
    found: Tensor = _ChosenDistance.apply(units, chosen, tuple(loudness), weight, inside, *maps)  # type: ignore[no-untyped-call]
    return found


class _ChosenDistance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        units: Tensor,
        chosen: Tensor,
        loudness: tuple[float, ...],
        weight: Tensor,
        inside: tuple[slice, slice],
        *maps: Tensor,
    ) -> Tensor:
        rows, columns = inside
        width, channels = columns.stop - columns.start, [one.shape[1] for one in maps]
        gradients = [torch.zeros_like(one) for one in maps] if any(ctx.needs_input_grad) else []
        total = weight.new_zeros(())
        step = max(1, STRIP // width)
        for top in range(rows.start, rows.stop, step):
            strip = slice(top, min(top + step, rows.stop))
            places = slice((top - rows.start) * width, (strip.stop - rows.start) * width)
            shape = (strip.stop - top, width)
            picked = torch.split(units[chosen[places]].view(*shape, -1), channels, dim=2)
            parts = [one[0, :, strip, columns].permute(1, 2, 0) for one in maps]  # [s, w, C_l]
            share = weight[places].view(shape)
            dot, square = torch.zeros_like(share), torch.zeros_like(share)
            for part, unit, loud in zip(parts, picked, loudness, strict=True):
                dot += (part * unit).sum(2) / loud
                square += part.square().sum(2) / loud**2
            length = square.clamp_min(1e-12).sqrt()
            cosine = dot / length
            total += (share * (1 - cosine)).sum()
            # d cos / d x_l = u_l / (loud_l |x|) - cos x_l / (loud_l^2 |x|^2)
            towards, along = (-share / length)[..., None], (share * cosine / length.square())[..., None]
            for gradient, part, unit, loud in zip(gradients, parts, picked, loudness, strict=False):
                out = gradient[0, :, strip, columns].permute(1, 2, 0)
                torch.mul(unit, towards / loud, out=out).addcmul_(part, along / loud**2)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None,) * 5 + tuple(gradient * upstream for gradient in ctx.saved_tensors)

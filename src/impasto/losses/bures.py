"""Gaussian Wasserstein-2 distance: how far the features, taken as a normal distribution, must be moved.

For normal distributions the Wasserstein-2 distance has a closed form (Dowson & Landau 1982; Olkin & Pukelsheim 1982),

    W2^2 = |m - m_t|^2 + tr S + tr S_t - 2 tr (S_t^1/2 S S_t^1/2)^1/2

whose last three terms are the squared Bures metric.

Unlike the squared difference of Gram matrices, which is of fourth order in the features, it is of second order: its
gradient does not explode where features are loud, and does not vanish where they are quiet.

As a style loss: Vacher et al. 2020 ("Texture interpolation for probing visual perception", arXiv:2006.03698), and
Crowson's style-transfer-pytorch, 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["GaussianTarget", "gaussian_wasserstein", "newton_schulz_root", "psd_root"]


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric ``[B, C, C]``.

    Covariances of fewer places than channels, or of channels that are silent, have many eigenvalues of zero, over which
    LAPACK's single precision may fail to converge or, silently, return NaN: then once more in double precision, with
    these eigenvalues spread by a rounding error of the largest.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
        if bool(torch.isfinite(values).all()) and bool(torch.isfinite(vectors).all()):
            return values, vectors
    except RuntimeError:  # LinAlgError is one
        pass
    exact, least = matrix.double(), torch.finfo(matrix.dtype).eps
    size = torch.diagonal(exact, dim1=1, dim2=2).abs().amax(1).clamp_min(1e-8)
    ramp = torch.linspace(0, least, matrix.shape[1], dtype=exact.dtype, device=exact.device)
    values, vectors = torch.linalg.eigh(exact + torch.diag_embed(size[:, None] * ramp))
    return values.to(matrix.dtype), vectors.to(matrix.dtype)


FLAT = 1e-4  # of the style's mean variance: where a picture varies less in a direction, the slope stops rising


def psd_root(matrix: Tensor) -> Tensor:
    """Square root of symmetric positive semi-definite matrices ``[B, C, C]``, by their eigenvalues; no gradient needed.

    Rounding may have made small eigenvalues negative: they count as zero.
    """
    values, vectors = _eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.transpose(1, 2)
    return root


def newton_schulz_root(matrix: Tensor, *, iterations: int = 24) -> Tensor:
    """The same by matrix products alone, which an accelerator likes better than eigenvalues; gradients pass.

    Coupled Newton-Schulz iteration (Higham 2008, "Functions of matrices", eq. 6.35):
    ``Y <- Y (3 I - Z Y) / 2``, ``Z <- (3 I - Z Y) Z / 2`` from ``Y = A / |A|``, ``Z = I``.

    Args:
        matrix: symmetric positive definite ``[B, C, C]``; eigenvalues far below the largest (a part in 10^6 in float32)
            come out too small.
        iterations: each doubles the correct digits once it has begun to converge.
    """
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    norm = matrix.square().sum((1, 2), keepdim=True).sqrt().clamp_min(torch.finfo(matrix.dtype).tiny)
    root, inverse = matrix / norm, identity.expand_as(matrix)
    for _ in range(iterations):
        step = 1.5 * identity - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return root * norm.sqrt()


class GaussianTarget:
    """What is known of a style's distribution: mean ``[B, C]``, covariance ``[B, C, C]`` and its square root."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean = mean.detach()
        self.covariance = covariance.detach()
        self.root = psd_root(self.covariance)
        self.trace = torch.diagonal(self.covariance, dim1=1, dim2=2).sum(1)  # [B]
        self.floor = (FLAT * self.trace / covariance.shape[1]).square() + torch.finfo(covariance.dtype).tiny  # [B]


def gaussian_wasserstein(mean: Tensor, covariance: Tensor, target: GaussianTarget) -> Tensor:
    """Squared Wasserstein-2 distance of normal distributions, ``[B]``, in squared units of the features.

    Differs from the closed form: for the eigenvalues ``l`` of ``S_t^1/2 S S_t^1/2`` stands ``l + f``, with a floor
    ``f`` of ``(1e-4 tr S_t / C)^2`` and a rounding error of the largest. A picture that is flat in some direction would
    have an infinite slope there. The value comes out lower by at most ``2 C sqrt(f)``, below zero at the target.

    Args:
        mean: of the picture's features, ``[B, C]``.
        covariance: theirs, ``[B, C, C]``.
        target: the style's.
    """
    moved = (mean - target.mean).square().sum(1)
    spread = torch.diagonal(covariance, dim1=1, dim2=2).sum(1) + target.trace
    overlap: Tensor = _RootTrace.apply(target.root @ covariance @ target.root, target.floor)  # type: ignore[no-untyped-call]
    return moved + spread - 2 * overlap


class _RootTrace(torch.autograd.Function):
    """``tr (A + f)^1/2`` of symmetric positive semi-definite ``[B, C, C]``; the gradient is ``(A + f)^-1/2 / 2``.

    Differentiating through eigenvectors would divide by differences of eigenvalues, which may be zero; the trace needs
    no eigenvector's derivative.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, floor: Tensor) -> Tensor:
        values, vectors = _eigh(matrix)
        rounding = torch.finfo(matrix.dtype).eps * values[:, -1:].clamp_min(0)
        roots = torch.sqrt(values.clamp_min(0) + rounding + floor[:, None])  # [B, C]
        ctx.save_for_backward(vectors, roots)
        trace: Tensor = roots.sum(1)
        return trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, roots = ctx.saved_tensors
        inverse: Tensor = (vectors / (2 * roots)[:, None, :]) @ vectors.transpose(1, 2)
        return gradient[:, None, None] * inverse, None

"""Losses that know no teacher: total variation, range, identity and stability."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "calm_loss",
    "grid_loss",
    "identity_loss",
    "range_loss",
    "shift_noise",
    "stability_loss",
    "total_variation",
]


def total_variation(picture: Tensor) -> Tensor:
    """Anisotropic total variation, mean absolute difference of neighbours (Rudin, Osher & Fatemi 1992)."""
    vertical = (picture[..., 1:, :] - picture[..., :-1, :]).abs().mean()
    horizontal = (picture[..., :, 1:] - picture[..., :, :-1]).abs().mean()
    return vertical + horizontal


def calm_loss(painted: Tensor, content: Tensor, *, window: int = 17, deviation: float = 0.05) -> Tensor:
    """Total variation of the painting where the photograph is flat: a clear sky gets no pattern of its own.

    Matching Gram matrices asks for texture everywhere; a feed-forward network has nothing to hang it on in flat areas
    and repeats one mark. The weight is ``exp(-(s / deviation)^2)`` with ``s`` its local standard deviation:
    edge-aware smoothness (Godard et al. 2017, arXiv:1609.03677), over a window instead of one gradient.

    Args:
        painted: ``[B, 3, H, W]``.
        content: ``[B, 3, H, W]`` in ``[0, 1]``.
        window: odd side of the window, in pixels; halved until it fits small pictures.
        deviation: how much local contrast counts as flat.

    Returns:
        Mean over all places, so that a photograph without flat areas gives about 0.
    """
    weight = _flatness(content, window, deviation)  # [B, 1, H, W]
    vertical = ((painted[..., 1:, :] - painted[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    horizontal = ((painted[..., :, 1:] - painted[..., :, :-1]).abs() * weight[..., :, 1:]).mean()
    return vertical + horizontal


@torch.no_grad()
def _flatness(content: Tensor, window: int, deviation: float) -> Tensor:
    """``exp(-(s / deviation)^2)`` with ``s`` the local standard deviation of the grey picture: ``[B, 1, H, W]``."""
    while window > 3 and window // 2 >= min(content.shape[2:]):
        window = window // 2 | 1
    grey = content.mean(1, keepdim=True)
    mean = functional.avg_pool2d(grey, window, 1, window // 2, count_include_pad=False)
    square = functional.avg_pool2d(grey.square(), window, 1, window // 2, count_include_pad=False)
    return torch.exp(-(square - mean.square()).clamp_min(0) / deviation**2)


def grid_loss(painted: Tensor, content: Tensor, period: int, *, window: int = 17, deviation: float = 0.05) -> Tensor:
    """How strongly a pattern of a period shows where the photograph is flat, as a root mean square.

    A network that works at 1/``period`` of the size answers a flat area with one pattern in all blocks of that many
    pixels: a grid. It is what is left of the mean of all blocks, each counted by how flat the photograph is there, when
    their mean colour and a plane (a sky that grows lighter) are taken away. Marks without that period average out where
    many blocks are flat; where few are, they count a little.

    Args:
        painted: ``[B, 3, H, W]``; what does not fill a block at the right and at the bottom is left out.
        content: ``[B, 3, H, W]`` in ``[0, 1]``.
        period: in pixels.
        window: see :func:`calm_loss`.
        deviation: likewise.

    Returns:
        Mean over the batch; about 0 for photographs without flat areas.
    """
    rows, columns = (side // period for side in painted.shape[2:])
    if rows * columns == 0:
        return painted.sum() * 0
    weight = functional.avg_pool2d(_flatness(content, window, deviation), period)[:, :, :rows, :columns, None, None]
    cut = painted[:, :, : rows * period, : columns * period]
    blocks = cut.reshape(*cut.shape[:2], rows, period, columns, period).transpose(3, 4)  # [B, 3, r, c, p, p]
    rest = blocks - blocks.mean((4, 5), keepdim=True)
    pattern = (rest * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1)  # [B, 3, p, p]
    slope = torch.arange(period, device=pattern.device, dtype=pattern.dtype) - (period - 1) / 2
    length = period * slope.square().sum()
    down, right = ((pattern * part).sum((2, 3), keepdim=True) * part / length for part in (slope[:, None], slope))
    pattern = pattern - down - right
    return torch.sqrt(pattern.square().mean((1, 2, 3)) + 1e-6).mean() - 1e-3


def range_loss(picture: Tensor) -> Tensor:
    """How far the values lie outside ``[0, 1]``; 0 for a picture that needs no clipping."""
    return (picture - picture.clamp(0, 1)).abs().mean()


def identity_loss(painted: Tensor, picture: Tensor) -> Tensor:
    """Mean absolute difference between a picture painted in its own style and itself (Park & Lee 2019)."""
    return (painted - picture).abs().mean()


def shift_noise(picture: Tensor, shift: tuple[int, int], noise: float, generator: torch.Generator) -> Tensor:
    """The picture moved by ``shift`` pixels (edges repeated) with Gaussian noise of deviation ``noise`` added."""
    down, right = shift
    reach = max(abs(down), abs(right), 1)
    padded = functional.pad(picture, (reach, reach, reach, reach), mode="replicate")
    height, width = picture.shape[2:]
    moved = padded[:, :, reach - down : reach - down + height, reach - right : reach - right + width]
    grain = torch.randn(moved.shape, generator=generator, dtype=moved.dtype).to(moved.device)
    return (moved + noise * grain).clamp(0, 1)


def stability_loss(painted: Tensor, painted_moved: Tensor, shift: tuple[int, int], border: int = 16) -> Tensor:
    """Difference between the picture painted from a moved input and the moved painting, away from the border.

    ``border`` pixels are left out on every side (a quarter of a small picture at most, and no less than the shift).

    Source: the stability loss of Huang et al. 2017 and the noise-resilient loss of ReCoNet (Gao et al. 2018).
    """
    down, right = shift
    height, width = painted.shape[2:]
    border = max(min(border, height // 4, width // 4), abs(down), abs(right))
    inner = painted[:, :, border : height - border, border : width - border]
    moved = painted_moved[:, :, border + down : height - border + down, border + right : width - border + right]
    return (inner - moved).abs().mean()

"""What the diffusion starts from: a coarse picture in the style's colours, and how far a picture may lie from it.

The guess ``b`` is the content without detail finer than 4 pixels, its colours moved by the linear map that gives them
the style's mean and covariance with the least displacement (Pitie & Kokaram 2007, the Monge-Kantorovitch map):

    T = S_c^-1/2 (S_c^1/2 S_s S_c^1/2)^1/2 S_c^-1/2,      b = T (x - m_c) + m_s

With ``z_b = E(b)`` and ``s`` the deviation of ``z_0 - z_b`` in each channel over the training, a Gaussian around the
guess says of noised latents ``z_t = alpha z_0 + sigma eps``, with ``r = z_t - alpha z_b`` and
``D = alpha^2 s^2 + sigma^2``,

    E[v | z_t] = sigma (alpha (1 - s^2) r / D - z_b),     Var[v | z_t] = s^2 / D

and the network answers only for the rest, in units of that deviation:
``v = E[v | z_t] + s / sqrt(D) f(r / sqrt(D), z_b, ...)``. This is the preconditioning
of Karras et al. 2022 (EDM, arXiv:2206.00364, section 5) about a mean that is not 0; low frequencies of the content as a
condition are those of ILVR (Choi et al. 2021, arXiv:2108.02938). A network that has learned nothing paints the guess
with grain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Colours", "Gaussian", "coarse", "colours_of", "recoloured"]

COARSE = 4  # pixels
LEAST = 4e-4  # variance of a colour that counts as grey
GAIN = 4.0  # largest factor on a colour's contrast


@dataclass(frozen=True, eq=False)
class Colours:
    """Mean and covariance of colours.

    Attributes:
        mean: ``[B, 3]``.
        root: a root ``R`` of the covariance ``R R'``, ``[B, 3, 3]``.
    """

    mean: Tensor
    root: Tensor


def colours_of(picture: Tensor) -> Colours:
    """The colours of ``[B, 3, H, W]``."""
    with torch.autocast(picture.device.type, enabled=False):  # eigenvalues need full precision
        flat = picture.float().flatten(2)
        mean = flat.mean(2)
        centred = flat - mean[:, :, None]
        return Colours(mean, _power(centred @ centred.transpose(1, 2) / flat.shape[2], 0.5))


def coarse(picture: Tensor) -> Tensor:
    """A picture without fine detail, of the same size; sides are multiples of 4."""
    small = functional.avg_pool2d(picture, COARSE)
    return functional.interpolate(small, scale_factor=float(COARSE), mode="bilinear", align_corners=False)


def recoloured(picture: Tensor, own: Colours, wanted: Colours) -> Tensor:
    """``[B, 3, H, W]`` with other colours, in ``[0, 1]``.

    Args:
        picture: a picture or a part of it.
        own: colours of the whole.
        wanted: what they become.
    """
    with torch.autocast(picture.device.type, enabled=False):
        grey = LEAST * torch.eye(3, device=picture.device)
        covariance, target = (part.root @ part.root.transpose(1, 2) + grey for part in (own, wanted))
        root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
        move = _power(inverse @ _power(root @ target @ root, 0.5) @ inverse, 1.0, largest=GAIN)  # [B, 3, 3], T
        moved = torch.einsum("bij,bjhw->bihw", move, picture.float() - own.mean[:, :, None, None])
        found: Tensor = (moved + wanted.mean[:, :, None, None]).clamp(0, 1)
        return found


def _power(matrix: Tensor, exponent: float, *, largest: float = float("inf")) -> Tensor:
    """A power of symmetric matrices, their eigenvalues bounded."""
    values, vectors = torch.linalg.eigh((matrix + matrix.transpose(1, 2)) / 2)
    powers = values.clamp(1e-10, largest) ** exponent
    found: Tensor = (vectors * powers[:, None]) @ vectors.transpose(1, 2)
    return found


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What is known of noised latents before the network looks; see the module's text.

    Attributes:
        noisy: ``r / sqrt(D)``, of about unit variance, ``[B, C, h, w]``.
        velocity: ``E[v | z_t]``.
        scale: ``s / sqrt(D)``, ``[B, C, 1, 1]``.
    """

    noisy: Tensor
    velocity: Tensor
    scale: Tensor

    @classmethod
    def about(cls, noisy: Tensor, guess: Tensor, spread: Tensor, alpha: Tensor, sigma: Tensor) -> Gaussian:
        """Of latents ``[B, C, h, w]`` about a guess of the same shape.

        Args:
            noisy: ``z_t``.
            guess: ``z_b``.
            spread: ``s``, ``[C, 1, 1]``.
            alpha: ``[B or 1, 1, 1, 1]``.
            sigma: likewise.
        """
        square = spread.square()
        root = torch.sqrt(alpha.square() * square + sigma.square())
        rest = (noisy - alpha * guess) / root
        velocity = sigma * (alpha * (1 - square) * rest / root - guess)
        return cls(rest, velocity, spread / root)

"""The latent space of ``diffusion``: a small autoencoder at 1/8 of the picture that starts as a PCA of its patches.

Rombach et al. 2022 (arXiv:2112.10752, section 3.1) for the idea: a picture ``x`` ``[3, H, W]`` becomes latents
``z = E(x)`` ``[C, H/8, W/8]`` in which a diffusion is cheap, and ``D(z)`` is a picture again. The networks learn only
what a linear map leaves over (the residual shortcuts of DC-AE, Chen et al. 2024, arXiv:2410.10733, section 3.1): with
``s`` the space-to-depth of 8x8 pixels (``[192, H/8, W/8]``), ``m`` the mean patch, ``P`` the first ``C`` principal
components of patches (rows) and ``d`` the deviations along them,

    E(x) = diag(1/d) P (s(x) - m) + e(x)
    D(z) = s^-1(P' diag(d) z + m) + g(z)

The last layers of ``e`` and ``g`` start at 0: before the first step this is the PCA, the best linear autoencoder, with
latents of unit variance, and training only adds what it cannot say.

The posterior has a fixed deviation, so that the KL divergence to a standard normal is ``|E(x)|^2 / 2`` and a constant;
``D`` learns to bear the small errors that a diffusion makes. A learned deviation shrinks to nothing under the tiny
weight that sharp pictures need; quantisation (FSQ, Mentzer et al. 2024) buys discrete codes, which a diffusion has no
use for, with detail.

Differs from both papers: shortcuts by PCA in the place of channel averages; most of the work at 1/4 of the picture,
where parameters are few; no normalisation and no attention, so that a tile decodes like the whole; borders repeat what
lies beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import UsageError, WeightsError

__all__ = ["FACTOR", "PATCH", "Autoencoder", "AutoencoderConfig", "PatchBasis", "build_autoencoder", "patch_basis"]

FACTOR = 8
"""Pixels along the side of a latent."""
PATCH = 3 * FACTOR**2
"""Numbers of the patch that a latent stands for."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the network.

    Attributes:
        channels: of a latent.
        encoder: channels of the encoder at 1/4 and 1/8 of the picture.
        encoder_blocks: residual blocks there.
        decoder: channels of the decoder at 1/8 and 1/4 of the picture.
        decoder_blocks: residual blocks there.

    Raises:
        UsageError: sizes below 1, or more channels than a patch has numbers.
    """

    channels: int = 16
    encoder: tuple[int, int] = (64, 128)
    encoder_blocks: tuple[int, int] = (2, 1)
    decoder: tuple[int, int] = (128, 96)
    decoder_blocks: tuple[int, int] = (2, 3)

    def __post_init__(self) -> None:
        if min(self.encoder + self.encoder_blocks + self.decoder + self.decoder_blocks) < 1:
            raise UsageError("an autoencoder's widths and blocks are numbers above 0")
        if not 1 <= self.channels <= PATCH:
            raise UsageError(f"a latent has 1 to {PATCH} channels, not {self.channels}")


@dataclass(frozen=True, eq=False)
class PatchBasis:
    """Principal components of patches of 8x8 pixels, channels first as ``pixel_unshuffle`` orders them.

    Attributes:
        mean: ``[192]``.
        components: orthonormal rows, the strongest first, ``[C, 192]``.
        deviation: along each component, ``[C]``.
    """

    mean: Tensor
    components: Tensor
    deviation: Tensor


def patch_basis(pictures: Sequence[Tensor], channels: int) -> PatchBasis:
    """The PCA of all patches of some pictures (Pearson 1901), in float64.

    Args:
        pictures: batches ``[B, 3, H, W]`` in ``[0, 1]``, sides multiples of 8.
        channels: how many components.
    """
    rows = torch.cat([functional.pixel_unshuffle(p, FACTOR).permute(0, 2, 3, 1).reshape(-1, PATCH) for p in pictures])
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(rows) - 1))  # ascending
    components = vectors.T.flip(0)[:channels]
    signs = torch.where(components.sum(1, keepdim=True) < 0, -1.0, 1.0)  # one of two equal answers, always the same
    deviation = variances.flip(0)[:channels].clamp_min(1e-8).sqrt()
    return PatchBasis(mean.float(), (signs * components).float(), deviation.float())


class Autoencoder(nn.Module):
    """Encoder and decoder; see the module's text for the equations.

    Args:
        config: sizes.
        basis: where the shortcuts start; without it they are to be loaded.
    """

    def __init__(self, config: AutoencoderConfig | None = None, basis: PatchBasis | None = None) -> None:
        super().__init__()
        self.config = config or AutoencoderConfig()
        channels = self.config.channels
        self.analysis = nn.Conv2d(PATCH, channels, 1)
        self.synthesis = nn.Conv2d(channels, PATCH, 1)
        self.encoder = _encoder(self.config)
        self.decoder = _decoder(self.config)
        if basis is not None:
            self._start_at(basis)

    @torch.no_grad()
    def _start_at(self, basis: PatchBasis) -> None:
        analysis = basis.components / basis.deviation[:, None]  # [C, 192], diag(1/d) P
        synthesis = basis.components.T * basis.deviation  # [192, C], P' diag(d)
        self.analysis.weight.copy_(analysis[:, :, None, None])
        self.synthesis.weight.copy_(synthesis[:, :, None, None])
        if self.analysis.bias is not None and self.synthesis.bias is not None:
            self.analysis.bias.copy_(-analysis @ basis.mean)
            self.synthesis.bias.copy_(basis.mean)

    def encode(self, picture: Tensor) -> Tensor:
        """``E(x)``: ``[B, 3, H, W]`` in ``[0, 1]``, sides multiples of 8, to ``[B, C, H/8, W/8]``, variance about 1."""
        coarse = self.analysis(functional.pixel_unshuffle(picture, FACTOR))
        latents: Tensor = coarse + self.encoder(picture - 0.5)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """``D(z)``: ``[B, C, h, w]`` to ``[B, 3, 8 h, 8 w]``, unbounded."""
        coarse = functional.pixel_shuffle(self.synthesis(latents), FACTOR)
        detail: Tensor = self.decoder(latents)
        return coarse + detail

    def linear(self, picture: Tensor) -> Tensor:
        """What the two shortcuts alone make of a picture: before the training, its PCA."""
        coarse = self.synthesis(self.analysis(functional.pixel_unshuffle(picture, FACTOR)))
        return functional.pixel_shuffle(coarse, FACTOR)

    def forward(self, picture: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A picture that went through the latents, and these without the noise.

        Args:
            picture: ``[B, 3, H, W]`` in ``[0, 1]``.
            noise: the posterior's deviation times standard normal numbers, ``[B, C, H/8, W/8]``.
        """
        latents = self.encode(picture)
        return self.decode(latents if noise is None else latents + noise), latents


def _convolution(source: int, target: int) -> nn.Conv2d:
    """3x3; the border repeats its neighbour, so that no frame of zeros shows in a picture."""
    return nn.Conv2d(source, target, 3, padding=1, padding_mode="replicate")


class _Block(nn.Module):
    """``x + conv(SiLU(conv(SiLU(x))))`` (He et al. 2016), the second convolution starting at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)
        _zero(self.second)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.first(functional.silu(features))
        found: Tensor = features + self.second(functional.silu(hidden))
        return found


def _encoder(config: AutoencoderConfig) -> nn.Sequential:
    quarter, eighth = config.encoder
    last = _zero(_convolution(eighth, config.channels))
    return nn.Sequential(
        nn.PixelUnshuffle(4),
        _convolution(48, quarter),
        *(_Block(quarter) for _ in range(config.encoder_blocks[0])),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * quarter, eighth, 1),
        *(_Block(eighth) for _ in range(config.encoder_blocks[1])),
        nn.SiLU(),
        last,
    )


def _decoder(config: AutoencoderConfig) -> nn.Sequential:
    eighth, quarter = config.decoder
    finer = nn.Conv2d(eighth, 4 * quarter, 1)
    # All four pixels of a shuffle start alike, so that no grid is learned before it is seen (ICNR, Aitken et al. 2017).
    with torch.no_grad():
        finer.weight.copy_(finer.weight[::4].repeat_interleave(4, 0))
        if finer.bias is not None:
            finer.bias.copy_(finer.bias[::4].repeat_interleave(4, 0))
    return nn.Sequential(
        _convolution(config.channels, eighth),
        *(_Block(eighth) for _ in range(config.decoder_blocks[0])),
        finer,
        nn.PixelShuffle(2),
        *(_Block(quarter) for _ in range(config.decoder_blocks[1])),
        nn.SiLU(),
        _zero(_convolution(quarter, 48)),
        nn.PixelShuffle(4),
    )


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def build_autoencoder(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> Autoencoder:
    """A frozen autoencoder from its tensors and the texts of the file's header, which state its sizes.

    Raises:
        WeightsError: sizes that are missing or do not fit the tensors.
    """
    try:
        sizes = json.loads(texts["autoencoder"])
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()
        }
        network = Autoencoder(AutoencoderConfig(**known))
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, UsageError) as error:
        raise WeightsError(f"these weights are no latent autoencoder: {error}") from error
    return network.requires_grad_(False).eval()

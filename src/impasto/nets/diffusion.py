"""``StyleDiffusion``: a small conditional U-Net in the latents of :mod:`impasto.nets.autoencoder`.

It answers, for noised latents ``z_t`` at step ``t``, with ``v = alpha_t eps - sigma_t z_0`` (Salimans & Ho 2022,
arXiv:2202.00512). Residual blocks and attention as in Rombach et al. 2022 (arXiv:2112.10752); a style enters twice:

* :class:`~impasto.nets.styled_attention.StyledAttention` at 1/16 of the picture, where places look up style tokens;
* in every block, ``h = (1 + g) Norm(h) + b`` with ``g`` and ``b`` from the time and the style's channel statistics
  (AdaIN, Huang & Belongie 2017, as diffusion models use it: Dhariwal & Nguyen 2021, arXiv:2105.05233, section 3).

Under a field of several styles, ``g`` and ``b`` become maps, the shares' weighted sum. The content enters by hints
(:mod:`impasto.nets.hints`), encoded once for all steps and added at both levels; and by a guess of the result, about
which the network answers (:mod:`impasto.nets.prior`).

Differs from the papers: ``Norm`` is over the channels of a place, not over places, and no place attends to another, so
that a tile with its surroundings is painted exactly like the whole; two levels only, as layout comes with the hints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from impasto.errors import UsageError, WeightsError
from impasto.nets.hints import CELLS, ContentHints, StyleFeatures
from impasto.nets.prior import Gaussian
from impasto.nets.styled_attention import ChannelNorm, StyleCodes, StyledAttention, StyleShare, shared
from impasto.ops.noise import NoiseSchedule, cosine_schedule, zero_terminal_snr

__all__ = [
    "PARAMETRISATION",
    "REACH",
    "DiffusionConfig",
    "EncodedHints",
    "StyleDiffusion",
    "build_diffusion",
    "diffusion_schedule",
    "time_embedding",
]

PARAMETRISATION = "v"
REACH = 24
"""Latents beyond which nothing influences an answer, for the default number of middle blocks: 8 at 1/8, 6 at 1/16."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Sizes of the network.

    Attributes:
        latent: channels of the latents.
        encoder: channels of the perceptual encoder at 1/1, 1/2, 1/4 and 1/8 of the picture.
        widths: channels at 1/8 and 1/16 of the picture.
        middle: residual blocks with attention at 1/16.
        tokens: length of style tokens and of the style's vector.
        heads: of the attention.
        hints: channels to which each kind of feature hints is reduced.

    Raises:
        UsageError: sizes below 1, or heads that do not divide the lower width.
    """

    latent: int = 16
    encoder: tuple[int, int, int, int] = (32, 96, 192, 256)
    widths: tuple[int, int] = (128, 160)
    middle: int = 3
    tokens: int = 160
    heads: int = 4
    hints: int = 40

    def __post_init__(self) -> None:
        if min((self.latent, *self.encoder, *self.widths, self.middle, self.tokens, self.heads, self.hints)) < 1:
            raise UsageError("the sizes of a diffusion network are numbers above 0")
        if self.widths[1] % self.heads or self.tokens % 2:
            raise UsageError(
                f"{self.heads} heads must divide the width {self.widths[1]}, and tokens have an even length, "
                f"not {self.tokens}"
            )


@dataclass(frozen=True, eq=False)
class EncodedHints:
    """Encoded hints of a content: ``[B, C, h, w]`` and ``[B, C', h/2, w/2]``."""

    fine: Tensor
    coarse: Tensor


def diffusion_schedule() -> NoiseSchedule:
    """The schedule of training and rendering: a cosine over 1000 steps, the last of which holds nothing but noise."""
    return zero_terminal_snr(cosine_schedule())


def time_embedding(t: Tensor, length: int) -> Tensor:
    """Sines and cosines of the step ``[B]`` at falling frequencies: ``[B, length]`` (Vaswani et al. 2017)."""
    half = length // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class StyleDiffusion(nn.Module):
    """The network; see the module's text.

    Attributes:
        checkpointing: recompute the activations of the blocks in the backward pass, to save memory.
        spread: how far latents lie from the guess, ``[C, 1, 1]``.
    """

    spread: Tensor

    def __init__(self, config: DiffusionConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiffusionConfig()
        self.checkpointing = False
        self.hint_encoder = _HintEncoder(self.config)
        self.style_encoder = _StyleEncoder(self.config)
        self.net = _UNet(self.config)
        self.schedule = diffusion_schedule()
        self.register_buffer("spread", torch.ones(self.config.latent, 1, 1))
        self.no_style = nn.Parameter(torch.randn(2, self.config.tokens) * 0.02)  # token, vector

    def codes(self, style: StyleFeatures) -> StyleCodes:
        """What is kept of a style."""
        codes: StyleCodes = self.style_encoder(style)
        return codes

    def no_codes(self) -> StyleCodes:
        """The place of a style that nothing is known of, for classifier-free guidance: ``[1, 1, D]`` and ``[1, V]``."""
        return StyleCodes(self.no_style[None, :1], self.no_style[1:])

    def hints(self, content: ContentHints) -> EncodedHints:
        """Hints as the denoiser reads them; the same for all steps."""
        hints: EncodedHints = self.hint_encoder(content)
        return hints

    def denoise(
        self, noisy: Tensor, t: Tensor, guess: Tensor, hints: EncodedHints, shares: Sequence[StyleShare]
    ) -> Tensor:
        """``v`` of latents ``[B, C, h, w]`` (both sides even) at steps ``t`` ``[B]``, under a field.

        Args:
            noisy: ``z_t``.
            t: steps.
            guess: ``z_b``, of the same shape.
            hints: of the content.
            shares: styles, with all of the weight that there is (see :func:`~impasto.nets.styled_attention.complete`).
        """
        alpha, sigma = self.schedule.alpha_sigma(t, noisy)
        known = Gaussian.about(noisy, guess, self.spread, alpha, sigma)
        seen = torch.cat([known.noisy, guess], dim=1)
        answer: Tensor = self.net(seen, t, hints, shares, self.checkpointing)
        return known.velocity + known.scale * answer

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        guess: Tensor,
        content: ContentHints,
        style: StyleFeatures,
        *,
        without_style: Tensor | None = None,
    ) -> Tensor:
        """The training's way through: ``v`` ``[draws B, C, h, w]`` of several draws of each picture.

        Args:
            noisy: latents, ``[draws B, C, h, w]``, the draws of a picture not next to each other but ``B`` apart.
            t: steps, ``[draws B]``.
            guess: ``z_b`` of each draw, ``[draws B, C, h, w]``.
            content: hints of ``B`` contents.
            style: features of ``B`` styles.
            without_style: 1 where a draw is told of no style, ``[draws B]``.
        """
        draws = len(noisy) // len(content.deep)
        hints, codes = self.hints(content), self.codes(style)
        hints = EncodedHints(hints.fine.repeat(draws, 1, 1, 1), hints.coarse.repeat(draws, 1, 1, 1))
        tokens, vector = codes.tokens.repeat(draws, 1, 1), codes.vector.repeat(draws, 1)
        if without_style is not None:
            none, gone = self.no_codes(), without_style.bool()
            tokens = torch.where(gone[:, None, None], none.tokens.to(tokens), tokens)
            vector = torch.where(gone[:, None], none.vector.to(vector), vector)
        share = StyleShare(StyleCodes(tokens, vector), noisy.new_ones(1, 1, 1, 1))
        return self.denoise(noisy, t, guess, hints, [share])


def _convolution(source: int, target: int) -> nn.Conv2d:
    """3x3; the border repeats its neighbour."""
    return nn.Conv2d(source, target, 3, padding=1, padding_mode="replicate")


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


class _HintEncoder(nn.Module):
    """Hints at 1/4 and 1/8 of the picture to features at 1/8 and 1/16."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        _, _, middle, deep = config.encoder
        fine, coarse = config.widths
        self.deep = nn.Conv2d(deep, config.hints, 1)
        self.middle = nn.Conv2d(4 * middle, config.hints, 1)
        self.mix = _convolution(2 * config.hints + 8, fine)
        self.first, self.second = _convolution(fine, fine), _zero(_convolution(fine, fine))
        self.lower = nn.Conv2d(4 * fine, coarse, 1)

    def forward(self, content: ContentHints) -> EncodedHints:
        parts = [
            self.deep(content.deep),
            self.middle(functional.pixel_unshuffle(content.middle, 2)),
            functional.pixel_unshuffle(content.light, 2),
        ]
        mixed = self.mix(torch.cat(parts, dim=1))
        fine = mixed + self.second(functional.silu(self.first(functional.silu(mixed))))
        return EncodedHints(fine, self.lower(functional.pixel_unshuffle(functional.silu(fine), 2)))


class _StyleEncoder(nn.Module):
    """Statistics of a style to tokens and a vector."""

    cell_mean: Tensor
    cell_deviation: Tensor
    whole_mean: Tensor
    whole_deviation: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        first, second, third, fourth = config.encoder
        cell, whole = 6 + 2 * second + 2 * third + fourth, 6 + 2 * (first + second + third + fourth)
        self.register_buffer("cell_mean", torch.zeros(cell))
        self.register_buffer("cell_deviation", torch.ones(cell))
        self.register_buffer("whole_mean", torch.zeros(whole))
        self.register_buffer("whole_deviation", torch.ones(whole))
        self.cells = nn.Sequential(nn.Linear(cell, config.tokens), nn.SiLU(), nn.Linear(config.tokens, config.tokens))
        self.whole = nn.Sequential(nn.Linear(whole, config.tokens), nn.SiLU(), nn.Linear(config.tokens, config.tokens))
        self.scale = nn.Parameter(torch.randn(len(CELLS), config.tokens) * 0.02)
        self.norm = nn.LayerNorm(config.tokens)

    def forward(self, style: StyleFeatures) -> StyleCodes:
        cells = ((style.cells - self.cell_mean) / self.cell_deviation).clamp(-6, 6)
        whole = ((style.whole - self.whole_mean) / self.whole_deviation).clamp(-6, 6)
        counts = torch.tensor([count**2 for count in CELLS], device=cells.device)
        scale = torch.repeat_interleave(self.scale, counts, dim=0)  # which scale a token is of, [81, D]
        return StyleCodes(self.norm(self.cells(cells) + scale), self.whole(whole), style.colours)


class _Block(nn.Module):
    """Residual block whose first normalisation is modulated by time and style."""

    def __init__(self, source: int, width: int, condition: int) -> None:
        super().__init__()
        self.norm, self.inner = ChannelNorm(source, affine=False), ChannelNorm(width)
        self.modulation = nn.Linear(condition, 2 * source)
        self.first, self.second = _convolution(source, width), _zero(_convolution(width, width))
        self.skip = nn.Conv2d(source, width, 1) if source != width else nn.Identity()

    def forward(self, features: Tensor, conditions: Sequence[Tensor], shares: Sequence[StyleShare]) -> Tensor:
        parts = [self.modulation(condition)[:, :, None, None] for condition in conditions]  # [B, 2 C, 1, 1]
        gain, bias = shared(shares, parts, (features.shape[2], features.shape[3])).chunk(2, dim=1)
        hidden = self.first(functional.silu((1 + gain) * self.norm(features) + bias))
        found: Tensor = self.skip(features) + self.second(functional.silu(self.inner(hidden)))
        return found


class _UNet(nn.Module):
    """Two levels; see the module's text."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        fine, coarse = config.widths
        self.length = config.tokens
        self.time = nn.Sequential(
            nn.Linear(config.tokens, config.tokens), nn.SiLU(), nn.Linear(config.tokens, config.tokens)
        )
        self.enter = _convolution(2 * config.latent, fine)
        self.down = _Block(fine, fine, config.tokens)
        self.lower = nn.Conv2d(4 * fine, coarse, 1)
        self.middle = nn.ModuleList(_Block(coarse, coarse, config.tokens) for _ in range(config.middle))
        self.attention = nn.ModuleList(
            StyledAttention(coarse, config.tokens, config.heads) for _ in range(config.middle)
        )
        self.higher = nn.Conv2d(coarse, 4 * fine, 1)
        self.join = _Block(2 * fine, fine, config.tokens)
        self.up = _Block(fine, fine, config.tokens)
        self.norm = ChannelNorm(fine)
        self.leave = _zero(_convolution(fine, config.latent))

    def forward(
        self, noisy: Tensor, t: Tensor, hints: EncodedHints, shares: Sequence[StyleShare], checkpointing: bool
    ) -> Tensor:
        time = self.time(time_embedding(t, self.length).to(noisy.dtype))
        conditions = [functional.silu(time + share.codes.vector) for share in shares]

        def run(block: nn.Module, *args: object) -> Tensor:
            if checkpointing and torch.is_grad_enabled():
                found: Tensor = checkpoint(block, *args, use_reentrant=False)
            else:
                found = block(*args)
            return found

        fine = run(self.down, self.enter(noisy) + hints.fine, conditions, shares)
        coarse = self.lower(functional.pixel_unshuffle(fine, 2)) + hints.coarse
        for block, attention in zip(self.middle, self.attention, strict=True):
            coarse = run(attention, run(block, coarse, conditions, shares), shares)
        joined = torch.cat([fine, functional.pixel_shuffle(self.higher(coarse), 2)], dim=1)
        fine = run(self.up, run(self.join, joined, conditions, shares), conditions, shares)
        answer: Tensor = self.leave(functional.silu(self.norm(fine)))
        return answer


def build_diffusion(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> StyleDiffusion:
    """A frozen network from its tensors and the texts of the file's header, which state its sizes.

    Raises:
        WeightsError: sizes that are missing or do not fit the tensors.
    """
    try:
        sizes = json.loads(texts["diffusion"])
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()
        }
        network = StyleDiffusion(DiffusionConfig(**known))
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, UsageError) as error:
        raise WeightsError(f"these weights are no diffusion network: {error}") from error
    return network.requires_grad_(False).eval()

"""The network behind the ``johnson`` engine: one small feed-forward network for one style.

Johnson, Alahi & Fei-Fei 2016 ("Perceptual losses for real-time style transfer and super-resolution",
arXiv:1603.08155): two strided steps down, five residual blocks, two steps up, trained against perceptual losses.
Instance normalisation in the place of batch normalisation after Ulyanov, Vedaldi & Lempitsky 2016 (arXiv:1607.08022).

Differs from the paper: the layers at full resolution, two thirds of its time on a processor, are gone. The first
step down is a pixel-unshuffle by 2 with a 5x5 convolution behind it (which sees 10x10 pixels; the paper's 9x9 and a
strided 3x3), the last step up a 5x5 convolution with a pixel-shuffle by 2. The other step up is nearest-neighbour
upsampling with a convolution (Odena et al. 2016), not a transposed convolution, which leaves checkerboards. Every
convolution reflects the picture at its border instead of adding zeros, and blocks are not cropped; convolutions before
a normalisation have no bias, which it would remove; the output is not squashed by tanh but held in range by a loss.
Channels are 22 / 48 instead of 32 / 64 / 128, so that a style takes half a megabyte.

The normalisation statistics are explicit: :meth:`JohnsonNet.forward` returns those it used and accepts others, so that
a tile of a large picture, or a frame of a film, is normalised like the whole (measure once, render tiles).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LEAST_SIDE", "MULTIPLE", "JohnsonConfig", "JohnsonNet"]

EPSILON = 1e-5
MULTIPLE = 4
"""Sides of a picture are multiples of this."""
LEAST_SIDE = 8
"""Smallest side: at a quarter of it, a reflection by one needs two positions."""


@dataclass(frozen=True)
class JohnsonConfig:
    """Sizes of the network.

    Attributes:
        half: channels at 1/2 resolution.
        quarter: channels at 1/4 resolution.
        blocks: residual blocks at 1/4 resolution.
    """

    half: int = 22
    quarter: int = 48
    blocks: int = 5


class _Normalise:
    """What one forward pass knows about its normalisations: gains, biases, and the statistics.

    Layers take their parts in order, so the flat vectors (``S`` = all normalised channels) need no names.
    """

    def __init__(
        self, widths: list[int], gain: Tensor, bias: Tensor, statistics: Tensor | None, given: Tensor | None
    ) -> None:
        self.gains = torch.split(gain.view(1, -1, 1, 1), widths, dim=1)  # each [1, C, 1, 1]
        self.biases = torch.split(bias.view(1, -1, 1, 1), widths, dim=1)
        self.known: list[tuple[Tensor, Tensor]] | None = None
        if statistics is not None and given is not None:
            means, variances = statistics[:, :, :, None, None].unbind(1)  # [B, S, 1, 1]
            self.known = list(zip(*(torch.split(one, widths, dim=1) for one in (means, variances)), strict=True))
            self.given = given > 0.5
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def __call__(self, features: Tensor) -> Tensor:
        """Instance normalisation (Ulyanov 2016, eq. 4) with learned gain and bias."""
        index = len(self.means)
        mean = features.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        variance = (features - mean).square().mean((2, 3), keepdim=True)
        if self.known is not None:
            mean = torch.where(self.given, self.known[index][0], mean)
            variance = torch.where(self.given, self.known[index][1], variance)
        self.means.append(mean)
        self.variances.append(variance)
        gain = self.gains[index] * torch.rsqrt(variance + EPSILON)
        return features * gain + (self.biases[index] - mean * gain)

    @property
    def used(self) -> Tensor:
        """The statistics so far, ``[B, 2, S]``."""
        means, variances = (torch.cat(parts, dim=1).flatten(1) for parts in (self.means, self.variances))
        return torch.stack([means, variances], dim=1)


def _convolution(inputs: int, outputs: int, side: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, padding_mode="reflect", bias=bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each normalised, and a skip; no ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 3)
        self.second = _convolution(channels, channels, 3)

    def forward(self, features: Tensor, normalise: _Normalise) -> Tensor:
        """``[B, C, h, w]`` to the same shape."""
        hidden = torch.relu(normalise(self.first(features)))
        return features + normalise(self.second(hidden))


class JohnsonNet(nn.Module):
    """Photograph to painting. Height and width must be multiples of 4 and at least 8 (the engine pads)."""

    def __init__(self, config: JohnsonConfig | None = None) -> None:
        super().__init__()
        self.config = config or JohnsonConfig()
        half, quarter, blocks = self.config.half, self.config.quarter, self.config.blocks
        self.stem = _convolution(12, half, 5)
        self.down = _convolution(half, quarter, 3, stride=2)
        self.middle = nn.ModuleList(ResidualBlock(quarter) for _ in range(blocks))
        self.up = _convolution(quarter, half, 3)
        self.paint = _convolution(half, 12, 5, bias=True)
        # Normalised channels in the order of the forward pass.
        self.widths = [half, quarter, *[quarter] * (2 * blocks), half]
        self.channels = sum(self.widths)
        self.gain = nn.Parameter(torch.ones(self.channels))
        self.bias = nn.Parameter(torch.zeros(self.channels))
        self.reset()

    @property
    def halo(self) -> int:
        """How far, in pixels, one output pixel looks when the statistics are given; a multiple of 4."""
        half_steps = 2 + 1 + 1 + 2  # stem, down, up, paint: radii at 1/2 resolution
        quarter_steps = 2 * self.config.blocks
        return 2 * half_steps + 4 * quarter_steps + MULTIPLE  # the last for the blocks that pixels fall into

    def reset(self) -> None:
        """He initialisation; the sub-pixel layer starts as nearest-neighbour upsampling (ICNR, arXiv:1707.02937)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        base = self.paint.weight.data[::4].clone()
        self.paint.weight.data.copy_(0.1 * base.repeat_interleave(4, dim=0))

    def forward(
        self, picture: Tensor, statistics: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Paint.

        Args:
            picture: ``[B, 3, H, W]`` in ``[0, 1]``.
            statistics: ``[B, 2, S]``, means and variances measured on a whole picture, used where ``given`` is 1.
            given: scalar 0 or 1.

        Returns:
            The painted picture ``[B, 3, H, W]`` (unbounded) and the statistics used, ``[B, 2, S]``.
        """
        normalise = _Normalise(self.widths, self.gain, self.bias, statistics, given)
        return self._painted(self._encoded(picture, normalise), normalise)

    def forward_with_features(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`forward` returns without given statistics, and the features between encoder and decoder.

        Args:
            picture: ``[B, 3, H, W]`` in ``[0, 1]``.

        Returns:
            The painted picture, the statistics used, and the features behind the residual blocks,
            ``[B, quarter, H/4, W/4]``.
        """
        normalise = _Normalise(self.widths, self.gain, self.bias, None, None)
        features = self._encoded(picture, normalise)
        return *self._painted(features, normalise), features

    def features(self, picture: Tensor) -> Tensor:
        """The features of :meth:`forward_with_features`, without the painting."""
        return self._encoded(picture, _Normalise(self.widths, self.gain, self.bias, None, None))

    def _encoded(self, picture: Tensor, normalise: _Normalise) -> Tensor:
        pixels = functional.pixel_unshuffle(picture * 2 - 1, 2)  # [B, 12, H/2, W/2]
        features = torch.relu(normalise(self.stem(pixels)))
        features = torch.relu(normalise(self.down(features)))  # [B, quarter, H/4, W/4]
        for block in self.middle:
            features = block(features, normalise)
        return features

    def _painted(self, features: Tensor, normalise: _Normalise) -> tuple[Tensor, Tensor]:
        raised = functional.interpolate(features, scale_factor=2.0, mode="nearest")  # [B, quarter, H/2, W/2]
        features = torch.relu(normalise(self.up(raised)))
        painted = functional.pixel_shuffle(self.paint(features), 2) * 0.5 + 0.5
        return painted, normalise.used

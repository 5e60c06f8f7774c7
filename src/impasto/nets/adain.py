"""Adaptive instance normalisation: arbitrary style by moments of deep features, and a decoder that inverts them.

Huang & Belongie 2017, arXiv:1703.06868. With features ``x`` of the content and ``y`` of the style at one layer of a
frozen encoder,

    AdaIN(x, y) = s(y) (x - m(x)) / s(x) + m(y)                                                             (eq. 8)

where ``m`` and ``s`` are each channel's mean and standard deviation over the places. A decoder, the mirror of the
encoder, turns the result back into a picture; it alone is trained.

A field of ``K`` codes with weight maps ``w_k`` mixes in feature space (section 7.3 of the paper), what is left to 1
belonging to the content's own features:

    t = sum_k w_k AdaIN(x, y_k) + (1 - sum_k w_k) x

Differs from the paper: the encoder is the project's ``lens`` up to ``relu4_1``, whose pools average; zero padding
inside, behind a reflected margin that the engine cuts away, in place of reflection in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import UsageError

__all__ = ["LAYER", "AdaInConfig", "AdaInDecoder", "adain", "channel_moments", "transfer_field"]

LAYER = "relu4_1"
"""The encoder's layer whose moments are exchanged."""
EPSILON = 1e-5


@dataclass(frozen=True)
class AdaInConfig:
    """Sizes of the decoder.

    Attributes:
        channels: of the encoder's layer.
        widths: channels at 1/8, 1/4, 1/2 and 1/1 of the picture.
    """

    channels: int = 256
    widths: tuple[int, ...] = (192, 96, 48, 32)

    def __post_init__(self) -> None:
        if len(self.widths) != 4 or min(self.widths) < 1 or self.channels < 1:
            raise UsageError(f"the decoder has four widths above 0, not {self.widths}")


def channel_moments(features: Tensor) -> Tensor:
    """Mean and standard deviation of each channel over the places: ``[B, C, h, w]`` to ``[B, 2, C]``."""
    mean = features.mean((2, 3))
    variance = (features - mean[:, :, None, None]).square().mean((2, 3))
    return torch.stack([mean, torch.sqrt(variance + EPSILON)], dim=1)


def adain(content: Tensor, moments: Tensor, own: Tensor | None = None) -> Tensor:
    """Content features with other moments (eq. 8).

    Args:
        content: ``[B, C, h, w]``.
        moments: of the style, ``[B, 2, C]``.
        own: moments of the whole content, ``[B, 2, C]``, where ``content`` is a part of it; its own by default.

    Returns:
        ``[B, C, h, w]``.
    """
    known = channel_moments(content) if own is None else own
    gain = moments[:, 1] / known[:, 1]  # [B, C], s(y) / s(x)
    bias = moments[:, 0] - known[:, 0] * gain
    return content * gain[:, :, None, None] + bias[:, :, None, None]


def transfer_field(content: Tensor, moments: Tensor, weights: Tensor, own: Tensor | None = None) -> Tensor:
    """Content features under a style field.

    The sum over the styles of ``w_k AdaIN(x, y_k)`` is ``x`` times a map of gains plus a map of biases, because AdaIN
    is linear in ``x``.

    Args:
        content: ``[1, C, h, w]``.
        moments: of the styles, ``[K, 2, C]``.
        weights: ``[K, h, w]`` or ``[K, 1, 1]``, not negative, summing to at most 1.
        own: moments of the whole content, ``[1, 2, C]``; those of ``content`` by default.

    Returns:
        ``[1, C, h, w]``.
    """
    known = channel_moments(content) if own is None else own
    gains = moments[:, 1] / known[:, 1]  # [K, C]
    biases = moments[:, 0] - known[:, 0] * gains
    rest = 1 - weights.sum(0)  # what the content keeps
    gain = torch.einsum("kc,khw->chw", gains, weights) + rest
    bias = torch.einsum("kc,khw->chw", biases, weights)
    return content * gain + bias


class AdaInDecoder(nn.Module):
    """Features at 1/8 to a picture: ``[B, C, h, w]`` to ``[B, 3, 8 h, 8 w]``, unbounded.

    The encoder backwards: pairs of 3x3 convolutions, nearest-neighbour upsampling where the encoder pools. No
    normalisation: it would undo the moments that were just set (section 5 of the paper).
    """

    def __init__(self, config: AdaInConfig | None = None) -> None:
        super().__init__()
        self.config = config or AdaInConfig()
        channels, layers = self.config.channels, []
        for width in self.config.widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)]
            channels = width
        self.layers = nn.ModuleList(layers)
        self.paint = nn.Conv2d(channels, 3, 3, padding=1)
        for module in [*layers, self.paint]:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.paint.weight.data.mul_(0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Decode."""
        for index, layer in enumerate(self.layers):
            if index and index % 2 == 0:
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = torch.relu(layer(features))
        painted: Tensor = self.paint(features)
        return painted * 0.25 + 0.5

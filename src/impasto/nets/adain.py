"""Adaptive instance normalisation: arbitrary style by moments of deep features, and a decoder that inverts them.

Huang & Belongie 2017, arXiv:1703.06868. With features ``x`` of the content and ``y`` of the style at one layer of a
frozen encoder,

    AdaIN(x, y) = s(y) (x - m(x)) / s(x) + m(y)                                                             (eq. 8)

where ``m`` and ``s`` are each channel's mean and standard deviation over the places. A decoder, the mirror of the
encoder (:mod:`impasto.nets.decoder`), turns the result back into a picture; it alone is trained.

A field of ``K`` codes with weight maps ``w_k`` mixes in feature space (section 7.3 of the paper), what is left to 1
belonging to the content's own features:

    t = sum_k w_k AdaIN(x, y_k) + (1 - sum_k w_k) x

Differs from the paper: moments are exchanged at ``relu4_1`` and at ``relu3_1``, which the decoder takes in half-way, as
in Avatar-Net (Sheng et al. 2018, arXiv:1805.03857): with ``relu4_1`` alone a decoder has to guess colours and lines,
and needs very many steps until it does not paint everything brown. The encoder is the project's ``lens``, whose pools
average; zero padding inside, behind a reflected margin that the engine cuts away, stands in place of reflection in
every layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.errors import UsageError, WeightsError
from impasto.nets.decoder import FeatureDecoder

__all__ = ["LAYERS", "AdaInConfig", "AdaInDecoder", "adain", "build_decoder", "channel_moments", "transfer_field"]

LAYERS = ("relu4_1", "relu3_1")
"""The encoder's layers whose moments are exchanged, at 1/8 and 1/4 of the picture."""
EPSILON = 1e-5


@dataclass(frozen=True)
class AdaInConfig:
    """Sizes of the decoder.

    Attributes:
        channels: of the encoder's layers, in the order of :data:`LAYERS`.
        widths: channels of the decoder at 1/8, 1/4, 1/2 and 1/1 of the picture.

    Raises:
        UsageError: another number of layers, or an empty one.
    """

    channels: tuple[int, ...] = (256, 192)
    widths: tuple[int, ...] = (160, 96, 48, 24)

    def __post_init__(self) -> None:
        if len(self.widths) != 4 or len(self.channels) != 2 or min(self.widths + self.channels) < 1:
            raise UsageError(
                f"the decoder has two channels and four widths above 0, not {self.channels} and {self.widths}"
            )


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


class AdaInDecoder(FeatureDecoder):
    """Features at 1/8 and 1/4 to a picture, see :class:`~impasto.nets.decoder.FeatureDecoder`."""

    def __init__(self, config: AdaInConfig | None = None) -> None:
        sizes = config or AdaInConfig()
        deep, middle = sizes.channels
        super().__init__(deep, middle, sizes.widths)
        self.config = sizes


def build_decoder(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> AdaInDecoder:
    """The frozen decoder of a weights file.

    Args:
        state: the file's tensors.
        texts: of its header, which state the sizes.

    Raises:
        WeightsError: the file holds no decoder of ``adain``.
    """
    try:
        sizes: dict[str, Any] = json.loads(texts["config"])
        decoder = AdaInDecoder(AdaInConfig(tuple(sizes["channels"]), tuple(sizes["widths"])))
        decoder.load_state_dict({name: value.float() for name, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        raise WeightsError(f"the weights are no decoder of adain: {error}") from error
    return decoder.requires_grad_(False)

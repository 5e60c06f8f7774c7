"""The network of ``local`` cut into parts that run without PyTorch; :mod:`impasto.export` turns them into ONNX graphs.

What differs from one picture to the next goes in and comes out as plain tensors: the engine keeps a style's tokens,
measures the photograph, cuts long lists of places and adds styles up. The equations stand in
:mod:`impasto.nets.local`.

Sides of pictures are multiples of 8 wherever ``matching`` is used; it averages blocks of 4x4 and 2x2 places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.nets.local import LAYERS, LocalNet, deviation
from impasto.nets.teachers import Teacher

__all__ = ["AttentionPart", "BlendPart", "EncoderPart", "TokensPart"]


class EncoderPart(nn.Module):
    """A frozen encoder up to ``relu4_1``.

    ``[B, 3, H, W]`` in ``[0, 1]`` to ``relu2_1``, ``relu3_1``, ``relu4_1`` and ``matching``, all of them at 1/8.
    """

    def __init__(self, encoder: Teacher) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The three layers and their average at 1/8, ``[B, D, H // 8, W // 8]``; its last channels are ``relu4_1``."""
        maps = self.encoder(picture, LAYERS)
        half, quarter, eighth = (maps[layer] for layer in LAYERS)
        matching = torch.cat([functional.avg_pool2d(half, 4), functional.avg_pool2d(quarter, 2), eighth], dim=1)
        return half, quarter, eighth, matching


class TokensPart(nn.Module):
    """What is kept of one style (eq. 1)."""

    def __init__(self, net: LocalNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, matching: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Keys ``[N, D']``, and values ``[N, 2 C + 2 C']``: ``relu4_1``, its squares, ``relu3_1``, its squares.

        Args:
            matching: of the style, ``[1, D, h, w]``.
            middle: ``relu3_1``, ``[1, C', 2 h, 2 w]``.
        """
        deep = matching[:, -self.net.config.channels[2] :]
        tokens = self.net.tokens_from(matching, deep, middle)
        values = torch.cat([tokens.deep, tokens.deep.square(), tokens.middle, tokens.middle_square], dim=2)
        return tokens.keys[0], values[0]


class AttentionPart(nn.Module):
    """Weighted means and deviations of one style at some places of the photograph (eq. 2 to 4).

    A token may stand for several places of the style: the logarithm of their number is added to its logit, so that it
    weighs as much as they would together.
    """

    def __init__(self, net: LocalNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, places_: Tensor, moments: Tensor, keys: Tensor, values: Tensor, log_counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and deviations ``[M, 2 C + 2 C']``, in the order of the values; and the queries ``[M, D']``, scaled.

        Args:
            places_: of the photograph, ``matching`` as a list ``[M, D]``.
            moments: by which it is normalised, ``[2, D]``.
            keys: of the style, ``[N, D']``.
            values: of the style, ``[N, 2 C + 2 C']``.
            log_counts: ``[N]``.
        """
        query = self.net.query
        normed = (places_ - moments[0]) / moments[1]
        queries = functional.linear(normed, query.weight.flatten(1), query.bias) * self.net.config.keys**-0.5
        shares = torch.softmax(torch.addmm(log_counts, queries, keys.t()), dim=1)  # [M, N]
        _, middle, deep = self.net.config.channels
        mean, square, upper, upper_square = torch.split(torch.matmul(shares, values), [deep, deep, middle, middle], 1)
        return torch.cat([mean, deviation(mean, square), upper, deviation(upper, upper_square)], dim=1), queries


class BlendPart(nn.Module):
    """Adds one style's share to the features of the painting (eq. 5 and the style field)."""

    def __init__(self, net: LocalNet) -> None:
        super().__init__()
        self.channels = net.config.channels

    def forward(
        self,
        deep: Tensor,
        middle: Tensor,
        found: Tensor,
        deep_moments: Tensor,
        middle_moments: Tensor,
        deep_weight: Tensor,
        middle_weight: Tensor,
        deep_sum: Tensor,
        middle_sum: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The new sums at ``relu4_1`` and ``relu3_1``.

        Args:
            deep: the photograph's ``relu4_1``, ``[1, C, h, w]``.
            middle: its ``relu3_1``, ``[1, C', 2 h, 2 w]``.
            found: of :class:`AttentionPart`, as maps ``[1, 2 C + 2 C', h, w]``.
            deep_moments: by which ``deep`` is normalised, ``[2, C]``.
            middle_moments: likewise, ``[2, C']``.
            deep_weight: of the style, ``[1, 1, h, w]`` or ``[1, 1, 1, 1]``.
            middle_weight: ``[1, 1, 2 h, 2 w]`` or ``[1, 1, 1, 1]``.
            deep_sum: so far, ``[1, C, h, w]``.
            middle_sum: so far, ``[1, C', 2 h, 2 w]``.
        """
        _, few, many = self.channels
        mean, spread, upper = torch.split(found, [many, many, 2 * few], 1)
        upper = functional.interpolate(upper, scale_factor=2.0, mode="bilinear", align_corners=False)
        upper_mean, upper_spread = torch.split(upper, [few, few], 1)
        deep_part = spread * _normalised(deep, deep_moments) + mean
        middle_part = upper_spread * _normalised(middle, middle_moments) + upper_mean
        return deep_sum + deep_weight * deep_part, middle_sum + middle_weight * middle_part


def _normalised(features: Tensor, moments: Tensor) -> Tensor:
    return (features - moments[0, None, :, None, None]) / moments[1, None, :, None, None]

"""The decoder of the engines that change features and turn them back into a picture: ``adain`` and ``local``.

The mirror of a VGG-shaped encoder (Huang & Belongie 2017, arXiv:1703.06868, section 6), with a second input at half its
depth, as in Avatar-Net (Sheng et al. 2018, arXiv:1805.03857): what ``relu4_1`` has lost of lines and colours comes back
with the features of ``relu3_1``, whose style has been exchanged in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FeatureDecoder"]


class FeatureDecoder(nn.Module):
    """Features at 1/8, with a skip at 1/4, to a picture.

    Pairs of 3x3 convolutions, nearest-neighbour upsampling where the encoder pools. No normalisation: it would undo the
    statistics that were just set (section 5 of the AdaIN paper).

    Args:
        channels: of the features at 1/8.
        middle: of those at 1/4.
        widths: channels at 1/8, 1/4, 1/2 and 1/1 of the picture.
        separable: depthwise-separable convolutions (Howard et al. 2017, arXiv:1704.04861), for phones.
    """

    def __init__(self, channels: int, middle: int, widths: Sequence[int], *, separable: bool = False) -> None:
        super().__init__()
        block = _separable if separable else _convolution
        self.first, self.second = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.first.append(block(channels, width))
            self.second.append(block(width, width))
            channels = width
        self.skip = nn.Conv2d(middle, widths[1], 1)
        self.paint = nn.Conv2d(channels, 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.paint.weight.data.mul_(0.1)

    def forward(self, deep: Tensor, middle: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B, C', 2 h, 2 w]`` to ``[B, 3, 8 h, 8 w]``, unbounded."""
        features = deep
        for level, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            if level:
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = first(features)
            if level == 1:
                features = features + self.skip(middle)
            features = torch.relu(second(torch.relu(features)))
        painted: Tensor = self.paint(features)
        return painted * 0.25 + 0.5


def _convolution(channels: int, width: int) -> nn.Module:
    return nn.Conv2d(channels, width, 3, padding=1)


def _separable(channels: int, width: int) -> nn.Module:
    """A 3x3 convolution of each channel by itself, then one over channels."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, width, 1))

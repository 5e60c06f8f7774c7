"""PatchGAN: a critic that judges every patch for itself (Isola et al. 2017, arXiv:1611.07004, section 3.2).

Differs from the paper: group normalisation in the place of batch normalisation, so that a picture's judgement does not
depend on the others of its batch; sizes are free, and the default sees 34x34 pixels in the place of 70x70.
"""

from __future__ import annotations

from torch import Tensor, nn

from impasto.errors import UsageError

__all__ = ["PatchGAN"]


class PatchGAN(nn.Module):
    """``[B, 3, H, W]`` in ``[0, 1]`` to a score for each patch, ``[B, 1, h, w]``; higher is more real.

    Args:
        widths: channels of each 4x4 convolution; all but the last have stride 2. Multiples of 8, but the first.

    Raises:
        UsageError: widths that cannot be normalised in groups of 8, or none.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        if not widths or min(widths) < 1 or any(width % 8 for width in widths[1:]):
            raise UsageError(f"the widths of a PatchGAN are multiples of 8 after the first, not {widths}")
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(widths):
            stride = 1 if index == len(widths) - 1 else 2
            layers.append(nn.Conv2d(channels, width, 4, stride, 1))
            if index:
                layers.append(nn.GroupNorm(8, width))
            layers.append(nn.LeakyReLU(0.2))
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """The scores."""
        scores: Tensor = self.layers(picture * 2 - 1)
        return scores

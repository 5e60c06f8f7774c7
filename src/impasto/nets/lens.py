"""``lens``: the project's own perceptual encoder, distilled from ImageNet classifiers.

A convolutional network of VGG's shape (Simonyan & Zisserman 2014, arXiv:1409.1556): blocks of 3x3 convolutions with
ReLU at 1/1, 1/2, 1/4, 1/8 and 1/16 of the picture, layers named ``relu{block}_{index}``. Its features serve losses
and metrics: every stride is 1 and pooling is by average, as Gatys et al. (2016) advise, so that gradients with respect
to pixels are smooth and no stride leaves a grid in an optimised picture.

It never saw a label. :mod:`impasto.training.lens` trains it to predict, through one 1x1 convolution for each layer of
its teachers, what those networks see at the same place.

Differs from VGG: narrower, average pooling, one convolution in the last block; while it is trained every
convolution has a batch normalisation, which :func:`folded` merges into weights and biases afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import UsageError
from impasto.nets.teachers import Teacher, TeacherSpec

__all__ = ["Lens", "LensConfig", "LensTrunk", "folded", "lens_layers"]


@dataclass(frozen=True)
class LensConfig:
    """Sizes of the network.

    Attributes:
        widths: channels of each block; block ``b`` (from 1) works at ``1 / 2 ** (b - 1)`` of the picture.
        depths: 3x3 convolutions of each block.

    Raises:
        UsageError: not five blocks, or an empty one.
    """

    widths: tuple[int, ...] = (32, 96, 192, 256, 384)
    depths: tuple[int, ...] = (2, 2, 2, 3, 1)

    def __post_init__(self) -> None:
        if len(self.widths) != 5 or len(self.depths) != 5 or min(self.widths + self.depths) < 1:
            raise UsageError(
                f"lens has five blocks: widths and depths are five numbers above 0, not {self.widths}, {self.depths}"
            )


def lens_layers(config: LensConfig) -> dict[str, tuple[int, int]]:
    """Names of the layers in order, with their stride and channels."""
    return {
        f"relu{block}_{index}": (2 ** (block - 1), width)
        for block, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True), start=1)
        for index in range(1, depth + 1)
    }


class LensTrunk(nn.Module):
    """The network while it is trained: convolution, batch normalisation, ReLU.

    ``[B, 3, H, W]`` in ``[0, 1]`` to a table of feature maps.
    """

    def __init__(self, config: LensConfig | None = None) -> None:
        super().__init__()
        self.config = config or LensConfig()
        self.convolutions = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        channels = 3
        for name, (_, width) in lens_layers(self.config).items():
            self.convolutions[name] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.norms[name] = nn.BatchNorm2d(width)
            nn.init.kaiming_normal_(self.convolutions[name].weight, nonlinearity="relu")  # type: ignore[arg-type]
            channels = width

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Feature maps of all layers."""
        features, block, found = picture * 4 - 2, 1, {}
        for name, convolution in self.convolutions.items():
            if int(name[4]) != block:
                features, block = functional.avg_pool2d(features, 2), int(name[4])
            features = torch.relu(self.norms[name](convolution(features)))
            found[name] = features
        return found


class Lens(Teacher):
    """The encoder as it is used: ``[B, 3, H, W]`` in ``[0, 1]`` to named feature maps.

    Sides of any length from 16 pixels on; a feature map at stride ``s`` has ``H // s`` rows.
    """

    def __init__(self, config: LensConfig | None = None) -> None:
        super().__init__()
        self.config = config or LensConfig()
        layers = lens_layers(self.config)
        self.convolutions = nn.ModuleDict()
        channels = 3
        for name, (_, width) in layers.items():
            self.convolutions[name] = nn.Conv2d(channels, width, 3, padding=1)
            channels = width
        deepest = [f"relu4_{self.config.depths[3]}"]
        self.spec = TeacherSpec(
            "lens",
            layers,
            style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
            content_layers=tuple(deepest),
        )

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``; computation stops after the deepest one."""
        features, block, found = picture * 4 - 2, 1, {}
        for name, convolution in self.convolutions.items():
            if int(name[4]) != block:
                features, block = functional.avg_pool2d(features, 2), int(name[4])
            features = torch.relu_(convolution(features))
            if name in layers:
                found[name] = features
            if len(found) == len(layers):
                break
        return found


def folded(trunk: LensTrunk) -> Lens:
    """The trained network with each batch normalisation merged into its convolution, frozen.

    With running mean ``m``, variance ``v``, gain ``g`` and bias ``b`` a normalised convolution ``w * x`` is
    ``(g / sqrt(v + eps)) w * x + b - g m / sqrt(v + eps)``.
    """
    lens = Lens(trunk.config)
    with torch.no_grad():
        for name, convolution in trunk.convolutions.items():
            norm = trunk.norms[name]
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator, arg-type]
            target = lens.convolutions[name]
            target.weight.copy_(convolution.weight * gain[:, None, None, None])  # type: ignore[operator]
            target.bias.copy_(norm.bias - norm.running_mean * gain)  # type: ignore[operator]
    frozen = lens.freeze()
    assert isinstance(frozen, Lens)
    return frozen

"""``mobile``: an encoder for phones that sees nearly what ``lens`` sees, at a fourteenth of its arithmetic.

Depthwise-separable convolutions (MobileNet, Howard et al. 2017, arXiv:1704.04861): a 3x3 convolution of each channel by
itself, then a 1x1 convolution over channels. From each of three levels another 1x1 convolution predicts the layer of
``lens`` at that level, so that everything that was trained behind one encoder runs behind the other.
:mod:`impasto.training.mobile` trains it on nothing else.

Differs from MobileNet: a first convolution of 4x4 pixels, whose stride leaves every place in the middle of its pixels,
then average pools for strides, as in ``lens``; blocks that keep size and width add their input
(Sandler et al. 2018, arXiv:1801.04381, without expansion); batch normalisation is merged into the convolutions
afterwards (:func:`folded_mobile`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from impasto.errors import UsageError, WeightsError
from impasto.nets.teachers import Teacher, TeacherSpec

__all__ = ["Mobile", "MobileConfig", "build_mobile", "folded_mobile"]

NAMES = ("relu2_1", "relu3_1", "relu4_1")


@dataclass(frozen=True)
class MobileConfig:
    """Sizes of the network.

    Attributes:
        widths: channels inside, at 1/2, 1/4 and 1/8 of the picture.
        depths: separable blocks at each level.
        channels: of the layers that it gives: those of the encoder it was trained to predict.

    Raises:
        UsageError: not three levels, or an empty one.
    """

    widths: tuple[int, ...] = (48, 96, 160)
    depths: tuple[int, ...] = (1, 2, 3)
    channels: tuple[int, ...] = (96, 192, 256)

    def __post_init__(self) -> None:
        sizes = (self.widths, self.depths, self.channels)
        if any(len(one) != 3 or min(one) < 1 for one in sizes):
            raise UsageError(f"mobile has three levels, with three numbers above 0 each for all sizes, not {sizes}")


class Mobile(Teacher):
    """``[B, 3, H, W]`` in ``[0, 1]`` to named feature maps; sides of any length from 16 pixels on.

    Args:
        config: the sizes.
        normalised: with the batch normalisations that training needs.
    """

    def __init__(self, config: MobileConfig | None = None, *, normalised: bool = False) -> None:
        super().__init__()
        self.config = config or MobileConfig()
        self.stem = _convolution(3, self.config.widths[0], 4, stride=2, normalised=normalised)
        self.levels, self.heads = nn.ModuleList(), nn.ModuleList()
        channels = self.config.widths[0]
        for width, depth, given in zip(self.config.widths, self.config.depths, self.config.channels, strict=True):
            blocks = []
            for _ in range(depth):
                blocks.append(_Separable(channels, width, normalised=normalised))
                channels = width
            self.levels.append(nn.Sequential(*blocks))
            self.heads.append(nn.Conv2d(width, given, 1))
        strides = zip((2, 4, 8), self.config.channels, strict=True)
        layers = dict(zip(NAMES, strides, strict=True))
        self.spec = TeacherSpec("mobile", layers, style_layers=NAMES, content_layers=NAMES[-1:])

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``; computation stops after the deepest one."""
        features = torch.relu(self.stem(picture * 4 - 2))
        found: dict[str, Tensor] = {}
        for index, (name, level, head) in enumerate(zip(NAMES, self.levels, self.heads, strict=True)):
            if index:
                features = functional.avg_pool2d(features, 2)
            features = level(features)
            if name in layers:
                found[name] = torch.relu(head(features))
            if len(found) == len(layers):
                break
        return found


class _Separable(nn.Module):
    """A convolution of each channel, ReLU, one over channels, ReLU; the input is added where it fits."""

    def __init__(self, channels: int, width: int, *, normalised: bool) -> None:
        super().__init__()
        self.depthwise = _convolution(channels, channels, 3, groups=channels, normalised=normalised)
        self.pointwise = _convolution(channels, width, 1, normalised=normalised)
        self.adds = channels == width

    def forward(self, features: Tensor) -> Tensor:
        """``[B, channels, h, w]`` to ``[B, width, h, w]``."""
        new = torch.relu(self.pointwise(torch.relu(self.depthwise(features))))
        return features + new if self.adds else new


def _convolution(
    channels: int, width: int, size: int, *, normalised: bool, stride: int = 1, groups: int = 1
) -> nn.Module:
    padding = (size - 1) // 2
    convolution = nn.Conv2d(channels, width, size, stride, padding, groups=groups, bias=not normalised)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width)) if normalised else convolution


def folded_mobile(trained: Mobile) -> Mobile:
    """The trained network with each batch normalisation merged into its convolution, frozen."""
    mobile = Mobile(trained.config)
    with torch.no_grad():
        for name, module in trained.named_modules():
            if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(cast("nn.Conv2d", module[0].eval()), module[1].eval())
                mobile.get_submodule(name).load_state_dict(fused.state_dict())
        mobile.heads.load_state_dict(trained.heads.state_dict())
    frozen = mobile.freeze()
    assert isinstance(frozen, Mobile)
    return frozen


def build_mobile(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> Mobile:
    """A frozen ``mobile`` from its tensors and the texts of the file's header, which state the network's sizes.

    Raises:
        WeightsError: sizes that are missing or do not fit the tensors.
    """
    try:
        sizes = json.loads(texts["mobile"])
        mobile = Mobile(MobileConfig(**{key: tuple(values) for key, values in sizes.items()}))
        mobile.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        raise WeightsError(f"these weights are no mobile, or do not fit the sizes in their header: {error}") from error
    mobile.freeze()
    return mobile

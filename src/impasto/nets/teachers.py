"""Perceptual networks that serve as losses in training: named feature maps of ImageNet classifiers.

A teacher is described by :class:`TeacherSpec`: which layers it gives, at which stride and with how many channels. Its
preprocessing belongs to it: every teacher takes RGB in ``[0, 1]``. Key names are those of the files people have:
torchvision's ``squeezenet1_0`` and ``vgg16`` / ``vgg19``, the AdaIN authors' normalised VGG-19, and the TensorFlow
Inception-v3 stem.

Sources: SqueezeNet, Iandola et al. 2016 (arXiv:1602.07360); VGG, Simonyan & Zisserman 2014 (arXiv:1409.1556);
Inception-v3, Szegedy et al. 2015 (arXiv:1512.00567).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import WeightsError

__all__ = [
    "TEACHERS",
    "InceptionStem",
    "SqueezeNet",
    "Teacher",
    "TeacherSpec",
    "Vgg",
    "VggNormalised",
    "build_teacher",
    "recognise",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TeacherSpec:
    """Facts about a feature network.

    Attributes:
        name: of the network.
        layers: all layers in order, with their stride and channels.
        style_layers: those that a style loss looks at.
        content_layers: those that a content loss looks at.
        origins: pixel coordinate at the centre of a layer's first position, for networks whose convolutions do not pad;
            ``(stride - 1) / 2`` for the others.
    """

    name: str
    layers: Mapping[str, tuple[int, int]]
    style_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    origins: Mapping[str, float] = field(default_factory=dict)

    def origin(self, layer: str) -> float:
        """Pixel coordinate at the centre of a layer's first position."""
        return self.origins.get(layer, (self.layers[layer][0] - 1) / 2)

    def deepest(self, stride: int) -> str:
        """The deepest layer whose stride is at most this."""
        return [name for name, (own, _) in self.layers.items() if own <= stride][-1]


class Teacher(nn.Module):
    """Base of the feature networks: frozen, ``[B, 3, H, W]`` in ``[0, 1]`` to named feature maps."""

    spec: TeacherSpec
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``; computation stops after the deepest one asked for."""
        raise NotImplementedError

    def stored_key(self, key: str) -> str:
        """Name that a parameter of this module has in the weights file."""
        return key

    def freeze(self) -> Teacher:
        """No gradient for the weights, evaluation mode; gradients still flow to the picture."""
        return self.requires_grad_(False).eval()


class Fire(nn.Module):
    """SqueezeNet's module: a 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, channels, h, w]`` to ``[B, 2 * expanded, h, w]``."""
        squeezed = torch.relu(self.squeeze(features))
        return torch.relu(torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1))


class SqueezeNet(Teacher):
    """``torchvision.models.squeezenet1_0`` to ``fire9``."""

    spec = TeacherSpec(
        "squeezenet1_0",
        {
            "conv1": (2, 96),
            "fire2": (4, 128),
            "fire3": (4, 128),
            "fire4": (4, 256),
            "fire5": (8, 256),
            "fire6": (8, 384),
            "fire7": (8, 384),
            "fire8": (8, 512),
            "fire9": (16, 512),
        },
        style_layers=("conv1", "fire2", "fire3", "fire4", "fire6"),
        content_layers=("fire6",),
        # No padding in conv1 (7x7, stride 2) nor in the pools (3x3, stride 2): i -> 2i + 3, k -> 2(2k + 1) + 3, ...
        origins={"conv1": 3, "fire2": 5, "fire3": 5, "fire4": 5}
        | {"fire5": 9, "fire6": 9, "fire7": 9, "fire8": 9, "fire9": 17},
    )
    _position: ClassVar = dict(zip(spec.layers, (1, 3, 4, 5, 7, 8, 9, 10, 12), strict=True))  # in `features`

    def __init__(self) -> None:
        super().__init__()
        pool: Callable[[], nn.MaxPool2d] = lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True)  # noqa: E731
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2),
            nn.ReLU(),
            pool(),
            Fire(96, 16, 64),
            Fire(128, 16, 64),
            Fire(128, 32, 128),
            pool(),
            Fire(256, 32, 128),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            pool(),
            Fire(512, 64, 256),
        )

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``."""
        wanted = {self._position[layer]: layer for layer in layers}
        features = (picture - self.mean) / self.std
        found = {}
        for index in range(max(wanted) + 1):
            features = self.features[index](features)
            if index in wanted:
                found[wanted[index]] = features
        return found


class Vgg(Teacher):
    """``torchvision.models.vgg16`` or ``vgg19``, convolutions only; layers are ``relu{block}_{index}``."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        self._plan: list[tuple[str, str]] = []
        channels, position = 3, 0
        layers: dict[str, tuple[int, int]] = {}
        for block, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True), start=1):
            for index in range(1, depth + 1):
                self.features[str(position)] = nn.Conv2d(channels, width, 3, padding=1)
                layers[f"relu{block}_{index}"] = (2 ** (block - 1), width)
                self._plan.append((str(position), f"relu{block}_{index}"))
                channels, position = width, position + 2
            self._plan.append(("", "pool"))
            position += 1
        self.spec = TeacherSpec(
            f"vgg{sum(depths) + 3}",
            layers,
            style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1"),
            content_layers=("relu3_1", "relu4_1"),
        )

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``."""
        features = (picture - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for key, name in self._plan:
            features = torch.relu_(self.features[key](features)) if key else functional.max_pool2d(features, 2)
            if name in layers:
                found[name] = features
            if len(found) == len(layers):
                break
        return found


class VggNormalised(Vgg):
    """VGG-19 to ``relu5_1`` in the layout of the AdaIN authors (Huang & Belongie 2017, arXiv:1703.06868).

    Its weights are scaled so that every layer's mean activation is 1; a first 1x1 convolution holds the preprocessing,
    and borders are reflected. Keys are the positions in the original sequence: ``0``, ``2``, ``5``, ``9``, ...
    """

    _positions: ClassVar = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42)

    def __init__(self) -> None:
        super().__init__((2, 2, 4, 4, 1))
        self.first = nn.Conv2d(3, 3, 1)
        self._stored = {
            f"features.{key}": str(position)
            for key, position in zip((key for key, _ in self._plan if key), self._positions, strict=True)
        } | {"first": "0"}
        self.spec = replace(self.spec, name="vgg_normalised", content_layers=("relu4_1",))

    def stored_key(self, key: str) -> str:
        """``features.0.weight`` is ``2.weight`` in the file."""
        module, _, parameter = key.rpartition(".")
        return f"{self._stored[module]}.{parameter}"

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``."""
        features = self.first(picture)
        found: dict[str, Tensor] = {}
        for key, name in self._plan:
            if key:
                convolution = self.features[key]
                padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
                features = torch.relu(functional.conv2d(padded, convolution.weight, convolution.bias))  # type: ignore[arg-type]
            else:
                features = functional.max_pool2d(features, 2, ceil_mode=True)
            if name in layers:
                found[name] = features
            if len(found) == len(layers):
                break
        return found


class InceptionStem(Teacher):
    """TensorFlow Inception-v3 from the stem to ``mixed_2``, batch normalisation folded."""

    spec = TeacherSpec(
        "inception_v3_stem",
        {
            "conv": (2, 32),
            "conv_1": (2, 32),
            "conv_2": (2, 64),
            "conv_3": (4, 80),
            "conv_4": (4, 192),
            "mixed": (8, 256),
            "mixed_1": (8, 288),
            "mixed_2": (8, 288),
        },
        style_layers=("conv_2", "conv_4", "mixed"),
        content_layers=("mixed",),
        # conv, conv_1 and conv_4 (3x3) and the pools (3x3, stride 2) do not pad.
        origins={"conv": 1, "conv_1": 3, "conv_2": 3, "conv_3": 5, "conv_4": 9}
        | {"mixed": 13, "mixed_1": 13, "mixed_2": 13},
    )

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=2)
        self.conv_1 = nn.Conv2d(32, 32, 3)
        self.conv_2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv_3 = nn.Conv2d(64, 80, 1)
        self.conv_4 = nn.Conv2d(80, 192, 3)
        self.mixed = _InceptionBlock(192, 32)
        self.mixed_1 = _InceptionBlock(256, 64)
        self.mixed_2 = _InceptionBlock(288, 64)

    def stored_key(self, key: str) -> str:
        """``mixed_1.tower_conv.weight`` is ``mixed_1_tower_conv.weight`` in TensorFlow's naming."""
        return key.replace(".", "_", 1) if key.count(".") == 2 else key

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``."""
        features = picture * 2 - 1
        found: dict[str, Tensor] = {}
        for name in self.spec.layers:
            if name in ("conv_3", "mixed"):
                features = functional.max_pool2d(features, 3, stride=2)
            features = self.get_submodule(name)(features)
            if not name.startswith("mixed"):
                features = torch.relu(features)
            if name in layers:
                found[name] = features
            if len(found) == len(layers):
                break
        return found


class _InceptionBlock(nn.Module):
    """Four towers side by side: 1x1, 1x1-5x5, 1x1-3x3-3x3, average-1x1."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 64, 1)
        self.tower_conv = nn.Conv2d(channels, 48, 1)
        self.tower_conv_1 = nn.Conv2d(48, 64, 5, padding=2)
        self.tower_1_conv = nn.Conv2d(channels, 64, 1)
        self.tower_1_conv_1 = nn.Conv2d(64, 96, 3, padding=1)
        self.tower_1_conv_2 = nn.Conv2d(96, 96, 3, padding=1)
        self.tower_2_conv = nn.Conv2d(channels, pooled, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, channels, h, w]`` to ``[B, 224 + pooled, h, w]``."""
        five = self.tower_conv_1(torch.relu(self.tower_conv(features)))
        three = self.tower_1_conv_1(torch.relu(self.tower_1_conv(features)))
        three = self.tower_1_conv_2(torch.relu(three))
        average = functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
        return torch.relu(torch.cat([self.conv(features), five, three, self.tower_2_conv(average)], dim=1))


TEACHERS: dict[str, Callable[[], Teacher]] = {
    "squeezenet1_0": SqueezeNet,
    "inception_v3_stem": InceptionStem,
    "vgg16": lambda: Vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: Vgg((2, 2, 4, 4, 4)),
    "vgg_normalised": VggNormalised,
}


def recognise(state: Mapping[str, Tensor]) -> str:
    """Name of the teacher whose layout a ``state_dict`` has.

    Raises:
        WeightsError: the keys belong to none of :data:`TEACHERS`.
    """
    if "features.3.squeeze.weight" in state:
        return "squeezenet1_0"
    if "mixed_tower_conv.weight" in state:
        return "inception_v3_stem"
    if "features.34.weight" in state:
        return "vgg19"
    if "features.28.weight" in state:
        return "vgg16"
    if "0.weight" in state and "2.weight" in state and "42.weight" in state:
        return "vgg_normalised"
    raise WeightsError(
        f"these weights have the layout of no known teacher (known: {', '.join(TEACHERS)}); "
        f"their first keys are {', '.join(list(state)[:3]) or 'none'}"
    )


def build_teacher(state: Mapping[str, Tensor]) -> Teacher:
    """A frozen teacher from a ``state_dict`` in its original layout; extra layers (classifiers) are left out.

    Raises:
        WeightsError: unknown layout, a layer missing, or a shape that does not fit.
    """
    teacher = TEACHERS[recognise(state)]()
    own = {key: teacher.stored_key(key) for key in teacher.state_dict()}
    missing = sorted(stored for stored in own.values() if stored not in state)
    shapes = {key: tensor.shape for key, tensor in teacher.state_dict().items()}
    wrong = [stored for key, stored in own.items() if stored in state and shapes[key] != state[stored].shape]
    if missing or wrong:
        raise WeightsError(
            f"these weights resemble the teacher {teacher.spec.name}, but are not complete: "
            f"missing {missing[:3]}, wrong shape {wrong[:3]}"
        )
    teacher.load_state_dict({key: state[stored].float() for key, stored in own.items()})
    return teacher.freeze()

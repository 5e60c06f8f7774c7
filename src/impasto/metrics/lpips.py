"""LPIPS with its official backbones and heads, which their owners give as files (Zhang et al. 2018, arXiv:1801.03924).

The name LPIPS belongs to the networks and heads that its authors published. The backbones are torchvision's ``vgg16``
and ``alexnet``; the heads, a few kilobytes, lie in the package ``lpips`` (``weights/v0.1/vgg.pth``, ``alex.pth``). None
of them comes with impasto. The same idea over another network, without heads, is
:func:`impasto.metrics.features.perceptual_distance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import UsageError, WeightsError
from impasto.nets.teachers import Teacher, TeacherSpec, build_teacher
from impasto.weights.files import read_tensors

__all__ = ["AlexNet", "Lpips", "load_lpips"]


class AlexNet(Teacher):
    """``torchvision.models.alexnet``, convolutions only (Krizhevsky 2014, arXiv:1404.5997)."""

    spec = TeacherSpec(
        "alexnet",
        {"relu1": (4, 64), "relu2": (8, 192), "relu3": (16, 384), "relu4": (16, 256), "relu5": (16, 256)},
        style_layers=("relu1", "relu2", "relu3", "relu4", "relu5"),
        content_layers=("relu5",),
    )
    _position: ClassVar = dict(zip(spec.layers, (1, 4, 7, 9, 11), strict=True))  # in `features`

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, picture: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Feature maps of ``layers``."""
        wanted = {self._position[layer]: layer for layer in layers}
        features, found = (picture - self.mean) / self.std, {}
        for index in range(max(wanted) + 1):
            features = self.features[index](features)
            if index in wanted:
                found[wanted[index]] = features
        return found


_LAYERS = {
    "alexnet": ("alex", ("relu1", "relu2", "relu3", "relu4", "relu5")),
    "vgg16": ("vgg", ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")),
}


class Lpips:
    """A backbone with the heads that were trained for it.

    Attributes:
        name: ``lpips-vgg`` or ``lpips-alex``.
        network: the backbone.
        layers: of it that are compared.

    Raises:
        WeightsError: a backbone that has no heads, or heads of another backbone.
    """

    def __init__(self, network: Teacher, heads: Mapping[str, Tensor]) -> None:
        if network.spec.name not in _LAYERS:
            raise WeightsError(f"LPIPS is defined over {' and '.join(_LAYERS)}, not over {network.spec.name}")
        short, self.layers = _LAYERS[network.spec.name]
        self.name, self.network = f"lpips-{short}", network
        self._heads: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            key, channels = f"lin{index}.model.1.weight", network.spec.layers[layer][1]
            if key not in heads or tuple(heads[key].shape) != (1, channels, 1, 1):
                found = tuple(heads[key].shape) if key in heads else "missing"
                raise WeightsError(
                    f"these are not the LPIPS heads of {network.spec.name}: {key} is {found}, (1, {channels}, 1, 1) is "
                    "needed; they lie in the package lpips under weights/v0.1"
                )
            self._heads[layer] = heads[key].float()

    def distance(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
        """LPIPS of two pictures' features, 0 for equal pictures. Symmetric.

        Args:
            first: maps of :attr:`layers`, from :func:`impasto.metrics.features.look`.
            second: of the same size.

        Raises:
            UsageError: the pictures differ in size.
        """
        total = 0.0
        for layer, head in self._heads.items():
            one, other = first[layer], second[layer]
            if one.shape != other.shape:
                raise UsageError(f"pictures of one size can be compared, not {tuple(one.shape)}, {tuple(other.shape)}")
            gap = functional.normalize(one, dim=1, eps=1e-10) - functional.normalize(other, dim=1, eps=1e-10)
            total += float(functional.conv2d(gap.square(), head.to(gap.device)).mean())  # eq. 1
        return total


def load_lpips(backbone: Path, heads: Path) -> Lpips:
    """LPIPS from its two files.

    Args:
        backbone: torchvision's ``vgg16`` or ``alexnet``, ``.pth`` or ``.safetensors``.
        heads: ``vgg.pth`` or ``alex.pth`` of the package lpips, version 0.1.

    Raises:
        WeightsError: a file is missing or damaged, or the two do not belong together.
    """
    state, _ = read_tensors(backbone)
    try:
        return Lpips(_alexnet(state) if _is_alexnet(state) else build_teacher(state), read_tensors(heads)[0])
    except WeightsError as error:
        raise WeightsError(f"'{backbone}', '{heads}': {error}") from error


def _is_alexnet(state: Mapping[str, Tensor]) -> bool:
    first = state.get("features.0.weight")
    return first is not None and tuple(first.shape) == (64, 3, 11, 11)


def _alexnet(state: Mapping[str, Tensor]) -> Teacher:
    network = AlexNet()
    try:
        network.load_state_dict({key: state[key].float() for key in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"these weights resemble alexnet, but are not complete: {error}") from error
    return network.freeze()

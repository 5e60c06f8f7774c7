"""How ``lens`` is trained: it learns to predict what ImageNet classifiers see, without a label.

Feature distillation (Hinton et al. 2015, arXiv:1503.02531; with 1x1 regression heads as in FitNets, Romero et al. 2014,
arXiv:1412.6550). For a layer ``t`` of a teacher with stride ``s``, a linear head ``W_t`` reads the last lens layer of
the same stride, and

    L_t = mean((W_t lens(x) - (T_t(x) - m_t) / d_t)^2)

where ``m_t``, ``d_t`` are each channel's mean and deviation over the pictures: a value of 1 is no knowledge, 0 is
all of it. Teachers whose convolutions do not pad stand on another grid; the lens features are interpolated to it. A
teacher's first convolution is also run at stride 1, so that the layers at full resolution have something to learn from.
A second term compares Gram matrices of both sides, because style losses will.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from impasto.losses.statistics import feature_statistics, style_distance
from impasto.nets.lens import Lens, LensTrunk, folded, lens_layers
from impasto.nets.teachers import InceptionStem, SqueezeNet, Teacher
from impasto.training.data import CropRule, PictureSet
from impasto.training.loop import Batch
from impasto.training.recipe import LensRecipe

__all__ = ["LensStudent", "LensTask", "resample"]

DENSE = "dense"  # a teacher's first convolution at stride 1


@dataclass(frozen=True)
class Place:
    """Where a target's positions lie on the grid of the lens layer that predicts it.

    Attributes:
        source: the lens layer.
        start: fractional indices of the first position, down and to the right.
        step: indices between two positions.
        size: rows and columns.
    """

    source: str
    start: tuple[float, float]
    step: int
    size: tuple[int, int]


class LensStudent(nn.Module):
    """The network in training with one linear head for each layer of each teacher."""

    def __init__(self, recipe: LensRecipe, targets: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.trunk = LensTrunk(recipe.network)
        layers = lens_layers(recipe.network)
        widths = dict(layers.values())
        self.heads = nn.ModuleDict(
            {
                _module_name(target): nn.Conv2d(widths[stride], channels, 1)
                for target, (stride, channels) in targets.items()
            }
        )

    def forward(self, picture: Tensor, places: Mapping[str, Place]) -> dict[str, Tensor]:
        """Predictions of the targets at their places, ``{target: [B, C, *size]}``.

        Heads are linear, so the features are interpolated before them, once for all targets of the same grid.
        """
        features = self.trunk(picture)
        resampled: dict[Place, Tensor] = {}
        predicted = {}
        for target, place in places.items():
            if place not in resampled:
                resampled[place] = resample(features[place.source], place.start, place.size, place.step)
            predicted[target] = self.heads[_module_name(target)](resampled[place])
        return predicted


def _module_name(target: str) -> str:
    return target.replace(".", ":")


def resample(features: Tensor, start: tuple[float, float], size: tuple[int, int], step: int = 1) -> Tensor:
    """Bilinear interpolation at ``start + 0, step, 2 step, ...`` in each direction: ``[B, C, *size]``.

    ``start`` are fractional indices into ``features``; positions past the last row or column repeat it.
    """
    for dimension, (begin, length) in enumerate(zip(start, size, strict=True), start=2):
        whole = int(np.floor(begin))
        near = _taken(features, dimension, whole, length, step)
        share = begin - whole
        if share > 1e-6:
            near = torch.lerp(near, _taken(features, dimension, whole + 1, length, step), share)
        features = near
    return features


def _taken(features: Tensor, dimension: int, first: int, length: int, step: int) -> Tensor:
    """``length`` rows or columns from ``first`` on, a view where they all exist."""
    last, available = first + step * (length - 1), features.shape[dimension]
    if first >= 0 and last < available:
        part = slice(first, last + 1, step)
        return features[:, :, part] if dimension == 2 else features[:, :, :, part]
    index = torch.arange(first, last + 1, step, device=features.device).clamp(0, available - 1)
    return features.index_select(dimension, index)


class LensTask:
    """The :class:`~impasto.training.loop.Task` of the perceptual encoder."""

    def __init__(
        self, recipe: LensRecipe, photographs: PictureSet, artworks: PictureSet, teachers: Sequence[Teacher]
    ) -> None:
        self.recipe = recipe
        self.photographs = photographs
        self.artworks = artworks
        self.teachers = list(teachers)
        self.steps = recipe.steps
        self.scales: dict[str, tuple[Tensor, Tensor]] = {}
        self.targets: dict[str, tuple[int, int]] = {}
        for teacher in self.teachers:
            name = teacher.spec.name
            self.targets |= {f"{name}.{layer}": facts for layer, facts in teacher.spec.layers.items()}
            first = _first_convolution(teacher)
            if first is not None:
                self.targets[f"{name}.{DENSE}"] = (1, first.out_channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = LensStudent(recipe, self.targets)

    def batch(self, step: int, index: int) -> Batch:
        """Crops ``[B, 3, size, size]``, uint8."""
        stage, data = self.recipe.stage_at(step), self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        rule = CropRule(stage.size, data.smallest, data.largest, data.jitter, data.grey)
        painted = int(rng.binomial(stage.batch, data.art))
        photographs = self.photographs.crops(rng, stage.batch - painted, rule)
        return {"picture": np.concatenate([photographs, self.artworks.crops(rng, painted, rule)])}

    def prepare(self, device: torch.device) -> None:
        """Move the teachers over and measure mean and deviation of each of their channels."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        rule = CropRule(self.recipe.stages[0].size, self.recipe.data.smallest, self.recipe.data.largest)
        crops = np.concatenate([self.photographs.crops(rng, 48, rule), self.artworks.crops(rng, 48, rule)])
        for teacher in self.teachers:
            teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        with torch.no_grad():
            for part in np.array_split(crops, 12):
                for target, maps in self._seen(_to_float(torch.from_numpy(part).to(device)), (0, 0)).items():
                    found = (maps.mean((0, 2, 3)) / 12, maps.square().mean((0, 2, 3)) / 12)
                    old = sums.get(target)
                    sums[target] = found if old is None else (old[0] + found[0], old[1] + found[1])
        for target, (mean, power) in sums.items():
            deviation = torch.sqrt((power - mean.square()).clamp_min(0))
            # Nearly dead channels are not blown up beyond a fifth of the median.
            gain = 1 / deviation.clamp_min(float(deviation.median()) / 5 + 1e-6)
            self.scales[target] = (gain[:, None, None], (-mean * gain)[:, None, None])

    def _seen(self, picture: Tensor, phase: tuple[int, int]) -> dict[str, Tensor]:
        """Features of all teachers, ``{target: [B, C, h, w]}``.

        Of the first convolution at stride 1, which has more positions than it needs, one in four is computed: every
        second row and column from ``phase`` on.
        """
        found: dict[str, Tensor] = {}
        for teacher in self.teachers:
            maps = teacher(picture, tuple(teacher.spec.layers))
            found |= {f"{teacher.spec.name}.{layer}": value.float() for layer, value in maps.items()}
            first = _first_convolution(teacher)
            if first is not None:
                prepared = _prepared(teacher, picture)
                dense = functional.conv2d(prepared[:, :, phase[0] :, phase[1] :], first.weight, first.bias, stride=2)
                found[f"{teacher.spec.name}.{DENSE}"] = torch.relu(dense).float()
        return found

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """One term for each target, and the Gram agreement of all."""
        weights = self.recipe.weights_at(step)
        picture = _to_float(batch["picture"])
        rng = np.random.default_rng([self.recipe.seed, step, 1])
        phase = int(rng.integers(2)), int(rng.integers(2))
        with torch.no_grad():
            wanted = {}
            for target, maps in self._seen(picture, phase).items():
                gain, shift = self.scales[target]
                wanted[target] = torch.addcmul(shift, maps, gain)  # (maps - mean) / deviation
        places = {target: self._place(target, phase, _size(maps)) for target, maps in wanted.items()}
        predicted = model(picture, places)
        terms: dict[str, Tensor] = {}
        compared = rng.choice(len(wanted), size=len(wanted) // 2, replace=False)  # half of the Gram matrices a step
        grams = []
        for index, (target, true) in enumerate(wanted.items()):
            guess = predicted[target].float()
            terms[target] = weights.features / len(wanted) * functional.mse_loss(guess, true)
            if weights.gram > 0 and index in compared:
                grams.append(_gram_distance(guess, true))
        if grams:
            terms["gram"] = weights.gram * torch.stack(grams).mean()
        return terms

    def _place(self, target: str, phase: tuple[int, int], size: tuple[int, int]) -> Place:
        """Where the positions of a target lie on the lens's grid."""
        name, _, layer = target.partition(".")
        teacher = next(one for one in self.teachers if one.spec.name == name)
        student = self.source_of(target)
        first = _first_convolution(teacher)
        if layer == DENSE and first is not None:
            origin = (first.kernel_size[0] - 1) / 2
            return Place(student, (phase[0] + origin, phase[1] + origin), 2, size)
        stride = teacher.spec.layers[layer][0]
        start = (teacher.spec.origin(layer) - (stride - 1) / 2) / stride
        return Place(student, (start, start), 1, size)

    def source_of(self, target: str) -> str:
        """The lens layer that predicts a target: the last one of its stride."""
        layers = lens_layers(self.recipe.network)
        return {stride: name for name, (stride, _) in layers.items()}[self.targets[target][0]]

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Artworks above, below what is left of them in the lens: noise optimised to their Gram matrices."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        size = 128
        crops = self.artworks.crops(rng, 4, CropRule(size, 0.6, 1.0))
        styles = _to_float(torch.from_numpy(crops).to(device))
        trunk = model.trunk
        if not isinstance(trunk, LensTrunk):
            raise TypeError("the sheet shows a LensStudent")
        textures = _textures(folded(trunk).to(device), styles, steps=60)
        both = torch.cat([styles, textures]).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        sheet = Image.new("RGB", (4 * size, 2 * size))
        for index, pixels in enumerate(both):
            sheet.paste(Image.fromarray(pixels), (index % 4 * size, index // 4 * size))
        return sheet


def _textures(lens: Lens, styles: Tensor, steps: int) -> Tensor:
    """Noise whose feature statistics were brought near those of ``styles``."""
    layers = lens.spec.style_layers
    with torch.no_grad():
        targets = {name: feature_statistics(maps) for name, maps in lens(styles, layers).items()}
    generator = torch.Generator().manual_seed(0)
    noise = 0.5 + 0.1 * torch.randn(styles.shape, generator=generator)
    with torch.enable_grad():
        picture = noise.to(styles).contiguous(memory_format=torch.channels_last).requires_grad_()
        optimiser = torch.optim.Adam([picture], lr=0.03)
        for _ in range(steps):
            optimiser.zero_grad()
            found = lens(picture, layers)
            distances = [style_distance(feature_statistics(found[name]), targets[name]) for name in layers]
            torch.stack(distances).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return picture.detach()


def _gram_distance(guess: Tensor, true: Tensor) -> Tensor:
    """Squared distance of the Gram matrices ``[B, C, C]``, in parts of the true one's square."""
    rows = [maps.permute(0, 2, 3, 1).flatten(1, 2) for maps in (guess, true)]  # [B, N, C], views of channels_last
    grams = [torch.matmul(one.transpose(1, 2), one) / one.shape[1] for one in rows]
    return (grams[0] - grams[1]).square().sum((1, 2)).div(grams[1].square().sum((1, 2)) + 1e-6).mean()


def _first_convolution(teacher: Teacher) -> nn.Conv2d | None:
    """The convolution on pixels, of teachers that have it strided."""
    if isinstance(teacher, SqueezeNet):
        first = teacher.features[0]
        return first if isinstance(first, nn.Conv2d) else None
    return teacher.conv if isinstance(teacher, InceptionStem) else None


def _prepared(teacher: Teacher, picture: Tensor) -> Tensor:
    return picture * 2 - 1 if isinstance(teacher, InceptionStem) else (picture - teacher.mean) / teacher.std


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)

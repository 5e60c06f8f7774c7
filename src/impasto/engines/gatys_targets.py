"""What ``gatys`` aims at: statistics and features of the styles, and where in the picture each of them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from impasto.field import slerp
from impasto.losses.bures import GaussianTarget, gaussian_wasserstein
from impasto.losses.matching import FeatureBank
from impasto.losses.statistics import FeatureSums, Statistics, gatys_gram_loss, statistics_of

__all__ = [
    "BANK",
    "COLOURS",
    "Guide",
    "Layers",
    "StyleTarget",
    "fitted",
    "hypercolumn_maps",
    "hypercolumns",
    "layer_distance",
    "merged",
    "style_target",
]

COLOURS = "colours"  # the picture itself as a layer
FLAT = 0.05  # added to a style's spread, in parts of its power: a flat style does not make all else unimportant
LEAST_SPREAD = 0.03  # of colours, squared: a tenth of the range in each channel
BANK = 4096  # features of a style that the picture's choose from


@dataclass(frozen=True)
class Layers:
    """Which layers of the encoder are used for what.

    Attributes:
        style: layers whose statistics are compared.
        content: layers whose features are kept.
        matched: layers that make up a hypercolumn, see :func:`hypercolumns`; empty where no loss needs them.
    """

    style: tuple[str, ...]
    content: tuple[str, ...]
    matched: tuple[str, ...]

    @property
    def measured(self) -> tuple[str, ...]:
        """Layers whose sums are taken for the style: those of the encoder, and the colours."""
        return (*self.style, COLOURS)

    @property
    def all(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys((*self.style, *self.content, *self.matched)))


@dataclass(frozen=True)
class StyleTarget:
    """A style as the encoder sees it.

    Attributes:
        statistics: of each layer, ``B = 1``.
        gaussians: the same as :class:`~impasto.losses.bures.GaussianTarget`, where the loss needs them.
        bank: hypercolumns to choose from, where the loss needs them, each layer divided by its ``loudness``.
        loudness: ``[sum C]``, root mean square length of each layer's feature vectors, so that all layers count alike.
    """

    statistics: Mapping[str, Statistics]
    gaussians: Mapping[str, GaussianTarget]
    bank: FeatureBank | None
    loudness: Tensor | None


@dataclass(frozen=True)
class Guide:
    """One part of the style field at one size.

    Attributes:
        target: what it aims at; None for the content's own code.
        region: number of its guidance map among those of the field, None where it is the whole picture.
        share: its part of the whole: the mean of its weights over the places where the field is not empty.
        scale: its weights are this many times the guidance map, which several guides can have in common.
    """

    target: StyleTarget | None
    region: int | None
    share: float
    scale: float


def hypercolumns(features: Mapping[str, Tensor], strides: Mapping[str, int]) -> Tensor:
    """Features of several layers stacked at the resolution of the first: ``[1, sum C, h, w]``.

    Coarser layers are enlarged by the ratio of the strides, whatever was rounded off at the border, so that a place has
    the same hypercolumn in a tile as in the whole picture.

    Args:
        features: of each layer, the finest first.
        strides: of each layer, in pixels.
    """
    return torch.cat(hypercolumn_maps(features, strides), 1)


def hypercolumn_maps(features: Mapping[str, Tensor], strides: Mapping[str, int]) -> list[Tensor]:
    """The layers of :func:`hypercolumns`, not yet stacked."""
    (first, found), *others = features.items()
    parts = [found]
    for layer, part in others:
        ratio = strides[layer] / strides[first]
        if ratio != 1:
            part = functional.interpolate(part, scale_factor=ratio, mode="bilinear", align_corners=False)
        parts.append(fitted(part, (found.shape[2], found.shape[3])))
    return parts


def fitted(features: Tensor, size: tuple[int, int]) -> Tensor:
    """The first rows and columns of a map, the last ones repeated where it has too few."""
    below, right = max(0, size[0] - features.shape[2]), max(0, size[1] - features.shape[3])
    if below or right:
        features = functional.pad(features, (0, right, 0, below), mode="replicate")
    return features[:, :, : size[0], : size[1]]


def style_target(
    sums: Mapping[str, FeatureSums], columns: Tensor | None, *, layers: Layers, loss: str, seed: int
) -> StyleTarget:
    """A style's target from sums of its features.

    Args:
        sums: of each style and matched layer.
        columns: hypercolumns ``[M, sum C]``, where the loss needs them.
        layers: of the encoder.
        loss: which, see :class:`~impasto.engines.gatys_options.GatysOptions`.
        seed: chooses the hypercolumns that are kept.
    """
    statistics = {layer: statistics_of(found) for layer, found in sums.items()}
    gaussians = {}
    if loss in ("wasserstein", "nearest"):
        gaussians = {
            layer: GaussianTarget(statistics[layer].mean, statistics[layer].covariance) for layer in layers.style
        }
    colours = statistics[COLOURS]
    gaussians[COLOURS] = GaussianTarget(colours.mean, colours.covariance)
    if columns is None:
        return StyleTarget(statistics, gaussians, None, None)
    loudness = torch.cat([_loudness(statistics[layer]) for layer in layers.matched])
    if columns.shape[0] > BANK:
        order = torch.randperm(columns.shape[0], generator=torch.Generator().manual_seed(seed))[:BANK]
        columns = columns[order.to(columns.device)]
    return StyleTarget(statistics, gaussians, FeatureBank(columns / loudness), loudness)


def _loudness(statistics: Statistics) -> Tensor:
    """Root mean square length of a layer's vectors, repeated for its channels: ``[C]``."""
    power = statistics.mean.square().sum() + torch.diagonal(statistics.covariance, dim1=1, dim2=2).sum()
    return power.clamp_min(1e-12).sqrt().expand(statistics.mean.shape[1])


def merged(targets: Sequence[StyleTarget], shares: Sequence[float]) -> StyleTarget:
    """One target between several, on the sphere: mean vectors and square roots of covariances are slerped.

    The banks are joined, each style with as many features as its share says.
    """
    statistics: dict[str, Statistics] = {}
    gaussians: dict[str, GaussianTarget] = {}
    for layer, first in targets[0].statistics.items():
        mean, root, used = first.mean, GaussianTarget(first.mean, first.covariance).root, shares[0]
        for target, share in zip(targets[1:], shares[1:], strict=True):
            used += share
            other = target.statistics[layer]
            portion = share / used if used > 0 else 0.0
            mean = _slerped(mean, other.mean, portion)
            root = _slerped(root, GaussianTarget(other.mean, other.covariance).root, portion)
        covariance = root @ root
        deviation = torch.sqrt(torch.diagonal(covariance, dim1=1, dim2=2).clamp_min(0) + 1e-4)
        statistics[layer] = Statistics(mean, deviation, covariance)
        if layer in targets[0].gaussians:
            gaussians[layer] = GaussianTarget(mean, covariance)
    return StyleTarget(statistics, gaussians, *_joined(targets, shares))


def _joined(targets: Sequence[StyleTarget], shares: Sequence[float]) -> tuple[FeatureBank | None, Tensor | None]:
    """The banks as one, in the loudness of the first."""
    loudness = targets[0].loudness
    if loudness is None:
        return None, None
    parts = []
    for target, share in zip(targets, shares, strict=True):
        if target.bank is not None and target.loudness is not None and share > 0:
            rows = max(1, round(share / sum(shares) * target.bank.features.shape[0]))
            parts.append(target.bank.features[:rows] * (target.loudness / loudness))
    return FeatureBank(torch.cat(parts)), loudness


def _slerped(first: Tensor, second: Tensor, share: float) -> Tensor:
    """:func:`impasto.field.slerp` of tensors of any shape, taken as vectors."""
    flat = [tensor.flatten().cpu().numpy().astype(np.float32) for tensor in (first, second)]
    return torch.from_numpy(slerp(flat[0], flat[1], share)).reshape(first.shape).to(first)


def layer_distance(sums: FeatureSums, target: StyleTarget, layer: str, loss: str) -> Tensor:
    """Distance of one layer's statistics to a style, ``[1]``, about 1 for a picture of another style altogether.

    Colours are always compared by their Wasserstein-2 distance, in parts of their own spread: ink is grey.

    Differs from the papers: each distance is divided by the size of its target (squared length of the mean, trace or
    squared norm of the covariance), so that layers count alike whatever the encoder's scale, and quiet styles like loud
    ones.
    """
    wanted = target.statistics[layer]
    found = statistics_of(sums)
    power = wanted.mean.square().sum(1)  # [1]
    spread = torch.diagonal(wanted.covariance, dim1=1, dim2=2).sum(1)
    energy = power + spread + 1e-6
    if layer == COLOURS:
        return gaussian_wasserstein(found.mean, found.covariance, target.gaussians[layer]) / (spread + LEAST_SPREAD)
    if loss == "paper":
        raw = [one.covariance + one.mean[:, :, None] * one.mean[:, None, :] for one in (found, wanted)]  # not centred
        size = raw[1].square().sum((1, 2)) / (4 * raw[1].shape[1] ** 2) + 1e-12
        return gatys_gram_loss(raw[0], raw[1]) / size
    moved = (found.mean - wanted.mean).square().sum(1) / energy
    if loss == "gram":
        size = (wanted.covariance.square().sum((1, 2)).sqrt() + FLAT * energy).square()
        return moved + (found.covariance - wanted.covariance).square().sum((1, 2)) / size
    if loss == "moments":
        return moved + (found.deviation - wanted.deviation).square().sum(1) / (spread + 2 * FLAT * energy)
    size = spread + 2 * FLAT * energy  # not the mean: thin lines on much paper would count for nothing
    return 2 * gaussian_wasserstein(found.mean, found.covariance, target.gaussians[layer]) / size

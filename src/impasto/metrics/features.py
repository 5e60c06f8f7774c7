"""Distances over the features of a named network: style, content, appearance and structure.

All take feature maps ``[1, C, H, W]`` by the layer's name, as :class:`~impasto.nets.teachers.Teacher` gives them, and
return plain numbers. Most are relative, ``|a - b| / (|a| + |b|)``: from 0 (equal) to 1 (nothing in common), whatever
the scale of the network's features; a constant picture against itself is 0, not 0/0.

Sources: Gram matrices, Gatys, Ecker & Bethge 2016 (CVPR, eq. 3 to 5); moments, Huang & Belongie 2017 (arXiv:1703.06868,
eq. 13); unit-length features, Zhang et al. 2018 (arXiv:1801.03924, eq. 1); structure, Chung, Hyun & Heo 2024 (StyleID,
arXiv:2312.09008, CFSD).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import UsageError
from impasto.losses.statistics import gram_matrix
from impasto.nets.teachers import Teacher
from impasto.types import FloatArray

__all__ = [
    "StyleSummary",
    "cfsd",
    "content_distance",
    "gram_distance",
    "look",
    "moment_distance",
    "network_identity",
    "perceptual_distance",
    "structure_distance",
    "summarise_style",
]

Features = Mapping[str, Tensor]
ROWS = 1024  # of a self-similarity matrix at once: 64 MB of it for features of 128 x 128


@torch.inference_mode()
def look(network: Teacher, picture: FloatArray, layers: Sequence[str]) -> dict[str, Tensor]:
    """Feature maps of a picture ``[H, W, 3]`` in ``[0, 1]``: one pass for all layers.

    Raises:
        UsageError: the network has no such layer, or the picture is too small for the deepest of them.
    """
    unknown = [layer for layer in layers if layer not in network.spec.layers]
    if unknown:
        raise UsageError(f"{network.spec.name} has no layer '{unknown[0]}'; it has {', '.join(network.spec.layers)}")
    tensor = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
    tensor = tensor.to(network.mean.device)
    try:
        found: dict[str, Tensor] = network(tensor, tuple(layers))
    except RuntimeError as error:  # a convolution or pooling without a single position left
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise UsageError(f"a picture of {size} pixels is too small for {network.spec.name}: {error}") from error
    return found


def network_identity(network: Teacher) -> str:
    """First 12 hexadecimal digits of the SHA-256 over a network's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode("ascii"))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


# -- style -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StyleSummary:
    """What the style distances need of a picture, small enough to be kept for every style of an evaluation.

    Attributes:
        grams: by layer, ``[C, C]``, divided by the number of positions.
        moments: by layer, ``[2, C]``: means and standard deviations.
    """

    grams: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


def summarise_style(features: Features) -> StyleSummary:
    """Gram matrices and moments of feature maps."""
    grams, moments = {}, {}
    for layer, maps in features.items():
        flat = maps[0].flatten(1)  # [C, N]
        grams[layer] = gram_matrix(maps)[0]  # [C, C]
        moments[layer] = torch.stack([flat.mean(1), flat.std(1, unbiased=False)])  # [2, C]
    return StyleSummary(grams, moments)


def gram_distance(first: StyleSummary, second: StyleSummary) -> float:
    """Relative Frobenius distance of the Gram matrices, averaged over the layers: 0 to 1. Symmetric.

    Blind to where things are: shuffling the positions of a feature map changes nothing.

    Differs from the paper: relative for each layer, in place of the weights 1/(4 N^2 M^2), which leave a sum that the
    loudest layer decides; Gram matrices are divided by the number of positions, so that sizes may differ.
    """
    return _mean_distance(first.grams, second.grams)


def moment_distance(first: StyleSummary, second: StyleSummary) -> float:
    """Relative distance of the channels' means and deviations, averaged over the layers: 0 to 1. Symmetric.

    Differs from the paper: relative for each layer, and means and deviations as one vector.
    """
    return _mean_distance(first.moments, second.moments)


# -- content ---------------------------------------------------------------------------------------------------------


def content_distance(first: Features, second: Features) -> float:
    """Relative Euclidean distance of the feature maps, averaged over the layers: 0 to 1. Symmetric.

    Gatys et al. 2016, eq. 1, made relative. The maps must be of one size.
    """
    _check_sizes(first, second)
    return _mean_distance(first, second)


def perceptual_distance(first: Features, second: Features) -> float:
    """Mean squared difference of features scaled to unit length at each position, averaged over the layers. Symmetric.

    0 for equal pictures; at most 2 for a network whose features are never negative. It is the distance of Zhang et al.
    2018 without the learned heads, over any network: **not** LPIPS, whose heads belong to its own backbones
    (:mod:`impasto.metrics.lpips`).
    """
    _check_sizes(first, second)
    parts = [(_unit(first[layer]) - _unit(second[layer])).square().sum(1).mean() for layer in first]
    return float(torch.stack(parts).mean())


def cfsd(stylized: Tensor, content: Tensor) -> float:
    """Content feature structural distance: how the similarities between places of a picture changed. 0 or more.

    The rows of ``softmax(F'F)``, one for each position, say which places resemble it; CFSD adds up the Kullback-Leibler
    divergences of the stylization's rows from the content's. It sees layout, not texture or colour.

    Args:
        stylized: ``relu3_1`` of VGG-19, ``[1, 256, h, w]``.
        content: the same of the content.

    Differs from the paper's text: summed over the positions, with features divided by their number of channels, as the
    published figures were computed (the text says mean). Values of pictures of different sizes do not compare.
    """
    _check_sizes({"features": stylized}, {"features": content})
    channels, positions = content.shape[1], content[0, 0].numel()
    return _divergence(content[0].flatten(1) / channels, stylized[0].flatten(1) / channels) * positions


def structure_distance(stylized: Tensor, content: Tensor) -> float:
    """CFSD's idea for any network and size: mean divergence of the self-similarities. 0 or more.

    Differs from :func:`cfsd`: features are divided by the root mean square length of the content's own, about their
    mean, so that the softmax has the same sharpness for every network; and the mean over positions is taken.

    Args:
        stylized: ``[1, C, h, w]``.
        content: of the same shape.
    """
    _check_sizes({"features": stylized}, {"features": content})
    found, wanted = _centred(stylized), _centred(content)
    length = wanted.square().sum(0).mean().sqrt()
    if not float(length) > 0:  # a constant content has no structure that could be lost
        return 0.0
    return _divergence(wanted / length, found / length)


def _divergence(wanted: Tensor, found: Tensor) -> float:
    """Mean over positions of KL(softmax(w'w) || softmax(f'f)), from ``[C, N]`` each, some rows at a time."""
    total = 0.0
    for start in range(0, wanted.shape[1], ROWS):
        rows = slice(start, start + ROWS)
        target = torch.log_softmax(wanted[:, rows].T @ wanted, dim=1)
        others = torch.log_softmax(found[:, rows].T @ found, dim=1)
        total += float((target.exp() * (target - others)).sum(dtype=torch.float64))
    return max(0.0, total / wanted.shape[1])


def _centred(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat - flat.mean(1, keepdim=True)


# -- helpers ---------------------------------------------------------------------------------------------------------


def _relative(first: Tensor, second: Tensor) -> float:
    size = float(first.double().norm() + second.double().norm())
    return float((first.double() - second.double()).norm()) / size if size > 0 else 0.0


def _mean_distance(first: Features, second: Features) -> float:
    if not first or set(first) != set(second):
        raise UsageError(f"features of the same layers can be compared, not {sorted(first)} with {sorted(second)}")
    return float(np.mean([_relative(first[layer], second[layer]) for layer in first]))


def _check_sizes(first: Features, second: Features) -> None:
    if not first or set(first) != set(second):
        raise UsageError(f"features of the same layers can be compared, not {sorted(first)} with {sorted(second)}")
    for layer, maps in first.items():
        if maps.shape != second[layer].shape:
            raise UsageError(
                f"pictures of one size can be compared; their features '{layer}' are {tuple(maps.shape)} "
                f"and {tuple(second[layer].shape)}"
            )


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features, dim=1, eps=1e-10)

"""Content leak: places of the *style* picture, its figures and objects, that reappear in the result.

A style may hand over its texture again and again; what it must not hand over is a face. The measure asks three things
of every place ``p`` of the result, on windows of deep features compared by their cosine:

- which place ``q`` of the style does it resemble most, and how much:            ``s(p) = max_q cos(R_p, S_q)``
- would another place of the style resemble ``q`` as much (then it is texture):  ``u(q) = max_r cos(S_q, S_r)``, r far
- does the content at ``p`` explain it as well (then it was there before):       ``c(p) = cos(R_p, C_p)``

The excess ``e(p) = max(0, s(p) - max(u(q), c(p)))`` is large only where the result repeats one certain place of the
style better than the style repeats it itself, over a whole window, so arrangement and not only material must agree. The
score is the share of the picture where the excess passes a threshold.

The measure is this project's own. Relatives: best-buddies and nearest-neighbour feature matching (Li & Wand 2016,
arXiv:1601.04589), self-similarity (Shechtman & Irani 2007), and Lowe's test of the second-best match (2004).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import UsageError
from impasto.nets.teachers import Teacher
from impasto.types import FloatArray

__all__ = ["SCALES", "LeakReport", "LeakTarget", "content_leak", "leak_layer", "leak_target"]

WINDOW = 5  # cells of stride 8: 40 pixels, the size of a face in a picture of 256
THRESHOLD = 0.2
SCALES = (1.0, 0.5**0.5, 2.0**0.5)  # of the style picture: engines reduce and enlarge it
LARGEST = 1 << 24  # similarities at once: 64 MB


@dataclass(frozen=True, eq=False)
class LeakTarget:
    """What is needed of a style, kept for all its stylizations.

    Attributes:
        features: raw maps ``[C, h, w]`` of the style at each scale.
        mean: ``[C]``, over all of them.
    """

    features: tuple[Tensor, ...]
    mean: Tensor


@dataclass(frozen=True, eq=False)
class LeakReport:
    """How much of the style picture's content is in a result.

    Attributes:
        score: share of the result's area, 0 to 1, that repeats a certain place of the style.
        excess: ``[h, w]`` the excess at the window around each cell of stride 8, 0 to 1; repeated at the border.
    """

    score: float
    excess: FloatArray


def leak_layer(network: Teacher) -> str:
    """The layer to compare: the network's first of stride 8.

    Raises:
        UsageError: it has none.
    """
    for layer, (stride, _) in network.spec.layers.items():
        if stride == 8:
            return layer
    raise UsageError(f"{network.spec.name} has no layer of stride 8 to look for leaked content in")


def leak_target(maps: Sequence[Tensor]) -> LeakTarget:
    """Make ready to find places of a style.

    Args:
        maps: of :func:`leak_layer`, ``[1, C, h, w]`` each: the style picture at one or more scales (:data:`SCALES`).
    """
    means = torch.stack([one[0].mean((1, 2)) for one in maps])
    return LeakTarget(tuple(one[0] for one in maps), means.mean(0))


@torch.inference_mode()
def content_leak(result: Tensor, content: Tensor, style: LeakTarget) -> LeakReport:
    """Find places of the style in a result.

    A style that is one texture all over has no certain places, and cannot leak; nor can a content that shows the same
    thing as the style at the same place. Mirrored or turned objects are not found.

    Args:
        result: maps of the stylization, ``[1, C, h, w]``.
        content: maps of the content, of the same shape.
        style: see :func:`leak_target`.

    Raises:
        UsageError: result and content differ in size.
    """
    if result.shape != content.shape:
        raise UsageError(
            f"result and content must be of one size; their features are {tuple(result.shape)}, {tuple(content.shape)}"
        )
    mean = (style.mean + content[0].mean((1, 2))) / 2  # a common centre, and none that the result moves
    found, kept = _directions(result[0], mean), _directions(content[0], mean)
    places = [_directions(one, mean) for one in style.features]
    window = min(WINDOW, *(side for maps in (found, *places) for side in maps.shape[1:]))
    explained = functional.avg_pool2d((found * kept).sum(0)[None], window, 1)[0]  # [h', w'], c
    excess = torch.zeros_like(explained)
    for place in places:
        similarity, where = _best(found, place, window)  # s and q, [h', w']
        repeated = _repetition(place, window).flatten()[where]  # u(q)
        excess = torch.maximum(excess, similarity - torch.maximum(repeated, explained))
    score = float((excess > THRESHOLD).float().mean())
    border = (window - 1) // 2, window // 2
    return LeakReport(score, np.pad(excess.cpu().numpy().astype(np.float32), (border, border), mode="edge"))


def _directions(features: Tensor, mean: Tensor) -> Tensor:
    """``[C, h, w]`` as unit vectors from the common centre."""
    return functional.normalize(features - mean[:, None, None], dim=0, eps=1e-6)


def _strips(found: Tensor, place: Tensor, window: int) -> Iterator[tuple[int, Tensor]]:
    """Window similarities ``[rows, w', H', W']`` of strips of ``found`` with ``place``, and each strip's first row."""
    height, width = found.shape[1] - window + 1, found.shape[2]
    rows = max(1, LARGEST // (width * place[0].numel()) - window + 1)
    for top in range(0, height, rows):
        part = found[:, top : top + rows + window - 1]
        single = torch.einsum("chw,cij->hwij", part, place)
        yield top, _along(_along(single, 0, window), 1, window) / window**2


def _along(similarity: Tensor, axis: int, window: int) -> Tensor:
    """Sum of ``window`` neighbours that move in both pictures at once along an axis (0: rows, 1: columns)."""
    height, other = similarity.shape[axis] - window + 1, similarity.shape[axis + 2] - window + 1
    parts = (similarity.narrow(axis, k, height).narrow(axis + 2, k, other) for k in range(window))
    total = next(parts).clone()
    for part in parts:
        total += part
    return total


def _best(found: Tensor, place: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Similarity ``[h', w']`` of the best window of ``place`` for each of ``found``, and its flat index."""
    values, indices = zip(*(part.flatten(2).max(2) for _, part in _strips(found, place, window)), strict=True)
    return torch.cat(values), torch.cat(indices)


def _repetition(place: Tensor, window: int) -> Tensor:
    """``[H', W']``: how well another window of the picture, clear of this one, resembles it; 1 if there is none."""
    height, width = place.shape[1] - window + 1, place.shape[2] - window + 1
    down, across = torch.arange(height, device=place.device), torch.arange(width, device=place.device)
    columns = (across[:, None] - across[None]).abs()  # [W', W']
    best = []
    for top, part in _strips(place, place, window):
        rows = (down[top : top + part.shape[0], None] - down[None]).abs()  # [rows, H']
        near = torch.maximum(rows[:, None, :, None], columns[None, :, None, :]) < window  # overlapping windows
        most = part.masked_fill(near, -1).flatten(2).max(2).values
        best.append(torch.where(near.flatten(2).all(2), 1.0, most))
    return torch.cat(best)

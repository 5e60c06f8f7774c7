"""Textures from the joint statistics of a steerable pyramid (Portilla & Simoncelli 2000), with plenoptic's statistics.

Source: Portilla & Simoncelli 2000, "A parametric texture model based on joint statistics of complex wavelet
coefficients" (IJCV 40). The statistics are plenoptic's; an image of noise is moved until its own agree.

Differs from the paper: L-BFGS on the squared differences in place of projections onto one group of statistics after
the other; colour pictures are synthesised along the principal direction of their colours, and the other two
directions follow from it by their mean colour at each tone, which keeps colours and tones together but loses colours
that vary at one tone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from plenoptic.models import PortillaSimoncelli
from torch import Tensor

from impasto.errors import UsageError
from impasto.texture.settings import PortillaSimoncelliSettings
from impasto.texture.tones import match_tones
from impasto.types import FloatArray

__all__ = ["synthesize_statistics", "texture_statistics"]

_LEAST_DEVIATION = 0.5 / 255
_TONES = 64  # steps of the curve from tone to colour
FAINT = 0.1  # spread of the noise to begin with, in spreads of the sample
STRIDE = 10  # steps of L-BFGS between two reports
HIGHPASS_WEIGHT = 100.0  # of the finest band's variance, which is small
RANGE_WEIGHT = 10.0  # of tones that leave the sample's range, against a squared difference of the statistics
Progress = Callable[[float], None]


def texture_statistics(plane: Tensor, settings: PortillaSimoncelliSettings) -> Tensor:
    """All Portilla-Simoncelli statistics of ``[H, W]``, as one vector; its length does not depend on the size."""
    model = _model((plane.shape[0], plane.shape[1]), settings).to(plane.dtype)
    statistics: Tensor = model(plane[None, None])[0, 0]
    return statistics


def synthesize_statistics(
    sample: FloatArray,
    size: tuple[int, int],
    settings: PortillaSimoncelliSettings | None = None,
    *,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """A texture of any size with the statistics of a sample.

    Args:
        sample: ``[h, w, 3]`` in ``[0, 1]``; cut to sides that the pyramid divides.
        size: height and width of the result.
        settings: pyramid, neighbourhood, steps.
        seed: of the noise to begin with.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[*size, 3]`` in ``[0, 1]``; a picture of one colour where the sample is one.

    Raises:
        UsageError: the sample or the result is too small for the pyramid.
    """
    chosen = settings or PortillaSimoncelliSettings()
    multiple = 2**chosen.scales
    _check_size("the sample", (sample.shape[0], sample.shape[1]), chosen)
    inside = sample[: sample.shape[0] // multiple * multiple, : sample.shape[1] // multiple * multiple]
    tones, recolor = _principal_tones(inside)
    if float(tones.std()) < _LEAST_DEVIATION:
        return np.broadcast_to(inside.mean((0, 1)), (*size, 3)).astype(np.float32)
    smallest = chosen.neighborhood * multiple
    whole = (_up(max(size[0], smallest), multiple), _up(max(size[1], smallest), multiple))
    plane = _optimised(tones, whole, chosen, seed, on_progress)
    made = recolor(match_tones(plane, tones))[: size[0], : size[1]]
    return np.clip(made, 0, 1)


def _optimised(
    tones: FloatArray,
    size: tuple[int, int],
    settings: PortillaSimoncelliSettings,
    seed: int,
    on_progress: Progress | None,
) -> FloatArray:
    """Noise moved by L-BFGS until its statistics are those of ``tones``: ``[*size]``."""
    scale = float(tones.std())
    centre = float(tones.mean())
    wanted_plane = torch.from_numpy((tones - centre) / scale).double()
    wanted = texture_statistics(wanted_plane, settings).detach()
    low, high = float(wanted_plane.min()), float(wanted_plane.max())
    generator = torch.Generator().manual_seed(seed % 2**63)
    plane = (FAINT * torch.randn(size, generator=generator, dtype=torch.float64)).requires_grad_(True)
    model = _model(size, settings).double()
    weights = _weights(model, wanted)
    optimizer = torch.optim.LBFGS([plane], max_iter=STRIDE, history_size=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        beyond = (low - plane).clamp_min(0) + (plane - high).clamp_min(0)
        gap = weights * (model(plane[None, None])[0, 0] - wanted)
        value: Tensor = gap.square().sum() + RANGE_WEIGHT * beyond.square().mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for step in range(0, settings.iterations, STRIDE):
        if on_progress is not None:
            on_progress(step / settings.iterations)
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    if on_progress is not None:
        on_progress(1.0)
    return np.asarray(plane.detach().numpy() * scale + centre, np.float32)


def _weights(model: PortillaSimoncelli, wanted: Tensor) -> Tensor:
    """Of each statistic: none for the extremes, which move single pixels (the range is kept otherwise)."""
    groups = model.convert_to_dict(torch.ones_like(wanted)[None, None])
    groups["pixel_statistics"][..., -2:] = 0  # minimum and maximum
    groups["var_highpass_residual"] *= HIGHPASS_WEIGHT
    weights: Tensor = model.convert_to_tensor(groups)[0, 0]
    return weights


def _principal_tones(sample: FloatArray) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """The sample along the principal direction of its colours ``[h, w]``, and the way back to colours."""
    flat = sample.reshape(-1, 3).astype(np.float64)
    mean = flat.mean(0)
    _, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    axis = vectors[:, -1] * (1 if vectors[:, -1].sum() >= 0 else -1)
    tones = (flat - mean) @ axis
    rest = flat - mean - tones[:, None] * axis  # what the axis does not say
    edges = np.unique(np.quantile(tones, np.linspace(0, 1, _TONES + 1)))
    bins = np.clip(np.searchsorted(edges, tones, side="right") - 1, 0, max(0, len(edges) - 2))
    counts = np.maximum(np.bincount(bins), 1)
    middles = np.bincount(bins, tones) / counts
    curve = np.stack([np.bincount(bins, rest[:, channel]) / counts for channel in range(3)], axis=-1)

    def recolor(plane: FloatArray) -> FloatArray:
        follow = np.stack([np.interp(plane, middles, curve[:, channel]) for channel in range(3)], axis=-1)
        return np.asarray(mean + plane[..., None] * axis + follow, np.float32)

    return np.asarray(tones.reshape(sample.shape[:2]), np.float32), recolor


def _model(size: tuple[int, int], settings: PortillaSimoncelliSettings) -> PortillaSimoncelli:
    return PortillaSimoncelli(size, settings.scales, settings.orientations, settings.neighborhood)


def _check_size(what: str, size: tuple[int, int], settings: PortillaSimoncelliSettings) -> None:
    smallest = settings.neighborhood * 2**settings.scales
    if min(size) < smallest:
        raise UsageError(
            f"{what} is {size[1]} x {size[0]} px (width x height); {settings.scales} scales with a neighbourhood of "
            f"{settings.neighborhood} px need at least {smallest} px: choose fewer scales or a smaller neighbourhood"
        )


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple

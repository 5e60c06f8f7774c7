"""Presets of ``local``: groups of a style's places, and their coordinates in a basis that all presets share.

The form of a code without a picture stands in :mod:`impasto.engines.local_codes`. Groups are found by k-means
(Lloyd 1982, started as in k-means++, Arthur & Vassilvitskii 2007) on keys, measured by how far they move logits: with
``C`` the mean of ``q q'`` over queries, a difference ``d`` of keys moves them by ``sqrt(d' C d)``. Values count a
little, so that places of one key and different colours stay apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from impasto.engines.local import Local, seen_style
from impasto.engines.local_codes import StoredPresets
from impasto.engines.local_graphs import LocalGraphs, Tokens, measured
from impasto.ops.tiling import pad_to_multiple, to_float
from impasto.types import FloatArray

__all__ = ["StyleGroups", "grouped", "key_metric", "preset_groups", "stored_presets"]

ROUNDS = 12  # of k-means; it hardly moves afterwards
GROUPS = 512  # of a style; 256 paint about one level (of 255) further away from what all its places paint
SPACE = 64  # directions in which distances are measured
VALUES = 1.5  # what the spread of all values counts against one unit of a logit
STEP = 0.1  # of coordinates, in units of a logit
RANK = 192  # coordinates of a group


@dataclass(frozen=True)
class StyleGroups:
    """Groups of a style's places.

    Attributes:
        keys: ``[K, D']``.
        means: ``[K, C + C']``.
        deviations: likewise.
        counts: ``[K]``, sum 1.
        colours: ``[K, 3]`` in ``[0, 1]``.
    """

    keys: FloatArray
    means: FloatArray
    deviations: FloatArray
    counts: FloatArray
    colours: FloatArray


def preset_groups(
    engine: Local, graphs: LocalGraphs, pictures: Sequence[Sequence[FloatArray]]
) -> tuple[list[StyleGroups], FloatArray]:
    """Groups of each preset, and the metric of keys that they were made with.

    Args:
        engine: on these graphs.
        graphs: of ``local``.
        pictures: the artworks of each preset, ``[H, W, 3]`` each; several count alike, whatever their sizes.
    """
    queries, styles = [], []
    for artworks in pictures:
        seen = []
        for artwork in artworks:
            picture = to_float(seen_style(artwork))
            tokens, colours = engine.places(picture)
            alike = np.full(len(tokens.keys), -np.log(len(tokens.keys)), np.float32)
            seen.append((Tokens(tokens.keys, tokens.values, alike), colours))
            queries.append(_queries(graphs, picture, tokens))
        parts = [np.concatenate(list(one)) for one in zip(*(vars(tokens).values() for tokens, _ in seen), strict=True)]
        styles.append((Tokens(*parts), np.concatenate([colours for _, colours in seen])))
    metric = key_metric(np.concatenate(queries))
    return [grouped(*style, metric, channels=graphs.channels) for style in styles], metric


def _queries(graphs: LocalGraphs, picture: FloatArray, tokens: Tokens) -> FloatArray:
    """What the places of an artwork would ask if it were painted: stands for photographs, which are not at hand."""
    features = graphs.features(pad_to_multiple(picture[:256, :256], 0, 8)[0])
    few = Tokens(tokens.keys[:1], tokens.values[:1], tokens.log_counts[:1])  # what they would find does not matter
    return graphs.attended(features, measured(features), few)[1]


def key_metric(queries: FloatArray) -> FloatArray:
    """The symmetric root of the mean of ``q q'`` over queries ``[M, D']``, with a floor that keeps it invertible."""
    values, vectors = np.linalg.eigh(queries.T @ queries / len(queries))
    root = np.sqrt(np.maximum(values, 1e-3 * values[-1]))
    return np.asarray((vectors * root) @ vectors.T, np.float32)


def grouped(
    tokens: Tokens, colours: FloatArray, metric: FloatArray, *, channels: int, groups: int = GROUPS
) -> StyleGroups:
    """Places of a style in groups.

    Args:
        tokens: one for each place, counts in their logarithms.
        colours: of the places, ``[N, 3]``.
        metric: of :func:`key_metric`.
        channels: ``C`` of ``relu4_1``.
        groups: at most so many.
    """
    shares = np.exp(tokens.log_counts - tokens.log_counts.max())
    shares /= shares.sum()
    means, squares = _means_and_squares(tokens.values, channels)
    features = np.concatenate([tokens.keys @ metric, VALUES * _evened(means, channels)], axis=1)
    _, vectors = np.linalg.eigh(np.cov(features.T, aweights=shares))
    labels = _k_means(np.asarray(features @ vectors[:, -SPACE:], np.float32), shares, groups)
    belongs = np.zeros((labels.max() + 1, len(labels)), np.float32)
    belongs[labels, np.arange(len(labels))] = shares
    belongs = belongs[belongs.sum(1) > 0]
    counts = belongs.sum(1)
    belongs /= counts[:, None]
    mean = belongs @ means
    deviation = np.sqrt(np.maximum(belongs @ squares - np.square(mean), 0))
    return StyleGroups(belongs @ tokens.keys, mean, deviation, counts, belongs @ colours)


def _means_and_squares(values: FloatArray, channels: int) -> tuple[FloatArray, FloatArray]:
    middle = values.shape[1] // 2 - channels
    ends = np.cumsum([channels, channels, middle])
    deep, deep_square, upper, upper_square = np.split(values, ends, axis=1)
    return np.concatenate([deep, upper], axis=1), np.concatenate([deep_square, upper_square], axis=1)


def _evened(values: FloatArray, channels: int) -> FloatArray:
    """Both layers with a total variance of one half."""
    parts = (values[:, :channels], values[:, channels:])
    return np.concatenate([part / np.sqrt(2 * part.var(0).sum() + 1e-6) for part in parts], axis=1)


def _k_means(points: FloatArray, shares: FloatArray, groups: int) -> Any:
    """The group of each point ``[N]``."""
    generator = np.random.default_rng(0)
    nearest = np.full(len(points), np.inf, np.float32)
    chosen = [int(generator.choice(len(points), p=shares / shares.sum()))]
    while len(chosen) < min(groups, len(points)):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        odds = (nearest * shares).astype(np.float64)
        if odds.sum() == 0:
            break
        chosen.append(int(generator.choice(len(points), p=odds / odds.sum())))
    centres = points[chosen]
    labels = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        labels = np.argmin(np.square(centres).sum(1) - 2 * points @ centres.T, axis=1)
        belongs = np.zeros((len(centres), len(points)), np.float32)
        belongs[labels, np.arange(len(points))] = shares
        counts = belongs.sum(1)
        filled = counts > 0
        centres[filled] = (belongs @ points)[filled] / counts[filled, None]
    return labels


def stored_presets(
    rows: Sequence[dict[str, str]], groups: Sequence[StyleGroups], metric: FloatArray, *, weights: str, channels: int
) -> StoredPresets:
    """All presets in one basis: principal components of keys in units of a logit, and of evened values.

    Args:
        rows: ``name``, ``title`` and ``credit`` of each.
        groups: of each.
        metric: of :func:`key_metric`.
        weights: identity of the weights that made them.
        channels: ``C`` of ``relu4_1``.
    """
    keys, means, deviations = (
        np.concatenate([getattr(one, name) for one in groups]) for name in ("keys", "means", "deviations")
    )
    layers = (slice(channels), slice(channels, None))
    scales = np.empty(means.shape[1], np.float32)  # deviations in the same units as the means
    for layer in layers:
        scales[layer] = VALUES / np.sqrt(2 * means[:, layer].var(0).sum() + 1e-6)
    table = np.concatenate([keys @ metric, means * scales, deviations * scales], axis=1)
    centre = table.mean(0)
    _, vectors = np.linalg.eigh(np.cov((table - centre).T))
    basis = np.asarray(vectors[:, : -RANK - 1 : -1].T, np.float32)  # [R, columns], the largest first
    coordinates = (table - centre) @ basis.T
    steps = np.maximum(STEP, np.abs(coordinates).max(0) / 127).astype(np.float32)
    undone = np.concatenate([1 / scales, 1 / scales])
    back = np.linalg.inv(metric.astype(np.float64)).astype(np.float32)

    def plain(part: FloatArray) -> FloatArray:
        return np.concatenate([part[..., : len(metric)] @ back, part[..., len(metric) :] * undone], axis=-1)

    named = [dict(row) | {"groups": len(one.counts)} for row, one in zip(rows, groups, strict=True)]
    return StoredPresets(
        json.dumps({"weights": weights, "presets": named}, ensure_ascii=False),
        plain(basis),
        plain(centre),
        steps,
        np.round(coordinates / steps).T.astype(np.int8),
        np.concatenate([one.counts for one in groups]),
        np.round(np.clip(np.concatenate([one.colours for one in groups]), 0, 1) * 255).astype(np.uint8),
        len(metric),
    )

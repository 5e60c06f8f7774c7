"""The networks of ``local`` as ONNX graphs, and the statistics that stand between them.

Five graphs, made by :mod:`impasto.export` from the parts in :mod:`impasto.nets.local_parts`: the encoder, a style's
tokens, attention, blending, decoder. Equations stand in :mod:`impasto.nets.local`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from impasto.engines.sessions import open_session, to_batch
from impasto.types import FloatArray
from impasto.weights import Card, read_weights

__all__ = ["Features", "LocalGraphs", "Moments", "Tokens", "measured"]

CHUNK = 1024  # places whose attention is held at once: 12 MB of a style at 384 x 512
PRIOR = 0.005  # part of the picture that the whole counts for in a region's statistics
EPSILON = 1e-5


@dataclass(frozen=True)
class Features:
    """What the encoder sees of a picture whose sides are multiples of 8.

    Attributes:
        matching: ``relu2_1``, ``relu3_1`` and ``relu4_1`` averaged to the grid at 1/8, ``[1, D, h, w]``.
        middle: ``relu3_1``, ``[1, C', 2 h, 2 w]``.
        channels: ``C`` of ``relu4_1``, the last of ``matching``.
    """

    matching: FloatArray
    middle: FloatArray
    channels: int

    @property
    def deep(self) -> FloatArray:
        """``relu4_1``, ``[1, C, h, w]``."""
        return self.matching[:, -self.channels :]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width at 1/8."""
        return self.matching.shape[2], self.matching.shape[3]

    def part(self, grid: tuple[slice, slice]) -> Features:
        """What lies within a rectangle of the grid at 1/8."""
        rows, columns = grid
        upper = (slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop))
        return Features(self.matching[:, :, rows, columns], self.middle[:, :, upper[0], upper[1]], self.channels)


@dataclass(frozen=True)
class Tokens:
    """What the attention reads of a style.

    Attributes:
        keys: ``[N, D']``.
        values: means and mean squares, ``[N, 2 C + 2 C']``.
        log_counts: logarithm of the number of places that a token stands for, ``[N]``.
    """

    keys: FloatArray
    values: FloatArray
    log_counts: FloatArray


@dataclass(frozen=True)
class Moments:
    """Means and deviations by which a photograph is normalised for one style.

    Attributes:
        matching: of the features that are compared, ``[2, D]``.
        middle: of ``relu3_1``, ``[2, C']``.
    """

    matching: FloatArray
    middle: FloatArray


class LocalGraphs:
    """The five graphs; each is opened when it is first used.

    Args:
        encoder: picture to features.
        tokens: features of a style to keys and values.
        attention: places of the photograph, and tokens, to local means and deviations.
        blend: adds one style to the features of the painting.
        net: the decoder.
    """

    def __init__(self, *, encoder: bytes, tokens: bytes, attention: bytes, blend: bytes, net: bytes) -> None:
        self._encoder = functools.cache(lambda: open_session(encoder))
        self._tokens = functools.cache(lambda: open_session(tokens))
        self._attention = functools.cache(lambda: open_session(attention))
        self._blend = functools.cache(lambda: open_session(blend))
        self._net = functools.cache(lambda: open_session(net))

    @classmethod
    def read(cls, card: Card) -> LocalGraphs:
        """The graphs that a card lists.

        Raises:
            WeightsError: a file is missing or damaged.
        """
        return cls(
            encoder=read_weights(card, "encoder"),
            tokens=read_weights(card, "tokens"),
            attention=read_weights(card, "attention"),
            blend=read_weights(card, "blend"),
            net=read_weights(card, "net"),
        )

    def features(self, picture: FloatArray) -> Features:
        """``[H, W, 3]`` in ``[0, 1]``, sides multiples of 8."""
        matching, middle = self._encoder().run(["matching", "relu3_1"], {"picture": to_batch(picture)})
        return Features(matching, middle, self.channels)

    @property
    def channels(self) -> int:
        """``C`` of ``relu4_1``."""
        return int(self._net().get_inputs()[0].shape[1])

    @property
    def widths(self) -> tuple[int, int]:
        """``D'`` of a key, and ``C + C'`` of the values that are averaged."""
        inputs = self._attention().get_inputs()
        keys, values = (int(one.shape[1]) for one in inputs[2:4])
        return keys, values // 2

    def tokens(self, style: Features) -> Tokens:
        """What is kept of a style; every place is a token."""
        feed = {"matching": np.ascontiguousarray(style.matching), "middle": np.ascontiguousarray(style.middle)}
        keys, values = self._tokens().run(None, feed)
        return Tokens(keys, values, np.zeros(len(keys), np.float32))

    def attended(self, content: Features, moments: Moments, tokens: Tokens) -> tuple[FloatArray, FloatArray]:
        """Local means and deviations ``[1, 2 C + 2 C', h, w]``, and the scaled queries ``[h w, D']``."""
        places = np.ascontiguousarray(content.matching[0].reshape(content.matching.shape[1], -1).T)  # [h w, D]
        known = {
            "moments": moments.matching,
            "keys": tokens.keys,
            "values": tokens.values,
            "log_counts": tokens.log_counts,
        }
        found = np.empty((len(places), tokens.values.shape[1]), np.float32)
        queries = np.empty((len(places), tokens.keys.shape[1]), np.float32)
        for start in range(0, len(places), CHUNK):
            part = slice(start, start + CHUNK)
            found[part], queries[part] = self._attention().run(None, {"places": places[part], **known})
        return np.ascontiguousarray(found.T).reshape(1, -1, *content.grid), queries

    def painted(
        self,
        content: Features,
        styles: list[Tokens],
        weights: list[tuple[FloatArray, FloatArray]],
        moments: list[Moments],
    ) -> FloatArray:
        """The painting under a style field, ``[8 h, 8 w, 3]``, unbounded.

        Args:
            content: the photograph's features.
            styles: tokens of each style.
            weights: of each style at 1/8 and at 1/4, ``[1, 1, h, w]`` and ``[1, 1, 2 h, 2 w]``, or ``[1, 1, 1, 1]``.
            moments: of each style's region.
        """
        fixed = {"deep": np.ascontiguousarray(content.deep), "middle": content.middle}
        rest = [np.float32(1) - sum(pair[index] for pair in weights) for index in (0, 1)]
        sums = [np.asarray(own * part, np.float32) for own, part in zip(fixed.values(), rest, strict=True)]
        for tokens, weight, known in zip(styles, weights, moments, strict=True):
            feed = {
                "found": self.attended(content, known, tokens)[0],
                "deep_moments": known.matching[:, -content.channels :],
                "middle_moments": known.middle,
                "deep_weight": weight[0],
                "middle_weight": weight[1],
                "deep_sum": sums[0],
                "middle_sum": sums[1],
            }
            sums = self._blend().run(None, fixed | feed)
        (painted,) = self._net().run(None, {"deep": sums[0], "middle": sums[1]})
        return np.asarray(painted[0].transpose(1, 2, 0))


def measured(inside: Features, weight: tuple[FloatArray, FloatArray] | None = None) -> Moments:
    """How a photograph is normalised for one style.

    A region's statistics lean on those of the whole as far as :data:`PRIOR` of the picture would: a region of a few
    places has a deviation, and an empty one has the whole's.

    Args:
        inside: the photograph's features, without the margin.
        weight: of the region, at 1/8 and at 1/4; None counts all places alike.
    """
    maps = (inside.matching[0], inside.middle[0])
    parts = (None, None) if weight is None else weight
    found = [_moments(features, part) for features, part in zip(maps, parts, strict=True)]
    return Moments(found[0], found[1])


def _moments(features: FloatArray, weight: FloatArray | None) -> FloatArray:
    """Mean and deviation of each channel: ``[C, h, w]`` to ``[2, C]``; the weight is ``[1, 1, h, w]``."""
    flat = features.reshape(len(features), -1)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    variance = np.square(centred).mean(1)
    whole = np.stack([mean, np.sqrt(variance + EPSILON)])
    if weight is None:
        return np.asarray(whole, np.float32)
    counted = weight.reshape(-1) / np.float32(weight.size)
    share = float(counted.sum())  # of the picture
    first = centred @ counted / (share + PRIOR)  # [C]
    second = (np.square(centred) @ counted + PRIOR * np.square(whole[1])) / (share + PRIOR)
    spread = np.sqrt(np.maximum(second - np.square(first), 0) + EPSILON)
    return np.asarray(np.stack([mean + first, spread]), np.float32)

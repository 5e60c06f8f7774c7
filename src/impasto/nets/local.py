"""Attention over places: every place of the photograph looks up, in the style, the statistics of what resembles it.

AdaAttN, Liu et al. 2021 (arXiv:2108.03647), after SANet, Park & Lee 2019 (arXiv:1812.02342). With the features ``F_c``
of the content and ``F_s`` of the style at one layer of a frozen encoder, ``F^{1:x}`` the layers up to it at one grid,
and ``Norm`` the instance normalisation,

    Q = f(Norm(F_c^{1:x})),  K = g(Norm(F_s^{1:x})),  V = h(F_s)                                             (eq. 1)
    A = softmax(Q' K)                                                                                       (eq. 2)
    M = V A',   S = sqrt((V . V) A' - M . M)                                                              (eq. 3, 4)
    F_cs = S . Norm(F_c) + M                                                                                (eq. 5)

so that AdaIN's two numbers a channel become two maps. A decoder, the mirror of the encoder, turns the result back into
a picture.

A **field** of ``K`` styles with weight maps ``w_k`` lives in the attention. The tokens of all styles are the keys of
one softmax, and the logits of style ``k`` at the place ``i`` get

    log w_k(i) - log sum_{j in k} exp(q_i . k_j)

added: the weight is exactly the share of the attention that goes to the style. This softmax falls apart into one for
each style, which is how it is computed; a weight of 0 is a logit of minus infinity. Each style brings its own
``Norm``: the content's statistics *within its region*. What is left to 1 belongs to the content's own features,

    F = sum_k w_k (S_k . Norm_k(F_c) + M_k) + (1 - sum_k w_k) F_c.

Differs from the papers: one attention map at 1/8 of the picture serves both layers, the upper one reads means and mean
squares over 2x2 places; logits are divided by the root of their length, as in Vaswani et al. 2017; without the second
term above a style with louder logits would drown the others in a mix (styles would then be mixed by likeness, not by
weight); deviations of several styles are mixed, not taken of the mixture, where the distance between two styles would
count as contrast; ``relu4_1`` and ``relu3_1`` where AdaAttN also has ``relu5_1``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import UsageError, WeightsError
from impasto.losses.guidance import area_weight
from impasto.nets.adain import channel_moments
from impasto.nets.decoder import FeatureDecoder

__all__ = [
    "DEEP",
    "LAYERS",
    "MIDDLE",
    "ContentStatistics",
    "LocalConfig",
    "LocalNet",
    "StyleTokens",
    "attended",
    "attention",
    "content_statistics",
    "deviation",
    "fused",
    "guided_moments",
    "matching_features",
    "normalised",
    "places",
    "plain_tokens",
    "split_local",
]

LAYERS = ("relu2_1", "relu3_1", "relu4_1")
"""The encoder's layers, at 1/2, 1/4 and 1/8 of the picture, that decide what resembles what."""
MIDDLE, DEEP = LAYERS[1], LAYERS[2]
PRIOR = 0.005  # part of the picture that the whole counts for in a region's statistics
CHUNK = 1024  # places whose attention is held at once where no gradient is wanted: 12 MB of a style at 384 x 512

Maps = Mapping[str, Tensor]


@dataclass(frozen=True)
class LocalConfig:
    """Sizes of the network.

    Attributes:
        channels: of the encoder's layers at 1/2, 1/4 and 1/8.
        keys: length of a query.
        widths: channels of the decoder at 1/8, 1/4, 1/2 and 1/1 of the picture.
        separable: depthwise-separable convolutions in the decoder (Howard et al. 2017, arXiv:1704.04861), for phones.

    Raises:
        UsageError: another number of layers, or an empty one.
    """

    channels: tuple[int, ...] = (96, 192, 256)
    keys: int = 128
    widths: tuple[int, ...] = (160, 96, 48, 24)
    separable: bool = False

    def __post_init__(self) -> None:
        if len(self.channels) != 3 or len(self.widths) != 4 or min(self.channels + self.widths + (self.keys,)) < 1:
            raise UsageError(
                "the network of local has three channels, four widths and a key length above 0, not "
                f"{self.channels}, {self.widths} and {self.keys}"
            )
        if self.keys > sum(self.channels):
            raise UsageError(f"a key of {self.keys} numbers is longer than the {sum(self.channels)} channels it is of")


@dataclass(frozen=True)
class StyleTokens:
    """What a style keeps of its places, on the encoder's grid at 1/8.

    Attributes:
        keys: ``[B, N, D]``.
        deep: values at ``relu4_1``, ``[B, N, C]``.
        middle: values at ``relu3_1``, means over 2x2 places, ``[B, N, C']``.
        middle_square: means of their squares, likewise.
    """

    keys: Tensor
    deep: Tensor
    middle: Tensor
    middle_square: Tensor


@dataclass(frozen=True)
class ContentStatistics:
    """Means and deviations by which a content is normalised, of the whole or of a region.

    Attributes:
        matching: of the features that are compared, ``[B, 2, D]``.
        middle: of ``relu3_1``, ``[B, 2, C']``.
    """

    matching: Tensor
    middle: Tensor


def guided_moments(features: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean and deviation of each channel, places counted by a guidance map: ``[B, 2, C]``.

    A region's statistics lean on those of the whole as far as :data:`PRIOR` of the picture would: a region of a few
    places has a deviation, and an empty one has the whole's.

    Args:
        features: ``[B, C, h, w]``.
        weight: ``[B or 1, 1, H, W]`` in ``[0, 1]``, reduced to the features' grid; None counts all places alike.
    """
    whole = channel_moments(features)
    if weight is None:
        return whole
    reduced = area_weight(weight, (features.shape[2], features.shape[3]))
    share = reduced.mean((1, 2, 3))[:, None]  # [B, 1], of the picture
    centred = features - whole[:, 0, :, None, None]
    first = (reduced * centred).mean((2, 3)) / (share + PRIOR)  # [B, C]
    second = ((reduced * centred.square()).mean((2, 3)) + PRIOR * whole[:, 1].square()) / (share + PRIOR)
    variance = (second - first.square()).clamp_min(0)
    return torch.stack([whole[:, 0] + first, torch.sqrt(variance + 1e-5)], dim=1)


def matching_features(maps: Maps) -> Tensor:
    """The layers by which places are compared, averaged to the grid of the deepest: ``[B, D, h, w]``, ``F^{1:x}``."""
    size = (maps[DEEP].shape[2], maps[DEEP].shape[3])
    return torch.cat([functional.adaptive_avg_pool2d(maps[layer], size) for layer in LAYERS], dim=1)


def content_statistics(maps: Maps, weight: Tensor | None = None) -> ContentStatistics:
    """How a content is normalised for one style; see :func:`guided_moments`."""
    return ContentStatistics(
        guided_moments(matching_features(maps), weight),
        guided_moments(maps[MIDDLE], weight),
    )


def normalised(features: Tensor, moments: Tensor) -> Tensor:
    """``Norm``: ``[B, C, h, w]`` by moments ``[B, 2, C]``."""
    return (features - moments[:, 0, :, None, None]) / moments[:, 1, :, None, None]


def places(maps: Tensor) -> Tensor:
    """Maps as a list of places: ``[B, C, h, w]`` to ``[B, h w, C]``."""
    return maps.flatten(2).transpose(1, 2)


def plain_tokens(maps: Maps) -> StyleTokens:
    """Tokens of a style without any learned projection: AdaAttN* of the paper's section 3.3."""
    matching = matching_features(maps)
    return _tokens(normalised(matching, channel_moments(matching)), maps[DEEP], maps[MIDDLE])


def _tokens(keys: Tensor, deep: Tensor, middle: Tensor) -> StyleTokens:
    pooled, squares = functional.avg_pool2d(middle, 2), functional.avg_pool2d(middle.square(), 2)
    return StyleTokens(places(keys), places(deep), places(pooled), places(squares))


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Where in the style each place of the content looks: ``[B, M, D]``, ``[B, N, D]`` to ``[B, M, N]``, rows sum to 1.

    ``softmax(Q' K / sqrt(D))``, eq. 2 with the scale of Vaswani et al. 2017.
    """
    logits = torch.matmul(queries.float(), keys.float().transpose(1, 2)) * queries.shape[2] ** -0.5
    return torch.softmax(logits, dim=2)


def attended(queries: Tensor, tokens: StyleTokens) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted means and deviations of a style's values at each place of the content.

    Args:
        queries: ``[B, M, D]``.
        tokens: of the style.

    Returns:
        ``M`` and ``S`` at ``relu4_1``, ``[B, M, C]`` each, then at ``relu3_1``, ``[B, M, C']`` (eq. 3 and 4).
    """
    # Differences of large squares: never in half precision, not even under autocast.
    with torch.autocast(queries.device.type, enabled=False):
        parts = (tokens.deep, tokens.deep.square(), tokens.middle, tokens.middle_square)
        values = torch.cat([part.float() for part in parts], dim=2)
        step = queries.shape[1] if torch.is_grad_enabled() else CHUNK  # bounded memory for any number of places
        chunks = [queries[:, start : start + step] for start in range(0, queries.shape[1], step)]
        means = torch.cat([torch.matmul(attention(chunk, tokens.keys), values) for chunk in chunks], dim=1)
    deep, middle = tokens.deep.shape[2], tokens.middle.shape[2]
    mean, square, middle_mean, middle_square = torch.split(means, [deep, deep, middle, middle], dim=2)
    return mean, deviation(mean, square), middle_mean, deviation(middle_mean, middle_square)


def deviation(mean: Tensor, square: Tensor) -> Tensor:
    """From a mean and a mean square (eq. 4)."""
    return torch.sqrt((square - mean.square()).clamp_min(0) + 1e-5)


def fused(maps: Maps, queries: Tensor, tokens: StyleTokens, statistics: ContentStatistics) -> tuple[Tensor, Tensor]:
    """The content's features with the style's local statistics (eq. 5), at ``relu4_1`` and ``relu3_1``.

    Args:
        maps: the content's features.
        queries: of its places, ``[B, h w, D]``.
        tokens: of the style.
        statistics: by which the content is normalised.

    Returns:
        ``[B, C, h, w]`` and ``[B, C', 2 h, 2 w]``.
    """
    deep, middle = maps[DEEP], maps[MIDDLE]
    grid = (deep.shape[2], deep.shape[3])
    found = [part.transpose(1, 2).reshape(part.shape[0], -1, *grid) for part in attended(queries, tokens)]
    mean, spread = found[0], found[1]
    size = (middle.shape[2], middle.shape[3])
    upper = [functional.interpolate(part, size=size, mode="bilinear", align_corners=False) for part in found[2:]]
    own = statistics.matching[:, :, -deep.shape[1] :]  # relu4_1 is the last of the features that are compared
    return spread * normalised(deep, own) + mean, upper[1] * normalised(middle, statistics.middle) + upper[0]


class LocalNet(nn.Module):
    """Attention and decoder behind a frozen encoder; see the module's text for the equations.

    ``f`` and ``g`` start as one and the same orthogonal projection, so that likeness in the encoder's features is what
    the attention looks at from the first step on; ``h`` starts as the identity.
    """

    def __init__(self, config: LocalConfig | None = None) -> None:
        super().__init__()
        self.config = config or LocalConfig()
        _, middle, deep = self.config.channels
        compared = sum(self.config.channels)
        self.query = nn.Conv2d(compared, self.config.keys, 1)
        self.key = nn.Conv2d(compared, self.config.keys, 1)
        self.value_deep = nn.Conv2d(deep, deep, 1)
        self.value_middle = nn.Conv2d(middle, middle, 1)
        self.decoder = FeatureDecoder(deep, middle, self.config.widths, separable=self.config.separable)
        nn.init.orthogonal_(self.query.weight.flatten(1))
        nn.init.zeros_(self.query.bias)  # type: ignore[arg-type]
        self.key.load_state_dict(self.query.state_dict())
        for value in (self.value_deep, self.value_middle):
            nn.init.dirac_(value.weight)
            nn.init.zeros_(value.bias)  # type: ignore[arg-type]

    def tokens(self, maps: Maps) -> StyleTokens:
        """What is kept of a style, from the encoder's features of it (eq. 1)."""
        return self.tokens_from(matching_features(maps), maps[DEEP], maps[MIDDLE])

    def tokens_from(self, matching: Tensor, deep: Tensor, middle: Tensor) -> StyleTokens:
        """The same, from the features that are compared and those at ``relu4_1`` and ``relu3_1``."""
        keys = self.key(normalised(matching, channel_moments(matching)))
        return _tokens(keys, self.value_deep(deep), self.value_middle(middle))

    def queries(self, maps: Maps, statistics: ContentStatistics) -> Tensor:
        """One question for each place of the content, ``[B, h w, D]`` (eq. 1)."""
        return places(self.query(normalised(matching_features(maps), statistics.matching)))

    def blended(
        self,
        maps: Maps,
        styles: Sequence[StyleTokens],
        weights: Sequence[Tensor],
        statistics: Sequence[ContentStatistics],
    ) -> tuple[Tensor, Tensor]:
        """The content's features under a style field, ``F`` of the module's text, at both layers.

        Args:
            maps: the content's features.
            styles: tokens of each style.
            weights: of each style, ``[B or 1, 1, H, W]`` at any size, or ``[1, 1, 1, 1]``; not negative, together at
                most 1.
            statistics: of each style's region.
        """
        deep, middle = maps[DEEP], maps[MIDDLE]
        sums = [torch.zeros_like(deep), torch.zeros_like(middle)]
        rest: list[Tensor | float] = [1.0, 1.0]
        for tokens, weight, known in zip(styles, weights, statistics, strict=True):
            parts = fused(maps, self.queries(maps, known), tokens, known)
            for index, part in enumerate(parts):
                constant = weight.shape[2] == weight.shape[3] == 1
                share = weight if constant else area_weight(weight, (part.shape[2], part.shape[3]))
                sums[index] = sums[index] + share * part
                rest[index] = rest[index] - share
        return sums[0] + rest[0] * deep, sums[1] + rest[1] * middle

    def forward(self, content: Maps, style: Maps, weight: Tensor | None = None) -> Tensor:
        """Paint a batch of contents in one style each.

        Args:
            content: the encoder's features of the contents.
            style: those of the styles; sides may be others than the content's.
            weight: how much of the style at each place, ``[B, 1, H, W]``; everywhere in full by default.

        Returns:
            ``[B, 3, H, W]``, unbounded.
        """
        full = content[DEEP].new_ones(1, 1, 1, 1) if weight is None else weight
        statistics = content_statistics(content, weight)
        painted: Tensor = self.decoder(*self.blended(content, [self.tokens(style)], [full], [statistics]))
        return painted


def split_local(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> tuple[LocalNet, dict[str, Tensor]]:
    """The frozen network of a weights file, and the tensors of the encoder that it may bring along.

    Args:
        state: the file's tensors.
        texts: of its header, which state the network's sizes.

    Raises:
        WeightsError: the file holds no network of ``local``.
    """
    try:
        sizes: dict[str, Any] = json.loads(texts["config"])
        channels, widths = tuple(sizes["channels"]), tuple(sizes["widths"])
        net = LocalNet(LocalConfig(channels, int(sizes["keys"]), widths, bool(sizes["separable"])))
        encoder = {key.removeprefix("encoder."): v for key, v in state.items() if key.startswith("encoder.")}
        net.load_state_dict({key: value.float() for key, value in state.items() if not key.startswith("encoder.")})
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        raise WeightsError(f"the weights are no network of local: {error}") from error
    return net.eval().requires_grad_(False), encoder

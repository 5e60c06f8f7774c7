"""The objective of ``gatys`` and its gradient with respect to the picture, in one piece or tile by tile.

``L(x) = sum_k s_k S(x; region k, style k) + content_weight C(x) + smooth_weight TV(x) + range(x)``

Statistics are sums over places, so a picture's are the sums of its tiles'. With several tiles the gradient is exact and
takes two passes: the first adds up the sums, the chain rule gives the loss's derivative with respect to them, and the
second pass carries that derivative through each tile. Only one tile's feature maps are held at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from impasto.engines.gatys_options import GatysOptions
from impasto.engines.gatys_pyramid import Window, plan_windows
from impasto.engines.gatys_targets import (
    BANK,
    COLOURS,
    Guide,
    Layers,
    fitted,
    hypercolumn_maps,
    hypercolumns,
    layer_distance,
)
from impasto.losses.guidance import EMPTY
from impasto.losses.matching import chosen_distance, nearest
from impasto.losses.regularity import total_variation
from impasto.losses.statistics import FeatureSums, Statistics, feature_sums, full_precision, statistics_of
from impasto.nets.teachers import Teacher

__all__ = ["MARGIN", "SHIFT", "Eye", "Objective", "Sums", "Survey", "Tiling"]

MARGIN = 16  # reflected pixels around a picture; features there know of the encoder's own padding and do not count
SHIFT = 4  # offsets of the encoder's grid against the picture that are gone through, in pixels
COLOUR_WEIGHT = 0.5  # of the distribution of colours beside that of features
OWN_WEIGHT = 2.0  # of the content's features where the field leaves the place to the content's own code
QUIET = 0.3  # variance, in those of a mean channel, from which a channel of the photograph counts as loud
RANGE_WEIGHT = 10.0  # of values outside of [0, 1]
COLUMNS = 8 * BANK  # hypercolumns of a picture that are kept: all of a large style's would fill the memory

Sums = dict[tuple[int | None, str], FeatureSums]
"""By region (None: the whole picture) and layer."""


@dataclass(frozen=True)
class Tiling:
    """Where the encoder's grid and the tiles lie in a block of iterations.

    Attributes:
        down: offset of the grid, 0 to 3 pixels.
        right: likewise.
        cuts: shift of the tiles, as shares of a tile.
        margin: pixels that are reflected on every side, a multiple of 16.
    """

    down: int = 0
    right: int = 0
    cuts: tuple[float, float] = (0.0, 0.0)
    margin: int = MARGIN

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Tiling:
        """At random."""
        down, right = (int(offset) for offset in rng.integers(0, SHIFT, 2))
        return cls(down, right, (float(rng.random()), float(rng.random())))

    def pad(self, picture: Tensor) -> Tensor:
        """A picture or map, reflected on all sides; the size of the result does not depend on the offset."""
        spare = SHIFT - 1
        begin, end = self.margin, self.margin + spare
        widths = (begin + self.right, end - self.right, begin + self.down, end - self.down)
        return functional.pad(picture, widths, mode="reflect")

    def windows(self, padded: Tensor, tile: int) -> list[Window]:
        """Tiles of a padded picture."""
        return plan_windows((padded.shape[2], padded.shape[3]), tile, self.cuts, margin=self.margin)


@dataclass(frozen=True)
class Survey:
    """What a pass over a whole picture found: sums by region and layer, and hypercolumns ``[M, C]`` where asked for.

    Of a picture with many more places than a bank takes, the hypercolumns are an even draw.
    """

    sums: Sums
    columns: Tensor | None


@dataclass(frozen=True)
class Eye:
    """The encoder with the layers it is asked for, and the largest tile it may look at.

    Attributes:
        encoder: frozen.
        layers: which are used for what.
        tile: longest side of a tile's core, in pixels.
        half: whether the encoder computes in bfloat16; everything else is done in full precision.
    """

    encoder: Teacher
    layers: Layers
    tile: int
    half: bool = False

    def see(self, part: Tensor) -> dict[str, Tensor]:
        """Features of a window's outer rectangle, and the rectangle itself as its colours."""
        with torch.autocast(part.device.type, torch.bfloat16, enabled=self.half):
            found = self.encoder(part.contiguous(memory_format=torch.channels_last), self.layers.all)
        return {**found, COLOURS: part}

    def stride(self, layer: str) -> int:
        """Pixels from one place of a layer to the next."""
        return 1 if layer == COLOURS else self.encoder.spec.layers[layer][0]

    def cores(self, seen: Mapping[str, Tensor], window: Window) -> dict[str, Tensor]:
        """Features or guidance maps of a window, cut to its core."""
        return {layer: full_precision(window.core(found, self.stride(layer))) for layer, found in seen.items()}

    def guides(self, weight: Tensor, seen: Mapping[str, Tensor], window: Window) -> dict[str, Tensor]:
        """A padded guidance map at each layer's size (means over the layer's stride), cut to a window's core."""
        part, reduced = _outer(weight, window), {}
        for layer, found in seen.items():
            stride = self.stride(layer)
            size = (found.shape[2], found.shape[3])
            reduced[layer] = functional.avg_pool2d(fitted(part, (size[0] * stride, size[1] * stride)), stride)
        return self.cores(reduced, window)

    @property
    def matched_strides(self) -> dict[str, int]:
        """Strides of the layers that make up a hypercolumn, the finest first."""
        return {layer: self.stride(layer) for layer in self.layers.matched}

    def columns(self, seen: Mapping[str, Tensor], window: Window) -> Tensor:
        """Hypercolumns of a window's core, as rows ``[N, sum C]``."""
        strides = self.matched_strides
        stacked = hypercolumns({layer: seen[layer] for layer in strides}, strides)
        core = full_precision(window.core(stacked, strides[self.layers.matched[0]]))
        return core[0].permute(1, 2, 0).reshape(-1, core.shape[1])

    @torch.no_grad()
    def survey(
        self, picture: Tensor, regions: Sequence[Tensor] = (), *, columns: bool = False, margin: int = MARGIN
    ) -> Survey:
        """Sums of a whole picture ``[1, 3, H, W]``, everywhere and by region (maps ``[1, 1, H, W]``).

        Args:
            picture: what is looked at.
            regions: guidance maps.
            columns: whether hypercolumns are wanted.
            margin: see :class:`Tiling`. A style has a wide one: else places near the border of the picture are most
                like places near the border of the style, and its frame is painted around the photograph.
        """
        tiling = Tiling(margin=margin)
        padded, maps = tiling.pad(picture), [tiling.pad(region) for region in regions]
        total: Sums = {}
        rows = []
        generator = torch.Generator().manual_seed(0)
        for window in tiling.windows(padded, self.tile):
            seen = self.see(_outer(padded, window))
            cores = self.cores(seen, window)
            weights: dict[int | None, Mapping[str, Tensor] | None] = {None: None}
            weights.update({number: self.guides(one, seen, window) for number, one in enumerate(maps)})
            _add(total, _sums(cores, weights, (*self.layers.all, COLOURS)))
            if columns:
                share = COLUMNS * self.stride(self.layers.matched[0]) ** 2 / (picture.shape[2] * picture.shape[3])
                rows.append(_drawn(self.columns(seen, window), share, generator))
        return Survey(total, torch.cat(rows) if columns else None)


def _drawn(rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """So large a share of the rows; all of them, in their order, from 1 on."""
    if share >= 1:
        return rows
    order = torch.randperm(rows.shape[0], generator=generator)[: max(1, round(share * rows.shape[0]))]
    return rows[order.to(rows.device)]


def _within(inside: tuple[slice, slice], features: Tensor) -> tuple[slice, slice]:
    """Rows and columns, cut off where the map ends."""
    rows, columns = (
        slice(part.start, min(part.stop, length)) for part, length in zip(inside, features.shape[2:], strict=True)
    )
    return rows, columns


def _outer(padded: Tensor, window: Window) -> Tensor:
    rows, columns = window.outer
    return padded[:, :, rows, columns]


def _sums(
    cores: Mapping[str, Tensor], weights: Mapping[int | None, Mapping[str, Tensor] | None], layers: Sequence[str]
) -> Sums:
    return {
        (number, layer): feature_sums(cores[layer], None if weight is None else weight[layer])
        for number, weight in weights.items()
        for layer in layers
    }


def _add(total: Sums, found: Sums) -> None:
    for key, one in found.items():
        total[key] = total[key] + one if key in total else one


@dataclass
class _Part:
    """What a block of iterations knows of one window.

    Attributes:
        window: where.
        weights: guidance maps by region and layer, over the core; None for the region that is everywhere.
        content: targets of the content layers.
        emphasis: how much each place of a content layer counts, ``[1, 1, h, w]``.
        chosen: by guide, the number of the style's hypercolumn for each place.
    """

    window: Window
    weights: dict[int | None, Mapping[str, Tensor] | None]
    content: dict[str, Tensor]
    emphasis: dict[str, Tensor]
    chosen: dict[int, Tensor]


class Objective:
    """The loss at one size of the pyramid.

    Args:
        eye: the encoder.
        content: what shows the shapes: the photograph at this size, ``[1, 3, H, W]`` in ``[0, 1]``, in any colours.
        guides: the parts of the field; those without a target stand for the content's own code.
        regions: their guidance maps ``[1, 1, H, W]``.
        support: where the field is not empty, ``[1, 1, H, W]``; None for everywhere.
        options: weights and the kind of loss.
        photo: the photograph in its own colours, where ``content`` has others; what the content's own code aims at.
    """

    def __init__(
        self,
        eye: Eye,
        content: Tensor,
        guides: Sequence[Guide],
        regions: Sequence[Tensor],
        support: Tensor | None,
        options: GatysOptions,
        *,
        photo: Tensor | None = None,
    ) -> None:
        self.eye = eye
        self.content = content
        self.options = options
        self.regions = list(regions)
        self.guides = list(guides)
        self.support = support
        self._used = sorted({guide.region for guide in guides}, key=lambda number: -1 if number is None else number)
        self._moved = eye.survey(content, regions).sums
        self._own = self._moved if photo is None else eye.survey(photo, regions).sums
        self._tiling = Tiling()
        self._parts: list[_Part] = []
        self._masses: dict[str, float] = {}
        self._unmatched = False

    # -- a block of iterations -------------------------------------------------------------------------------------

    @property
    def moves(self) -> bool:
        """Whether each block aims at other targets than the one before: nearest features are chosen anew."""
        return any(guide.target is not None and guide.target.bank is not None for guide in self.guides)

    @torch.no_grad()
    def begin_block(self, picture: Tensor, tiling: Tiling) -> None:
        """Move the grid, look at the photograph through it, and choose nearest features anew."""
        self._tiling = tiling
        padded = tiling.pad(self.content)
        regions = [tiling.pad(region) for region in self.regions]
        support = None if self.support is None else tiling.pad(self.support)
        self._parts = [self._part(padded, window, regions, support) for window in tiling.windows(padded, self.eye.tile)]
        self._masses = {}
        for part in self._parts:
            for layer, emphasis in part.emphasis.items():
                self._masses[layer] = self._masses.get(layer, 0.0) + float(emphasis.sum())
        self._unmatched = self.moves
        if self._unmatched and len(self._parts) > 1:  # a single window is matched as its first gradient sees it
            self._match(tiling.pad(picture))

    def _part(self, padded: Tensor, window: Window, regions: Sequence[Tensor], support: Tensor | None) -> _Part:
        seen = self.eye.see(_outer(padded, window))
        cores = self.eye.cores(seen, window)
        by_region = [self.eye.guides(region, seen, window) for region in regions]
        weights: dict[int | None, Mapping[str, Tensor] | None] = {
            number: None if number is None else by_region[number] for number in self._used
        }
        inside = None if support is None else self.eye.guides(support, seen, window)
        emphasis, content = {}, {}
        for layer in dict.fromkeys((*self.eye.layers.content, *self.eye.layers.matched[:1])):
            shape = (1, 1, *cores[layer].shape[2:])
            emphasis[layer] = cores[layer].new_ones(shape) if inside is None else inside[layer]
        for layer in self.eye.layers.content:
            maps = {number: None if one is None else one[layer] for number, one in weights.items()}
            content[layer] = self._content_target(cores[layer], layer, maps)
        return _Part(window, weights, content, emphasis, {})

    def _content_target(self, features: Tensor, layer: str, maps: Mapping[int | None, Tensor | None]) -> Tensor:
        """The photograph's features, with the moments that the field asks for at each place.

        ``t = s(y) (x - m(x)) / s(x) + m(y)``: the target of adaptive instance normalisation (Huang & Belongie 2017,
        eq. 8 and 12) as content, mixed by the field.
        """
        if self.options.content == "plain":
            return features
        seen, own = statistics_of(self._moved[(None, layer)]), statistics_of(self._own[(None, layer)])
        loud = seen.deviation.square().mean(1, keepdim=True)  # quiet channels hold noise, which must not be amplified
        spread = torch.sqrt(seen.deviation.square() + QUIET * loud)
        normalised = (features - seen.mean[:, :, None, None]) / spread[:, :, None, None]
        gain: Tensor | float = 0.0
        bias: Tensor | float = 0.0
        for guide in self.guides:
            aim = own if guide.target is None else guide.target.statistics[layer]
            weight = maps[guide.region]
            part = guide.share if weight is None else weight * guide.scale
            gain = gain + part * aim.deviation[:, :, None, None]
            bias = bias + part * aim.mean[:, :, None, None]
        return normalised * gain + bias

    def _match(self, padded: Tensor) -> None:
        """For each place of each window the number of the style's hypercolumn that it is most like."""
        total: Sums = {}
        for part in self._parts:
            seen = self.eye.see(_outer(padded, part.window))
            _add(total, _sums(self.eye.cores(seen, part.window), part.weights, self.eye.layers.matched))
        for part in self._parts:  # one window at a time is held; seeing it twice is the price
            self._choose(part, self.eye.see(_outer(padded, part.window)), total)
        self._unmatched = False

    @torch.no_grad()
    def _choose(self, part: _Part, seen: Mapping[str, Tensor], total: Sums) -> None:
        """Nearest hypercolumns of a window, with the sums of the whole picture."""
        rows = self.eye.columns(seen, part.window)
        for number, guide in enumerate(self.guides):
            target = guide.target
            if target is None or target.bank is None or target.loudness is None:
                continue
            means = [statistics_of(total[(guide.region, layer)]).mean[0] for layer in self.eye.layers.matched]
            mean = torch.cat(means) / target.loudness
            part.chosen[number] = nearest(rows / target.loudness, mean, target.bank, half=self.eye.half)

    # -- an iteration ----------------------------------------------------------------------------------------------

    def gradient(self, picture: Tensor) -> tuple[float, Tensor]:
        """The loss of a picture ``[1, 3, H, W]``, and its gradient of the same shape."""
        leaf = picture.detach().requires_grad_()
        padded = self._tiling.pad(leaf)
        if len(self._parts) == 1:
            (part,) = self._parts
            seen = self.eye.see(padded)
            cores = self.eye.cores(seen, part.window)
            sums = _sums(cores, part.weights, self.eye.layers.measured)
            if self._unmatched:
                self._choose(part, seen, sums)
                self._unmatched = False
            loss = self._style(sums) + self._places(seen, cores, part)
            (loss + self._pixels(leaf)).backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None  # the loss depends on the picture
            return float(loss.detach()), leaf.grad
        value, padded_gradient = self._tiled(padded.detach())
        (gradient,) = torch.autograd.grad(padded, leaf, padded_gradient)
        pixels = self._pixels(leaf)
        (more,) = torch.autograd.grad(pixels, leaf)
        return value, gradient + more

    def _tiled(self, padded: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient for the padded picture, exact, with one window's features at a time."""
        layers = self.eye.layers.measured
        total: Sums = {}
        with torch.no_grad():
            for part in self._parts:
                cores = self.eye.cores(self.eye.see(_outer(padded, part.window)), part.window)
                _add(total, _sums(cores, part.weights, layers))
        leaves = {
            key: FeatureSums(one.mass, one.first.requires_grad_(), one.second.requires_grad_())
            for key, one in total.items()
        }
        style = self._style(leaves)
        style.backward()  # type: ignore[no-untyped-call]
        value, gradient = float(style.detach()), torch.zeros_like(padded)
        for part in self._parts:
            rows, columns = part.window.outer
            leaf = _outer(padded, part.window).detach().requires_grad_()
            seen = self.eye.see(leaf)
            cores = self.eye.cores(seen, part.window)
            places = self._places(seen, cores, part)
            carried = places
            for key, one in _sums(cores, part.weights, layers).items():  # d style / d sums, times the tile's sums
                whole = leaves[key]
                if whole.first.grad is None or whole.second.grad is None:
                    continue  # the loss does not look at it
                carried = carried + (whole.first.grad * one.first).sum() + (whole.second.grad * one.second).sum()
            carried.backward()  # type: ignore[no-untyped-call]
            value += float(places.detach())
            if leaf.grad is not None:
                gradient[:, :, rows, columns] += leaf.grad
        return value, gradient

    def _style(self, sums: Sums) -> Tensor:
        """Statistics against the styles, by the field's shares: a number."""
        kind = self.options.loss
        layers = self.eye.layers.style
        losses = []
        for guide in self.guides:
            for layer in layers:
                found = sums[(guide.region, layer)]
                if guide.target is None:
                    distance = _own_distance(found, self._own[(guide.region, layer)])
                else:
                    distance = layer_distance(found, guide.target, layer, kind)
                losses.append(guide.share / len(layers) * distance.sum())
            losses.append(COLOUR_WEIGHT * guide.share * self._colour_distance(guide, sums))
        return torch.stack(losses).sum()

    def _colour_distance(self, guide: Guide, sums: Sums) -> Tensor:
        found = sums[(guide.region, COLOURS)]
        if self.options.loss == "paper":
            return torch.zeros_like(found.mass.sum())
        if guide.target is None:
            return _own_distance(found, self._own[(guide.region, COLOURS)]).sum()
        return layer_distance(found, guide.target, COLOURS, self.options.loss).sum()

    def _places(self, seen: Mapping[str, Tensor], cores: Mapping[str, Tensor], part: _Part) -> Tensor:
        """What is compared place by place: content features, and nearest features of the styles."""
        loss = next(iter(cores.values())).new_zeros(())
        own = [guide for guide in self.guides if guide.target is None]
        for layer in self.eye.layers.content:
            emphasis = self.options.content_weight * part.emphasis[layer]
            for guide in own:
                weight = part.weights[guide.region]
                emphasis = emphasis + OWN_WEIGHT * (guide.share if weight is None else weight[layer] * guide.scale)
            distance = (cores[layer] - part.content[layer]).square().sum(1, keepdim=True)
            scale = max(self._masses[layer], EMPTY) * self._energy(layer) * len(self.eye.layers.content)
            loss = loss + (distance * emphasis).sum() / scale
        return loss + self._nearest(seen, part) if part.chosen else loss

    def _nearest(self, seen: Mapping[str, Tensor], part: _Part) -> Tensor:
        """Mean cosine distance of the hypercolumns to those of the styles that were chosen for them."""
        first, strides = self.eye.layers.matched[0], self.eye.matched_strides
        maps = hypercolumn_maps({layer: seen[layer] for layer in strides}, strides)
        maps = [full_precision(one) for one in maps]
        loss = maps[0].new_zeros(())
        mass = max(self._masses[first], EMPTY)
        inside = _within(part.window.inside(strides[first]), maps[0])
        for number, chosen in part.chosen.items():
            guide = self.guides[number]
            target, weight = guide.target, part.weights[guide.region]
            if target is None or target.bank is None or target.loudness is None:
                continue
            loudness = target.loudness[np.cumsum([0, *(one.shape[1] for one in maps[:-1])])].tolist()
            places = (part.emphasis if weight is None else weight)[first].flatten()
            distance = chosen_distance(
                maps, inside, target.bank.units, chosen, loudness=loudness, weight=places
            )  # ARF, eq. 2
            loss = loss + guide.scale * distance / mass
        return loss

    def _energy(self, layer: str) -> float:
        """Squared size of a content layer's target, so that a loss of 1 means that nothing of it is left."""
        total = 0.0
        for guide in self.guides:
            plain = guide.target is None or self.options.content == "plain"
            aim = statistics_of(self._own[(None, layer)]) if plain else guide.target.statistics[layer]  # type: ignore[union-attr]
            total += guide.share * (float(aim.deviation.square().sum()) + 1e-3 * float(aim.mean.square().sum()))
        return total + 1e-6

    def _pixels(self, picture: Tensor) -> Tensor:
        """What needs no encoder: values out of range, total variation."""
        loss = RANGE_WEIGHT * (picture - picture.clamp(0, 1)).square().mean()
        if self.options.smooth_weight > 0:
            loss = loss + self.options.smooth_weight * total_variation(picture)
        return loss


def _own_distance(found: FeatureSums, own: FeatureSums) -> Tensor:
    """Moments and Gram matrix against the content's own, relative to their size."""
    here, there = statistics_of(found), statistics_of(own)
    energy = _power(there)
    size = there.covariance.square().sum((1, 2)) + 1e-3 * energy.square()
    moved = (here.mean - there.mean).square().sum(1) / energy
    return moved + (here.covariance - there.covariance).square().sum((1, 2)) / size


def _power(statistics: Statistics) -> Tensor:
    return statistics.mean.square().sum(1) + torch.diagonal(statistics.covariance, dim1=1, dim2=2).sum(1) + 1e-6

"""``local``: each place of the photograph takes the colours and strokes of what resembles it in the style.

Attention over places after Liu et al. 2021 (AdaAttN, arXiv:2108.03647); network, equations and departures stand in
:mod:`impasto.nets.local`. Here its parts run as ONNX graphs (:mod:`impasto.engines.local_graphs`), without PyTorch;
this file does what surrounds them. A style code is the style picture at the size at which it is seen, or, of presets,
what its places have in common (:mod:`impasto.engines.local_codes`); tokens follow from it, and those of the last few
styles are kept.

Fields are native: weights are shares of the attention, each style normalises the photograph by what lies within its own
region, and what is left to 1 belongs to the photograph's own features. A decoder gives even those back a little
changed, so the last step to "no style" is closed by a gate; strength 0 and what a mask leaves out are exact. Codes lie
on no sphere: ``mix_mode`` ``slerp`` mixes like ``linear``.

Large pictures: the statistics by which the photograph is normalised are measured once on a smaller copy and hold for
every tile, in which each place asks for itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.engines.base import Preset, ProgressCallback, RenderEstimate
from impasto.engines.fields import resize_field
from impasto.engines.local_codes import check_parts, codes_of, read_presets, tokens_from
from impasto.engines.local_graphs import Features, LocalGraphs, Moments, Tokens, measured
from impasto.engines.tiles import Finish, check_field, color_finish, gated, paint_scaled, paint_tiles, shrink
from impasto.errors import FieldError
from impasto.field import StyleCode, StyleField
from impasto.image.color import luminance, resize
from impasto.ops.tiling import block_means, pad_to_multiple, quantised, to_float
from impasto.types import FloatArray
from impasto.weights import load_card, read_weights

__all__ = ["Local", "load", "load_mobile", "seen_style"]

MARGIN = 32  # reflected pixels around the picture, cut away again
MULTIPLE = 8
HALO = 80  # encoder and decoder look 69 pixels far
STYLE_SIDE = 384  # a style picture is seen at this short side ...
STYLE_PIXELS = 384 * 512  # ... and at no more pixels: 3072 places to look at
EDGE = 2  # places along a style's border, where features see its mirror image: the photograph's border would look there
THUMBNAIL = 16  # the code's vector is the style at this size
PROXY_PIXELS = 768 * 768
EXPLAINED_PIXELS = 512 * 512
TILE_LIMIT = 1024  # a tile's features take some hundred bytes a pixel
PIXEL_SECONDS = {"local": 3.5e-6, "local-mobile": 1.6e-6}  # of encoder and decoder
KEPT_STYLES = 8  # tokens of a style take up to 10 MB
CORNERS = np.array([[[0.95, 0.35, 0.3], [0.98, 0.85, 0.3]], [[0.35, 0.3, 0.9], [0.3, 0.85, 0.45]]], np.float32)
"""Colours of the corners of the style in an explanation: red and yellow above, blue and green below."""


class Local:
    """The engine; :func:`load` and :func:`load_mobile` build it from the embedded weights.

    Args:
        identity: first 16 digits of the SHA-256 of the weights.
        graphs: the networks.
        name: of the engine.
        presets: the file of presets, or nothing.
    """

    def __init__(self, identity: str, graphs: LocalGraphs, *, name: str = "local", presets: bytes = b"") -> None:
        self.name = name
        self.identity = identity
        self._graphs = graphs
        self._presets = functools.cache(lambda: read_presets(presets, engine=name, identity=identity))
        self._tokens: dict[str, Tokens] = {}
        self._lock = threading.Lock()

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``: the picture at the size at which it is seen, as 8 bits.

        The short side is 384 pixels, less where that would make more than 384 x 512 in all. The vector is the picture
        at 16 x 16. No setting changes it.
        """
        seen = seen_style(style)
        vector = np.clip(resize(np.asarray(style, np.float32), (THUMBNAIL, THUMBNAIL)), 0, 1).reshape(-1)
        code = StyleCode(vector, self.name, self.identity, name, {"picture": seen})
        self._tokens_of(code)
        return code

    def presets(self) -> Mapping[str, StyleCode]:
        """Codes that come with the weights, by name; each is unpacked when it is asked for.

        Raises:
            WeightsError: the presets belong to other weights.
        """
        return codes_of(self._presets())

    def preset_table(self) -> Mapping[str, Preset]:
        """Presets with titles and credits.

        Raises:
            WeightsError: the presets belong to other weights.
        """
        return self._presets()

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Measured on two cores: 3.5 microseconds a pixel (for phones 1.6) and 1.5 for each style.

        Within a tile 900 bytes a pixel.
        """
        pixels = size[0] * size[1]
        scaled = pixels / config.style_scale**2 if config.style_scale != 1 else 0.0
        work = scaled + (pixels if config.style_scale >= 1 else 0)
        in_tile = min(work, (min(config.tile, TILE_LIMIT) + 2 * HALO) ** 2)
        seconds = (PIXEL_SECONDS.get(self.name, 3.5e-6) + 1.5e-6 * len(field.layers)) * work
        return RenderEstimate(seconds, round(400e6 + 20e6 * len(field.layers) + 900.0 * in_tile + 18.0 * pixels))

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        Raises:
            FieldError: the field's maps have another size, or its codes are another engine's or of other weights.
        """
        height, width = content.shape[:2]
        self._check(field, (height, width))
        if not field.layers or float(np.max(field.total)) == 0:
            return content.copy()
        if config.style_scale != 1:
            return paint_scaled(content, field, config, self.render, on_progress)
        tile = min(config.tile, TILE_LIMIT)
        proxy = shrink(content, PROXY_PIXELS)
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        known = self._statistics(proxy, small) if max(height, width) > tile else None
        plain_painter = _Painter(self, known, None)
        painter = _Painter(self, known, color_finish(config.preserve_color, proxy, small, plain_painter.paint))
        return paint_tiles(
            content, field, painter.paint, tile=tile, halo=HALO, multiple=MULTIPLE, on_progress=on_progress
        )

    def explain(self, content: NDArray[Any], field: StyleField, config: StylizeConfig) -> FloatArray:
        """Where in each style the places of a photograph look, as a picture ``[h, w, 3]`` in ``[0, 1]``.

        A row for each style: the style, coloured by place (red above left, yellow above right, blue below left, green
        below right); the photograph, each place in the mean colour of where it looks; and how sure it is: the entropy
        of its attention, black for a single place and white for all alike. Where a style has no weight the photograph
        is grey.

        A preset holds no picture, whose places could be coloured: its row begins with a palette, the mean colours of
        its groups of places, each as wide as it has places, and the photograph is in those colours.

        Raises:
            FieldError: as :meth:`render`, or the field is empty.
        """
        self._check(field, (content.shape[0], content.shape[1]))
        if not field.layers:
            raise FieldError("there is no style whose attention could be explained")
        proxy = shrink(content, EXPLAINED_PIXELS)
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        padded, inside = pad_to_multiple(proxy, MARGIN, MULTIPLE)
        features = self._graphs.features(padded)
        moments = _measured(features, inside, small, (proxy.shape[0], proxy.shape[1]))
        rows = [
            self._explained(proxy, features, inside, layer.code, known, np.asarray(layer.weight, np.float32))
            for layer, known in zip(small.layers, moments, strict=True)
        ]
        width = max(row.shape[1] for row in rows)
        white = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=1) for row in rows]
        return np.asarray(np.concatenate(white), np.float32)

    def _explained(
        self,
        content: FloatArray,
        features: Features,
        inside: tuple[slice, slice],
        code: StyleCode,
        known: Moments,
        weight: FloatArray,
    ) -> FloatArray:
        """One row of the explanation, as high as the photograph."""
        height, width = content.shape[:2]
        if "picture" in code.parts:
            shown, seen = _coloured(to_float(code.parts["picture"]), height)
        else:
            shown, seen = _palette(code.parts, height)
        tokens = self._tokens_of(code)
        _, queries = self._graphs.attended(features, known, tokens)
        found = []
        for row in queries.reshape(*features.grid, -1):  # bounded memory
            logits = row @ tokens.keys.T + tokens.log_counts
            looked = np.exp(logits - logits.max(1, keepdims=True))
            looked /= looked.sum(1, keepdims=True)  # [w, N]
            entropy = -(looked * np.log(np.maximum(looked, 1e-12))).sum(1, keepdims=True)
            found.append(np.concatenate([looked @ seen, entropy / np.log(max(2, looked.shape[1]))], axis=1))
        rows, columns = _grid(inside)
        answer = np.asarray(np.stack(found)[rows, columns], np.float32)  # [h, w, 4]
        answer = np.clip(resize(np.ascontiguousarray(answer), (height, width)), 0, 1)
        grey = luminance(content)[..., None]
        share = np.broadcast_to(weight, (height, width))[..., None]
        painted = share * answer[..., :3] * (0.35 + 0.65 * grey) + (1 - share) * grey
        gap = np.ones((height, 8, 3), np.float32)
        sure = np.repeat(answer[..., 3:], 3, axis=2)
        return np.concatenate([shown, gap, painted, gap, sure], axis=1)

    def _check(self, field: StyleField, size: tuple[int, int]) -> None:
        check_field(field, size, engine=self.name, identity=self.identity)
        for layer in field.layers:
            code = layer.code
            if "picture" not in code.parts:
                keys, values = self._graphs.widths
                check_parts(code, keys=keys, values=values)
                continue
            picture = code.parts["picture"]
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape) < 1:
                raise FieldError(f"the style '{code.name}' holds no picture, which {self.name} needs: encode it again")
            if code.vector.size != 3 * THUMBNAIL**2:
                raise FieldError(
                    f"the style '{code.name}' has {code.vector.size} numbers, {self.name} needs {3 * THUMBNAIL**2}"
                )

    def _tokens_of(self, code: StyleCode, *, together: int = 1) -> Tokens:
        """Tokens of a style; those that were used last are kept, and all of a field of ``together`` styles."""
        digest = code.digest
        with self._lock:
            known = self._tokens.pop(digest, None)
            if known is not None:
                self._tokens[digest] = known
                return known
        if "picture" in code.parts:
            tokens, _ = self.places(to_float(code.parts["picture"]))
        else:
            tokens = tokens_from(code.parts, self._graphs.channels)
        with self._lock:
            self._tokens[digest] = tokens
            while len(self._tokens) > max(KEPT_STYLES, together):
                self._tokens.pop(next(iter(self._tokens)))
        return tokens

    def places(self, picture: FloatArray) -> tuple[Tokens, FloatArray]:
        """One token for each place of a style picture ``[H, W, 3]``, its outermost left out; and their colours."""
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        grid = _without_edge(_grid(inside))
        colours = block_means(padded, MULTIPLE)[0][:, grid[0], grid[1]]  # [3, h, w]
        return self._graphs.tokens(self._graphs.features(padded).part(grid)), colours.reshape(3, -1).T

    def _statistics(self, picture: FloatArray, field: StyleField) -> list[Moments]:
        """How the photograph is normalised for each style of the field."""
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        return _measured(self._graphs.features(padded), inside, field, (picture.shape[0], picture.shape[1]))

    def _painted(self, picture: FloatArray, field: StyleField, known: Sequence[Moments] | None) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]`` through encoder, attention and decoder."""
        size = (picture.shape[0], picture.shape[1])
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        features = self._graphs.features(padded)
        moments = _measured(features, inside, field, size) if known is None else known
        used = [index for index, layer in enumerate(field.layers) if float(np.max(layer.weight)) > 0]
        painted = self._graphs.painted(
            features,
            [self._tokens_of(field.layers[index].code, together=len(used)) for index in used],
            [_weight_maps(np.asarray(field.layers[index].weight, np.float32), size) for index in used],
            [moments[index] for index in used],
        )
        return np.asarray(np.clip(painted[inside], 0, 1), np.float32)


def seen_style(style: FloatArray) -> NDArray[np.uint8]:
    """A style picture ``[H, W, 3]`` at the size at which it is seen, as 8 bits."""
    height, width = style.shape[:2]
    factor = min(STYLE_SIDE / min(height, width), (STYLE_PIXELS / (height * width)) ** 0.5)
    size = [max(16, round(side * factor)) for side in (height, width)]
    if size[0] * size[1] > STYLE_PIXELS:  # thinner than 16 pixels: its length is cut, not squeezed
        longest = STYLE_PIXELS // min(size)
        size = [min(side, longest) for side in size]
    return quantised(np.clip(resize(style, (size[0], size[1])), 0, 1), np.uint8)


def _grid(inside: tuple[slice, slice]) -> tuple[slice, slice]:
    """Where the picture itself lies on the grid at 1/8, its last incomplete place included."""
    rows, columns = (slice(part.start // MULTIPLE, -(-part.stop // MULTIPLE)) for part in inside)
    return rows, columns


def _without_edge(grid: tuple[slice, slice]) -> tuple[slice, slice]:
    """The grid without its outermost places, where it is large enough to spare them."""
    rows, columns = (
        slice(part.start + EDGE, part.stop - EDGE) if part.stop - part.start >= 6 * EDGE else part for part in grid
    )
    return rows, columns


def _weight_maps(weight: FloatArray, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """A weight at 1/8 and at 1/4 of the padded picture, ``[1, 1, h, w]``; ``[1, 1, 1, 1]`` where it is constant."""
    if weight.ndim == 0:
        constant = np.full((1, 1, 1, 1), float(weight), np.float32)
        return constant, constant
    padded, _ = pad_to_multiple(np.broadcast_to(weight, size)[..., None], MARGIN, MULTIPLE)
    return block_means(padded, MULTIPLE), block_means(padded, MULTIPLE // 2)


def _measured(
    features: Features, inside: tuple[slice, slice], field: StyleField, size: tuple[int, int]
) -> list[Moments]:
    """How a photograph is normalised for each style of a field, from the features of the padded picture."""
    rows, columns = _grid(inside)
    inner = features.part((rows, columns))
    whole = measured(inner)
    found = []
    for layer in field.layers:
        if np.ndim(layer.weight) == 0:
            found.append(whole)
            continue
        eighth, quarter = _weight_maps(np.asarray(layer.weight, np.float32), size)
        upper = (slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop))
        found.append(measured(inner, (eighth[:, :, rows, columns], quarter[:, :, upper[0], upper[1]])))
    return found


def _colours(height: int, width: int) -> FloatArray:
    """A colour for each place, between those of the corners: ``[H, W, 3]``."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    right = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    above = CORNERS[0, 0] * (1 - right) + CORNERS[0, 1] * right
    below = CORNERS[1, 0] * (1 - right) + CORNERS[1, 1] * right
    return np.asarray(above * (1 - down) + below * down, np.float32)


def _coloured(style: FloatArray, height: int) -> tuple[FloatArray, FloatArray]:
    """A style picture coloured by place, ``height`` pixels high, and the colour of each of its tokens ``[N, 3]``."""
    _, lying = pad_to_multiple(style, MARGIN, MULTIPLE)
    whole, looked_at = _grid(lying), _without_edge(_grid(lying))
    lengths = [part.stop - part.start for part in whole]
    part = tuple(
        slice(one.start - all_.start, one.stop - all_.start) for one, all_ in zip(looked_at, whole, strict=True)
    )
    seen = _colours(lengths[0], lengths[1])[part].reshape(-1, 3)
    shown = _colours(style.shape[0], style.shape[1]) * (0.35 + 0.65 * luminance(style)[..., None])
    size = (height, max(1, round(style.shape[1] * height / style.shape[0])))
    return np.clip(resize(shown, size), 0, 1), seen


def _palette(parts: Mapping[str, NDArray[Any]], height: int) -> tuple[FloatArray, FloatArray]:
    """Colours of a preset's tokens as bars from dark to bright, and the colour of each token ``[N, 3]``."""
    colours = to_float(parts["colours"])
    order = np.argsort(luminance(colours))
    ends = np.cumsum(parts["counts"][order].astype(np.float64))
    bar = order[np.searchsorted(ends, (np.arange(height) + 0.5) / height * ends[-1])]
    return np.repeat(colours[bar][:, None], max(1, height // 4), axis=1), colours


@dataclass(frozen=True)
class _Painter:
    """The engine with what is known of the whole picture: its statistics, and the last step on colours."""

    engine: Local
    known: Sequence[Moments] | None
    finish: Finish | None

    def paint(self, picture: FloatArray, field: StyleField) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]``, with the content left where the field is empty."""
        if float(np.max(field.total)) == 0:
            return picture
        painted = self.engine._painted(picture, field, self.known)
        if self.finish is not None:
            painted = self.finish(picture, painted)
        return gated(picture, painted, field.total)


def load() -> Local:
    """The engine behind the embedded ``lens``.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    return _load("local")


def load_mobile() -> Local:
    """The same network behind an encoder for phones, with a decoder of separable convolutions.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    return _load("local-mobile")


def _load(name: str) -> Local:
    card = load_card(name)
    presets = read_weights(card, "presets") if "presets" in card.files else b""
    return Local(card.identity, LocalGraphs.read(card), name=name, presets=presets)

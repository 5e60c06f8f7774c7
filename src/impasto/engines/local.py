"""``local``: each place of the photograph takes the colours and strokes of what resembles it in the style.

Attention over places after Liu et al. 2021 (AdaAttN, arXiv:2108.03647); network, equations and departures stand in
:mod:`impasto.nets.local`. This file does what surrounds it. A style code is the style picture at the size at which it
is seen; its tokens follow from it, and those of the last few styles are kept.

Fields are native: weights are shares of the attention, each style normalises the photograph by what lies within its own
region, and what is left to 1 belongs to the photograph's own features. A decoder gives even those back a little
changed, so the last step to "no style" is closed by a gate; strength 0 and what a mask leaves out are exact. Codes lie
on no sphere: ``mix_mode`` ``slerp`` mixes like ``linear``.

Large pictures: the statistics by which the photograph is normalised are measured once on a smaller copy and hold for
every tile, in which each place asks for itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.config import StylizeConfig
from impasto.engines.base import ProgressCallback, RenderEstimate
from impasto.engines.fields import resize_field
from impasto.engines.tiles import Finish, check_field, color_finish, gated, paint_scaled, paint_tiles, shrink
from impasto.errors import FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField
from impasto.image.color import luminance, resize
from impasto.nets.encoders import load_encoder
from impasto.nets.local import (
    LAYERS,
    ContentStatistics,
    LocalConfig,
    LocalNet,
    StyleTokens,
    attention,
    content_statistics,
)
from impasto.nets.mobile import build_mobile
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import pad_to_multiple, quantised, to_float
from impasto.types import FloatArray
from impasto.weights import Card, load_card, weights_folder
from impasto.weights.files import read_tensors

__all__ = ["Local", "load", "load_mobile", "load_network", "split_local"]

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
KEPT_STYLES = 8  # tokens of a style take up to 10 MB
CORNERS = np.array([[[0.95, 0.35, 0.3], [0.98, 0.85, 0.3]], [[0.35, 0.3, 0.9], [0.3, 0.85, 0.45]]], np.float32)
"""Colours of the corners of the style in an explanation: red and yellow above, blue and green below."""


class Local:
    """The engine; :func:`load` and :func:`load_mobile` build it from the embedded weights.

    Args:
        identity: first 16 digits of the SHA-256 of the weights.
        encoder: the frozen encoder that the network was trained behind.
        net: the network.
        name: of the engine.
    """

    def __init__(self, identity: str, encoder: Teacher, net: LocalNet, *, name: str = "local") -> None:
        self.name = name
        self.identity = identity
        self._encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net = net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._tokens: dict[str, StyleTokens] = {}
        self._lock = threading.Lock()

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``: the picture at the size at which it is seen, as 8 bits.

        The short side is 384 pixels, less where that would make more than 384 x 512 in all. The vector is the picture
        at 16 x 16. No setting changes it.
        """
        height, width = style.shape[:2]
        factor = min(STYLE_SIDE / min(height, width), (STYLE_PIXELS / (height * width)) ** 0.5)
        size = [max(16, round(side * factor)) for side in (height, width)]
        if size[0] * size[1] > STYLE_PIXELS:  # thinner than 16 pixels: its length is cut, not squeezed
            longest = STYLE_PIXELS // min(size)
            size = [min(side, longest) for side in size]
        seen = quantised(np.clip(resize(style, (size[0], size[1])), 0, 1), np.uint8)
        vector = np.clip(resize(np.asarray(style, np.float32), (THUMBNAIL, THUMBNAIL)), 0, 1).reshape(-1)
        code = StyleCode(vector, self.name, self.identity, name, {"picture": seen})
        self._tokens_of(code)
        return code

    def presets(self) -> dict[str, StyleCode]:
        """None of its own."""
        return {}

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Measured on two cores: 4 microseconds a pixel and 2 for each style; within a tile 900 bytes a pixel."""
        pixels = size[0] * size[1]
        scaled = pixels / config.style_scale**2 if config.style_scale != 1 else 0.0
        work = scaled + (pixels if config.style_scale >= 1 else 0)
        in_tile = min(work, (min(config.tile, TILE_LIMIT) + 2 * HALO) ** 2)
        seconds = (4e-6 + 2e-6 * len(field.layers)) * work
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
            plain = replace(config, style_scale=1.0)
            return paint_scaled(
                content,
                field,
                config.style_scale,
                lambda *args: self.render(args[0], args[1], plain, args[2]),
                on_progress,
            )
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

        Raises:
            FieldError: as :meth:`render`, or the field is empty.
        """
        self._check(field, (content.shape[0], content.shape[1]))
        if not field.layers:
            raise FieldError("there is no style whose attention could be explained")
        proxy = shrink(content, EXPLAINED_PIXELS)
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        padded, inside = pad_to_multiple(proxy, MARGIN, MULTIPLE)
        with torch.inference_mode():
            maps = self._encoded(padded)
            statistics = self._measured(maps, inside, small, (proxy.shape[0], proxy.shape[1]))
            rows = [
                self._explained(proxy, maps, inside, layer.code, known, np.asarray(layer.weight, np.float32))
                for layer, known in zip(small.layers, statistics, strict=True)
            ]
        width = max(row.shape[1] for row in rows)
        white = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=1) for row in rows]
        return np.asarray(np.concatenate(white), np.float32)

    def _explained(
        self,
        content: FloatArray,
        maps: Mapping[str, Tensor],
        inside: tuple[slice, slice],
        code: StyleCode,
        known: ContentStatistics,
        weight: FloatArray,
    ) -> FloatArray:
        """One row of the explanation, as high as the photograph."""
        height, width = content.shape[:2]
        style = to_float(code.parts["picture"])
        colours = _colours(style.shape[0], style.shape[1])
        queries, tokens = self._net.queries(maps, known), self._tokens_of(code)
        grid = (maps[LAYERS[-1]].shape[2], maps[LAYERS[-1]].shape[3])
        _, lying = pad_to_multiple(style, MARGIN, MULTIPLE)
        whole, looked_at = _grid(lying), _without_edge(_grid(lying))
        lengths = [part.stop - part.start for part in whole]
        part = tuple(
            slice(one.start - all_.start, one.stop - all_.start) for one, all_ in zip(looked_at, whole, strict=True)
        )
        seen = torch.from_numpy(_colours(lengths[0], lengths[1])[part]).reshape(1, -1, 3)
        found = []
        for row in queries.reshape(grid[0], 1, grid[1], -1):  # bounded memory
            looked = attention(row, tokens.keys)
            entropy = -(looked * looked.clamp_min(1e-12).log()).sum(2, keepdim=True) / np.log(max(2, looked.shape[2]))
            found.append(torch.cat([looked @ seen, entropy], dim=2))
        rows, columns = _grid(inside)
        answer = torch.cat(found)[rows, columns].numpy()  # [h, w, 4]
        answer = np.clip(resize(np.ascontiguousarray(answer), (height, width)), 0, 1)
        grey = luminance(content)[..., None]
        share = np.broadcast_to(weight, (height, width))[..., None]
        painted = share * answer[..., :3] * (0.35 + 0.65 * grey) + (1 - share) * grey
        shown = colours * (0.35 + 0.65 * luminance(style)[..., None])
        size = (height, max(1, round(style.shape[1] * height / style.shape[0])))
        gap = np.ones((height, 8, 3), np.float32)
        sure = np.repeat(answer[..., 3:], 3, axis=2)
        return np.concatenate([np.clip(resize(shown, size), 0, 1), gap, painted, gap, sure], axis=1)

    def _check(self, field: StyleField, size: tuple[int, int]) -> None:
        check_field(field, size, engine=self.name, identity=self.identity, length=3 * THUMBNAIL**2)
        for layer in field.layers:
            picture = layer.code.parts.get("picture")
            if picture is None or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape) < 1:
                name = layer.code.name
                raise FieldError(f"the style '{name}' holds no picture, which {self.name} needs: encode it again")

    def _tokens_of(self, code: StyleCode) -> StyleTokens:
        """Tokens of a style; those that were used last are kept."""
        digest = code.digest
        with self._lock:
            known = self._tokens.pop(digest, None)
            if known is not None:
                self._tokens[digest] = known
                return known
        padded, inside = pad_to_multiple(to_float(code.parts["picture"]), MARGIN, MULTIPLE)
        with torch.inference_mode():
            maps = self._encoded(padded)
            tokens: StyleTokens = self._net.tokens(_cut(maps, _without_edge(_grid(inside))))
        with self._lock:
            self._tokens[digest] = tokens
            while len(self._tokens) > KEPT_STYLES:
                self._tokens.pop(next(iter(self._tokens)))
        return tokens

    def _encoded(self, padded: FloatArray) -> dict[str, Tensor]:
        batch = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
        maps: dict[str, Tensor] = self._encoder(batch.contiguous(memory_format=torch.channels_last), LAYERS)
        return maps

    def _statistics(self, picture: FloatArray, field: StyleField) -> list[ContentStatistics]:
        """How the photograph is normalised for each style of the field."""
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        with torch.inference_mode():
            return self._measured(self._encoded(padded), inside, field, (picture.shape[0], picture.shape[1]))

    def _measured(
        self, maps: Mapping[str, Tensor], inside: tuple[slice, slice], field: StyleField, size: tuple[int, int]
    ) -> list[ContentStatistics]:
        inner = _cut(maps, _grid(inside))
        whole = content_statistics(inner)
        found = []
        for layer in field.layers:
            if np.ndim(layer.weight) == 0:
                found.append(whole)
                continue
            weight = _weight_map(np.asarray(layer.weight, np.float32), size)
            rows, columns = _grid(inside)
            stride = MULTIPLE
            cut = weight[
                :,
                :,
                rows.start * stride : rows.stop * stride,
                columns.start * stride : columns.stop * stride,
            ]
            found.append(content_statistics(inner, cut))
        return found

    def _painted(self, picture: FloatArray, field: StyleField, known: Sequence[ContentStatistics] | None) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]`` through encoder, attention and decoder."""
        size = (picture.shape[0], picture.shape[1])
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        with torch.inference_mode():
            maps = self._encoded(padded)
            statistics = self._measured(maps, inside, field, size) if known is None else known
            used = [
                (self._tokens_of(layer.code), _weight_map(np.asarray(layer.weight, np.float32), size), one)
                for layer, one in zip(field.layers, statistics, strict=True)
                if float(np.max(layer.weight)) > 0
            ]
            tokens, weights, statistics = zip(*used, strict=True)
            painted = self._net.decoder(*self._net.blended(maps, tokens, weights, statistics))
        result = painted[0].permute(1, 2, 0).numpy()[inside]
        return np.asarray(np.clip(result, 0, 1), np.float32)


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


def _cut(maps: Mapping[str, Tensor], grid: tuple[slice, slice]) -> dict[str, Tensor]:
    """A part of the features at 1/2, 1/4 and 1/8, given on the last of these grids."""
    rows, columns = grid
    found = {}
    for name, factor in zip(LAYERS, (4, 2, 1), strict=True):
        found[name] = maps[name][
            :, :, rows.start * factor : rows.stop * factor, columns.start * factor : columns.stop * factor
        ]
    return found


def _weight_map(weight: FloatArray, size: tuple[int, int]) -> Tensor:
    """A weight as ``[1, 1, H, W]`` over the padded picture, or ``[1, 1, 1, 1]`` where it is constant."""
    if weight.ndim == 0:
        return torch.full((1, 1, 1, 1), float(weight))
    padded, _ = pad_to_multiple(np.broadcast_to(weight, size)[..., None], MARGIN, MULTIPLE)
    return torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))


def _colours(height: int, width: int) -> FloatArray:
    """A colour for each place, between those of the corners: ``[H, W, 3]``."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    right = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    above = CORNERS[0, 0] * (1 - right) + CORNERS[0, 1] * right
    below = CORNERS[1, 0] * (1 - right) + CORNERS[1, 1] * right
    return np.asarray(above * (1 - down) + below * down, np.float32)


@dataclass(frozen=True)
class _Painter:
    """The engine with what is known of the whole picture: its statistics, and the last step on colours."""

    engine: Local
    known: Sequence[ContentStatistics] | None
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
        WeightsError: a file is missing or damaged, or the network was trained behind another encoder.
    """
    card = load_card("local")
    net, texts, _ = load_network(card)
    if texts.get("encoder") != load_card("lens").identity:
        raise WeightsError("the network of 'local' was trained behind another encoder than the installed lens")
    return Local(card.identity, load_encoder(), net)


def load_mobile() -> Local:
    """The same network behind an encoder for phones, with a decoder of separable convolutions.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    card = load_card("local-mobile")
    net, texts, encoder = load_network(card)
    return Local(card.identity, build_mobile(encoder, texts), net, name="local-mobile")


def load_network(card: Card) -> tuple[LocalNet, dict[str, str], dict[str, Tensor]]:
    """An embedded network, the texts of its file's header, and the tensors of its own encoder, if it has one.

    Raises:
        WeightsError: the file is missing or damaged, or holds no network of ``local``.
    """
    file = card.file("net")
    state, texts = read_tensors(weights_folder() / file.name, sha256=file.sha256)
    net, encoder = split_local(state, texts)
    return net, dict(texts), encoder


def split_local(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> tuple[LocalNet, dict[str, Tensor]]:
    """The frozen network of a weights file, and the tensors of the encoder that it may bring along.

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
    return net.requires_grad_(False), encoder

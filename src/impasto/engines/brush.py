"""``brush``: arbitrary style in one feed-forward pass, by ONNX Runtime, on the embedded weights.

The network (:mod:`impasto.nets.brush`) repaints a photograph with gains and biases that come from style codes. This
file does what surrounds it: codes of pictures, weight maps at the network's resolutions, tiles, colours.

Fields are native: the network sums the codes' gains by the weight maps. Where the field leaves nothing to the styles
the content passes untouched (:func:`~impasto.engines.tiles.gated` closes the last step between "almost no style" and
"none"), so strength 0 and what a mask leaves out are exact.

Tiles: instance normalisation looks at the whole picture. A picture that is painted in tiles is measured once, on a
smaller copy, and every tile uses those statistics; neighbouring tiles then agree to rounding, because the halo covers
the network's receptive field.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.engines.base import Preset, ProgressCallback, RenderEstimate
from impasto.engines.fields import resize_field, slerped
from impasto.engines.sessions import open_session, to_batch
from impasto.engines.tiles import Finish, check_field, color_finish, gated, paint_scaled, paint_tiles, shrink
from impasto.errors import WeightsError
from impasto.field import StyleCode, StyleField
from impasto.image.color import resize
from impasto.ops.tiling import block_means, pad_to_multiple
from impasto.types import FloatArray
from impasto.weights import Card, load_card, read_weights

__all__ = ["Brush", "load"]

MARGIN = 48  # reflected pixels around the picture: zero padding inside the network shows up to 44 pixels deep
MULTIPLE = 8  # the network's coarsest stride
HALO = 72  # more than the 68 pixels that the network looks far: 5 convolutions at 1/4, 6 at 1/8
STYLE_SIDE = 288  # a style picture is encoded at this short side
PROXY_PIXELS = 768 * 768  # size of the copy on which large pictures are measured
HUGE_PIXELS = 24_000_000  # above, the picture itself takes so much memory that tiles must take less
HUGE_TILE = 640
STYLE_LIMIT = 4  # longest side of an encoded style, in short sides


def seen_size(height: int, width: int, short_side: float = STYLE_SIDE) -> tuple[int, int]:
    """Height and width at which a style picture is encoded."""
    factor, limit = short_side / min(height, width), STYLE_LIMIT * short_side
    return max(16, round(min(limit, height * factor))), max(16, round(min(limit, width * factor)))


class Brush:
    """The engine; :func:`load` builds it from the embedded weights."""

    name = "brush"

    def __init__(self, card: Card, encoder: bytes, net: bytes, presets: str) -> None:
        self.card = card
        self._encoder = functools.cache(lambda: open_session(encoder))
        self._net = functools.cache(lambda: open_session(net))
        self._presets = presets
        self._last: tuple[bytes, FloatArray] = (b"", np.zeros(0, np.float32))

    @property
    def identity(self) -> str:
        """First 16 digits of the network's SHA-256."""
        return self.card.identity

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``, seen at a short side of 288 pixels; no setting changes it."""
        return StyleCode(self._vector(style, STYLE_SIDE), self.name, self.identity, name)

    def _vector(self, picture: FloatArray, short_side: float) -> FloatArray:
        seen = np.clip(resize(picture, seen_size(picture.shape[0], picture.shape[1], short_side)), 0, 1)
        (code,) = self._encoder().run(None, {"picture": to_batch(seen)})
        return np.asarray(code[0], np.float32)

    def _own(self, proxy: FloatArray) -> FloatArray:
        """The photograph's own code; that of the last photograph is kept, because sliders paint it again and again."""
        digest = hashlib.blake2b(np.ascontiguousarray(proxy).data, digest_size=16).digest() + repr(proxy.shape).encode()
        known = self._last  # read once: other threads may replace it
        if known[0] != digest:
            known = self._last = (digest, self._vector(proxy, STYLE_SIDE))
        return known[1]

    def presets(self) -> dict[str, StyleCode]:
        """Codes that come with the weights, by name."""
        return {name: preset.code for name, preset in self.preset_table().items()}

    def preset_table(self) -> dict[str, Preset]:
        """Presets with titles and credits.

        Raises:
            WeightsError: the presets belong to other weights.
        """
        stored = json.loads(self._presets)
        if stored["weights"] != self.identity:
            raise WeightsError("the presets were made with other weights; reinstall impasto")
        table = {}
        for entry in stored["presets"]:
            vector = np.asarray(entry["code"], np.float32)
            code = StyleCode(vector, self.name, self.identity, entry["name"])
            table[entry["name"]] = Preset(code, entry["title"], entry["credit"])
        return table

    # -- rendering -------------------------------------------------------------------------------------------------

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Measured on two cores: about 0.35 microseconds and 30 (in one piece) to 6 (in tiles) bytes a pixel."""
        pixels = size[0] * size[1]
        seconds, work = 0.35e-6 * pixels, 0.0
        if config.style_scale != 1:
            other = pixels / config.style_scale**2
            seconds, work = seconds * (other / pixels + (config.style_scale > 1)), 30.0 * (pixels + other)
        tile = config.tile if pixels <= HUGE_PIXELS else min(config.tile, HUGE_TILE)
        in_tile = min(pixels, (tile + 2 * HALO) ** 2)
        return RenderEstimate(seconds, round(110e6 + 200.0 * in_tile + 6.0 * pixels + work))

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        Raises:
            FieldError: the field's maps have another size, or its codes come from other weights.
        """
        height, width = content.shape[:2]
        length = self._net().get_inputs()[1].shape[2]
        check_field(field, (height, width), engine=self.name, identity=self.identity, length=length)
        if not field.layers or float(np.max(field.total)) == 0:
            return content.copy()
        if config.mix_mode == "slerp" and len(field.layers) > 1:
            field = slerped(field)
        if config.style_scale != 1:
            return paint_scaled(content, field, config, self.render, on_progress)
        tile = config.tile if height * width <= HUGE_PIXELS else min(config.tile, HUGE_TILE)
        painter = self._painter(content, field, config, tiled=max(height, width) > tile)
        return paint_tiles(
            content, field, painter.paint, tile=tile, halo=HALO, multiple=MULTIPLE, on_progress=on_progress
        )

    def _painter(self, content: NDArray[Any], field: StyleField, config: StylizeConfig, *, tiled: bool) -> _Painter:
        """Everything that is decided once for the whole picture."""
        proxy = shrink(content, PROXY_PIXELS)
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        full = field.size is None and float(field.total) >= 1  # nothing is left to the content's own code
        own = np.zeros_like(field.layers[0].code.vector) if full else self._own(proxy)
        painter = _Painter(self._net(), own, None, None)
        if tiled:
            painter = painter.measured(proxy, small)
        finish = color_finish(config.preserve_color, proxy, small, painter.paint)
        return painter if finish is None else painter.finished_by(finish)


@dataclass(frozen=True)
class _Painter:
    """The network with what is known of the whole picture: its own code, statistics, and the last step on colours."""

    session: onnxruntime.InferenceSession
    own: FloatArray
    statistics: FloatArray | None
    finish: Finish | None

    def measured(self, picture: FloatArray, field: StyleField) -> _Painter:
        """The same painter, with the statistics of ``picture``."""
        _, statistics = self._run(picture, field)
        return _Painter(self.session, self.own, statistics, self.finish)

    def finished_by(self, finish: Finish) -> _Painter:
        """The same painter, with a last step ``(content, painted) -> painted`` before the gate."""
        return _Painter(self.session, self.own, self.statistics, finish)

    def paint(self, picture: FloatArray, field: StyleField) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]``, with the content left where the field is empty."""
        total = field.total
        if float(np.max(total)) == 0:
            return picture
        painted, _ = self._run(picture, field)
        if self.finish is not None:
            painted = self.finish(picture, painted)
        return gated(picture, painted, total)

    def _run(self, picture: FloatArray, field: StyleField) -> tuple[FloatArray, FloatArray]:
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        maps = [np.asarray(layer.weight, np.float32) for layer in field.layers]
        maps.append(np.maximum(np.float32(1) - field.total, 0))
        if field.size is None:
            quarter = eighth = np.stack(maps)[None, :, None, None]
        else:
            stacked = np.stack([np.broadcast_to(one, picture.shape[:2]) for one in maps], axis=-1)
            padded_maps, _ = pad_to_multiple(stacked, MARGIN, MULTIPLE)
            quarter, eighth = (block_means(padded_maps, scale) for scale in (4, 8))
        size = self.session.get_inputs()[4].shape[2]
        known = self.statistics
        feed = {
            "picture": to_batch(padded),
            "codes": np.stack([*(layer.code.vector for layer in field.layers), self.own])[None],
            "weights_quarter": np.ascontiguousarray(quarter),
            "weights_eighth": np.ascontiguousarray(eighth),
            "statistics": np.zeros((1, 2, size), np.float32) if known is None else known,
            "given": np.array(known is not None, np.float32),
        }
        painted, statistics = self.session.run(None, feed)
        result = np.clip(painted[0].transpose(1, 2, 0)[inside], 0, 1)
        return np.asarray(result, np.float32), np.asarray(statistics, np.float32)


def load() -> Brush:
    """The engine on the embedded weights.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    card = load_card("brush")
    encoder, net = read_weights(card, "encoder"), read_weights(card, "net")
    return Brush(card, encoder, net, read_weights(card, "presets").decode("utf-8"))

"""``adain``: arbitrary style by exchanging the moments of deep features (Huang & Belongie 2017, arXiv:1703.06868).

The encoder is the embedded ``lens``, the decoder was trained by this project; the network is in
:mod:`impasto.nets.adain`. This file does what surrounds it. A style code is the vector of means and standard
deviations of the style's features at two layers: it can be saved, averaged and interpolated.

Fields are native: gains and biases are summed by the weight maps in feature space, and what is left to 1 belongs to the
content's own features. A decoder gives even those back a little changed, so the last step to "no style" is closed
by a gate; strength 0 and what a mask leaves out are exact.

Large pictures: the content's moments are measured once on a smaller copy and hold for every tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from impasto.config import StylizeConfig
from impasto.engines.base import ProgressCallback, RenderEstimate
from impasto.engines.fields import resize_field, slerped
from impasto.engines.tiles import Finish, check_field, color_finish, gated, paint_scaled, paint_tiles, shrink
from impasto.errors import WeightsError
from impasto.field import StyleCode, StyleField
from impasto.image.color import resize
from impasto.nets.adain import LAYERS, AdaInDecoder, build_decoder, channel_moments, transfer_field
from impasto.nets.encoders import load_encoder
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import pad_to_multiple
from impasto.types import FloatArray
from impasto.weights import Card, load_card, weights_folder
from impasto.weights.files import read_tensors

__all__ = ["AdaIn", "load"]

MARGIN = 32  # reflected pixels around the picture, cut away again
MULTIPLE = 8
STRIDES = (8, 4)  # of the layers whose moments are exchanged
HALO = 72  # encoder and decoder look 61 pixels far
STYLE_SIDE = 384  # a style picture is seen at this short side
STYLE_LIMIT = 4  # longest side of an encoded style, in short sides
PROXY_PIXELS = 768 * 768
TILE_LIMIT = 1024  # a tile's features take some hundred bytes a pixel


class AdaIn:
    """The engine; :func:`load` builds it from the embedded weights."""

    name = "adain"

    def __init__(self, identity: str, encoder: Teacher, decoder: AdaInDecoder) -> None:
        self.identity = identity
        self._encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._decoder = decoder.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """Means, then standard deviations, of the style's features, layer by layer: ``[2 C + 2 C']``.

        No setting changes it.
        """
        height, width = style.shape[:2]
        factor = STYLE_SIDE / min(height, width)
        limit = STYLE_LIMIT * STYLE_SIDE
        size = tuple(max(16, round(min(limit, side * factor))) for side in (height, width))
        seen = np.clip(resize(style, (size[0], size[1])), 0, 1)
        vector = torch.cat([moments.flatten() for moments in self._moments(seen)])
        return StyleCode(vector.numpy().copy(), self.name, self.identity, name)

    def presets(self) -> dict[str, StyleCode]:
        """None of its own."""
        return {}

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Measured on two cores: about 4 microseconds and, within a tile, 900 bytes a pixel."""
        pixels = size[0] * size[1]
        scaled = pixels / config.style_scale**2 if config.style_scale != 1 else 0.0
        work = scaled + (pixels if config.style_scale >= 1 else 0)
        in_tile = min(work, (min(config.tile, TILE_LIMIT) + 2 * HALO) ** 2)
        return RenderEstimate(4e-6 * work, round(400e6 + 900.0 * in_tile + 18.0 * pixels))

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
        length = 2 * sum(self._decoder.config.channels)
        check_field(field, (height, width), engine=self.name, identity=self.identity, length=length)
        if not field.layers or float(np.max(field.total)) == 0:
            return content.copy()
        if config.mix_mode == "slerp" and len(field.layers) > 1:
            field = slerped(field)
        if config.style_scale != 1:
            return paint_scaled(content, field, config, self.render, on_progress)
        tile = min(config.tile, TILE_LIMIT)
        proxy = shrink(content, PROXY_PIXELS)
        own = self._moments(proxy) if max(height, width) > tile else None
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        plain_painter = _Painter(self, own, None)
        painter = _Painter(self, own, color_finish(config.preserve_color, proxy, small, plain_painter.paint))
        return paint_tiles(
            content, field, painter.paint, tile=tile, halo=HALO, multiple=MULTIPLE, on_progress=on_progress
        )

    def _moments(self, picture: FloatArray) -> list[Tensor]:
        """Moments of a picture's features at each layer, ``[1, 2, C]``, without those of the margin."""
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        return _moments_within(self._encoded(padded), inside)

    def _encoded(self, padded: FloatArray) -> list[Tensor]:
        """The features whose moments are exchanged, at 1/8 and at 1/4."""
        batch = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            maps = self._encoder(batch.contiguous(memory_format=torch.channels_last), LAYERS)
        return [maps[layer] for layer in LAYERS]

    def _painted(self, picture: FloatArray, field: StyleField, own: list[Tensor] | None) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]`` through encoder, exchange and decoder."""
        padded, inside = pad_to_multiple(picture, MARGIN, MULTIPLE)
        channels = self._decoder.config.channels
        codes = torch.stack([torch.from_numpy(layer.code.vector) for layer in field.layers])  # [K, 2 C + 2 C']
        with torch.inference_mode():
            features = self._encoded(padded)
            known = _moments_within(features, inside) if own is None else own
            changed = []
            parts = torch.split(codes, [2 * count for count in channels], dim=1)
            for maps, part, moments, stride in zip(features, parts, known, STRIDES, strict=True):
                weights = _weight_maps(field, picture.shape[:2], stride)
                changed.append(transfer_field(maps, part.view(len(part), 2, -1), weights, moments))
            painted = self._decoder(*changed)
        result = painted[0].permute(1, 2, 0).numpy()[inside]
        return np.asarray(np.clip(result, 0, 1), np.float32)


def _moments_within(features: Sequence[Tensor], inside: tuple[slice, slice]) -> list[Tensor]:
    """Moments of what belongs to the picture itself, ``[1, 2, C]`` for each layer."""
    found = []
    for maps, stride in zip(features, STRIDES, strict=True):
        rows, columns = (slice(part.start // stride, -(-part.stop // stride)) for part in inside)
        found.append(channel_moments(maps[:, :, rows, columns]))
    return found


def _weight_maps(field: StyleField, size: tuple[int, ...], stride: int) -> Tensor:
    """The field's weights on the grid of the features: ``[K, h, w]``, or ``[K, 1, 1]`` when they are constant."""
    weights = [np.asarray(layer.weight, np.float32) for layer in field.layers]
    if field.size is None:
        return torch.from_numpy(np.stack(weights))[:, None, None]
    stacked = np.stack([np.broadcast_to(weight, (size[0], size[1])) for weight in weights], axis=-1)
    padded, _ = pad_to_multiple(stacked, MARGIN, MULTIPLE)
    maps = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
    return functional.avg_pool2d(maps, stride)[0]


@dataclass(frozen=True)
class _Painter:
    """The engine with what is known of the whole picture: its moments, and the last step on colours."""

    engine: AdaIn
    own: list[Tensor] | None
    finish: Finish | None

    def paint(self, picture: FloatArray, field: StyleField) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]``, with the content left where the field is empty."""
        if float(np.max(field.total)) == 0:
            return picture
        painted = self.engine._painted(picture, field, self.own)
        if self.finish is not None:
            painted = self.finish(picture, painted)
        return gated(picture, painted, field.total)


def load() -> AdaIn:
    """The engine on the embedded weights.

    Raises:
        WeightsError: a file is missing or damaged, or the decoder was trained behind another encoder.
    """
    card = load_card("adain")
    decoder = load_decoder(card)
    return AdaIn(card.identity, load_encoder(), decoder)


def load_decoder(card: Card) -> AdaInDecoder:
    """The decoder of a card, frozen.

    Raises:
        WeightsError: see :func:`load`.
    """
    file = card.file("net")
    state, texts = read_tensors(weights_folder() / file.name, sha256=file.sha256)
    if texts.get("encoder") != load_card("lens").identity:
        raise WeightsError("the decoder of 'adain' was trained behind another encoder than the installed lens")
    return build_decoder(state, texts)

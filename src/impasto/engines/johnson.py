"""``johnson``: one small network for one style (Johnson et al. 2016, arXiv:1603.08155), by ONNX Runtime.

The network is described in :mod:`impasto.nets.johnson`; some come with impasto, others are trained by users
(``impasto train johnson``). A style code *is* a network: its bytes are the code's part ``network``, its vector is their
SHA-256, so that a recipe can tell two networks of the same name apart.

Fields: each network paints the whole picture, the paintings are mixed by the field's shares and laid over the
photograph by its total weight. Where the total is 0 the photograph stays bit for bit. ``mix_mode`` ``slerp`` lifts the
contrast that averaging takes (:class:`_Mix`).

Tiles: instance normalisation looks at the whole picture. A picture that is painted in tiles is measured once, on a
smaller copy, and every tile uses those statistics; neighbouring tiles then agree to rounding, because the halo covers
what the network sees.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.engines.base import ProgressCallback, RenderEstimate
from impasto.engines.fields import resize_field
from impasto.engines.johnson_styles import ENGINE, INPUTS, MARK, StyleFile, find_styles, read_style
from impasto.engines.tiles import Finish, check_field, color_finish, paint_scaled, paint_tiles, shrink
from impasto.errors import FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField
from impasto.types import FloatArray

__all__ = ["Johnson", "StyleShelf", "load"]

PART = "network"
MULTIPLE = 4  # the network's coarsest stride
LEAST_SIDE = 16  # smaller pictures are reflected up to it
HALO = 56  # how far the network looks, rounded up to a multiple of its stride
PROXY_PIXELS = 768 * 768  # size of the copy on which large pictures are measured
HUGE_PIXELS = 24_000_000  # above, the picture itself takes so much memory that tiles must take less
HUGE_TILE = 640
SESSIONS = 4  # networks that are kept ready
LARGEST_GAIN = 2.0  # of the contrast of a mix
SECONDS_PER_PIXEL = 0.6e-6  # of one processor


class Johnson:
    """The engine; :func:`load` builds it."""

    name = ENGINE
    style_suffix = ".onnx"

    def __init__(self) -> None:
        self._networks: OrderedDict[bytes, _Network] = OrderedDict()

    @property
    def identity(self) -> str:
        """16 digits that name the form of its codes; which network a code means is said by its vector."""
        return hashlib.sha256(MARK.encode()).hexdigest()[:16]

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """Refuses: a picture becomes a style by training.

        Raises:
            UsageError: always; it says how to train, and names the styles there are.
        """
        known = ", ".join(find_styles())
        raise UsageError(
            f"{self.name} paints with networks that were trained for one style, not with pictures: train one with "
            f"'impasto train johnson --style {name} --content PHOTOGRAPHS --out FOLDER', choose one of those installed "
            f"({known or 'none'}), or use --engine brush, which takes any picture"
        )

    def open_style(self, path: Path) -> StyleCode:
        """The code of a network's file, with its card beside it.

        Raises:
            WeightsError: the file or its card is missing, damaged or foreign.
        """
        content = read_style(path).read()
        _Network(content, path.name)
        return _code(content, path.name)

    def presets(self) -> Mapping[str, StyleCode]:
        """Shipped and personal styles by name; each is read when it is asked for."""
        return StyleShelf(find_styles())

    def preset_table(self) -> dict[str, StyleFile]:
        """Shipped and personal styles with titles and credits, without reading their networks."""
        return find_styles()

    # -- rendering -------------------------------------------------------------------------------------------------

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Measured: 0.6 microseconds of one processor and, within a tile, 170 bytes a pixel and style."""
        pixels = float(size[0] * size[1])
        work, kept = pixels, 0.0
        if config.style_scale != 1:
            other = pixels / config.style_scale**2
            work, kept = other + (pixels if config.style_scale > 1 else 0), 30.0 * (pixels + other)
        in_tile = min(work, (_tile(size, config) + 2 * HALO) ** 2)
        networks = len({code.digest for code in (layer.code for layer in field.layers)})
        processors = min(4, os.cpu_count() or 1)
        seconds = SECONDS_PER_PIXEL * work * networks / processors
        return RenderEstimate(seconds, round(80e6 + (170.0 + 12.0 * networks) * in_tile + 6.0 * pixels + kept))

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        Raises:
            FieldError: the field's maps have another size, or its codes are another engine's or damaged.
            WeightsError: a code holds no network of this engine.
        """
        size = (content.shape[0], content.shape[1])
        check_field(field, size, engine=self.name, identity=self.identity, length=VECTOR)
        field = StyleField(tuple(layer for layer in field.layers if float(np.max(layer.weight)) > 0))
        if not field.layers:
            return content.copy()
        if config.style_scale != 1:
            return paint_scaled(content, field, config, self.render, on_progress)
        networks = [self._network(layer.code) for layer in field.layers]
        tile = _tile(size, config)
        proxy = shrink(content, PROXY_PIXELS)
        painter = _Painter(networks, [None] * len(networks), None, None)
        if max(size) > tile:
            painter = replace(painter, statistics=[network.run(proxy, None)[1] for network in networks])
        if config.mix_mode == "slerp" and len(networks) > 1:
            painter = replace(painter, mix=_Mix.measured(painter.paintings(proxy)))
        small = resize_field(field, (proxy.shape[0], proxy.shape[1]))
        painter = replace(painter, finish=color_finish(config.preserve_color, proxy, small, painter.paint))
        return paint_tiles(
            content, field, painter.paint, tile=tile, halo=HALO, multiple=MULTIPLE, on_progress=on_progress
        )

    def _network(self, code: StyleCode) -> _Network:
        """The network of a code, ready to run; the last few are kept.

        Raises:
            FieldError: the code holds none, or another than its vector says.
            WeightsError: it is no network of this engine.
        """
        part = code.parts.get(PART)
        if part is None or part.dtype != np.uint8 or part.ndim != 1:
            raise FieldError(
                f"the style '{code.name}' holds no network, which {self.name} needs; load it again by its name"
            )
        content = part.tobytes()
        key = hashlib.sha256(content).digest()
        if not np.array_equal(_vector(key), code.vector):
            raise FieldError(f"the style '{code.name}' is damaged: its network is not the one that its code names")
        if key not in self._networks:
            self._networks[key] = _Network(content, code.name)
            while len(self._networks) > SESSIONS:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return self._networks[key]


def load() -> Johnson:
    """The engine; networks are read when their styles are asked for."""
    return Johnson()


class StyleShelf(Mapping[str, StyleCode]):
    """Styles by name, read when they are asked for: one that is damaged does not keep the others away."""

    def __init__(self, styles: Mapping[str, StyleFile]) -> None:
        self._styles = styles

    def __getitem__(self, name: str) -> StyleCode:
        """The style's code.

        Raises:
            KeyError: there is none of that name.
            WeightsError: its files are damaged.
        """
        return _code(self._styles[name].read(), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._styles)

    def __len__(self) -> int:
        return len(self._styles)

    def __contains__(self, name: object) -> bool:
        return name in self._styles


VECTOR = hashlib.sha256().digest_size


def _vector(digest: bytes) -> FloatArray:
    """A SHA-256 as ``[32]`` numbers in ``[0, 1]``."""
    return np.frombuffer(digest, np.uint8).astype(np.float32) / np.float32(255)


def _code(network: bytes, name: str) -> StyleCode:
    part = np.frombuffer(network, np.uint8)
    return StyleCode(_vector(hashlib.sha256(network).digest()), ENGINE, Johnson().identity, name, {PART: part})


def _tile(size: tuple[int, int], config: StylizeConfig) -> int:
    return config.tile if size[0] * size[1] <= HUGE_PIXELS else min(config.tile, HUGE_TILE)


class _Network:
    """One style's network in ONNX Runtime."""

    def __init__(self, content: bytes, name: str) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # a large tile's memory goes back when it is done
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base of its own errors
            raise WeightsError(f"ONNX Runtime cannot load the style '{name}': {error}") from error
        facts: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        inputs = self.session.get_inputs()
        if facts.get("impasto") != MARK or tuple(one.name for one in inputs) != INPUTS:
            raise WeightsError(
                f"'{name}' is an ONNX file, but no {ENGINE} network: 'impasto train johnson' makes those"
            )
        self.channels = int(inputs[1].shape[2])

    def run(self, picture: FloatArray, statistics: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """The painting ``[H, W, 3]`` of a picture, and the statistics used ``[1, 2, S]``."""
        height, width = picture.shape[:2]
        below, right = (max(LEAST_SIDE, side + -side % MULTIPLE) - side for side in (height, width))
        padded = np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric")
        feed = {
            "picture": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]),
            "statistics": np.zeros((1, 2, self.channels), np.float32) if statistics is None else statistics,
            "given": np.array(statistics is not None, np.float32),
        }
        painted, used = self.session.run(None, feed)
        result = np.clip(painted[0].transpose(1, 2, 0)[:height, :width], 0, 1)
        return np.asarray(result, np.float32), np.asarray(used, np.float32)


@dataclass(frozen=True)
class _Mix:
    """A mix of paintings that keeps their contrast.

    Paintings of one photograph are alike in its shapes and not in their strokes: their mean has less contrast than
    each. As slerp walks on the sphere where lerp cuts through it, the mix's deviations from its mean colour are lifted
    to the variance that the shares ``s`` promise:

        g(s)^2 = sum_k s_k V_kk / sum_jk s_j s_k V_jk,      V_jk = mean((p_j - m_j) . (p_k - m_k))

    For two paintings of equal contrast the path is that of slerp.

    Attributes:
        means: mean colours ``[K, 3]``.
        covariance: ``V``, ``[K, K]``, measured once on the whole picture.
    """

    means: FloatArray
    covariance: FloatArray

    @classmethod
    def measured(cls, paintings: Sequence[FloatArray]) -> _Mix:
        flat = np.stack([painting.reshape(-1, 3) for painting in paintings])  # [K, N, 3]
        means = flat.mean(1)
        deviations = (flat - means[:, None]).reshape(len(flat), -1)
        return cls(means, np.asarray(deviations @ deviations.T / deviations.shape[1], np.float32))

    def __call__(self, mixed: FloatArray, shares: FloatArray) -> FloatArray:
        """Lift the linear mix ``[H, W, 3]``; ``shares`` ``[..., K]`` sum to 1, ``...`` is empty or ``[H, W]``."""
        mean = shares @ self.means  # [..., 3]
        promised = shares @ np.diagonal(self.covariance)
        found = np.einsum("...j,jk,...k->...", shares, self.covariance, shares)
        gain = np.sqrt(promised / np.maximum(found, np.float32(1e-8)))
        gain = np.clip(gain, 1, LARGEST_GAIN).astype(np.float32)[..., None]
        return np.asarray(np.clip(mean + gain * (mixed - mean), 0, 1), np.float32)


@dataclass(frozen=True)
class _Painter:
    """The networks of a field with what is known of the whole picture."""

    networks: Sequence[_Network]
    statistics: Sequence[FloatArray | None]
    mix: _Mix | None
    finish: Finish | None

    def paintings(self, picture: FloatArray) -> list[FloatArray]:
        """Each network's painting ``[H, W, 3]``."""
        return [network.run(picture, known)[0] for network, known in zip(self.networks, self.statistics, strict=True)]

    def paint(self, picture: FloatArray, field: StyleField) -> FloatArray:
        """The mix laid over ``picture`` ``[H, W, 3]``: exactly the picture where the field is empty."""
        total = np.minimum(field.total, np.float32(1))[..., None]  # [1] or [H, W, 1]
        if float(total.max()) == 0:
            return picture
        inverse = 1 / np.maximum(total, np.float32(1e-6))
        shares = [np.asarray(layer.weight, np.float32)[..., None] * inverse for layer in field.layers]
        mixed = np.zeros_like(picture)
        for network, known, share in zip(self.networks, self.statistics, shares, strict=True):
            if float(share.max()) > 0:  # in this tile
                mixed += share * network.run(picture, known)[0]
        if self.mix is not None:
            grid = np.broadcast_shapes(*(share.shape for share in shares))
            mixed = self.mix(mixed, np.concatenate([np.broadcast_to(share, grid) for share in shares], axis=-1))
        if self.finish is not None:
            mixed = self.finish(picture, mixed)
        return np.asarray(picture + total * (mixed - picture), np.float32)

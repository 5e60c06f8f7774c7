"""``gatys``: a picture is optimised until an encoder sees the photograph's shapes and the painting's texture in it.

Gatys, Ecker & Bethge 2015/16 ("A neural algorithm of artistic style", arXiv:1508.06576; "Image style transfer using
convolutional neural networks", CVPR 2016), with what has been learned since: a pyramid of sizes (Gatys et al. 2017,
arXiv:1611.07865), a Laplacian parametrisation and nearest features (Kolkin et al. 2022, arXiv:2203.13215), Wasserstein
distances, a running mean of the iterates and Adam's moments carried from size to size (Crowson 2021).
``docs/gatys.md`` has the equations and every departure.

Fields are native: each style's statistics are taken over its region (guidance maps), mixing is several targets for one
region, and what is left to 1 aims at the photograph's own features. A gate ``min(1, total / GATE)`` inside the
parametrisation keeps the photograph exactly where the field is empty.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from impasto.config import StylizeConfig, resolve_options
from impasto.engines.base import ProgressCallback, RenderEstimate, RenderProgress
from impasto.engines.fields import composite
from impasto.engines.gatys_objective import MARGIN, SHIFT, Eye, Objective, Tiling
from impasto.engines.gatys_options import GatysOptions
from impasto.engines.gatys_pyramid import HALO, STRIDE, Scale, bands_of, picture_of, plan_scales
from impasto.engines.gatys_state import RunState, load_state, save_state
from impasto.engines.gatys_targets import COLOURS, Guide, Layers, StyleTarget, merged, style_target
from impasto.errors import FieldError, UsageError
from impasto.field import StyleCode, StyleField
from impasto.image.color import color_transfer, luminance, match_color_statistics, preserve_luminance_only, resize
from impasto.metrics.features import network_identity
from impasto.nets.encoders import encoder_sha256, load_encoder
from impasto.nets.teachers import Teacher, TeacherSpec
from impasto.ops.tiling import quantised, to_float
from impasto.types import FloatArray
from impasto.weights import load_card

__all__ = ["Gatys", "load"]

GATE = 0.2  # total weight from which the painting counts fully
BLOCK = 5  # iterations between two moves of the grid
BANDS = 5  # of the Laplacian parametrisation
LEAST_SIDE = 64  # of every picture that is looked at; smaller ones are reflected up to it
LARGEST_STYLE = 2048  # longer side of the style picture in a code
STYLE_MARGIN = 48  # reflected pixels around a style
STYLE_ZOOM = 1.5  # a style picture is not enlarged further than this: its strokes would be soft
THUMBNAIL = 16  # side of the picture that is a code's vector
LEAST_TILE = 128
MOST_MEMORY = 4.5e9  # on the CPU, unless more is allowed: larger tiles gain little there
WORKSPACE = 1.6  # peak memory of an iteration, in what the backward pass keeps
PICTURES = 30  # numbers that are kept for each channel of a pixel: bands, moments, means, copies
WARM_UP = 4  # first iterations of a size with a smaller step, while the moments settle
SAVE_SECONDS = 60.0  # between two writings of the state: a process that is killed cannot write its last one

Result = TypeVar("Result")


class Gatys:
    """The engine; :func:`load` builds it.

    Args:
        encoder: instead of the one that the options name; for programs that have their own.
        identity: 16 hexadecimal digits that tell ``encoder`` from others; needed with it.
    """

    name = "gatys"

    def __init__(self, encoder: Teacher | None = None, identity: str | None = None) -> None:
        self._encoder = encoder
        self._identity = identity
        self._load = functools.lru_cache(maxsize=2)(_encoder_on)
        self._probes: dict[tuple[str, str, Layers, bool], _Probe] = {}

    @property
    def identity(self) -> str:
        """First 16 digits of the SHA-256 of the embedded encoder's weights.

        Codes carry it whichever encoder is to look at them: they hold pictures.
        """
        return self._identity or load_card("lens").identity

    def identity_with(self, config: StylizeConfig) -> str:
        """First 16 digits of the SHA-256 of the weights of the encoder that the options name.

        Raises:
            UsageError: unknown options, or a hub file that is not pinned.
            WeightsError: there is no such file.
        """
        if self._encoder is not None:
            return self.identity
        return _encoder_sha256(resolve_options(GatysOptions, config.options))[:16]

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``: the picture itself (up to 2048 pixels long), as 8 bits.

        Its statistics depend on the size at which it is painted, so they are taken when that is known. The vector is
        the picture at 16 x 16.
        """
        longer = max(style.shape[:2])
        if longer > LARGEST_STYLE:
            size = [max(1, round(side * LARGEST_STYLE / longer)) for side in style.shape[:2]]
            style = resize(style, (size[0], size[1]))
        vector = np.clip(resize(np.asarray(style, np.float32), (THUMBNAIL, THUMBNAIL)), 0, 1).reshape(-1)
        return StyleCode(vector, self.name, self.identity, name, {"picture": quantised(style, np.uint8)})

    def presets(self) -> dict[str, StyleCode]:
        """None: a style is always a picture."""
        return {}

    # -- rendering -------------------------------------------------------------------------------------------------

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Time and memory for a picture of ``size`` (height, width), from a short trial of the encoder.

        Raises:
            UsageError: unknown options, or layers that the encoder does not have.
            WeightsError: the encoder cannot be loaded.
        """
        options = resolve_options(GatysOptions, config.options)
        if not field.layers or float(np.max(field.total)) == 0:
            return RenderEstimate(0.0, 0)
        eye, probe = self._eye(_padded_size(size), config, options)
        return _estimate(_padded_size(size), eye, probe, field, options)

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        ``on_progress`` hears first what is to come (time and memory), then of every iteration, with a preview.

        Raises:
            FieldError: the field's maps have another size, or its codes are another engine's.
            UsageError: unknown options, layers that the encoder does not have, or a state file of another run.
            WeightsError: the encoder cannot be loaded.
        """
        options = resolve_options(GatysOptions, config.options)
        height, width = content.shape[:2]
        self._check(field, (height, width))
        if not field.layers or float(np.max(field.total)) == 0:
            return content.copy()
        photo = _padded(to_float(content))
        eye, probe = self._eye(photo.shape[:2], config, options)
        if on_progress is not None:
            expected = _estimate(photo.shape[:2], eye, probe, field, options)
            on_progress(RenderProgress(0.0, 0, options.iterations, str(expected)))
        studio = _Studio(photo, field, config, options, eye)
        known = _fingerprint(content, field, config, network_identity(eye.encoder)) if options.resume else ""
        run = _Run(studio, known, (height, width), on_progress)
        painted = run.paint()[:height, :width]
        base = to_float(content)
        if config.preserve_color == "luminance":
            painted = preserve_luminance_only(base, painted)
        elif config.preserve_color == "statistics":
            painted = color_transfer(painted, base)(painted)
        result = composite(content, painted, np.minimum(field.total / np.float32(GATE), np.float32(1)))
        if on_progress is not None:
            on_progress(RenderProgress(1.0, options.iterations, options.iterations, "done"))
        return result

    def _check(self, field: StyleField, size: tuple[int, int]) -> None:
        if field.size is not None and field.size != size:
            raise FieldError(f"the field's maps are {field.size}, the picture is {size} (height, width)")
        for layer in field.layers:
            code = layer.code
            if code.engine != self.name or code.weights != self.identity:
                raise FieldError(
                    f"the style '{code.name}' was encoded by {code.engine} {code.weights}; "
                    f"this is {self.name} {self.identity}: encode it again"
                )
            picture = code.parts.get("picture")
            if picture is None or picture.ndim != 3 or code.vector.size != 3 * THUMBNAIL**2:
                raise FieldError(f"the style '{code.name}' holds no picture, which {self.name} needs: encode it again")

    def _eye(self, size: Sequence[int], config: StylizeConfig, options: GatysOptions) -> tuple[Eye, _Probe]:
        """The encoder on its device, with the largest tile that memory has room for."""
        device = _device(options.device)
        if self._encoder is None:
            encoder = self._load(options.encoder, _encoder_sha256(options), str(device))
        else:
            encoder = self._encoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        layers = _layers(encoder, options)
        half = _in_bfloat16(options, device)
        key = (options.encoder if self._encoder is None else "", str(device), layers, half)
        if key not in self._probes:
            self._probes[key] = _probe(Eye(encoder, layers, LEAST_TILE, half), device)
        probe = self._probes[key]
        budget = _budget(options, device)
        room = budget - size[0] * size[1] * 3 * 4 * PICTURES
        tile = int(math.sqrt(max(0.0, room) / (probe.bytes_per_pixel * WORKSPACE))) - 2 * HALO
        whole = max(size) + SHIFT
        if room >= probe.bytes_per_pixel * WORKSPACE * _padded_pixels(size) and max(size) <= config.tile:
            tile = whole
        else:
            tile = max(LEAST_TILE, min(config.tile, tile) // STRIDE * STRIDE)
        return Eye(encoder, layers, tile, half), probe


def load() -> Gatys:
    """The engine; the encoder is loaded when it is first needed."""
    return Gatys()


def _encoder_sha256(options: GatysOptions) -> str:
    return encoder_sha256(options.encoder, sha256=options.encoder_sha256)


def _encoder_on(name: str, sha256: str, device: str) -> Teacher:
    """The encoder of this SHA-256: of a file that changed, the new one, never one that was loaded before."""
    encoder = load_encoder(name, sha256=sha256)
    return encoder.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _device(name: str) -> torch.device:
    """The device that an option names.

    Raises:
        UsageError: this machine has none.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise UsageError(f"device '{name}' is not available here; use auto or cpu")
    return torch.device(name)


def _in_bfloat16(options: GatysOptions, device: torch.device) -> bool:
    """Whether the encoder computes in bfloat16: as the options say, or where hardware does it and Adam forgives it.

    The searches of L-BFGS along a line compare losses too finely for it.
    """
    if options.precision != "auto":
        return options.precision == "bfloat16"
    if options.optimizer == "lbfgs":
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bfloat16()


@functools.cache
def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX-512 BF16 or AMX); only Linux says so without more libraries."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _layers(encoder: Teacher, options: GatysOptions) -> Layers:
    """The layers that the options name, or the encoder's own.

    Raises:
        UsageError: the encoder does not have a layer.
    """
    spec = encoder.spec
    style = _named(options.style_layers) or spec.style_layers
    content = _named(options.content_layers) or _content_layers(spec)
    for layer in (*style, *content):
        if layer not in spec.layers:
            raise UsageError(f"the encoder {spec.name} has no layer '{layer}'; it has {', '.join(spec.layers)}")
    deep = tuple(layer for layer in style if spec.layers[layer][0] >= 4)
    return Layers(style, content, (deep or style[-1:]) if options.loss == "nearest" else ())


def _content_layers(spec: TeacherSpec) -> tuple[str, ...]:
    """The encoder's own; where that is one, with the last layer of half its stride, which keeps edges in place."""
    if len(spec.content_layers) > 1:
        return spec.content_layers
    (deep,) = spec.content_layers
    finer = [layer for layer, (stride, _) in spec.layers.items() if 2 * stride == spec.layers[deep][0]]
    return (*finer[-1:], deep)


def _named(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# -- time and memory -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Probe:
    """What a forward and backward pass takes, for each pixel."""

    seconds_per_pixel: float
    bytes_per_pixel: float


def _probe(eye: Eye, device: torch.device, side: int = 128) -> _Probe:
    """Two passes over a small picture: the first warms up, the second is timed; what autograd keeps is counted."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seconds = math.inf
    for _ in range(2):
        kept.clear()
        picture = torch.full((1, 3, side, side), 0.5, device=device).contiguous(memory_format=torch.channels_last)
        begun = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = eye.see(picture.requires_grad_())
            loss = torch.stack([one.float().square().mean() for one in found.values()]).sum()
            torch.autograd.grad(loss, picture)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = min(seconds, time.perf_counter() - begun)
    return _Probe(seconds / side**2, sum(kept.values()) / side**2)


def _budget(options: GatysOptions, device: torch.device) -> float:
    """Bytes that an iteration may take: what the options say, or two thirds of what is free (CPU: up to 4.5 GB)."""
    if options.memory is not None:
        return options.memory * 1e9
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 2 / 3
    return min(_free_memory() * 2 / 3, MOST_MEMORY)


def _free_memory() -> float:
    """Bytes that the system can still give; 4 GB where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
    except (OSError, ValueError, AttributeError):
        return 4e9


def _padded_pixels(size: Sequence[int]) -> int:
    return math.prod(side + 2 * MARGIN + SHIFT - 1 for side in size)


def _estimate(size: Sequence[int], eye: Eye, probe: _Probe, field: StyleField, options: GatysOptions) -> RenderEstimate:
    seconds = 0.0
    for scale in _scales(size, options):
        pixels, passes = _padded_pixels((scale.height, scale.width)), 1.0
        if max(scale.height, scale.width) + SHIFT > eye.tile:
            pixels = int(pixels * ((eye.tile + 2 * HALO) / eye.tile) ** 2)
            passes = 4 / 3  # the first pass goes forward only
        passes += 1 / (3 * BLOCK) + 0.2 * len(field.layers)  # the photograph through the moved grid; statistics
        seconds += scale.iterations * pixels * probe.seconds_per_pixel * passes
        seconds += (1 + len(field.layers)) * pixels * probe.seconds_per_pixel / 3  # targets
    outer = min(_padded_pixels(size), (eye.tile + 2 * HALO) ** 2)
    memory = outer * probe.bytes_per_pixel * WORKSPACE + size[0] * size[1] * 3 * 4 * PICTURES
    return RenderEstimate(seconds, int(memory))


# -- pictures --------------------------------------------------------------------------------------------------------


def _padded_size(size: Sequence[int]) -> tuple[int, int]:
    return max(size[0], LEAST_SIDE), max(size[1], LEAST_SIDE)


def _padded(picture: FloatArray) -> FloatArray:
    """A picture or map whose sides are at least 64, reflected to the right and below as often as it takes."""
    height, width = _padded_size(picture.shape)
    widths = [(0, height - picture.shape[0]), (0, width - picture.shape[1])] + [(0, 0)] * (picture.ndim - 2)
    return np.pad(picture, widths, mode="symmetric") if (height, width) != picture.shape[:2] else picture


def _scales(size: Sequence[int], options: GatysOptions) -> list[Scale]:
    smallest = max(options.smallest, math.ceil(LEAST_SIDE * max(size) / min(size)))
    return plan_scales((size[0], size[1]), smallest=smallest, iterations=options.iterations)


def _tensor(picture: FloatArray, device: torch.device) -> Tensor:
    """``[H, W, C]`` or ``[H, W]`` to ``[1, C, H, W]``."""
    planes = picture if picture.ndim == 3 else picture[..., None]
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)[None], np.float32)).to(device)


def _array(picture: Tensor) -> FloatArray:
    """``[1, 3, H, W]`` to ``[H, W, 3]``."""
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).cpu().numpy())


def _grey(picture: FloatArray) -> FloatArray:
    return np.repeat(luminance(picture)[..., None], 3, axis=2)


def _map_at(weight: Tensor, size: tuple[int, int]) -> Tensor:
    return weight if weight.shape[2:] == size else functional.interpolate(weight, size=size, mode="area")


# -- what is painted -------------------------------------------------------------------------------------------------


class _Studio:
    """Photograph, styles and field, ready to be had at any size of the pyramid."""

    def __init__(
        self, photo: FloatArray, field: StyleField, config: StylizeConfig, options: GatysOptions, eye: Eye
    ) -> None:
        self.config, self.options, self.eye = config, options, eye
        self.device = next(eye.encoder.buffers()).device
        self.size = (photo.shape[0], photo.shape[1])
        self.scales = _scales(self.size, options)
        self._photo = _grey(photo) if config.preserve_color == "luminance" else photo
        self._styles = [self._style(layer.code.parts["picture"], photo) for layer in field.layers]
        self._shapes = self._recoloured(field) if options.content == "moved" else self._photo
        self._weights, self._maps = _shared_maps(field, self.size, self.device)
        total = np.asarray(field.total)
        self._gate: Tensor | None = None
        self._support: Tensor | None = None
        if total.ndim:
            everywhere = _tensor(_padded(np.asarray(total, np.float32)), self.device)
            self._gate = (everywhere / GATE).clamp(max=1)
            self._support = (everywhere > 0).float() if float(total.min()) == 0 else None
        elif float(total) < GATE:
            self._gate = torch.full((1, 1, *self.size), float(total) / GATE, device=self.device)

    def _style(self, stored: NDArray[Any], photo: FloatArray) -> FloatArray:
        style = to_float(stored)
        if self.config.preserve_color == "luminance":
            return _grey(style)
        if self.config.preserve_color == "statistics":
            return np.clip(match_color_statistics(style, photo), 0, 1)
        return style

    def _recoloured(self, field: StyleField) -> FloatArray:
        """The photograph with each style's mean and covariance of colours, mixed by the field."""
        rest = np.maximum(1 - np.asarray(field.total, np.float32), 0)
        shares = [np.asarray(layer.weight, np.float32) for layer in field.layers]
        pictures = [np.clip(color_transfer(self._photo, style)(self._photo), 0, 1) for style in self._styles]
        mixed = np.zeros_like(self._photo)
        for share, picture in zip([*shares, rest], [*pictures, self._photo], strict=True):
            mixed += (_padded(share)[..., None] if share.ndim else share) * picture
        return mixed

    def shapes(self, scale: Scale) -> Tensor:
        """The photograph in the colours of the styles, unless the content is to be plain."""
        return _tensor(np.clip(resize(self._shapes, (scale.height, scale.width)), 0, 1), self.device)

    def content(self, scale: Scale) -> Tensor:
        """The photograph."""
        return _tensor(np.clip(resize(self._photo, (scale.height, scale.width)), 0, 1), self.device)

    def gate(self, scale: Scale) -> Tensor | None:
        """How far the painting counts, ``[1, 1, h, w]``; None where it does everywhere."""
        return None if self._gate is None else _map_at(self._gate, (scale.height, scale.width))

    def style(self, index: int, scale: Scale) -> Tensor:
        """A style picture, with as many pixels as the photograph, times the style scale."""
        picture = self._styles[index]
        height, width = picture.shape[:2]
        factor = min(math.sqrt(self.size[0] * self.size[1] / (height * width)), STYLE_ZOOM) * self.config.style_scale
        factor *= scale.height / self.size[0]
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        return _tensor(np.clip(_padded(resize(picture, size)), 0, 1), self.device)

    def objective(self, scale: Scale) -> Objective:
        """The loss at one size, with its targets."""
        targets = [self._target(index, scale) for index in range(len(self._styles))]
        size = (scale.height, scale.width)
        regions = [_map_at(one, size) for one in self._maps]
        support = None if self._support is None else _map_at(self._support, size)
        guides = self._guides(targets)
        photo = self.content(scale)
        return Objective(self.eye, self.shapes(scale), guides, regions, support, self.options, photo=photo)

    def _target(self, index: int, scale: Scale) -> StyleTarget:
        survey = self.eye.survey(self.style(index, scale), columns=bool(self.eye.layers.matched), margin=STYLE_MARGIN)
        sums = {layer: survey.sums[(None, layer)] for layer in (*self.eye.layers.all, COLOURS)}
        return style_target(sums, survey.columns, layers=self.eye.layers, loss=self.options.loss, seed=self.config.seed)

    def _guides(self, targets: list[StyleTarget]) -> list[Guide]:
        """The field's parts with their targets; styles of the same region become one when mixed along the sphere."""
        styles = [one for one in self._weights if one.style is not None and one.share > 0]
        own = [Guide(None, one.region, one.share, one.scale) for one in self._weights if one.style is None]
        if self.config.mix_mode == "slerp" and len(styles) > 1 and len({one.region for one in styles}) == 1:
            target = merged([targets[one.style] for one in styles], [one.share for one in styles])  # type: ignore[index]
            share, scale = sum(one.share for one in styles), sum(one.scale for one in styles)
            return [Guide(target, styles[0].region, share, scale), *own]
        return [Guide(targets[one.style], one.region, one.share, one.scale) for one in styles] + own  # type: ignore[index]

    def start(self, scale: Scale) -> Tensor:
        """The first picture of the first size."""
        if self.options.init == "content":
            return self.shapes(scale)
        size = (scale.height, scale.width)
        if self.options.init == "style":
            return functional.interpolate(self.style(0, scale), size=size, mode="bicubic", antialias=True).clamp(0, 1)
        rng = np.random.default_rng([self.config.seed, 0])
        noise = 0.5 + 0.2 * rng.standard_normal((*size, 3), dtype=np.float32)
        return _tensor(np.clip(noise, 0, 1), self.device)


@dataclass(frozen=True)
class _Weight:
    """One of the field's weights: ``scale`` times a map that others may share; ``style`` is None for the content."""

    style: int | None
    region: int | None
    share: float
    scale: float


def _shared_maps(field: StyleField, size: Sequence[int], device: torch.device) -> tuple[list[_Weight], list[Tensor]]:
    """The field's weights and the different maps among them, each with a maximum of 1."""
    total = np.asarray(field.total, np.float32)
    inside = total > 0
    rest = np.where(inside, np.maximum(1 - total, 0), 0).astype(np.float32)
    numbered: list[tuple[int | None, NDArray[Any]]] = [
        (index, np.asarray(layer.weight, np.float32)) for index, layer in enumerate(field.layers)
    ]
    if float(rest.max()) > 1e-3:
        numbered.append((None, rest))
    weights: list[_Weight] = []
    shapes: list[NDArray[Any]] = []
    for index, weight in numbered:
        peak = float(weight.max())
        if peak <= 0:
            weights.append(_Weight(index, None, 0.0, 0.0))
            continue
        share = float(np.broadcast_to(weight, inside.shape)[inside].mean(dtype=np.float64))
        if float(weight.min()) == peak:
            weights.append(_Weight(index, None, share, peak))
            continue
        shape = weight / peak
        region = next((n for n, other in enumerate(shapes) if np.abs(other - shape).max() < 1e-4), len(shapes))
        if region == len(shapes):
            shapes.append(shape)
        weights.append(_Weight(index, region, share, peak))
    return weights, [_tensor(_padded(np.asarray(shape, np.float32)), device) for shape in shapes]


# -- the run ---------------------------------------------------------------------------------------------------------


class _Run:
    """One painting from the smallest size to the largest."""

    def __init__(
        self,
        studio: _Studio,
        fingerprint: str,
        shown: tuple[int, int],
        on_progress: ProgressCallback | None,
    ) -> None:
        self._studio, self._options, self._fingerprint = studio, studio.options, fingerprint
        self._shown = (shown[0] / studio.size[0], shown[1] / studio.size[1])  # the rest was reflected
        self._tell = on_progress
        self._costs = [scale.iterations * _padded_pixels((scale.height, scale.width)) for scale in studio.scales]
        self._file = Path(self._options.resume) if self._options.resume else None
        self._safe: RunState | None = None
        self._saved = time.monotonic()
        self._average: tuple[Tensor, float] | None = None

    def paint(self) -> FloatArray:
        """The painting ``[H, W, 3]``, in ``[0, 1]``, without the gate."""
        state = None
        if self._file is not None:
            state = load_state(self._file, self._fingerprint, self._studio.device)
        picture: Tensor | None = None
        moments: list[dict[str, Tensor]] = []
        first = 0 if state is None else state.scale
        try:
            for number in range(first, len(self._studio.scales)):
                picture, moments = self._paint_at(number, picture, moments, state)
                state = None
        except BaseException:
            if self._file is not None and self._safe is not None:
                save_state(self._safe, self._file, self._fingerprint)
            raise
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        assert picture is not None  # there is at least one size
        return _array(picture.clamp(0, 1))

    def _paint_at(
        self, number: int, before: Tensor | None, moments: list[dict[str, Tensor]], state: RunState | None
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """One size of the pyramid: the picture and Adam's moments at its end."""
        studio, scale = self._studio, self._studio.scales[number]
        objective = self._sparing(None, functools.partial(studio.objective, scale))
        content, gate = studio.content(scale), studio.gate(scale)
        if state is not None:
            bands = [band.clone() for band in state.bands]
        else:
            start = studio.start(scale) if before is None else _enlarged(before, scale)
            bands = bands_of(start, BANDS) if self._options.optimizer == "adam" else [start.clone()]
        for band in bands:
            band.requires_grad_()
        optimizer = self._optimizer(bands, moments)
        self._average, done = None, 0
        if state is not None:
            optimizer.load_state_dict(state.optimizer)
            self._average, done = state.average, state.done

        def compose() -> Tensor:
            painted = picture_of(bands)
            return painted if gate is None else content + gate * (painted - content)

        while done < scale.iterations:
            self._remember(number, done, bands, optimizer)
            count = min(BLOCK, scale.iterations - done)
            tiling = self._tiling(number, done)
            with torch.no_grad():
                current = compose()
            self._sparing(objective, functools.partial(objective.begin_block, current, tiling))
            if self._options.optimizer == "adam":
                for step in range(done, done + count):
                    optimizer.param_groups[0]["lr"] = self._rate(step, scale.iterations, carried=number > 0)
                    self._step(optimizer, objective, compose, current, tiling)
                    self._collect(bands)
                    self._report(number, step + 1, compose)
            else:
                optimizer.param_groups[0]["max_iter"] = count
                if objective.moves:  # differences of gradients across blocks would not be this objective's curvature
                    optimizer.state.clear()
                self._step(optimizer, objective, compose, current, tiling)
                self._collect(bands)
                self._report(number, done + count, compose)
            done += count
        return self._mean(), _moments_of(optimizer, bands)

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        compose: Callable[[], Tensor],
        begun: Tensor,
        tiling: Tiling,
    ) -> None:
        def closure() -> float:
            optimizer.zero_grad()
            picture = compose()
            value, gradient = self._sparing(
                objective,
                functools.partial(objective.gradient, picture),
                functools.partial(objective.begin_block, begun, tiling),
            )
            torch.autograd.backward(picture, gradient)
            return value

        optimizer.step(closure)

    def _sparing(
        self, objective: Objective | None, call: Callable[[], Result], again: Callable[[], object] | None = None
    ) -> Result:
        """The result of ``call``; when memory ends, smaller tiles are tried, after ``again``."""
        while True:
            try:
                return call()
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or self._studio.eye.tile <= LEAST_TILE:
                    raise
            tile = max(LEAST_TILE, self._studio.eye.tile // 2 // STRIDE * STRIDE)
            self._studio.eye = replace(self._studio.eye, tile=tile)
            if objective is not None:
                objective.eye = self._studio.eye
            if again is not None:
                self._sparing(objective, again)

    def _optimizer(self, bands: list[Tensor], moments: list[dict[str, Tensor]]) -> torch.optim.Optimizer:
        """Adam with the moments of the size before, or L-BFGS."""
        if self._options.optimizer == "lbfgs":
            return torch.optim.LBFGS(bands, lr=1.0, history_size=10, line_search_fn="strong_wolfe")
        optimizer = torch.optim.Adam(bands, lr=self._options.learning_rate, betas=(0.9, 0.99))
        for band, known in zip(bands, moments, strict=False):  # finest first: the same band of another size
            size = (band.shape[2], band.shape[3])
            first, second = known["exp_avg"], known["exp_avg_sq"]
            fewer = first[0, 0].numel() / band[0, 0].numel()  # means over more places have smaller gradients
            optimizer.state[band] = {
                "step": known["step"].clone(),
                "exp_avg": fewer * functional.interpolate(first, size=size, mode="bilinear"),
                "exp_avg_sq": fewer**2 * functional.interpolate(second, size=size, mode="bilinear"),
            }
        return optimizer

    def _rate(self, step: int, steps: int, *, carried: bool) -> float:
        """Adam's step: full for the first half, falling to a tenth; a gentle start where there are no moments yet."""
        share = min(1.0, 2 * (steps - step) / steps * 0.95 + 0.05)
        warm = 1.0 if carried else min(1.0, (step + 1) / WARM_UP)
        return self._options.learning_rate * share * warm

    def _tiling(self, number: int, done: int) -> Tiling:
        """Where the grid lies in a block: a function of seed, size and iteration, so that a resumed run agrees."""
        drawn = Tiling.drawn(np.random.default_rng([self._studio.config.seed, 1, number, done]))
        return drawn if self._options.optimizer == "adam" else replace(drawn, down=0, right=0)

    # -- the mean of the iterates ------------------------------------------------------------------------------------

    @torch.no_grad()
    def _collect(self, bands: list[Tensor]) -> None:
        memory = self._options.average if self._options.optimizer == "adam" else 0.0
        picture = picture_of(bands).detach()
        if self._average is None or memory == 0:
            self._average = picture, 1.0
        else:
            total, weight = self._average
            self._average = memory * total + picture, memory * weight + 1

    def _mean(self) -> Tensor:
        assert self._average is not None  # every size has at least one iteration
        return self._average[0] / self._average[1]

    # -- talking and remembering --------------------------------------------------------------------------------------

    def _report(self, number: int, done: int, compose: Callable[[], Tensor]) -> None:
        if self._tell is None:
            return
        scale = self._studio.scales[number]
        spent = sum(self._costs[:number]) + self._costs[number] * done / scale.iterations
        step = sum(one.iterations for one in self._studio.scales[:number]) + done
        rows, columns = (
            max(1, round(side * part)) for side, part in zip((scale.height, scale.width), self._shown, strict=True)
        )

        def preview() -> FloatArray:
            with torch.no_grad():
                return np.clip(_array(compose())[:rows, :columns], 0, 1)

        message = f"size {number + 1} of {len(self._studio.scales)}, {columns} x {rows}"
        share = min(1.0, spent / sum(self._costs))
        self._tell(RenderProgress(share, step, self._options.iterations, message, preview))

    def _remember(self, number: int, done: int, bands: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        if self._file is None:
            return
        average = None if self._average is None else (self._average[0].clone(), self._average[1])
        kept = [band.detach().clone() for band in bands]
        self._safe = RunState(number, done, kept, average, _copied(optimizer.state_dict()))
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            save_state(self._safe, self._file, self._fingerprint)
            self._saved = time.monotonic()


def _out_of_memory(error: BaseException) -> bool:
    """PyTorch says it with an error of its own on accelerators, and in a RuntimeError's text on the CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error).lower() for word in words)


def _enlarged(picture: Tensor, scale: Scale) -> Tensor:
    return functional.interpolate(picture, size=(scale.height, scale.width), mode="bicubic", align_corners=False)


def _moments_of(optimizer: torch.optim.Optimizer, bands: list[Tensor]) -> list[dict[str, Tensor]]:
    return [dict(optimizer.state[band]) for band in bands] if isinstance(optimizer, torch.optim.Adam) else []


def _copied(value: Any) -> Any:
    """A nested state with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _fingerprint(content: NDArray[Any], field: StyleField, config: StylizeConfig, encoder: str) -> str:
    """SHA-256 of everything that decides the painting; not of where it is computed."""
    known = hashlib.sha256(np.ascontiguousarray(content).tobytes())
    known.update(f"{content.shape} {content.dtype} {encoder}".encode())
    for layer in field.layers:
        known.update(layer.code.digest.encode())
        known.update(np.ascontiguousarray(np.asarray(layer.weight, np.float32)).tobytes())
    options = asdict(resolve_options(GatysOptions, config.options))
    for name in ("resume", "memory", "device"):
        options.pop(name)
    settings = {
        name: value for name, value in asdict(config).items() if name not in ("options", "tile", "strength", "size")
    }
    known.update(repr((sorted(settings.items()), sorted(options.items()))).encode())
    return known.hexdigest()

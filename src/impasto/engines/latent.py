"""``latent``: Stable Diffusion 1.5 or XL paints in the style of pictures, without training.

Four methods on one model that the user has: ``styleid`` and ``stylealigned`` put the style into self attention
(:mod:`impasto.engines.latent_attention`), ``ip-adapter`` into cross attention, ``img2img`` is SDEdit with a prompt.
Samplers and inversion are those of :mod:`impasto.ops.samplers`; of diffusers only the networks are used.
``docs/latent.md`` has the equations, departures and costs.

Fields are native: maps weigh the styles inside attention and at the start; with ``img2img`` and ``ip-adapter`` each
position starts from as much noise as its weight says (Differential Diffusion, Levin & Fried 2023, arXiv:2306.00950).
Where the field is empty, a gate ``min(1, total / GATE)`` keeps the photograph exactly.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from impasto.config import StylizeConfig, resolve_options
from impasto.engines.base import ProgressCallback, RenderEstimate, RenderProgress
from impasto.engines.fields import composite
from impasto.engines.latent_attention import (
    CONTENT,
    ImagePrompt,
    Stage,
    StyledAttention,
    on_stage,
    self_attention_layers,
)
from impasto.engines.latent_control import canny_edges
from impasto.engines.latent_models import (
    WORK_PER_PIXEL,
    Condition,
    LatentModel,
    check_adapter,
    find_controlnet,
    find_model,
    load_latent_model,
    model_sha256,
)
from impasto.engines.latent_options import LatentOptions
from impasto.engines.tiles import GATE, check_field
from impasto.errors import FieldError, MissingExtraError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image.color import color_transfer, preserve_luminance_only, resize
from impasto.ops.samplers import classifier_free_guidance, ddim_inversion, noise_for, sample_from, timesteps
from impasto.ops.tiling import quantised, to_float
from impasto.types import FloatArray

__all__ = ["Latent", "load"]

LARGEST_STYLE = 2048  # longer side of the style picture in a code
THUMBNAIL = 16  # side of the picture that is a code's vector
PIECES = (1, 4, 16)  # attention in so many parts: what is tried when memory runs out
PROBE = 32  # side of the latents that time is measured on, at least
SECONDS_PER_PIXEL, BYTES_PER_PIXEL = 3e-7, 60  # of the whole picture: resizing, colours, the field
DECODER_BLOCKS = 2  # StyleID: so many of the decoder's last blocks with attention see the style


class Latent:
    """The engine; :func:`load` builds it. The model is loaded when it is first needed, and one is kept."""

    name = "latent"

    def __init__(self) -> None:
        self._kept: tuple[tuple[Any, ...], LatentModel] | None = None
        self._probes: dict[tuple[Any, ...], float] = {}
        self._busy = threading.RLock()  # layers of the one network are changed while it paints

    @property
    def identity(self) -> str:
        """16 digits that name the form of its codes: they hold pictures, whichever model is to look at them."""
        return hashlib.sha256(b"impasto latent, codes of form 1").hexdigest()[:16]

    def identity_with(self, config: StylizeConfig) -> str:
        """First 16 digits of a SHA-256 over all weights that the options name.

        Raises:
            UsageError: unknown options, or a hub repository that is not pinned.
            WeightsError: there is no such model.
        """
        options = resolve_options(LatentOptions, config.options)
        return model_sha256(_parts(options))[:16]

    def release(self) -> None:
        """Give the model's memory back; the next rendering loads it again."""
        with self._busy:
            if self._kept is not None:
                self._kept[1].release()
            self._kept = None

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``: the picture itself (up to 2048 pixels long), as 8 bits.

        The vector is the picture at 16 x 16.
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
        """Time and memory for a picture of ``size`` (height, width), from a short trial of the network.

        Raises:
            UsageError: unknown options, or a device that is not there.
            WeightsError: the model cannot be loaded.
        """
        options = resolve_options(LatentOptions, config.options)
        layers = _painted(field)
        if not layers:
            return RenderEstimate(0.0, 0)
        with self._busy:
            model = self._model(options, size)
            return self._estimate(model, size, len(layers), options)

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        ``on_progress`` hears of every call of the network, with a preview of the painting as far as it is known.

        Raises:
            FieldError: the field's maps have another size, or its codes are another engine's.
            UsageError: unknown options, layers that the model does not have, or a picture too large for the memory.
            WeightsError: the model cannot be loaded.
        """
        options = resolve_options(LatentOptions, config.options)
        size = (content.shape[0], content.shape[1])
        _check(field, size, self.identity)
        layers = _painted(field)
        if not layers:
            return content.copy()
        with self._busy:
            model = self._model(options, size)
            clock = _Clock(on_progress)
            if on_progress is not None:
                clock.say(str(self._estimate(model, size, len(layers), options)))
            painted = _with_less_and_less_memory(
                lambda pieces: _Painting(model, to_float(content), layers, config, options, pieces, clock).paint(),
                model,
                clock,
                size,
            )
        painted = _with_colors(painted, to_float(content), config.preserve_color)
        result = composite(content, painted, np.minimum(field.total / np.float32(GATE), np.float32(1)))
        if on_progress is not None:
            on_progress(RenderProgress(1.0, clock.total, clock.total, "done"))
        return result

    def _model(self, options: LatentOptions, size: tuple[int, int]) -> LatentModel:
        key = _key(options)
        if self._kept is None or self._kept[0] != key:
            self.release()
            pixels = math.prod(_working_size(size, options))
            self._kept = key, load_latent_model(find_model(options), find_controlnet(options), options, pixels)
        return self._kept[1]

    def _estimate(
        self, model: LatentModel, size: tuple[int, int], styles: int, options: LatentOptions
    ) -> RenderEstimate:
        key = _key(options)
        if key not in self._probes:
            self._probes[key] = _seconds_per_latent(model)
        work, whole = math.prod(_working_size(size, options)), math.prod(size)
        calls = _calls(options, options.steps, styles) + (0 if options.guidance == 1 else options.steps)
        seconds = calls * work / model.factor**2 * self._probes[key] + whole * SECONDS_PER_PIXEL
        return RenderEstimate(seconds, int(_bytes(model) + WORK_PER_PIXEL * work + BYTES_PER_PIXEL * whole))


def load() -> Latent:
    """The engine; diffusers is imported and the model loaded when it is first needed.

    Raises:
        MissingExtraError: diffusers or transformers is not installed.
    """
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"the engine '{Latent.name}'", "diffusion")
    return Latent()


def _key(options: LatentOptions) -> tuple[Any, ...]:
    """What tells one loaded model from another; first the SHA-256 of all its weights.

    Raises:
        UsageError: a hub repository that is not pinned.
        WeightsError: a part is missing.
    """
    return model_sha256(_parts(options)), options.variant, options.device, options.precision, options.offload


def _parts(options: LatentOptions) -> list[Path]:
    """Folders and files with the weights and settings that the options name."""
    folder, controlnet = find_model(options), find_controlnet(options)
    parts = [folder / name for name in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler")]
    parts += [] if controlnet is None else [controlnet]
    return [part for part in parts + check_adapter(options) if part.exists()]


def _check(field: StyleField, size: tuple[int, int], identity: str) -> None:
    check_field(field, size, engine=Latent.name, identity=identity, length=3 * THUMBNAIL**2)
    for layer in field.layers:
        picture = layer.code.parts.get("picture")
        if picture is None or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise FieldError(f"the style '{layer.code.name}' holds no picture; encode it again with {Latent.name}")


def _painted(field: StyleField) -> list[StyleLayer]:
    return [layer for layer in field.layers if float(np.max(layer.weight)) > 0]


def _with_colors(painted: FloatArray, content: FloatArray, mode: str) -> FloatArray:
    if mode == "luminance":
        return preserve_luminance_only(content, painted)
    if mode == "statistics":
        return np.clip(color_transfer(painted, content)(painted), 0, 1)
    return painted


# -- time and memory ---------------------------------------------------------------------------------------------------


class _Clock:
    """Tells of the calls of the network that are behind; never goes back, even where a painting begins anew."""

    def __init__(self, on_progress: ProgressCallback | None) -> None:
        self.on_progress = on_progress
        self.total = 1
        self._calls = 0
        self._done = 0.0

    def begin(self, calls: int) -> None:
        self.total, self._calls = max(1, calls), 0

    def say(self, message: str) -> None:
        if self.on_progress is not None:
            self.on_progress(RenderProgress(self._done, self._calls, self.total, message))

    def tick(self, message: str, preview: Callable[[], FloatArray] | None = None) -> None:
        """One more call is behind."""
        self._calls += 1
        self._done = max(self._done, 0.99 * min(1.0, self._calls / self.total))
        if self.on_progress is not None:
            self.on_progress(RenderProgress(self._done, self._calls, self.total, message, preview))


def _with_less_and_less_memory(
    paint: Callable[[int], FloatArray], model: LatentModel, clock: _Clock, size: tuple[int, int]
) -> FloatArray:
    """``paint(pieces)`` with more and more pieces, as long as memory runs out.

    Raises:
        UsageError: it does not suffice even so.
    """
    reason = ""
    for pieces in PIECES:
        model.decode_in_tiles(pieces > 1)
        if pieces > 1:
            clock.say(f"out of memory: once more, attention in {pieces} pieces and the decoder in tiles")
        try:
            return paint(pieces)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0]
        gc.collect()  # outside of the handler, which holds the failed painting
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
    raise UsageError(
        f"a picture of {size[0]} x {size[1]} does not fit into memory even in small pieces ({reason}): paint it "
        "smaller with --set reduce_to=768, or use --set offload=sequential"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(one in str(error).lower() for one in words)


def _seconds_per_latent(model: LatentModel) -> float:
    """Time of the network for each position of the latents: the second of two calls on a small picture."""
    side = max(PROBE, model.multiple // model.factor)
    condition = _plain(model.words(""), model)
    x = torch.zeros(1, model.channels, side, side, device=model.device)
    seconds = math.inf
    for _ in range(2):
        begun = time.perf_counter()
        model.predict(x, model.schedule.steps // 2, condition)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = min(seconds, time.perf_counter() - begun)
    return seconds / side**2


def _plain(condition: Condition, model: LatentModel) -> Condition:
    """With no image in it, where the network insists on one."""
    if model.image_encoder is None:
        return condition
    grey = np.full((8, 8, 3), 0.5, np.float32)
    return replace(condition, images=model.image_prompts([grey]))


def _bytes(model: LatentModel) -> int:
    networks = [part for part in model.pipe.components.values() if isinstance(part, torch.nn.Module)]
    networks += [part for part in (model.controlnet, model.image_encoder) if part is not None]
    return sum(weight.nbytes for network in networks for weight in network.parameters())


def _calls(options: LatentOptions, steps: int, styles: int) -> int:
    """Calls of the network for a picture."""
    heard = 1 + styles if options.attends else 0
    inverted = max(heard, 1) if options.from_inversion else 0
    return steps * (inverted * (1 + options.refinements) + heard + 1)


# -- sizes -------------------------------------------------------------------------------------------------------------


def _working_size(size: tuple[int, int], options: LatentOptions) -> tuple[int, int]:
    """Height and width at which a picture is painted, before it is padded."""
    longer = max(size)
    factor = min(max(longer, options.enlarge_to), options.reduce_to) / longer
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _padded(plane: FloatArray, multiple: int) -> FloatArray:
    """``[H, W]`` or ``[H, W, C]``, reflected to the right and below up to the next multiple."""
    widths = [(0, -side % multiple) for side in plane.shape[:2]] + [(0, 0)] * (plane.ndim - 2)
    return np.pad(plane, widths, mode="symmetric")


def _style_size(style: tuple[int, ...], size: tuple[int, int], scale: float, multiple: int) -> tuple[int, int]:
    """A style picture's size: as many pixels as the photograph has, times the square of the style scale."""
    factor = math.sqrt(size[0] * size[1] / (style[0] * style[1])) * scale
    longest = 2 * max(size) / max(style[:2])  # very long pictures stay within reason
    sides = [max(1, round(side * min(factor, longest) / multiple)) * multiple for side in style[:2]]
    return sides[0], sides[1]


# -- one picture -------------------------------------------------------------------------------------------------------


class _Painting:
    """A photograph while it is painted."""

    def __init__(
        self,
        model: LatentModel,
        content: FloatArray,
        layers: Sequence[StyleLayer],
        config: StylizeConfig,
        options: LatentOptions,
        pieces: int,
        clock: _Clock,
    ) -> None:
        self.model, self.options, self.clock = model, options, clock
        self.size = (content.shape[0], content.shape[1])
        self.work = _working_size(self.size, options)
        photo = content if self.work == self.size else np.clip(resize(content, self.work), 0, 1)
        self.photo = _padded(photo, model.multiple)
        self.pictures = [to_float(layer.code.parts["picture"]) for layer in layers]
        self.styles = [self._style(picture, config.style_scale) for picture in self.pictures]
        self.maps = self._maps(layers)  # [K, h, w]
        self.stage = Stage(options.method, self.maps, options.query, options.temperature, pieces)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.ladder = timesteps(
            model.schedule.steps,
            options.steps,
            spacing="leading" if options.from_inversion else "trailing",
            start=options.share,
            offset=model.offset if options.from_inversion else 0,
        )
        if not self.ladder:
            raise UsageError(f"start {options.share:g} is less than one step of the model's noise")

    def paint(self) -> FloatArray:
        """The painting ``[H, W, 3]`` in ``[0, 1]``, of the photograph's size."""
        model, options = self.model, self.options
        self.clock.begin(_calls(options, len(self.ladder), len(self.styles)))
        with ExitStack() as stack:
            self._enter_stage(stack)
            self.words = _plain(model.words(""), model)
            self.condition = self._condition()
            clean = model.encode(self.photo)
            styles = [model.encode(style) for style in self.styles]
            noise = noise_for(clean, [self.generator])
            self.path = self._path_of(clean, noise, "the photograph")
            self.style_paths = [
                self._path_of(style, noise_for(style, [self.generator]), f"style {index + 1}", listened=options.attends)
                for index, style in enumerate(styles)
            ]
            self.clean = clean
            latents = sample_from(
                options.rule,
                self._denoise,
                self._start(clean, styles, noise),
                self.ladder,
                schedule=model.schedule,
                parametrisation="sample",
                generators=[self.generator],
                on_step=self._tell,
            )
            return self._finished(latents)

    def _finished(self, latents: Tensor) -> FloatArray:
        painted = self.model.decode(latents)[: self.work[0], : self.work[1]]
        return painted if self.work == self.size else np.clip(resize(painted, self.size), 0, 1)

    # -- before ----------------------------------------------------------------------------------------------------

    def _style(self, picture: FloatArray, scale: float) -> FloatArray:
        size = _style_size(picture.shape, (self.photo.shape[0], self.photo.shape[1]), scale, self.model.multiple)
        return np.clip(resize(picture, size), 0, 1)

    def _maps(self, layers: Sequence[StyleLayer]) -> Tensor:
        """The field over the latents, ``[K, h, w]``."""
        planes = []
        for layer in layers:
            weight = np.asarray(layer.weight, np.float32)
            if weight.ndim and self.work != self.size:
                weight = np.clip(resize(weight, self.work), 0, 1)
            planes.append(_padded(np.broadcast_to(weight, self.work), self.model.multiple))
        stacked = torch.from_numpy(np.stack(planes)).to(self.model.device)
        maps = functional.avg_pool2d(stacked[None], self.model.factor)[0]
        return maps / maps.sum(0).clamp(min=1)

    def _enter_stage(self, stack: ExitStack) -> None:
        """Layers see the field until the stack is left."""
        unet = self.model.unet
        if self.options.attends:
            layers = self_attention_layers(unet, _named(self.options.layers) or self._own_layers(unet))
            styled = {name: StyledAttention(name, self.stage, layer.processor) for name, layer in layers.items()}
            stack.enter_context(on_stage(layers, styled))
        if self.options.method == "ip-adapter":
            layers = {name: layer for name, layer in unet.named_modules() if name.endswith(".attn2")}
            wanted = self._adapter_layers(list(layers))
            scales = {name: self.options.adapter_scale if name.startswith(wanted) else 0.0 for name in layers}
            prompted = {name: ImagePrompt(self.stage, layer.processor, scales[name]) for name, layer in layers.items()}
            stack.enter_context(on_stage(layers, prompted))

    def _own_layers(self, unet: Any) -> tuple[str, ...]:
        """StyleID: the decoder's last two blocks with attention, which are layers 6 to 11 of Stable Diffusion 1.5."""
        if self.options.method != "styleid":
            return ()
        names = [name for name in self_attention_layers(unet, ()) if name.startswith("up_blocks.")]
        blocks = sorted({int(name.split(".")[1]) for name in names})
        return tuple(f"up_blocks.{block}." for block in blocks[-DECODER_BLOCKS:])

    def _adapter_layers(self, names: Sequence[str]) -> tuple[str, ...]:
        """InstantStyle's block for the style (Wang et al. 2024, arXiv:2404.02733), all, or those that are named.

        Of Stable Diffusion XL it is ``up_blocks.0.attentions.1``: the second of the decoder's first block with
        attention. Which one it is in 1.5 the paper does not say; here it is the same place.
        """
        wanted = self.options.adapter_blocks
        if wanted == "all":
            return ("",)
        if wanted == "style":
            first = min((name for name in names if name.startswith("up_blocks.")), key=lambda name: name.split(".")[1])
            return (f"up_blocks.{first.split('.')[1]}.attentions.1.",)
        chosen = _named(wanted)
        if not chosen or not any(name.startswith(chosen) for name in names):
            raise UsageError(f"adapter_blocks '{wanted}' names no cross-attention layer; there are {', '.join(names)}")
        return chosen

    def _condition(self) -> Condition:
        options, model = self.options, self.model
        guided = options.guidance != 1
        condition = model.words(options.prompt, options.negative_prompt, guided=guided)
        if model.image_encoder is not None:
            condition = replace(condition, images=model.image_prompts(self.pictures, guided=guided))
        if model.controlnet is not None:
            seen = canny_edges(self.photo) if options.control_picture == "edges" else self.photo
            control = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)[None])).to(model.device)
            rows = len(condition.text)
            condition = replace(
                condition, control=control.expand(rows, -1, -1, -1), control_scale=options.control_scale
            )
        return condition

    # -- what the photograph and the styles are at each level of noise ------------------------------------------------

    def _path_of(self, clean: Tensor, noise: Tensor, name: str, *, listened: bool = True) -> Callable[[int], Tensor]:
        """The latents of a picture by step: on the way of its inversion, or with the seed's noise."""
        schedule = self.model.schedule
        if not self.options.from_inversion or not listened:
            return lambda t: schedule.q_sample(clean, noise, t)

        def denoise(x_t: Tensor, t: int | Tensor) -> Tensor:
            answer = self.model.predict(x_t, int(t), self.words)
            self.clock.tick(f"inverting {name}")
            return answer

        path = ddim_inversion(
            denoise,
            clean,
            self.ladder,
            schedule=schedule,
            parametrisation=self.model.parametrisation,
            refinements=self.options.refinements,
        )
        return dict(zip(self.ladder, path, strict=True)).__getitem__

    def _start(self, clean: Tensor, styles: Sequence[Tensor], noise: Tensor) -> Tensor:
        """Latents at the first step, with as much of the styles' moments as ``adain`` and the field say.

        An inversion is moved itself (StyleID, eq. 8); else the photograph, before noise is added.
        """
        first = self.ladder[0]
        if not self.options.from_inversion:
            return self.model.schedule.q_sample(self._moved(clean, styles), noise, first)
        likes = [path(first) for path in self.style_paths]
        return self._moved(self.path(first), likes)

    def _moved(self, x: Tensor, likes: Sequence[Tensor]) -> Tensor:
        """``x + adain sum_k w_k (AdaIN(x, like_k) - x)``, ``[1, C, h, w]``."""
        moved = x
        if self.options.adain == 0:
            return x
        for share, like in zip(self.maps, likes, strict=True):
            moved = moved + self.options.adain * share * (_latent_adain(x, like) - x)
        return moved

    # -- a step ----------------------------------------------------------------------------------------------------

    def _denoise(self, x_t: Tensor, step: int | Tensor) -> Tensor:
        """The clean latents that the network sees in ``x_t`` ``[1, C, h, w]``, with the styles in its attention."""
        t, model, options = int(step), self.model, self.options
        if options.attends:
            self._listen(t)
        with self.stage.speak():
            answer = model.predict(x_t, t, self.condition)
        if len(answer) == 2:
            answer = classifier_free_guidance(answer[1:], answer[:1], options.guidance, rescale=options.rescale)
        x0 = model.schedule.predicted_x0(answer, x_t, t, parametrisation=model.parametrisation)
        if options.attends:
            return x0
        # positions whose own start lies below t stay the photograph with noise on it until then
        begun = self.maps.sum(0) * (self.ladder[0] + 1) > t
        return torch.where(begun, x0, self.clean)

    def _listen(self, t: int) -> None:
        pictures = [(CONTENT, self.path), *enumerate(self.style_paths)]
        for picture, path in pictures:
            with self.stage.hear(picture):
                self.model.predict(path(t), t, self.words)
            self.clock.tick("looking at the photograph" if picture == CONTENT else f"looking at style {picture + 1}")

    def _tell(self, step: int, steps: int, x0: Tensor) -> None:
        self.clock.tick(f"step {step} of {steps}", lambda: self.model.decode(x0)[: self.work[0], : self.work[1]])


def _latent_adain(x: Tensor, like: Tensor) -> Tensor:
    """``x`` ``[1, C, h, w]`` with the mean and deviation of each channel of ``like``."""
    axes = (2, 3)
    mean, deviation = x.mean(axes, keepdim=True), x.std(axes, keepdim=True, correction=0)
    scale = like.std(axes, keepdim=True, correction=0) / (deviation + 1e-5)
    return (x - mean) * scale + like.mean(axes, keepdim=True)


def _named(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())

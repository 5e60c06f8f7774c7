"""``diffusion``: a picture grows out of noise, guided by the photograph's hints and the styles' tokens.

Latent diffusion (Rombach et al. 2022, arXiv:2112.10752) with a small network of the project's own; equations and
departures stand in :mod:`impasto.nets.diffusion`, :mod:`impasto.nets.autoencoder` and :mod:`impasto.nets.hints`. This
file does what surrounds them. A style code is the style's tokens and vector.

Fields are native: weights are shares inside the attention and of the modulations, and what is left to 1 belongs to the
photograph's own codes; strength is such a weight. The option ``start`` lowers the noise that a picture starts from
(SDEdit, Meng et al. 2022, arXiv:2108.01073). Strength does not: the network hardly moves away from a noised photograph,
so that all of the style would come with the last quarter of the strength. Latents are 8 pixels wide: regions are
painted a little beyond their border and cut off there, pixel by pixel; strength 0 and what a mask leaves out are exact.
Codes lie on no sphere: ``mix_mode`` ``slerp`` mixes like ``linear``.

The network works about a guess, the photograph without fine detail in the styles' colours
(:mod:`impasto.nets.prior`).

``temperature`` scales the noise at the start, as in Glow (Kingma & Dhariwal 2018, arXiv:1807.03039, section 5): a
network that was trained for a short time leaves some of it in the picture as grain.

Guidance (Ho & Salimans 2022, arXiv:2207.12598) compares with the network's answer without any style and costs a second
evaluation for each step; at 1 there is none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.config import StylizeConfig, resolve_options
from impasto.engines.base import Preset, ProgressCallback, RenderEstimate, RenderProgress
from impasto.engines.diffusion_canvas import MARGIN, MULTIPLE, Canvas, Networks, codes_of
from impasto.engines.diffusion_options import DiffusionOptions
from impasto.engines.diffusion_presets import unpack_presets
from impasto.engines.fields import composite, spread_field
from impasto.engines.tiles import check_field, color_finish, gated, paint_scaled, shrink
from impasto.errors import FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField
from impasto.image.color import resize
from impasto.losses.guidance import area_weight
from impasto.nets.autoencoder import Autoencoder, build_autoencoder
from impasto.nets.clip_style import ClipStyle
from impasto.nets.diffusion import PARAMETRISATION, StyleDiffusion, build_diffusion, diffusion_schedule
from impasto.nets.encoders import load_encoder
from impasto.nets.hints import STYLE_LAYERS, hint_statistics, style_features
from impasto.nets.prior import Colours
from impasto.nets.styled_attention import StyleCodes, StyleShare, complete
from impasto.nets.teachers import Teacher
from impasto.ops.samplers import classifier_free_guidance, noise_for, sample
from impasto.ops.tiling import pad_to_multiple, to_float
from impasto.types import FloatArray
from impasto.weights import load_card, read_weights, weights_folder
from impasto.weights.files import read_tensors

__all__ = ["Diffusion", "load", "split_diffusion"]

STYLE_SIDE = 256  # a style picture is seen at this short side ...
STYLE_PIXELS = 256 * 512  # ... and at no more pixels
LEAST_STYLE = 64  # pixels of a side, for 8 x 8 cells of features at 1/8
PROXY_PIXELS = 768 * 768
TILE_LIMIT = 1024  # a tile's features take some hundred bytes a pixel
LEAST_TILE = 256


class Diffusion:
    """The engine; :func:`load` builds it from the embedded weights.

    Args:
        identity: first 16 digits of the SHA-256 of the weights.
        encoder: the frozen encoder that the network was trained behind.
        net: the network.
        autoencoder: its latent space.
        presets: the file of presets, or nothing.
    """

    name = "diffusion"

    def __init__(
        self, identity: str, encoder: Teacher, net: StyleDiffusion, autoencoder: Autoencoder, presets: bytes = b""
    ) -> None:
        self.identity = identity
        self._presets = functools.cache(lambda: unpack_presets(presets, engine=self.name, identity=identity))
        self._networks = Networks(net.eval(), autoencoder.eval(), encoder)
        self._schedule = diffusion_schedule()

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``, seen at a short side of 256 pixels. No setting changes it."""
        height, width = style.shape[:2]
        factor = min(STYLE_SIDE / min(height, width), (STYLE_PIXELS / (height * width)) ** 0.5)
        size = (max(LEAST_STYLE, round(height * factor)), max(LEAST_STYLE, round(width * factor)))
        seen = np.clip(resize(np.asarray(style, np.float32), size), 0, 1)
        return self._code(self._codes_of_picture(seen, self._on(torch.device("cpu"))), name)

    def encode_embedding(self, embedding: NDArray[Any], adapter: ClipStyle, *, name: str) -> StyleCode:
        """The code of a CLIP embedding ``[D]``, of a picture or of a text, through an adapter that was fitted for it.

        Raises:
            UsageError: the embedding or the adapter has another length than the network or the adapter needs.
        """
        with torch.inference_mode():
            codes = adapter(torch.from_numpy(np.asarray(embedding, np.float32))[None])
        if codes.vector.shape[1] != self._networks.net.config.tokens:
            raise UsageError(
                f"this adapter makes codes of {codes.vector.shape[1]} numbers, {self.name} needs "
                f"{self._networks.net.config.tokens}: fit one for this network"
            )
        return self._code(codes, name)

    def _code(self, codes: StyleCodes, name: str) -> StyleCode:
        assert codes.colours is not None  # those of pictures and of adapters have some
        colours = torch.cat([codes.colours.mean[:, None], codes.colours.root], dim=1)  # [1, 4, 3]
        parts = {"tokens": codes.tokens[0].cpu().numpy(), "colours": colours[0].cpu().numpy()}
        return StyleCode(codes.vector[0].cpu().numpy(), self.name, self.identity, name, parts)

    def _codes_of_picture(self, picture: FloatArray, networks: Networks) -> StyleCodes:
        with torch.inference_mode():
            batch = _tensor(picture, next(networks.net.parameters()).device)
            return networks.net.codes(style_features(networks.encoder(batch, STYLE_LAYERS), batch))

    def presets(self) -> dict[str, StyleCode]:
        """Codes that come with the weights, by name.

        Raises:
            WeightsError: the presets belong to other weights, or their file is damaged.
        """
        return {name: preset.code for name, preset in self._presets().items()}

    def preset_table(self) -> dict[str, Preset]:
        """Presets with titles and credits.

        Raises:
            WeightsError: the presets belong to other weights, or their file is damaged.
        """
        return dict(self._presets())

    # -- rendering -------------------------------------------------------------------------------------------------

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """From the networks' arithmetic: 3 microseconds a pixel, 0.8 for each evaluation; 800 bytes a pixel of a tile.

        Raises:
            UsageError: unknown options.
        """
        options = resolve_options(DiffusionOptions, config.options)
        if not field.layers or float(np.max(field.total)) == 0:
            return RenderEstimate(0.0, 0)
        pixels = size[0] * size[1]
        scaled = pixels / config.style_scale**2 if config.style_scale != 1 else 0.0
        work = scaled + (pixels if config.style_scale >= 1 else 0)
        passes = options.steps * (1 if options.guidance == 1 else 2)
        in_tile = min(work, (min(config.tile, TILE_LIMIT) + 384) ** 2)
        return RenderEstimate((3e-6 + 8e-7 * passes) * work, round(450e6 + 800.0 * in_tile + 60.0 * pixels))

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        ``on_progress`` hears that it begins, and of every step, with a preview of the picture that it predicts. When
        memory ends, it hears so, and the picture is painted again in smaller tiles.

        Raises:
            FieldError: the field's maps have another size, or its codes are another engine's or of other weights.
            UsageError: unknown options, or a device that is not there.
        """
        options = resolve_options(DiffusionOptions, config.options)
        height, width = content.shape[:2]
        self._check(field, (height, width))
        if not field.layers or float(np.max(field.total)) == 0:
            return content.copy()
        if config.style_scale != 1:
            return paint_scaled(content, field, config, self.render, on_progress)
        if on_progress is not None:
            on_progress(RenderProgress(0.0, 0, options.steps, ""))
        base, (wide, cover) = to_float(content), spread_field(field)
        painted = self._sparing(base, wide, config, options, on_progress)
        proxy = shrink(content, PROXY_PIXELS)
        small = shrink(painted, PROXY_PIXELS)
        finish = color_finish(config.preserve_color, proxy, wide, lambda *_: small)
        if finish is not None:
            painted = finish(base, painted)
        painted = gated(base, painted, wide.total)
        if on_progress is not None:
            on_progress(RenderProgress(1.0, options.steps, options.steps, "done"))
        return composite(content, painted, 1.0 if cover is None else cover)

    def _check(self, field: StyleField, size: tuple[int, int]) -> None:
        length = self._networks.net.config.tokens
        check_field(field, size, engine=self.name, identity=self.identity, length=length)
        for layer in field.layers:
            tokens, colours = (layer.code.parts.get(part, np.zeros(0)) for part in ("tokens", "colours"))
            fits = tokens.ndim == 2 and tokens.shape[1] == length and colours.shape == (4, 3)
            if not fits or not np.isfinite(tokens).all() or not np.isfinite(colours).all():
                name = layer.code.name
                raise FieldError(
                    f"the style '{name}' holds no tokens or colours, which {self.name} needs: encode it again"
                )

    def _sparing(
        self,
        base: FloatArray,
        field: StyleField,
        config: StylizeConfig,
        options: DiffusionOptions,
        on_progress: ProgressCallback | None,
    ) -> FloatArray:
        """The painting ``[H, W, 3]``; when memory ends, in smaller tiles."""
        tile = min(config.tile, TILE_LIMIT) // MULTIPLE * MULTIPLE
        while True:
            try:
                return self._painted(base, field, config, options, tile, on_progress)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or tile <= LEAST_TILE:
                    raise
            tile = max(LEAST_TILE, tile // 2 // MULTIPLE * MULTIPLE)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if on_progress is not None:
                message = f"out of memory: painting again in tiles of {tile} px"
                on_progress(RenderProgress(0.0, 0, options.steps, message))

    def _painted(
        self,
        base: FloatArray,
        field: StyleField,
        config: StylizeConfig,
        options: DiffusionOptions,
        tile: int,
        on_progress: ProgressCallback | None,
    ) -> FloatArray:
        """``[H, W, 3]`` to ``[H, W, 3]`` through hints, noise, denoiser and decoder."""
        device = _device(options.device)
        networks = self._on(device)
        padded, inside = pad_to_multiple(base, MARGIN, MULTIPLE)
        with torch.inference_mode():
            canvas = Canvas(networks, _tensor(padded, device), tile)
            shares, without, own = self._shares(base, field, networks, canvas)
            guess = canvas.guess(shares, own)
            proxy = _tensor(_even(shrink(base, PROXY_PIXELS)), device)
            statistics = hint_statistics(networks.encoder(proxy, STYLE_LAYERS), proxy)
            hints = canvas.hints(statistics, options.light)
            generators = [torch.Generator().manual_seed(config.seed)]
            shape = torch.empty(1, networks.autoencoder.config.channels, *canvas.grid, device=device)

            def denoise(noisy: Tensor, t: int | Tensor) -> Tensor:
                found = canvas.denoise(noisy, int(t), guess, hints, shares)
                if options.guidance == 1:
                    return found
                other = canvas.denoise(noisy, int(t), guess, hints, without)
                return classifier_free_guidance(found, other, options.guidance)

            def report(step: int, steps: int, x0: Tensor) -> None:
                if on_progress is not None:
                    preview = functools.partial(_preview, canvas, x0, inside)
                    on_progress(RenderProgress(step / (steps + 1), step, steps, f"step {step} of {steps}", preview))

            latents = sample(
                options.sampler,
                denoise,
                options.temperature * noise_for(shape, generators),
                schedule=self._schedule,
                steps=options.steps,
                parametrisation=PARAMETRISATION,
                start=options.start,
                content=canvas.latents() if options.start < 1 else None,
                generators=generators,
                on_step=report,
            )
            result = np.empty_like(padded)

            def keep(place: tuple[slice, slice], pixels: Tensor) -> None:
                result[place] = pixels.clamp(0, 1).permute(1, 2, 0).cpu().numpy()

            canvas.decode(latents, keep)
        return np.ascontiguousarray(result[inside])

    def _shares(
        self, base: FloatArray, field: StyleField, networks: Networks, canvas: Canvas
    ) -> tuple[list[StyleShare], list[StyleShare], Colours]:
        """The field in the network, with the photograph's own codes; the same without any style; and its colours."""
        device, size = canvas.picture.device, base.shape[:2]
        proxy = _large_enough(shrink(base, STYLE_PIXELS))
        own = self._codes_of_picture(proxy, networks)
        shares = []
        for layer in field.layers:
            weight = np.asarray(layer.weight, np.float32)
            shares.append(StyleShare(codes_of(layer.code, device), _weight_map(weight, size, canvas.grid, device)))
        total = _weight_map(field.total, size, canvas.grid, device)
        assert own.colours is not None  # it is of a picture
        kept = StyleCodes(own.tokens, own.vector)  # without colours to be changed to: they are those that it has
        return complete(shares, kept), complete([StyleShare(networks.net.no_codes(), total)], kept), own.colours

    def _on(self, device: torch.device) -> Networks:
        """The networks, moved to a device."""
        parts = (self._networks.net, self._networks.autoencoder, self._networks.encoder)
        for network in parts:
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._networks


def _preview(canvas: Canvas, latents: Tensor, inside: tuple[slice, slice]) -> FloatArray:
    """The picture of a step, without the padding: ``[h, w, 3]``."""
    with torch.inference_mode():
        small = canvas.preview(latents).permute(1, 2, 0).cpu().numpy()
    factors = [small.shape[axis] / canvas.picture.shape[2 + axis] for axis in range(2)]
    rows, columns = (
        slice(round(part.start * factor), max(round(part.start * factor) + 1, round(part.stop * factor)))
        for part, factor in zip(inside, factors, strict=True)
    )
    return np.ascontiguousarray(small[rows, columns])


def _tensor(picture: FloatArray, device: torch.device) -> Tensor:
    batch = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None])).to(device)
    return batch.contiguous(memory_format=torch.channels_last)


def _even(picture: FloatArray) -> FloatArray:
    """A copy whose sides are multiples of 16, the last ones cut off; small pictures are reflected."""
    height, width = (side // MULTIPLE * MULTIPLE for side in picture.shape[:2])
    if min(height, width) < 2 * MULTIPLE:
        return pad_to_multiple(picture, MULTIPLE, MULTIPLE)[0]
    return picture[:height, :width]


def _large_enough(picture: FloatArray) -> FloatArray:
    """A copy with both sides at least 64 pixels."""
    height, width = (max(LEAST_STYLE, side) for side in picture.shape[:2])
    return np.clip(resize(picture, (height, width)), 0, 1) if (height, width) != picture.shape[:2] else picture


def _weight_map(weight: FloatArray, size: tuple[int, ...], grid: tuple[int, int], device: torch.device) -> Tensor:
    """A weight over the padded picture, on the grid of the latents ``[1, 1, h, w]``; ``[1, 1, 1, 1]`` if constant."""
    if weight.ndim == 0:
        return torch.full((1, 1, 1, 1), float(weight), device=device)
    padded, _ = pad_to_multiple(np.broadcast_to(weight, size)[..., None], MARGIN, MULTIPLE)
    return area_weight(_tensor(padded, device), grid)


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


def _out_of_memory(error: BaseException) -> bool:
    """PyTorch says it with an error of its own on accelerators, and in a RuntimeError's text on the CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error).lower() for word in words)


def load() -> Diffusion:
    """The engine with the embedded weights.

    Raises:
        WeightsError: a file is missing or damaged, or the network was trained behind another encoder.
    """
    card = load_card("diffusion")
    file = card.file("net")
    state, texts = read_tensors(weights_folder() / file.name, sha256=file.sha256)
    if texts.get("encoder") != load_card("lens").identity:
        raise WeightsError("the network of 'diffusion' was trained behind another encoder than the installed lens")
    presets = read_weights(card, "presets") if "presets" in card.files else b""
    return Diffusion(card.identity, load_encoder(), *split_diffusion(state, texts), presets)


def split_diffusion(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> tuple[StyleDiffusion, Autoencoder]:
    """The frozen network of a weights file, and its autoencoder.

    Raises:
        WeightsError: the file does not hold both.
    """
    begin = "autoencoder."
    inner = {name.removeprefix(begin): value for name, value in state.items() if name.startswith(begin)}
    outer = {name: value for name, value in state.items() if not name.startswith(begin)}
    return build_diffusion(outer, texts), build_autoencoder(inner, texts)

"""Models of the engine ``latent``: finding them without a network, refusing what could run code, loading, memory."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from impasto.engines.latent_options import LatentOptions
from impasto.errors import UsageError, WeightsError
from impasto.image.color import resize
from impasto.ops.noise import NoiseSchedule
from impasto.types import FloatArray
from impasto.weights.files import read_tensors

__all__ = [
    "ENVIRONMENT",
    "Condition",
    "LatentModel",
    "check_adapter",
    "choose_offload",
    "find_controlnet",
    "find_model",
    "load_latent_model",
    "model_sha256",
    "pick_device",
    "pick_precision",
]

ENVIRONMENT = "IMPASTO_LATENT_MODEL"
PIPELINES = {
    "StableDiffusionPipeline": "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
WORK_PER_PIXEL = 10_000  # bytes of activations, of the decoder mostly
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_CLIP_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_WITHOUT = "brush, local, quilt and gatys paint without a model"


# -- finding -----------------------------------------------------------------------------------------------------------


def find_model(options: LatentOptions) -> Path:
    """The folder of the model that the options name, or else the environment; its layout is checked.

    Nothing is fetched unless ``download`` is set.

    Raises:
        WeightsError: none is named, it is not there, not of a kind that is known, or holds no safetensors.
        UsageError: a hub repository without a full commit.
    """
    text = options.model or os.environ.get(ENVIRONMENT, "")
    if not text:
        raise WeightsError(
            "the engine latent needs a Stable Diffusion 1.5 or XL model in diffusers' layout, which does not come with "
            "impasto: name its folder by --set model=FOLDER or IMPASTO_LATENT_MODEL, or a repository of "
            "huggingface.co by --set model=OWNER/NAME@COMMIT (with --set download=true it is fetched, 4 to 14 GB), "
            f"such as stable-diffusion-v1-5/stable-diffusion-v1-5; {_WITHOUT}"
        )
    folder = _folder(text, "model", options)
    _check_pipeline(folder, options.variant)
    return folder


def find_controlnet(options: LatentOptions) -> Path | None:
    """The folder of the ControlNet that the options name, None where they name none.

    Raises:
        WeightsError: it is not there, or holds no safetensors.
        UsageError: a hub repository without a full commit.
    """
    if not options.controlnet:
        return None
    folder = _folder(options.controlnet, "controlnet", options)
    kind = _read_json(folder / "config.json").get("_class_name")
    if kind != "ControlNetModel":
        raise WeightsError(f"'{folder}' holds {kind or 'something else'}, not a ControlNetModel")
    _check_safetensors(folder, options.variant)
    return folder


def check_adapter(options: LatentOptions) -> list[Path]:
    """Files and folders of the IP-Adapter that the options name; none for methods without one.

    Raises:
        WeightsError: one is not named, not there, or no safetensors.
    """
    if options.method != "ip-adapter":
        return []
    if not options.adapter or not options.image_encoder:
        raise WeightsError(
            "ip-adapter needs the adapter's weights (--set adapter=FILE.safetensors) and the image encoder they were "
            "made for (--set image_encoder=FOLDER): h94/IP-Adapter on huggingface.co has both; --set method=styleid "
            "needs neither"
        )
    file, folder = Path(options.adapter).expanduser(), Path(options.image_encoder).expanduser()
    if file.suffix != ".safetensors":
        raise WeightsError(f"the adapter '{file}' is no .safetensors file; others are pickles, which could run code")
    if not file.is_file():
        raise WeightsError(f"there is no adapter '{file}'")
    _check_safetensors(folder, "")
    return [file, folder]


def _folder(text: str, option: str, options: LatentOptions) -> Path:
    """A folder as it is; a repository's from the hub's cache, or from the hub where that was asked for."""
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    match = _HUB.fullmatch(text)
    if match is None:
        if re.fullmatch(r"[\w.-]+/[\w.-]+(@.*)?", text) and not path.is_absolute():
            raise UsageError(
                f"there is no folder '{text}'; a repository of the hub must be pinned: --set "
                f"{option}=OWNER/NAME@COMMIT with all 40 digits of the commit"
            )
        raise WeightsError(f"there is no folder '{text}' for the option {option}; {_WITHOUT}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    ending = f".{options.variant}.safetensors" if options.variant else ".safetensors"
    weights = [f"{stem}{ending}" for stem in ("diffusion_pytorch_model", "model")]
    patterns = [
        *("model_index.json", "config.json", "*/*.json", "*/*.txt", *weights),
        *(f"*/{name}" for name in weights),
        *(f"*/*-of-*{ending}",),
    ]
    try:
        return Path(
            snapshot_download(
                match["repository"],
                revision=match["revision"],
                allow_patterns=patterns,  # never a pickle
                local_files_only=not options.download,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
        advice = (
            "the hub did not give it"
            if options.download
            else "it is not in the hub's cache on this machine; --set download=true fetches it"
        )
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"'{text}' cannot be had: {advice} ({reason}); {_WITHOUT}") from error


def _check_pipeline(folder: Path, variant: str) -> None:
    index = _read_json(folder / "model_index.json")
    if index.get("_class_name") not in PIPELINES:
        raise WeightsError(
            f"'{folder}' holds a {index.get('_class_name')}; latent knows Stable Diffusion 1.5 and XL, whose "
            "model_index.json says StableDiffusionPipeline or StableDiffusionXLPipeline"
        )
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if part != "text_encoder_2" or "text_encoder_2" in index:
            _check_safetensors(folder / part, variant)
    seen = _read_json(folder / "unet" / "config.json").get("in_channels")
    made = _read_json(folder / "vae" / "config.json").get("latent_channels")
    if seen != made:
        raise WeightsError(
            f"the network in '{folder}' takes {seen} channels where its decoder has {made}: it is made for inpainting "
            "or editing; latent needs the plain model"
        )


def _check_safetensors(folder: Path, variant: str) -> None:
    if not folder.is_dir():
        raise WeightsError(f"the model is incomplete: there is no folder '{folder}'")
    ending = f".{variant}.safetensors" if variant else ".safetensors"
    if any(path.name.endswith(ending) for path in folder.iterdir()):
        return
    found = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".ckpt", ".pt"))
    raise WeightsError(
        f"'{folder}' holds no weights as *{ending}, but {', '.join(found) or 'no weights at all'}; other files are "
        "pickles, which are not loaded because they could run code, or of another variant (--set variant=fp16)"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"'{path}' is missing: name the folder of a model in diffusers' layout") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"'{path}' is damaged: it holds no table")
    return found


def model_sha256(folders: Sequence[Path]) -> str:
    """SHA-256 over the names and contents of all weights and their settings in these folders or files, 64 digits.

    Each file is read once as long as it does not change.
    """
    known = hashlib.sha256()
    for folder in folders:
        files = [folder] if folder.is_file() else sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
        for path in files:
            facts = path.stat()
            known.update(f"{path.name} {_file_sha256(path.resolve(), facts.st_size, facts.st_mtime_ns)}\n".encode())
    return known.hexdigest()


@functools.lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, changed: int) -> str:
    """``size`` and the time of the last change tell one state of the file from the next."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- where to compute --------------------------------------------------------------------------------------------------


def pick_device(name: str) -> torch.device:
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


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that an option names; auto takes half of the memory where hardware computes in it."""
    if name != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def choose_offload(free: float, parts: Mapping[str, int], work: float) -> str:
    """How much of a model must wait in the computer's memory: ``none``, ``model`` or ``sequential``.

    Args:
        free: bytes of the accelerator's memory.
        parts: bytes of the networks, by name.
        work: bytes that computing takes besides.
    """
    if sum(parts.values()) + work <= free:
        return "none"
    return "model" if max(parts.values()) + work <= free else "sequential"


# -- the model ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Condition:
    """What the network is told besides the picture, for ``R`` rows at once.

    Attributes:
        text: ``[R, L, D]``.
        pooled: ``[R, E]`` of Stable Diffusion XL, or None.
        images: ``[R, K, E]`` or ``[R, K, M, E]`` of an IP-Adapter, or None.
        control: ``[R, 3, H, W]`` in ``[0, 1]`` for a ControlNet, or None.
        control_scale: its weight.
    """

    text: Tensor
    pooled: Tensor | None = None
    images: Tensor | None = None
    control: Tensor | None = None
    control_scale: float = 1.0


class LatentModel:
    """A loaded model: pictures to latents and back, words to conditions, predictions.

    Args:
        pipe: a StableDiffusionPipeline or StableDiffusionXLPipeline of diffusers.
        device: where it computes.
        controlnet: a ControlNetModel, or None.
        image_encoder: a CLIPVisionModelWithProjection, or None.
    """

    def __init__(
        self, pipe: Any, device: torch.device, controlnet: Any | None = None, image_encoder: Any | None = None
    ) -> None:
        self.pipe, self.device, self.controlnet, self.image_encoder = pipe, device, controlnet, image_encoder
        self.unet: Any = pipe.unet
        self.xl = hasattr(pipe, "text_encoder_2")
        self.dtype: torch.dtype = pipe.unet.dtype
        self.factor: int = 2 ** (len(pipe.vae.config.block_out_channels) - 1)  # pixels to a latent
        self.multiple: int = self.factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
        self.channels: int = pipe.unet.config.in_channels
        try:
            self.schedule = NoiseSchedule(pipe.scheduler.alphas_cumprod.double().cpu())
            self.parametrisation = PREDICTIONS[pipe.scheduler.config.prediction_type]
        except (AttributeError, KeyError, UsageError) as error:
            raise WeightsError(f"the model's scheduler describes no diffusion that latent knows: {error}") from error
        self.offset: int = pipe.scheduler.config.get("steps_offset", 0)

    # -- pictures --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, picture: FloatArray) -> Tensor:
        """``[H, W, 3]`` in ``[0, 1]``, sides divisible by :attr:`multiple`, to latents ``[1, C, h, w]`` float32."""
        vae = self.pipe.vae
        pixels = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None])) * 2 - 1
        found = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        latents: Tensor = (found * vae.config.scaling_factor).float()
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> FloatArray:
        """Latents ``[1, C, h, w]`` to a picture ``[H, W, 3]`` in ``[0, 1]``.

        Raises:
            UsageError: what comes out is no picture, because half precision did not suffice.
        """
        vae = self.pipe.vae
        pixels = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
        if not bool(torch.isfinite(pixels).all()):
            raise UsageError(f"the network's numbers overflow in {self.dtype}: use --set precision=float32 or bfloat16")
        return np.ascontiguousarray((pixels[0].float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy())

    # -- conditions ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def words(self, prompt: str, negative: str = "", *, guided: bool = False) -> Condition:
        """One row for the prompt; where guided, one for the negative prompt before it."""
        found = self.pipe.encode_prompt(
            prompt,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=negative or None,
        )
        rows = [found[1], found[0]] if guided else [found[0]]
        if not self.xl:
            return Condition(torch.cat(rows))
        pooled = [found[3], found[2]] if guided else [found[2]]
        return Condition(torch.cat(rows), torch.cat(pooled))

    @torch.no_grad()
    def image_prompts(self, pictures: Sequence[FloatArray], *, guided: bool = False) -> Tensor:
        """What an IP-Adapter is told of pictures ``[H, W, 3]``: ``[R, K, E]``, or ``[R, K, M, E]`` of a "plus" one.

        As CLIP has it: the shorter side at the encoder's size, the middle cut out.
        """
        encoder: Any = self.image_encoder
        side = encoder.config.image_size
        pixels = np.stack([(_cut_out(one, side) - _CLIP_MEAN) / _CLIP_DEVIATION for one in pictures])
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(self.device, encoder.dtype)
        plain = type(self.unet.encoder_hid_proj.image_projection_layers[0]).__name__ == "ImageProjection"

        def seen(batch: Tensor) -> Tensor:
            answer = encoder(batch, output_hidden_states=not plain)
            found: Tensor = answer.image_embeds[None] if plain else answer.hidden_states[-2][None]
            return found

        rows = [seen(batch)]
        if guided:  # what stands for no picture
            rows.insert(0, torch.zeros_like(rows[0]) if plain else seen(torch.zeros_like(batch)))
        return torch.cat(rows).to(self.dtype)

    # -- the network -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: int, condition: Condition) -> Tensor:
        """The network's answer ``[R, C, h, w]`` float32 for latents ``[1, C, h, w]`` at step ``t``."""
        rows = len(condition.text)
        x = x_t.to(self.dtype).expand(rows, -1, -1, -1)
        step = torch.tensor(t, device=self.device)
        told: dict[str, Any] = {}
        if condition.pooled is not None:
            size = [side * self.factor for side in x_t.shape[2:]]
            facts = torch.tensor([[*size, 0, 0, *size]] * rows, device=self.device, dtype=self.dtype)
            told = {"text_embeds": condition.pooled, "time_ids": facts}
        residuals: dict[str, Any] = {}
        if condition.control is not None and self.controlnet is not None:
            down, middle = self.controlnet(
                x,
                step,
                encoder_hidden_states=condition.text,
                controlnet_cond=condition.control.to(self.dtype),
                conditioning_scale=condition.control_scale,
                added_cond_kwargs=told or None,
                return_dict=False,
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if condition.images is not None:
            told = told | {"image_embeds": [condition.images]}
        answer: Tensor = self.unet(
            x,
            step,
            encoder_hidden_states=condition.text,
            added_cond_kwargs=told or None,
            return_dict=False,
            **residuals,
        )[0]
        return answer.float()

    def decode_in_tiles(self, tiles: bool) -> None:
        """Whether pictures are encoded and decoded in tiles: slower, with far less memory, and seen by careful eyes."""
        if tiles:
            self.pipe.vae.enable_tiling()
        else:
            self.pipe.vae.disable_tiling()

    def release(self) -> None:
        """Give the memory back; the model is of no use afterwards."""
        self.pipe.remove_all_hooks()
        self.pipe = self.unet = self.controlnet = self.image_encoder = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _cut_out(picture: FloatArray, side: int) -> FloatArray:
    height, width = picture.shape[:2]
    factor = side / min(height, width)
    scaled = resize(picture, (max(side, round(height * factor)), max(side, round(width * factor))))
    top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
    return np.clip(scaled[top : top + side, left : left + side], 0, 1)


# -- loading -----------------------------------------------------------------------------------------------------------


def load_latent_model(folder: Path, controlnet: Path | None, options: LatentOptions, pixels: int) -> LatentModel:
    """Load a model from its folder, where memory is for it.

    Args:
        folder: as :func:`find_model` gives it.
        controlnet: as :func:`find_controlnet` gives it.
        options: say the rest.
        pixels: of the picture to be painted, to plan the memory.

    Raises:
        WeightsError: damaged files, or an adapter that does not fit the model.
        UsageError: a device that this machine does not have.
    """
    device = pick_device(options.device)
    dtype = pick_precision(options.precision, device)
    with _quietly():
        pipe = _pipeline(folder, options.variant, dtype)
        control = None if controlnet is None else _controlnet(controlnet, options.variant, dtype)
        encoder = _with_adapter(pipe, options, dtype) if options.method == "ip-adapter" else None
    networks = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    networks |= {name: part for name, part in (("control", control), ("image", encoder)) if part is not None}
    for network in networks.values():
        network.eval().requires_grad_(False)
    if pipe.vae.config.get("force_upcast") and dtype == torch.float16:
        pipe.vae.to(torch.float32)  # its activations exceed what float16 can hold
    _place(pipe, networks, device, options.offload, WORK_PER_PIXEL * pixels)
    return LatentModel(pipe, device, control, encoder)


@contextmanager
def _quietly() -> Iterator[None]:
    """Loading draws no bars on the terminal, and only errors are logged there (torchvision is not missed)."""
    import diffusers
    import transformers

    logs = [one.utils.logging for one in (diffusers, transformers)]
    bars, levels = [log.is_progress_bar_enabled() for log in logs], [log.get_verbosity() for log in logs]
    for log in logs:
        log.disable_progress_bar()
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, bar, level in zip(logs, bars, levels, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()


def _pipeline(folder: Path, variant: str, dtype: torch.dtype) -> Any:
    import diffusers

    kind = PIPELINES[_read_json(folder / "model_index.json")["_class_name"]]
    unneeded: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    if kind == "StableDiffusionPipeline":
        unneeded |= {"safety_checker": None, "requires_safety_checker": False}
    else:
        unneeded |= {"add_watermarker": False}
    try:
        return getattr(diffusers, kind).from_pretrained(folder, dtype=dtype, **_files(variant), **unneeded)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise WeightsError(f"the model in '{folder}' cannot be loaded: {str(error).strip()}") from error


def _controlnet(folder: Path, variant: str, dtype: torch.dtype) -> Any:
    import diffusers

    kind: Any = diffusers.ControlNetModel
    try:
        return kind.from_pretrained(folder, dtype=dtype, **_files(variant))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise WeightsError(f"the ControlNet in '{folder}' cannot be loaded: {str(error).strip()}") from error


def _files(variant: str) -> dict[str, Any]:
    """How files are read: from the disk, and never as pickles."""
    return {"use_safetensors": True, "local_files_only": True, "variant": variant or None}


def _with_adapter(pipe: Any, options: LatentOptions, dtype: torch.dtype) -> Any:
    """Load the IP-Adapter's weights into the UNet, and its image encoder."""
    from transformers import CLIPVisionModelWithProjection

    file, folder = check_adapter(options)
    state = _adapter_state(file)
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        pipe.unet._load_ip_adapter_weights([state])  # the pipeline's own loader would look for a torchvision processor
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"the adapter '{options.adapter}' does not fit the model or the encoder: {str(error).strip()}"
        ) from error
    projection = type(pipe.unet.encoder_hid_proj.image_projection_layers[0]).__name__
    if "FaceID" in projection:
        raise WeightsError(f"the adapter '{file}' is made for faces' identities, which are no style; take a plain one")
    pipe.unet.to(dtype)
    return encoder


def _adapter_state(path: Path) -> dict[str, dict[str, Tensor]]:
    tensors, _ = read_tensors(path)
    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part in state:
            state[part][rest] = tensor
    if not all(state.values()):
        raise WeightsError(f"'{path}' is no IP-Adapter: it has no tensors image_proj.* and ip_adapter.*")
    return state


def _place(pipe: Any, networks: Mapping[str, Any], device: torch.device, wanted: str, work: float) -> None:
    """Move the networks to the device, or arrange that they go there when they are needed."""
    own = {"control", "image"}
    offload = wanted
    if device.type == "cpu":
        offload = "none"
    elif wanted == "auto":
        sizes = {name: sum(p.nbytes for p in network.parameters()) for name, network in networks.items()}
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else torch.mps.recommended_max_memory()
        offload = choose_offload(free, sizes, work)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    for name, network in networks.items():
        if offload == "none" or name in own:
            network.to(device)

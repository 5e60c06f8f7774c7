"""Settings that only the engine ``latent`` has. Nothing heavy is imported here: listings read it."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.config import check_settings, setting
from impasto.errors import UsageError

__all__ = ["BEGINNINGS", "DEVICES", "METHODS", "OFFLOADS", "PRECISIONS", "LatentOptions"]

METHODS = ("styleid", "stylealigned", "img2img", "ip-adapter")
BEGINNINGS = ("auto", "inversion", "noise")
SAMPLERS = ("auto", "ddim", "dpm-solver++", "ddpm")
CONTROL_PICTURES = ("edges", "photo")
PRECISIONS = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("auto", "none", "model", "sequential")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class LatentOptions:
    """See ``docs/latent.md``.

    Raises:
        UsageError: a value outside of its range, or values that do not go together.
    """

    model: str = setting(
        "", "Stable Diffusion 1.5 or XL: a folder in diffusers' layout, or OWNER/NAME@COMMIT of the hub's cache; by "
        "default what IMPASTO_LATENT_MODEL names",
    )  # fmt: skip
    variant: str = setting("", "variant of the model's files, such as fp16; empty for the plain ones")
    download: bool = setting(
        False, "fetch what is named by OWNER/NAME@COMMIT from the hub, gigabytes, if it is not there"
    )
    method: str = setting(
        "styleid",
        "styleid (the style's keys and values in self attention, on inverted noise), stylealigned (shared attention "
        "with normalised queries and keys), img2img (noise and the prompt) or ip-adapter (the style as image prompt)",
        choices=METHODS,
    )
    steps: int = setting(30, "steps of the sampler", smallest=1, largest=1000)
    start: float | None = setting(
        None, "share of the noise to start from, less keeps more; by default 1 for styleid and stylealigned, 0.6 for "
        "the others", smallest=0.01, largest=1.0,
    )  # fmt: skip
    begin_with: str = setting(
        "auto", "what the start is: inversion (the noise that leads back to the photograph) or noise (the seed's)",
        choices=BEGINNINGS,
    )  # fmt: skip
    refinements: int = setting(
        0, "fixed-point iterations in each step of the inversion: truer, and each costs as much again", smallest=0,
        largest=50,
    )  # fmt: skip
    sampler: str = setting("auto", "auto takes ddim from an inversion, dpm-solver++ from noise", choices=SAMPLERS)
    query: float = setting(
        0.75, "styleid: how much of the photograph's own queries is kept; more keeps more structure", smallest=0.0,
        largest=1.0,
    )  # fmt: skip
    temperature: float = setting(
        1.5, "styleid: sharpness of attention to the style; 1 leaves it as it is", smallest=0.1, largest=10.0
    )
    adain: float = setting(
        1.0, "how far the start takes the style's mean and deviation, which are its colours", smallest=0.0, largest=1.0
    )
    layers: str = setting(
        "", "self-attention layers that see the style, by the beginnings of their names with commas between; empty for "
        "the method's own",
    )  # fmt: skip
    prompt: str = setting("", "words for what to paint")
    negative_prompt: str = setting("", "words for what not to paint; counts where guidance is not 1")
    guidance: float = setting(
        1.0, "scale of classifier-free guidance towards the prompt; other than 1 takes twice the time", smallest=0.0,
        largest=30.0,
    )  # fmt: skip
    rescale: float = setting(
        0.0, "how far guidance keeps the contrast that it had without, against burnt colours", smallest=0.0, largest=1.0
    )
    adapter: str = setting("", "ip-adapter: its weights, a .safetensors file")
    image_encoder: str = setting("", "ip-adapter: folder of the CLIP image encoder that the adapter was made for")
    adapter_scale: float = setting(1.0, "ip-adapter: weight of the image prompt", smallest=0.0, largest=2.0)
    adapter_blocks: str = setting(
        "style", "ip-adapter: style (InstantStyle's one block, so that no objects of the style come along), all, or "
        "the beginnings of layers' names",
    )  # fmt: skip
    controlnet: str = setting("", "a ControlNet that keeps the structure: folder or OWNER/NAME@COMMIT; empty for none")
    control_picture: str = setting(
        "edges", "what the ControlNet sees: edges of the photograph (for a canny one), or the photo (for a tile one)",
        choices=CONTROL_PICTURES,
    )  # fmt: skip
    control_scale: float = setting(1.0, "weight of the ControlNet", smallest=0.0, largest=2.0)
    enlarge_to: int = setting(
        512, "pictures with a shorter longer side are enlarged to it while they are painted", smallest=8, largest=8192,
        unit="px",
    )  # fmt: skip
    reduce_to: int = setting(
        1024, "pictures with a longer side are reduced to it while they are painted", smallest=64, largest=8192,
        unit="px",
    )  # fmt: skip
    device: str = setting("auto", "where to compute: auto takes an accelerator if there is one", choices=DEVICES)
    precision: str = setting(
        "auto", "of the networks: auto takes bfloat16 or float16 on an accelerator, float32 on the CPU",
        choices=PRECISIONS,
    )  # fmt: skip
    offload: str = setting(
        "auto", "keep the networks in the computer's memory: none, model (one at a time goes to the accelerator), "
        "sequential (one layer at a time); auto looks at the memory that is free", choices=OFFLOADS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.enlarge_to > self.reduce_to:
            raise UsageError(f"enlarge_to ({self.enlarge_to}) must not exceed reduce_to ({self.reduce_to})")
        if self.from_inversion and self.sampler == "ddpm":
            raise UsageError("ddpm adds noise to an inversion, which then leads nowhere: use ddim, or begin_with=noise")

    @property
    def attends(self) -> bool:
        """Whether the style comes through self attention."""
        return self.method in ("styleid", "stylealigned")

    @property
    def from_inversion(self) -> bool:
        """Whether the start is the inverted photograph."""
        return self.begin_with == "inversion" or (self.begin_with == "auto" and self.attends)

    @property
    def share(self) -> float:
        """Share of the noise to start from."""
        return self.start if self.start is not None else 1.0 if self.attends else 0.6

    @property
    def rule(self) -> str:
        """The sampler."""
        return self.sampler if self.sampler != "auto" else "ddim" if self.from_inversion else "dpm-solver++"

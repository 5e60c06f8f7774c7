"""Settings that only the engine ``diffusion`` has. Nothing heavy is imported here: listings read it."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.config import check_settings, setting

__all__ = ["DEVICES", "SAMPLERS", "DiffusionOptions"]

SAMPLERS = ("dpm-solver++", "ddim", "ddpm")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class DiffusionOptions:
    """See ``docs/diffusion.md``.

    Raises:
        UsageError: a value outside of its range.
    """

    steps: int = setting(
        20, "steps from noise to picture; 12 to 25, with fewer flat areas show scales", smallest=1, largest=1000
    )
    guidance: float = setting(
        3.0, "how far beyond its own idea of the style the network is pushed; 1 is its own", smallest=0.0, largest=10.0
    )
    start: float = setting(
        1.0,
        "share of noise to start with: 1 knows the photograph by its hints only, less starts from the photograph",
        smallest=0.0,
        largest=1.0,
    )
    light: float = setting(
        1.0, "how strongly the photograph's light and edges are held; 0 leaves both to the style",
        smallest=0.0, largest=1.5,
    )  # fmt: skip
    temperature: float = setting(
        0.15,
        "how much of the noise is used: 1 draws pictures as the network was trained to, less is calmer, 0 uses none",
        smallest=0.0,
        largest=1.0,
    )
    sampler: str = setting(
        "dpm-solver++", "dpm-solver++, ddim, or ddpm for more steps with fresh noise", choices=SAMPLERS
    )
    device: str = setting("auto", "where to compute: auto takes an accelerator if there is one", choices=DEVICES)

    def __post_init__(self) -> None:
        check_settings(self)

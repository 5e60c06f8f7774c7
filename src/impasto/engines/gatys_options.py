"""Settings that only the engine ``gatys`` has. Nothing heavy is imported here: listings read it."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.config import check_settings, setting

__all__ = ["CONTENTS", "DEVICES", "INITS", "LOSSES", "OPTIMIZERS", "PRECISIONS", "GatysOptions"]

LOSSES = ("wasserstein", "gram", "nearest", "moments", "paper")
OPTIMIZERS = ("adam", "lbfgs")
INITS = ("content", "style", "noise")
CONTENTS = ("moved", "plain")
PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class GatysOptions:
    """See ``docs/gatys.md``.

    Raises:
        UsageError: a value outside of its range.
    """

    iterations: int = setting(200, "iterations over all sizes of the pyramid together", smallest=1, largest=100_000)
    loss: str = setting(
        "nearest",
        "what is compared with the style: nearest (features with those most like them, and their distribution), "
        "wasserstein (the distribution), gram (Gram matrices), moments (means and deviations), paper (Gram matrices "
        "weighted as Gatys et al. did)",
        choices=LOSSES,
    )
    optimizer: str = setting("adam", "adam, or lbfgs as in the paper", choices=OPTIMIZERS)
    content_weight: float = setting(
        1.0, "how much the photograph's shapes count against the style", smallest=0.0, largest=1000.0
    )
    content: str = setting(
        "moved",
        "which shapes: moved (of the photograph in the style's colours, its features with the style's moments) or "
        "plain (as they are, as in the paper)",
        choices=CONTENTS,
    )
    smooth_weight: float = setting(
        0.0, "weight of the total variation, against grain; blurs lines", smallest=0.0, largest=1000.0
    )
    learning_rate: float = setting(0.03, "of Adam, in units of the pixels' range", smallest=1e-4, largest=1.0)
    average: float = setting(
        0.9, "memory of the running mean of the iterates; 0 takes the last one", smallest=0.0, largest=0.999
    )
    init: str = setting("content", "what the smallest size starts from", choices=INITS)
    smallest: int = setting(
        128, "longer side of the pyramid's smallest size; at least the picture's for a single size",
        smallest=32, largest=65536, unit="px",
    )  # fmt: skip
    encoder: str = setting("lens", "network that sees: lens, or the file of a torchvision VGG-16, VGG-19 or SqueezeNet")
    encoder_sha256: str | None = setting(None, "SHA-256 that the encoder's file must have")
    style_layers: str = setting("", "layers whose style is compared, with commas between; empty for the encoder's own")
    content_layers: str = setting("", "layers whose content is kept, likewise")
    memory: float | None = setting(
        None,
        "memory to stay within; by default two thirds of what is free, on the CPU at most 4.5 GB",
        smallest=0.25,
        largest=4096,
        unit="GB",
    )
    resume: str = setting(
        "", "file that keeps the state, so that an interrupted run can go on; it is removed at the end"
    )
    device: str = setting("auto", "where to compute: auto takes an accelerator if there is one", choices=DEVICES)

    precision: str = setting(
        "auto",
        "of the encoder's arithmetic: auto takes bfloat16 with Adam where the processor is made for it, nearly twice "
        "as fast",
        choices=PRECISIONS,
    )

    def __post_init__(self) -> None:
        check_settings(self)

"""Settings of texture synthesis, one dataclass for each method. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from impasto.config import check_settings, setting
from impasto.errors import UnknownNameError, UsageError

__all__ = [
    "METHODS",
    "EfrosLeungSettings",
    "GuidedSettings",
    "PortillaSimoncelliSettings",
    "QuiltingSettings",
    "TransferSettings",
    "check_odd",
    "settings_type",
]

METHODS = ("quilting", "efros-leung", "portilla-simoncelli")


def check_odd(name: str, value: int) -> None:
    """Windows and patches have a middle pixel.

    Raises:
        UsageError: an even number.
    """
    if value % 2 == 0:
        raise UsageError(f"{name} must be odd, not {value}: a patch has a middle pixel")


@dataclass(frozen=True)
class QuiltingSettings:
    """Image quilting (Efros & Freeman 2001).

    Raises:
        UsageError: a value outside of its range.
    """

    block: int = setting(
        48, "side of the blocks: a little more than the texture's largest feature", smallest=4, largest=512, unit="px"
    )
    overlap: float = setting(
        0.3, "how much of a block overlaps its neighbour (a sixth in the paper)", smallest=0.05, largest=0.5
    )
    tolerance: float = setting(
        0.1, "blocks up to this much worse than the best are drawn from, too", smallest=0.0, largest=1.0
    )
    variety: float = setting(
        0.25, "how much worse a part of the sample counts for every block taken from it (0 in the paper)",
        smallest=0.0, largest=4.0,
    )  # fmt: skip

    attempts: int = setting(
        4, "tries for each row of blocks; the one with the least error along its seams stays (1 in the paper)",
        smallest=1, largest=64,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class TransferSettings:
    """Texture transfer (Efros & Freeman 2001, section 3).

    Raises:
        UsageError: a value outside of its range.
    """

    block: int = setting(36, "side of the blocks of the first pass", smallest=6, largest=512, unit="px")
    passes: int = setting(3, "passes; each takes blocks of two thirds of the side before", smallest=1, largest=8)
    overlap: float = setting(1 / 6, "how much of a block overlaps its neighbour", smallest=0.05, largest=0.5)
    first_alpha: float = setting(
        0.1, "share of the texture's own fit in the first pass; the rest is the picture's", smallest=0.0, largest=1.0
    )
    last_alpha: float = setting(0.9, "share of the texture's own fit in the last pass", smallest=0.0, largest=1.0)
    blur: float = setting(
        1.5, "both pictures are compared after a blur of this many pixels", smallest=0.0, largest=32.0, unit="px"
    )
    tolerance: float = setting(
        0.02, "blocks up to this much worse than the best are drawn from, too", smallest=0.0, largest=1.0
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class EfrosLeungSettings:
    """Non-parametric sampling (Efros & Leung 1999).

    Raises:
        UsageError: a value outside of its range, or an even window.
    """

    window: int = setting(
        15, "side of the neighbourhood: the scale of the texture's regularity", smallest=3, largest=101, unit="px"
    )
    epsilon: float = setting(
        0.1, "neighbourhoods up to this much worse than the best are drawn from", smallest=0.0, largest=1.0
    )
    largest_error: float = setting(
        0.3, "a match worse than this waits; the bound grows by a tenth when none is good enough",
        smallest=1e-4, largest=1.0,
    )  # fmt: skip
    seed_place: str = setting(
        "random", "where in the sample the first 3 x 3 pixels come from", choices=("random", "centre")
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_odd("window", self.window)


@dataclass(frozen=True)
class PortillaSimoncelliSettings:
    """Joint statistics of a steerable pyramid (Portilla & Simoncelli 2000).

    Raises:
        UsageError: a value outside of its range, or an even neighbourhood.
    """

    scales: int = setting(4, "octaves of the steerable pyramid", smallest=1, largest=6)
    orientations: int = setting(4, "orientations of the steerable pyramid", smallest=2, largest=8)
    neighborhood: int = setting(9, "side of the autocorrelations", smallest=3, largest=15, unit="px")
    iterations: int = setting(100, "steps of L-BFGS", smallest=1, largest=2000)

    def __post_init__(self) -> None:
        check_settings(self)
        check_odd("neighborhood", self.neighborhood)


@dataclass(frozen=True)
class GuidedSettings:
    """Guided synthesis with whole patches of a style picture (the engine ``quilt``). Weights are relative: 1 is usual.

    Raises:
        UsageError: a value outside of its range, or an even patch.
    """

    patch: int = setting(5, "side of the patches at every scale: 5 or 7", smallest=3, largest=15, unit="px")
    iterations: int = setting(
        3, "searches and votes at the finest scale; coarser ones have more", smallest=1, largest=50
    )
    structure: float = setting(
        1.0, "how closely light and dark follow the photograph, against unbroken strokes", smallest=0.0, largest=8.0
    )
    detail: float = setting(1.0, "how closely patches follow the photograph along its edges", smallest=0.0, largest=8.0)
    hue: float = setting(
        1.0, "how much the photograph's colours decide which of the painting's are taken", smallest=0.0, largest=8.0
    )
    direction: float = setting(
        1.0, "how much strokes follow the direction of the photograph's edges", smallest=0.0, largest=8.0
    )
    tones: float = setting(
        0.4, "0 keeps the photograph's distances of tones, 1 uses the painting's tones as often as the painting does",
        smallest=0.0, largest=1.0,
    )  # fmt: skip
    uniformity: float = setting(
        1.0, "how strongly all parts of the painting are used alike; more repeats less", smallest=0.0, largest=20.0
    )
    coarsest: int = setting(
        24, "shorter side of the coarsest scale; smaller arranges larger parts of the painting",
        smallest=8, largest=512, unit="px",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        check_odd("patch", self.patch)


def settings_type(job: str) -> type[Any]:
    """The settings of a method of :data:`METHODS`, or of ``transfer``.

    Raises:
        UnknownNameError: there is no such job.
    """
    kinds: dict[str, type[Any]] = {
        "quilting": QuiltingSettings,
        "efros-leung": EfrosLeungSettings,
        "portilla-simoncelli": PortillaSimoncelliSettings,
        "transfer": TransferSettings,
    }
    if job not in kinds:
        raise UnknownNameError("texture method", job, kinds)
    return kinds[job]

"""Settings of regions: the only place where their defaults stand. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.config import check_settings, setting
from impasto.errors import UsageError

__all__ = ["FEATHER_MODES", "PROTECTABLE", "RegionConfig", "parse_protect"]

FEATHER_MODES = ("guided", "gaussian")
PROTECTABLE = ("faces", "text")


@dataclass(frozen=True)
class RegionConfig:
    """How regions are found and how soft their borders are.

    Raises:
        UsageError: a value outside of its range.
    """

    feather: float = setting(
        0.0, "softness of the regions' borders, this far to both sides", smallest=0.0, largest=512.0, unit="px"
    )
    feather_mode: str = setting(
        "guided",
        "how borders become soft: guided follows the edges of the photograph, gaussian is the same everywhere",
        choices=FEATHER_MODES,
    )
    segments: int = setting(
        8, "into how many automatic segments the photograph is divided (segment:NUMBER)", smallest=2, largest=64
    )
    protect: str = setting(
        "", "paint less on what is found of these: faces, text, or faces,text (needs impasto[regions])"
    )
    protect_strength: float = setting(
        0.25, "share of the painting that shows on what is protected; 0 leaves it untouched", smallest=0.0, largest=1.0
    )
    sam: str | None = setting(
        None,
        "cut boxes and clicks out with Segment Anything instead of GrabCut: a folder with its weights, or "
        "OWNER/NAME@COMMIT on the hub (needs impasto[sam])",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        parse_protect(self.protect)


def parse_protect(text: str) -> tuple[str, ...]:
    """``faces,text`` to the names of what shall be protected, each once, in the order of :data:`PROTECTABLE`.

    Raises:
        UsageError: something else is asked for.
    """
    asked = [part.strip() for part in text.split(",")] if text.strip() else []
    for one in asked:
        if one not in PROTECTABLE:
            raise UsageError(f"protect takes {', '.join(PROTECTABLE)} with commas between, not '{text}'")
    return tuple(one for one in PROTECTABLE if one in asked)

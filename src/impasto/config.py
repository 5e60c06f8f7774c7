"""Settings of a stylization: the only place where a default stands.

The command line, the Python API and whatever else asks a person for settings read ranges, choices and help from the
metadata of these fields, so that they cannot disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from impasto.checks import check_choice, check_range
from impasto.errors import UsageError

__all__ = ["COLOR_MODES", "MIX_MODES", "StylizeConfig", "field_info", "setting"]

COLOR_MODES = ("none", "luminance", "statistics")
MIX_MODES = ("linear", "slerp")


def setting(
    default: Any,
    help: str,
    *,
    smallest: float | None = None,
    largest: float | None = None,
    unit: str = "",
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its range, unit, choices and help text."""
    metadata = {"help": help, "smallest": smallest, "largest": largest, "unit": unit, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class StylizeConfig:
    """What decides a stylization besides the pictures and the style field.

    Raises:
        UsageError: a value outside of its range.
    """

    strength: float = setting(
        1.0, "how much of the style: 0 gives the photograph back, 1 is the whole style", smallest=0.0, largest=1.0
    )
    style_scale: float = setting(
        1.0, "size of the strokes: 2 paints with strokes twice as long", smallest=0.25, largest=4.0
    )
    preserve_color: str = setting(
        "none",
        "keep the photograph's colours: luminance paints its brightness only, statistics moves the painting's colours "
        "to the photograph's mean and covariance",
        choices=COLOR_MODES,
    )
    mix_mode: str = setting(
        "linear", "how several styles are averaged: straight, or along the sphere of the codes", choices=MIX_MODES
    )
    size: int | None = setting(
        None, "longer side of the result; by default it has the photograph's size", smallest=1, largest=65536, unit="px"
    )
    seed: int = setting(0, "seed of engines that use chance (brush uses none)", smallest=0, largest=2**63 - 1)
    tile: int = setting(
        1536,
        "pictures with a longer side are painted in tiles of about this size",
        smallest=256,
        largest=8192,
        unit="px",
    )

    def __post_init__(self) -> None:
        for info in dataclasses.fields(self):
            value, metadata = getattr(self, info.name), info.metadata
            if metadata["choices"]:
                check_choice(info.name, value, metadata["choices"])
            elif value is not None and metadata["smallest"] is not None:
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise UsageError(f"{info.name} must be a number, not {value!r}")
                if str(info.type).startswith("int") and not isinstance(value, int):
                    raise UsageError(f"{info.name} must be a whole number, not {value!r}")
                check_range(info.name, value, metadata["smallest"], metadata["largest"])


def field_info(kind: type, name: str) -> tuple[Any, dict[str, Any]]:
    """Default and metadata of a setting."""
    for info in dataclasses.fields(kind):
        if info.name == name:
            return info.default, dict(info.metadata)
    raise UsageError(f"{kind.__name__} has no setting called '{name}'")

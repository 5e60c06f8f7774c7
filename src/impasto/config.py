"""Settings of a stylization: the only place where a default stands.

The command line, the Python API and whatever else asks a person for settings read ranges, choices and help from the
metadata of these fields, so that they cannot disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from impasto.checks import check_choice, check_range
from impasto.errors import UnknownNameError, UsageError

__all__ = ["COLOR_MODES", "MIX_MODES", "StylizeConfig", "check_settings", "field_info", "resolve_options", "setting"]

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

    Attributes:
        options: settings that only the chosen engine has, by name; see :func:`resolve_options`.

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

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)


def check_settings(settings: Any) -> None:
    """Check every field of a dataclass made with :func:`setting` against its range, choices and type.

    Raises:
        UsageError: a value outside of its range, or of the wrong type.
    """
    for info in dataclasses.fields(settings):
        value, metadata, kind = getattr(settings, info.name), info.metadata, str(info.type)
        if not metadata or (value is None and "None" in kind):
            continue
        if metadata["choices"]:
            check_choice(info.name, value, metadata["choices"])
        elif kind.startswith("bool"):
            if not isinstance(value, bool):
                raise UsageError(f"{info.name} must be true or false, not {value!r}")
        elif kind.startswith("str"):
            if not isinstance(value, str):
                raise UsageError(f"{info.name} must be a text, not {value!r}")
        else:
            _check_number(info.name, value, kind, metadata)


def _check_number(name: str, value: Any, kind: str, metadata: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} must be a number, not {value!r}")
    if kind.startswith("int") and not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    if metadata["smallest"] is not None:
        check_range(name, value, metadata["smallest"], metadata["largest"])


Options = TypeVar("Options")


def resolve_options(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """An engine's own settings from what a person wrote: ``kind`` with the given fields, checked.

    Texts are turned into the field's type, so that a command line can pass ``{"iterations": "300"}``.

    Raises:
        UsageError: a value of the wrong type or out of range.
        UnknownNameError: a name that ``kind`` does not have; near matches are named.
    """
    known = {info.name: str(info.type) for info in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise UnknownNameError("option of this engine", name, known)
    return kind(**{name: _converted(name, value, known[name]) for name, value in given.items()})


def _converted(name: str, value: Any, kind: str) -> Any:
    """A text as the number, truth value or None that a field of type ``kind`` holds; anything else as it is."""
    if isinstance(value, str) and "None" in kind and value.lower() in ("", "none"):
        return None
    if not isinstance(value, str) or kind.startswith("str"):
        return value
    if kind.startswith("bool"):
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise UsageError(f"{name} must be true or false, not '{value}'")
        return value.lower() in ("true", "yes", "1")
    try:
        return int(value) if kind.startswith("int") else float(value)
    except ValueError:
        what = "a whole number" if kind.startswith("int") else "a number"
        raise UsageError(f"{name} must be {what}, not '{value}'") from None


def field_info(kind: type, name: str) -> tuple[Any, dict[str, Any]]:
    """Default and metadata of a setting."""
    for info in dataclasses.fields(kind):
        if info.name == name:
            return info.default, dict(info.metadata)
    raise UsageError(f"{kind.__name__} has no setting called '{name}'")

"""Checks of values that come from outside; each raises an error that names the value."""

from __future__ import annotations

import math

from impasto.errors import UsageError

__all__ = ["check_choice", "check_range"]


def check_range(name: str, value: float, smallest: float, largest: float) -> float:
    """The value itself when it is finite and within ``[smallest, largest]``.

    Raises:
        UsageError: otherwise.
    """
    if not smallest <= value <= largest or not math.isfinite(value):
        shown = f"{value:g}" if isinstance(value, float) or abs(value) < 10**300 else "a number of that size"
        raise UsageError(f"{name} must lie between {smallest:g} and {largest:g}, not {shown}")
    return value


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value itself when it is one of ``choices``.

    Raises:
        UsageError: otherwise.
    """
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, not '{value}'")
    return value

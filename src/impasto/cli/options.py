"""Typer options made from the settings' dataclass: default, range and help have one source."""

from __future__ import annotations

from typing import Any

import typer

from impasto.config import StylizeConfig, field_info
from impasto.errors import UsageError

__all__ = ["parse_shares", "say", "setting_option"]


def setting_option(name: str) -> Any:
    """The ``--name`` option of a :class:`~impasto.config.StylizeConfig` field."""
    _, metadata = field_info(StylizeConfig, name)
    help_text = metadata["help"]
    if metadata["choices"]:
        help_text += f" ({', '.join(metadata['choices'])})"
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=help_text,
        min=metadata["smallest"],
        max=metadata["largest"],
        rich_help_panel="Painting",
    )


def say(text: object) -> None:
    """Print to stdout; of file names that are no UTF-8, the other bytes become a question mark."""
    typer.echo(str(text).encode("utf-8", "replace").decode("utf-8"))


def parse_shares(text: str | None, count: int) -> list[float]:
    """``0.7,0.3`` to numbers, one for each style.

    Raises:
        UsageError: not numbers, or not as many as styles.
    """
    if text is None:
        return [1.0] * count
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--mix takes numbers with commas between, like 0.7,0.3, not '{text}'") from None
    if len(shares) != count:
        raise UsageError(f"--mix names {len(shares)} weights for {count} styles")
    return shares

"""Typer options made from the settings' dataclass: default, range and help have one source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from impasto.config import StylizeConfig, field_info
from impasto.errors import UsageError
from impasto.regions.settings import RegionConfig

__all__ = [
    "engine_setting_option",
    "parse_settings",
    "parse_shares",
    "region_list_option",
    "region_option",
    "say",
    "setting_option",
]


def setting_option(name: str, kind: type = StylizeConfig, *, panel: str = "Painting") -> Any:
    """The ``--name`` option of a field of a settings' dataclass."""
    _, metadata = field_info(kind, name)
    help_text = metadata["help"]
    if metadata["choices"]:
        help_text += f" ({', '.join(metadata['choices'])})"
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=help_text,
        min=metadata["smallest"],
        max=metadata["largest"],
        rich_help_panel=panel,
    )


def region_option(name: str) -> Any:
    """The ``--name`` option of a :class:`~impasto.regions.RegionConfig` field."""
    return setting_option(name, RegionConfig, panel="Regions")


def region_list_option() -> Any:
    """The ``--region REGION=STYLE`` option."""
    return typer.Option(
        "--region",
        help="Another style for a part of the photograph: REGION=STYLE[:STRENGTH], like sky.png=monet.jpg:0.9, "
        "box:10,20,300,400=ukiyo-e, click:120,80=ukiyo-e, foreground=keep; repeat for several, later ones on top. "
        "STYLE@REGION takes the style from a part of its picture.",
        rich_help_panel="Regions",
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


def engine_setting_option() -> Any:
    """The ``--set NAME=VALUE`` option: settings that only one engine has."""
    return typer.Option(
        "--set",
        help="A setting of the engine's own: NAME=VALUE; repeat for several; 'impasto engines ENGINE' lists them.",
        rich_help_panel="Painting",
    )


def parse_settings(texts: Sequence[str] | None, *, option: str = "--set") -> dict[str, str]:
    """``["iterations=300"]``, given as ``option``, to a table; dashes in names count as underscores.

    Raises:
        UsageError: no equals sign, or a name given twice.
    """
    table: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UsageError(f"{option} takes NAME=VALUE, like iterations=300, not '{text}'")
        if name in table:
            raise UsageError(f"{option} names '{name}' twice")
        table[name] = value.strip()
    return table

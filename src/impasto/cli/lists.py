"""``impasto engines`` and ``impasto presets``: what there is to choose from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from impasto.cli.options import say
from impasto.cli.stylize import check_output
from impasto.config import StylizeConfig

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("engines")(_engines)
    app.command("presets")(_presets)


def _engines(
    name: Annotated[str | None, typer.Argument(help="Show this engine's card.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the engines, or show the settings and the card of one."""
    from impasto.engines import ENGINES

    if name is not None:
        _engine(name, as_json)
        return
    if as_json:
        typer.echo(json.dumps([asdict(spec) for spec in ENGINES.values()]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("engine", "what it does", "native fields", "any size", "uses chance", "needs", box=None)
    for spec in ENGINES.values():
        able = spec.capabilities
        yes = ["yes" if flag else "no" for flag in (able.field, able.tiles, able.chance)]
        table.add_row(spec.name, spec.summary, *yes, f"impasto[{spec.extra}]" if spec.extra else "nothing more")
    Console().print(table)


def _engine(name: str, as_json: bool) -> None:
    """Settings and card of one engine."""
    from impasto.engines import engine_spec, options_type
    from impasto.weights import load_card

    spec, kind = engine_spec(name), options_type(name)
    card = load_card(spec.card).facts if spec.card else None
    options = [] if kind is None else describe_settings(kind)
    if as_json:
        said = {"engine": asdict(spec), "options": options, "card": card}
        typer.echo(json.dumps(said, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{spec.name}: {spec.summary}", highlight=False)
    if options:
        listing = Table("--set", "default", "values", "what it does", box=None)
        for row in options:
            listing.add_row(row["name"], str(row["default"]), row["values"], row["help"])
        console.print(listing)
    if card is not None:
        typer.echo(json.dumps(card, indent=2, ensure_ascii=False, default=str))


def describe_settings(kind: type) -> list[dict[str, Any]]:
    """Name, default, allowed values and help of each setting of a dataclass."""
    rows = []
    for info in dataclasses.fields(kind):
        meta = info.metadata
        if not meta:
            continue
        if meta["choices"]:
            values = ", ".join(meta["choices"])
        elif meta["smallest"] is not None:
            values = f"{meta['smallest']:g} to {meta['largest']:g} {meta['unit']}".strip()
        else:
            values = str(info.type).removesuffix(" | None")
        rows.append({"name": info.name, "default": info.default, "values": values, "help": meta["help"]})
    return rows


def _presets(
    engine: Annotated[str, typer.Option(help="Engine whose presets are meant.")] = "brush",
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of all presets to this file.", show_default=False)
    ] = None,
    photo: Annotated[Path | None, typer.Option(help="Photograph for the contact sheet.", show_default=False)] = None,
    strength: Annotated[float, typer.Option(min=0.0, max=1.0, help="Strength on the contact sheet.")] = (
        StylizeConfig.strength
    ),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the style presets; with --sheet and --photo, paint them all on one sheet."""
    from impasto.engines.base import PresetTable
    from impasto.errors import UsageError
    from impasto.stylizer import Stylizer

    stylizer = Stylizer.load(engine)
    table = stylizer.engine.preset_table() if isinstance(stylizer.engine, PresetTable) else {}
    if not table:
        raise UsageError(f"the engine '{engine}' has no presets")
    if sheet is not None:
        if photo is None:
            raise UsageError("--sheet needs a --photo to paint")
        check_output(photo, sheet)
        from impasto.image import read_picture, write_picture
        from impasto.sheet import contact_sheet

        config = StylizeConfig(strength=strength)
        pixels = contact_sheet(stylizer, read_picture(photo), list(table), config=config)
        write_picture(sheet, pixels)
        say(sheet)
        return
    if as_json:
        rows = [{"name": name, "title": one.title, "credit": one.credit} for name, one in table.items()]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    listing = Table("preset", "what it looks like", "computed from", box=None)
    for name, one in table.items():
        listing.add_row(name, one.title, one.credit)
    Console().print(listing)

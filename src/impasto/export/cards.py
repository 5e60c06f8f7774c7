"""What is said of exported files: sizes, hashes, parameters, cards; and the artworks of presets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from impasto.ops.tiling import to_float
from impasto.training.data import PictureSet
from impasto.training.presets import preset_artworks, preset_table
from impasto.types import FloatArray

__all__ = [
    "ExportedFile",
    "count",
    "counts",
    "described",
    "preset_pictures",
    "write_card",
]


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, for the card."""

    name: str
    kind: str
    bytes: int
    sha256: str


def described(path: Path, kind: str) -> ExportedFile:
    """Size and hash of a file that was written."""
    content = path.read_bytes()
    return ExportedFile(path.name, kind, len(content), hashlib.sha256(content).hexdigest())


def count(module: torch.nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def counts(state: dict[str, torch.Tensor]) -> dict[str, int]:
    """Numbers stored for each part of a network, by the first word of their names."""
    found: dict[str, int] = {}
    for key, value in state.items():
        part = key.partition(".")[0]
        found[part] = found.get(part, 0) + value.numel()
    return found


def preset_pictures(
    artworks: Sequence[Path], definition: Path | None
) -> tuple[list[dict[str, str]], list[list[FloatArray]]]:
    """Name, title and credit of each preset of a table, and its artworks.

    Raises:
        UsageError: a preset names a picture that is not among the artworks.
    """
    table = preset_table(definition)
    found = preset_artworks(table, PictureSet(artworks))
    return [entry.described for entry in table], [[to_float(picture) for picture in pictures] for pictures in found]


def write_card(
    path: Path, name: str, parameters: dict[str, int], metadata: dict[str, str], written: Sequence[ExportedFile]
) -> None:
    """The card: facts that a person wrote (``recipes/NAME-card.toml``), then what follows from the files."""
    facts = resources.files("impasto.training").joinpath(f"recipes/{name}-card.toml").read_text(encoding="utf-8")
    head, _, tail = facts.partition("\n[")  # top-level keys come before the first table
    lines = [head.rstrip(), f"steps = {metadata.get('step', '0')}"]
    if "recipe" in metadata:
        quotes = "'" * 3
        lines += [f"recipe = {quotes}", metadata["recipe"].rstrip(), quotes]
    lines += ["", "[parameters]", *(f"{part} = {count}" for part, count in parameters.items())]
    if tail:
        lines += ["", f"[{tail.rstrip()}"]
    for file in written:
        lines += ["", "[[files]]", f'name = "{file.name}"', f'kind = "{file.kind}"']
        lines += [f"bytes = {file.bytes}", f'sha256 = "{file.sha256}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

"""Cards: what is known of a set of weights, and reading the files only when they are what the card says."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from impasto.errors import WeightsError

__all__ = ["Card", "WeightsFile", "load_card", "read_weights", "weights_folder"]


@dataclass(frozen=True)
class WeightsFile:
    """One file of a set: its name beside the card, size and SHA-256."""

    name: str
    kind: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """What is known of a set of weights.

    Attributes:
        name: of the set, the card's file name without its ending.
        files: the files by kind (``net``, ``encoder``, ``training``, ``presets``, and an engine's further graphs).
        facts: the whole card as read: licences, training, measurements, limits.
    """

    name: str
    files: dict[str, WeightsFile]
    facts: dict[str, Any]

    @property
    def identity(self) -> str:
        """First 16 digits of the SHA-256 of the network: what style codes and recipes refer to."""
        return self.file("net").sha256[:16]

    def file(self, kind: str) -> WeightsFile:
        """The file of a kind.

        Raises:
            WeightsError: the card lists none.
        """
        try:
            return self.files[kind]
        except KeyError:
            raise WeightsError(f"the card '{self.name}' lists no '{kind}' file; reinstall impasto") from None


def weights_folder() -> Path:
    """Where the embedded weights lie."""
    return Path(str(resources.files("impasto.weights")))


def load_card(name: str, folder: Path | None = None) -> Card:
    """Read ``NAME.toml``.

    Raises:
        WeightsError: there is no such card, or it cannot be understood.
    """
    path = (folder or weights_folder()) / f"{name}.toml"
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        files = {entry["kind"]: WeightsFile(**entry) for entry in facts["files"]}
    except OSError as error:
        raise WeightsError(f"the card '{path}' is missing; reinstall impasto or name another folder") from error
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the card '{path}' cannot be understood: {error}") from error
    return Card(name, files, facts)


def read_weights(card: Card, kind: str, folder: Path | None = None) -> bytes:
    """The bytes of one file, after its size and SHA-256 were found to be the card's.

    Raises:
        WeightsError: the file is missing or is not the one that the card describes.
    """
    file = card.file(kind)
    path = (folder or weights_folder()) / file.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights '{path}' are missing; reinstall impasto") from error
    if len(content) != file.bytes or hashlib.sha256(content).hexdigest() != file.sha256:
        raise WeightsError(f"the weights '{path}' are damaged or not those of the card; reinstall impasto")
    return content

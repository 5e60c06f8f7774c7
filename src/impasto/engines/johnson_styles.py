"""Styles of the ``johnson`` engine on disk: a network (ONNX) and its card (TOML) beside it.

Shipped ones lie in the package, personal ones in the user's folder: ``$IMPASTO_HOME/styles``, or ``impasto/styles`` in
the system's folder for a program's data. A network is used only when its bytes have the SHA-256 that its card states.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.errors import OutputError, UsageError, WeightsError
from impasto.weights import weights_folder

__all__ = [
    "ENGINE",
    "INPUTS",
    "MARK",
    "StyleFile",
    "check_free",
    "check_style_name",
    "find_styles",
    "install_style",
    "read_style",
    "shipped_folder",
    "style_name_of",
    "styles_folder",
]

ENGINE = "johnson"
MARK = "impasto johnson 1"
"""What a network's file says of itself, in its metadata under ``impasto``."""
INPUTS = ("picture", "statistics", "given")
"""Names of a network's inputs, in order."""
LONGEST_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10)}


@dataclass(frozen=True)
class StyleFile:
    """A trained style.

    Attributes:
        name: by which it is asked for.
        title: what it looks like.
        credit: what it was trained on.
        network: its ONNX file.
        sha256: of that file, as the card states it.
        personal: it was installed by the user.
        problem: why it cannot be used, or an empty string.
    """

    name: str
    title: str
    credit: str
    network: Path
    sha256: str
    personal: bool = False
    problem: str = ""

    def read(self) -> bytes:
        """The network's bytes, after they were found to be those of the card.

        Raises:
            WeightsError: the file is missing, damaged or not the card's.
        """
        if self.problem:
            raise WeightsError(self.problem)
        try:
            content = self.network.read_bytes()
        except OSError as error:
            raise WeightsError(
                f"the network of the style '{self.name}' cannot be read: '{self.network}': {error.strerror or error}; "
                f"{self._advice}"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise WeightsError(
                f"the style '{self.name}' is damaged: '{self.network}' is not the file that its card describes; "
                f"{self._advice}"
            )
        return content

    @property
    def _advice(self) -> str:
        return "copy both files again, or train it again" if self.personal else "reinstall impasto"


def check_style_name(name: str) -> str:
    """The name itself, when it can be one: letters, digits and single dashes between them.

    Raises:
        UsageError: otherwise.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or name.lower() in _RESERVED:
        raise UsageError(
            f"'{name}' cannot be a style's name: letters and digits with dashes between, {LONGEST_NAME} at most, as in "
            "'my-style'"
        )
    return name


def style_name_of(picture: Path) -> str:
    """A name made from a picture's file name: ``My Style (1).jpg`` becomes ``my-style-1``."""
    plain = re.sub(r"[^a-z0-9]+", "-", picture.stem.lower()).strip("-")[:LONGEST_NAME].rstrip("-")
    return plain if plain and plain not in _RESERVED else "style"


def shipped_folder() -> Path:
    """Where the styles lie that come with impasto."""
    return weights_folder() / ENGINE


def styles_folder() -> Path:
    """Where the user's styles lie; it need not exist."""
    home = os.environ.get("IMPASTO_HOME")
    if home:
        return Path(home).expanduser() / "styles"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "impasto" / "styles"


def find_styles() -> dict[str, StyleFile]:
    """All styles by name, shipped ones first; a personal one takes the place of a shipped one of the same name.

    Cards that cannot be understood are listed too, with the reason as their ``problem``.
    """
    found: dict[str, StyleFile] = {}
    for folder, personal in ((shipped_folder(), False), (styles_folder(), True)):
        try:
            cards = sorted(path for path in folder.glob("*.toml") if not path.name.startswith("."))
        except OSError:
            cards = []
        for card in cards:
            try:
                found[card.stem] = _from_card(card, personal=personal)
            except WeightsError as error:
                network = card.with_suffix(".onnx")
                found[card.stem] = StyleFile(card.stem, "cannot be used", str(error), network, "", personal, str(error))
    return found


def read_style(path: Path) -> StyleFile:
    """A style by the path of its network, with the card beside it.

    Raises:
        WeightsError: the network or the card is missing, or it is the card of something else.
    """
    if not path.is_file():
        raise WeightsError(f"there is no style '{path}'; 'impasto presets --engine {ENGINE}' lists those installed")
    style = _from_card(path.with_suffix(".toml"), personal=True)
    if style.network.name != path.name:
        raise WeightsError(
            f"the card '{path.with_suffix('.toml')}' describes '{style.network.name}', not '{path.name}'"
        )
    return style


def _from_card(card: Path, *, personal: bool) -> StyleFile:
    try:
        facts: dict[str, Any] = tomllib.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"the card '{card}' is missing: a style is a network and the card beside it, copy both"
        ) from error
    except OSError as error:
        raise WeightsError(f"the card '{card}' cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"the card '{card}' is damaged: {error}") from error
    if facts.get("engine") != ENGINE:
        raise WeightsError(f"'{card}' is no card of a {ENGINE} style")
    try:
        (file,) = (entry for entry in facts["files"] if entry["kind"] == "net")
        name, sha256 = str(file["name"]), str(file["sha256"])
        texts = [str(facts[key]) for key in ("name", "title", "credit")]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the card '{card}' is damaged: it does not describe one network ({error!r})") from error
    if Path(name).name != name:
        raise WeightsError(f"the card '{card}' is damaged: '{name}' is no file beside it")
    return StyleFile(card.stem if personal else texts[0], texts[1], texts[2], card.with_name(name), sha256, personal)


def check_free(name: str, picture: Path, *, replace: bool = False) -> None:
    """A style of this name may be installed: there is none, it was trained on the same picture, or ``replace`` is set.

    Raises:
        UsageError: otherwise; styles that come with impasto are never replaced.
    """
    if (shipped_folder() / f"{name}.toml").is_file():
        raise UsageError(f"'{name}' is a style that comes with impasto; choose another --name")
    card = styles_folder() / f"{name}.toml"
    if replace or not card.is_file():
        return
    try:
        known = tomllib.loads(card.read_text(encoding="utf-8")).get("style_sha256")
        same = known == hashlib.sha256(picture.read_bytes()).hexdigest()
    except (OSError, ValueError):
        same = False
    if not same:
        raise UsageError(
            f"a style '{name}' is installed already, trained on another picture; choose another --name, or --replace it"
        )


def install_style(network: Path, *, name: str) -> Path:
    """Copy a style into the user's folder under ``name``, and give the path of the copy.

    Each file appears whole or not at all; the network comes before the card, which makes it visible.

    Raises:
        UsageError: the name cannot be one, or belongs to a style that comes with impasto.
        WeightsError: the network and its card do not fit each other.
        OutputError: the folder cannot be written.
    """
    check_style_name(name)
    if (shipped_folder() / f"{name}.toml").is_file():
        raise UsageError(f"'{name}' is a style that comes with impasto; choose another --name")
    style = read_style(network)
    content = style.read()
    card = network.with_suffix(".toml").read_text(encoding="utf-8")
    card = _renamed(_renamed(card, "name", style_card_name(card), name), "name", network.name, f"{name}.onnx")
    folder = styles_folder()
    target = folder / f"{name}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in ((target, content), (folder / f"{name}.toml", card.encode("utf-8"))):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(data)
            partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot install the style in '{folder}': {error.strerror or error}; IMPASTO_HOME names another place"
        ) from error
    return target


def style_card_name(card: str) -> str:
    """The name that a card's text states."""
    return str(tomllib.loads(card)["name"])


def _renamed(card: str, key: str, old: str, new: str) -> str:
    """The card's text with the first line ``key = "old"`` changed."""
    return card.replace(f'\n{key} = "{old}"\n', f'\n{key} = "{new}"\n', 1)

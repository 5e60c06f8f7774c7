"""What an evaluation has done already: lines of JSON in its output folder, so that a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from impasto.errors import OutputError

__all__ = ["JOURNAL", "Journal"]

JOURNAL = ".impasto-evaluate.jsonl"


class Journal:
    """Entries by kind and name, each with the key of what it was made from; the last entry counts.

    Args:
        folder: where the file lies; None keeps everything in memory.
        again: forget what is there.
    """

    def __init__(self, folder: Path | None, *, again: bool = False) -> None:
        self._path = None if folder is None else folder / JOURNAL
        self._entries: dict[tuple[str, str], dict[str, Any]] = (
            {} if again or folder is None else _read(folder / JOURNAL)
        )
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        """Open the file for adding.

        Raises:
            OutputError: it cannot be written.
        """
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
                self._file.write("\n")  # ends a line that was cut off
            except OSError as error:
                raise OutputError(f"cannot write to the folder '{self._path.parent}': {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def find(self, kind: str, name: str, key: str) -> dict[str, Any] | None:
        """The entry, if it was made from the same things."""
        entry = self._entries.get((kind, name))
        return entry if entry is not None and entry.get("key") == key else None

    def add(self, kind: str, name: str, key: str, facts: dict[str, Any]) -> None:
        """Write an entry; it is on disk when this returns."""
        entry = {"kind": kind, "name": name, "key": key} | facts
        self._entries[kind, name] = entry
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry) + "\n")
                self._file.flush()
            except OSError as error:
                raise OutputError(f"cannot write to '{self._path}': {error.strerror}") from error


def _read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    entries = {}
    for line in lines:
        try:
            entry = json.loads(line)
            entries[str(entry["kind"]), str(entry["name"])] = entry
        except (KeyError, TypeError, ValueError):  # the line that was being written when the power went
            continue
    return entries

"""Votes on disk: one SQLite file, which several voters can write to and a report read at the same time."""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impasto.errors import OutputError, UsageError
from impasto.study.scores import preference_counts

__all__ = ["CHOICES", "Vote", "VoteStore"]

CHOICES = ("left", "right", "tie")
_COLUMNS = ("voter", "number", "subject", "left_method", "right_method", "choice", "seconds", "time")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (identity TEXT NOT NULL, question TEXT NOT NULL, methods TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS votes (
    voter TEXT NOT NULL,
    number INTEGER NOT NULL,
    subject TEXT NOT NULL,
    left_method TEXT NOT NULL,
    right_method TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie')),
    seconds REAL NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (voter, number)
);
"""


@dataclass(frozen=True)
class Vote:
    """One decision.

    Attributes:
        voter: a random id; nothing is known of the person.
        number: place of the comparison in the voter's plan, from 0.
        subject: what was shown.
        left: name of the method on the left.
        right: name of the method on the right.
        choice: ``left``, ``right`` or ``tie``.
        seconds: from showing the pictures to the decision.
    """

    voter: str
    number: int
    subject: str
    left: str
    right: str
    choice: str
    seconds: float


class VoteStore:
    """The votes of a study. Methods may be called from any thread.

    Args:
        path: the file; created with its study if it is missing and ``create`` is true.
        create: methods and question of the study, to begin or go on with; None opens what is there.

    Raises:
        UsageError: there is no such file, it holds no votes, or those of another study.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, create: tuple[str, str, tuple[str, ...]] | None = None) -> None:
        if create is None and not path.is_file():
            raise UsageError(f"there is no file '{path}' with votes")
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        except sqlite3.Error as error:
            raise OutputError(f"the votes '{path}' cannot be opened: {error}") from error
        try:
            if create is not None:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.executescript(_SCHEMA)
                self._begin(path, *create)
            row = self._database.execute("SELECT question, methods FROM study").fetchone()
            if row is None:
                raise UsageError(f"'{path}' holds no study")
            self.question, self.methods = str(row[0]), tuple(str(row[1]).split("\n"))
        except sqlite3.Error as error:
            self._database.close()
            raise UsageError(f"'{path}' holds no votes: {error}") from error
        except BaseException:
            self._database.close()
            raise

    def _begin(self, path: Path, identity: str, question: str, methods: tuple[str, ...]) -> None:
        row = self._database.execute("SELECT identity FROM study").fetchone()
        if row is None:
            self._database.execute("INSERT INTO study VALUES (?, ?, ?)", (identity, question, "\n".join(methods)))
        elif row[0] != identity:
            raise UsageError(
                f"'{path}' holds the votes of another study (other folders, pictures, seed or question); "
                "name another file"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def add(self, vote: Vote) -> None:
        """Keep a vote; a second one on the same comparison replaces the first (the voter went back).

        Raises:
            OutputError: it cannot be written.
        """
        row = (vote.voter, vote.number, vote.subject, vote.left, vote.right, vote.choice, vote.seconds)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, now))
        except sqlite3.Error as error:
            raise OutputError(f"the vote cannot be written: {error}") from error

    def done(self, voter: str) -> set[int]:
        """Numbers of the comparisons that a voter has decided."""
        with self._lock:
            return {row[0] for row in self._database.execute("SELECT number FROM votes WHERE voter = ?", (voter,))}

    def votes(self) -> Iterator[Vote]:
        """All votes, by voter and number."""
        with self._lock:
            rows = self._database.execute(
                "SELECT voter, number, subject, left_method, right_method, choice, seconds FROM votes "
                "ORDER BY voter, number"
            ).fetchall()
        return (Vote(*row) for row in rows)

    def counts(self) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Preferences ``[K, K]`` of all votes, and those of each voter."""
        index = {name: place for place, name in enumerate(self.methods)}
        by_voter: dict[str, list[tuple[int, int, float]]] = {}
        shares = {"left": 1.0, "right": 0.0, "tie": 0.5}
        for vote in self.votes():
            by_voter.setdefault(vote.voter, []).append((index[vote.left], index[vote.right], shares[vote.choice]))
        groups = [preference_counts(len(self.methods), votes) for votes in by_voter.values()]
        total = np.sum(groups, axis=0) if groups else np.zeros((len(self.methods), len(self.methods)))
        return np.asarray(total, np.float64), groups

    def csv(self) -> str:
        """All votes as CSV (RFC 4180) with a header."""
        with self._lock:
            rows = self._database.execute(f"SELECT {', '.join(_COLUMNS)} FROM votes ORDER BY voter, number").fetchall()
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        writer.writerows([_harmless(cell) for cell in row] for row in rows)
        return stream.getvalue()


def _harmless(cell: object) -> object:
    """Texts that a spreadsheet would take for a formula get an apostrophe before them."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell

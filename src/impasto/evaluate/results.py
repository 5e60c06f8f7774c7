"""What an evaluation found: values of every pair, medians and spreads of every row, as dataclasses and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from impasto.errors import OutputError
from impasto.version import __version__

__all__ = ["Cell", "Column", "Evaluation", "Failure", "Record", "Row", "cell_of", "number", "save_json", "save_text"]


@dataclass(frozen=True)
class Column:
    """A metric as it was measured: ``name`` carries the network's name, ``metric`` is the table's."""

    name: str
    metric: str
    better: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """A row's values of one metric.

    Attributes:
        median: of the pairs; for metrics of sets, the value.
        spread: interquartile range; None for metrics of sets.
        first: quartile; None for metrics of sets.
        third: quartile.
        count: of pairs that have a value.
    """

    median: float
    spread: float | None = None
    first: float | None = None
    third: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Record:
    """One result: which row it belongs to, its pair, its values by column, and where its picture lies."""

    row: str
    content: str
    style: str
    values: Mapping[str, float | None]
    seconds: float | None = None
    picture: str = ""


@dataclass(frozen=True)
class Failure:
    """A result that is missing, and why."""

    row: str
    content: str
    style: str
    error: str


@dataclass(frozen=True)
class Row:
    """An engine, a folder or a control.

    Attributes:
        name: as shown.
        kind: what it is; controls are no candidates for the best.
        cells: by column; a metric that does not apply is missing.
        count: of results.
        failed: of results that are missing.
        seconds: to paint a picture, where that was measured.
    """

    name: str
    kind: Literal["control", "engine", "folder"]
    cells: Mapping[str, Cell]
    count: int
    failed: int = 0
    seconds: Cell | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found.

    Attributes:
        title: of the page.
        columns: metrics in order.
        rows: controls first.
        records: of every result.
        failures: of every result that is missing.
        encoder: ``{"name", "weights"}`` of the feature network, or None.
        settings: what it was made with, ready for JSON.
        notes: sentences that a reader of the table must know.
        wins: by column, in how many pairs the first of two compared rows was better, and of how many.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    records: tuple[Record, ...]
    failures: tuple[Failure, ...]
    encoder: Mapping[str, str] | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    wins: Mapping[str, tuple[int, int]] | None = None

    def best(self, column: Column) -> str:
        """The row with the best median of a metric, controls aside; empty where there is nothing to choose."""
        rows = [row for row in self.rows if row.kind != "control" and column.name in row.cells]
        if not column.better or len(rows) < 2:
            return ""
        sign = -1 if column.better == "higher" else 1
        return min(rows, key=lambda row: sign * row.cells[column.name].median).name

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"impasto": __version__} | asdict(self)


def cell_of(values: Sequence[float]) -> Cell | None:
    """Median and interquartile range (quartiles interpolated between the values); None of nothing."""
    if not values:
        return None
    if len(values) == 1:
        return Cell(values[0], 0.0, values[0], values[0])
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return Cell(median, third - first, first, third, len(values))


def number(value: float) -> str:
    """Three decimals, fewer for large values."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"


def save_json(evaluation: Evaluation, path: Path) -> None:
    """Write all of it.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(evaluation.as_dict(), indent=1, ensure_ascii=True, allow_nan=False)
    save_text(path, text + "\n")


def save_text(path: Path, text: str) -> None:
    """Write a text; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error

"""Measuring many results: each content and style is read once, its features are computed once, values are kept."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import ImpastoError
from impasto.evaluate.inputs import Source, as_content, fitted, read_reduced, reduced
from impasto.evaluate.journal import Journal
from impasto.evaluate.measures import METRICS
from impasto.evaluate.measuring import Measurement, Measurer, StyleView, View
from impasto.evaluate.results import Cell, Column, Failure, Record, Row, cell_of
from impasto.image.color import luminance
from impasto.metrics.structural import diversity
from impasto.stylizer import fingerprint
from impasto.types import FloatArray

__all__ = [
    "CONTROLS",
    "Album",
    "Gallery",
    "Measured",
    "Step",
    "StepCallback",
    "Task",
    "columns_of",
    "measure_tasks",
    "rows_of",
]

CONTROLS = ("content unchanged", "style picture")
STYLES_KEPT = 128  # summaries of styles in memory, a few megabytes each


@dataclass(frozen=True)
class Step:
    """How far a run is: ``done`` of ``total`` in this phase, which may be a fraction, and what is being done."""

    phase: str
    done: float
    total: int
    label: str = ""


StepCallback = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Task:
    """One result to measure.

    Attributes:
        row: an engine, a folder or a control.
        content: what it shows, or None where that is not known.
        style: what it was painted after, or None.
        key: fingerprint of everything that shaped the result.
        load: reads it.
        seconds: its painting took.
        picture: where it lies, relative to the output folder.
        others: readers of the same pair painted with other seeds; empty for engines without chance; None elsewhere.
    """

    row: str
    content: Source | None
    style: Source | None
    key: str
    load: Callable[[], FloatArray]
    seconds: float | None = None
    picture: str = ""
    others: tuple[Callable[[], FloatArray], ...] | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Names of content and style, empty where unknown."""
        return self.content.name if self.content else "", self.style.name if self.style else ""


@dataclass(frozen=True)
class Measured:
    """What :func:`measure_tasks` found; ``measurements`` belong to ``records`` one by one."""

    records: tuple[Record, ...]
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]


class Gallery:
    """Contents and styles at the evaluation's size, each read once and kept in 8 bits.

    Args:
        size: longer side in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[Source, NDArray[np.uint8]] = {}

    def picture(self, source: Source) -> FloatArray:
        """``[H, W, 3]`` in ``[0, 1]``.

        Raises:
            ImageError: the file cannot be read.
        """
        if source.path is None:
            raise ValueError(f"the preset '{source.name}' has no picture")
        if source not in self._kept:
            pixels = read_reduced(source.path, self.size)
            self._kept[source] = np.rint(pixels * 255).astype(np.uint8)
        return np.asarray(self._kept[source].astype(np.float32) / np.float32(255))

    def controls(self, pairs: Sequence[tuple[Source | None, Source | None]]) -> list[Task]:
        """The controls of each pair: the content unchanged, and the style picture cropped to the content's size.

        Of a pair whose content or style has no picture there is only the other one.
        """
        tasks = []
        for content, style in pairs:
            stamps = [content and content.stamp, style and style.stamp, self.size]
            if content is not None:
                key = fingerprint("content", *stamps)
                tasks.append(Task(CONTROLS[0], content, style, key, partial(self.picture, content)))
            if style is not None and style.path is not None:
                key = fingerprint("style", *stamps)
                tasks.append(Task(CONTROLS[1], content, style, key, partial(self._style_as, content, style)))
        return tasks

    def _style_as(self, content: Source | None, style: Source) -> FloatArray:
        pixels = self.picture(style)
        return pixels if content is None else fitted(pixels, self.picture(content).shape[:2])


class Album:
    """The pictures of an evaluation, for those who show them."""

    def __init__(self, tasks: Sequence[Task], gallery: Gallery) -> None:
        self._tasks = {(task.row, *task.pair): task for task in tasks}
        self._gallery = gallery

    def result(self, row: str, pair: tuple[str, str]) -> FloatArray | None:
        """A result at the size at which it was measured, None where there is none that can be read."""
        task = self._tasks.get((row, *pair))
        if task is None:
            return None
        try:
            if task.content is None:
                return reduced(task.load(), self._gallery.size)
            return as_content(task.load(), self._gallery.picture(task.content))
        except (ImpastoError, OSError):
            return None

    def sources(self, pair: tuple[str, str]) -> tuple[FloatArray | None, FloatArray | None]:
        """Content and style of a pair."""
        task = next((task for task in self._tasks.values() if task.pair == pair), None)
        if task is None:
            return None, None
        return self._source(task.content), self._source(task.style)

    def _source(self, source: Source | None) -> FloatArray | None:
        try:
            return None if source is None or source.path is None else self._gallery.picture(source)
        except (ImpastoError, OSError):
            return None


def measure_tasks(
    tasks: Sequence[Task], gallery: Gallery, measurer: Measurer, journal: Journal, on_step: StepCallback
) -> Measured:
    """Measure all results, one content after the other; those in the journal are not measured again.

    A result that cannot be read or measured is listed, and the run goes on.
    """
    ordered = sorted(tasks, key=lambda task: task.pair)  # by content; rows keep their order
    views = _Views(gallery, measurer)
    records, measurements, failures = [], [], []
    for index, task in enumerate(ordered):
        on_step(Step("measuring", index, len(ordered), f"{task.row}: {' x '.join(filter(None, task.pair))}"))
        try:
            measurement = _measured(task, views, measurer, journal)
        except (ImpastoError, OSError, MemoryError) as error:
            failures.append(Failure(task.row, *task.pair, str(error) or type(error).__name__))
            continue
        measurements.append(measurement)
        records.append(Record(task.row, *task.pair, measurement.values, task.seconds, task.picture))
    on_step(Step("measuring", len(ordered), len(ordered)))
    return Measured(tuple(records), tuple(measurements), tuple(failures))


class _Views:
    """Features of the content in use, and of the styles used last."""

    def __init__(self, gallery: Gallery, measurer: Measurer) -> None:
        self.gallery, self._measurer = gallery, measurer
        self._content: tuple[Source, View] | None = None
        self._styles: OrderedDict[Source, StyleView] = OrderedDict()

    def content(self, source: Source | None) -> View | None:
        if source is None:
            return None
        if self._content is None or self._content[0] != source:
            self._content = source, self._measurer.content(self.gallery.picture(source))
        return self._content[1]

    def style(self, source: Source | None) -> StyleView | None:
        if source is None or source.path is None:
            return None
        if source not in self._styles:
            self._styles[source] = self._measurer.style(self.gallery.picture(source))
            if len(self._styles) > STYLES_KEPT:
                self._styles.popitem(last=False)
        self._styles.move_to_end(source)
        return self._styles[source]


def _measured(task: Task, views: _Views, measurer: Measurer, journal: Journal) -> Measurement:
    name, key = "/".join((task.row, *task.pair)), fingerprint(task.key, measurer.identity, views.gallery.size)
    kept = _kept(journal.find("measured", name, key))
    if kept is not None and _complete(kept, measurer):
        return replace(
            kept, values={full: kept.values[full] for full in measurer.names.values() if full in kept.values}
        )
    content, style = views.content(task.content), views.style(task.style)
    result = _loaded(task.load, content, views.gallery.size)
    found = measurer.measure(result, content, style)
    values = dict(found.values)
    if "diversity" in measurer.metrics:
        values["diversity"] = _diversity(task, result, content, views.gallery.size)
    known = {} if kept is None else dict(kept.values)
    vectors = {"vector": _text(found.vector), "style_vector": _text(found.style_vector)}
    journal.add("measured", name, key, {"values": known | values} | vectors)
    # as a later run reads them: both give the same table
    return Measurement(values, _array(vectors["vector"]), _array(vectors["style_vector"]))


def _loaded(load: Callable[[], FloatArray], content: View | None, size: int) -> FloatArray:
    result = load()
    return reduced(result, size) if content is None else as_content(result, content.pixels)


def _diversity(task: Task, result: FloatArray, content: View | None, size: int) -> float | None:
    if task.others is None:
        return None
    if not task.others:
        return 0.0
    return diversity([luminance(one) for one in (result, *(_loaded(load, content, size) for load in task.others))])


def _complete(kept: Measurement, measurer: Measurer) -> bool:
    """Whether an earlier run measured everything that is asked for now."""
    pairwise = [full for name, full in measurer.names.items() if METRICS[name].against != "set"]
    return all(full in kept.values for full in pairwise) and (
        "frechet" not in measurer.metrics or kept.vector is not None
    )


def _kept(entry: dict[str, Any] | None) -> Measurement | None:
    if entry is None:
        return None
    return Measurement(dict(entry["values"]), _array(entry["vector"]), _array(entry["style_vector"]))


def _text(vector: NDArray[np.float64] | None) -> str | None:
    return None if vector is None else base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _array(text: str | None) -> NDArray[np.float64] | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)


def columns_of(measurer: Measurer) -> tuple[Column, ...]:
    """The metrics as columns of the table."""
    return tuple(
        Column(full, name, METRICS[name].better, METRICS[name].meaning) for name, full in measurer.names.items()
    )


def rows_of(
    measured: Measured, measurer: Measurer, kinds: Mapping[str, str], failures: Sequence[Failure]
) -> tuple[Row, ...]:
    """Medians and spreads of each row.

    Args:
        measured: all results.
        measurer: knows the metrics of sets.
        kinds: rows in order, with what each is.
        failures: all of them, to be counted.
    """
    rows = []
    for name, kind in kinds.items():
        own = [index for index, record in enumerate(measured.records) if record.row == name]
        cells = {}
        for column in columns_of(measurer):
            values = [measured.records[index].values.get(column.name) for index in own]
            cell = cell_of([value for value in values if value is not None])
            if cell is not None:
                cells[column.name] = cell
        together = measurer.measure_set(
            [measured.measurements[index] for index in own], [measured.records[index].style for index in own]
        )
        cells |= {column: Cell(value, count=len(own)) for column, value in together.items() if value is not None}
        seconds = [
            record.seconds for record in (measured.records[index] for index in own) if record.seconds is not None
        ]
        failed = sum(failure.row == name for failure in failures)
        rows.append(Row(name, kind, cells, len(own), failed, cell_of(seconds)))  # type: ignore[arg-type]
    return tuple(rows)

"""``impasto compare``: two folders of results, matched by their files' names, measured side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from impasto.config import check_settings, setting
from impasto.errors import UsageError
from impasto.evaluate.inputs import Source, find_pictures
from impasto.evaluate.job import notes_on
from impasto.evaluate.journal import Journal
from impasto.evaluate.measures import DEFAULT_METRICS, METRICS, check_metrics
from impasto.evaluate.measuring import Measurer, MetricFiles
from impasto.evaluate.results import Column, Evaluation, Record
from impasto.evaluate.tasks import CONTROLS, Album, Gallery, StepCallback, Task, columns_of, measure_tasks, rows_of
from impasto.image import read_picture
from impasto.stylizer import fingerprint
from impasto.types import FloatArray

__all__ = ["CROPS", "CompareConfig", "CompareJob", "Match", "matched", "run_comparison"]

CROPS = ("none", "corner", "centre")
_BETWEEN = re.compile(r"[^0-9A-Za-z]+([A-Za-z]+[^0-9A-Za-z]+)?")  # "_", "-", "__", "_stylized_", " in "


@dataclass(frozen=True)
class CompareConfig:
    """What decides a comparison besides the folders.

    Raises:
        UsageError: a value outside of its range.
    """

    size: int = setting(
        256, "longer side at which everything is measured; nothing is enlarged", smallest=32, largest=2048, unit="px"
    )
    pairs: int | None = setting(
        None, "take only so many results, evenly over their names; all by default", smallest=1, largest=10**6
    )
    crop: str = setting(
        "none",
        "how results of another shape than their content were cut from it; none refuses them",
        choices=CROPS,
    )
    show: int = setting(24, "pairs that the page and the grid show", smallest=0, largest=1000)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class CompareJob:
    """Two folders, and where their contents and styles are.

    Attributes:
        first: folder of results.
        second: another one with files of the same names; suffixes may differ.
        contents: folder of photographs, or None.
        styles: folder of artworks, or None.
        output: folder for page, grid and JSON, or None to measure only.
        metrics: names.
        files: networks that metrics need.
        config: see :class:`CompareConfig`.
    """

    first: Path
    second: Path
    contents: Path | None = None
    styles: Path | None = None
    output: Path | None = None
    metrics: tuple[str, ...] = DEFAULT_METRICS
    files: MetricFiles = field(default_factory=MetricFiles)
    config: CompareConfig = field(default_factory=CompareConfig)

    def check(self) -> tuple[str, ...]:
        """The metrics that can be measured with these folders, in order.

        Without contents and styles the first folder is measured against the second, which stands for both.

        Raises:
            UsageError: unknown metrics, none that these folders allow, or one folder twice.
        """
        _ = self.labels
        asked = check_metrics(self.metrics)
        names = [name for name in asked if self._possible(name)]
        if not names:
            raise UsageError(
                f"none of {', '.join(asked)} can be measured with these folders; "
                "name the folders of photographs and artworks with --content and --style"
            )
        return check_metrics(names)

    def _possible(self, name: str) -> bool:
        against = METRICS[name].against
        if self.contents is None and self.styles is None:
            return against in ("content", "style")
        has = {"content": self.contents is not None, "style": self.styles is not None}
        has |= {"both": all(has.values()), "set": has["style"], "itself": False}
        return has[against] and (name != "artfrechet" or has["both"])

    @property
    def labels(self) -> tuple[str, str]:
        """Names of the two rows: the folders', as short as tells them apart."""
        first, second = self.first.resolve(), self.second.resolve()
        if first == second:
            raise UsageError(f"'{self.first}' and '{self.second}' are the same folder")
        for depth in range(1, max(len(first.parts), len(second.parts)) + 1):
            names = "/".join(first.parts[-depth:]), "/".join(second.parts[-depth:])
            if names[0] != names[1]:
                break
        return names

    def matches(self) -> list[Match]:
        """Results of both folders; see :func:`matched`."""
        return matched(self)[0]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "first": self.labels[0],
            "second": self.labels[1],
            "contents": None if self.contents is None else self.contents.name,
            "styles": None if self.styles is None else self.styles.name,
            "size": self.config.size,
            "pairs": self.config.pairs,
            "crop": self.config.crop,
        }


@dataclass(frozen=True)
class Match:
    """A result that both folders have, with its content and style where they are known."""

    name: str
    first: Path
    second: Path
    content: Source | None
    style: Source | None


def matched(job: CompareJob) -> tuple[list[Match], list[str]]:
    """Results of both folders, by name, and notes on what was left out.

    ``05_12.png`` belongs to the photograph ``05`` and the artwork ``12``; between the names stands a sign that is no
    letter or digit, or a word between two of them, as in ``05_stylized_12``.

    Raises:
        UsageError: no common name, or names in which no content or style is found.
    """
    one, other = ({source.name: source for source in find_pictures(folder)} for folder in (job.first, job.second))
    contents = None if job.contents is None else find_pictures(job.contents)
    styles = None if job.styles is None else find_pictures(job.styles)
    common = sorted(set(one) & set(other))
    if not common:
        raise UsageError(
            f"no file of '{job.first}' has the name of one of '{job.second}', such as {min(one)} and {min(other)}"
        )
    matches, strange = [], []
    for name in common:
        first, second = one[name].path, other[name].path
        pair = _pair_of(name, contents, styles)
        if pair is None or first is None or second is None:
            strange.append(name)
        else:
            matches.append(Match(name, first, second, *pair))
    if not matches:
        raise UsageError(
            f"'{strange[0]}' names no content and style of the folders given; results are to be called CONTENT_STYLE"
        )
    notes = []
    alone = len(one) + len(other) - 2 * len(common)
    if alone:
        notes.append(f"{alone} files have no counterpart in the other folder and are left out.")
    if strange:
        notes.append(f"{len(strange)} results name no content and style of the folders given, such as {strange[0]}.")
    return _spread(matches, job.config.pairs), notes


def _spread(matches: list[Match], count: int | None) -> list[Match]:
    """So many of them, evenly over the names."""
    if count is None or count >= len(matches):
        return matches
    return [matches[index * len(matches) // count] for index in range(count)]


def _pair_of(
    name: str, contents: Sequence[Source] | None, styles: Sequence[Source] | None
) -> tuple[Source | None, Source | None] | None:
    """The longest names of a content and a style that a result's name is made of, None where there are none."""
    heads = [one for one in contents or () if name == one.name or _BETWEEN.match(name[len(one.name) :])]
    heads = [one for one in heads if name.startswith(one.name)]
    tails = [one for one in styles or () if name.endswith(one.name)]
    if contents is None and styles is None:
        return None, None
    if styles is None:
        return (max(heads, key=lambda one: len(one.name)), None) if heads else None
    if contents is None:
        ends = [one for one in tails if name == one.name or not name[: -len(one.name)][-1].isalnum()]
        return (None, max(ends, key=lambda one: len(one.name))) if ends else None
    pairs = [
        (head, tail)
        for head in heads
        for tail in tails
        if len(head.name) + len(tail.name) < len(name)
        and _BETWEEN.fullmatch(name[len(head.name) : len(name) - len(tail.name)])
    ]
    return max(pairs, key=lambda pair: len(pair[0].name) + len(pair[1].name)) if pairs else None


def run_comparison(
    job: CompareJob, measurer: Measurer, *, on_step: StepCallback | None = None, again: bool = False
) -> tuple[Evaluation, Album]:
    """Measure what is not measured yet, and sum up.

    Args:
        job: what to do; the measurer was loaded for the metrics of :meth:`CompareJob.check`.
        measurer: see :func:`~impasto.evaluate.measuring.load_measurer`.
        on_step: called before each picture.
        again: measure everything anew.

    Raises:
        UsageError: folders without common names.
        OutputError: the output folder cannot be written.
    """
    tell = on_step or (lambda step: None)
    labels = job.labels
    matches, notes = matched(job)
    known = job.contents is not None or job.styles is not None
    tasks, kinds, gallery = _tasks(job, matches) if known else _against_each_other(job, matches)
    with Journal(job.output, again=again) as journal:
        measured = measure_tasks(tasks, gallery, measurer, journal, tell)
    rows = rows_of(measured, measurer, kinds, measured.failures)
    columns = columns_of(measurer)
    evaluation = Evaluation(
        title="Comparison",
        columns=columns,
        rows=rows,
        records=measured.records,
        failures=measured.failures,
        encoder=measurer.encoder,
        settings=job.describe(),
        notes=(*notes, *notes_on(rows, measurer)),
        wins=_wins(measured.records, columns, labels) if known else None,
    )
    return evaluation, Album(tasks, gallery)


def _tasks(job: CompareJob, matches: Sequence[Match]) -> tuple[list[Task], dict[str, str], Gallery]:
    """Results of both folders, and the controls of their pairs."""
    gallery = _CroppedGallery(job.config.size, job.config.crop)
    for match in matches:
        if match.content is not None and job.config.crop != "none":
            gallery.shape_like(match)
    tasks = gallery.controls([(match.content, match.style) for match in matches])
    for match in matches:
        tasks += [
            Task(
                label,
                match.content,
                match.style,
                _key(job, path, match),
                partial(_read, path),
                picture=f"{label}/{path.name}",
            )
            for label, path in zip(job.labels, (match.first, match.second), strict=True)
        ]
    kinds = {name: "control" for name in CONTROLS if any(task.row == name for task in tasks)}
    return tasks, kinds | dict.fromkeys(job.labels, "folder"), gallery


def _against_each_other(job: CompareJob, matches: Sequence[Match]) -> tuple[list[Task], dict[str, str], Gallery]:
    """The first folder's results with the second's in the place of content and style."""
    row = f"{job.labels[0]} against {job.labels[1]}"
    tasks = []
    for match in matches:
        other = Source(match.name, match.second)
        key = _key(job, match.first, match)
        tasks.append(
            Task(row, other, other, key, partial(_read, match.first), picture=f"{job.labels[0]}/{match.first.name}")
        )
    return tasks, {row: "folder"}, Gallery(job.config.size)


def _key(job: CompareJob, path: Path, match: Match) -> str:
    stamps = [source and source.stamp for source in (Source("", path), match.content, match.style)]
    return fingerprint(stamps, job.config.size, job.config.crop)


class _CroppedGallery(Gallery):
    """Contents cut to the shape of the results that were made of them."""

    def __init__(self, size: int, crop: str) -> None:
        super().__init__(size)
        self._crop = crop
        self._ratios: dict[Source, float] = {}

    def shape_like(self, match: Match) -> None:
        """Cut a content as its result of the first folder is."""
        if match.content is not None and match.content not in self._ratios:
            height, width = read_picture(match.first).size
            self._ratios[match.content] = width / height

    def picture(self, source: Source) -> FloatArray:
        """The content as its results show it; styles whole."""
        pixels = super().picture(source)
        ratio = self._ratios.get(source)
        if ratio is None:
            return pixels
        height, width = pixels.shape[:2]
        if abs(math.log(ratio * height / width)) < 1 / min(height, width):
            return pixels
        kept = min(height, round(width / ratio)), min(width, round(height * ratio))
        top, left = (0, 0) if self._crop == "corner" else ((height - kept[0]) // 2, (width - kept[1]) // 2)
        return pixels[top : top + kept[0], left : left + kept[1]]


def _wins(records: Sequence[Record], columns: Sequence[Column], labels: tuple[str, str]) -> dict[str, tuple[int, int]]:
    """In how many pairs the first folder is better, of those where the two differ and both have a value."""
    by_row = {label: {(one.content, one.style): one for one in records if one.row == label} for label in labels}
    wins = {}
    for column in columns:
        sign = -1 if column.better == "higher" else 1
        better, counted = 0, 0
        for pair in by_row[labels[0]].keys() & by_row[labels[1]].keys():
            values = [by_row[label][pair].values.get(column.name) for label in labels]
            if column.better and values[0] is not None and values[1] is not None and values[0] != values[1]:
                better, counted = better + (sign * values[0] < sign * values[1]), counted + 1
        if counted:
            wins[column.name] = better, counted
    return wins


def _read(path: Path) -> FloatArray:
    return read_picture(path).pixels

"""``impasto evaluate``: engines paint the same pairs, then everything is measured beside the controls."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from impasto.config import StylizeConfig, check_settings, setting
from impasto.engines import engine_options, engine_spec
from impasto.engines.base import ProgressCallback, RenderProgress
from impasto.errors import CancelledError, ImpastoError, OutputError, UsageError
from impasto.evaluate.inputs import Source, find_pictures, paired
from impasto.evaluate.journal import Journal
from impasto.evaluate.measures import DEFAULT_METRICS, check_metrics
from impasto.evaluate.measuring import Measurer, MetricFiles
from impasto.evaluate.results import Evaluation, Failure, Row
from impasto.evaluate.tasks import (
    CONTROLS,
    Album,
    Gallery,
    Step,
    StepCallback,
    Task,
    columns_of,
    measure_tasks,
    rows_of,
)
from impasto.field import StyleCode, StyleField
from impasto.image import read_picture
from impasto.stylizer import Stylizer, fingerprint
from impasto.types import FloatArray
from impasto.version import __version__
from impasto.weights import load_card

__all__ = ["EvaluateConfig", "EvaluateJob", "notes_on", "run_evaluation"]

PICTURES = "pictures"
FEW = 20  # results below which metrics of sets say little


@dataclass(frozen=True)
class EvaluateConfig:
    """What decides an evaluation besides engines and pictures.

    Raises:
        UsageError: a value outside of its range.
    """

    size: int = setting(
        256, "longer side of contents, styles and results; none is enlarged", smallest=32, largest=2048, unit="px"
    )
    pairs: int | None = setting(
        None, "take so many pairs, spread evenly over photographs and styles; all by default", smallest=1, largest=10**6
    )
    seed: int = setting(0, "of the choice of pairs and of engines that use chance", smallest=0, largest=2**63 - 10)
    seeds: int = setting(3, "results of each pair that diversity compares", smallest=2, largest=9)
    show: int = setting(24, "pairs that the page and the grid show", smallest=0, largest=1000)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class EvaluateJob:
    """Engines, pictures and metrics, and where the results go.

    Attributes:
        engines: by name.
        contents: folder of photographs.
        styles: folder of artworks, or None.
        presets: names of presets that stand for styles; there is no picture to measure the style by.
        output: folder for everything.
        metrics: names; see :data:`~impasto.evaluate.measures.METRICS`.
        files: networks that metrics need.
        config: see :class:`EvaluateConfig`.
        options: by engine, settings of its own.
    """

    engines: tuple[str, ...]
    contents: Path
    styles: Path | None
    output: Path
    presets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = DEFAULT_METRICS
    files: MetricFiles = field(default_factory=MetricFiles)
    config: EvaluateConfig = field(default_factory=EvaluateConfig)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def pairs(self) -> list[tuple[Source, Source]]:
        """Photographs with styles, in order.

        Raises:
            UsageError: nothing to paint, or names from which two results would get one file.
        """
        contents = find_pictures(self.contents)
        styles = [] if self.styles is None else find_pictures(self.styles)
        styles += [Source(name, None) for name in self.presets]
        if not styles:
            raise UsageError("no styles: name a folder of artworks with --style, or presets with --preset")
        names = [style.name for style in styles]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"two styles are called '{twice}'")
        pairs = paired(contents, styles, self.config.pairs, self.config.seed)
        seen: dict[str, tuple[Source, Source]] = {}
        for pair in pairs:
            other = seen.setdefault(_file_name(*pair), pair)
            if other != pair:
                raise UsageError(
                    f"results of {_named(other)} and {_named(pair)} would both be '{_file_name(*pair)}.png'"
                )
        return pairs

    def check(self) -> tuple[str, ...]:
        """The metrics in order, after a look at all names and settings.

        Raises:
            UsageError: an engine twice or none, a setting that an engine does not have, an unknown metric.
        """
        if not self.engines:
            raise UsageError("at least one engine is needed")
        for name in self.engines:
            engine_spec(name)
            if self.engines.count(name) > 1:
                raise UsageError(f"the engine '{name}' is named twice")
            engine_options(name, self.options.get(name, {}))
        stray = next((name for name in self.options if name not in self.engines), None)
        if stray is not None:
            raise UsageError(f"settings for the engine '{stray}', which does not take part")
        return check_metrics(self.metrics)

    def stylize_config(self, engine: str, seed: int) -> StylizeConfig:
        """The settings of one engine's paintings."""
        return StylizeConfig(seed=seed, options=dict(self.options.get(engine, {})))

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "engines": list(self.engines),
            "contents": self.contents.name,
            "styles": None if self.styles is None else self.styles.name,
            "presets": list(self.presets),
            "options": {name: dict(values) for name, values in self.options.items()},
        } | asdict(self.config)


def run_evaluation(
    job: EvaluateJob, measurer: Measurer, *, on_step: StepCallback | None = None, again: bool = False
) -> tuple[Evaluation, Album]:
    """Paint what is not painted yet, measure what is not measured yet, and sum up.

    Painted pictures lie in ``pictures/ENGINE/CONTENT_STYLE.png`` of the output folder; a journal beside them knows what
    they were made from, so that a run that was stopped goes on, and one with more metrics or engines adds to it.

    Args:
        job: what to do; :meth:`EvaluateJob.check` was called before the measurer was loaded.
        measurer: see :func:`~impasto.evaluate.measuring.load_measurer`.
        on_step: called before each picture, and within slow ones.
        again: paint and measure everything anew.

    Raises:
        UsageError: names, settings or folders that are wrong.
        OutputError: the output folder cannot be written.
        ImpastoError: an engine cannot be loaded.
    """
    tell = on_step or (lambda step: None)
    job.check()
    pairs = job.pairs()
    gallery = Gallery(job.config.size)
    with Journal(job.output, again=again) as journal:
        tasks = gallery.controls(pairs)
        painted, unpainted = _paint(job, pairs, gallery, journal, tell, with_seeds="diversity" in measurer.metrics)
        measured = measure_tasks([*tasks, *painted], gallery, measurer, journal, tell)
        failures = [*unpainted, *measured.failures]
    kinds = {name: "control" for name in CONTROLS if any(task.row == name for task in tasks)}
    kinds |= dict.fromkeys(job.engines, "engine")
    rows = rows_of(measured, measurer, kinds, failures)
    evaluation = Evaluation(
        title="Evaluation",
        columns=columns_of(measurer),
        rows=rows,
        records=measured.records,
        failures=tuple(failures),
        encoder=measurer.encoder,
        settings=job.describe(),
        notes=notes_on(rows, measurer, presets=bool(job.presets)),
    )
    return evaluation, Album([*tasks, *painted], gallery)


def notes_on(rows: Sequence[Row], measurer: Measurer, *, presets: bool = False) -> tuple[str, ...]:
    """What a reader of the table must know."""
    notes = []
    counts = [row.count for row in rows if row.kind != "control"]
    if "frechet" in measurer.metrics and counts and min(counts) < FEW:
        notes.append(f"frechet compares whole sets; with {min(counts)} results it only tells rows of this table apart.")
    if presets:
        notes.append("Presets have no picture: metrics of the style leave their pairs out.")
    if any(row.failed for row in rows):
        notes.append("Rows with failed results were measured on fewer pairs; their medians do not compare exactly.")
    return tuple(notes)


# -- painting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Painting:
    """One picture to paint: an engine, a pair and a seed."""

    engine: str
    content: Source
    style: Source
    seed: int
    key: str
    path: Path  # relative to the output folder


def _paint(
    job: EvaluateJob,
    pairs: Sequence[tuple[Source, Source]],
    gallery: Gallery,
    journal: Journal,
    tell: StepCallback,
    *,
    with_seeds: bool,
) -> tuple[list[Task], list[Failure]]:
    """Paint everything that the journal does not have; the results as tasks, with those that failed left out."""
    plan = {name: _planned(job, name, pairs, with_seeds) for name in job.engines}
    total = sum(len(paintings) for paintings in plan.values())
    tasks: list[Task] = []
    failures: list[Failure] = []
    todo = {
        name: [painting for painting in paintings if _seconds_known(job, journal, painting) is None]
        for name, paintings in plan.items()
    }
    engines = {
        name: _Engine(job, name, gallery) for name, missing in todo.items() if missing
    }  # all load, or none begins
    done = total - sum(len(missing) for missing in todo.values())
    for name, paintings in plan.items():
        errors: dict[_Painting, str] = {}
        for painting in todo[name]:
            label = f"{name}: {painting.content.name} x {painting.style.name}"
            tell(Step("painting", done, total, label))
            try:
                took = engines[name].paint(painting, _within(tell, done, total, label))
                journal.add("painted", painting.path.as_posix(), painting.key, {"seconds": took})
            except (CancelledError, OutputError):
                raise
            except (ImpastoError, OSError, MemoryError) as error:
                errors[painting] = str(error) or type(error).__name__
            done += 1
        engines.pop(name, None)  # its memory is free for the next one
        found, missing = _collected(job, journal, name, paintings, errors)
        tasks, failures = tasks + found, failures + missing
    tell(Step("painting", total, total))
    return tasks, failures


def _seconds_known(job: EvaluateJob, journal: Journal, painting: _Painting) -> float | None:
    """The time that a picture took which is painted already, None of one that is not."""
    entry = journal.find("painted", painting.path.as_posix(), painting.key)
    return float(entry["seconds"]) if entry is not None and (job.output / painting.path).is_file() else None


def _within(tell: StepCallback, done: int, total: int, label: str) -> ProgressCallback:
    """A callback for the engine that moves the bar within one picture."""

    def on_progress(progress: RenderProgress) -> None:
        tell(Step("painting", done + min(progress.done, 1.0), total, label))

    return on_progress


def _planned(
    job: EvaluateJob, engine: str, pairs: Sequence[tuple[Source, Source]], with_seeds: bool
) -> list[_Painting]:
    """An engine's pictures, style after style, so that each style is encoded once."""
    spec = engine_spec(engine)
    weights = load_card(spec.card).identity if spec.card else ""
    seeds = job.config.seeds if with_seeds and spec.capabilities.chance else 1
    paintings = []
    by_style: dict[Source, list[Source]] = {}
    for content, style in pairs:
        by_style.setdefault(style, []).append(content)
    for style, number in itertools.product(by_style, range(seeds)):
        config = job.stylize_config(engine, job.config.seed + number)
        for content in by_style[style]:
            shaped = (
                engine,
                weights,
                __version__,
                asdict(config),
                content.stamp,
                style.name,
                style.stamp,
                job.config.size,
            )
            name = _file_name(content, style) + (f".seed{number}" if number else "")
            path = Path(PICTURES, engine, f"{name}.png")
            paintings.append(_Painting(engine, content, style, config.seed, fingerprint(*shaped), path))
    return paintings


class _Engine:
    """A loaded engine with the code of the style in use."""

    def __init__(self, job: EvaluateJob, name: str, gallery: Gallery) -> None:
        self._job, self._gallery = job, gallery
        self._stylizer = Stylizer.load(name)
        self._code: tuple[Source, int, StyleCode] | None = None

    def paint(self, painting: _Painting, on_progress: ProgressCallback) -> float:
        """Paint and save; the seconds that the rendering took.

        Raises:
            ImpastoError: whatever the engine says.
        """
        config = self._job.stylize_config(painting.engine, painting.seed)
        field = StyleField.constant(self._encoded(painting, config))
        content = self._gallery.picture(painting.content)
        result = self._stylizer.render(content, field, config, on_progress=on_progress)
        path = self._job.output / painting.path
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(result, recipe=result.recipe | {"content": painting.content.name}).save(path)
        return result.seconds

    def _encoded(self, painting: _Painting, config: StylizeConfig) -> StyleCode:
        style = painting.style
        if self._code is None or self._code[:2] != (style, painting.seed):
            given = style.name if style.path is None else self._gallery.picture(style)
            code = self._stylizer.encode(given, name=style.name, config=config)
            self._code = style, painting.seed, code
        return self._code[2]


def _collected(
    job: EvaluateJob,
    journal: Journal,
    engine: str,
    paintings: Sequence[_Painting],
    errors: Mapping[_Painting, str],
) -> tuple[list[Task], list[Failure]]:
    """One task for each pair with all its seeds; one failure for each pair where any is missing."""
    tasks, failures = [], []
    pairs: dict[tuple[Source, Source], list[_Painting]] = {}
    for painting in paintings:
        pairs.setdefault((painting.content, painting.style), []).append(painting)
    for (content, style), group in pairs.items():
        wrong = next((errors[painting] for painting in group if painting in errors), None)
        if wrong is not None:
            failures.append(Failure(engine, content.name, style.name, wrong))
            continue
        first, *others = group
        loads = [partial(_read, job.output / painting.path) for painting in group]
        chance = engine_spec(engine).capabilities.chance
        key = fingerprint(*(painting.key for painting in group))
        tasks.append(
            Task(
                engine,
                content,
                style,
                key,
                loads[0],
                _seconds_known(job, journal, first),
                first.path.as_posix(),
                tuple(loads[1:]) if others or not chance else None,
            )
        )
    return tasks, failures


def _read(path: Path) -> FloatArray:
    return read_picture(path).pixels


def _file_name(content: Source, style: Source) -> str:
    return f"{content.name}_{style.name}"


def _named(pair: tuple[Source, Source]) -> str:
    return f"{pair[0].name} x {pair[1].name}"

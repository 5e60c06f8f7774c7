"""``impasto evaluate`` and ``impasto compare``: engines or folders of results, measured beside the controls."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.options import say
from impasto.errors import BatchError, UsageError

if TYPE_CHECKING:
    from impasto.evaluate.measuring import MetricFiles
    from impasto.evaluate.results import Cell, Evaluation
    from impasto.evaluate.tasks import Album, Step, StepCallback

__all__ = ["register"]

METRICS_HELP = "Which metrics, with commas between; 'all' for all but cfsd and diversity; see docs/metrics.md."
ENCODER_HELP = "Feature network: lens, or the file of a backbone. Its name becomes part of the metrics' names."
PANEL = "Metrics"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("evaluate")(_evaluate)
    app.command("compare")(_compare)


def _evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything.", show_default=False)],
    content: Annotated[Path, typer.Option("--content", help="Folder of photographs.", show_default=False)],
    engine: Annotated[
        list[str] | None, typer.Option(help="Method; repeat for several; see 'impasto engines'.", show_default="brush")
    ] = None,
    style: Annotated[Path | None, typer.Option("--style", help="Folder of artworks.", show_default=False)] = None,
    preset: Annotated[
        list[str] | None, typer.Option(help="A preset that stands for a style; repeat for several.", show_default=False)
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help="So many pairs, spread evenly over photographs and styles.", min=1, show_default="all"),
    ] = None,
    size: Annotated[int, typer.Option(help="Longer side of all pictures.", min=32, max=2048)] = 256,
    seed: Annotated[int, typer.Option(help="Of the choice of pairs and of engines that use chance.", min=0)] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of one engine: ENGINE.NAME=VALUE; repeat for several.", show_default=False
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP, show_default=False, rich_help_panel=PANEL)] = None,
    encoder: Annotated[str, typer.Option(help=ENCODER_HELP, rich_help_panel=PANEL)] = "lens",
    seeds: Annotated[
        int, typer.Option(help="Results of each pair that diversity compares.", min=2, max=9, rich_help_panel=PANEL)
    ] = 3,
    lpips_backbone: Annotated[
        Path | None, typer.Option(help="torchvision's vgg16 or alexnet.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    lpips_heads: Annotated[
        Path | None, typer.Option(help="vgg.pth or alex.pth of lpips 0.1.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="Folder with CLIP weights.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    show: Annotated[int, typer.Option(help="Pairs on the page and in the grid.", min=0, max=1000)] = 24,
    again: Annotated[bool, typer.Option("--again", help="Do everything anew instead of going on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Paint pairs with several engines and measure them beside two controls; a second call goes on.

    impasto evaluate --engine brush --content photos/ --style artworks/ -o study
    """
    from impasto.evaluate.job import EvaluateConfig, EvaluateJob, run_evaluation
    from impasto.evaluate.measuring import MetricFiles, load_measurer

    files = MetricFiles(encoder, lpips_backbone, lpips_heads, clip)
    job = EvaluateJob(
        engines=tuple(engine or ["brush"]),
        contents=content,
        styles=style,
        output=output,
        presets=tuple(preset or ()),
        metrics=_metric_names(metrics, files),
        files=files,
        config=EvaluateConfig(size=size, pairs=pairs, seed=seed, seeds=seeds, show=show),
        options=_engine_options(settings),
    )
    names = job.check()
    job.pairs()  # before anything heavy is loaded
    measurer = load_measurer(names, files)
    with _progress(quiet=as_json) as on_step:
        evaluation, album = run_evaluation(job, measurer, on_step=on_step, again=again)
    _finish(evaluation, album, output, show, as_json=as_json)


def _compare(
    first: Annotated[Path, typer.Argument(help="Folder of results.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Folder of results with the same names.", show_default=False)],
    content: Annotated[
        Path | None, typer.Option("--content", help="Folder of photographs.", show_default=False)
    ] = None,
    style: Annotated[Path | None, typer.Option("--style", help="Folder of artworks.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for page, grid and JSON.", show_default=False)
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Only so many results, evenly over their names.", min=1, show_default="all")
    ] = None,
    size: Annotated[int, typer.Option(help="Longer side at which everything is measured.", min=32, max=2048)] = 256,
    crop: Annotated[
        str,
        typer.Option(help="How results were cut from contents of another shape: none, corner (upper left) or centre."),
    ] = "none",
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP, show_default=False, rich_help_panel=PANEL)] = None,
    encoder: Annotated[str, typer.Option(help=ENCODER_HELP, rich_help_panel=PANEL)] = "lens",
    lpips_backbone: Annotated[
        Path | None, typer.Option(help="torchvision's vgg16 or alexnet.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    lpips_heads: Annotated[
        Path | None, typer.Option(help="vgg.pth or alex.pth of lpips 0.1.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="Folder with CLIP weights.", show_default=False, rich_help_panel=PANEL)
    ] = None,
    show: Annotated[int, typer.Option(help="Pairs on the page and in the grid.", min=0, max=1000)] = 24,
    again: Annotated[bool, typer.Option("--again", help="Measure everything anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure two folders of results side by side; files called CONTENT_STYLE are matched by their names.

    impasto compare mine/ theirs/ --content photos/ --style artworks/ -o comparison
    """
    from impasto.evaluate.folders import CompareConfig, CompareJob, run_comparison
    from impasto.evaluate.measuring import MetricFiles, load_measurer

    files = MetricFiles(encoder, lpips_backbone, lpips_heads, clip)
    job = CompareJob(
        first,
        second,
        contents=content,
        styles=style,
        output=output,
        metrics=_metric_names(metrics, files),
        files=files,
        config=CompareConfig(size=size, pairs=pairs, crop=crop, show=show),
    )
    names = job.check()
    job.matches()  # before anything heavy is loaded
    measurer = load_measurer(names, files)
    with _progress(quiet=as_json) as on_step:
        evaluation, album = run_comparison(job, measurer, on_step=on_step, again=again)
    _finish(evaluation, album, output, show, as_json=as_json)


def _metric_names(text: str | None, files: MetricFiles) -> tuple[str, ...]:
    """``a,b`` to names; the default ones, and those whose files were given.

    ``all`` leaves out what must be named: ``cfsd``, which wants VGG-19, and ``diversity``, which paints several times.
    """
    from impasto.evaluate.measures import DEFAULT_METRICS, METRICS

    have = {"pixels": True, "encoder": True, "seeds": False}
    have |= {"lpips": files.lpips_backbone is not None or files.lpips_heads is not None, "clip": files.clip is not None}
    if text is None:
        given = [name for name, spec in METRICS.items() if spec.over in ("lpips", "clip") and have[spec.over]]
        return (*DEFAULT_METRICS, *given)
    if text.strip() == "all":
        return tuple(name for name, spec in METRICS.items() if have[spec.over] and name != "cfsd")
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _engine_options(texts: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """``["gatys.iterations=100"]`` to tables by engine.

    Raises:
        UsageError: no engine, no equals sign, or a name given twice.
    """
    tables: dict[str, dict[str, Any]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        engine, dot, option = name.strip().partition(".")
        option = option.replace("-", "_")
        if not equals or not dot or not engine or not option:
            raise UsageError(f"--set takes ENGINE.NAME=VALUE, like gatys.iterations=100, not '{text}'")
        if option in tables.setdefault(engine, {}):
            raise UsageError(f"--set names '{engine}.{option}' twice")
        tables[engine][option] = value.strip()
    return tables


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[StepCallback | None]:
    """A bar for each phase, on a terminal."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text, bar, count = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    label = TextColumn("{task.fields[label]}")
    with Progress(
        text, bar, count, TimeRemainingColumn(), label, console=Console(stderr=True), transient=True
    ) as shown:
        bars: dict[str, Any] = {}

        def on_step(step: Step) -> None:
            if step.phase not in bars:
                bars[step.phase] = shown.add_task(step.phase, total=step.total, label="")
            shown.update(bars[step.phase], completed=step.done, total=step.total, label=step.label)

        yield on_step


def _finish(evaluation: Evaluation, album: Album, output: Path | None, show: int, *, as_json: bool) -> None:
    """Write what people look at, print the table, and fail if anything did.

    Raises:
        BatchError: some results are missing.
    """
    if output is not None:
        from impasto.evaluate.grid import save_grid
        from impasto.evaluate.page import save_page
        from impasto.evaluate.results import save_json

        save_json(evaluation, output / "results.json")
        save_grid(evaluation, album, output / "grid.jpg", count=show)
        save_page(evaluation, album, output / "index.html", count=show)
    if as_json:
        typer.echo(json.dumps(evaluation.as_dict()))
    else:
        _print_table(evaluation)
        if output is not None:
            say(output / "index.html")
        for one in evaluation.failures:
            pair = " x ".join(filter(None, (one.content, one.style)))
            typer.echo(f"  {one.row}, {pair}: {one.error}", err=True)
    if evaluation.failures:
        total = len(evaluation.failures) + len(evaluation.records)
        raise BatchError(f"{len(evaluation.failures)} of {total} results failed; the same command tries them again")


def _print_table(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, caption="medians; in brackets interquartile ranges", caption_justify="left")
    table.add_column("metric", no_wrap=True)
    for name in ("better", *(row.name for row in evaluation.rows)):
        table.add_column(name, overflow="fold")
    for column in evaluation.columns:
        cells = [_shown(row.cells.get(column.name)) for row in evaluation.rows]
        table.add_row(column.name, column.better, *cells)
    if any(row.seconds for row in evaluation.rows):
        table.add_row("seconds to paint", "", *(_shown(row.seconds) for row in evaluation.rows))
    counts = (f"{row.count}, {row.failed} failed" if row.failed else f"{row.count}" for row in evaluation.rows)
    table.add_row("results", "", *counts)
    Console().print(table, highlight=False)
    for note in evaluation.notes:
        typer.echo(note)


def _shown(cell: Cell | None) -> str:
    from impasto.evaluate.results import number

    if cell is None:
        return "-"
    return number(cell.median) + ("" if cell.spread is None else f" ({number(cell.spread)})")

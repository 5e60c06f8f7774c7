"""Measuring: repeats in turn, medians and spreads, targets, and a report that names the machine it was made on.

Cases that are to be compared run round-robin, in an order that is rotated every round, so that whatever drifts (clock
rate, temperature, neighbours on the machine) hits all of them alike. Before each timed call the harness waits until the
thread pool of the case before has gone to sleep (ONNX Runtime and OpenMP spin for a while after work), then calls once
untimed: what is timed is a warm call on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from impasto.weights import load_card

__all__ = [
    "ROOT",
    "Case",
    "Report",
    "Row",
    "Target",
    "Timing",
    "add_options",
    "busy_share",
    "checked_options",
    "machine",
    "measure",
    "publish",
]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("impasto", "numpy", "pillow", "onnxruntime", "onnx", "torch", "openvino")
PAUSE = 0.3  # seconds for the thread pools of the case before to fall asleep
VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_")  # environment that changes how threads work
BUSY = 0.1  # share of the machine that others may use before the report warns


# -- statistics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one case, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle measurement."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile, interpolated between the measurements."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def spread(self) -> float:
        """Interquartile range."""
        first, third = self.quartiles
        return third - first


@dataclass(frozen=True)
class Case:
    """Something to time: a name for the report, and a call without arguments."""

    name: str
    call: Callable[[], object]


def measure(
    cases: Sequence[Case],
    *,
    repeats: int,
    warmup: int = 2,
    settle: int = 1,
    pause: float = PAUSE,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Timing]:
    """Time the cases in turn, ``repeats`` rounds of one timed call each.

    Args:
        cases: what to compare.
        repeats: rounds.
        warmup: untimed calls of each case before the first round.
        settle: untimed calls before each timed one.
        pause: seconds of rest before a case's turn.
        clock: gives seconds.
        sleep: waits for seconds.

    Raises:
        ValueError: no repeats, or two cases of one name.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    if len(found) != len(cases):
        raise ValueError(f"two cases have one name: {[case.name for case in cases]}")
    for case in cases:
        for _ in range(warmup):
            case.call()
    for turn in range(repeats):
        first = turn % len(cases) if cases else 0
        for case in (*cases[first:], *cases[:first]):
            sleep(pause)
            for _ in range(settle):
                case.call()
            begun = clock()
            case.call()
            found[case.name].append(clock() - begun)
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}


# -- the report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What a figure should be."""

    kind: Literal["at most", "at least", "below"]
    limit: float

    def met(self, value: float) -> bool:
        """Whether a value reaches the target."""
        if self.kind == "at least":
            return value >= self.limit
        return value < self.limit if self.kind == "below" else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One figure of a report.

    Attributes:
        name: what was measured.
        value: the figure, for timings the median; None if it could not be measured.
        unit: of ``value``, ``spread`` and the target.
        spread: interquartile range, None where there is one measurement.
        target: what the figure should be, None if nothing is asked of it.
        note: anything a reader must know beside it.
    """

    name: str
    value: float | None
    unit: str
    spread: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or nothing where there is no target or no figure."""
        if self.target is None or self.value is None:
            return ""
        return "met" if self.target.met(self.value) else "not met"


@dataclass
class Report:
    """Figures of one run.

    Attributes:
        benchmark: ``speed`` or ``memory``.
        settings: the options of the run.
        judged: whether figures are held against their targets; small test runs are not.
        rows: the figures.
        timings: all single measurements by case, in seconds.
        notes: what was left out and why.
        busy: largest share of the machine that was in use by others while nothing was measured.
    """

    benchmark: str
    settings: dict[str, Any]
    judged: bool = True
    rows: list[Row] = field(default_factory=list)
    timings: dict[str, Timing] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    busy: float | None = None

    def add(
        self,
        name: str,
        value: float | None,
        unit: str,
        *,
        spread: float | None = None,
        target: Target | None = None,
        note: str = "",
    ) -> None:
        """Add a figure; its target is dropped where the run is not judged."""
        self.rows.append(Row(name, value, unit, spread, target if self.judged else None, note))

    def add_timing(
        self, name: str, timing: Timing, *, unit: str = "ms", target: Target | None = None, note: str = ""
    ) -> None:
        """Add the median and spread of a timing, and keep its measurements."""
        scale = {"ms": 1e3, "s": 1.0}[unit]
        self.timings[name] = timing
        self.add(name, timing.median * scale, unit, spread=timing.spread * scale, target=target, note=note)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "benchmark": self.benchmark,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "packages": package_versions(),
            "commit": git_commit(),
            "weights": load_card("brush").identity,
            "settings": self.settings,
            "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)},
            "busy_share": self.busy,
            "notes": self.notes,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
            "timings": {
                name: {"median": timing.median, "iqr": timing.spread, "seconds": list(timing.seconds)}
                for name, timing in self.timings.items()
            },
        }

    def table(self) -> Table:
        """The figures for a person."""
        table = Table(title=f"impasto {self.benchmark}", title_justify="left")
        for header, side in (("measured", "left"), ("value", "right"), ("IQR", "right"), ("target", "right")):
            table.add_column(header, justify=side)  # type: ignore[arg-type]
        table.add_column("verdict")
        table.add_column("note", overflow="fold")
        colors = {"met": "[green]met[/green]", "not met": "[red]not met[/red]", "": ""}
        for row in self.rows:
            value = "not measured" if row.value is None else f"{shown(row.value)} {row.unit}"
            spread = "" if row.spread is None else shown(row.spread)
            target = "" if row.target is None else f"{row.target.kind} {row.target.limit:g} {row.unit}"
            table.add_row(row.name, value, spread, target, colors[row.verdict], row.note)
        return table


def shown(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


# -- where and with what ---------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """CPU, cores, memory, system and Python."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "os": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def package_versions() -> dict[str, str]:
    """Versions of what the figures depend on, as far as it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the source folder, with ``+changes`` where files differ from it; None outside of a repository."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks").strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


def busy_share(seconds: float = 1.0) -> float | None:
    """Share of the machine that is in use while this process rests, 0 to 1; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.cpu_percent(seconds)) / 100


# -- the command line ------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """The options that all benchmarks have."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and few repeats: does it run? No figures of worth"
    )
    parser.add_argument("--repeats", type=int, default=repeats, help=f"rounds (default {repeats})")


def checked_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and refuse before the measuring what would fail after it."""
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, not {options.repeats}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"the folder '{options.json.parent}' does not exist")
    return options


def publish(report: Report, path: Path | None) -> None:
    """Write the JSON file and print the table."""
    content = report.as_dict()
    if path is not None:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 150)
    place = content["machine"]
    console.print(
        f"{place['cpu']}, {place['cores']} cores, {place['memory_gb']} GB, {place['os']}, Python {place['python']}\n"
        f"{', '.join(f'{name} {version}' for name, version in content['packages'].items())}\n"
        f"commit {content['commit']}, weights {content['weights']}, {content['date']}",
        highlight=False,
    )
    console.print(report.table())
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)
    if not report.judged:
        console.print("A quick run: the figures say that it runs, nothing else.", highlight=False)
    if report.busy is not None and report.busy > BUSY:
        console.print(
            f"[bold red]The machine was busy with other work ({report.busy:.0%}): the figures are worthless.[/bold red]"
        )

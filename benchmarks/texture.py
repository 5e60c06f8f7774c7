"""How fast textures are made and pictures quilted: ``python -m benchmarks.texture``.

The rival is the search of Efros & Leung as one writes it with NumPy: windows of the sample, a masked weighted sum of
squares over all of them for every pixel. Both are timed per pixel in the same run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.harness import Case, Report, Target, add_options, busy_share, checked_options, measure, publish
from benchmarks.pictures import photograph
from impasto.config import StylizeConfig
from impasto.engines import load_engine
from impasto.field import StyleField
from impasto.ops.tiling import to_float
from impasto.texture import EfrosLeungSettings
from impasto.texture.growing import gaussian_window, grow
from impasto.texture.quilting import quilt, transfer

__all__ = ["Plan", "main", "run"]

QUILTING, TRANSFER, GROWING, STYLIZING = "quilting", "texture transfer", "Efros-Leung", "engine quilt"
OURS, RIVAL = "Efros-Leung, a pixel", "the same search in NumPy, a pixel"
TARGETS = {QUILTING: Target("at most", 5), GROWING: Target("at most", 20), STYLIZING: Target("at most", 30)}  # seconds


@dataclass(frozen=True)
class Plan:
    """Sides of a run's square pictures.

    Attributes:
        quilted: of the quilted texture.
        sample: of its sample.
        grown: of the grown texture.
        seed: of its sample.
        painted: of the stylized photograph.
        window: of the grown texture.
        repeats: rounds.
        pause: seconds of rest between.
    """

    quilted: int = 512
    sample: int = 192
    grown: int = 128
    seed: int = 64
    painted: int = 512
    window: int = EfrosLeungSettings.window
    repeats: int = 3
    pause: float = 1.0

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(quilted=80, sample=64, grown=16, seed=20, painted=48, window=7, repeats=1, pause=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texture", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    options = checked_options(parser, arguments)
    publish(run(Plan.quick() if options.quick else Plan(repeats=options.repeats)), options.json)
    return 0


def run(plan: Plan) -> Report:
    """Everything, in one report."""
    report = Report("texture", {"plan": asdict(plan)}, judged=plan.quilted == Plan.quilted)
    report.busy = busy_share()
    picture = to_float(photograph(plan.painted, plan.painted, seed=1))
    sample = picture[: plan.sample, : plan.sample] if plan.sample <= plan.painted else _sample(plan.sample)
    seed = sample[: plan.seed, : plan.seed]
    settings = EfrosLeungSettings(window=plan.window)
    notes = {
        QUILTING: f"{plan.quilted}x{plan.quilted} from {plan.sample}x{plan.sample}",
        TRANSFER: f"{plan.painted}x{plan.painted}, texture {plan.sample}x{plan.sample}",
        GROWING: f"{plan.grown}x{plan.grown} from {plan.seed}x{plan.seed}, window {plan.window}",
        STYLIZING: f"{plan.painted}x{plan.painted}, style {plan.painted}x{plan.painted}",
    }
    cases = [
        Case(QUILTING, lambda: quilt(sample, (plan.quilted, plan.quilted))),
        Case(TRANSFER, lambda: transfer(sample, picture)),
        Case(GROWING, lambda: grow(seed, (plan.grown, plan.grown), settings)),
        Case(STYLIZING, _stylizing(plan)),
        Case(RIVAL, _numpy_search(seed, plan.window)),
    ]
    found = measure(cases, repeats=plan.repeats, warmup=1, settle=0, pause=plan.pause)
    for name, note in notes.items():
        report.add_timing(name, found[name], unit="s", target=TARGETS.get(name), note=note)
    pixels = plan.grown * plan.grown - 9  # nine are given
    ours = found[GROWING].median / pixels
    report.add(OURS, ours * 1e3, "ms", note="the whole method, most windows partly known")
    report.add_timing(RIVAL, found[RIVAL], note="one search, half of the window known")
    report.add("NumPy / Efros-Leung", found[RIVAL].median / ours, "x")
    return report


def _sample(side: int) -> NDArray[np.float32]:
    return to_float(photograph(side, side, seed=1))


def _stylizing(plan: Plan) -> Callable[[], object]:
    engine, config = load_engine("quilt"), StylizeConfig()
    content = photograph(plan.painted, plan.painted)
    style = to_float(photograph(plan.painted, plan.painted, seed=2)).transpose(1, 0, 2)
    field = StyleField.constant(engine.encode(np.ascontiguousarray(style), name="style", config=config))
    return lambda: engine.render(content, field, config)


def _numpy_search(sample: NDArray[np.float32], window: int) -> Callable[[], object]:
    """The candidates of one pixel whose window's upper half is known."""
    windows = sliding_window_view(sample, (window, window), axis=(0, 1))  # [h, w, C, window, window]
    weights = gaussian_window(window)
    weights = np.where(np.arange(window)[:, None] < window // 2, weights, np.float32(0))
    target = sample[:window, :window].transpose(2, 0, 1)

    def search() -> NDArray[np.intp]:
        errors = (((windows - target) ** 2).mean(2) * weights).sum((2, 3))
        return np.flatnonzero(errors <= errors.min() * 1.1)

    return search


if __name__ == "__main__":
    sys.exit(main())

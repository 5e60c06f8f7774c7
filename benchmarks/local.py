"""How fast ``local`` and its variant for phones paint: ``python -m benchmarks.local``.

Times of 512 x 512 pixels, with the style encoded before, as a batch or a slider has it; of what takes them; and of a
large picture in tiles.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.harness import Case, Report, Target, add_options, busy_share, checked_options, measure, publish
from benchmarks.pictures import photograph
from impasto.config import StylizeConfig
from impasto.engines import ENGINES
from impasto.field import StyleField
from impasto.ops.tiling import to_float
from impasto.stylizer import Stylizer

__all__ = ["Plan", "main", "run"]

TARGET = Target("at most", 1.5)  # s at 512 x 512
TARGET_SIZE = 512


@dataclass(frozen=True)
class Plan:
    """Sizes and counts of a run.

    Attributes:
        size: side of the square picture.
        large: height and width of the large picture, which is painted in tiles.
        style: height and width of the style pictures.
        repeats: rounds.
        pause: seconds of rest before each turn.
    """

    size: int = TARGET_SIZE
    large: tuple[int, int] = (2160, 3840)
    style: tuple[int, int] = (480, 640)
    repeats: int = 7
    pause: float = 0.3

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(size=64, large=(96, 128), style=(64, 80), repeats=2, pause=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    options = checked_options(parser, arguments)
    publish(run(Plan.quick() if options.quick else Plan(repeats=options.repeats)), options.json)
    return 0


def run(plan: Plan) -> Report:
    """Everything, in one report: all engines of the kind that are installed, measured in turns."""
    report = Report("local", {"plan": asdict(plan)}, judged=plan.size == TARGET_SIZE)
    report.settings["torch_threads"] = torch.get_num_threads()
    report.busy = busy_share()
    picture, large = photograph(plan.size, plan.size), photograph(*plan.large)
    styles = [to_float(photograph(*plan.style)), to_float(np.ascontiguousarray(photograph(*plan.style)[::-1, :, ::-1]))]
    engines = [name for name in ("local", "local-mobile", "adain") if name in ENGINES]
    cases, alone = [], []
    for name in engines:
        stylizer = Stylizer.load(name)
        codes = [stylizer.encode(style) for style in styles]
        one, two = StyleField.constant(codes[0]), StyleField.mixed(codes)
        cases += [
            Case(f"{name}: paint", lambda s=stylizer, f=one: s.render(picture, f)),
            Case(f"{name}: two styles mixed", lambda s=stylizer, f=two: s.render(picture, f)),
            Case(f"{name}: a style", lambda s=stylizer: _encode(s, styles)),
        ]
        alone.append(Case(f"{name}: paint, large", lambda s=stylizer, f=one: s.render(large, f)))
    found = measure(cases, repeats=plan.repeats, pause=plan.pause)
    for case in cases:
        judged = case.name.endswith(": paint") and not case.name.startswith("local-mobile")
        note = f"{plan.size}x{plan.size}" if "a style" not in case.name else f"{plan.style[1]}x{plan.style[0]}"
        report.add_timing(case.name, found[case.name], unit="s", target=TARGET if judged else None, note=note)
    if "local-mobile" in engines and "local" in engines:
        ratio = found["local: paint"].median / found["local-mobile: paint"].median
        report.add("local / local-mobile", ratio, "x")
    slow = measure(alone, repeats=min(2, plan.repeats), warmup=0, settle=0, pause=plan.pause)
    for case in alone:
        report.add_timing(case.name, slow[case.name], unit="s", note=f"{plan.large[1]}x{plan.large[0]}, in tiles")
    return report


def _encode(stylizer: Stylizer, styles: Sequence[np.ndarray]) -> None:
    """One style that the engine has not kept: the pictures are made a little different each time."""
    noise = np.random.default_rng().uniform(0, 0.02, styles[0].shape).astype(np.float32)
    stylizer.engine.encode(np.clip(styles[0] + noise, 0, 1), name="style", config=StylizeConfig())


if __name__ == "__main__":
    sys.exit(main())

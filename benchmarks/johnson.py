"""How fast one style's network paints: ``python -m benchmarks.johnson``.

The rival is the paper's own network (Johnson et al. 2016, batch normalisation as published) by the same runtime and, as
most people run it, by eager PyTorch.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnxruntime

from benchmarks.harness import Case, Report, Target, add_options, busy_share, checked_options, measure, publish
from benchmarks.pictures import photograph
from impasto.engines.johnson import Johnson
from impasto.engines.johnson_styles import find_styles
from impasto.field import StyleField
from impasto.ops.tiling import to_float
from impasto.stylizer import Stylizer

__all__ = ["Plan", "main", "run"]

PASS, RENDER, MIX = "johnson: network pass", "johnson: Stylizer.render", "johnson: two styles mixed"
LARGE = "johnson: Stylizer.render, large"
PAPER_ORT, PAPER_TORCH = "Johnson 2016, ONNX Runtime", "Johnson 2016, eager PyTorch"
PASS_TARGET = Target("at most", 30)  # ms at 256 x 256
BYTES_TARGET = Target("at most", 500)  # kB
TARGET_SIZE = 256


@dataclass(frozen=True)
class Plan:
    """Sizes and counts of a run.

    Attributes:
        size: side of the square picture.
        large: height and width of the large picture, which is painted in tiles.
        repeats: rounds.
        pause: seconds of rest before each turn.
    """

    size: int = TARGET_SIZE
    large: tuple[int, int] = (2160, 3840)
    repeats: int = 15
    pause: float = 0.3

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(size=64, large=(96, 128), repeats=2, pause=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.johnson", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    options = checked_options(parser, arguments)
    publish(run(Plan.quick() if options.quick else Plan(repeats=options.repeats)), options.json)
    return 0


def run(plan: Plan) -> Report:
    """Everything, in one report."""
    report = Report("johnson", {"plan": asdict(plan) | {"large": list(plan.large)}}, judged=plan.size == TARGET_SIZE)
    report.busy = busy_share()
    styles = [style for style in find_styles().values() if not style.personal]
    engine = Johnson()
    stylizer = Stylizer(engine)
    codes = [stylizer.encode(style.name) for style in styles[:2]]
    picture, large = photograph(plan.size, plan.size), photograph(*plan.large)
    network, batch = engine._network(codes[0]), to_float(picture)
    cases = [
        Case(PASS, lambda: network.run(batch, None)),
        Case(RENDER, lambda: stylizer.render(picture, StyleField.constant(codes[0]))),
        Case(MIX, lambda: stylizer.render(picture, StyleField.mixed(codes))),
        *_paper(report, batch),
    ]
    found = measure(cases, repeats=plan.repeats, pause=plan.pause)
    size = f"{plan.size}x{plan.size}"
    report.add_timing(PASS, found[PASS], target=PASS_TARGET, note=f"{size}, with padding and clipping")
    report.add_timing(RENDER, found[RENDER], note=f"{size}, 8 bit to 8 bit")
    report.add_timing(MIX, found[MIX], note=size)
    for name in (PAPER_ORT, PAPER_TORCH):
        if name in found:
            report.add_timing(name, found[name], note=size)
            report.add(f"{name} / ours", found[name].median / found[PASS].median, "x")
    alone = measure(
        [Case(LARGE, lambda: stylizer.render(large, StyleField.constant(codes[0])))],
        repeats=min(3, plan.repeats),
        warmup=0,
        settle=0,
        pause=plan.pause,
    )
    report.add_timing(LARGE, alone[LARGE], unit="s", note=f"{plan.large[1]}x{plan.large[0]}, in tiles")
    largest = max(style.network.stat().st_size for style in styles)
    report.add("largest shipped network", largest / 1000, "kB", target=BYTES_TARGET, note=f"of {len(styles)}")
    return report


def _paper(report: Report, picture: np.ndarray) -> list[Case]:
    """The paper's network, by both runtimes, as far as they are there."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnx") is None:
        report.notes.append("torch or onnx is not installed: the paper's network was not measured")
        return []
    import torch

    from benchmarks.rivals import fastest_johnson, onnx_graph

    batch = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
    report.settings["torch_threads"] = torch.get_num_threads()
    rival = fastest_johnson(torch.from_numpy(batch))
    graph = onnx_graph(rival.net, torch.from_numpy(batch))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return [Case(PAPER_ORT, lambda: session.run(None, {name: batch})), Case(PAPER_TORCH, rival.call)]


if __name__ == "__main__":
    sys.exit(main())

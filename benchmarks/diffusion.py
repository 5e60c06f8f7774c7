"""How long ``diffusion`` paints, with how much memory, and what its steps do: ``python -m benchmarks.diffusion``.

The last rows compare samplers: how far a picture of so many steps lies from one of 50 DDIM steps with the same noise,
by pixels and by the embedded encoder, beside how far two seeds lie from each other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.harness import Case, Report, Target, add_options, busy_share, checked_options, measure, publish
from benchmarks.memory import peak_bytes
from benchmarks.pictures import photograph
from impasto.config import StylizeConfig
from impasto.field import StyleField
from impasto.losses.perceptual import perceptual_loss
from impasto.nets.encoders import load_encoder
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import to_float
from impasto.stylizer import Stylizer
from impasto.types import FloatArray

__all__ = ["Plan", "main", "run"]

TARGET_SIZE = 512
TARGET = Target("at most", 20.0)  # s, 12 steps
MEMORY_TARGET = Target("below", 3000.0)  # MB
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


@dataclass(frozen=True)
class Plan:
    """Sizes and counts of a run.

    Attributes:
        size: side of the square picture.
        steps: of the timed rendering.
        compared: evaluations of the picture that samplers are compared with.
        repeats: rounds.
        pause: seconds of rest before each turn.
    """

    size: int = TARGET_SIZE
    steps: int = 12
    compared: int = 50
    repeats: int = 3
    pause: float = 0.3

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(size=64, steps=2, compared=4, repeats=1, pause=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diffusion", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    parser.add_argument("--peak-of", type=int, metavar="SIDE", help=argparse.SUPPRESS)  # the process that is measured
    options = checked_options(parser, arguments)
    if options.peak_of is not None:
        _painted(Stylizer.load("diffusion"), options.peak_of)
        return 0
    plan = Plan.quick() if options.quick else Plan(repeats=options.repeats)
    publish(run(plan, memory=not options.quick), options.json)
    return 0


def run(plan: Plan, *, memory: bool) -> Report:
    """Everything, in one report."""
    report = Report("diffusion", {"plan": asdict(plan)}, judged=plan.size == TARGET_SIZE)
    report.settings["torch_threads"] = torch.get_num_threads()
    report.busy = busy_share()
    stylizer = Stylizer.load("diffusion")
    _times(report, plan, stylizer)
    if memory:
        peak, _ = peak_bytes([sys.executable, "-m", "benchmarks.diffusion", "--peak-of", str(plan.size)])
        report.add(f"peak memory, {plan.size}x{plan.size}", peak / 1e6, "MB", target=MEMORY_TARGET)
    _samplers(report, plan, stylizer)
    return report


def _painted(stylizer: Stylizer, size: int, seed: int = 0, **options: float | str) -> FloatArray:
    """A made-up photograph in the style of another, ``[size, size, 3]``."""
    code = stylizer.encode(to_float(photograph(480, 640, seed=7)), name="style")
    config = StylizeConfig(seed=seed, options=options)
    return stylizer.render(photograph(size, size), StyleField.constant(code), config).pixels


def _times(report: Report, plan: Plan, stylizer: Stylizer) -> None:
    half = plan.size // 2 if plan.size >= 2 * 64 else plan.size
    cases = {
        "paint": Case("paint", lambda: _painted(stylizer, plan.size, steps=plan.steps)),
        "guidance 1": Case("guidance 1", lambda: _painted(stylizer, plan.size, steps=plan.steps, guidance=1.0)),
        "one step": Case("one step", lambda: _painted(stylizer, plan.size, steps=1)),
        "small": Case("small", lambda: _painted(stylizer, half, steps=plan.steps)),
        "small, one step": Case("small, one step", lambda: _painted(stylizer, half, steps=1)),
    }
    found = measure(list(cases.values()), repeats=plan.repeats, warmup=1, settle=0, pause=plan.pause)
    note = f"{plan.size}x{plan.size}, {plan.steps} steps, style encoded each time"
    report.add_timing("paint", found["paint"], unit="s", target=TARGET, note=note)
    report.add_timing("guidance 1", found["guidance 1"], unit="s", note="half of the evaluations")
    large, small = (
        (found[whole].median - found[one].median) / max(1, plan.steps - 1)
        for whole, one in (("paint", "one step"), ("small", "small, one step"))
    )
    report.add(f"a step, {plan.size}x{plan.size}", large, "s")
    report.add(f"a step, {half}x{half}", small, "s")
    if half < plan.size:
        report.add("a step, four times the area", large / small, "x", note="4 is linear")


def _samplers(report: Report, plan: Plan, stylizer: Stylizer) -> None:
    encoder = load_encoder()
    wanted = _painted(stylizer, plan.size, sampler="ddim", steps=plan.compared)
    seen = _features(encoder, wanted)
    others: list[tuple[str, int, dict[str, float | str]]] = [
        ("12 dpm-solver++ steps", 0, {"sampler": "dpm-solver++", "steps": 12}),
        ("12 ddim steps", 0, {"sampler": "ddim", "steps": 12}),
        ("6 dpm-solver++ steps", 0, {"sampler": "dpm-solver++", "steps": 6}),
        ("another seed", 1, {"sampler": "ddim", "steps": plan.compared}),
    ]
    for name, seed, options in others:
        picture = _painted(stylizer, plan.size, seed, **options)
        distance = float(perceptual_loss(_features(encoder, picture), seen))
        gap = float(np.abs(picture - wanted).mean() * 255)
        about = f"perceptual distance {distance:.4f}"
        report.add(f"{name} from {plan.compared} ddim", gap, "levels", note=about)


def _features(encoder: Teacher, picture: FloatArray) -> dict[str, torch.Tensor]:
    batch = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
    with torch.inference_mode():
        return encoder(batch, LAYERS)


if __name__ == "__main__":
    sys.exit(main())

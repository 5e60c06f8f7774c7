"""How fast ``gatys`` optimises, against a plain rebuild of the method: ``python -m benchmarks.gatys``.

The rival is the method as it is written down in tutorials, on the same backbone: VGG-19 to ``relu5_1`` (random weights
take the same time), Gram matrices and content in full precision, Adam on the pixels, every iteration at full size. It
does not compute gradients for its weights, which is a courtesy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import (
    Case,
    Report,
    Target,
    Timing,
    add_options,
    busy_share,
    checked_options,
    measure,
    publish,
)
from benchmarks.memory import peak_bytes
from benchmarks.pictures import photograph
from impasto.config import StylizeConfig
from impasto.engines.base import RenderProgress
from impasto.engines.gatys import Gatys
from impasto.field import StyleField
from impasto.nets.teachers import TEACHERS, Teacher
from impasto.ops.tiling import to_float

__all__ = ["PlainGatys", "Plan", "main"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYERS = ("relu4_2",)
RUN_TARGET = Target("at most", 90)  # seconds, 512 x 512, 200 iterations, the embedded encoder, two cores
RATIO_TARGET = Target("at least", 1.5)
MEMORY_TARGET = Target("at most", 6000)  # MB, 2048 x 2048
TARGET_SIZE = 512


@dataclass(frozen=True)
class Plan:
    """Sizes of a run.

    Attributes:
        size: side of the square picture.
        iterations: of the whole run.
        large: side of the picture whose memory is measured.
        repeats: iterations that are timed of each side of the comparison.
    """

    size: int = TARGET_SIZE
    iterations: int = 200
    large: int = 2048
    repeats: int = 5

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(size=64, iterations=5, large=96, repeats=1)


class PlainGatys:
    """The rival: one iteration of Gatys et al. 2016 as it is usually rebuilt.

    Args:
        network: frozen VGG-19 in the contiguous memory format.
        content: ``[1, 3, H, W]``.
        style: ``[1, 3, h, w]``.
    """

    def __init__(self, network: Teacher, content: Tensor, style: Tensor) -> None:
        self._network = network
        with torch.no_grad():
            self._grams = {layer: self._gram(found) for layer, found in network(style, STYLE_LAYERS).items()}
            self._content = network(content, CONTENT_LAYERS)
        self._picture = content.clone().requires_grad_()
        self._optimizer = torch.optim.Adam([self._picture], lr=0.02)

    @staticmethod
    def _gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return torch.bmm(flat, flat.transpose(1, 2)) / flat.shape[2]

    def step(self) -> None:
        """Forward, backward, update."""
        self._optimizer.zero_grad()
        found = self._network(self._picture, (*STYLE_LAYERS, *CONTENT_LAYERS))
        style = sum(functional.mse_loss(self._gram(found[layer]), self._grams[layer]) for layer in STYLE_LAYERS)
        content = sum(functional.mse_loss(found[layer], self._content[layer]) for layer in CONTENT_LAYERS)
        (1e3 * style + content).backward()  # type: ignore[union-attr]
        self._optimizer.step()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gatys", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    parser.add_argument("--skip-memory", action="store_true", help="leave out the large picture (minutes)")
    parser.add_argument("--peak-of", type=int, metavar="SIDE", help=argparse.SUPPRESS)  # the process that is measured
    options = checked_options(parser, arguments)
    if options.peak_of is not None:
        _paint_large(options.peak_of)
        return 0
    plan = Plan.quick() if options.quick else Plan(repeats=options.repeats)
    publish(run(plan, memory=not options.skip_memory, judged=not options.quick), options.json)
    return 0


def run(plan: Plan, *, memory: bool, judged: bool) -> Report:
    """Everything, in one report."""
    report = Report("gatys", {"plan": vars(plan)}, judged)
    report.busy = busy_share()
    _whole_run(report, plan)
    _iterations(report, plan)
    if memory:
        _memory(report, plan)
    after = busy_share()
    if report.busy is not None and after is not None:
        report.busy = max(report.busy, after)
    return report


# -- a whole run on the embedded encoder -----------------------------------------------------------------------------


def _whole_run(report: Report, plan: Plan) -> None:
    engine, content, field = Gatys(), *_pictures(plan.size)
    config = StylizeConfig(options={"iterations": plan.iterations})
    expected = engine.estimate((plan.size, plan.size), field(engine), config)
    begun = time.perf_counter()
    engine.render(content, field(engine), config)
    timing = Timing((time.perf_counter() - begun,))
    name = f"gatys, lens, {plan.size}x{plan.size}, {plan.iterations} iterations"
    note = f"{expected.seconds:.0f} s and {expected.memory / 1e6:.0f} MB were announced"
    report.add_timing(name, timing, unit="s", target=RUN_TARGET, note=note)


def _pictures(side: int) -> tuple[np.ndarray, Callable[[Gatys], StyleField]]:
    """A photograph and a style of the same size."""
    style = to_float(photograph(side, side, seed=1))[:, ::-1]

    def field(engine: Gatys) -> StyleField:
        return StyleField.constant(engine.encode(style, name="style", config=StylizeConfig()))

    return photograph(side, side), field


# -- one iteration against the rival ---------------------------------------------------------------------------------


def _iterations(report: Report, plan: Plan) -> None:
    """The same backbone and size: an iteration at full size, and the mean iteration of a whole run."""
    torch.manual_seed(0)
    network = TEACHERS["vgg19"]().freeze()
    content, field = _pictures(plan.size)
    as_tensor = torch.from_numpy(to_float(content).transpose(2, 0, 1)[None].copy())
    rival = PlainGatys(network, as_tensor, as_tensor.flip(3))
    timing = measure([Case("plain", rival.step)], repeats=plan.repeats, warmup=1, settle=0, pause=0.0)["plain"]
    report.add_timing(f"plain rebuild, VGG-19, {plan.size}x{plan.size}, one iteration", timing, unit="s")
    torch.manual_seed(0)
    engine = Gatys(TEACHERS["vgg19"]().freeze(), "0" * 16)
    for name, smallest in (("at full size", plan.size), ("mean of a run", 128)):
        options = {
            "loss": "gram", "style_layers": ",".join(STYLE_LAYERS), "content_layers": ",".join(CONTENT_LAYERS),
            "smallest": max(32, smallest), "iterations": plan.iterations if smallest < plan.size else 5 * plan.repeats,
        }  # fmt: skip
        mine = _iteration_times(engine, content, field(engine), StylizeConfig(options=options))
        label = f"gatys, VGG-19, {plan.size}x{plan.size}, iteration {name}"
        report.add(label, mine, "s")
        report.add(f"plain / gatys, iteration {name}", timing.median / mine, "x", target=RATIO_TARGET)


def _iteration_times(engine: Gatys, content: np.ndarray, field: StyleField, config: StylizeConfig) -> float:
    """Mean seconds from the first report of an iteration to the last, everything between included."""
    told: list[tuple[int, float]] = []

    def listen(progress: RenderProgress) -> None:
        if progress.preview is not None:
            told.append((progress.step, time.perf_counter()))

    engine.render(content, field, config, listen)
    return (told[-1][1] - told[0][1]) / max(1, told[-1][0] - told[0][0])


# -- memory ----------------------------------------------------------------------------------------------------------


def _memory(report: Report, plan: Plan) -> None:
    command = [sys.executable, "-m", "benchmarks.gatys", "--peak-of", str(plan.large)]
    peak, seconds = peak_bytes(command)
    note = f"{seconds:.0f} s for two iterations at full size; the whole process"
    report.add(f"peak memory, {plan.large}x{plan.large}", peak / 1e6, "MB", target=MEMORY_TARGET, note=note)


def _paint_large(side: int) -> None:
    """A few iterations at full size, which is where the memory goes."""
    engine, content, field = Gatys(), *_pictures(side)
    config = StylizeConfig(options={"iterations": 2, "smallest": side})
    engine.render(content, field(engine), config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

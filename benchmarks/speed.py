"""How fast impasto paints, against rivals and against the machine: ``python -m benchmarks.speed``.

Ratios are the message: milliseconds belong to a machine, ratios to the code. What is compared runs in turn in this
process (:func:`benchmarks.harness.measure`); the command line is timed in processes of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.flops import brush_flops, embedded_shapes
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
from benchmarks.pictures import photograph, write_photograph
from impasto.engines.brush import MARGIN, MULTIPLE, Brush
from impasto.field import StyleCode, StyleField
from impasto.ops.tiling import pad_to_multiple, to_float
from impasto.stylizer import Stylizer
from impasto.weights import weights_folder

if TYPE_CHECKING:
    from benchmarks.rivals import Rival

__all__ = ["Plan", "main"]

PASS = "brush: network pass, ONNX Runtime"
RENDER = "brush: Stylizer.render"
OPENVINO = "brush: network pass, OpenVINO"
ENCODE = "brush: Stylizer.encode"
MATMUL_ORT = "matrix product, ONNX Runtime"
MATMUL_TORCH = "matrix product, PyTorch"
MICROAST = "MicroAST, eager PyTorch"
JOHNSON = "Johnson 2016, eager PyTorch"
LARGE = "brush: Stylizer.render, large"
STYLIZE = "impasto stylize, cold"
HELP = "impasto --help, cold"

PASS_TARGET = Target("at most", 80)  # ms at 512 x 512
RATE_TARGET = Target("at least", 60)  # % of the rate of a matrix product
MICROAST_TARGET = Target("at least", 3)
JOHNSON_TARGET = Target("at least", 8)
LARGE_TARGET = Target("at most", 3)  # s at 3840 x 2160
STYLIZE_TARGET = Target("at most", 1200)  # ms
HELP_TARGET = Target("below", 400)  # ms
TARGET_SIZE = 512
TARGET_LARGE = (2160, 3840)


@dataclass(frozen=True)
class Plan:
    """Sizes and counts of a run.

    Attributes:
        size: side of the square picture.
        large: height and width of the large picture.
        product: side of the matrices.
        repeats: rounds of what is compared.
        repeats_large: rounds of the large picture.
        repeats_cold: processes of each command.
        pause: seconds of rest before each turn.
    """

    size: int = TARGET_SIZE
    large: tuple[int, int] = TARGET_LARGE
    product: int = 2048
    repeats: int = 15
    repeats_large: int = 3
    repeats_cold: int = 5
    pause: float = 0.3

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(size=64, large=(96, 128), product=256, repeats=2, repeats_large=1, repeats_cold=1, pause=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    parser.add_argument("--size", type=int, help=f"side of the square picture (default {Plan.size}; targets need it)")
    options = checked_options(parser, arguments)
    if options.size is not None and (options.size < 16 or options.size % 4):
        parser.error(f"--size must be a multiple of 4 and at least 16, not {options.size}")
    publish(run(_plan(options)), options.json)
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    base = Plan.quick() if options.quick else Plan()
    return Plan(
        size=options.size or base.size,
        large=base.large,
        product=base.product,
        repeats=base.repeats if options.quick else options.repeats,
        repeats_large=min(base.repeats_large, options.repeats),
        repeats_cold=min(base.repeats_cold, options.repeats),
        pause=base.pause,
    )


def run(plan: Plan) -> Report:
    """Everything, in one report."""
    judged = plan.size == TARGET_SIZE and plan.large == TARGET_LARGE
    report = Report("speed", {"plan": vars(plan) | {"large": list(plan.large)}}, judged)
    report.busy = busy_share()
    stylizer = Stylizer.load("brush")
    code = next(iter(stylizer.engine.presets().values()))
    _compare(report, plan, stylizer, code)
    _large(report, plan, stylizer, code)
    _cold(report, plan, code.name)
    after = busy_share()
    if report.busy is not None and after is not None:
        report.busy = max(report.busy, after)
    return report


# -- what is compared ------------------------------------------------------------------------------------------------


def _compare(report: Report, plan: Plan, stylizer: Stylizer, code: StyleCode) -> None:
    """The network, its rivals and the matrix product, in turn."""
    picture = photograph(plan.size, plan.size)
    engine = stylizer.engine
    if not isinstance(engine, Brush):
        raise TypeError(f"the engine 'brush' is a {type(engine).__name__}")
    field = StyleField.constant(code)
    feed = network_feed(engine, picture, code)
    session = engine._net()  # the very session that paints, with its options
    cases = [
        Case(PASS, lambda: session.run(None, feed)),
        Case(RENDER, lambda: stylizer.render(picture, field)),
        Case(ENCODE, lambda: stylizer.encode(picture)),
        *_openvino_case(report, engine, feed),
        *_product_cases(report, plan.product),
    ]
    rivals = _rivals(report, picture)
    for name, rival in rivals.items():
        cases += [Case(name, rival.call), *_onnx_case(report, name, rival, picture)]
    timings = measure(cases, repeats=plan.repeats, pause=plan.pause)
    _report_comparison(report, plan, engine, feed, timings, rivals)


def network_feed(engine: Brush, picture: NDArray[np.uint8], code: StyleCode) -> dict[str, NDArray[np.float32]]:
    """Inputs of the network for one style everywhere, as :meth:`impasto.engines.brush.Brush.render` makes them."""
    padded, _ = pad_to_multiple(to_float(picture), MARGIN, MULTIPLE)
    own = engine.encode(to_float(picture), name="content", config=_defaults())
    weights = np.array([1, 0], np.float32)[None, :, None, None]
    statistics = engine._net().get_inputs()[4].shape[2]
    return {
        "picture": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]),
        "codes": np.stack([code.vector, own.vector])[None],
        "weights_quarter": weights,
        "weights_eighth": weights,
        "statistics": np.zeros((1, 2, statistics), np.float32),
        "given": np.array(0, np.float32),
    }


def _defaults() -> Any:
    from impasto.config import StylizeConfig

    return StylizeConfig()


def _openvino_case(report: Report, engine: Brush, feed: dict[str, NDArray[np.float32]]) -> list[Case]:
    if importlib.util.find_spec("openvino") is None:
        report.notes.append("openvino is not installed: brush was not run by it")
        return []
    import openvino

    core = openvino.Core()
    model = core.read_model(str(weights_folder() / engine.card.files["net"].name))
    model.reshape({name: list(value.shape) for name, value in feed.items()})
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    painted = request.infer(feed)[0]
    wanted = engine._net().run(None, feed)[0]
    difference = float(np.abs(painted - wanted).max())
    if difference > 1e-3:
        report.notes.append(f"OpenVINO's picture differs from ONNX Runtime's by {difference:.4f}")
    return [Case(OPENVINO, lambda: request.infer(feed))]


def _product_cases(report: Report, side: int) -> list[Case]:
    """A square float32 matrix product by every runtime that is there: what the machine can do."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    cases = []
    if importlib.util.find_spec("onnx") is None:
        report.notes.append("onnx is not installed: the matrix product was not run by ONNX Runtime")
    else:
        session = onnxruntime.InferenceSession(_product_graph(right), providers=["CPUExecutionProvider"])
        cases.append(Case(MATMUL_ORT, lambda: session.run(None, {"left": left})))
    if importlib.util.find_spec("torch") is not None:
        import torch

        first, second = torch.from_numpy(left), torch.from_numpy(right)
        cases.append(Case(MATMUL_TORCH, lambda: first @ second))
    return cases


def _product_graph(right: NDArray[np.float32]) -> bytes:
    """``left @ right`` with a constant right side, which the runtime may pack beforehand as it does with filters."""
    from onnx import TensorProto, helper, numpy_helper

    side = right.shape[0]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("left", "product")]
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8  # what every supported ONNX Runtime reads
    content: bytes = model.SerializeToString()
    return content


def _rivals(report: Report, picture: NDArray[np.uint8]) -> dict[str, Rival]:
    if importlib.util.find_spec("torch") is None:
        report.notes.append("torch is not installed: there were no rivals")
        return {}
    import torch

    from benchmarks.rivals import fastest_johnson, fastest_microast

    report.settings["torch_threads"] = torch.get_num_threads()
    batch = torch.from_numpy(_batch(picture))
    return {MICROAST: fastest_microast(batch), JOHNSON: fastest_johnson(batch)}


def _onnx_case(report: Report, name: str, rival: Rival, picture: NDArray[np.uint8]) -> list[Case]:
    """The same rival by ONNX Runtime: what is left of a ratio when both have the same runtime."""
    if importlib.util.find_spec("onnx") is None:
        report.notes.append(f"onnx is not installed: {name.partition(',')[0]} was not run by ONNX Runtime")
        return []
    import torch

    from benchmarks.rivals import onnx_graph

    batch = _batch(picture)
    graph = onnx_graph(rival.net, torch.from_numpy(batch))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return [Case(_by_onnx(name), lambda: session.run(None, {"picture": batch}))]


def _by_onnx(name: str) -> str:
    return f"{name.partition(',')[0]}, ONNX Runtime"


def _batch(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(to_float(picture).transpose(2, 0, 1)[None])


def _report_comparison(
    report: Report,
    plan: Plan,
    engine: Brush,
    feed: dict[str, NDArray[np.float32]],
    timings: dict[str, Timing],
    rivals: dict[str, Rival],
) -> None:
    size = f"{plan.size}x{plan.size}"
    height, width = feed["picture"].shape[2:]
    flops = brush_flops(embedded_shapes(engine.card), height, width, codes=feed["codes"].shape[1])
    report.add_timing(PASS, timings[PASS], target=PASS_TARGET, note=f"{size}, padded to {height}x{width}")
    report.add_timing(RENDER, timings[RENDER], target=PASS_TARGET, note=f"{size}, with the content's code and padding")
    report.add_timing(ENCODE, timings[ENCODE], note=f"a style picture of {size}")
    if OPENVINO in timings:
        report.add_timing(OPENVINO, timings[OPENVINO], note=size)
    _report_rate(report, plan, flops, timings)
    for name, rival in rivals.items():
        note = f"{rival.form}, {rival.parameters / 1e6:.2f} M parameters"
        report.add_timing(name, timings[name], note=note)
        if _by_onnx(name) in timings:
            report.add_timing(_by_onnx(name), timings[_by_onnx(name)])
    targets = {MICROAST: MICROAST_TARGET, JOHNSON: JOHNSON_TARGET}
    for name in rivals:
        who = name.partition(",")[0]
        _report_ratio(report, f"{who} / brush", timings[name], timings[PASS], targets[name], "network pass to pass")
        _report_ratio(
            report, f"{who} / Stylizer.render", timings[name], timings[RENDER], None, "against the whole render"
        )
        if _by_onnx(name) in timings:
            same = timings[_by_onnx(name)]
            _report_ratio(
                report, f"{who} by ONNX Runtime / brush", same, timings[PASS], None, "the same runtime for both"
            )


def _report_rate(report: Report, plan: Plan, flops: int, timings: dict[str, Timing]) -> None:
    achieved = flops / timings[PASS].median / 1e9
    report.add("brush: operations of a pass", flops / 1e9, "GFLOP", note="convolutions and gains")
    report.add("brush: rate", achieved, "GFLOP/s", note="ONNX Runtime")
    rates = {}
    for name in (MATMUL_ORT, MATMUL_TORCH):
        if name in timings:
            report.timings[name] = timings[name]
            rates[name] = 2 * plan.product**3 / timings[name].median / 1e9
            report.add(name, rates[name], "GFLOP/s", note=f"float32, {plan.product}^3")
    best = max(rates.values(), default=None)
    share = None if best is None else 100 * achieved / best
    report.add("brush: share of the product's rate", share, "%", target=RATE_TARGET, note="of the higher one")


def _report_ratio(report: Report, name: str, rival: Timing, ours: Timing, target: Target | None, note: str) -> None:
    """A ratio of medians, with the spread of the ratios of the single rounds."""
    rounds = Timing(tuple(a / b for a, b in zip(rival.seconds, ours.seconds, strict=True)))
    report.add(name, rival.median / ours.median, "x", spread=rounds.spread, target=target, note=note)


# -- large pictures and cold starts ----------------------------------------------------------------------------------


def _large(report: Report, plan: Plan, stylizer: Stylizer, code: StyleCode) -> None:
    height, width = plan.large
    picture = photograph(height, width)
    field = StyleField.constant(code)
    case = Case(LARGE, lambda: stylizer.render(picture, field))
    timing = measure([case], repeats=plan.repeats_large, warmup=1, settle=0, pause=plan.pause)[LARGE]
    report.add_timing(LARGE, timing, unit="s", target=LARGE_TARGET, note=f"{width}x{height} (width x height), whole")


def _cold(report: Report, plan: Plan, style: str) -> None:
    """The command line in fresh processes, the files warm in the system's cache."""
    with tempfile.TemporaryDirectory() as folder:
        photo, painting = Path(folder, "photo.jpg"), Path(folder, "painting.jpg")
        write_photograph(photo, plan.size, plan.size)
        cases = [
            Case(STYLIZE, _command(["stylize", str(photo), "--style", style, "--output", str(painting)])),
            Case(HELP, _command(["--help"])),
        ]
        timings = measure(cases, repeats=plan.repeats_cold, warmup=1, settle=0, pause=plan.pause)
    report.add_timing(STYLIZE, timings[STYLIZE], target=STYLIZE_TARGET, note=f"JPEG {plan.size}x{plan.size} to JPEG")
    report.add_timing(HELP, timings[HELP], target=HELP_TARGET)


def _command(arguments: Sequence[str]) -> Callable[[], object]:
    """``impasto ARGUMENTS`` in a process of its own.

    The returned call raises:
        RuntimeError: the command failed.
    """

    def call() -> None:
        done = subprocess.run(
            [sys.executable, "-m", "impasto", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"impasto {' '.join(arguments)} failed: {done.stderr.strip()}")

    return call


if __name__ == "__main__":
    sys.exit(main())

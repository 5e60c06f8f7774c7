"""The files of one style of ``johnson``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from impasto.engines.johnson_styles import INPUTS, MARK
from impasto.errors import OutputError, WeightsError
from impasto.export.cards import ExportedFile, count, described
from impasto.export.graphs import SHAPES, TOLERANCE, onnx_graph, round_to_half
from impasto.nets.johnson import JohnsonNet
from impasto.training.files import load_johnson
from impasto.training.recipe import toml_literal

__all__ = [
    "export_johnson",
    "johnson_card",
]

FACTS = {
    "engine": "johnson",
    "code_license": "Apache-2.0",
    "input": "RGB, sRGB-encoded, [0, 1], height and width multiples of 4 and at least 16 (the engine pads and crops)",
    "size_rules": "any size from 1 x 1; above the tile size in tiles with a halo of 56 px and shared statistics",
    "limits": "One style. Strokes have the size at which the style was trained (--style-scale changes it); colours, "
    "strokes and texture come across, composition does not. Pictures of medical or evidential value must not be "
    "painted with it.",
}


def export_johnson(weights: Path, folder: Path) -> list[ExportedFile]:
    """One style's network as ``NAME.onnx`` with its card ``NAME.toml``; parity with PyTorch is checked.

    Args:
        weights: ``NAME.safetensors`` of ``impasto train johnson``.
        folder: where to; it is made when missing.

    Raises:
        WeightsError: the file cannot be read or does not say what it is, or the graph differs from the torch network by
            more than 1e-3.
        OutputError: the folder cannot be written.
    """
    net, metadata = load_johnson(weights)
    round_to_half(net.eval())
    graph = _johnson_graph(net)
    difference = _johnson_parity(net, graph)
    if difference > TOLERANCE:
        raise WeightsError(f"the ONNX graph differs from the torch network by {difference:.1e}")
    try:
        facts: dict[str, Any] = json.loads(metadata["style"])
        name = str(facts["name"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.onnx").write_bytes(graph)
        written = described(folder / f"{name}.onnx", "net")
        card = johnson_card(facts, metadata, written, parameters=count(net), difference=difference)
        (folder / f"{name}.toml").write_text(card, encoding="utf-8")
    except (KeyError, ValueError) as error:
        raise WeightsError(f"'{weights}' does not say which style it is: {error!r}") from error
    except OSError as error:
        raise OutputError(f"cannot write to the folder '{folder}': {error.strerror or error}") from error
    return [written]


def _johnson_graph(net: JohnsonNet) -> bytes:
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(1, 3, 64, 96, generator=generator), torch.zeros(1, 2, net.channels), torch.tensor(0.0))
    dynamic = {name: {2: "height", 3: "width"} for name in ("picture", "painted")}
    content = onnx_graph(net, inputs, INPUTS, ("painted", "measured"), dynamic, slim=True)
    graph = onnx.load_from_string(content)
    helper.set_model_props(graph, {"impasto": MARK})
    marked: bytes = graph.SerializeToString()
    return marked


def _johnson_parity(net: JohnsonNet, graph: bytes) -> float:
    """Largest difference to PyTorch on ``[0, 1]``, over three shapes, with statistics measured and given."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for height, width in SHAPES:
        picture = torch.rand(1, 3, height, width, generator=generator)
        statistics = torch.zeros(1, 2, net.channels)
        for given in (0.0, 1.0):  # first measured on this picture, then used for the next
            inputs = (picture, statistics, torch.tensor(given))
            with torch.no_grad():
                wanted, statistics = net(*inputs)
            feed = dict(zip(INPUTS, (tensor.numpy() for tensor in inputs), strict=True))
            found = session.run(["painted"], feed)[0]
            largest = max(largest, float(np.abs(np.clip(found, 0, 1) - wanted.clamp(0, 1).numpy()).max()))
            picture = picture.flip(3) * 0.8
    return largest


def johnson_card(
    facts: dict[str, Any], metadata: dict[str, str], file: ExportedFile, *, parameters: int, difference: float
) -> str:
    """The card of one style: what its training noted, and what follows from the file."""
    curve = facts.pop("curve", {})
    lines = [f"{key} = {toml_literal(value)}" for key, value in {**FACTS, **facts}.items()]
    lines += [f'tolerance = "ONNX Runtime equals PyTorch within 1e-3 (max, on [0, 1]); measured {difference:.0e}"']
    quotes = "'" * 3
    lines += [f"steps = {metadata['step']}", f"recipe = {quotes}", metadata["recipe"].rstrip(), quotes]
    lines += ["", "[parameters]", f"net = {parameters}"]
    if curve:
        lines += ["", "[curve]", *(f"{key} = {toml_literal(values)}" for key, values in curve.items())]
    lines += ["", "[[files]]", f'name = "{file.name}"', f'kind = "{file.kind}"']
    lines += [f"bytes = {file.bytes}", f'sha256 = "{file.sha256}"']
    return "\n".join(lines) + "\n"

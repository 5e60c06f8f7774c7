"""Deployment files from trained weights: ONNX graphs, parity measured, card and presets kept true.

The graphs keep their parameters in half precision and widen them when a session starts: half the bytes on disk, the
same arithmetic. The safetensors file is rounded to the same half precision, so that both are one set of weights.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from impasto.errors import MissingExtraError, WeightsError

try:
    import onnx
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper

    from impasto.nets.brush import BrushModel, BrushNet, StyleEncoder
except ImportError as error:  # pragma: no cover - depends on the installation
    raise MissingExtraError("export", "export") from error

__all__ = ["ExportedFile", "Parity", "export_brush", "measure_parity", "round_to_half"]

SHAPES = ((64, 64), (136, 200), (248, 104))
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """Largest absolute difference between PyTorch and ONNX Runtime for one shape, on ``[0, 1]``."""

    height: int
    width: int
    painting: float
    code: float


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, for the card."""

    name: str
    kind: str
    bytes: int
    sha256: str


def round_to_half(model: torch.nn.Module) -> None:
    """Round every parameter to the nearest float16 value, in place (the type stays float32)."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def export_brush(model: BrushModel, folder: Path, *, name: str = "brush") -> list[ExportedFile]:
    """Write ``NAME.onnx`` and ``NAME-encoder.onnx`` and check them against the torch network.

    Raises:
        WeightsError: a graph differs from the torch network by more than 1e-3.
    """
    model = model.eval()
    round_to_half(model)
    graphs = {"net": _net_graph(model.net), "encoder": _encoder_graph(model.encoder)}
    for parity in measure_parity(model, graphs["net"], graphs["encoder"]):
        if max(parity.painting, parity.code) > TOLERANCE:
            raise WeightsError(f"the ONNX graph differs from the torch network: {parity}")
    written = []
    for kind, content in graphs.items():
        path = folder / (f"{name}.onnx" if kind == "net" else f"{name}-{kind}.onnx")
        path.write_bytes(content)
        written.append(ExportedFile(path.name, kind, len(content), hashlib.sha256(content).hexdigest()))
    return written


def measure_parity(model: BrushModel, net: bytes, encoder: bytes) -> list[Parity]:
    """Differences on three shapes, with two codes: constant weights, then maps, then given statistics."""
    painter, coder = (onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]) for graph in (net, encoder))
    generator = torch.Generator().manual_seed(0)
    found = []
    for index, (height, width) in enumerate(SHAPES):
        picture = torch.rand(1, 3, height, width, generator=generator)
        style = torch.rand(1, 3, height + 3, width - 5, generator=generator)  # odd sizes for the encoder
        with torch.no_grad():
            codes = torch.stack([model.encoder(style), model.encoder(picture)], dim=1)
            inputs = _net_inputs(model.net, picture, codes, constant=index == 0, given=index == 2, generator=generator)
            wanted, _ = model.net(*inputs)
        painted = painter.run(None, dict(zip(NET_INPUTS, (tensor.numpy() for tensor in inputs), strict=True)))[0]
        code = coder.run(None, {"picture": style.numpy()})[0]
        found.append(
            Parity(
                height,
                width,
                float(np.abs(np.clip(painted, 0, 1) - wanted.clamp(0, 1).numpy()).max()),
                float(np.abs(code - codes[:, 0].numpy()).max()),
            )
        )
    return found


NET_INPUTS = ("picture", "codes", "weights_quarter", "weights_eighth", "statistics", "given")


def _net_inputs(
    net: BrushNet, picture: torch.Tensor, codes: torch.Tensor, *, constant: bool, given: bool, generator: torch.Generator
) -> tuple[torch.Tensor, ...]:
    _, count, _ = codes.shape
    height, width = picture.shape[2:]
    if constant:
        weights = torch.full((1, count, 1, 1), 1 / count)
        maps = [weights, weights]
    else:
        raw = [torch.rand(1, count, height // s, width // s, generator=generator) for s in (4, 8)]
        maps = [part / part.sum(1, keepdim=True) for part in raw]
    statistics = torch.zeros(1, 2, net.channels)
    if given:
        _, statistics = net(picture, codes, *maps)
    return picture, codes, maps[0], maps[1], statistics, torch.tensor(float(given))


def _net_graph(net: BrushNet) -> bytes:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 64, 96, generator=generator)
    codes = torch.randn(1, 2, net.config.code, generator=generator)
    inputs = _net_inputs(net, picture, codes, constant=False, given=True, generator=generator)
    return _export(
        net,
        inputs,
        NET_INPUTS,
        ("painted", "measured"),
        {
            "picture": {2: "height", 3: "width"},
            "codes": {1: "styles"},
            "weights_quarter": {1: "styles", 2: "quarter_height", 3: "quarter_width"},
            "weights_eighth": {1: "styles", 2: "eighth_height", 3: "eighth_width"},
            "painted": {2: "height", 3: "width"},
        },
    )


def _encoder_graph(encoder: StyleEncoder) -> bytes:
    picture = torch.rand(1, 3, 70, 93, generator=torch.Generator().manual_seed(0))
    return _export(encoder, (picture,), ("picture",), ("code",), {"picture": {2: "height", 3: "width"}})


def _export(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    dynamic: dict[str, dict[int, str]],
) -> bytes:
    buffer = io.BytesIO()
    # The tracing exporter keeps broadcasting symbolic: weights may be maps or 1x1, which torch.export would fix.
    torch.onnx.export(
        module, inputs, buffer, dynamo=False, opset_version=17,
        input_names=list(input_names), output_names=list(output_names), dynamic_axes=dynamic,
    )  # fmt: skip
    graph = onnx.load_from_string(buffer.getvalue())
    _store_half(graph)
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def _store_half(graph: Any) -> None:
    """Keep large float32 initialisers as float16, each followed by a Cast that the runtime folds at load time."""
    casts = []
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < 64:
            continue
        values = numpy_helper.to_array(tensor)
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        graph.graph.initializer.remove(tensor)
        graph.graph.initializer.append(half)
    for cast in reversed(casts):
        graph.graph.node.insert(0, cast)

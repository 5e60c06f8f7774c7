"""ONNX graphs of torch modules, their parameters in half precision.

The parameters are widened when a session starts: half the bytes on disk, the same arithmetic. Files for PyTorch are
rounded to the same half precision, so that both are one set of weights.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript.optimizer import optimize

__all__ = [
    "SHAPES",
    "TOLERANCE",
    "onnx_graph",
    "round_to_half",
]

SHAPES = ((64, 64), (136, 200), (248, 104))
TOLERANCE = 1e-3


def round_to_half(model: torch.nn.Module) -> None:
    """Round every parameter to the nearest float16 value, in place (the type stays float32)."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def onnx_graph(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    dynamic: dict[str, dict[int, str]],
    *,
    slim: bool = False,
) -> bytes:
    """The ONNX graph of a module, its large parameters in half precision.

    Args:
        module: traced once.
        inputs: examples of what it takes.
        input_names: their names.
        output_names: names of what it returns.
        dynamic: names of the axes that may have other sizes, by input or output and axis.
        slim: fold and share constants, and shorten all inner names.
    """
    buffer = io.BytesIO()
    # The tracing exporter keeps broadcasting symbolic: weights may be maps or 1x1, which torch.export would fix.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is announced as deprecated
        torch.onnx.export(
            module, inputs, cast(Any, buffer), dynamo=False, opset_version=17,
            input_names=list(input_names), output_names=list(output_names), dynamic_axes=dynamic,
        )  # fmt: skip
    graph = onnx.load_from_string(buffer.getvalue())
    if slim:
        _slim(graph)
    _store_half(graph)
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def _slim(graph: Any) -> None:
    """Fold and share constants, number the inner values: a tenth of a small network's file is bookkeeping."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every node that it leaves alone
    try:
        graph.CopyFrom(optimize(graph))
    finally:
        log.setLevel(level)
    names: dict[str, str] = {}
    keep = {value.name for values in (graph.graph.input, graph.graph.output) for value in values}
    shared: dict[bytes, str] = {}
    for tensor in list(graph.graph.initializer):
        values = numpy_helper.to_array(tensor)
        key = f"{values.dtype} {values.shape} ".encode() + values.tobytes()
        if key in shared:
            names[tensor.name] = shared[key]
            graph.graph.initializer.remove(tensor)
        else:
            shared[key] = names[tensor.name] = f"c{len(shared)}"

    def short(name: str) -> str:
        return name if not name or name in keep else names.setdefault(name, f"v{len(names)}")

    for tensor in graph.graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.graph.node:
        node.name, node.doc_string = "", ""
        for values in (node.input, node.output):
            values[:] = [short(value) for value in values]
    del graph.graph.value_info[:]


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
    for node in reversed(casts):
        graph.graph.node.insert(0, node)

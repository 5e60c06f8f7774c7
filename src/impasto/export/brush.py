"""The files of ``brush``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from impasto.config import StylizeConfig
from impasto.engines.brush import Brush
from impasto.errors import WeightsError
from impasto.export.cards import ExportedFile, count, described, preset_pictures, write_card
from impasto.export.graphs import SHAPES, TOLERANCE, onnx_graph, round_to_half
from impasto.nets.brush import RESERVED_VALUE, BrushConfig, BrushModel, BrushNet, StyleEncoder
from impasto.training.files import load_model, reserved_names
from impasto.weights import Card, WeightsFile
from impasto.weights.files import read_tensors

__all__ = [
    "Parity",
    "export_brush",
    "export_brush_set",
    "measure_parity",
]

NET_INPUTS = ("picture", "codes", "weights_quarter", "weights_eighth", "statistics", "given")


@dataclass(frozen=True)
class Parity:
    """Largest absolute difference between PyTorch and ONNX Runtime for one shape, on ``[0, 1]``."""

    height: int
    width: int
    painting: float
    code: float


def export_brush_set(
    weights: Path, folder: Path, *, name: str = "brush", artworks: Sequence[Path] = (), presets: Path | None = None
) -> list[ExportedFile]:
    """The graphs of ``brush``, the file in half precision, the presets and the card.

    Args:
        weights: ``brush.safetensors`` of a training.
        folder: where to; it is made when missing.
        name: of the set.
        artworks: folders or tar files with the pictures that the presets name; without any there are no presets.
        presets: the table of presets; by default the packaged one.

    Raises:
        WeightsError: the file cannot be read, or a graph differs from the torch network by more than 1e-3.
        UsageError: a preset names a picture that is not among the artworks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _, metadata = read_tensors(weights)
    model = load_model(weights)
    written = export_brush(model, folder, name=name)
    written.append(_save_half(model, folder / f"{name}.safetensors", metadata))
    files = {file.kind: WeightsFile(file.name, file.kind, file.bytes, file.sha256) for file in written}
    graphs = [(folder / files[kind].name).read_bytes() for kind in ("encoder", "net")]
    engine, names = Brush(Card(name, files, {}), graphs[0], graphs[1], ""), reserved_names(metadata)
    table = _make_presets(engine, model.config, names, artworks, presets) if artworks else []
    path = folder / f"{name}-presets.json"
    content = json.dumps({"weights": written[0].sha256[:16], "presets": table}, ensure_ascii=False)
    path.write_text(content + "\n", encoding="utf-8")
    written.append(described(path, "presets"))
    parameters = {"net": count(model.net), "encoder": count(model.encoder)}
    write_card(folder / f"{name}.toml", name, parameters, metadata, written)
    return written


def export_brush(model: BrushModel, folder: Path, *, name: str = "brush") -> list[ExportedFile]:
    """Write ``NAME.onnx`` and ``NAME-encoder.onnx`` and check them against the torch network.

    The model's parameters are rounded to half precision in place. The first file is the net.

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
        written.append(described(path, kind))
    return written


def measure_parity(model: BrushModel, net: bytes, encoder: bytes) -> list[Parity]:
    """Differences on three shapes, with two codes: constant weights, then maps, then given statistics."""
    cpu = ["CPUExecutionProvider"]
    painter, coder = (onnxruntime.InferenceSession(graph, providers=cpu) for graph in (net, encoder))
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


def _net_inputs(
    net: BrushNet,
    picture: torch.Tensor,
    codes: torch.Tensor,
    *,
    constant: bool,
    given: bool,
    generator: torch.Generator,
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
    codes = torch.randn(1, 2, net.config.length, generator=generator)
    inputs = _net_inputs(net, picture, codes, constant=False, given=True, generator=generator)
    return onnx_graph(
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
    return onnx_graph(encoder, (picture,), ("picture",), ("code",), {"picture": {2: "height", 3: "width"}})


def _save_half(model: BrushModel, path: Path, metadata: dict[str, str]) -> ExportedFile:
    tensors = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, str(path), metadata=metadata)
    return described(path, "training")


def _make_presets(
    engine: Brush, config: BrushConfig, names: Sequence[str], artworks: Sequence[Path], definition: Path | None
) -> list[dict[str, Any]]:
    """Codes of the artworks that the table names; the mean of several, put back on the sphere of codes.

    A preset whose name is among ``names`` sets the reserved number of that place.
    """
    table: list[dict[str, Any]] = []
    for entry, pictures in zip(*preset_pictures(artworks, definition), strict=True):
        vectors = [engine.encode(one, name=entry["name"], config=StylizeConfig()).vector for one in pictures]
        mean = np.mean(vectors, axis=0)
        code = mean / np.sqrt(np.mean(np.square(mean[: config.code])))
        if entry["name"] in names:
            code[config.code + names.index(entry["name"])] = RESERVED_VALUE
        table.append(entry | {"code": [round(float(value), 4) for value in code]})
    return table

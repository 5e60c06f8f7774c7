"""Deployment files from trained weights: ONNX graphs, parity measured, card and presets kept true.

The graphs keep their parameters in half precision and widen them when a session starts: half the bytes on disk, the
same arithmetic. The safetensors file is rounded to the same half precision, so that both are one set of weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript.optimizer import optimize
from safetensors.torch import save_file

from impasto.config import StylizeConfig
from impasto.engines.brush import Brush
from impasto.engines.johnson_styles import INPUTS as JOHNSON_INPUTS
from impasto.engines.johnson_styles import MARK as JOHNSON_MARK
from impasto.engines.local import split_local
from impasto.errors import OutputError, UsageError, WeightsError
from impasto.nets.brush import BrushModel, BrushNet, StyleEncoder
from impasto.nets.encoders import build_lens
from impasto.nets.johnson import JohnsonNet
from impasto.ops.tiling import to_float
from impasto.training.data import PictureSet
from impasto.training.files import load_johnson, load_model, save_lens
from impasto.training.recipe import toml_literal
from impasto.weights import Card, WeightsFile
from impasto.weights.files import read_tensors, write_tensors

__all__ = [
    "ExportedFile",
    "Parity",
    "export_adain",
    "export_brush",
    "export_johnson",
    "export_lens",
    "export_local",
    "export_set",
    "measure_parity",
    "round_to_half",
]

SHAPES = ((64, 64), (136, 200), (248, 104))
JOHNSON_FACTS = {
    "engine": "johnson",
    "code_license": "Apache-2.0",
    "input": "RGB, sRGB-encoded, [0, 1], height and width multiples of 4 and at least 16 (the engine pads and crops)",
    "size_rules": "any size from 1 x 1; above the tile size in tiles with a halo of 56 px and shared statistics",
    "limits": "One style. Strokes have the size at which the style was trained (--style-scale changes it); colours, "
    "strokes and texture come across, composition does not. Pictures of medical or evidential value must not be "
    "painted with it.",
}
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


def export_set(
    weights: Path, folder: Path, *, name: str = "brush", artworks: Sequence[Path] = (), presets: Path | None = None
) -> list[ExportedFile]:
    """Everything that is shipped, from the file that a training wrote.

    Of ``brush``: ONNX graphs, the half-precision safetensors file, the presets and the card. Of ``lens``, ``adain`` and
    ``local``: the half-precision file and the card.

    Args:
        weights: ``brush.safetensors``, ``lens.safetensors``, ``adain.safetensors`` or ``local.safetensors`` of a
            training.
        folder: where to; it is made when missing.
        name: of the set.
        artworks: folders or tar files with the pictures that the presets name; without any there are no presets.
        presets: the table of presets; by default the packaged one.

    Raises:
        WeightsError: the file cannot be read, or a graph differs from the torch network.
        UsageError: a preset names a picture that is not among the artworks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, metadata = read_tensors(weights)
    if "convolutions.relu1_1.weight" in state:
        return export_lens(weights, folder)
    if metadata.get("engine") == "local":
        return export_local(weights, folder)
    if metadata.get("encoder"):
        return export_adain(weights, folder)
    if metadata.get("style"):
        return export_johnson(weights, folder)
    model = load_model(weights)
    written = export_brush(model, folder, name=name)
    written.append(_save_half(model, folder / f"{name}.safetensors", metadata))
    table = _make_presets(folder, name, written, artworks, presets) if artworks else []
    path = folder / f"{name}-presets.json"
    content = json.dumps({"weights": written[0].sha256[:16], "presets": table}, ensure_ascii=False)
    path.write_text(content + "\n", encoding="utf-8")
    written.append(_described(path, "presets"))
    parameters = {"net": _count(model.net), "encoder": _count(model.encoder)}
    _write_card(folder / f"{name}.toml", name, parameters, metadata, written)
    return written


def export_lens(weights: Path, folder: Path) -> list[ExportedFile]:
    """The encoder's file in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read or holds no lens.
    """
    state, metadata = read_tensors(weights)
    lens = build_lens(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lens.safetensors"
    save_lens(lens, path, {key: text for key, text in metadata.items() if key != "config"})
    written = [_described(path, "net")]
    _write_card(folder / "lens.toml", "lens", {"net": _count(lens)}, metadata, written)
    return written


def export_adain(weights: Path, folder: Path) -> list[ExportedFile]:
    """The decoder's file in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read.
    """
    state, metadata = read_tensors(weights)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "adain.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written = [_described(path, "net")]
    count = sum(value.numel() for value in state.values())
    _write_card(folder / "adain.toml", "adain", {"net": count}, metadata, written)
    return written


def export_local(weights: Path, folder: Path) -> list[ExportedFile]:
    """The network's file in half precision, and its card: ``local``, or ``local-mobile`` where it has its own encoder.

    Raises:
        WeightsError: the file cannot be read, or holds no network of local.
    """
    state, metadata = read_tensors(weights)
    name = "local-mobile" if "mobile" in metadata else "local"
    split_local(state, metadata)  # it loads
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written = [_described(path, "net"), _described(path, "training")]  # one file is both
    parameters: dict[str, int] = {}
    for key, value in state.items():
        part = key.partition(".")[0]
        parameters[part] = parameters.get(part, 0) + value.numel()
    _write_card(folder / f"{name}.toml", name, parameters, metadata, written)
    return written


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
        written = _described(folder / f"{name}.onnx", "net")
        card = johnson_card(facts, metadata, written, parameters=_count(net), difference=difference)
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
    content = _export(net, inputs, JOHNSON_INPUTS, ("painted", "measured"), dynamic, slim=True)
    graph = onnx.load_from_string(content)
    helper.set_model_props(graph, {"impasto": JOHNSON_MARK})
    marked: bytes = graph.SerializeToString()
    return marked


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
            feed = dict(zip(JOHNSON_INPUTS, (tensor.numpy() for tensor in inputs), strict=True))
            found = session.run(["painted"], feed)[0]
            largest = max(largest, float(np.abs(np.clip(found, 0, 1) - wanted.clamp(0, 1).numpy()).max()))
            picture = picture.flip(3) * 0.8
    return largest


def johnson_card(
    facts: dict[str, Any], metadata: dict[str, str], file: ExportedFile, *, parameters: int, difference: float
) -> str:
    """The card of one style: what its training noted, and what follows from the file."""
    curve = facts.pop("curve", {})
    lines = [f"{key} = {toml_literal(value)}" for key, value in {**JOHNSON_FACTS, **facts}.items()]
    lines += [f'tolerance = "ONNX Runtime equals PyTorch within 1e-3 (max, on [0, 1]); measured {difference:.0e}"']
    quotes = "'" * 3
    lines += [f"steps = {metadata['step']}", f"recipe = {quotes}", metadata["recipe"].rstrip(), quotes]
    lines += ["", "[parameters]", f"net = {parameters}"]
    if curve:
        lines += ["", "[curve]", *(f"{key} = {toml_literal(values)}" for key, values in curve.items())]
    lines += ["", "[[files]]", f'name = "{file.name}"', f'kind = "{file.kind}"']
    lines += [f"bytes = {file.bytes}", f'sha256 = "{file.sha256}"']
    return "\n".join(lines) + "\n"


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _save_half(model: BrushModel, path: Path, metadata: dict[str, str]) -> ExportedFile:
    tensors = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, str(path), metadata=metadata)
    return _described(path, "training")


def _described(path: Path, kind: str) -> ExportedFile:
    content = path.read_bytes()
    return ExportedFile(path.name, kind, len(content), hashlib.sha256(content).hexdigest())


def _make_presets(
    folder: Path, name: str, written: Sequence[ExportedFile], artworks: Sequence[Path], definition: Path | None
) -> list[dict[str, Any]]:
    """Codes of the artworks that the table names; the mean of several, put back on the sphere of codes."""
    recipes = resources.files("impasto.training").joinpath("recipes")
    source = definition if definition is not None else recipes.joinpath(f"{name}-presets.toml")
    pictures = PictureSet(artworks)
    index = {file: position for position, file in enumerate(pictures.names)}
    files = {file.kind: WeightsFile(file.name, file.kind, file.bytes, file.sha256) for file in written}
    graphs = [(folder / files[kind].name).read_bytes() for kind in ("encoder", "net")]
    engine = Brush(Card(name, files, {}), graphs[0], graphs[1], "")
    table = []
    for entry in tomllib.loads(source.read_text(encoding="utf-8"))["preset"]:
        missing = [file for file in entry["files"] if file not in index]
        if missing:
            raise UsageError(f"the preset '{entry['name']}' names '{missing[0]}', which is not among the artworks")
        vectors = [
            engine.encode(to_float(pictures.picture(index[file])), name=file, config=StylizeConfig()).vector
            for file in entry["files"]
        ]
        mean = np.mean(vectors, axis=0)
        code = mean / np.sqrt(np.mean(np.square(mean)))
        rounded = [round(float(value), 4) for value in code]
        table.append({key: entry[key] for key in ("name", "title", "credit")} | {"code": rounded})
    return table


def _write_card(
    path: Path, name: str, parameters: dict[str, int], metadata: dict[str, str], written: Sequence[ExportedFile]
) -> None:
    """The card: facts that a person wrote (``recipes/NAME-card.toml``), then what follows from the files."""
    facts = resources.files("impasto.training").joinpath(f"recipes/{name}-card.toml").read_text(encoding="utf-8")
    head, _, tail = facts.partition("\n[")  # top-level keys come before the first table
    lines = [head.rstrip(), f"steps = {metadata.get('step', '0')}"]
    if "recipe" in metadata:
        quotes = "'" * 3
        lines += [f"recipe = {quotes}", metadata["recipe"].rstrip(), quotes]
    lines += ["", "[parameters]", *(f"{part} = {count}" for part, count in parameters.items())]
    if tail:
        lines += ["", f"[{tail.rstrip()}"]
    for file in written:
        lines += ["", "[[files]]", f'name = "{file.name}"', f'kind = "{file.kind}"']
        lines += [f"bytes = {file.bytes}", f'sha256 = "{file.sha256}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
        written.append(_described(path, kind))
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


NET_INPUTS = ("picture", "codes", "weights_quarter", "weights_eighth", "statistics", "given")


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
    *,
    slim: bool = False,
) -> bytes:
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

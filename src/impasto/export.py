"""Deployment files from trained weights: ONNX graphs, parity measured, card and presets kept true.

The graphs keep their parameters in half precision and widen them when a session starts: half the bytes on disk, the
same arithmetic. The safetensors file is rounded to the same half precision, so that both are one set of weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
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
from torch.nn.functional import avg_pool2d

from impasto.config import StylizeConfig
from impasto.engines.brush import Brush
from impasto.engines.diffusion import split_diffusion
from impasto.engines.johnson_styles import INPUTS as JOHNSON_INPUTS
from impasto.engines.johnson_styles import MARK as JOHNSON_MARK
from impasto.engines.local import Local
from impasto.engines.local_graphs import LocalGraphs, measured
from impasto.errors import OutputError, WeightsError
from impasto.nets.adain import build_decoder
from impasto.nets.brush import MARK, BrushModel, BrushNet, StyleEncoder
from impasto.nets.encoders import build_lens, load_encoder
from impasto.nets.johnson import JohnsonNet
from impasto.nets.local import LAYERS, LocalNet, content_statistics, split_local
from impasto.nets.local_parts import AttentionPart, BlendPart, EncoderPart, TokensPart
from impasto.nets.mobile import build_mobile
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import to_float
from impasto.training.data import PictureSet
from impasto.training.files import load_johnson, load_model, save_lens
from impasto.training.local_presets import preset_groups, stored_presets
from impasto.training.presets import preset_artworks, preset_table
from impasto.training.recipe import toml_literal
from impasto.types import FloatArray
from impasto.weights import Card, WeightsFile, load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = [
    "ExportedFile",
    "Parity",
    "export_adain",
    "export_brush",
    "export_diffusion",
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
    weights: Path,
    folder: Path,
    *,
    name: str = "brush",
    encoder: str | Path = "lens",
    artworks: Sequence[Path] = (),
    presets: Path | None = None,
) -> list[ExportedFile]:
    """Everything that is shipped, from the file that a training wrote.

    Of ``brush`` and ``local``: ONNX graphs, the half-precision safetensors file, the presets and the card. Of ``lens``:
    the half-precision file, the graph of its first layers and the card. Of ``adain`` and ``diffusion``: the file and
    the card.

    Args:
        weights: ``brush.safetensors``, ``lens.safetensors``, ``adain.safetensors``, ``local.safetensors`` or
            ``diffusion.safetensors`` of a training.
        folder: where to; it is made when missing.
        name: of the set, of ``brush``; others have their own.
        encoder: of ``local``, see :func:`export_local`.
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
        return export_local(weights, folder, encoder=encoder, artworks=artworks, presets=presets)
    if metadata.get("diffusion"):
        return export_diffusion(weights, folder)
    if metadata.get("encoder"):
        return export_adain(weights, folder)
    if metadata.get("style"):
        return export_johnson(weights, folder)
    model = load_model(weights)
    written = export_brush(model, folder, name=name)
    written.append(_save_half(model, folder / f"{name}.safetensors", metadata))
    reserved = model.config.reserved
    table = _make_presets(folder, name, written, artworks, presets, reserved) if artworks else []
    path = folder / f"{name}-presets.json"
    content = json.dumps({"weights": written[0].sha256[:16], "presets": table}, ensure_ascii=False)
    path.write_text(content + "\n", encoding="utf-8")
    written.append(_described(path, "presets"))
    parameters = {"net": _count(model.net), "encoder": _count(model.encoder)}
    _write_card(folder / f"{name}.toml", name, parameters, metadata, written)
    return written


def export_lens(weights: Path, folder: Path) -> list[ExportedFile]:
    """The encoder's file in half precision, its graph up to ``relu4_1`` for the engines behind it, and its card.

    Raises:
        WeightsError: the file cannot be read or holds no lens.
    """
    state, metadata = read_tensors(weights)
    lens = build_lens(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lens.safetensors"
    save_lens(lens, path, {key: text for key, text in metadata.items() if key != "config"})
    written = [_described(path, "net")]
    round_to_half(lens)
    path = folder / "lens-encoder.onnx"
    path.write_bytes(encoder_graph(lens))
    written.append(_described(path, "encoder"))
    _write_card(folder / "lens.toml", "lens", {"net": _count(lens)}, metadata, written)
    return written


def export_adain(weights: Path, folder: Path) -> list[ExportedFile]:
    """The decoder's file in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read, or holds no decoder.
    """
    state, metadata = read_tensors(weights)
    build_decoder(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "adain.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written = [_described(path, "net")]
    _write_card(folder / "adain.toml", "adain", _counts(state), metadata, written)
    return written


def export_diffusion(weights: Path, folder: Path) -> list[ExportedFile]:
    """The file with network and autoencoder in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read, or does not hold both.
    """
    state, metadata = read_tensors(weights)
    split_diffusion(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "diffusion.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written = [_described(path, "net")]
    parameters: dict[str, int] = {}
    for key, value in state.items():
        part = key.partition(".")[0]
        parameters[part] = parameters.get(part, 0) + value.numel()
    _write_card(folder / "diffusion.toml", "diffusion", parameters, metadata, written)
    return written


def export_local(
    weights: Path,
    folder: Path,
    *,
    encoder: str | Path = "lens",
    artworks: Sequence[Path] = (),
    presets: Path | None = None,
) -> list[ExportedFile]:
    """ONNX graphs of all parts, the file in half precision, and the card, after parity with PyTorch was measured.

    The set is ``local``, or ``local-mobile`` where the file has its own encoder.

    Args:
        weights: ``local.safetensors`` of a training.
        folder: where to; it is made when missing.
        encoder: the encoder that the network was trained behind, if the file brings none along.
        artworks: folders or tar files with the pictures that the presets name; without any there are no presets.
        presets: the table of presets; by default the packaged one.

    Raises:
        WeightsError: the file cannot be read, or holds no network of local; it was trained behind another encoder; or a
            graph differs from the torch network by more than 1e-3.
        UsageError: a preset names a picture that is not among the artworks.
    """
    state, metadata = read_tensors(weights)
    name = "local-mobile" if "mobile" in metadata else "local"
    net, own = split_local(state, metadata)
    round_to_half(net)
    seeing = build_mobile(own, metadata) if own else load_encoder(encoder)
    round_to_half(seeing)
    _check_encoder(seeing, net, metadata, named=encoder)
    graphs = local_graphs(net, seeing)
    difference = local_parity(net, seeing, graphs)
    if difference > TOLERANCE:
        raise WeightsError(f"the ONNX graphs of {name} differ from the torch network by {difference:.1e}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, content in graphs.items():
        path = folder / _local_file(name, kind, shared=not own and str(encoder) == "lens")
        path.write_bytes(content)
        written.append(_described(path, kind))
    identity = next(file.sha256[:16] for file in written if file.kind == "net")
    if artworks:
        path = folder / f"{name}-presets.npz"
        path.write_bytes(_local_presets(LocalGraphs(**graphs), name, identity, artworks, presets))
        written.append(_described(path, "presets"))
    path = folder / f"{name}.safetensors"
    if path.resolve() != weights.resolve():
        write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written.append(_described(path, "training"))
    _write_card(folder / f"{name}.toml", name, _counts(state), metadata, written)
    return written


def _local_presets(
    graphs: LocalGraphs, name: str, identity: str, artworks: Sequence[Path], definition: Path | None
) -> bytes:
    """The file of presets."""
    engine = Local(identity, graphs, name=name)
    entries, pictures = _preset_pictures(artworks, definition)
    groups, metric = preset_groups(engine, graphs, pictures)
    return stored_presets(entries, groups, metric, weights=identity, channels=graphs.channels).packed()


def _local_file(name: str, kind: str, *, shared: bool) -> str:
    if kind == "net":
        return f"{name}.onnx"
    return "lens-encoder.onnx" if kind == "encoder" and shared else f"{name}-{kind}.onnx"


def _check_encoder(encoder: Teacher, net: LocalNet, metadata: dict[str, str], *, named: str | Path) -> None:
    found = tuple(encoder.spec.layers[layer][1] if layer in encoder.spec.layers else 0 for layer in LAYERS)
    other = str(named) == "lens" and "mobile" not in metadata and metadata.get("encoder") != load_card("lens").identity
    if other or found != net.config.channels:
        raise WeightsError("the network of local was trained behind another encoder: name that encoder's file")


def local_graphs(net: LocalNet, encoder: Teacher) -> dict[str, bytes]:
    """The graphs of ``local`` by kind; see :mod:`impasto.nets.local_parts`."""
    few, middle, deep = net.config.channels
    values, compared = 2 * (middle + deep), few + middle + deep
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) + 0.5

    maps, upper = {2: "height", 3: "width"}, {2: "double_height", 3: "double_width"}
    inputs = (some(1, deep, 6, 7), some(1, middle, 12, 14))
    return {
        "encoder": encoder_graph(encoder),
        "tokens": _export(
            TokensPart(net),
            (some(1, compared, 6, 7), inputs[1]),
            ("matching", "middle"),
            ("keys", "values"),
            {"matching": maps, "middle": upper, "keys": {0: "places"}, "values": {0: "places"}},
            slim=True,
        ),
        "attention": _export(
            AttentionPart(net),
            (some(9, compared), some(2, compared), some(11, net.config.keys), some(11, values), some(11)),
            ("places", "moments", "keys", "values", "log_counts"),
            ("found", "queries"),
            {name: {0: "places"} for name in ("places", "found", "queries")}
            | {name: {0: "tokens"} for name in ("keys", "values", "log_counts")},
            slim=True,
        ),
        "blend": _export(
            BlendPart(net),
            (
                *inputs,
                *(some(1, values, 6, 7), some(2, deep), some(2, middle), some(1, 1, 6, 7), some(1, 1, 12, 14)),
                *(some(1, deep, 6, 7), some(1, middle, 12, 14)),
            ),
            (
                *("deep", "middle", "found", "deep_moments", "middle_moments"),
                *("deep_weight", "middle_weight", "deep_sum", "middle_sum"),
            ),
            ("deep_blended", "middle_blended"),
            dict.fromkeys(("deep", "found", "deep_sum", "deep_blended"), maps)
            | dict.fromkeys(("middle", "middle_sum", "middle_blended"), upper)
            | {"deep_weight": {2: "weight_height", 3: "weight_width"}}
            | {"middle_weight": {2: "double_weight_height", 3: "double_weight_width"}},
            slim=True,
        ),
        "net": _export(
            net.decoder,
            inputs,
            ("deep", "middle"),
            ("painted",),
            {"deep": maps, "middle": upper, "painted": {2: "picture_height", 3: "picture_width"}},
            slim=True,
        ),
    }


def local_parity(net: LocalNet, encoder: Teacher, graphs: dict[str, bytes]) -> float:
    """Largest difference between PyTorch and ONNX Runtime on ``[0, 1]``, over three shapes.

    Two styles are mixed: by numbers, then by maps. The encoder's layers are also compared at odd sizes, relative to
    the layer's largest value.
    """
    parts = LocalGraphs(**graphs)
    session = onnxruntime.InferenceSession(graphs["encoder"], providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(2)
    largest = 0.0
    for index, (height, width) in enumerate(SHAPES):
        sizes = ((height, width), (72, 96), (96, 56))
        pictures = [torch.rand(1, 3, *size, generator=generator) for size in sizes]
        if index:
            first = torch.rand(1, 1, height, width, generator=generator)
            weights = [first, (1 - first) * 0.9]
        else:
            weights = [torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.3)]
        with torch.no_grad():
            maps, *styles = (encoder(picture, LAYERS) for picture in pictures)
            statistics = [content_statistics(maps, weight if index else None) for weight in weights]
            wanted = net.decoder(*net.blended(maps, [net.tokens(style) for style in styles], weights, statistics))
            odd = pictures[0][:, :, 3:, :-5]
            layers = encoder(odd, LAYERS)
        features, *looks = (parts.features(picture[0].permute(1, 2, 0).numpy()) for picture in pictures)
        shares = [_reduced(weight) for weight in weights]
        moments = [measured(features, share if index else None) for share in shares]
        found = parts.painted(features, [parts.tokens(look) for look in looks], shares, moments)
        largest = max(
            largest, float(np.abs(np.clip(found, 0, 1) - wanted[0].clamp(0, 1).permute(1, 2, 0).numpy()).max())
        )
        for name, values in zip(LAYERS, session.run(list(LAYERS), {"picture": odd.numpy()}), strict=True):
            largest = max(largest, float(np.abs(values - layers[name].numpy()).max() / layers[name].abs().max()))
    return largest


def _reduced(weight: torch.Tensor) -> tuple[Any, Any]:
    """A weight ``[1, 1, H, W]`` at 1/8 and 1/4; a constant one stays as it is."""
    if weight.shape[2] == 1:
        return weight.numpy(), weight.numpy()
    return avg_pool2d(weight, 8).numpy(), avg_pool2d(weight, 4).numpy()


def encoder_graph(encoder: Teacher) -> bytes:
    """An encoder up to ``relu4_1`` for all engines behind it; see :class:`~impasto.nets.local_parts.EncoderPart`."""
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    names = (*LAYERS, "matching")
    dynamic = {name: {2: f"height_{name}", 3: f"width_{name}"} for name in ("picture", *names)}
    return _export(EncoderPart(encoder), (picture,), ("picture",), names, dynamic, slim=True)


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


def _counts(state: dict[str, torch.Tensor]) -> dict[str, int]:
    """Parameters of each part of a network, by the first word of their names."""
    counts: dict[str, int] = {}
    for key, value in state.items():
        part = key.partition(".")[0]
        counts[part] = counts.get(part, 0) + value.numel()
    return counts


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _save_half(model: BrushModel, path: Path, metadata: dict[str, str]) -> ExportedFile:
    tensors = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, str(path), metadata=metadata)
    return _described(path, "training")


def _described(path: Path, kind: str) -> ExportedFile:
    content = path.read_bytes()
    return ExportedFile(path.name, kind, len(content), hashlib.sha256(content).hexdigest())


def _preset_pictures(
    artworks: Sequence[Path], definition: Path | None
) -> tuple[list[dict[str, str]], list[list[FloatArray]]]:
    """Name, title and credit of each preset of a table, and its artworks.

    Raises:
        UsageError: a preset names a picture that is not among the artworks.
    """
    table = preset_table(definition)
    found = preset_artworks(table, PictureSet(artworks))
    return [entry.described for entry in table], [[to_float(picture) for picture in pictures] for pictures in found]


def _make_presets(
    folder: Path,
    name: str,
    written: Sequence[ExportedFile],
    artworks: Sequence[Path],
    definition: Path | None,
    reserved: int,
) -> list[dict[str, Any]]:
    """Codes of the artworks that the table names; the mean of several, put back on the sphere of codes.

    The first ``reserved`` presets set their reserved number.
    """
    files = {file.kind: WeightsFile(file.name, file.kind, file.bytes, file.sha256) for file in written}
    graphs = [(folder / files[kind].name).read_bytes() for kind in ("encoder", "net")]
    engine = Brush(Card(name, files, {}), graphs[0], graphs[1], "")
    table: list[dict[str, Any]] = []
    for entry, pictures in zip(*_preset_pictures(artworks, definition), strict=True):
        vectors = [engine.encode(one, name=entry["name"], config=StylizeConfig()).vector for one in pictures]
        mean = np.mean(vectors, axis=0)
        code = mean / np.sqrt(np.sum(np.square(mean)) / (len(mean) - reserved))  # back on the sphere of codes
        if len(table) < reserved:
            code[len(mean) - reserved + len(table)] = MARK
        table.append(entry | {"code": [round(float(value), 4) for value in code]})
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
    codes = torch.randn(1, 2, net.config.length, generator=generator)
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

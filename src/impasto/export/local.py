"""The files of ``local`` and ``local-mobile``, and the graph of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.nn.functional import avg_pool2d

from impasto.engines.local import Local
from impasto.engines.local_graphs import LocalGraphs, measured
from impasto.errors import WeightsError
from impasto.export.cards import ExportedFile, counts, described, preset_pictures, write_card
from impasto.export.graphs import SHAPES, TOLERANCE, onnx_graph, round_to_half
from impasto.nets.encoders import load_encoder
from impasto.nets.local import LAYERS, LocalNet, content_statistics, split_local
from impasto.nets.local_parts import AttentionPart, BlendPart, EncoderPart, TokensPart
from impasto.nets.mobile import build_mobile
from impasto.nets.teachers import Teacher
from impasto.training.local_presets import preset_groups, stored_presets
from impasto.weights import load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = [
    "encoder_graph",
    "export_local",
    "local_graphs",
    "local_parity",
]


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
        written.append(described(path, kind))
    identity = next(file.sha256[:16] for file in written if file.kind == "net")
    if artworks:
        path = folder / f"{name}-presets.npz"
        path.write_bytes(_local_presets(LocalGraphs(**graphs), name, identity, artworks, presets))
        written.append(described(path, "presets"))
    path = folder / f"{name}.safetensors"
    if path.resolve() != weights.resolve():
        write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written.append(described(path, "training"))
    write_card(folder / f"{name}.toml", name, counts(state), metadata, written)
    return written


def _local_presets(
    graphs: LocalGraphs, name: str, identity: str, artworks: Sequence[Path], definition: Path | None
) -> bytes:
    """The file of presets."""
    engine = Local(identity, graphs, name=name)
    entries, pictures = preset_pictures(artworks, definition)
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


def encoder_graph(encoder: Teacher) -> bytes:
    """An encoder up to ``relu4_1`` for all engines behind it; see :class:`~impasto.nets.local_parts.EncoderPart`."""
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    names = (*LAYERS, "matching")
    dynamic = {name: {2: f"height_{name}", 3: f"width_{name}"} for name in ("picture", *names)}
    return onnx_graph(EncoderPart(encoder), (picture,), ("picture",), names, dynamic, slim=True)


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
        "tokens": onnx_graph(
            TokensPart(net),
            (some(1, compared, 6, 7), inputs[1]),
            ("matching", "middle"),
            ("keys", "values"),
            {"matching": maps, "middle": upper, "keys": {0: "places"}, "values": {0: "places"}},
            slim=True,
        ),
        "attention": onnx_graph(
            AttentionPart(net),
            (some(9, compared), some(2, compared), some(11, net.config.keys), some(11, values), some(11)),
            ("places", "moments", "keys", "values", "log_counts"),
            ("found", "queries"),
            {name: {0: "places"} for name in ("places", "found", "queries")}
            | {name: {0: "tokens"} for name in ("keys", "values", "log_counts")},
            slim=True,
        ),
        "blend": onnx_graph(
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
        "net": onnx_graph(
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

"""The files of what runs on PyTorch alone: ``lens``, ``adain``, ``diffusion``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from impasto.config import StylizeConfig
from impasto.engines.diffusion import Diffusion, split_diffusion
from impasto.engines.diffusion_presets import merged_code, pack_presets
from impasto.errors import WeightsError
from impasto.export.cards import ExportedFile, count, counts, described, preset_pictures, write_card
from impasto.export.graphs import round_to_half
from impasto.export.local import encoder_graph
from impasto.nets.adain import build_decoder
from impasto.nets.encoders import build_lens, load_encoder
from impasto.training.files import save_lens
from impasto.weights import load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = [
    "export_adain",
    "export_diffusion",
    "export_lens",
]


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
    written = [described(path, "net")]
    round_to_half(lens)
    path = folder / "lens-encoder.onnx"
    path.write_bytes(encoder_graph(lens))
    written.append(described(path, "encoder"))
    write_card(folder / "lens.toml", "lens", {"net": count(lens)}, metadata, written)
    return written


def export_adain(weights: Path, folder: Path) -> list[ExportedFile]:
    """The decoder's file in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read, or holds no decoder.
    """
    return _halved(weights, folder, "adain", build_decoder)


def export_diffusion(
    weights: Path, folder: Path, *, artworks: Sequence[Path] = (), presets: Path | None = None
) -> list[ExportedFile]:
    """The file with network and autoencoder in half precision, the presets and the card.

    Args:
        weights: ``diffusion.safetensors`` of a training.
        folder: where to; it is made when missing.
        artworks: folders or tar files with the pictures that the presets name; without any there are no presets.
        presets: the table of presets; by default the packaged one.

    Raises:
        WeightsError: the file cannot be read, does not hold both, or was trained behind another encoder than the
            installed ``lens``.
        UsageError: a preset names a picture that is not among the artworks.
    """

    def with_presets(net: ExportedFile) -> list[ExportedFile]:
        state, texts = read_tensors(folder / net.name)
        if texts.get("encoder") != load_card("lens").identity:
            raise WeightsError(f"the network of '{weights}' was trained behind another encoder than the installed lens")
        if not artworks:
            return []
        identity = net.sha256[:16]
        engine = Diffusion(identity, load_encoder(), *split_diffusion(state, texts))
        rows, pictures = preset_pictures(artworks, presets)
        codes = [
            merged_code([engine.encode(one, name=row["name"], config=StylizeConfig()) for one in shown], row["name"])
            for row, shown in zip(rows, pictures, strict=True)
        ]
        path = folder / "diffusion-presets.npz"
        path.write_bytes(pack_presets(rows, codes, weights=identity))
        return [described(path, "presets")]

    return _halved(weights, folder, "diffusion", split_diffusion, with_presets)


def _halved(
    weights: Path,
    folder: Path,
    name: str,
    build: Callable[[dict[str, Tensor], dict[str, str]], object],
    further: Callable[[ExportedFile], list[ExportedFile]] = lambda _: [],
) -> list[ExportedFile]:
    """A training's file in half precision and its card, after ``build`` has found a network in it.

    ``further`` writes files that need the first one.
    """
    state, metadata = read_tensors(weights)
    build(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    net = described(path, "net")
    written = [net, *further(net)]
    write_card(folder / f"{name}.toml", name, counts(state), metadata, written)
    return written

"""The files of what runs on PyTorch alone: ``lens``, ``adain``, ``diffusion``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from impasto.engines.diffusion import split_diffusion
from impasto.export.cards import ExportedFile, count, counts, described, write_card
from impasto.export.graphs import round_to_half
from impasto.export.local import encoder_graph
from impasto.nets.adain import build_decoder
from impasto.nets.encoders import build_lens
from impasto.training.files import save_lens
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


def export_diffusion(weights: Path, folder: Path) -> list[ExportedFile]:
    """The file with network and autoencoder in half precision, and its card.

    Raises:
        WeightsError: the file cannot be read, or does not hold both.
    """
    return _halved(weights, folder, "diffusion", split_diffusion)


def _halved(
    weights: Path, folder: Path, name: str, build: Callable[[dict[str, Tensor], dict[str, str]], object]
) -> list[ExportedFile]:
    """A training's file in half precision and its card, after ``build`` has found a network in it."""
    state, metadata = read_tensors(weights)
    build(state, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_tensors(path, {key: value.half() for key, value in state.items()}, metadata)
    written = [described(path, "net")]
    write_card(folder / f"{name}.toml", name, counts(state), metadata, written)
    return written

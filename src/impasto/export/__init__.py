"""Deployment files from trained weights: ONNX graphs, parity measured, card and presets kept true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impasto.export.brush import Parity, export_brush, export_brush_set, measure_parity
from impasto.export.cards import ExportedFile
from impasto.export.graphs import round_to_half
from impasto.export.johnson import export_johnson, johnson_card
from impasto.export.local import encoder_graph, export_local, local_graphs, local_parity
from impasto.export.plain import export_adain, export_diffusion, export_lens
from impasto.weights.files import read_tensors

__all__ = [
    "ExportedFile",
    "Parity",
    "encoder_graph",
    "export_adain",
    "export_brush",
    "export_brush_set",
    "export_diffusion",
    "export_johnson",
    "export_lens",
    "export_local",
    "export_set",
    "johnson_card",
    "local_graphs",
    "local_parity",
    "measure_parity",
    "round_to_half",
]


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
    the half-precision file, the graph of its first layers and the card. Of ``adain``: the file and the card; of
    ``diffusion`` also the presets.

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
        return export_diffusion(weights, folder, artworks=artworks, presets=presets)
    if metadata.get("encoder"):
        return export_adain(weights, folder)
    if metadata.get("style"):
        return export_johnson(weights, folder)
    return export_brush_set(weights, folder, name=name, artworks=artworks, presets=presets)

"""Weights files of training: the model that is trained, and the teachers that judge it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from impasto.errors import OutputError, WeightsError
from impasto.nets.brush import BrushConfig, BrushModel
from impasto.nets.teachers import Teacher, build_teacher

__all__ = ["load_model", "load_teacher", "save_model"]


def save_model(model: BrushModel, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights as float32 safetensors; the file appears whole or not at all.

    Args:
        model: the model.
        path: the file.
        metadata: texts to keep in the header, such as recipe and step; the network's sizes are added as ``config``.

    Raises:
        OutputError: the file cannot be written.
    """
    known = {**metadata, "config": json.dumps(dataclasses.asdict(model.config))}
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata=known)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the weights '{path}': {error}") from error


def load_model(path: Path) -> BrushModel:
    """The model of a file that :func:`save_model` wrote, in float32 on the CPU.

    Raises:
        WeightsError: no such file, damaged, without the sizes of the network, or with other tensors than it needs.
    """
    state, metadata = _read_safetensors(path)
    try:
        sizes = json.loads(metadata["config"])
        sizes["encoder"] = tuple(sizes["encoder"])
        model = BrushModel(BrushConfig(**sizes))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"'{path}' is no brush model: its header does not state the network's sizes ({error!r}); "
            "give a file that 'impasto train brush' wrote"
        ) from error
    needed = {name: value.shape for name, value in model.state_dict().items()}
    missing = [name for name in needed if name not in state]
    other = [name for name in state if name not in needed]
    shapes = [name for name, shape in needed.items() if name in state and state[name].shape != shape]
    if missing or other or shapes:
        raise WeightsError(
            f"'{path}' does not fit the network its header describes: missing {missing[:3]}, unknown {other[:3]}, "
            f"of another shape {shapes[:3]}"
        )
    model.load_state_dict(state)
    return model


def load_teacher(path: Path) -> Teacher:
    """A frozen teacher from a ``.safetensors`` file or a torch ``.pth`` / ``.pt`` file with a ``state_dict``.

    Raises:
        WeightsError: no such file, damaged, pickled objects other than tensors, or the layout of no known teacher.
    """
    state = _read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_torch(path)
    try:
        return build_teacher(state)
    except WeightsError as error:
        raise WeightsError(f"'{path}': {error}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as handle:
            metadata: dict[str, str] = handle.metadata() or {}
        return load_file(path), metadata
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file '{path}'") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"the weights '{path}' are damaged or no safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file '{path}'") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"'{path}' is no torch file, or holds more than tensors, which is not loaded because it could run code; "
            "save model.state_dict() instead"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(f"the weights '{path}' are damaged or no torch file: {error}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"'{path}' holds no state_dict: a table of named tensors is needed")
    return loaded

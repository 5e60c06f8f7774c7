"""Weights files of training: the model that is trained, and the teachers that judge it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from impasto.errors import WeightsError
from impasto.nets.brush import BrushConfig, BrushModel
from impasto.nets.encoders import load_encoder
from impasto.nets.johnson import JohnsonConfig, JohnsonNet
from impasto.nets.lens import Lens
from impasto.nets.teachers import Teacher
from impasto.weights.files import read_tensors, write_tensors

__all__ = ["load_johnson", "load_model", "load_teacher", "reserved_names", "save_johnson", "save_lens", "save_model"]


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
    write_tensors(path, tensors, known)


def load_model(path: Path) -> BrushModel:
    """The model of a file that :func:`save_model` wrote, in float32 on the CPU.

    Raises:
        WeightsError: no such file, damaged, without the sizes of the network, or with other tensors than it needs.
    """
    state, metadata = read_tensors(path)
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


def reserved_names(metadata: Mapping[str, str]) -> list[str]:
    """Names of the presets whose reserved numbers a brush model was trained with, in their order."""
    names: list[str] = json.loads(metadata.get("presets", "[]"))
    return names


def load_teacher(path: Path) -> Teacher:
    """A frozen teacher from a ``.safetensors`` file or a torch ``.pth`` / ``.pt`` file with a ``state_dict``.

    Raises:
        WeightsError: no such file, damaged, pickled objects other than tensors, or the layout of no known teacher.
    """
    return load_encoder(Path(path).absolute())


def save_lens(lens: Lens, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the encoder's weights as safetensors in half precision, with its sizes in the header.

    Raises:
        OutputError: the file cannot be written.
    """
    known = {**metadata, "config": json.dumps(dataclasses.asdict(lens.config))}
    write_tensors(path, {name: value.half() for name, value in lens.state_dict().items()}, known)


def save_johnson(net: JohnsonNet, path: Path, metadata: Mapping[str, str]) -> None:
    """Write one style's network as float32 safetensors, with its sizes in the header.

    Raises:
        OutputError: the file cannot be written.
    """
    known = {**metadata, "config": json.dumps(dataclasses.asdict(net.config))}
    write_tensors(path, {name: value.float() for name, value in net.state_dict().items()}, known)


def load_johnson(path: Path) -> tuple[JohnsonNet, dict[str, str]]:
    """The network of a file that :func:`save_johnson` wrote, and the texts of its header.

    Raises:
        WeightsError: no such file, damaged, or not the network that its header describes.
    """
    state, metadata = read_tensors(path)
    try:
        net = JohnsonNet(JohnsonConfig(**json.loads(metadata["config"])))
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"'{path}' is no network of one style, or does not fit the sizes in its header: {error}; "
            "give a file that 'impasto train johnson' wrote"
        ) from error
    return net, metadata

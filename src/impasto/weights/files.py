"""Reading and writing tables of named tensors: safetensors, and torch files without code in them."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from impasto.errors import OutputError, WeightsError

__all__ = ["read_tensors", "write_tensors"]


def read_tensors(path: Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a ``.safetensors`` file, or of a torch file that holds a ``state_dict``, and the header's texts.

    Args:
        path: the file; anything that does not end in ``.safetensors`` is read with ``weights_only=True``.
        sha256: what the file's SHA-256 must be, 64 hexadecimal digits.

    Raises:
        WeightsError: no such file, another SHA-256, damaged, or a torch file with more than tensors in it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file '{path}'") from error
    except OSError as error:
        raise WeightsError(f"the weights '{path}' cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise WeightsError(f"the weights '{path}' are not the expected ones: their SHA-256 is {found}, not {sha256}")
    if path.suffix != ".safetensors":
        return _read_torch(path), {}
    try:
        return load(content), _header(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"the weights '{path}' are damaged or no safetensors file: {error}") from error


def _header(content: bytes) -> dict[str, str]:
    """The texts in a safetensors header: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    texts: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return texts


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a ``.safetensors`` file with texts in its header; it appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, partial, metadata=dict(metadata))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the weights '{path}': {error}") from error

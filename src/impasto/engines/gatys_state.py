"""The state of an interrupted run of ``gatys``, in a file that holds tensors and numbers only."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from impasto.errors import OutputError, UsageError

__all__ = ["RunState", "load_state", "save_state"]

_DAMAGED = (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError)  # what torch.load says of other files


@dataclass(frozen=True)
class RunState:
    """Everything that a run needs to go on, taken between two blocks of iterations.

    Attributes:
        scale: number of the pyramid's size.
        done: iterations behind at this size.
        bands: the picture, see :func:`impasto.engines.gatys_pyramid.bands_of`.
        average: weighted sum of the iterates so far, and the sum of their weights; None before the first.
        optimizer: its ``state_dict``.
    """

    scale: int
    done: int
    bands: list[Tensor]
    average: tuple[Tensor, float] | None
    optimizer: dict[str, Any]


def save_state(state: RunState, path: Path, fingerprint: str) -> None:
    """Write the state; the file appears whole or not at all.

    Args:
        state: what to keep.
        path: the file.
        fingerprint: of pictures, field and settings; :func:`load_state` wants the same.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    content = {"fingerprint": fingerprint, **vars(state)}
    try:
        torch.save(content, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a missing folder as a RuntimeError
        raise OutputError(f"cannot write the state '{path}': {error}") from error


def load_state(path: Path, fingerprint: str, device: torch.device) -> RunState | None:
    """What :func:`save_state` wrote, None where there is no file yet.

    Raises:
        UsageError: the file holds no state, or that of another run.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        known = content.pop("fingerprint")
        state = RunState(**content)
    except (*_DAMAGED, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"'{path}' holds no state of an interrupted run: remove it or name another file") from error
    if known != fingerprint:
        raise UsageError(
            f"'{path}' is the state of a run with another picture, style or settings: repeat those, remove it, "
            "or name another file"
        )
    return state

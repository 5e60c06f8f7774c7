"""What engines that run ONNX graphs share."""

from __future__ import annotations

import numpy as np
import onnxruntime

from impasto.errors import WeightsError
from impasto.types import FloatArray

__all__ = ["open_session", "to_batch"]


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A graph, ready to run on the CPU.

    Raises:
        WeightsError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # a large tile's memory goes back when it is done
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base of its own errors
        raise WeightsError(f"ONNX Runtime cannot load the network: {error}") from error


def to_batch(picture: FloatArray) -> FloatArray:
    """``[H, W, C]`` to ``[1, C, H, W]``."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None])

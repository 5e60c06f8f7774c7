"""Presets of ``diffusion``: style codes that come with the weights, as one small file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from impasto.engines.base import Preset
from impasto.errors import WeightsError
from impasto.field import StyleCode

__all__ = ["merged_code", "pack_presets", "unpack_presets"]


def merged_code(codes: Sequence[StyleCode], name: str) -> StyleCode:
    """One code of several artworks: all their tokens, the mean of their vectors, and the colours of all together.

    Args:
        codes: of the artworks, with the parts ``tokens`` ``[T, D]`` and ``colours`` ``[4, 3]`` (a mean, then the rows
            of a root of the covariance).
        name: of the new one.
    """
    colours = np.stack([code.parts["colours"] for code in codes]).astype(np.float64)  # [N, 4, 3]: mean, then a root
    means, roots = colours[:, 0], colours[:, 1:]
    mean = means.mean(0)
    apart = means - mean
    covariance = (roots @ roots.transpose(0, 2, 1)).mean(0) + apart.T @ apart / len(codes)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    parts = {
        "tokens": np.concatenate([code.parts["tokens"] for code in codes]),
        "colours": np.concatenate([mean[None], root]).astype(np.float32),
    }
    vector = (np.sum([code.vector for code in codes], axis=0) / len(codes)).astype(np.float32)
    return StyleCode(vector, codes[0].engine, codes[0].weights, name, parts)


def pack_presets(rows: Sequence[dict[str, str]], codes: Sequence[StyleCode], *, weights: str) -> bytes:
    """The file of presets.

    Args:
        rows: ``name``, ``title`` and ``credit`` of each.
        codes: of each, with parts as in :func:`merged_code`.
        weights: identity of the weights that made them.
    """
    named = [row | {"tokens": len(code.parts["tokens"])} for row, code in zip(rows, codes, strict=True)]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        about=np.frombuffer(json.dumps({"weights": weights, "presets": named}, ensure_ascii=False).encode(), np.uint8),
        tokens=np.concatenate([code.parts["tokens"] for code in codes]).astype(np.float16),
        vectors=np.stack([code.vector for code in codes]).astype(np.float16),
        colours=np.stack([code.parts["colours"] for code in codes]).astype(np.float32),
    )
    return buffer.getvalue()


def unpack_presets(content: bytes, *, engine: str, identity: str) -> dict[str, Preset]:
    """The presets of a file by name, none of an empty one.

    Raises:
        WeightsError: it cannot be understood, or belongs to other weights.
    """
    if not content:
        return {}
    found: dict[str, Preset] = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes().decode())
            tokens, vectors = (stored[name].astype(np.float32) for name in ("tokens", "vectors"))
            colours = stored["colours"]
        if about["weights"] != identity:
            raise WeightsError("the presets were made with other weights; reinstall impasto")
        rows = about["presets"]
        ends = np.cumsum([row["tokens"] for row in rows])
        if len(tokens) != ends[-1] or len(vectors) != len(rows) or colours.shape != (len(rows), 4, 3):
            raise ValueError("tokens, vectors and colours are not those of the presets")
        for row, part, vector, own in zip(rows, np.split(tokens, ends[:-1]), vectors, colours, strict=True):
            code = StyleCode(vector, engine, identity, row["name"], {"tokens": part, "colours": own})
            found[row["name"]] = Preset(code, row["title"], row["credit"])
    except (EOFError, IndexError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"the presets cannot be understood: {error}; reinstall impasto") from error
    return found

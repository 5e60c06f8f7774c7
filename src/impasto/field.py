"""The style field: the one concept behind strength, mixing, regions and ramps.

A field is ``K`` style codes, each with a weight over the picture, ``w_k(x, y) >= 0`` and ``sum_k w_k <= 1``. What is
left to 1 is the content's own code. So

* strength is a constant weight below 1,
* mixing is several constant weights,
* a region is a mask, a soft border a feathered mask, a gradient a ramp,
* interpolation is a path of fields, straight or along the sphere (:func:`slerp`).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.checks import check_choice
from impasto.config import MIX_MODES
from impasto.errors import FieldError, OutputError
from impasto.types import FloatArray

__all__ = ["StyleCode", "StyleField", "StyleLayer", "blend_codes", "slerp"]

TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class StyleCode:
    """What an engine keeps of a style picture.

    Attributes:
        vector: ``[D]`` float32. All there is for engines driven by a vector; a short description for others.
        engine: the engine that made it; no other understands it.
        weights: first 16 digits of the SHA-256 of the weights that made it.
        name: for people: a preset's name or the file's.
        parts: what an engine keeps besides, by name: a picture, statistics, tokens.

    Raises:
        FieldError: a vector of another shape, or with NaN or infinity in it.
    """

    vector: FloatArray
    engine: str
    weights: str
    name: str = "style"
    parts: Mapping[str, NDArray[Any]] = dataclass_field(default_factory=dict)

    def __post_init__(self) -> None:
        if np.ndim(self.vector) != 1 or np.size(self.vector) == 0:
            raise FieldError(f"the code of '{self.name}' must be a vector [D], not {np.shape(self.vector)}")
        if not np.isfinite(self.vector).all():
            raise FieldError(f"the code of '{self.name}' holds NaN or infinity")

    @property
    def digest(self) -> str:
        """SHA-256 of vector and parts: tells whether two codes are the same."""
        known = hashlib.sha256(np.ascontiguousarray(self.vector, "<f4").tobytes())
        for name in sorted(self.parts):
            part = np.ascontiguousarray(self.parts[name])
            known.update(f"{name} {part.dtype.str} {part.shape}".encode())
            known.update(part.tobytes())
        return known.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the code as ``.npz`` (a kilobyte or so, and its parts).

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            with Path(path).open("wb") as handle:
                about = np.array([self.engine, self.weights, self.name])
                parts: dict[str, Any] = {f"part.{name}": part for name, part in self.parts.items()}
                np.savez(handle, vector=self.vector, about=about, **parts)
        except OSError as error:
            raise OutputError(f"cannot write the style code '{path}': {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path) -> StyleCode:
        """Read what :meth:`save` wrote.

        Raises:
            FieldError: the file is missing or holds no style code.
        """
        try:
            with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
                engine, weights, name = (str(item) for item in stored["about"])
                parts = {key.removeprefix("part."): stored[key] for key in stored.files if key.startswith("part.")}
                return cls(np.asarray(stored["vector"], np.float32), engine, weights, name, parts)
        except OSError as error:
            raise FieldError(f"the style code '{path}' cannot be read: {error.strerror or error}") from error
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise FieldError(f"'{path}' holds no style code: {error}") from error


@dataclass(frozen=True, eq=False)
class StyleLayer:
    """One code and its weight: a number, or a map ``[H, W]`` over the content."""

    code: StyleCode
    weight: float | FloatArray

    def __post_init__(self) -> None:
        weight = np.asarray(self.weight, np.float32)
        if weight.ndim not in (0, 2):
            raise FieldError(f"the weight of '{self.code.name}' must be a number or a map [H, W], not {weight.shape}")
        if not np.isfinite(weight).all():
            raise FieldError(f"the weight of '{self.code.name}' holds NaN or infinity")
        if weight.size == 0 or float(weight.min()) < 0:
            raise FieldError(f"the weight of '{self.code.name}' must not be negative or empty")


@dataclass(frozen=True, eq=False)
class StyleField:
    """Style codes with their weights; see the module's text.

    Raises:
        FieldError: weights that are negative, not finite, of different sizes, or that exceed 1 together.
    """

    layers: tuple[StyleLayer, ...]

    def __post_init__(self) -> None:
        sizes = {np.shape(layer.weight) for layer in self.layers if np.ndim(layer.weight)}
        if len(sizes) > 1:
            raise FieldError(f"the weight maps of a field must have one size, not {sorted(sizes)}")
        if self.layers and float(np.max(self.total)) > 1 + TOLERANCE:
            raise FieldError(f"the weights of a field add up to {float(np.max(self.total)):.3f}; they may not exceed 1")

    @classmethod
    def constant(cls, code: StyleCode, strength: float = 1.0) -> StyleField:
        """One style everywhere."""
        return cls((StyleLayer(code, strength),))

    @classmethod
    def mixed(
        cls, codes: Sequence[StyleCode], shares: Iterable[float] | None = None, strength: float = 1.0
    ) -> StyleField:
        """Several styles everywhere, ``shares`` scaled so that they sum to ``strength``."""
        weights = _normalised(codes, shares)
        return cls(tuple(StyleLayer(code, strength * share) for code, share in zip(codes, weights, strict=True)))

    @property
    def total(self) -> FloatArray:
        """Sum of the weights: a number ``[]`` or a map ``[H, W]``."""
        return np.asarray(
            sum((np.asarray(layer.weight, np.float32) for layer in self.layers), np.float32(0)), np.float32
        )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the weight maps, None when all weights are numbers."""
        for layer in self.layers:
            if np.ndim(layer.weight):
                height, width = np.shape(layer.weight)
                return int(height), int(width)
        return None

    def times(self, factor: float | FloatArray) -> StyleField:
        """All weights multiplied: by a strength, or by a mask ``[H, W]``.

        Raises:
            FieldError: a mask of another size than the field's maps, or a factor that lifts the weights above 1.
        """
        shape = np.shape(factor)
        if shape and (len(shape) != 2 or self.size not in (None, shape)):
            raise FieldError(f"a mask of {shape} does not fit the field's maps of {self.size} (height, width)")
        return StyleField(
            tuple(
                replace(layer, weight=_as_weight(np.asarray(layer.weight, np.float32) * np.asarray(factor, np.float32)))
                for layer in self.layers
            )
        )

    def __add__(self, other: StyleField) -> StyleField:
        """Both fields together; their weights may not exceed 1."""
        return StyleField(self.layers + other.layers)

    def window(self, top: int, left: int, height: int, width: int) -> StyleField:
        """The part of the field over a rectangle of the picture."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        return StyleField(
            tuple(
                replace(layer, weight=np.asarray(layer.weight)[rows, columns]) if np.ndim(layer.weight) else layer
                for layer in self.layers
            )
        )


def _as_weight(value: Any) -> float | FloatArray:
    array = np.asarray(value, np.float32)
    return float(array) if array.ndim == 0 else array


def _normalised(codes: Sequence[StyleCode], shares: Iterable[float] | None) -> list[float]:
    if not codes:
        raise FieldError("a field needs at least one style")
    values = [1.0] * len(codes) if shares is None else [float(share) for share in shares]
    if len(values) != len(codes):
        raise FieldError(f"{len(codes)} styles need {len(codes)} weights, not {len(values)}")
    if any(not np.isfinite(value) or value < 0 for value in values):
        raise FieldError(f"weights must be finite and not negative, not {values}")
    total = sum(values)
    if not 0 < total < np.inf:
        raise FieldError(f"the weights of the styles sum to {'zero' if total == 0 else 'infinity'}")
    return [value / total for value in values]


def slerp(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """Spherical interpolation (Shoemake 1985) of two vectors; ``share`` 0 gives the first, 1 the second.

    Lengths are interpolated linearly; vectors that are (nearly) parallel or opposite fall back to the straight line.
    """
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if min(lengths) == 0:
        return np.asarray((1 - share) * first + share * second, np.float32)
    cosine = float(np.clip(np.dot(first / lengths[0], second / lengths[1]), -1, 1))
    angle = float(np.arccos(cosine))
    if np.sin(angle) < 1e-4:
        return np.asarray((1 - share) * first + share * second, np.float32)
    direction = (
        np.sin((1 - share) * angle) * first / lengths[0] + np.sin(share * angle) * second / lengths[1]
    ) / np.sin(angle)
    return np.asarray(direction * ((1 - share) * lengths[0] + share * lengths[1]), np.float32)


def blend_codes(codes: Sequence[StyleCode], shares: Iterable[float] | None, *, mode: str = "linear") -> StyleCode:
    """One code between several: the weighted mean, or a chain of :func:`slerp` steps.

    Raises:
        FieldError: codes of different engines or weights, codes with parts, or shares that make no mean.
        UsageError: ``mode`` is neither ``linear`` nor ``slerp``.
    """
    check_choice("mode", mode, MIX_MODES)
    weights = _normalised(codes, shares)
    if len({(code.engine, code.weights) for code in codes}) > 1:
        raise FieldError("styles of different engines or weights cannot be blended")
    if any(code.parts for code in codes):
        raise FieldError(f"codes of {codes[0].engine} are more than vectors: mix them by weights instead")
    vector, used = codes[0].vector, weights[0]
    for code, weight in zip(codes[1:], weights[1:], strict=True):
        used += weight
        share = weight / used if used > 0 else 0.0
        if mode == "slerp":
            vector = slerp(vector, code.vector, share)
        else:
            vector = np.asarray((1 - share) * vector + share * code.vector, np.float32)
    name = " + ".join(f"{code.name} {weight:.2f}" for code, weight in zip(codes, weights, strict=True))
    return replace(codes[0], vector=vector, name=name)

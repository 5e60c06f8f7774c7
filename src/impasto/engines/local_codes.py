"""Codes of ``local`` that hold no picture: groups of a style's places, and the presets that come with the weights.

A code may keep, in place of the style picture, what groups of its places have in common:

* ``keys`` ``[K, D']``: the mean of their keys;
* ``means`` and ``deviations`` ``[K, C + C']``: of their values at ``relu4_1`` and ``relu3_1``, within the group;
* ``counts`` ``[K]``: how much of the style they are, sum 1;
* ``colours`` ``[K, 3]``: their mean colours, for explanations. As one vector they are the code's vector.

With the logarithms of the counts added to the logits, attention over groups is attention over all places as far as
places of one group have one key, and local deviations stay whole, because a group knows the mean squares of its values
(mean squared plus deviation squared). :mod:`impasto.training.local_presets` makes the groups.

The presets of all styles share one linear basis: what is stored of a group are whole-numbered coordinates.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.engines.base import Preset
from impasto.engines.local_graphs import Tokens
from impasto.errors import FieldError, WeightsError
from impasto.field import StyleCode
from impasto.types import FloatArray

__all__ = ["PARTS", "LocalPresets", "StoredPresets", "check_parts", "codes_of", "read_presets", "tokens_from"]

PARTS = ("keys", "means", "deviations", "counts", "colours")


def check_parts(code: StyleCode, *, keys: int, values: int) -> None:
    """A code without a picture holds groups of places.

    Args:
        code: the code.
        keys: ``D'``, length of a key.
        values: ``C + C'``, length of a mean.

    Raises:
        FieldError: it does not, or they do not fit each other or the network.
    """
    parts = code.parts
    if any(name not in parts for name in PARTS):
        raise FieldError(f"the style '{code.name}' holds no picture, which {code.engine} needs: encode it again")
    shapes = [parts[name].shape for name in PARTS]
    count = parts["counts"].size
    if count == 0 or shapes != [(count, keys), (count, values), (count, values), (count,), (count, 3)]:
        raise FieldError(
            f"the groups of places in the style '{code.name}' do not fit each other or the network, with keys of "
            f"{keys} and values of {values} numbers: {dict(zip(PARTS, shapes, strict=True))}"
        )
    if code.vector.size != 3 * count:
        raise FieldError(f"the style '{code.name}' has {code.vector.size} numbers, its {count} groups make {3 * count}")
    finite = all(np.isfinite(parts[name]).all() for name in PARTS[:4])
    if not finite or float(parts["counts"].min()) <= 0:
        raise FieldError(f"the groups of places in the style '{code.name}' hold NaN, infinity or empty groups")


def tokens_from(parts: Mapping[str, NDArray[Any]], channels: int) -> Tokens:
    """What the attention reads of groups of places; ``channels`` of ``relu4_1`` come first in their values."""
    means, deviations = (np.asarray(parts[name], np.float32) for name in ("means", "deviations"))
    squares = np.square(means) + np.square(deviations)
    values = [part[:, rows] for rows in (slice(channels), slice(channels, None)) for part in (means, squares)]
    log_counts = np.log(np.asarray(parts["counts"], np.float32))
    return Tokens(np.asarray(parts["keys"], np.float32), np.concatenate(values, axis=1), log_counts)


@dataclass(frozen=True)
class StoredPresets:
    """The file of presets, as arrays.

    Attributes:
        about: JSON: the weights they belong to, and of each preset ``name``, ``title``, ``credit`` and ``groups``.
        basis: ``[R, D' + 2 (C + C')]``: keys, means, deviations.
        centre: what all groups have in common, ``[D' + 2 (C + C')]``.
        steps: of each coordinate, ``[R]``.
        coordinates: whole numbers, ``[R, sum of the groups]``.
        counts: ``[sum of the groups]``.
        colours: ``[sum of the groups, 3]``.
        keys: ``D'``.
    """

    about: str
    basis: FloatArray
    centre: FloatArray
    steps: FloatArray
    coordinates: NDArray[np.int8]
    counts: FloatArray
    colours: NDArray[np.uint8]
    keys: int

    def packed(self) -> bytes:
        """As a file."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            about=np.frombuffer(self.about.encode(), np.uint8),
            basis=self.basis.astype(np.float16),
            centre=self.centre.astype(np.float16),
            steps=self.steps.astype(np.float32),
            coordinates=self.coordinates,
            counts=self.counts.astype(np.float16),
            colours=self.colours,
            keys=np.array(self.keys),
        )
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> StoredPresets:
        """What :meth:`packed` made.

        Raises:
            WeightsError: it cannot be understood.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                floats = {name: stored[name].astype(np.float32) for name in ("basis", "centre", "steps", "counts")}
                about = stored["about"].tobytes().decode()
                return cls(
                    about,
                    coordinates=stored["coordinates"],
                    colours=stored["colours"],
                    keys=int(stored["keys"]),
                    **floats,
                )
        except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise WeightsError(f"the presets cannot be understood: {error}; reinstall impasto") from error


class LocalPresets(Mapping[str, Preset]):
    """Presets by name; the code of each is unpacked when it is asked for."""

    def __init__(self, stored: StoredPresets | None, *, engine: str, identity: str) -> None:
        self._stored = stored
        self._engine = engine
        self._identity = identity
        self._rows = {} if stored is None else _rows(stored, identity)
        self._known: dict[str, Preset] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __getitem__(self, name: str) -> Preset:
        row = self._rows[name]
        if name not in self._known:
            self._known[name] = Preset(self._code(name, row["part"]), row["title"], row["credit"])
        return self._known[name]

    def _code(self, name: str, part: slice) -> StyleCode:
        stored = self._stored
        assert stored is not None
        steps = stored.coordinates[:, part].T * stored.steps  # [K, R]
        values = stored.centre + steps @ stored.basis
        half = (values.shape[1] - stored.keys) // 2
        keys, means, deviations = np.split(values, [stored.keys, stored.keys + half], axis=1)
        parts: dict[str, NDArray[Any]] = {
            "keys": keys.astype(np.float16),
            "means": means.astype(np.float16),
            "deviations": np.maximum(deviations, 0).astype(np.float16),
            "counts": stored.counts[part],
            "colours": stored.colours[part],
        }
        vector = np.asarray(stored.colours[part].reshape(-1), np.float32) / np.float32(255)
        return StyleCode(vector, self._engine, self._identity, name, parts)


def _rows(stored: StoredPresets, identity: str) -> dict[str, dict[str, Any]]:
    """Title and credit of each preset by name, and as ``part`` where its groups lie.

    Raises:
        WeightsError: the presets belong to other weights, or the file does not hold the groups that it names.
    """
    rows: dict[str, dict[str, Any]] = {}
    try:
        about = json.loads(stored.about)
        if about["weights"] != identity:
            raise WeightsError("the presets were made with other weights; reinstall impasto")
        end = 0
        for row in about["presets"]:
            begin, end = end, end + row["groups"]
            rows[row["name"]] = {key: row[key] for key in ("title", "credit")} | {"part": slice(begin, end)}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the presets cannot be understood: {error!r}; reinstall impasto") from error
    wanted = [(len(stored.steps), len(stored.centre)), (len(stored.steps), end), (end,), (end, 3)]
    found = [part.shape for part in (stored.basis, stored.coordinates, stored.counts, stored.colours)]
    if found != wanted:
        raise WeightsError(f"the presets cannot be understood: arrays of {found}, not {wanted}; reinstall impasto")
    return rows


class _Codes(Mapping[str, StyleCode]):
    """The codes of presets, by name."""

    def __init__(self, presets: LocalPresets) -> None:
        self._presets = presets

    def __len__(self) -> int:
        return len(self._presets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __getitem__(self, name: str) -> StyleCode:
        return self._presets[name].code


def codes_of(presets: LocalPresets) -> Mapping[str, StyleCode]:
    """The codes alone, unpacked when they are asked for."""
    return _Codes(presets)


def read_presets(content: bytes, *, engine: str, identity: str) -> LocalPresets:
    """The presets of a file, none of an empty one.

    Raises:
        WeightsError: it cannot be understood, or belongs to other weights.
    """
    stored = StoredPresets.unpacked(content) if content else None
    return LocalPresets(stored, engine=engine, identity=identity)

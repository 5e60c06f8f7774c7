"""Paintings of many styles by feed-forward engines, for the network of ``diffusion`` to learn from.

A crossed pair - one picture's content, another's style - has no picture that it should become. Engines that are there
already paint such pairs first (distillation, Hinton et al. 2015, arXiv:1503.02531), and the diffusion learns their
paintings as it learns pictures: by predicting them under noise. What it needs of an engine is that its style came
across; what it adds is a distribution about the painting, guidance, and fields within its attention.

Half of the pairs of an engine with presets are of its presets, whose artworks the styles of the training must hold.
Each painting is a file of the run's folder; what is there is not painted again.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState  # type: ignore[import-untyped]
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines.registry import ENGINES, engine_spec
from impasto.errors import TrainingError, UsageError
from impasto.field import StyleField
from impasto.stylizer import Stylizer
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.distill import Painting, claim_paintings, is_whole, painting_file, write_painting
from impasto.training.presets import PresetEntry, preset_table

__all__ = ["PaintedStyles", "PaintingPlan", "paint_styles"]

_DRAWS = zlib.crc32(b"painted in many styles")
PRESETS = 0.5  # part of the paintings that are of presets
LEAST, MOST = 0.85, 1.0  # side of a photograph's crop, in parts of its short side


@dataclass(frozen=True)
class PaintingPlan:
    """What is to be painted.

    Attributes:
        painters: engines, in turn; one that is there twice paints twice as many.
        count: paintings in all.
        side: of each, in pixels.
        seed: chooses photographs and styles.

    Raises:
        UnknownNameError: there is no such engine.
        UsageError: no engine, one that takes no picture as a style, no paintings, or a side below 64 px.
    """

    painters: tuple[str, ...]
    count: int
    side: int
    seed: int

    def __post_init__(self) -> None:
        if not self.painters or self.count < 1 or self.side < 64:
            raise UsageError("paintings need an engine, a number of 1 or more and a side of 64 px or more")
        for name in self.painters:
            if not engine_spec(name).capabilities.pictures:
                able = ", ".join(known for known, spec in ENGINES.items() if spec.capabilities.pictures)
                raise UsageError(f"the engine '{name}' takes no picture as a style; learn from {able}")


@dataclass(frozen=True)
class _Order:
    """One painting: the engine, a preset or nothing, and the number of the artwork that shows the style."""

    painter: str
    preset: str | None
    artwork: int


class PaintedStyles:
    """Photographs beside paintings, and which artwork shows the style of each.

    Args:
        folder: the files that :func:`paint_styles` wrote.
        artworks: of every painting, a number in the styles of the training.
    """

    def __init__(self, folder: Path, artworks: Sequence[int]) -> None:
        self.pictures = PictureSet([folder])
        self.artworks = list(artworks)
        if len(self.pictures) < len(self.artworks):
            raise TrainingError(f"'{folder}' holds {len(self.pictures)} paintings of {len(self.artworks)}")

    def __len__(self) -> int:
        return len(self.artworks)

    def window(self, rng: np.random.Generator, size: int) -> tuple[PixelArray, PixelArray, int]:
        """A random window of a random pair, at the same place in both and mirrored half of the time.

        Returns:
            Photograph and painting, ``[3, size, size]`` uint8 each, and the number of the style's artwork.
        """
        index = int(rng.integers(len(self)))
        both = self.pictures.picture(index)
        side = both.shape[0]
        top, left = (int(v) for v in rng.integers(0, side - size + 1, size=2))
        step = -1 if rng.random() < 0.5 else 1
        cut = [half[top : top + size, left : left + size][:, ::step] for half in (both[:, :side], both[:, side:])]
        content, painting = (np.ascontiguousarray(part.transpose(2, 0, 1)) for part in cut)
        return content, painting, self.artworks[index]


def paint_styles(
    plan: PaintingPlan,
    contents: PictureSet,
    artworks: PictureSet,
    out: Path,
    *,
    on_paint: Callable[[Painting], None] | None = None,
) -> PaintedStyles:
    """Let engines paint what is not yet there, and give all of it.

    Files lie in ``out/paintings/KEY``; the key stands for everything that decides them (``settings.json``). Several
    processes share the work.

    Args:
        plan: what is painted.
        contents: photographs.
        artworks: styles, drawn by their weights.
        out: the run's folder.
        on_paint: hears how far it is, in the main process, first before anything is painted.

    Raises:
        MissingExtraError: packages that an engine needs are not installed.
        TrainingError: a picture cannot be read.
        UsageError: the folder holds a training that learned from other paintings.
        WeightsError: an engine's weights are missing or damaged.
        OutputError: the folder cannot be written.
    """
    stylizers = {name: Stylizer.load(name) for name in plan.painters}
    entries = _known_presets(artworks)
    orders = [_order(plan, number, stylizers, entries, artworks) for number in range(plan.count)]
    folder = claim_paintings(out, _facts(plan, stylizers, entries, contents, artworks))
    state = PartialState()
    own = range(state.process_index, plan.count, state.num_processes)
    missing = [number for number in own if not is_whole(painting_file(folder, number), plan.side)]
    report, names = on_paint if state.is_main_process else None, ", ".join(stylizers)
    if missing and report is not None:
        seconds = _seconds(plan, stylizers) * len(missing)
        report(Painting(names, len(own) - len(missing), len(own), plan.side, seconds))
    begun = time.monotonic()
    for position, number in enumerate(missing, start=1):
        rng = np.random.default_rng([plan.seed, number, _DRAWS, 1])
        content = contents.crops(rng, 1, CropRule(plan.side, LEAST, MOST))[0].transpose(1, 2, 0)
        painting = _painted(stylizers, orders[number], artworks, np.ascontiguousarray(content))
        write_painting(painting_file(folder, number), np.concatenate([content, painting], axis=1))
        if report is not None:
            left = len(missing) - position
            seconds = (time.monotonic() - begun) / position * left
            report(Painting(names, len(own) - left, len(own), plan.side, seconds))
    state.wait_for_everyone()
    return PaintedStyles(folder, [order.artwork for order in orders])


def _known_presets(artworks: PictureSet) -> list[PresetEntry]:
    """Presets of the packaged table all of whose artworks are there."""
    names = set(artworks.names)
    return [entry for entry in preset_table() if names.issuperset(entry.files)]


def _order(
    plan: PaintingPlan,
    number: int,
    stylizers: dict[str, Stylizer],
    entries: Sequence[PresetEntry],
    artworks: PictureSet,
) -> _Order:
    """Painting ``number``: a function of plan, styles and number."""
    rng = np.random.default_rng([plan.seed, number, _DRAWS])
    painter = plan.painters[number % len(plan.painters)]
    known = stylizers[painter].engine.presets()
    usable = [entry for entry in entries if entry.name in known]
    if usable and rng.random() < PRESETS:
        entry = usable[int(rng.integers(len(usable)))]
        file = entry.files[int(rng.integers(len(entry.files)))]
        return _Order(painter, entry.name, artworks.names.index(file))
    return _Order(painter, None, int(rng.choice(len(artworks), p=artworks.chance)))


def _painted(stylizers: dict[str, Stylizer], order: _Order, artworks: PictureSet, content: PixelArray) -> PixelArray:
    """``[side, side, 3]`` uint8 to the same shape."""
    stylizer = stylizers[order.painter]
    code = stylizer.encode(Image.fromarray(artworks.picture(order.artwork)) if order.preset is None else order.preset)
    return np.asarray(stylizer.render(content, StyleField.constant(code), StylizeConfig()).stored, np.uint8)


def _seconds(plan: PaintingPlan, stylizers: dict[str, Stylizer]) -> float:
    """How long a painting takes on average, as the engines estimate it."""
    blank = Image.new("RGB", (plan.side, plan.side))
    found = []
    for name in plan.painters:
        field = StyleField.constant(stylizers[name].encode(blank))
        found.append(stylizers[name].estimate(blank, field).seconds)
    return float(np.mean(found))


def _facts(
    plan: PaintingPlan,
    stylizers: dict[str, Stylizer],
    entries: Sequence[PresetEntry],
    contents: PictureSet,
    artworks: PictureSet,
) -> dict[str, Any]:
    """What decides the paintings besides their number: more of them may be wanted later."""
    painters = [
        [name, stylizers[name].engine.identity, sorted(stylizers[name].engine.presets())] for name in plan.painters
    ]
    pictures = {
        kind: hashlib.sha256(
            "\n".join(found.names).encode("utf-8", "surrogateescape") + found.chance.tobytes()
        ).hexdigest()
        for kind, found in (("contents", contents), ("artworks", artworks))
    }
    return {
        "painters": painters,
        "presets": [[entry.name, *entry.files] for entry in entries],
        "share_of_presets": PRESETS,
        "settings": asdict(StylizeConfig()),
        "crops": {"side": plan.side, "smallest": LEAST, "largest": MOST, "seed": plan.seed},
        "pictures_sha256": pictures,
    }

"""Distillation: a small network of one style learns from the paintings of a larger engine.

Hinton, Vinyals & Dean 2015 ("Distilling the knowledge in a neural network", arXiv:1503.02531): a small model learns
from the outputs of a large one, along with the objective that it would have had alone (section 2). Here the outputs
are paintings. For a photograph ``x``, its painting ``t`` by the engine and ``y`` by the student,

    L = L_style(y, x) + a |y - t|_1 + b mean_l |(phi_l(y) - phi_l(t)) / sigma_l|^2

with ``L_style`` the objective of :mod:`impasto.training.johnson`, ``phi_l`` the style layers of its encoder and
``sigma_l`` how loud their channels are. The last term is the reason why a network of a tenth of the size can learn what
an optimiser needs minutes for: it compares place by place, not statistics. That small networks of style transfer learn
well beside a large one was shown by Wang et al. 2020 ("Collaborative distillation for ultra-resolution universal style
transfer", arXiv:2003.08436), who compress an encoder; here the student is another, feed-forward architecture.

The engine paints first, all crops of the training, into the run's folder. Each painting is a file; what is there is not
painted again.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from PIL import Image
from torch import Tensor, nn

from impasto.config import StylizeConfig
from impasto.engines.registry import ENGINES, engine_options, engine_spec
from impasto.errors import OutputError, UsageError
from impasto.field import StyleField
from impasto.nets.teachers import Teacher
from impasto.stylizer import Stylizer
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.johnson import JohnsonTask, Judge
from impasto.training.loop import Batch
from impasto.training.recipe import DistillRecipe, DistillWeights, JohnsonWeights

__all__ = [
    "DistillTask",
    "PaintedPairs",
    "Painter",
    "Painting",
    "claim_paintings",
    "is_whole",
    "paint_pairs",
    "painting_file",
    "write_painting",
]

_DRAWS = zlib.crc32(b"painted by a larger engine")


@dataclass(frozen=True)
class Painting:
    """How far the engine is; handed to a callback before the first painting and after each.

    Attributes:
        engine: its name.
        done: paintings that are there.
        count: paintings in all.
        side: of each, in pixels.
        seconds: how long the others will take; an estimate at first, measured later.
    """

    engine: str
    done: int
    count: int
    side: int
    seconds: float


class Painter:
    """A larger engine with one style.

    Args:
        engine: its name.
        style: the style picture.
        config: its settings.

    Attributes:
        facts: everything that decides its paintings, ready for JSON.

    Raises:
        UnknownNameError: there is no such engine.
        UsageError: an engine that takes no picture as a style, or an option that it does not have.
        MissingExtraError: packages that it needs are not installed.
        ImageError: the style cannot be read.
    """

    def __init__(self, engine: str, style: Path, config: StylizeConfig) -> None:
        if not engine_spec(engine).capabilities.pictures:
            able = ", ".join(name for name, spec in ENGINES.items() if spec.capabilities.pictures)
            raise UsageError(
                f"the engine '{engine}' paints with styles that were trained before, not with the picture '{style}'; "
                f"learn from one of {able}"
            )
        engine_options(engine, config.options)
        self.engine = engine
        self.config = config
        self.stylizer = Stylizer.load(engine)
        self.code = self.stylizer.encode(style, config=config)
        self.facts: dict[str, Any] = {
            "engine": engine,
            "identity": self.stylizer.engine.identity,
            "style_sha256": hashlib.sha256(style.read_bytes()).hexdigest(),
            "settings": asdict(config) | {"options": {key: str(value) for key, value in config.options.items()}},
        }

    def seconds(self, side: int) -> float:
        """How long one painting of ``side`` by ``side`` pixels will take, before the first."""
        blank = np.zeros((side, side, 3), np.uint8)
        return self.stylizer.estimate(Image.fromarray(blank), StyleField.constant(self.code), self.config).seconds

    def paint(self, content: PixelArray) -> PixelArray:
        """The painting of a photograph ``[H, W, 3]`` uint8, of the same shape."""
        return np.asarray(self.stylizer.render(content, StyleField.constant(self.code), self.config).stored, np.uint8)


class PaintedPairs:
    """Crops of photographs beside what the engine made of them.

    Args:
        folder: the files that :func:`paint_pairs` wrote.
        count: how many of them.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.pictures = PictureSet([folder])
        self.count = count

    def __len__(self) -> int:
        return self.count

    def pair(self, index: int) -> tuple[PixelArray, PixelArray]:
        """The crop and its painting, each ``[side, side, 3]`` uint8."""
        both = self.pictures.picture(index)
        side = both.shape[0]
        return both[:, :side], both[:, side:]

    def windows(self, rng: np.random.Generator, count: int, size: int) -> tuple[PixelArray, PixelArray]:
        """Random windows of random pairs, at the same place in both: twice ``[count, 3, size, size]``.

        They are neither scaled nor mirrored: strokes have a length and a direction.
        """
        contents: list[PixelArray] = []
        paintings: list[PixelArray] = []
        for index in rng.integers(len(self), size=count):
            content, painting = self.pair(int(index))
            top, left = (int(v) for v in rng.integers(0, content.shape[0] - size + 1, size=2))
            for found, whole in ((contents, content), (paintings, painting)):
                found.append(whole[top : top + size, left : left + size].transpose(2, 0, 1))
        return np.stack(contents), np.stack(paintings)


def paint_pairs(
    painter: Painter,
    contents: PictureSet,
    recipe: DistillRecipe,
    out: Path,
    *,
    on_paint: Callable[[Painting], None] | None = None,
) -> PaintedPairs:
    """Let the engine paint the crops that are not yet there, and give all of them.

    Files lie in ``out/paintings/KEY``, where the key stands for everything that decides them (written down in
    ``settings.json``): other settings get another folder. Several processes share the work.

    Args:
        painter: the engine.
        contents: photographs.
        recipe: number and side of the crops, and the seed that chooses them.
        out: the run's folder.
        on_paint: hears how far it is, in the main process, first before anything is painted.

    Raises:
        UsageError: the folder holds the training of a student of another engine, or of other settings.
        OutputError: the folder cannot be written.
    """
    side, count = recipe.data.side, recipe.data.pictures
    folder = claim_paintings(out, _facts(painter, contents, recipe))
    state = PartialState()
    own = range(state.process_index, count, state.num_processes)
    missing = [number for number in own if not is_whole(painting_file(folder, number), side)]
    report = on_paint if state.is_main_process else None
    if missing and report is not None:
        report(Painting(painter.engine, len(own) - len(missing), len(own), side, painter.seconds(side) * len(missing)))
    begun = time.monotonic()
    for position, number in enumerate(missing, start=1):
        crop = _crop(contents, recipe, number)
        write_painting(painting_file(folder, number), np.concatenate([crop, painter.paint(crop)], axis=1))
        if report is not None:
            left = len(missing) - position
            seconds = (time.monotonic() - begun) / position * left
            report(Painting(painter.engine, len(own) - left, len(own), side, seconds))
    state.wait_for_everyone()
    return PaintedPairs(folder, count)


def _facts(painter: Painter, contents: PictureSet, recipe: DistillRecipe) -> dict[str, Any]:
    """What decides the paintings besides their number: more of them may be wanted later."""
    names = hashlib.sha256("\n".join(contents.names).encode("utf-8", "surrogateescape")).hexdigest()
    data = recipe.data
    crops = {"side": data.side, "smallest": data.content_smallest, "largest": data.content_largest, "seed": recipe.seed}
    return painter.facts | {"crops": crops, "contents_sha256": names}


def claim_paintings(out: Path, facts: Mapping[str, Any]) -> Path:
    """The folder of the paintings that ``facts`` decide; a training that has begun keeps those that it began with.

    Args:
        out: the run's folder.
        facts: all that decides the paintings besides their number, ready for JSON.

    Raises:
        UsageError: the folder holds a training that learned from other paintings.
        OutputError: the folder cannot be written.
    """
    text = json.dumps(facts, indent=1, sort_keys=True)
    folder = out / "paintings" / hashlib.sha256(text.encode()).hexdigest()[:12]
    chosen = out / "engine.json"
    try:
        known = chosen.read_text(encoding="utf-8") if chosen.is_file() else ""
        if known not in ("", text) and (out / "checkpoints").is_dir():
            raise UsageError(
                f"'{out}' holds a training that learned from other paintings (see '{chosen}'); "
                "choose another --out, or go on with the same engines, settings, pictures and seed"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / "settings.json", chosen):
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to the folder '{out}': {error.strerror or error}") from error
    return folder


def painting_file(folder: Path, number: int) -> Path:
    """Where a painting lies, beside the photograph."""
    return folder / f"{number:06d}.png"  # in the order of their names


def is_whole(path: Path, side: int) -> bool:
    """Whether the file is there and can be read to its end; a damaged one is painted again."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened.size == (2 * side, side)
    except (OSError, SyntaxError, ValueError):
        return False


def _crop(contents: PictureSet, recipe: DistillRecipe, number: int) -> PixelArray:
    """Crop ``number``, ``[side, side, 3]``: a function of seed, photographs and number."""
    rng = np.random.default_rng([recipe.seed, number, _DRAWS])
    rule = CropRule(recipe.data.side, recipe.data.content_smallest, recipe.data.content_largest)
    return np.ascontiguousarray(contents.crops(rng, 1, rule)[0].transpose(1, 2, 0))


def write_painting(path: Path, pixels: PixelArray) -> None:
    """Write ``[side, 2 side, 3]``, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        Image.fromarray(pixels).save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write the painting '{path}': {error.strerror or error}") from error


class DistillTask(JohnsonTask):
    """The :class:`~impasto.training.loop.Task` of a student.

    Args:
        recipe: everything that decides the training.
        contents: photographs, for the calibration of the encoders and the sample sheets.
        style: see :class:`~impasto.training.johnson.JohnsonTask`.
        teachers: likewise.
        pairs: what the engine painted.
        shown: photographs for the sample sheets.
    """

    def __init__(
        self,
        recipe: DistillRecipe,
        contents: PictureSet,
        style: PixelArray,
        teachers: Sequence[Teacher],
        pairs: PaintedPairs,
        shown: Sequence[PixelArray] = (),
    ) -> None:
        super().__init__(recipe, contents, style, teachers, shown)
        self.pairs = pairs
        self.distillation = recipe

    def batch(self, step: int, index: int) -> Batch:
        """Photographs and their paintings, each ``[B, 3, size, size]``, uint8."""
        stage = self.recipe.stage_at(step)
        rng = np.random.default_rng([self.recipe.seed, index])
        contents, paintings = self.pairs.windows(rng, stage.batch, stage.size)
        return {"content": contents, "painting": paintings}

    def terms(self, model: nn.Module, shown: Mapping[str, Tensor], painted: Tensor, step: int) -> dict[str, Tensor]:
        """Those of one style, and ``imitation``."""
        found = super().terms(model, shown, painted, step)
        weight = self.distillation.weights_at(step).imitation
        return found | {"imitation": weight * (painted - shown["painting"]).abs().mean()}

    def feature_terms(
        self, judge: Judge, maps: Mapping[str, Tensor], shown: Mapping[str, Tensor], weights: JohnsonWeights
    ) -> dict[str, Tensor]:
        """``likeness``: mean over the style layers, each channel in units of its loudness."""
        if not isinstance(weights, DistillWeights) or weights.likeness == 0:
            return {}
        layers = judge.teacher.spec.style_layers
        with torch.no_grad():
            wanted = judge.teacher(shown["painting"], layers)
        parts = [
            ((maps[name].float() - wanted[name].float()) / judge.scales[name][:, None, None]).square().mean()
            for name in layers
        ]
        return {"likeness": weights.likeness * torch.stack(parts).mean()}

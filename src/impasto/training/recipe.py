"""Training recipes: frozen dataclasses, read from TOML. Every default of a training stands here and nowhere else."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.errors import UsageError
from impasto.nets.adain import AdaInConfig
from impasto.nets.brush import BrushConfig
from impasto.nets.johnson import JohnsonConfig
from impasto.nets.lens import LensConfig
from impasto.nets.local import LocalConfig
from impasto.nets.mobile import MobileConfig

__all__ = [
    "AdaInRecipe",
    "AdaInWeights",
    "BrushData",
    "BrushRecipe",
    "DataConfig",
    "DistillData",
    "DistillRecipe",
    "DistillWeights",
    "JohnsonData",
    "JohnsonRecipe",
    "JohnsonWeights",
    "LensData",
    "LensRecipe",
    "LensWeights",
    "LocalData",
    "LocalRecipe",
    "LocalWeights",
    "LossWeights",
    "MobileRecipe",
    "ScheduleConfig",
    "Stage",
    "TrainingRecipe",
    "data_rules",
    "load_recipe",
    "read_recipe",
    "recipe_to_toml",
    "toml_literal",
]


@dataclass(frozen=True)
class ScheduleConfig:
    """How the optimiser runs.

    Attributes:
        learning_rate: Adam's step size on the plateau.
        warmup: steps over which it rises linearly from 0.
        decay: part of all steps, at the end, over which it falls linearly to ``floor`` of the plateau.
        floor: see ``decay``.
        beta2: Adam's second moment.
        clip: largest gradient norm; 0 switches clipping off.
        accumulation: micro-batches per step.
        ema: decay of the exponential moving average of the weights; the average is what ships.
        precision: ``no``, ``fp16`` or ``bf16`` (automatic mixed precision of accelerate).
        checkpointing: recompute the painter's activations in the backward pass to save memory.
        checkpoint_every: steps between two resumable checkpoints.
        keep: how many checkpoints stay.
        sheet_every: steps between two sample sheets.
        log_every: steps between two lines of the log.
        plateau_factor: by how much the learning rate is multiplied when the total loss stops falling (torch's
            ``ReduceLROnPlateau``); 1 switches it off.
        plateau_window: steps whose mean loss counts as one reading.
        plateau_patience: readings without a new best that are borne.
        plateau_threshold: part of the best reading by which a new best must be lower.
        plateau_after: steps before the first reading, such as those in which weights of the objective still rise.
    """

    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.3
    floor: float = 0.02
    beta2: float = 0.99
    clip: float = 1.0
    accumulation: int = 1
    ema: float = 0.998
    precision: str = "no"
    checkpointing: bool = False
    checkpoint_every: int = 500
    keep: int = 2
    sheet_every: int = 1000
    log_every: int = 50
    plateau_factor: float = 1.0
    plateau_window: int = 50
    plateau_patience: int = 4
    plateau_threshold: float = 0.002
    plateau_after: int = 0


@dataclass(frozen=True)
class DataConfig:
    """What a crop shows; sides are parts of the picture's short side.

    Attributes:
        content_smallest: smallest content crop.
        content_largest: largest content crop.
        style_smallest: smallest style crop.
        style_largest: largest style crop.
        style_jitter: HSV jitter of styles (hue turn as a part of the circle).
        art_as_content: part of the content crops that are taken from artworks.
        own_pairs: pairs of each batch whose style is the content itself (identity).
        hard_negatives: part of the batches whose styles all come from crops of similar colour, so that the contrast
            loss must look at strokes; 0 for none.
    """

    content_smallest: float = 0.5
    content_largest: float = 1.0
    style_smallest: float = 0.4
    style_largest: float = 1.0
    style_jitter: float = 0.0
    art_as_content: float = 0.1
    own_pairs: int = 1
    hard_negatives: float = 0.0


@dataclass(frozen=True)
class BrushData(DataConfig):
    """What a crop shows in a training of ``brush``.

    Attributes:
        presets: pairs of each batch whose style is one of the table of presets: a part of its artwork is encoded, the
            statistics of all of it are wanted. A few styles that come again and again are learned far better than
            thousands that are seen once (Dumoulin et al. 2017, arXiv:1610.07629).
        indexed: part of those pairs in which the preset's reserved number is set; in the others the encoder alone says
            which style it is.
        style_side: side of the style crops in pixels; 0 for that of the contents.
        spread: pictures by which a new training spreads the codes first, half of them artworks
            (:func:`~impasto.nets.brush.spread_codes`); 0 for not.
    """

    spread: int = 0
    presets: int = 0
    indexed: float = 0.8
    style_side: int = 0


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the objective.

    Attributes:
        content: instance-normalised features of the content, deep ones: what there is.
        detail: the same of the deepest layer at a quarter of the size: where its edges are.
        style: moments and Gram matrices.
        gram: the Gram part within ``style``.
        coarse: style once more at half size, for longer strokes.
        encoded: factor of ``style`` and ``coarse`` where no reserved number says which style it is. What a network can
            not tell apart it paints with one mark for all; less weight keeps that mark small.
        color: distribution of colours, by sliced Wasserstein distance at a quarter of the size.
        identity: own pairs come back unchanged, in pixels.
        contrast: own style nearer than the batch's others.
        stability: small shifts and noise change nothing; computed every ``stability_every`` steps.
        stability_every: see ``stability``.
        variation: total variation.
        range: values outside of ``[0, 1]``.
        calm: total variation where the photograph is flat.
        grid: a pattern of the network's own 8 pixels there.
        judges: how many of the teachers judge a step, in turn, which costs less and asks the same in the long run; 0
            for all of them.
    """

    content: float = 1.0
    detail: float = 0.0
    style: float = 4.0
    gram: float = 1.0
    coarse: float = 0.5
    encoded: float = 1.0
    color: float = 0.0
    identity: float = 4.0
    contrast: float = 0.2
    stability: float = 4.0
    stability_every: int = 4
    variation: float = 0.3
    range: float = 2.0
    calm: float = 0.0
    grid: float = 0.0
    judges: int = 0


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one resolution.

    Attributes:
        steps: optimiser steps.
        batch: pairs per step.
        size: side of the crops, a multiple of 8.
        losses: weights that differ from the recipe's, by name.
    """

    steps: int = 1000
    batch: int = 6
    size: int = 192
    losses: dict[str, float] = field(default_factory=dict)


Rule = tuple[str, Any, str, bool]
"""A key of a recipe, its value, what is wanted, and whether that holds."""


Weights = typing.TypeVar("Weights")


@dataclass(frozen=True)
class TrainingRecipe(typing.Generic[Weights]):
    """What all recipes have: a name, a seed, the optimiser's schedule and the stages.

    A recipe has the sections ``network``, ``schedule``, ``data`` and ``losses`` and a list of ``stages``; a stage may
    change the weights of the losses.
    """

    name: str = ""
    seed: int = 0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    losses: Weights = None  # type: ignore[assignment]  # every recipe has its own
    stages: tuple[Stage, ...] = (Stage(),)

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that step ``step`` (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def weights_at(self, step: int) -> Weights:
        """Loss weights at step ``step``: the recipe's, with the stage's own on top."""
        changed: dict[str, Any] = dict(self.stage_at(step).losses)
        return dataclasses.replace(self.losses, **changed)  # type: ignore[type-var]

    def rules(self) -> list[Rule]:
        """What must hold besides types and the rules of all recipes."""
        return []


@dataclass(frozen=True)
class BrushRecipe(TrainingRecipe[LossWeights]):
    """Everything that decides a training of ``brush``, apart from where the pictures lie."""

    name: str = "brush"
    network: BrushConfig = field(default_factory=BrushConfig)
    data: BrushData = field(default_factory=BrushData)
    losses: LossWeights = field(default_factory=LossWeights)

    def rules(self) -> list[Rule]:
        """Ranges of the data, and of a loss that is not computed every step."""
        data, found = self.data, data_rules(self.data)
        side, reserved = data.style_side, self.network.reserved
        found += [
            ("network.reserved", reserved, "0 or more", reserved >= 0),
            ("data.presets", data.presets, "0 or more", data.presets >= 0),
            ("data.spread", data.spread, "0, or 16 and more", data.spread == 0 or data.spread >= 16),
            ("data.indexed", data.indexed, "from 0 to 1", 0 <= data.indexed <= 1),
            ("data.style_side", side, "0, or 32 and more", side == 0 or side >= 32),
        ]
        for stage in self.stages:
            fits = data.presets == 0 or data.presets + data.own_pairs < stage.batch
            wanted = (
                f"together with own_pairs, less than the batch of {stage.batch}, so that other artworks are shown too"
            )
            found.append(("data.presets", data.presets, wanted, fits))
            losses = dataclasses.replace(self.losses, **typing.cast("dict[str, Any]", stage.losses))
            every, judges = losses.stability_every, losses.judges
            found.append(("losses.stability_every", every, "1 or more", every >= 1))
            found.append(("losses.judges", judges, "0 or more", judges >= 0))
        return found


def data_rules(data: DataConfig) -> list[Rule]:
    """Ranges of :class:`DataConfig`."""
    found: list[Rule] = [
        ("data.art_as_content", data.art_as_content, "from 0 to 1", 0 <= data.art_as_content <= 1),
        ("data.own_pairs", data.own_pairs, "0 or more", data.own_pairs >= 0),
    ]
    for kind in ("content", "style"):
        least, most = getattr(data, f"{kind}_smallest"), getattr(data, f"{kind}_largest")
        found.append(
            (f"data.{kind}_smallest", least, f"above 0 and up to {kind}_largest, 1 at most", 0 < least <= most <= 1)
        )
    return found


@dataclass(frozen=True)
class LensData:
    """What a crop shows.

    Attributes:
        art: part of the crops that are taken from artworks, the others from photographs.
        smallest: smallest side of a crop, as a part of the picture's short side.
        largest: largest side, likewise.
        jitter: HSV jitter.
        grey: part of the crops without colour.
    """

    art: float = 0.5
    smallest: float = 0.35
    largest: float = 1.0
    jitter: float = 0.05
    grey: float = 0.05


@dataclass(frozen=True)
class LensWeights:
    """Weight of each term of the distillation.

    Attributes:
        features: standardised feature regression, mean over all layers of all teachers.
        gram: agreement of the Gram matrices of predicted and true features, mean over all layers.
    """

    features: float = 1.0
    gram: float = 0.2


@dataclass(frozen=True)
class LensRecipe(TrainingRecipe[LensWeights]):
    """Everything that decides a training of ``lens``, apart from where the pictures lie."""

    name: str = "lens"
    network: LensConfig = field(default_factory=LensConfig)
    data: LensData = field(default_factory=LensData)
    losses: LensWeights = field(default_factory=LensWeights)

    def rules(self) -> list[Rule]:
        """Ranges of the data."""
        data = self.data
        return [
            ("data.art", data.art, "from 0 to 1", 0 <= data.art <= 1),
            ("data.grey", data.grey, "from 0 to 1", 0 <= data.grey <= 1),
            ("data.jitter", data.jitter, "from 0 to 0.5", 0 <= data.jitter <= 0.5),
            ("data.smallest", data.smallest, "above 0, largest and 1 at most", 0 < data.smallest <= data.largest <= 1),
        ]


@dataclass(frozen=True)
class MobileRecipe(LensRecipe):
    """Everything that decides a training of ``mobile``, apart from its teacher and where the pictures lie."""

    name: str = "mobile"
    network: MobileConfig = field(default_factory=MobileConfig)  # type: ignore[assignment]


@dataclass(frozen=True)
class AdaInWeights:
    """Weight of each term of the decoder's training.

    Attributes:
        content: the painting's features against those that were decoded (eq. 12 of Huang & Belongie 2017).
        style: moments over the encoder's layers (eq. 13) and centred Gram matrices, each relative to the target's.
        gram: the Gram part within ``style``.
        identity: features of a photograph that were not changed decode to it, in pixels.
        variation: total variation.
        range: values outside of ``[0, 1]``.
    """

    content: float = 1.0
    style: float = 4.0
    gram: float = 1.0
    identity: float = 2.0
    variation: float = 0.1
    range: float = 2.0


@dataclass(frozen=True)
class AdaInRecipe(TrainingRecipe[AdaInWeights]):
    """Everything that decides a training of the decoder of ``adain``, apart from where the pictures lie."""

    name: str = "adain"
    network: AdaInConfig = field(default_factory=AdaInConfig)
    data: DataConfig = field(default_factory=DataConfig)
    losses: AdaInWeights = field(default_factory=AdaInWeights)

    def rules(self) -> list[Rule]:
        """Ranges of the data."""
        return data_rules(self.data)


@dataclass(frozen=True)
class LocalData(DataConfig):
    """What a crop shows, and which part of it is painted.

    Attributes:
        style_scale: side of a style's crop, in parts of the content's: a style is seen larger, so that it has more
            places to choose from.
        full_masks: part of the samples that are painted everywhere.
        photo_masks: part of the others whose mask belongs to the photograph, where such photographs are given; the
            rest are made up.
    """

    style_scale: float = 1.25
    full_masks: float = 0.4
    photo_masks: float = 0.4


@dataclass(frozen=True)
class LocalWeights:
    """Weight of each term of the training of ``local``.

    Attributes:
        content: instance-normalised features of the content, inside the mask.
        style: moments and Gram matrices, inside the mask.
        gram: the Gram part within ``style``.
        local: the painting's features against attention without learned projections (eq. 8 of Liu et al. 2021).
        identity: a picture in its own style comes back, in pixels; computed every ``identity_every`` steps.
        identity_every: see ``identity``.
        outside: outside the mask the painting is the photograph.
        seam: gradient that the mask's edge adds.
        variation: total variation.
        range: values outside of ``[0, 1]``.
        style_warmup: steps over which ``style`` rises to its value.
        style_levels: in how many equal steps it rises.
    """

    content: float = 1.0
    style: float = 4.0
    gram: float = 1.0
    local: float = 3.0
    identity: float = 4.0
    identity_every: int = 2
    outside: float = 4.0
    seam: float = 1.0
    variation: float = 0.2
    range: float = 2.0
    style_warmup: int = 300
    style_levels: int = 5


@dataclass(frozen=True)
class LocalRecipe(TrainingRecipe[LocalWeights]):
    """Everything that decides a training of ``local``, apart from its encoder and where the pictures lie."""

    name: str = "local"
    network: LocalConfig = field(default_factory=LocalConfig)
    data: LocalData = field(default_factory=LocalData)
    losses: LocalWeights = field(default_factory=LocalWeights)

    def weights_at(self, step: int) -> LocalWeights:
        """Loss weights at step ``step``: the recipe's, the stage's own on top, with as much of the style as is due."""
        weights = super().weights_at(step)
        if step >= weights.style_warmup:
            return weights
        level = step * weights.style_levels // weights.style_warmup + 1
        return dataclasses.replace(weights, style=weights.style * level / weights.style_levels)

    def rules(self) -> list[Rule]:
        """Ranges of the data, and of what is counted in steps."""
        data = self.data
        found = data_rules(data)
        found += [
            ("data.style_scale", data.style_scale, "from 0.5 to 4", 0.5 <= data.style_scale <= 4),
            ("data.full_masks", data.full_masks, "from 0 to 1", 0 <= data.full_masks <= 1),
            ("data.photo_masks", data.photo_masks, "from 0 to 1", 0 <= data.photo_masks <= 1),
        ]
        for number, stage in enumerate(self.stages):
            losses = dataclasses.replace(self.losses, **typing.cast("dict[str, Any]", stage.losses))
            for key in ("identity_every", "style_levels"):
                found.append((f"losses.{key}", getattr(losses, key), "1 or more", getattr(losses, key) >= 1))
            found.append(("losses.style_warmup", losses.style_warmup, "0 or more", losses.style_warmup >= 0))
            wanted = "at least 48, for the encoder to see something"
            found.append((f"stages.{number}.size", stage.size, wanted, stage.size >= 48))
        return found


@dataclass(frozen=True)
class JohnsonData:
    """What is shown.

    Attributes:
        content_smallest: smallest crop of a photograph, as a part of its short side.
        content_largest: largest, likewise.
        style_side: short side, in pixels, at which the style picture is looked at: its strokes are learned at this
            size.
    """

    content_smallest: float = 0.5
    content_largest: float = 1.0
    style_side: int = 320


@dataclass(frozen=True)
class JohnsonWeights:
    """Weight of each term of the objective.

    Attributes:
        content: instance-normalised features of the photograph.
        style: moments and Gram matrices of the style.
        gram: the Gram part within ``style``.
        coarse: style once more at half size, for longer strokes.
        color: distribution of colours, by sliced Wasserstein distance at a quarter of the size.
        stability: small shifts and noise change nothing; computed every ``stability_every`` steps.
        stability_every: see ``stability``.
        variation: total variation.
        range: values outside of ``[0, 1]``.
        pixels: the photograph itself, but for its brightness and contrast (which a normalised network does not know);
            for a first stage that learns to give it back.
        domain: a classifier cannot tell features of photographs from those of the target domain's pictures; with
            ``--adapt`` only.
    """

    content: float = 4.0
    style: float = 10.0
    gram: float = 1.5
    coarse: float = 0.5
    color: float = 10.0
    stability: float = 4.0
    stability_every: int = 2
    variation: float = 0.5
    range: float = 2.0
    pixels: float = 0.0
    domain: float = 1.0


@dataclass(frozen=True)
class JohnsonRecipe(TrainingRecipe[JohnsonWeights]):
    """Everything that decides a training of ``johnson``, apart from the style and where the photographs lie."""

    name: str = "johnson"
    network: JohnsonConfig = field(default_factory=JohnsonConfig)
    data: JohnsonData = field(default_factory=JohnsonData)
    losses: JohnsonWeights = field(default_factory=JohnsonWeights)

    def rules(self) -> list[Rule]:
        """Ranges of the data, and of a loss that is not computed every step."""
        least, most, side = self.data.content_smallest, self.data.content_largest, self.data.style_side
        found: list[Rule] = [
            ("data.content_smallest", least, "above 0 and up to content_largest, 1 at most", 0 < least <= most <= 1),
            ("data.style_side", side, "from 64 to 2048", 64 <= side <= 2048),
        ]
        for number, stage in enumerate(self.stages):
            losses = dataclasses.replace(self.losses, **typing.cast("dict[str, Any]", stage.losses))
            every, seen = losses.stability_every, losses.style > 0 or losses.content > 0
            found.append(("losses.stability_every", every, "1 or more", every >= 1))
            wanted = "at least 48, for an encoder to see something"
            found.append((f"stages.{number}.size", stage.size, wanted, stage.size >= 48 or not seen))
        return found


@dataclass(frozen=True)
class DistillData(JohnsonData):
    """What is shown: crops of photographs with what the larger engine made of them.

    Attributes:
        pictures: how many crops the engine paints.
        side: of these crops, in pixels; no stage can be larger.
    """

    pictures: int = 120
    side: int = 256


@dataclass(frozen=True)
class DistillWeights(JohnsonWeights):
    """Weight of each term of the objective: those of ``johnson``, and what the larger engine says.

    Attributes:
        imitation: mean absolute difference to the engine's painting, in pixels.
        likeness: difference to it in the encoder's features.
    """

    content: float = 2.0
    imitation: float = 10.0
    likeness: float = 2.0


@dataclass(frozen=True)
class DistillRecipe(JohnsonRecipe):
    """Everything that decides the training of a small network from a larger engine's paintings, apart from both."""

    name: str = "distill"
    network: JohnsonConfig = field(default_factory=lambda: JohnsonConfig(half=16, quarter=32, blocks=4))
    data: DistillData = field(default_factory=DistillData)
    losses: DistillWeights = field(default_factory=DistillWeights)

    def weights_at(self, step: int) -> DistillWeights:
        """Those of ``johnson`` and the two of imitation."""
        weights = super().weights_at(step)
        assert isinstance(weights, DistillWeights)  # as ``losses`` are
        return weights

    def rules(self) -> list[Rule]:
        """Those of ``johnson``; and stages must fit into the crops that were painted."""
        largest = max((stage.size for stage in self.stages), default=0)
        return [
            *super().rules(),
            ("data.pictures", self.data.pictures, "1 or more", self.data.pictures >= 1),
            ("data.side", self.data.side, "from 48 to 2048", 48 <= self.data.side <= 2048),
            ("data.side", self.data.side, f"at least the largest stage's size, {largest}", self.data.side >= largest),
        ]


Recipe = typing.TypeVar("Recipe", bound=TrainingRecipe[Any])


def load_recipe(path: Path | None = None, overrides: tuple[str, ...] = ()) -> BrushRecipe:
    """A recipe of ``brush``; see :func:`read_recipe`."""
    return read_recipe(BrushRecipe, path, overrides)


def read_recipe(kind: type[Recipe], path: Path | None = None, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe, by default the packaged one.

    Args:
        kind: what is trained.
        path: a TOML file.
        overrides: ``section.key=value`` strings, values written as in TOML; stages are counted from 0, as in
            ``stages.0.steps=500``.

    Raises:
        UsageError: unreadable TOML, an unknown key, or a value of the wrong type or out of range.
    """
    try:
        if path is None:
            text = (importlib.resources.files("impasto.training") / "recipes" / f"{kind.name}.toml").read_text("utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the recipe '{path}': {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe '{path}' is no valid TOML: {error}") from error
    for override in overrides:
        _apply(table, override)
    recipe: Recipe = _build(kind, table, "")
    _check(recipe)
    return recipe


def _check(recipe: TrainingRecipe[Any]) -> None:
    """Ranges; types were checked before."""
    schedule = recipe.schedule
    rules: list[Rule] = [
        ("schedule.precision", schedule.precision, "no, fp16 or bf16", schedule.precision in ("no", "fp16", "bf16")),
        ("schedule.ema", schedule.ema, "from 0 to below 1", 0 <= schedule.ema < 1),
        ("schedule.learning_rate", schedule.learning_rate, "above 0", schedule.learning_rate > 0),
        ("schedule.clip", schedule.clip, "0 or more", schedule.clip >= 0),
        ("stages", recipe.stages, "at least one stage", bool(recipe.stages)),
    ]
    for key in ("accumulation", "checkpoint_every", "sheet_every", "log_every", "keep", "plateau_window"):
        value = getattr(schedule, key)
        rules.append((f"schedule.{key}", value, "1 or more", value >= 1))
    for key in ("plateau_patience", "plateau_threshold", "plateau_after"):
        value = getattr(schedule, key)
        rules.append((f"schedule.{key}", value, "0 or more", value >= 0))
    factor = schedule.plateau_factor
    rules.append(("schedule.plateau_factor", factor, "above 0 and up to 1", 0 < factor <= 1))
    for number, stage in enumerate(recipe.stages):
        where = f"stages.{number}"
        _build(type(recipe.losses), stage.losses, f"{where}.losses.")
        rules += [
            (f"{where}.size", stage.size, "a multiple of 8 and at least 32", stage.size % 8 == 0 and stage.size >= 32),
            (f"{where}.steps", stage.steps, "0 or more", stage.steps >= 0),
            (f"{where}.batch", stage.batch, "1 or more", stage.batch >= 1),
        ]
    rules += recipe.rules()
    for key, value, wanted, holds in rules:
        if not holds:
            raise UsageError(f"the recipe's '{key}' must be {wanted}, not {value!r}")


def _apply(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"'{override}' should read section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a word without quotes
    *sections, last = key.strip().split(".")
    place: Any = table
    for section in sections:
        if isinstance(place, dict):
            place = place.setdefault(section, {})
        elif isinstance(place, list) and section.isdecimal() and int(section) < len(place):
            place = place[int(section)]
        else:
            place = None
    if not isinstance(place, dict):
        raise UsageError(
            f"the recipe has no place '{key.strip()}'; a stage is named by its number, as in stages.0.steps"
        )
    place[last] = value


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table, nested ones included, with every key and type checked."""
    known = {f.name for f in dataclasses.fields(kind)}
    for key in table:
        if key not in known:
            raise UsageError(f"the recipe has an unknown key '{where}{key}'; known: {', '.join(sorted(known))}")
    hints = typing.get_type_hints(kind)
    return kind(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in table.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(hint, value, f"{where}.")
    if origin is tuple and isinstance(value, list):
        kinds = typing.get_args(hint)
        if kinds[-1] is not Ellipsis and len(value) != len(kinds):
            raise UsageError(f"the recipe's '{where}' needs {len(kinds)} values, not {len(value)}")
        return tuple(_convert(kinds[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
    if plain and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UsageError(f"the recipe's '{where}' has the wrong type: {value!r}")


def recipe_to_toml(recipe: TrainingRecipe[Any]) -> str:
    """The whole recipe, defaults written out, as TOML."""
    lines = [f"name = {toml_literal(recipe.name)}", f"seed = {recipe.seed}"]
    for section in ("network", "schedule", "data", "losses"):
        lines += ["", f"[{section}]"]
        values = dataclasses.asdict(getattr(recipe, section))
        lines += [f"{key} = {toml_literal(value)}" for key, value in values.items()]
    for stage in recipe.stages:
        lines += ["", "[[stages]]"]
        lines += [f"{key} = {toml_literal(value)}" for key, value in dataclasses.asdict(stage).items()]
    return "\n".join(lines) + "\n"


def toml_literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's basic strings have JSON's escapes
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_literal(item) for item in value) + "]"
    return repr(value)

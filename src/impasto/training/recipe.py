"""Training recipes: frozen dataclasses, read from TOML. Every default of a training stands here and nowhere else."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.errors import UsageError
from impasto.nets.brush import BrushConfig

__all__ = ["BrushRecipe", "DataConfig", "LossWeights", "ScheduleConfig", "Stage", "load_recipe", "recipe_to_toml"]


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
class LossWeights:
    """Weight of each term of the objective.

    Attributes:
        content: instance-normalised features of the content.
        style: moments and Gram matrices.
        gram: the Gram part within ``style``.
        coarse: style once more at half size, for longer strokes.
        identity: own pairs come back unchanged, in pixels.
        contrast: own style nearer than the batch's others.
        stability: small shifts and noise change nothing; computed every ``stability_every`` steps.
        stability_every: see ``stability``.
        variation: total variation.
        range: values outside of ``[0, 1]``.
    """

    content: float = 1.0
    style: float = 4.0
    gram: float = 1.0
    coarse: float = 0.5
    identity: float = 4.0
    contrast: float = 0.2
    stability: float = 4.0
    stability_every: int = 4
    variation: float = 0.3
    range: float = 2.0


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


@dataclass(frozen=True)
class BrushRecipe:
    """Everything that decides a training of ``brush``, apart from where the pictures lie."""

    name: str = "brush"
    seed: int = 0
    network: BrushConfig = field(default_factory=BrushConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    data: DataConfig = field(default_factory=DataConfig)
    losses: LossWeights = field(default_factory=LossWeights)
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

    def weights_at(self, step: int) -> LossWeights:
        """Loss weights at step ``step``: the recipe's, with the stage's own on top."""
        changed: dict[str, Any] = dict(self.stage_at(step).losses)
        return dataclasses.replace(self.losses, **changed)


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> BrushRecipe:
    """Read a recipe; ``overrides`` are ``section.key=value`` strings, values written as in TOML.

    Raises:
        UsageError: unreadable TOML, an unknown key, or a value of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe '{path}': {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the recipe '{path}' is no valid TOML: {error}") from error
    for override in overrides:
        _apply(table, override)
    recipe: BrushRecipe = _build(BrushRecipe, table, "")
    for stage in recipe.stages:
        if stage.size % 8 or stage.size < 32:
            raise UsageError(f"stages.size must be a multiple of 8 and at least 32, not {stage.size}")
        _build(LossWeights, stage.losses, "stages.losses")
    return recipe


def _apply(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if not equals:
        raise UsageError(f"'{override}' should read section.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
    table[last] = value


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
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) and isinstance(value, hint):
        if not (hint is int and isinstance(value, bool)):
            return value
    raise UsageError(f"the recipe's '{where}' has the wrong type: {value!r}")


def recipe_to_toml(recipe: BrushRecipe) -> str:
    """The whole recipe, defaults written out, as TOML."""
    lines = [f'name = "{recipe.name}"', f"seed = {recipe.seed}"]
    for section in ("network", "schedule", "data", "losses"):
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_literal(value)}" for key, value in dataclasses.asdict(getattr(recipe, section)).items()]
    for stage in recipe.stages:
        lines += ["", "[[stages]]"]
        lines += [f"{key} = {_literal(value)}" for key, value in dataclasses.asdict(stage).items()]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return repr(value)

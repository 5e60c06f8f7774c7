"""Whole trainings of the latent autoencoder and of ``diffusion``: what ``impasto train autoencoder`` and ``diffusion`` call."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState  # type: ignore[import-untyped]

from impasto.nets.encoders import load_encoder
from impasto.training.autoencoder import AutoencoderTask, AutoencoderTrunk
from impasto.training.data import PictureSet, genre_weights
from impasto.training.latent_recipe import AutoencoderRecipe
from impasto.training.loop import Progress, train
from impasto.training.recipe import read_recipe, recipe_to_toml
from impasto.training.run import _record
from impasto.weights.files import write_tensors

__all__ = ["train_autoencoder"]


def train_autoencoder(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    style_manifest: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the latent autoencoder, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        out: folder for checkpoints, samples, logs and the result.
        style_manifest: see :func:`impasto.training.run.train_brush`.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/autoencoder.safetensors``: the averaged weights in half precision, with their sizes in the header.

    Raises:
        UsageError: the recipe is wrong.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(AutoencoderRecipe, recipe_path, overrides)
    weights = None if style_manifest is None else genre_weights(style_manifest)
    task = AutoencoderTask(recipe, PictureSet(contents), PictureSet(styles, weights=weights), load_encoder())
    text = recipe_to_toml(recipe)
    is_main: bool = PartialState(cpu=device == "cpu").is_main_process
    if is_main:
        _record(out, text)
    trained = train(task, recipe.schedule, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "autoencoder.safetensors"
    if is_main:
        trunk = AutoencoderTrunk(recipe)
        trunk.load_state_dict(trained.model.state_dict())
        state = {name: value.half() for name, value in trunk.autoencoder.state_dict().items()}
        config = json.dumps(dataclasses.asdict(recipe.network))
        write_tensors(path, state, {"autoencoder": config, "recipe": text, "step": str(trained.step)})
    return path

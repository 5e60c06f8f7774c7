"""Whole trainings of the autoencoder and of ``diffusion``, from files to files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState  # type: ignore[import-untyped]

from impasto.errors import UsageError, WeightsError
from impasto.nets.autoencoder import Autoencoder, build_autoencoder
from impasto.nets.encoders import load_encoder
from impasto.training.autoencoder import AutoencoderTask, AutoencoderTrunk
from impasto.training.data import PictureSet
from impasto.training.diffusion import DiffusionTask
from impasto.training.distill import Painting
from impasto.training.job import artworks, run_task
from impasto.training.latent_recipe import AutoencoderRecipe, DiffusionRecipe
from impasto.training.loop import Progress
from impasto.training.paintings import PaintingPlan, paint_styles
from impasto.training.recipe import read_recipe, recipe_to_toml
from impasto.weights import load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = ["load_autoencoder", "train_autoencoder", "train_diffusion"]


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
    task = AutoencoderTask(recipe, PictureSet(contents), artworks(styles, style_manifest), load_encoder())
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "autoencoder.safetensors"
    if trained is not None:
        trunk = AutoencoderTrunk(recipe)
        trunk.load_state_dict(trained.model.state_dict())
        state = {name: value.half() for name, value in trunk.autoencoder.state_dict().items()}
        config = json.dumps(dataclasses.asdict(recipe.network))
        write_tensors(path, state, {"autoencoder": config, "recipe": recipe_to_toml(recipe), "step": str(trained.step)})
    return path


def train_diffusion(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    autoencoder: Path,
    out: Path,
    style_manifest: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_paint: Callable[[Painting], None] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the network of ``diffusion``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        autoencoder: what :func:`train_autoencoder` wrote; stays as it is and becomes a part of the result.
        out: folder for checkpoints, samples, logs and the result.
        style_manifest: see :func:`impasto.training.run.train_brush`.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long, painting not counted; the next call goes on.
        on_paint: hears how far the engines of ``data.painters`` are, which paint first.
        on_step: called after every step.

    Returns:
        ``out/diffusion.safetensors``: network and autoencoder in half precision, with their sizes in the header.

    Raises:
        UsageError: the recipe is wrong, or does not fit the autoencoder.
        WeightsError: the autoencoder or a painter does not load.
        UnknownNameError: a painter that is no engine.
        MissingExtraError: packages that a painter needs are not installed.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(DiffusionRecipe, recipe_path, overrides)
    latent = load_autoencoder(autoencoder)
    if latent.config.channels != recipe.network.latent:
        raise UsageError(
            f"the autoencoder '{autoencoder}' has {latent.config.channels} channels, the recipe's network expects "
            f"{recipe.network.latent}; set network.latent"
        )
    photographs, art, data = PictureSet(contents), artworks(styles, style_manifest), recipe.data
    paintings = None
    if data.painted > 0:
        PartialState(cpu=device == "cpu")  # the first one decides for all that follow
        plan = PaintingPlan(data.painters, data.paintings, data.side, recipe.seed)
        paintings = paint_styles(plan, photographs, art, out, on_paint=on_paint)
    task = DiffusionTask(recipe, photographs, art, latent, load_encoder(), paintings)
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "diffusion.safetensors"
    if trained is not None:
        tensors = dict(trained.model.state_dict())
        tensors |= {f"autoencoder.{name}": value for name, value in latent.state_dict().items()}
        texts = {
            "diffusion": json.dumps(dataclasses.asdict(recipe.network)),
            "autoencoder": json.dumps(dataclasses.asdict(latent.config)),
            "encoder": load_card("lens").identity,
            "recipe": recipe_to_toml(recipe),
            "step": str(trained.step),
        }
        write_tensors(path, {name: value.half() for name, value in tensors.items()}, texts)
    return path


def load_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder of a file that :func:`train_autoencoder` wrote.

    Raises:
        WeightsError: the file is missing or damaged, or holds no autoencoder.
    """
    state, texts = read_tensors(path)
    try:
        return build_autoencoder(state, texts)
    except WeightsError as error:
        raise WeightsError(f"'{path}': {error}; give a file that 'impasto train autoencoder' wrote") from error

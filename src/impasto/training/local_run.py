"""Whole trainings of ``local`` and of its encoder for phones: what ``impasto train local`` and ``mobile`` call."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from impasto.errors import UsageError, WeightsError
from impasto.nets.encoders import load_encoder
from impasto.nets.local import LAYERS
from impasto.nets.mobile import Mobile, folded_mobile
from impasto.nets.teachers import Teacher
from impasto.training.data import PictureSet
from impasto.training.job import artworks, run_task, sheet_picture
from impasto.training.local import LocalTask
from impasto.training.loop import Progress
from impasto.training.masks import MaskedPictures
from impasto.training.mobile import MobileTask, MobileTrunk
from impasto.training.recipe import LocalRecipe, MobileRecipe, read_recipe, recipe_to_toml
from impasto.weights import load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = ["train_local", "train_mobile"]


def train_local(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    masks: Sequence[Path] = (),
    encoder: str | Path = "lens",
    judge: str | Path = "lens",
    start_from: Path | None = None,
    style_manifest: Path | None = None,
    sheet_contents: Sequence[Path] = (),
    sheet_styles: Sequence[Path] = (),
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the attention and the decoder of ``local``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the one of the embedded weights.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        out: folder for checkpoints, samples, logs and the result.
        masks: folders with photographs and masks of their objects (see
            :class:`~impasto.training.masks.MaskedPictures`); without, all masks are made up.
        encoder: the frozen encoder, see :func:`~impasto.nets.encoders.load_encoder`; one with the layers of
            :data:`impasto.nets.local.LAYERS`.
        judge: the encoder that the losses look through.
        start_from: weights of ``local`` that a new training starts from; tensors that
            have no counterpart of the same shape start anew. Without effect on a training that goes on.
        style_manifest: see :func:`impasto.training.run.train_brush`.
        sheet_contents: photographs for the sample sheets; by default crops of the training's own.
        sheet_styles: artworks for the sample sheets.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/local.safetensors``: the averaged weights in half precision, with their sizes in the header.

    Raises:
        UsageError: the recipe is wrong, or an encoder does not fit it.
        ImageError: a picture for the sample sheets cannot be read.
        WeightsError: an encoder, or the file to start from, does not load.
        TrainingError: no pictures or masks, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(LocalRecipe, recipe_path, overrides)
    frozen = _fitting(encoder, recipe.network.channels)
    task = LocalTask(
        recipe,
        PictureSet(contents),
        artworks(styles, style_manifest),
        frozen,
        judge=frozen if str(judge) == str(encoder) else _fitting(judge, None),
        masked=MaskedPictures(masks) if masks else None,
        shown=(
            [sheet_picture(path, multiple=8) for path in sheet_contents],
            [sheet_picture(path, multiple=8) for path in sheet_styles],
        ),
    )
    if start_from is not None:
        _start(task, start_from)
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "local.safetensors"
    if trained is not None:
        texts = {
            "engine": "local",
            "recipe": recipe_to_toml(recipe),
            "step": str(trained.step),
            "config": json.dumps(dataclasses.asdict(recipe.network)),
            "encoder": load_card("lens").identity if str(encoder) == "lens" else Path(encoder).name,
        }
        tensors = dict(trained.model.state_dict())
        if isinstance(frozen, Mobile):  # small enough to travel along
            texts["mobile"] = json.dumps(dataclasses.asdict(frozen.config))
            tensors |= {f"encoder.{name}": value for name, value in frozen.state_dict().items()}
        write_tensors(path, {name: value.half() for name, value in tensors.items()}, texts)
    return path


def train_mobile(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    teacher: str | Path = "lens",
    style_manifest: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the encoder ``mobile``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        out: folder for checkpoints, samples, logs and the result.
        teacher: the encoder that is predicted, see :func:`train_local`.
        style_manifest: see :func:`impasto.training.run.train_brush`.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/mobile.safetensors``: the averaged weights in half precision, batch normalisation folded: an encoder that
        ``impasto train local --encoder`` takes.

    Raises:
        UsageError: the recipe is wrong, or the teacher does not fit it.
        WeightsError: the teacher does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(MobileRecipe, recipe_path, overrides)
    judge = _fitting(teacher, recipe.network.channels)
    task = MobileTask(recipe, PictureSet(contents), artworks(styles, style_manifest), judge)
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "mobile.safetensors"
    if trained is not None:
        trunk = MobileTrunk(recipe)
        trunk.load_state_dict(trained.model.state_dict())
        mobile = folded_mobile(trunk.mobile)
        sizes = json.dumps(dataclasses.asdict(recipe.network))
        texts = {"recipe": recipe_to_toml(recipe), "step": str(trained.step), "mobile": sizes}
        write_tensors(path, {name: value.half() for name, value in mobile.state_dict().items()}, texts)
    return path


def _fitting(name: str | Path, channels: tuple[int, ...] | None) -> Teacher:
    """An encoder with the layers that the network works on, and with the channels that a recipe expects."""
    encoder = load_encoder(name)
    layers = encoder.spec.layers
    if any(layers.get(layer, (0, 0))[0] != stride for layer, stride in zip(LAYERS, (2, 4, 8), strict=True)):
        raise UsageError(
            f"the encoder '{name}' has not the layers {', '.join(LAYERS)} at 1/2, 1/4 and 1/8; it has "
            f"{', '.join(layers)}"
        )
    found = tuple(layers[layer][1] for layer in LAYERS)
    if channels is not None and found != channels:
        raise UsageError(
            f"the encoder '{name}' has {found} channels at {', '.join(LAYERS)}, the recipe's network expects "
            f"{channels}; set network.channels"
        )
    return encoder


def _start(task: LocalTask, path: Path) -> None:
    """Copy what fits from a weights file."""
    state, _ = read_tensors(path)
    own = task.model.state_dict()
    known = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not known:
        raise WeightsError(f"'{path}' has no tensor that the network of local has; give a file that it was trained to")
    task.model.load_state_dict({**own, **{name: value.float() for name, value in known.items()}})

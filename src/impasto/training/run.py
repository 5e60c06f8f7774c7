"""A whole training from files to files: what ``impasto train`` calls."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]
from torch import nn

from impasto.config import StylizeConfig
from impasto.errors import UsageError, WeightsError
from impasto.nets.adain import LAYERS
from impasto.nets.brush import BrushModel, level, widened
from impasto.nets.encoders import load_encoder
from impasto.nets.johnson import JohnsonNet
from impasto.nets.lens import folded
from impasto.training.adain import AdaInTask
from impasto.training.adapt import AdaptedTask, network_of
from impasto.training.brush import BrushTask, SheetPictures
from impasto.training.data import PictureSet
from impasto.training.distill import DistillTask, Painter, Painting, paint_pairs
from impasto.training.files import (
    load_johnson,
    load_model,
    load_teacher,
    reserved_names,
    save_johnson,
    save_lens,
    save_model,
)
from impasto.training.job import artworks, record_recipe, run_task, sheet_picture
from impasto.training.johnson import JohnsonTask, StylePicture, style_facts
from impasto.training.lens import LensStudent, LensTask
from impasto.training.loop import Progress, Trained, latest_checkpoint, train
from impasto.training.presets import PresetArt, preset_artworks, preset_table
from impasto.training.recipe import (
    AdaInRecipe,
    BrushRecipe,
    DistillRecipe,
    JohnsonRecipe,
    LensRecipe,
    load_recipe,
    read_recipe,
    recipe_to_toml,
)
from impasto.weights import load_card
from impasto.weights.files import read_tensors, write_tensors

__all__ = ["train_adain", "train_brush", "train_distill", "train_johnson", "train_lens"]


def train_brush(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    teachers: Sequence[Path],
    out: Path,
    style_manifest: Path | None = None,
    sheet_contents: Sequence[Path] = (),
    sheet_styles: Sequence[Path] = (),
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    start_from: Path | None = None,
    presets: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train ``brush``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        teachers: weights files of perceptual networks (see :mod:`impasto.nets.teachers`); the first one also judges
            the coarse style.
        out: folder for checkpoints, samples, logs and the result.
        style_manifest: CSV with the columns ``file`` and ``genre``, by which rare genres are drawn more often; artworks
            that it does not name are not used.
        sheet_contents: photographs for the sample sheets; by default crops of the training's own.
        sheet_styles: artworks for the sample sheets.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        start_from: a model file whose weights a new training starts from (fine-tuning). Without effect on a training
            that goes on from a checkpoint.
        presets: table of the presets that a recipe with ``data.presets`` shows, by default the packaged one.
        on_step: called after every step.

    Returns:
        ``out/brush.safetensors``: the averaged weights, with recipe, step and sizes in the header. ``out/recipe.toml``
        is the recipe with all its defaults; ``out/history.jsonl`` has a line for each recipe that was used, with the
        step from which on it held.

    Raises:
        UsageError: the recipe is wrong, or does not fit the model to start from or the presets; the table of presets
            cannot be read or names pictures that are not among the artworks.
        ImageError: a picture for the sample sheets cannot be read.
        WeightsError: a teacher or the model to start from does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = load_recipe(recipe_path, overrides)
    if not teachers:
        raise UsageError("training needs at least one teacher, such as torchvision's squeezenet1_0 or vgg19 weights")
    shown = SheetPictures(
        [sheet_picture(path, multiple=8) for path in sheet_contents],
        [sheet_picture(path, multiple=1) for path in sheet_styles],
    )
    judges = [load_teacher(path) for path in teachers]
    names, preset_art = _presets(recipe, presets, styles)
    task = BrushTask(recipe, PictureSet(contents), artworks(styles, style_manifest), judges, shown, preset_art)
    if start_from is not None:
        start = load_model(start_from)
        try:
            task.model.load_state_dict(widened(start.state_dict(), start.config, recipe.network))
        except ValueError as error:
            raise UsageError(f"'{start_from}' does not fit the recipe: {error}") from error
        known = reserved_names(read_tensors(start_from)[1])
        if known and names and known != names[: len(known)]:
            raise UsageError(
                f"'{start_from}' has reserved numbers for {', '.join(known)}: the table of presets must begin with them"
            )
    if recipe.data.spread and latest_checkpoint(out) is None:
        task.spread()
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "brush.safetensors"
    if trained is not None:
        model = BrushModel(recipe.network)
        model.load_state_dict(trained.model.state_dict())
        level(model.net)
        facts = {"recipe": recipe_to_toml(recipe), "step": str(trained.step)}
        save_model(model, path, facts | ({"presets": json.dumps(names)} if names else {}))
    return path


def _presets(recipe: BrushRecipe, table: Path | None, styles: Sequence[Path]) -> tuple[list[str], PresetArt | None]:
    """Names of the presets that have a reserved number, and the artworks of all."""
    if recipe.data.presets == 0:
        if table is not None:
            raise UsageError("a table of presets has no effect while data.presets is 0")
        return [], None
    entries = preset_table(table)
    art = PresetArt(preset_artworks(entries, PictureSet(styles)))  # the manifest may leave some of them out
    reserved = recipe.network.reserved
    if 0 < reserved < len(art):
        raise UsageError(f"network.reserved is {reserved}; {len(art)} presets need as many")
    return [entry.name for entry in entries] if reserved else [], art


def train_lens(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    teachers: Sequence[Path],
    out: Path,
    style_manifest: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the perceptual encoder ``lens``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the one of the embedded weights.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        teachers: weights files of the networks to learn from (see :mod:`impasto.nets.teachers`).
        out: folder for checkpoints, samples, logs and the result.
        style_manifest: see :func:`train_brush`.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/lens.safetensors``: the averaged weights in half precision, batch normalisation folded. Beside it,
        ``lens-student.safetensors`` keeps the heads, to measure how much of each teacher was learned.

    Raises:
        UsageError: the recipe is wrong.
        WeightsError: a teacher does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(LensRecipe, recipe_path, overrides)
    if not teachers:
        raise UsageError("training needs at least one teacher, such as torchvision's squeezenet1_0 or vgg19 weights")
    judges = [load_teacher(path) for path in teachers]
    task = LensTask(recipe, PictureSet(contents), artworks(styles, style_manifest), judges)
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "lens.safetensors"
    if trained is not None:
        student = LensStudent(recipe, task.targets)
        student.load_state_dict(trained.model.state_dict())
        write_tensors(out / "lens-student.safetensors", student.state_dict(), {"recipe": recipe_to_toml(recipe)})
        save_lens(folded(student.trunk), path, {"recipe": recipe_to_toml(recipe), "step": str(trained.step)})
    return path


def train_adain(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    encoder: str | Path = "lens",
    style_manifest: Path | None = None,
    start_from: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the decoder of ``adain``, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the one of the embedded weights.
        contents: folders and tar files with photographs.
        styles: folders and tar files with artworks.
        out: folder for checkpoints, samples, logs and the result.
        encoder: the frozen encoder, see :func:`~impasto.nets.encoders.load_encoder`; it needs the layers ``relu4_1``
            and ``relu3_1``.
        style_manifest: see :func:`train_brush`.
        start_from: weights of ``adain`` or ``local`` whose decoder, of the same sizes, a new training starts from.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/adain.safetensors``: the averaged decoder in half precision, with its sizes in the header.

    Raises:
        UsageError: the recipe is wrong, or the encoder does not fit it.
        WeightsError: the encoder does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(AdaInRecipe, recipe_path, overrides)
    frozen = load_encoder(encoder)
    for layer, expected in zip(LAYERS, recipe.network.channels, strict=True):
        channels = frozen.spec.layers.get(layer, (0, 0))[1]
        if channels != expected:
            raise UsageError(
                f"the encoder '{encoder}' has {channels or 'no'} channels at {layer}, the recipe's decoder expects "
                f"{expected}; set network.channels"
            )
    task = AdaInTask(recipe, PictureSet(contents), artworks(styles, style_manifest), frozen)
    if start_from is not None:
        _take_decoder(task.model, start_from)
    trained = run_task(task, recipe, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    path = out / "adain.safetensors"
    if trained is not None:
        texts = {
            "recipe": recipe_to_toml(recipe),
            "step": str(trained.step),
            "config": json.dumps(dataclasses.asdict(recipe.network)),
            "encoder": load_card("lens").identity if str(encoder) == "lens" else Path(encoder).name,
        }
        state = {name: value.half() for name, value in trained.model.state_dict().items()}
        write_tensors(path, state, texts)
    return path


def _take_decoder(decoder: nn.Module, start: Path) -> None:
    """Give a decoder the weights of a file of ``adain`` or ``local``.

    Raises:
        WeightsError: it does not load, or has no decoder of these sizes.
    """
    state, _ = read_tensors(start)
    inner = {name.removeprefix("decoder."): v for name, v in state.items() if name.startswith("decoder.")}
    try:
        decoder.load_state_dict({name: value.float() for name, value in (inner or state).items()})
    except RuntimeError as error:
        raise WeightsError(f"'{start}' has no decoder of the recipe's sizes: {error}") from error


def train_johnson(
    recipe_path: Path | None,
    *,
    contents: Sequence[Path],
    style: Path,
    out: Path,
    name: str,
    title: str = "",
    credit: str = "",
    teachers: Sequence[Path] = (),
    adapt: Sequence[Path] = (),
    sheet_contents: Sequence[Path] = (),
    start_from: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the network of one style, or go on with the training that ``out`` holds.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        contents: folders and tar files with photographs.
        style: the picture whose style is learned.
        out: folder for checkpoints, samples, logs and the result.
        name: of the style.
        title: what it looks like, for listings; by default the name.
        credit: whose picture it is; by default its file's name.
        teachers: weights files of perceptual networks; by default the embedded ``lens``.
        adapt: folders and tar files with unlabelled pictures of a domain unlike the photographs, to which the network
            is adapted (see :mod:`impasto.training.adapt`).
        sheet_contents: photographs for the sample sheets; by default crops of the training's own.
        start_from: network of another style (``.safetensors`` of its training), which knows how to keep a photograph
            in shape. Without effect on a training that goes on.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator.
        workers: threads that prepare batches.
        minutes: stop after this long; the next call goes on.
        on_step: called after every step.

    Returns:
        ``out/NAME.safetensors``: the averaged weights, with recipe, step and all that a card says in the header.

    Raises:
        UsageError: the recipe is wrong, or the folder holds the training of another style.
        ImageError: the style, or a picture for the sample sheets, cannot be read.
        WeightsError: a teacher or the network to start from does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(JohnsonRecipe, recipe_path, overrides)
    picture = StylePicture.read(style, recipe.data.style_side)
    judges = [load_teacher(path) for path in teachers] or [load_encoder()]
    shown = [sheet_picture(path, multiple=4) for path in sheet_contents]
    task = JohnsonTask(recipe, PictureSet(contents), picture.pixels, judges, shown)
    started = {} if start_from is None else _started(task, start_from)
    targets = PictureSet(adapt) if adapt else None
    PartialState(cpu=device == "cpu")  # before anything asks for it
    _claim_style(out, picture, recipe)
    facts = {"name": name, "title": title or name, "credit": credit or f"'{style.name}'"} | started
    learner = task if targets is None else AdaptedTask(task, targets)
    trained = train(learner, recipe.schedule, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    facts |= style_facts(task, picture, out, trained.step) | _adaptation(targets)
    return _save_style(trained, recipe, facts, out / f"{name}.safetensors")


def _started(task: JohnsonTask, start: Path) -> dict[str, str]:
    """Give the task another style's network to start from; what a card says of it.

    Raises:
        UsageError: the network has other sizes.
        WeightsError: it does not load.
    """
    net, known = load_johnson(start)
    if net.config != task.recipe.network:
        raise UsageError(f"'{start}' has other sizes than the recipe's network: {net.config}")
    task.model.load_state_dict(net.state_dict())
    name = json.loads(known.get("style", "{}")).get("name", start.name)
    return {"started_from": f"{name}, SHA-256 {hashlib.sha256(start.read_bytes()).hexdigest()}"}


def train_distill(
    recipe_path: Path | None,
    *,
    engine: str,
    contents: Sequence[Path],
    style: Path,
    out: Path,
    name: str,
    settings: StylizeConfig | None = None,
    title: str = "",
    credit: str = "",
    teachers: Sequence[Path] = (),
    adapt: Sequence[Path] = (),
    sheet_contents: Sequence[Path] = (),
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_paint: Callable[[Painting], None] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train a small network of one style on the paintings of a larger engine, or go on with it.

    Args:
        recipe_path: a TOML recipe; None is the packaged one.
        engine: name of the larger engine; one that takes any picture as a style.
        contents: folders and tar files with photographs.
        style: the picture whose style is learned.
        out: folder for the engine's paintings, checkpoints, samples, logs and the result.
        name: of the style.
        settings: those of the engine; its seed is the recipe's.
        title: see :func:`train_johnson`.
        credit: likewise.
        teachers: weights files of perceptual networks; by default the embedded ``lens``.
        adapt: see :func:`train_johnson`.
        sheet_contents: likewise.
        overrides: changes of the recipe, ``section.key=value``.
        device: ``cpu`` to stay off an accelerator, for the training; an engine has its own setting.
        workers: threads that prepare batches.
        minutes: stop after this long, not counting the engine's paintings; the next call goes on.
        on_paint: hears how far the engine is, first before it begins, with the time that it will take.
        on_step: called after every step.

    Returns:
        ``out/NAME.safetensors``, as of :func:`train_johnson`.

    Raises:
        UnknownNameError: there is no such engine.
        UsageError: the recipe is wrong, the engine takes no pictures as styles or has not the settings, or the folder
            holds the training of another style or from other paintings.
        MissingExtraError: packages that the engine needs are not installed.
        ImageError: the style, or a picture for the sample sheets, cannot be read.
        WeightsError: a teacher, or what the engine needs, does not load.
        TrainingError: no pictures, or training cannot go on.
        OutputError: the folder or the result cannot be written.
    """
    recipe = read_recipe(DistillRecipe, recipe_path, overrides)
    picture = StylePicture.read(style, recipe.data.style_side)
    painter = Painter(engine, style, dataclasses.replace(settings or StylizeConfig(), seed=recipe.seed))
    judges = [load_teacher(path) for path in teachers] or [load_encoder()]
    shown = [sheet_picture(path, multiple=4) for path in sheet_contents]
    photographs = PictureSet(contents)
    targets = PictureSet(adapt) if adapt else None
    PartialState(cpu=device == "cpu")
    _claim_style(out, picture, recipe)
    pairs = paint_pairs(painter, photographs, recipe, out, on_paint=on_paint)
    task = DistillTask(recipe, photographs, picture.pixels, judges, pairs, shown)
    facts = {"name": name, "title": title or name, "credit": credit or f"'{style.name}'"}
    learner = task if targets is None else AdaptedTask(task, targets)
    trained = train(learner, recipe.schedule, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    facts |= style_facts(task, picture, out, trained.step)
    facts["training_data"] = f"{len(pairs)} crops of {len(photographs)} photographs, painted by the engine {engine}"
    return _save_style(trained, recipe, facts | _adaptation(targets), out / f"{name}.safetensors")


def _claim_style(out: Path, picture: StylePicture, recipe: JohnsonRecipe) -> None:
    """Note style and recipe in the run's folder, in the main process."""
    if PartialState().is_main_process:
        picture.claim(out)
        record_recipe(out, recipe_to_toml(recipe))


def _adaptation(targets: PictureSet | None) -> dict[str, str]:
    """What a card says of domain adaptation; nothing without it."""
    if targets is None:
        return {}
    return {"adapted_to": f"{len(targets)} unlabelled pictures, by gradient reversal (Ganin & Lempitsky 2015)"}


def _save_style(trained: Trained, recipe: JohnsonRecipe, facts: dict[str, Any], path: Path) -> Path:
    """Write the averaged network with its recipe and facts, in the main process."""
    if PartialState().is_main_process:
        net = JohnsonNet(recipe.network)
        net.load_state_dict(network_of(trained.model).state_dict())
        texts = {"recipe": recipe_to_toml(recipe), "step": str(trained.step), "style": json.dumps(facts)}
        save_johnson(net, path, texts)
    return path

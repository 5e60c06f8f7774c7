"""What every training from files to files has in common: where pictures come from, and what a folder is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState  # type: ignore[import-untyped]
from PIL import Image, ImageOps

from impasto.errors import ImageError, OutputError
from impasto.training.data import PictureSet, PixelArray, genre_weights
from impasto.training.loop import Progress, Task, Trained, latest_checkpoint, step_of, train
from impasto.training.recipe import TrainingRecipe, recipe_to_toml

__all__ = ["artworks", "record_recipe", "run_task", "sheet_picture"]

SHEET_SIDE = 256


def artworks(styles: Sequence[Path], manifest: Path | None) -> PictureSet:
    """Artworks, drawn by genre where a manifest says which they have.

    Raises:
        TrainingError: no pictures, or the manifest cannot be used.
    """
    return PictureSet(styles, weights=None if manifest is None else genre_weights(manifest))


def run_task(
    task: Task,
    recipe: TrainingRecipe[Any],
    out: Path,
    *,
    device: str | None,
    workers: int,
    minutes: float | None,
    on_step: Callable[[Progress], None] | None,
) -> Trained | None:
    """Note the recipe in the folder and train; None in all processes but the main one, which writes the result.

    Raises:
        TrainingError: training cannot go on.
        OutputError: the folder cannot be written.
    """
    is_main: bool = PartialState(cpu=device == "cpu").is_main_process
    if is_main:
        record_recipe(out, recipe_to_toml(recipe))
    trained = train(task, recipe.schedule, out, device=device, workers=workers, minutes=minutes, on_step=on_step)
    return trained if is_main else None


def record_recipe(out: Path, recipe: str) -> None:
    """Write ``recipe.toml``; when it is new or another one, note in ``history.jsonl`` from which step on it holds."""
    path = out / "recipe.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_text(encoding="utf-8") == recipe:
            return
        checkpoint = latest_checkpoint(out)
        line = {
            "step": 0 if checkpoint is None else step_of(checkpoint),
            "recipe_sha256": hashlib.sha256(recipe.encode()).hexdigest(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with (out / "history.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        path.write_text(recipe, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to the folder '{out}': {error}") from error


def sheet_picture(path: Path, *, multiple: int) -> PixelArray:
    """A picture whose short side is 256 px, upright, cut so that its sides are multiples of ``multiple``."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot read the picture '{path}' for the sample sheets: {error}") from error
    factor = SHEET_SIDE / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    height, width = pixels.shape[0] // multiple * multiple, pixels.shape[1] // multiple * multiple
    return np.ascontiguousarray(pixels[:height, :width])

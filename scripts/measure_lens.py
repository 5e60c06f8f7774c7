"""How much of each teacher the encoder learned, on pictures it was not trained on.

    python scripts/measure_lens.py lens-student.safetensors --content DIR --style DIR --teacher FILE [--teacher FILE]

Prints the explained variance (1 - L_t) of every target of the distillation, over crops of all pictures, and the mean of
each teacher, in TOML for the card.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch

from impasto.training.data import PictureSet
from impasto.training.files import load_teacher
from impasto.training.lens import LensTask
from impasto.training.recipe import LensRecipe, read_recipe
from impasto.weights.files import read_tensors

BATCHES = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    for name in ("content", "style", "teacher"):
        parser.add_argument(f"--{name}", type=Path, action="append", required=True)
    parser.add_argument("--calibration", type=Path, nargs=2, help="training photographs and artworks for the scales")
    given = parser.parse_args()
    state, _ = read_tensors(given.student)
    recipe = read_recipe(LensRecipe)
    teachers = [load_teacher(path) for path in given.teacher]
    held_out = PictureSet(given.content), PictureSet(given.style)
    known = held_out if given.calibration is None else tuple(PictureSet([path]) for path in given.calibration)
    task = LensTask(recipe, *known, teachers)
    task.prepare(torch.device("cpu"))
    task.photographs, task.artworks = held_out
    task.model.load_state_dict(state)
    task.model.eval()
    sums: dict[str, float] = defaultdict(float)
    with torch.no_grad():
        for index in range(BATCHES):
            batch = {name: torch.from_numpy(array) for name, array in task.batch(0, index).items()}
            for target, loss in task.losses(task.model, batch, index).items():
                sums[target] += float(loss) / BATCHES
    explained = {target: 1 - sums[target] * len(task.targets) / recipe.losses.features for target in task.targets}
    for teacher in teachers:
        own = {target: value for target, value in explained.items() if target.startswith(f"{teacher.spec.name}.")}
        for target, value in own.items():
            print(f'"{target}" = {value:.3f}')
        print(f'"{teacher.spec.name}" = {sum(own.values()) / len(own):.3f}')


if __name__ == "__main__":
    main()

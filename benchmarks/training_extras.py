r"""Distillation and domain adaptation against training without them: ``python -m benchmarks.training_extras``.

    python -m benchmarks.training_extras distill --style art.jpg --content photos/ --held-out others/ --out folder
    python -m benchmarks.training_extras adapt --style art.jpg --content photos/ --held-out drawings-2/ \
        --target drawings/ --out folder
    python -m benchmarks.training_extras adapt ... --target photos-2/ --held-out others/ --night

All trainings of a table have the same network, seed, stages and batch sizes; those that stand in ``--out`` already are
not repeated. Measured on pictures that no training saw, through the embedded lens, from 0 (equal):

    style       relative distance of means and deviations of the features to the style picture
    gram        the same of the Gram matrices
    content     relative distance of the features of the layer by which the losses recognise the photograph
    structure   how the similarities between places changed from the photograph
    imitation   mean absolute difference to the larger engine's painting (distill)
    clean       structure, against the picture as it was before it was made dark and noisy (adapt --night)
    told apart  how often a new classifier finds the domain of new crops from the features, 0.5 is chance (adapt)

Each is a mean with its standard error over the pictures, and with the mean difference to the first row, likewise. One
seed: the error bars know nothing of how much another seed would change.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from benchmarks.harness import git_commit, machine, package_versions
from impasto.config import StylizeConfig
from impasto.image import read_picture, resize
from impasto.losses.domain import domain_loss
from impasto.metrics.features import (
    StyleSummary,
    content_distance,
    gram_distance,
    look,
    moment_distance,
    structure_distance,
    summarise_style,
)
from impasto.nets.domain import DomainClassifier, DomainConfig
from impasto.nets.encoders import load_encoder
from impasto.nets.johnson import JohnsonNet
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet
from impasto.training.distill import Painter
from impasto.training.files import load_johnson
from impasto.training.johnson import StylePicture, content_layer
from impasto.training.run import train_distill, train_johnson
from impasto.types import FloatArray

__all__ = ["Plan", "main", "measure_adaptation", "measure_distillation", "night"]

SMALL = "network={half = 16, quarter = 32, blocks = 4}"
WITHOUT = "without"


@dataclass(frozen=True)
class Plan:
    """Sizes and counts.

    Attributes:
        steps: of the first stage (64 px) and of the second.
        size: side of the crops in the second stage.
        paintings: that the larger engine makes.
        pictures: held-out ones, at most.
        side: their short side.
        seed: of all trainings.
        classifier: steps of the classifier that looks at the finished features.
    """

    steps: tuple[int, int] = (60, 240)
    size: int = 96
    paintings: int = 60
    pictures: int = 12
    side: int = 256
    seed: int = 0
    classifier: int = 100

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(steps=(2, 2), size=48, paintings=2, pictures=2, side=64, classifier=2)

    def changes(self, first: str) -> tuple[str, ...]:
        """The recipe, as overrides; ``first`` are the losses of the first stage."""
        second = "losses = {coarse = 0.0, stability = 0.0}"
        return (
            SMALL,
            f"seed={self.seed}",
            f"stages=[{{steps = {self.steps[0]}, batch = 4, size = {min(64, self.size)}, losses = {{{first}}}}}, "
            f"{{steps = {self.steps[1]}, batch = 2, size = {self.size}, {second}}}]",
        )


PLAIN_FIRST = "pixels = 1.0, style = 0.0, content = 0.0, color = 0.0, stability = 0.0, variation = 0.0"
DISTILL_FIRST = "style = 0.0, content = 0.0, likeness = 0.0, color = 0.0, stability = 0.0, variation = 0.0"


@dataclass
class Row:
    """One training: its figures by name, one for each held-out picture (or a single one)."""

    name: str
    cpu_seconds: float
    figures: dict[str, list[float]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("distill", "adapt"))
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--content", type=Path, action="append", required=True)
    parser.add_argument("--held-out", type=Path, action="append", required=True)
    parser.add_argument("--target", type=Path, action="append", default=[])
    parser.add_argument(
        "--night", action="store_true", help="make the target's and the held-out pictures dark and noisy"
    )
    parser.add_argument("--engine", default="brush", help="the larger engine (distill)")
    parser.add_argument("--engine-set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="does it run? No figures of worth")
    for one in fields(Plan):
        if one.name != "steps":
            parser.add_argument(f"--{one.name}", type=int, default=None)
    parser.add_argument("--steps", type=int, nargs=2, default=None)
    given = parser.parse_args(arguments)
    if given.what == "adapt" and not given.target:
        parser.error("adapt needs a --target")
    asked = {one.name: getattr(given, one.name) for one in fields(Plan) if getattr(given, one.name) is not None}
    plan = Plan(**asdict(Plan.quick() if given.quick else Plan()) | asked)
    plan = Plan(**asdict(plan) | {"steps": tuple(plan.steps)})
    if given.what == "distill":
        options = dict(text.split("=", 1) for text in given.engine_set)
        settings = StylizeConfig(seed=plan.seed, options=options)
        rows = measure_distillation(plan, given.style, given.content, given.held_out, given.out, given.engine, settings)
    else:
        rows = measure_adaptation(
            plan, given.style, given.content, given.target, given.held_out, given.out, dark=given.night
        )
    _publish(given.what, plan, rows, given.json)
    return 0


# -- distillation ----------------------------------------------------------------------------------------------------


def measure_distillation(
    plan: Plan,
    style: Path,
    contents: Sequence[Path],
    held_out: Sequence[Path],
    out: Path,
    engine: str,
    settings: StylizeConfig,
) -> list[Row]:
    """The same small network, trained on the photographs alone and with the engine's paintings; and the engine itself.

    Both see the same number of crops of the same photographs, but the student of the engine only those it painted.
    """
    shared = {"contents": contents, "style": style, "name": "style", "device": "cpu"}
    begun = time.process_time()
    plain = train_johnson(None, **shared, out=out / WITHOUT, overrides=plan.changes(PLAIN_FIRST))
    times = [time.process_time() - begun]
    changes = (*plan.changes(DISTILL_FIRST), f"data.pictures={plan.paintings}", "data.side=192")
    begun = time.process_time()
    student = train_distill(None, **shared, engine=engine, settings=settings, out=out / "distilled", overrides=changes)
    times.append(time.process_time() - begun)
    scorer, pictures = Scorer(style), _held_out(held_out, plan)
    painter = Painter(engine, style, settings)
    begun = time.process_time()
    taught = [painter.paint(_bytes(picture)) / np.float32(255) for picture in pictures]
    rows = [Row(WITHOUT, times[0]), Row("distilled", times[1]), Row(f"the engine itself: {engine}", 0.0)]
    paintings = [[_paint(load_johnson(path)[0], one) for one in pictures] for path in (plain, student)]
    for row, painted in zip(rows, [*paintings, taught], strict=True):
        scorer.fill(row, painted, pictures)
        row.figures["imitation"] = [float(np.abs(a - b).mean()) for a, b in zip(painted, taught, strict=True)]
    _sheet(out / "sheet.jpg", pictures, [*paintings, taught])
    return rows


# -- domain adaptation -----------------------------------------------------------------------------------------------


def measure_adaptation(
    plan: Plan,
    style: Path,
    contents: Sequence[Path],
    targets: Sequence[Path],
    held_out: Sequence[Path],
    out: Path,
    *,
    dark: bool = False,
) -> list[Row]:
    """Without adaptation, with it, and with the target's pictures painted like photographs, in equal shares."""
    label = "night" if dark else "target"
    folder = out / label / "pictures"
    count = len(PictureSet(contents))
    _prepare_target(folder, PictureSet(targets), count, dark=dark, seed=plan.seed)
    shared = {"style": style, "name": "style", "device": "cpu", "overrides": plan.changes(PLAIN_FIRST)}
    arms: dict[str, dict[str, Any]] = {
        WITHOUT: {"contents": contents, "out": out / WITHOUT},
        "gradient reversal": {"contents": contents, "adapt": [folder], "out": out / label / "reversal"},
        "painted as photographs": {"contents": [*contents, folder], "out": out / label / "contents"},
    }
    scorer, clean = Scorer(style), _held_out(held_out, plan)
    pictures = [night(one, np.random.default_rng([plan.seed, n])) for n, one in enumerate(clean)] if dark else clean
    rows, sheets = [], []
    for name, arguments in arms.items():
        begun = time.process_time()
        path = train_johnson(None, **shared, **arguments)
        row, net = Row(name, time.process_time() - begun), load_johnson(path)[0]
        painted = [_paint(net, one) for one in pictures]
        scorer.fill(row, painted, pictures)
        if dark:
            row.figures["clean"] = [scorer.structure(a, b) for a, b in zip(painted, clean, strict=True)]
        row.figures["told apart"] = [_told_apart(net, PictureSet(contents), PictureSet([folder]), plan)]
        rows.append(row)
        sheets.append(painted)
    _sheet(out / label / "sheet.jpg", pictures, sheets)
    return rows


def night(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A picture ``[H, W, 3]`` in ``[0, 1]`` as a small camera sees it at night: 5 % of the light, bluish, with noise.

    Light is taken as the square of the value; the noise of the photons grows with the root of the light, that of the
    sensor is constant.
    """
    light = 0.05 * np.square(picture) * np.array([0.7, 0.9, 1.2], np.float32)
    noise = rng.normal(size=picture.shape) * np.sqrt(light / 1500 + 2e-3**2)
    return np.sqrt(np.clip(light + noise, 0, 1)).astype(np.float32)


def _prepare_target(folder: Path, pictures: PictureSet, count: int, *, dark: bool, seed: int) -> None:
    """The target's pictures, ``count`` of them (some of them twice), so that both domains weigh alike as contents."""
    if len(list(folder.glob("*.jpg"))) >= count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = pictures.picture(number % len(pictures))
        if dark:
            pixels = _bytes(night(pixels / np.float32(255), np.random.default_rng([seed, number, 7])))
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=95)


def _told_apart(net: JohnsonNet, sources: PictureSet, targets: PictureSet, plan: Plan) -> float:
    """Accuracy of a classifier trained on the finished features, on other crops of the same pictures."""
    rng, rule = np.random.default_rng([plan.seed, 11]), CropRule(plan.size, 0.5, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        classifier = DomainClassifier(DomainConfig(inputs=net.config.quarter))
    optimiser = torch.optim.Adam(classifier.parameters(), lr=2e-3)

    def seen(pictures: PictureSet, number: int) -> torch.Tensor:
        with torch.no_grad():
            return net.features(torch.from_numpy(pictures.crops(rng, number, rule)).float() / 255)

    for _ in range(plan.classifier):
        loss = domain_loss(classifier(seen(sources, 8)), classifier(seen(targets, 8)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = (classifier(seen(sources, 64)) < 0).sum() + (classifier(seen(targets, 64)) > 0).sum()
    return float(right) / 128


# -- measuring -------------------------------------------------------------------------------------------------------


class Scorer:
    """Distances of paintings through the embedded lens."""

    def __init__(self, style: Path) -> None:
        self.lens: Teacher = load_encoder()
        self.layer = content_layer(self.lens)
        self.style = self._summary(StylePicture.read(style, 320).pixels / np.float32(255))

    def _summary(self, picture: FloatArray) -> StyleSummary:
        return summarise_style(look(self.lens, picture, self.lens.spec.style_layers))

    def structure(self, painted: FloatArray, content: FloatArray) -> float:
        """Of the layer by which the photograph is recognised."""
        return structure_distance(*(look(self.lens, one, [self.layer])[self.layer] for one in (painted, content)))

    def fill(self, row: Row, paintings: Sequence[FloatArray], contents: Sequence[FloatArray]) -> None:
        """Add the figures that all tables have."""
        for painted, content in zip(paintings, contents, strict=True):
            summary = self._summary(painted)
            kept = content_distance(*(look(self.lens, one, [self.layer]) for one in (painted, content)))
            found = {
                "style": moment_distance(summary, self.style),
                "gram": gram_distance(summary, self.style),
                "content": kept,
                "structure": self.structure(painted, content),
            }
            for name, value in found.items():
                row.figures.setdefault(name, []).append(value)


def _held_out(sources: Sequence[Path], plan: Plan) -> list[FloatArray]:
    """Pictures ``[H, W, 3]`` whose short side is ``plan.side``, evenly chosen among all in order."""
    paths = sorted(path for source in sources for path in source.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(plan.pictures, len(paths))).astype(int)]
    found = []
    for path in chosen:
        pixels = read_picture(path).pixels
        factor = plan.side / min(pixels.shape[:2])
        height, width = (max(8, round(side * factor) // 4 * 4) for side in pixels.shape[:2])
        found.append(np.clip(resize(pixels, (height, width)), 0, 1).astype(np.float32)[:, : 2 * plan.side])
    return found


@torch.no_grad()
def _paint(net: JohnsonNet, picture: FloatArray) -> FloatArray:
    batch = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    return net.eval()(batch)[0][0].clamp(0, 1).permute(1, 2, 0).contiguous().numpy()


def _bytes(picture: FloatArray) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def _sheet(path: Path, pictures: Sequence[FloatArray], rows: Sequence[Sequence[FloatArray]]) -> None:
    """Up to six pictures in the first row, their paintings below, a row for each training."""
    side = 224
    sheet = Image.new("RGB", (min(6, len(pictures)) * side, (1 + len(rows)) * side))
    for down, row in enumerate([pictures, *rows]):
        for right, one in enumerate(row[:6]):
            sheet.paste(ImageOps.fit(Image.fromarray(_bytes(one)), (side, side)), (right * side, down * side))
    sheet.save(path, quality=90)


def _summary(values: Sequence[float]) -> dict[str, float]:
    """Mean and its standard error."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "error": error}


def _publish(what: str, plan: Plan, rows: Sequence[Row], path: Path | None) -> None:
    first, content = rows[0], []
    table = Table(title=f"{what}: mean ± standard error (difference to the first row)")
    names = list(rows[0].figures)
    for column in ("training", *names, "CPU s"):
        table.add_column(column, justify="left" if column == "training" else "right")
    for row in rows:
        figures: dict[str, Mapping[str, Any]] = {}
        cells = []
        for name in names:
            difference = _summary(np.subtract(row.figures[name], first.figures[name]).tolist())
            figures[name] = _summary(row.figures[name]) | {"difference": difference, "values": row.figures[name]}
            cell = f"{figures[name]['mean']:.3f}"
            cells.append(cell if row is first else f"{cell} ({difference['mean']:+.3f} ± {difference['error']:.3f})")
        content.append({"name": row.name, "cpu_seconds": round(row.cpu_seconds, 1), "figures": figures})
        table.add_row(row.name, *cells, f"{row.cpu_seconds:.0f}")
    Console(width=200).print(table)
    if path is not None:
        facts = {"benchmark": f"training_extras {what}", "plan": asdict(plan), "rows": content, "machine": machine()}
        facts |= {"packages": package_versions(), "commit": git_commit()}
        facts["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

"""How fast and how good regions are found: ``python -m benchmarks.regions --masks FOLDER``.

Times are taken on one picture of 1024 x 768. Quality is measured on a folder of photographs ``photo_NAME.jpg`` with
masks ``mask_NAME.png`` of their foreground: the overlap (intersection over union) of what is found from the bounding
box, from clicks where a person would click (the middle of the largest part that is still wrong), without any hint, and
of the best union of automatic segments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.harness import Case, Report, Target, add_options, busy_share, checked_options, measure, publish
from benchmarks.pictures import photograph
from impasto.errors import FieldError
from impasto.image import Picture, read_mask, read_picture
from impasto.regions import RegionConfig, RegionFinder
from impasto.regions.overlay import spot_of

__all__ = ["Plan", "main", "overlap", "run"]

TARGETS = {"box": Target("at most", 2), "click": Target("at most", 2)}  # seconds, at a width of 1024
SEGMENTS = (8, 16, 32)
CLICKS = 3

Bitmap = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        height: of the timed picture.
        width: of the timed picture.
        repeats: rounds of timing.
        pause: seconds of rest between.
        photographs: most photographs whose masks are compared.
    """

    height: int = 768
    width: int = 1024
    repeats: int = 5
    pause: float = 0.3
    photographs: int = 1000

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(height=72, width=96, repeats=1, pause=0.0, photographs=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regions", description=__doc__.partition("\n")[0])
    parser.add_argument("--masks", type=Path, metavar="FOLDER", help="photographs with masks; without it, times only")
    add_options(parser, repeats=Plan.repeats)
    options = checked_options(parser, arguments)
    publish(run(Plan.quick() if options.quick else Plan(repeats=options.repeats), options.masks), options.json)
    return 0


def run(plan: Plan, masks: Path | None = None) -> Report:
    """Everything, in one report."""
    report = Report("regions", {"plan": asdict(plan)}, judged=plan.width == Plan.width)
    report.busy = busy_share()
    picture = read_picture(_scene(plan.height, plan.width))
    texts = {
        "box": "box:45%,20%,90%,80%",
        "click": "click:65%,50%",
        "foreground": "foreground",
        "segments": "segment:1",
        "faces": "faces",
        "text": "text",
    }
    cases = [Case(name, lambda text=text: _found(picture, text)) for name, text in texts.items()]  # type: ignore[misc]
    timings = measure(cases, repeats=plan.repeats, warmup=1, settle=0, pause=plan.pause)
    for name in texts:
        note = f"{plan.width}x{plan.height}, from the picture to the mask"
        report.add_timing(name, timings[name], unit="s", target=TARGETS.get(name), note=note)
    if masks is None:
        report.notes.append("no --masks: quality was not measured")
        return report
    pairs = sorted(masks.glob("photo_*"))[: plan.photographs]
    if not pairs:
        report.notes.append(f"no photo_* in '{masks}': quality was not measured")
        return report
    found: dict[str, list[float]] = {}
    for path in pairs:
        photo = read_picture(path)
        wanted = read_mask(masks / f"mask_{path.stem.removeprefix('photo_')}.png", photo.size) >= 0.5
        for name, value in _compared(photo, wanted).items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        note = f"median {np.median(values):.3f}, below 0.5 in {sum(value < 0.5 for value in values)} of {len(values)}"
        report.add(f"overlap, {name}", float(np.mean(values)), "", note=note)
    return report


def overlap(first: Bitmap, second: Bitmap) -> float:
    """Intersection over union."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def _scene(height: int, width: int) -> NDArray[np.uint8]:
    """The stand-in for a photograph, with an orange disc before it."""
    image = Image.fromarray(photograph(height, width))
    disc = (0.5 * width, 0.25 * height, 0.5 * width + 0.5 * height, 0.75 * height)
    ImageDraw.Draw(image).ellipse(disc, fill=(230, 120, 40))
    return np.asarray(image)


def _found(picture: Picture, text: str) -> Bitmap:
    """A region's pixels; none where it is not found."""
    try:
        return np.asarray(RegionFinder(picture).find(text) >= 0.5)
    except FieldError:
        return np.zeros(picture.size, bool)


def _compared(photo: Picture, wanted: Bitmap) -> dict[str, float]:
    """Overlaps with the known mask, by how the region was asked for."""
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    box = f"box:{columns[0]},{rows[0]},{columns[-1] + 1},{rows[-1] + 1}"
    values = {"box": overlap(_found(photo, box), wanted)}
    clicks, found = [_click(wanted)], np.zeros_like(wanted)
    for count in range(1, CLICKS + 1):
        found = _found(photo, "click:" + "/".join(clicks))
        values[f"{count} click{'s' if count > 1 else ''}"] = overlap(found, wanted)
        missing, surplus = wanted & ~found, found & ~wanted
        more = missing.sum() >= surplus.sum()
        if not (missing if more else surplus).any():
            break
        clicks.append(("" if more else "-") + _click(missing if more else surplus))
    values["foreground"] = overlap(_found(photo, "foreground"), wanted)
    for count in SEGMENTS:
        numbers = RegionFinder(photo, RegionConfig(segments=count)).segment_numbers
        size = (photo.width, photo.height)
        labels = np.asarray(Image.fromarray(numbers.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
        shares = np.bincount(labels.ravel(), wanted.ravel()) / np.maximum(np.bincount(labels.ravel()), 1)
        values[f"best union of {count} segments"] = overlap((shares > 0.5)[labels], wanted)
    return values


def _click(part: Bitmap) -> str:
    x, y = spot_of(part.astype(np.float32))
    return f"{min(max(x, 0), part.shape[1]):.1f},{min(max(y, 0), part.shape[0]):.1f}"


if __name__ == "__main__":
    sys.exit(main())

"""How the time of an evaluation grows with its pairs, and that features of each picture are computed once.

``python -m benchmarks.evaluate --json evaluate.json``. It measures pictures that exist (synthetic ones, painted by a
blend of content and style), not the painting of them: that is the engines' own time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Report, Target, Timing, add_options, busy_share, checked_options, publish
from benchmarks.pictures import photograph
from impasto.evaluate.folders import CompareConfig, CompareJob, run_comparison
from impasto.evaluate.measures import DEFAULT_METRICS
from impasto.evaluate.measuring import Measurer, MetricFiles, load_measurer

LINEAR = 1.25  # time for each pair of a large run over that of a small one, at most


def write_folders(folder: Path, contents: int, styles: int, size: int) -> None:
    """Contents, styles, and two folders of results for all their pairs."""
    for name in ("content", "style", "first", "second"):
        (folder / name).mkdir(parents=True)
    photos = [photograph(size * 2 // 3, size, seed=index) for index in range(contents)]
    artworks = [photograph(size, size, seed=1000 + index)[::-1] for index in range(styles)]
    for index, pixels in enumerate(photos):
        Image.fromarray(pixels).save(folder / "content" / f"c{index:02}.png")
    for index, pixels in enumerate(artworks):
        Image.fromarray(pixels).save(folder / "style" / f"s{index:02}.png")
    for one, photo in enumerate(photos):
        for other, artwork in enumerate(artworks):
            for name, share in (("first", 0.3), ("second", 0.6)):
                mixed = (1 - share) * photo + share * artwork[: photo.shape[0], : photo.shape[1]]
                Image.fromarray(mixed.astype(np.uint8)).save(folder / name / f"c{one:02}_s{other:02}.png")


def timed(folder: Path, measurer: Measurer, pairs: int, size: int) -> float:
    """Seconds to measure so many pairs of two folders and their controls."""
    job = CompareJob(
        folder / "first",
        folder / "second",
        folder / "content",
        folder / "style",
        metrics=DEFAULT_METRICS,
        config=CompareConfig(size=size, pairs=pairs),
    )
    begun = time.perf_counter()
    evaluation, _ = run_comparison(job, measurer)
    if evaluation.failures:
        raise SystemExit(f"a measurement failed: {evaluation.failures[0].error}")
    return time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="lens", help="feature network: lens, or a backbone's file")
    add_options(parser, repeats=3)
    options = checked_options(parser, arguments)
    contents, styles, size = (3, 3, 64) if options.quick else (10, 10, 256)
    counts = (contents * styles // 4, contents * styles)
    settings = {"contents": contents, "styles": styles, "size": size, "encoder": options.encoder}
    report = Report("evaluate", settings, judged=not options.quick, busy=busy_share())
    measurer = load_measurer(DEFAULT_METRICS, MetricFiles(encoder=options.encoder))
    with tempfile.TemporaryDirectory() as name:
        write_folders(Path(name), contents, styles, size)
        timed(Path(name), measurer, 2, size)
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(options.repeats):
            for count in counts:
                seconds[count].append(timed(Path(name), measurer, count, size))
    timings = {count: Timing(tuple(values)) for count, values in seconds.items()}
    for count, timing in timings.items():
        report.add_timing(f"{count} pairs, two folders and both controls at {size} px", timing, unit="s")
    each = [timing.median / count for count, timing in timings.items()]
    report.add("time of one pair (four results)", each[1] * 1e3, "ms")
    growth = each[1] / each[0]
    report.add("time of a pair, many over few", growth, "x", target=Target("at most", LINEAR), note="1 is linear")
    publish(report, options.json)


if __name__ == "__main__":
    main()

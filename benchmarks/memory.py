"""How much memory and disk impasto takes, and how visible its seams are: ``python -m benchmarks.memory``.

The peak is what the system counted for the whole command ``impasto stylize``, file to file (``ru_maxrss``). Linux hands
the peak of the process that starts a command down to it, so this process stays small: pictures are made by others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, Report, Target, Timing, add_options, checked_options, publish

__all__ = ["Plan", "folder_bytes", "main", "peak_bytes", "seam_error"]

PEAK_TARGET = Target("at most", 1200)  # MB, at 3840 x 2160 and 12000 x 8000
SEAM_TARGET = Target("at most", 2)  # steps of 1/255
WHEEL_TARGET = Target("at most", 15)  # MB
INSTALL_TARGET = Target("at most", 200)  # MB


@dataclass(frozen=True)
class Plan:
    """Sizes of a run, each ``(width, height)`` as people say them.

    Attributes:
        ordinary: pictures without a target.
        large: the picture that has one.
        huge: the gigantic one, None to leave it out.
        seam: side of the picture of the seam measurement, at most 768.
        repeats: processes per size.
    """

    ordinary: tuple[tuple[int, int], ...] = ((512, 512), (1920, 1080))
    large: tuple[int, int] = (3840, 2160)
    huge: tuple[int, int] | None = None
    seam: int = 768
    repeats: int = 1

    @classmethod
    def quick(cls, *, huge: bool) -> Plan:
        """Small enough for a test."""
        return cls(ordinary=((64, 64),), large=(128, 96), huge=(400, 300) if huge else None, seam=320)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.repeats)
    parser.add_argument("--huge", action="store_true", help="also 12000x8000")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="the wheel to weigh; by default one is built")
    parser.add_argument(
        "--install", action="store_true", help="also install the wheel afresh and weigh what that brings"
    )
    options = checked_options(parser, arguments)
    if not hasattr(os, "wait4"):
        parser.error("this system does not count the memory of single processes (os.wait4); use Linux or macOS")
    if options.wheel is not None and not options.wheel.is_file():
        parser.error(f"there is no wheel '{options.wheel}'")
    publish(run(_plan(options), options), options.json)
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    if options.quick:
        return Plan.quick(huge=options.huge)
    return Plan(huge=(12000, 8000) if options.huge else None, repeats=options.repeats)


def run(plan: Plan, options: argparse.Namespace) -> Report:
    """Everything, in one report."""
    settings = {"plan": vars(plan), "huge": options.huge, "install": options.install}
    report = Report("memory", settings, judged=not options.quick)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _peaks(report, plan, folder)
        _seams(report, plan)
        if options.quick and options.wheel is None:
            report.notes.append("no wheel was built in a quick run; name one with --wheel")
        else:
            wheel = options.wheel or build_wheel(folder / "wheel")
            _weigh(report, wheel, folder if options.install else None)
    if not options.huge:
        report.notes.append("12000x8000 was left out; --huge measures it (minutes)")
    if not options.install:
        report.notes.append("the installation was not weighed; --install does it (needs the package index)")
    return report


# -- peak memory -----------------------------------------------------------------------------------------------------


def _peaks(report: Report, plan: Plan, folder: Path) -> None:
    style = _helper("style").strip()
    bare, _ = peak_bytes([sys.executable, "-c", "import impasto.stylizer"])
    report.add("Python with impasto imported", bare / 1e6, "MB")
    for size in plan.ordinary:
        _peak(report, plan, folder, style, size, None)
    _peak(report, plan, folder, style, plan.large, PEAK_TARGET)
    if plan.huge is not None:
        _peak(report, plan, folder, style, plan.huge, PEAK_TARGET)


def _peak(report: Report, plan: Plan, folder: Path, style: str, size: tuple[int, int], target: Target | None) -> None:
    """The whole command on a JPEG, and within it the engine alone, from 8-bit pixels to 8-bit pixels."""
    width, height = size
    label = f"{width}x{height}"
    photo, painting = folder / f"{label}.jpg", folder / f"{label}.painting.jpg"
    _helper("photograph", str(photo), str(height), str(width))
    command = ["stylize", str(photo), "--style", style, "--output", str(painting)]
    peaks, times = [], []
    for _ in range(plan.repeats):
        peak, seconds = peak_bytes([sys.executable, "-m", "impasto", *command])
        peaks.append(peak / 1e6)
        times.append(seconds)
    report.timings[f"impasto stylize, {label}"] = Timing(tuple(times))
    note = f"JPEG to JPEG in {min(times):.1f} s"
    report.add(f"impasto stylize, {label}", max(peaks), "MB", target=target, note=note)
    alone, _ = peak_bytes([*_HELPER, "render", str(height), str(width)])
    report.add(f"the engine alone, {label}", alone / 1e6, "MB", note="8-bit pixels in and out, both counted")
    painting.unlink(missing_ok=True)
    photo.unlink(missing_ok=True)


def peak_bytes(command: Sequence[str]) -> tuple[int, float]:
    """Run a command; the largest resident memory it had, in bytes, and its seconds.

    Raises:
        RuntimeError: the command failed.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        if process.returncode != 0:
            said.seek(0)
            reason = said.read().decode("utf-8", "replace").strip()
            raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}: {reason}")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return usage.ru_maxrss * unit, seconds


# -- seams -----------------------------------------------------------------------------------------------------------


def _seams(report: Report, plan: Plan) -> None:
    largest, mean = (float(word) for word in _helper("seams", str(plan.seam)).split())
    note = f"{plan.seam}x{plan.seam}, tiles of 256 against one pass, mean {mean:.2g}"
    report.add("largest difference at seams", largest, "/255", target=SEAM_TARGET, note=note)


def seam_error(side: int) -> tuple[float, float]:
    """Largest and mean difference between a picture painted in tiles and painted whole, in steps of 1/255.

    The picture is at most as large as the copy on which tiled pictures are measured, so the copy is the picture itself
    and both paintings are normalised by the same statistics: what differs is due to tiles. Floats go in and come out,
    so that rounding to 8 bits neither hides a difference nor adds one.

    Raises:
        ValueError: a larger picture, or one without seams.
    """
    import numpy as np

    from benchmarks.pictures import photograph
    from impasto.config import StylizeConfig
    from impasto.engines import load_engine
    from impasto.engines.brush import PROXY_PIXELS
    from impasto.field import StyleField
    from impasto.ops.tiling import to_float

    tile = 256
    if side * side > PROXY_PIXELS or side <= tile:
        raise ValueError(f"the side must be above {tile} and at most {int(PROXY_PIXELS**0.5)}, not {side}")
    engine = load_engine("brush")
    picture = to_float(photograph(side, side))
    largest, means = 0.0, []
    for code in engine.presets().values():
        field = StyleField.constant(code)
        whole = engine.render(picture, field, StylizeConfig(tile=side))
        tiled = engine.render(picture, field, StylizeConfig(tile=tile))
        difference = np.abs(whole - tiled) * 255
        largest = max(largest, float(difference.max()))
        means.append(float(difference.mean()))
    return largest, sum(means) / len(means)


# -- disk ------------------------------------------------------------------------------------------------------------


def _weigh(report: Report, wheel: Path, folder: Path | None) -> None:
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    note = f"{wheel.name}, {unpacked / 1e6:.1f} MB unpacked"
    report.add("the wheel", wheel.stat().st_size / 1e6, "MB", target=WHEEL_TARGET, note=note)
    if folder is None:
        return
    packages = install(wheel, folder / "installed")
    largest = sorted(((folder_bytes(part), part.name) for part in packages.iterdir() if part.is_dir()), reverse=True)
    compiled = sum(path.lstat().st_blocks * 512 for path in packages.rglob("*.pyc")) / 1e6
    note = ", ".join(f"{name} {size / 1e6:.0f}" for size, name in largest[:4]) + f"; {compiled:.0f} of it bytecode"
    if (packages / "torch").exists():
        report.notes.append("the core installation brought torch, which it must not")
    report.add("a fresh core installation", folder_bytes(packages) / 1e6, "MB", target=INSTALL_TARGET, note=note)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this source folder.

    Raises:
        RuntimeError: the build failed.
    """
    folder.mkdir()
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel with what it needs into a new environment without pip; its ``site-packages``.

    Raises:
        RuntimeError: the environment cannot be made, or pip failed.
    """
    _checked([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", str(wheel))
    asked = _checked([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    return Path(asked.strip())


def _pip(*arguments: str) -> None:
    _checked([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _checked(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def folder_bytes(folder: Path) -> int:
    """What a folder takes on the disk, as ``du`` counts it: allocated blocks, links not followed."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


# -- what runs in processes of its own -------------------------------------------------------------------------------

_HELPER = (sys.executable, "-m", "benchmarks.memory_helper")


def _helper(*arguments: str) -> str:
    done = subprocess.run([*_HELPER, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the helper ({' '.join(arguments)}) failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

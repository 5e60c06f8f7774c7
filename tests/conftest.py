"""What all tests share: natural pictures without a download, the command line as a process, golden pictures."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import settings
from PIL import Image

from impasto.stylizer import Stylizer

# The machine is often busy: no deadlines. The examples are the same in every run.
settings.register_profile("impasto", deadline=None, derandomize=True, database=None)
settings.load_profile("impasto")

NATURAL = Path(skimage.__file__).parent / "data"  # these files lie in scikit-image's wheel


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden pictures anew, with a sheet to see")


def pytest_configure(config):
    config.golden_sheets = []


def pytest_terminal_summary(terminalreporter, config):
    for sheet in config.golden_sheets:
        terminalreporter.write_line(f"golden picture written; before, after and difference: {sheet}")


def natural(name, size=None):
    """A picture of scikit-image as uint8 ``[H, W, 3]``, reduced to ``size`` (height, width)."""
    with Image.open(NATURAL / name) as image:
        rgb = image.convert("RGB")
    return np.asarray(rgb if size is None else rgb.resize(size[::-1], Image.Resampling.LANCZOS))


@pytest.fixture(scope="session")
def photograph():
    """A woman before a space shuttle: uint8 ``[96, 96, 3]``."""
    return natural("astronaut.png", (96, 96))


@pytest.fixture(scope="session")
def artworks():
    """Two very different pictures to take styles from: dark stars, brown crockery."""
    return natural("hubble_deep_field.jpg", (120, 140)), natural("coffee.png", (128, 180))


@pytest.fixture(scope="session")
def stylizer():
    """The default engine on the embedded weights, loaded once."""
    return Stylizer.load()


@pytest.fixture(scope="session")
def presets(stylizer):
    """Codes of the default engine's presets, by name."""
    return stylizer.engine.presets()


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def command_environment():
    """Variables for subprocesses: warnings are errors there too, and tables are not cut."""
    return os.environ | {"PYTHONWARNINGS": "error", "NO_COLOR": "1", "COLUMNS": "200", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture
def impasto(tmp_path, command_environment):
    """Run ``impasto ARGUMENTS`` as a process in the test's folder."""

    def run(*arguments, code=0):
        finished = subprocess.run(
            [sys.executable, "-m", "impasto", *map(str, arguments)],
            cwd=tmp_path,
            env=command_environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        return Finished(finished.returncode, finished.stdout, finished.stderr)

    return run


@pytest.fixture
def refused(impasto, tmp_path):
    """Run a command that must fail with ``code`` and one line on stderr that holds ``words``, and write no file."""

    def run(*arguments, code, words):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        finished = impasto(*arguments, code=code)
        lines = finished.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("impasto: "), finished.err
        missing = [word for word in ([words] if isinstance(words, str) else words) if word not in lines[0]]
        assert not missing, f"{missing} not in: {lines[0]}"
        assert finished.out == ""
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    return run


@pytest.fixture
def photo(tmp_path, photograph):
    """The photograph as ``photo.png`` in the test's folder."""
    Image.fromarray(photograph[8:72, 16:96]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def pixels_of(path):
    """A file's pixels as uint8, as any other program sees them."""
    with Image.open(path) as image:
        return np.asarray(image)

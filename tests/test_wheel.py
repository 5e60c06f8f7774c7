"""The built wheel in an environment that has what the wheel asks for and nothing else; no network is needed."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("build")
pytest.importorskip("hatchling")
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (path,) = folder.glob("*.whl")
    return path


def requirements_of(wheel):
    """Names of all distributions that the wheel's core needs, theirs included."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        asked = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    waiting, found = [Requirement(text) for text in asked], {}
    while waiting:
        requirement = waiting.pop()
        wanted = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            for extra in {"", *requirement.extras}
        )
        if not wanted or requirement.name in found:
            continue
        try:
            found[requirement.name] = distribution(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"'{requirement.name}' is asked for and not installed here")
        waiting += [Requirement(text) for text in found[requirement.name].requires or ()]
    return found


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The Python of a new environment: the unpacked wheel, and links to the distributions that it asks for."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for found in requirements_of(wheel).values():
        for name in {Path(file).parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(found.locate_file(name))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder / "bin" / "python"


def run(python, *arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    finished = subprocess.run(
        [str(python), "-W", "error", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return finished


def test_the_wheel_is_small_and_complete(wheel):
    assert wheel.stat().st_size <= 54e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    for path in (source / "impasto").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert path.relative_to(source).as_posix() in names, path
    recipes = {name for name in names if name.startswith("impasto/training/recipes/")}
    assert {"brush.toml", "brush-presets.toml", "brush-card.toml"} <= {Path(name).name for name in recipes}
    assert not [name for name in names if not name.startswith("impasto")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_paints_without_torch(clean, photo, tmp_path):
    code = "import importlib.util as u, json; print(json.dumps([n for n in {} if u.find_spec(n)]))"
    heavy = ["torch", "safetensors", "onnx", "scipy", "skimage", "pytest"]
    assert json.loads(run(clean, "-c", code.format(heavy), cwd=tmp_path).stdout) == []
    where = run(clean, "-c", "import impasto; print(impasto.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(clean.parent.parent))
    finished = run(clean, "-m", "impasto", "stylize", photo, "-s", "ukiyo-e", "-o", "out.png", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    with Image.open(photo) as before, Image.open(tmp_path / "out.png") as after:
        assert after.size == before.size
        assert np.abs(np.asarray(after, int) - np.asarray(before, int)).mean() > 5


def test_the_wheel_lists_and_shows_help(clean, tmp_path):
    for arguments in (["--help"], ["--version"], ["engines"], ["presets", "--json"], ["train", "--help"]):
        finished = run(clean, "-m", "impasto", *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "brush", "--content", ".", "--style", ".", "--teacher", "photo.png", "--out", "out"], "torch"),
        (["export", "photo.png", "-o", "out"], "export"),
    ],
)
def test_what_needs_torch_names_the_install(clean, photo, tmp_path, arguments, extra):
    finished = run(clean, "-m", "impasto", *arguments, cwd=tmp_path)
    assert finished.returncode == 6, finished.stderr
    assert finished.stderr.count("\n") == 1 and f"pip install 'impasto[{extra}]'" in finished.stderr

"""``impasto train johnson``: from one picture to a style with a name."""

import importlib
import os
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import onnx
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from impasto.cli import train as command
from impasto.engines.johnson_styles import find_styles
from impasto.errors import MissingExtraError, UsageError, WeightsError
from impasto.export import export_johnson, export_set
from impasto.training.loop import latest_checkpoint

QUICK = (
    "network={half = 4, quarter = 4, blocks = 1}",
    "data.style_side=64",
    "schedule.checkpoint_every=1",
    "schedule.log_every=1",
    "stages=[{steps = 3, batch = 1, size = 48}]",
)


@pytest.fixture
def app(monkeypatch, tmp_path):
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "home"))
    application = typer.Typer()
    command.register(application)
    return application


@pytest.fixture
def command_environment(command_environment, tmp_path):
    return command_environment | {"IMPASTO_HOME": str(tmp_path / "home")}


@pytest.fixture
def arguments(pictures, teacher_file, tmp_path):
    options = {
        "--content": pictures / "photos",
        "--style": pictures / "art" / "art1.png",
        "--teacher": teacher_file,
        "--out": tmp_path / "out",
        "--device": "cpu",
    }
    plain = [str(part) for pair in options.items() for part in pair]
    return ["train", "johnson", *plain, *(part for change in QUICK for part in ("--set", change))]


def test_one_command_makes_a_style_that_is_used_by_its_name(app, arguments, impasto, photo, tmp_path, monkeypatch):
    result = CliRunner().invoke(app, [*arguments, "--title", "Waves of chance", "--credit", "a test's own"])
    assert result.exit_code == 0, result.output
    assert "--engine johnson --style art1" in result.stdout.replace("\n", "")
    style = find_styles()["art1"]
    assert (style.title, style.credit) == ("Waves of chance", "a test's own")
    card = tomllib.loads((tmp_path / "out" / "art1.toml").read_text())
    assert card["steps"] == 3 and card["curve"]["step"] == [1, 2, 3] and card["engine"] == "johnson"
    assert card["parameters"]["net"] > 0 and card["style_sha256"]

    impasto("stylize", photo, "--engine", "johnson", "-s", "art1", "-o", "by-name.png")
    impasto("stylize", photo, "--engine", "johnson", "-s", tmp_path / "out" / "art1.onnx", "-o", "by-path.png")
    first, second = (np.asarray(Image.open(tmp_path / f"by-{way}.png")) for way in ("name", "path"))
    assert np.array_equal(first, second) and first.shape == (64, 80, 3)
    assert impasto("replay", "by-name.png", "-o", "again.png").out == "again.png\n"
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "by-name.png").read_bytes()
    listed = impasto("presets", "--engine", "johnson").out
    assert "art1" in listed and "Waves of chance" in listed


def test_a_style_may_stay_in_its_folder(app, arguments, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--no-install", "--name", "Other-1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "Other-1.onnx").is_file() and not (tmp_path / "home").exists()


def test_names_are_checked_before_the_training(app, arguments, pictures, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--name", "../x"])
    assert isinstance(result.exception, UsageError) and "cannot be a style's name" in str(result.exception)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    other = [str(pictures / "art" / "art2.png") if "art1" in part else part for part in arguments]
    other[other.index(str(tmp_path / "out"))] = str(tmp_path / "new")
    result = CliRunner().invoke(app, [*other, "--name", "art1"])
    assert isinstance(result.exception, UsageError) and "--replace" in str(result.exception)
    assert not (tmp_path / "new").exists()
    assert CliRunner().invoke(app, [*other, "--name", "art1", "--replace"]).exit_code == 0


@pytest.mark.parametrize(("absent", "extra"), [("onnx", "export"), ("onnxscript.optimizer", "export")])
def test_the_exporter_is_asked_for_before_the_training(app, arguments, tmp_path, monkeypatch, absent, extra):
    real = importlib.import_module

    def fail(name):
        if name == "impasto.export":
            raise ModuleNotFoundError(f"No module named '{absent}'", name=absent)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, MissingExtraError) and f"impasto[{extra}]" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_training_goes_on_with_the_same_command(arguments, tmp_path, command_environment, how):
    environment = command_environment | {"PYTHONWARNINGS": "default"}
    full = [sys.executable, "-m", "impasto", *arguments, "--set", "stages=[{steps = 200, batch = 1, size = 48}]"]
    process = subprocess.Popen(
        full,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        until = time.monotonic() + 100
        while latest_checkpoint(tmp_path / "out") is None and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(process.pid, how)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert how == signal.SIGKILL or "Run the same command to go on" in said
    begun = int(latest_checkpoint(tmp_path / "out").name.removeprefix("step-"))
    assert 0 < begun < 200
    short = [*full[:-1], f"stages=[{{steps = {begun + 2}, batch = 1, size = 48}}]"]
    finished = subprocess.run(short, env=environment, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert tomllib.loads((tmp_path / "out" / "art1.toml").read_text())["steps"] == begun + 2


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """A network of the default size, exported."""
    import torch

    from impasto.nets.johnson import JohnsonNet
    from impasto.training.files import save_johnson

    folder = tmp_path_factory.mktemp("full")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = JohnsonNet()
        torch.nn.init.uniform_(net.gain, 0.5, 1.5)
        torch.nn.init.normal_(net.bias)
    texts = {
        "step": "7",
        "recipe": 'name = "johnson"',
        "style": '{"name": "full", "title": "f", "credit": "\\"q\\" \\\\"}',
    }
    save_johnson(net, folder / "full.safetensors", texts)
    (written,) = export_set(folder / "full.safetensors", folder / "out")
    return folder / "out" / "full.onnx", written


def test_a_style_takes_half_a_megabyte(full_size):
    path, written = full_size
    assert written.bytes == path.stat().st_size <= 500_000
    assert tomllib.loads(path.with_suffix(".toml").read_text())["credit"] == '"q" \\'
    graph = onnx.load(path)
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer) >= 14


def test_a_graph_that_differs_is_not_written(tmp_path, full_size, monkeypatch):
    monkeypatch.setattr("impasto.export.johnson._johnson_parity", lambda *_: 0.01)
    weights = full_size[0].parent.parent / "full.safetensors"
    with pytest.raises(WeightsError, match="differs from the torch network by 1"):
        export_johnson(weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()

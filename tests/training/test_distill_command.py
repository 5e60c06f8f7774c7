"""``impasto train distill``: from a larger engine to a style with a name; and ``--adapt``."""

import os
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from impasto.cli import train as command
from impasto.engines.johnson_styles import find_styles
from impasto.errors import TrainingError, UnknownNameError, UsageError
from impasto.training.loop import latest_checkpoint

QUICK = (
    "network={half = 4, quarter = 4, blocks = 1}",
    "data.style_side=64",
    "data.pictures=2",
    "data.side=48",
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
    return command_environment | {"IMPASTO_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


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
    return ["train", "distill", *plain, *(part for change in QUICK for part in ("--set", change))]


def test_one_command_makes_a_student_that_is_used_like_any_style(arguments, command_environment, photo, tmp_path):
    def run(*parts):
        line = [sys.executable, "-m", "impasto", *map(str, parts)]
        environment = command_environment | {"PYTHONWARNINGS": "default"}
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=True)

    slow = ["--engine", "gatys", "--engine-set", "iterations=2", "--title", "Waves again"]
    first = run(*arguments, *slow)
    said = " ".join(first.stderr.split())
    assert "First gatys paints 2 crops of 48 px, about 0:00:" in said and "what is painted stays" in said
    assert said.index("First gatys") < said.index("step")
    assert "--engine johnson --style art1" in first.stdout
    card = tomllib.loads((tmp_path / "out" / "art1.toml").read_text())
    assert card["training_data"] == "2 crops of 2 photographs, painted by the engine gatys"
    assert card["title"] == "Waves again" and card["engine"] == "johnson"
    assert "First gatys" not in run(*arguments, *slow).stderr  # it is all there
    run("stylize", photo, "--engine", "johnson", "-s", "art1", "-o", tmp_path / "by-name.png")
    with Image.open(tmp_path / "by-name.png") as painted:
        assert np.asarray(painted).shape == (64, 80, 3)


def test_what_is_wrong_is_said_before_anything_is_painted(app, arguments, tmp_path):
    def error(*more):
        result = CliRunner().invoke(app, [*arguments, *more])
        assert not (tmp_path / "out").exists()
        return result.exception

    unknown = error("--engine", "gatis")
    assert isinstance(unknown, UnknownNameError) and "gatys" in str(unknown)
    assert "--engine-set takes NAME=VALUE" in str(error("--engine-set", "iterations"))
    assert "iteration" in str(error("--engine-set", "iteration=3"))
    trained = error("--engine", "johnson")
    assert isinstance(trained, UsageError) and "learn from one of adain, brush" in str(trained)
    (tmp_path / "empty").mkdir()
    nothing = error("--engine", "brush", "--adapt", str(tmp_path / "empty"))
    assert isinstance(nothing, TrainingError) and "no picture found" in str(nothing)


def test_both_kinds_of_training_can_be_adapted(app, arguments, pictures, tmp_path):
    more = ["--adapt", str(pictures / "art"), "--engine", "brush"]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    assert tomllib.loads((tmp_path / "out" / "art1.toml").read_text())["adapted_to"].startswith("3 unlabelled pictures")
    plain = ["johnson" if part == "distill" else part for part in arguments]
    plain = [part.replace(str(tmp_path / "out"), str(tmp_path / "plain")) for part in plain]
    drop = {plain.index(change) for change in QUICK if change.startswith(("data.pictures", "data.side"))}
    plain = [part for place, part in enumerate(plain) if place not in drop and place + 1 not in drop]
    result = CliRunner().invoke(app, [*plain, "--adapt", str(pictures / "art"), "--name", "plain"])
    assert result.exit_code == 0, result.output
    assert set(find_styles()) >= {"art1", "plain"}


@pytest.mark.slow
def test_a_killed_student_ends_with_the_weights_of_one_that_was_not(arguments, command_environment, tmp_path):
    environment = command_environment | {"PYTHONWARNINGS": "default"}
    steps = ["--set", "stages=[{steps = 60, batch = 1, size = 48}]", "--engine", "brush", "--no-install"]
    killed = [sys.executable, "-m", "impasto", *arguments, *steps]
    whole = [part.replace(str(tmp_path / "out"), str(tmp_path / "whole")) for part in killed]
    subprocess.run(whole, env=environment, check=True, capture_output=True, timeout=200)
    process = subprocess.Popen(killed, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while latest_checkpoint(tmp_path / "out") is None and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert latest_checkpoint(tmp_path / "out") is not None
    assert not (tmp_path / "out" / "art1.safetensors").exists(), "the kill came too late to show anything"
    subprocess.run(killed, env=environment, check=True, capture_output=True, timeout=200)
    one, two = (load_file(tmp_path / where / "art1.safetensors") for where in ("whole", "out"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)

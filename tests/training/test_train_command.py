import importlib

import pytest
import typer
from typer.testing import CliRunner

from impasto.cli import train as command
from impasto.errors import MissingExtraError, UsageError


@pytest.fixture
def app():
    application = typer.Typer()
    command.register(application)
    return application


@pytest.fixture
def arguments(recipe_file, pictures, teacher_file, tmp_path):
    options = {
        "--content": pictures / "photos",
        "--style": pictures / "art",
        "--teacher": teacher_file,
        "--out": tmp_path / "out",
        "--recipe": recipe_file,
        "--device": "cpu",
    }
    return ["train", "brush", *(str(part) for pair in options.items() for part in pair)]


def test_the_command_trains_and_says_where_the_result_is(app, arguments, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--set", "stages.1.steps=1", "--set", "seed=5"])
    assert result.exit_code == 0, result.output
    assert "brush.safetensors" in result.stdout.replace("\n", "")
    assert "seed = 5" in (tmp_path / "out" / "recipe.toml").read_text()
    assert (tmp_path / "out" / "checkpoints" / "step-0000004").is_dir()


def test_errors_of_impasto_propagate(app, arguments):
    result = CliRunner().invoke(app, [*arguments, "--set", "losses.stlye=3"])
    assert isinstance(result.exception, UsageError)


def test_an_interrupt_says_how_to_go_on(app, arguments, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("impasto.training.run.train_brush", interrupted)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130
    assert "Run the same command to go on" in result.stderr


@pytest.mark.parametrize("absent", ["torch", "torch.nn", "accelerate", "safetensors.torch", "tensorboard"])
def test_missing_packages_name_the_extra(app, arguments, monkeypatch, absent):
    def fail(name):
        raise ModuleNotFoundError(f"No module named '{absent}'", name=absent)

    monkeypatch.setattr(importlib, "import_module", fail)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, MissingExtraError)
    assert "impasto[torch]" in str(result.exception)


def test_durations():
    assert command._duration(3725.4) == "1:02:05"

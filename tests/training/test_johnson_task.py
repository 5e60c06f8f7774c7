import hashlib
import json
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from impasto.errors import ImageError, UsageError, WeightsError
from impasto.nets.johnson import JohnsonNet
from impasto.nets.teachers import TEACHERS
from impasto.training import johnson
from impasto.training.data import PictureSet
from impasto.training.files import load_johnson, load_teacher
from impasto.training.johnson import JohnsonTask, StylePicture
from impasto.training.loop import latest_checkpoint
from impasto.training.recipe import JohnsonRecipe, read_recipe, recipe_to_toml
from impasto.training.run import train_johnson

TINY = """
name = "johnson"
seed = 2

[network]
half = 6
quarter = 8
blocks = 1

[schedule]
learning_rate = 5e-3
warmup = 2
ema = 0.5
checkpoint_every = 2
sheet_every = 1000
log_every = 1

[data]
style_side = 64

[[stages]]
steps = 2
batch = 2
size = 32
losses = {pixels = 1, style = 0, content = 0, color = 0, stability = 0}

[[stages]]
steps = 4
batch = 2
size = 48
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "johnson.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def sources(pictures, teacher_file):
    return {
        "contents": [pictures / "photos"],
        "style": pictures / "art" / "art1.png",
        "teachers": [teacher_file],
        "name": "waves",
        "device": "cpu",
    }


@pytest.fixture
def task(recipe, pictures, teacher_file):
    made = JohnsonTask(
        read_recipe(JohnsonRecipe, recipe),
        PictureSet([pictures / "photos"]),
        StylePicture.read(pictures / "art" / "art1.png", 64).pixels,
        [load_teacher(teacher_file)],
    )
    made.prepare(torch.device("cpu"))
    return made


class Same(nn.Module):
    """Paints the same picture whatever it is shown."""

    def __init__(self, pixels):
        super().__init__()
        self.picture = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255

    def forward(self, content):
        return self.picture.expand(len(content), -1, -1, -1), None


def test_the_style_picture_itself_has_no_style_loss(task, monkeypatch):
    monkeypatch.setattr(johnson, "PHASES", 1)  # looked at as a whole
    shown = {"content": torch.from_numpy(task.style.transpose(2, 0, 1).copy())[None]}
    terms = task.losses(Same(task.style), shown, 2)
    assert float(terms["style"]) < 1e-4 and float(terms["coarse"]) < 1e-4 and float(terms["color"]) < 1e-4
    assert float(terms["content"]) < 1e-4  # it is the photograph, too
    other = task.losses(Same(task.style // 4), shown, 2)
    assert all(float(other[name]) > 0.05 for name in ("style", "coarse", "color"))
    flat = task.losses(Same(np.full_like(task.style, 128)), shown, 2)
    assert float(flat["content"]) > 0.5  # of 1 * weight: nothing of the photograph is left


def test_the_photograph_is_recognised_where_the_paper_looks():
    layers = {"vgg16": "relu3_3", "vgg19": "relu3_4", "squeezenet1_0": "fire4"}
    for name, layer in layers.items():
        with torch.device("meta"):
            assert johnson.content_layer(TEACHERS[name]()) == layer


def test_the_first_stage_needs_no_encoder(task, monkeypatch):
    batch = {name: torch.from_numpy(array) for name, array in task.batch(0, 0).items()}
    monkeypatch.setattr(type(task.teachers[0]), "forward", lambda *_: pytest.fail("the encoder was asked"))
    terms = task.losses(task.model, batch, 0)
    assert set(terms) == {"variation", "range", "pixels"} and 0.1 < terms["pixels"].item() < 4


def test_stability_is_computed_as_often_as_the_recipe_says(task):
    batch = {name: torch.from_numpy(array) for name, array in task.batch(2, 0).items()}
    assert [("stability" in task.losses(task.model, batch, step)) for step in (2, 3, 4, 5)] == [
        True,
        False,
        True,
        False,
    ]


def test_batches_are_a_function_of_seed_and_index(task):
    assert task.batch(0, 5)["content"].shape == (2, 3, 32, 32) and task.batch(3, 5)["content"].shape == (2, 3, 48, 48)
    assert np.array_equal(task.batch(0, 5)["content"], task.batch(0, 5)["content"])
    assert not np.array_equal(task.batch(0, 5)["content"], task.batch(0, 6)["content"])


def test_training_learns_the_style_and_leaves_everything_behind(recipe, sources, tmp_path):
    style = []
    path = train_johnson(
        recipe,
        **sources,
        title="Waves",
        credit="a test",
        out=tmp_path / "out",
        overrides=("stages.0.steps=10", "stages.1.steps=50"),
        on_step=lambda p: style.append(p.losses.get("style")),
    )
    assert path.name == "waves.safetensors" and style[:10] == [None] * 10
    assert np.mean(style[-10:]) < 0.8 * np.mean(style[10:20])
    net, metadata = load_johnson(path)
    assert net.config == read_recipe(JohnsonRecipe, recipe).network and metadata["step"] == "60"
    assert metadata["recipe"] == (tmp_path / "out" / "recipe.toml").read_text()
    facts = json.loads(metadata["style"])
    assert (facts["name"], facts["title"], facts["credit"]) == ("waves", "Waves", "a test")
    assert facts["training_data"] == "2 photographs" and facts["teachers"] == ["squeezenet1_0"]
    assert "art1.png, 96 x 72 px, at a short side of 64 px" in facts["style_picture"]
    assert 0 <= facts["hours"] < 0.5  # in hundredths; a fast machine needs less than one
    curve = facts["curve"]
    assert curve["step"][-1] == 60 and len(curve["step"]) <= johnson.CURVE_POINTS
    assert len(curve["style"]) == len(curve["content"]) == len(curve["step"])
    with Image.open(next((tmp_path / "out" / "sheets").iterdir())) as sheet:
        assert sheet.size == (5 * 256, 2 * 256)
    with Image.open(tmp_path / "out" / "style.png") as kept:
        assert kept.size == (85, 64)


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(recipe, sources, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 5:  # its checkpoint is not written yet: the run goes on from the one of step 4
            raise StopError

    whole = train_johnson(recipe, **sources, out=tmp_path / "whole")
    with pytest.raises(StopError):
        train_johnson(recipe, **sources, out=tmp_path / "parts", on_step=stop)
    assert latest_checkpoint(tmp_path / "parts").name == "step-0000004"
    parts = train_johnson(recipe, **sources, out=tmp_path / "parts")
    one, two = load_file(whole), load_file(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_of_another_style_is_refused(recipe, sources, pictures, tmp_path):
    out = tmp_path / "out"
    train_johnson(recipe, **sources, out=out, overrides=("stages=[{steps=1, batch=1, size=48}]",))
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match="training of another style picture"):
        train_johnson(recipe, **{**sources, "style": pictures / "art" / "art2.png"}, out=out)
    assert sorted(out.rglob("*")) == before


def test_a_training_starts_from_the_network_of_another_style(recipe, sources, pictures, tmp_path):
    one_step = ("stages=[{steps=1, batch=1, size=48}]", "schedule.learning_rate=1e-6", "schedule.ema=0.0")
    first = train_johnson(recipe, **sources, out=tmp_path / "first")
    other = {**sources, "style": pictures / "art" / "art2.png", "name": "hills"}
    path = train_johnson(recipe, **other, out=tmp_path / "second", start_from=first, overrides=one_step)
    start, found = load_file(first), load_file(path)
    assert all(float((found[name] - start[name]).abs().max()) < 1e-5 for name in start)
    known = json.loads(load_johnson(path)[1]["style"])
    assert known["started_from"] == f"waves, SHA-256 {hashlib.sha256(first.read_bytes()).hexdigest()}"
    with pytest.raises(UsageError, match="has other sizes"):
        train_johnson(
            recipe, **other, out=tmp_path / "third", start_from=first, overrides=(*one_step, "network.quarter=20")
        )
    assert not (tmp_path / "third").exists()


def test_what_cannot_work_is_said_before_anything_is_written(recipe, sources, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ImageError, match=r"none\.png"):
        train_johnson(recipe, **{**sources, "style": tmp_path / "none.png"}, out=out)
    with pytest.raises(WeightsError, match="there is no weights file"):
        train_johnson(recipe, **{**sources, "teachers": [tmp_path / "none.pth"]}, out=out)
    assert not out.exists()


def test_a_long_style_is_cut(tmp_path):
    Image.new("RGB", (900, 60), "red").save(tmp_path / "long.png")
    assert StylePicture.read(tmp_path / "long.png", 90).pixels.shape == (90, 270, 3)


def test_a_file_of_something_else_is_no_style(tmp_path, teacher_file):
    with pytest.raises(WeightsError, match="is no network of one style"):
        load_johnson(teacher_file)


def test_a_recipe_goes_to_toml_and_back(recipe, tmp_path):
    made = read_recipe(JohnsonRecipe, recipe)
    (tmp_path / "again.toml").write_text(recipe_to_toml(made))
    assert read_recipe(JohnsonRecipe, tmp_path / "again.toml") == made
    packaged = read_recipe(JohnsonRecipe)
    assert packaged.network == JohnsonNet().config and 1000 <= packaged.steps <= 1500
    assert tomllib.loads(recipe_to_toml(packaged))["losses"]["style"] == packaged.losses.style


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.content_smallest=0", "data.content_smallest"),
        ("data.style_side=20", "data.style_side"),
        ("losses.stability_every=0", "losses.stability_every"),
        ("losses.contrast=1", "unknown key 'losses.contrast'"),
        ("stages.0.size=20", "multiple of 8"),
        ("stages.1.size=40", "at least 48"),
    ],
)
def test_wrong_recipes_are_refused(recipe, change, words):
    with pytest.raises(UsageError, match=words):
        read_recipe(JohnsonRecipe, recipe, (change,))

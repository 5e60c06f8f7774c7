"""Features that forget which kind of picture they show."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from impasto.errors import TrainingError
from impasto.losses.domain import domain_loss
from impasto.nets.domain import AdaptedNet
from impasto.nets.johnson import JohnsonNet
from impasto.training.adapt import AdaptedTask, network_of
from impasto.training.data import PictureSet
from impasto.training.files import load_johnson, load_teacher
from impasto.training.johnson import JohnsonTask, StylePicture
from impasto.training.loop import latest_checkpoint
from impasto.training.recipe import JohnsonRecipe, read_recipe
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
steps = 6
batch = 2
size = 48
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "johnson.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two dark pictures with a fine pattern, which the photographs do not have."""
    folder = tmp_path_factory.mktemp("nights")
    rng = np.random.default_rng(1)
    for number in range(2):
        grain = rng.integers(0, 60, size=(72, 72, 3)).astype(np.uint8)
        grain[::2] //= 4
        Image.fromarray(grain).save(folder / f"night{number}.png")
    return folder


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
def plain(recipe, pictures, teacher_file):
    style = StylePicture.read(pictures / "art" / "art1.png", 64).pixels
    photos = PictureSet([pictures / "photos"])
    task = JohnsonTask(read_recipe(JohnsonRecipe, recipe), photos, style, [load_teacher(teacher_file)])
    task.prepare(torch.device("cpu"))
    return task


def tensors(batch):
    return {name: torch.from_numpy(pixels) for name, pixels in batch.items()}


def test_the_task_itself_stays_as_it_is(plain, nights):
    adapted = AdaptedTask(plain, PictureSet([nights]))
    batch = adapted.batch(0, 5)
    assert batch["target"].shape == batch["content"].shape
    assert np.array_equal(batch["content"], plain.batch(0, 5)["content"])
    assert np.array_equal(batch["target"], adapted.batch(0, 5)["target"])
    assert not np.array_equal(batch["target"], adapted.batch(0, 6)["target"])
    terms = adapted.losses(adapted.model, tensors(batch), 2)
    alone = plain.losses(plain.model, tensors(plain.batch(0, 5)), 2)
    assert set(terms) - set(alone) == {"domain"}
    assert all(torch.equal(terms[name], alone[name]) for name in alone)
    assert terms["domain"].item() == pytest.approx(np.log(2), abs=0.2)


def test_without_weight_there_is_no_classifier(recipe, plain, nights, monkeypatch):
    adapted = AdaptedTask(plain, PictureSet([nights]))
    plain.recipe = read_recipe(JohnsonRecipe, recipe, ("losses.domain=0",))
    monkeypatch.setattr(AdaptedNet, "forward", lambda self, picture: self.net(picture))
    assert "domain" not in adapted.losses(adapted.model, tensors(adapted.batch(0, 0)), 0)


def test_the_features_become_harder_to_tell_apart(plain, nights):
    """The same classifier on the same features, with the reversed gradient and with none."""
    targets, found = PictureSet([nights]), {}
    for strength in (0.0, 1.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AdaptedNet(JohnsonNet(plain.recipe.network))
        task = AdaptedTask(plain, targets)
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        losses = []
        for index in range(80):
            batch = tensors(task.batch(0, index))
            logits = model(batch["content"].float() / 255, batch["target"].float() / 255, strength)[2:]
            loss = domain_loss(*logits)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        found[strength] = np.mean(losses[-20:])
    assert found[0.0] < 0.3  # it can tell them, as long as the features do not move
    assert found[1.0] > 2 * found[0.0]


def test_only_the_network_is_kept(recipe, sources, nights, tmp_path):
    path = train_johnson(recipe, **sources, adapt=[nights], out=tmp_path / "out")
    net, texts = load_johnson(path)
    assert net.config == read_recipe(JohnsonRecipe, recipe).network
    assert json.loads(texts["style"])["adapted_to"].startswith("2 unlabelled pictures")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert all(line["domain"] > 0 for line in lines)
    other = load_file(train_johnson(recipe, **sources, out=tmp_path / "other"))
    assert any(not torch.equal(value, other[name]) for name, value in net.state_dict().items())


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(recipe, sources, nights, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 5:
            raise StopError

    whole = train_johnson(recipe, **sources, adapt=[nights], out=tmp_path / "whole")
    with pytest.raises(StopError):
        train_johnson(recipe, **sources, adapt=[nights], out=tmp_path / "parts", on_step=stop)
    assert latest_checkpoint(tmp_path / "parts").name == "step-0000004"
    with pytest.raises(TrainingError, match="of another network"):
        train_johnson(recipe, **sources, out=tmp_path / "parts")  # without --adapt
    parts = train_johnson(recipe, **sources, adapt=[nights], out=tmp_path / "parts")
    one, two = load_file(whole), load_file(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_without_pictures_is_named_before_anything_is_written(recipe, sources, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"no picture found in .*empty"):
        train_johnson(recipe, **sources, adapt=[tmp_path / "empty"], out=tmp_path / "out")
    with pytest.raises(TrainingError, match="neither a folder nor"):
        train_johnson(recipe, **sources, adapt=[tmp_path / "none"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_network_of_a_plain_training_is_itself(plain):
    assert network_of(plain.model) is plain.model

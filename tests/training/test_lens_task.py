import numpy as np
import pytest
import torch

from impasto.errors import UsageError
from impasto.nets.encoders import load_encoder
from impasto.training.data import PictureSet
from impasto.training.files import load_teacher
from impasto.training.lens import LensTask, resample
from impasto.training.recipe import LensRecipe, read_recipe, recipe_to_toml
from impasto.training.run import train_lens

TINY = """
name = "lens"
seed = 1

[network]
widths = [6, 8, 10, 12, 14]
depths = [1, 1, 1, 1, 1]

[schedule]
learning_rate = 1e-2
warmup = 2
ema = 0.9
checkpoint_every = 10
sheet_every = 1000

[[stages]]
steps = 40
batch = 2
size = 64
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "lens.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def task(recipe, pictures, teacher_file):
    made = LensTask(
        read_recipe(LensRecipe, recipe),
        PictureSet([pictures / "photos"]),
        PictureSet([pictures / "art"]),
        [load_teacher(teacher_file)],
    )
    made.prepare(torch.device("cpu"))
    return made


def test_resampling_meets_a_linear_ramp_everywhere():
    ramp = torch.arange(12.0)[:, None] + 100 * torch.arange(9.0)[None]
    found = resample(ramp[None, None], (1.25, 0.5), (4, 5))
    expected = (torch.arange(4.0) + 1.25)[:, None] + 100 * (torch.arange(5.0) + 0.5)[None]
    torch.testing.assert_close(found[0, 0], expected)
    assert torch.equal(resample(ramp[None, None], (1, 2), (4, 3), 2)[0, 0], ramp[1:8:2, 2:7:2])
    assert resample(ramp[None, None], (8.5, 0), (6, 3))[0, 0, :, 0].tolist() == [8.5, 9.5, 10.5, 11, 11, 11]


def test_targets_are_standardised(task):
    batch = {name: torch.from_numpy(array) for name, array in task.batch(0, 0).items()}
    assert batch["picture"].shape == (2, 3, 64, 64)
    terms = task.losses(task.model, batch, 0)
    assert set(terms) == {*task.targets, "gram"}
    with torch.no_grad():  # heads that say nothing leave about one unit of variance in each target
        for head in task.model.heads.values():
            head.weight.zero_()
            head.bias.zero_()
    silent = task.losses(task.model, batch, 0)
    features = [float(value.detach()) for name, value in silent.items() if name != "gram"]
    assert 0.2 < sum(features) < 3


def test_batches_are_a_function_of_seed_and_index(task):
    assert np.array_equal(task.batch(0, 5)["picture"], task.batch(0, 5)["picture"])
    assert not np.array_equal(task.batch(0, 5)["picture"], task.batch(0, 6)["picture"])


def test_training_learns_and_leaves_an_encoder(recipe, pictures, teacher_file, tmp_path):
    losses = []
    sources = {"contents": [pictures / "photos"], "styles": [pictures / "art"], "teachers": [teacher_file]}
    path = train_lens(recipe, **sources, out=tmp_path / "out", on_step=lambda p: losses.append(sum(p.losses.values())))
    assert len(losses) == 40 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    lens = load_encoder(path)
    assert lens.spec.name == "lens" and lens.config.widths == (6, 8, 10, 12, 14)
    assert next((tmp_path / "out" / "sheets").iterdir()).stat().st_size > 1000


def test_a_recipe_goes_to_toml_and_back(recipe, tmp_path):
    made = read_recipe(LensRecipe, recipe)
    (tmp_path / "again.toml").write_text(recipe_to_toml(made))
    assert read_recipe(LensRecipe, tmp_path / "again.toml") == made
    assert read_recipe(LensRecipe).name == "lens"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.art=2", "data.art"),
        ("data.smallest=0", "data.smallest"),
        ("network.depths=[1, 2]", "lens has five blocks"),
        ("losses.content=1", "unknown key 'losses.content'"),
        ("stages.0.size=20", "multiple of 8"),
    ],
)
def test_wrong_recipes_are_refused(recipe, change, words):
    with pytest.raises(UsageError, match=words):
        read_recipe(LensRecipe, recipe, (change,))

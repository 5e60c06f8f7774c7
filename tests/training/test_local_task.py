"""Training of local and of its encoder for phones, on tiny networks; the masks they are trained with."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from impasto.cli import app
from impasto.errors import TrainingError, UsageError, WeightsError
from impasto.nets.encoders import load_encoder
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.mobile import Mobile
from impasto.training.data import CropRule, PictureSet
from impasto.training.local import LocalTask
from impasto.training.local_run import train_local, train_mobile
from impasto.training.masks import MaskedPictures, generated_mask
from impasto.training.recipe import LocalRecipe, read_recipe

RECIPE = """
name = "local"
seed = 1

[network]
channels = [8, 8, 10]
keys = 8
widths = [12, 8, 8, 8]

[schedule]
learning_rate = 3e-3
warmup = 2
ema = 0.8
checkpoint_every = 10
sheet_every = 1000

[losses]
style_warmup = 0

[[stages]]
steps = 30
batch = 2
size = 64
"""
MOBILE = """
name = "mobile"
[network]
widths = [6, 8, 8]
depths = [1, 1, 1]
channels = [8, 8, 10]
[schedule]
learning_rate = 1e-2
warmup = 2
ema = 0.8
[[stages]]
steps = 25
batch = 2
size = 48
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "local.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1)))
    path = tmp_path_factory.mktemp("encoder") / "lens.safetensors"
    save_file(
        lens.state_dict(), path, metadata={"config": json.dumps({"widths": [6, 8, 8, 10, 10], "depths": [1] * 5})}
    )
    return path


@pytest.fixture
def masks(tmp_path):
    """Three photographs with the left third masked."""
    folder = tmp_path / "masks"
    folder.mkdir()
    rows = ["photo,mask"]
    for index in range(3):
        photo = np.full((50, 60, 3), 40 * index, np.uint8)
        photo[:, :20] = 255
        mask = np.zeros((50, 60), np.uint8)
        mask[:, :20] = 255
        Image.fromarray(photo).save(folder / f"photo_{index}.png")
        Image.fromarray(mask).save(folder / f"mask_{index}.png")
        rows.append(f"photo_{index}.png,mask_{index}.png")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def tensors(path):
    with safe_open(path, framework="pt") as handle:
        names = list(handle.keys())
        return {name: handle.get_tensor(name) for name in names}, handle.metadata()


# --- masks -----------------------------------------------------------------------------------------------------------


def test_a_photograph_and_its_mask_are_cut_alike(masks):
    pictures = MaskedPictures([masks])
    assert len(pictures) == 3
    outer = 0
    for seed in range(12):
        photo, mask = pictures.crop(np.random.default_rng(seed), CropRule(32, 0.4, 1.0, jitter=0.2))
        assert photo.shape == (3, 32, 32) and mask.shape == (1, 32, 32) and mask.dtype == np.uint8
        white = photo.min(0) > 250
        if white.any() and not white.all():
            sides = {float(mask[0][white].mean() > 127), float(mask[0][~white].mean() > 127)}
            assert sides == {0.0, 1.0}
            outer += mask[0][white].mean() < 127
    assert outer > 0  # sometimes it is what surrounds the object


@pytest.mark.parametrize("seed", range(20))
def test_made_up_masks_have_an_inside_and_an_outside(seed):
    mask = generated_mask(np.random.default_rng(seed), 64)
    assert mask.shape == (1, 64, 64) and mask.dtype == np.uint8
    share = mask.mean() / 255
    assert 0.03 < share < 0.97
    assert np.array_equal(mask, generated_mask(np.random.default_rng(seed), 64))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.csv").unlink(), r"cannot read .*manifest\.csv"),
        (lambda folder: (folder / "manifest.csv").write_text("a,b\n1,2\n"), "no CSV with the columns photo and mask"),
        (lambda folder: (folder / "mask_1.png").unlink(), r"cannot read .*mask_1\.png"),
        (lambda folder: (folder / "photo_2.png").write_bytes(b"no"), r"cannot read .*photo_2\.png"),
        (
            lambda folder: Image.new("L", (9, 9)).save(folder / "mask_0.png"),
            r"mask_0\.png' is 9x9, its photograph 'photo_0.png' is 60x50",
        ),
    ],
)
def test_damaged_folders_of_masks_are_refused_by_name(masks, damage, message):
    damage(masks)
    with pytest.raises(TrainingError, match=message):
        MaskedPictures([masks])


# --- the task --------------------------------------------------------------------------------------------------------


def test_training_learns_and_leaves_a_network(recipe, pictures, encoder_file, masks, tmp_path):
    losses = []
    path = train_local(
        recipe,
        contents=[pictures / "photos"],
        styles=[pictures / "art"],
        masks=[masks],
        encoder=encoder_file,
        judge=encoder_file,
        out=tmp_path / "out",
        on_step=lambda p: losses.append(sum(p.losses.values())),
    )
    assert len(losses) == 30 and sum(losses[-6:]) < 0.8 * sum(losses[:6])
    state, texts = tensors(path)
    assert texts["engine"] == "local" and texts["encoder"] == encoder_file.name and texts["step"] == "30"
    assert json.loads(texts["config"])["widths"] == [12, 8, 8, 8]
    assert state["query.weight"].dtype == torch.float16
    assert next((tmp_path / "out" / "sheets").iterdir()).stat().st_size > 1000


def test_a_stopped_training_goes_on_exactly(recipe, pictures, encoder_file, tmp_path):
    def run(out, steps):
        return train_local(
            recipe,
            contents=[pictures / "photos"],
            styles=[pictures / "art"],
            encoder=encoder_file,
            judge=encoder_file,
            out=tmp_path / out,
            overrides=(f"stages.0.steps={steps}", "schedule.decay=0.0", "schedule.plateau_factor=0.5"),
        )

    whole, _ = tensors(run("whole", 6))
    run("parts", 3)
    parts, _ = tensors(run("parts", 6))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def task(recipe, pictures, encoder_file, *overrides):
    made = LocalTask(
        read_recipe(LocalRecipe, recipe, overrides),
        PictureSet([pictures / "photos"]),
        PictureSet([pictures / "art"]),
        load_encoder(encoder_file),
    )
    made.prepare(torch.device("cpu"))
    return made


def terms_of(made, step=0, **changes):
    batch = {name: torch.from_numpy(array) for name, array in made.batch(step, 0).items()}
    batch |= changes
    return {name: float(value.detach()) for name, value in made.losses(made.model, batch, step).items()}


def test_all_terms_are_finite_and_of_a_size(recipe, pictures, encoder_file):
    terms = terms_of(task(recipe, pictures, encoder_file))
    assert set(terms) == {"content", "style", "local", "identity", "outside", "seam", "variation", "range"}
    assert all(0 <= value < 100 for value in terms.values())


def test_full_and_empty_masks_are_borne(recipe, pictures, encoder_file):
    made = task(recipe, pictures, encoder_file)
    full = terms_of(made, mask=torch.full((2, 1, 64, 64), 255, dtype=torch.uint8))
    assert full["outside"] == full["seam"] == 0 and full["style"] > 0
    empty = terms_of(made, mask=torch.zeros(2, 1, 64, 64, dtype=torch.uint8))
    assert empty["style"] == empty["content"] == empty["seam"] == 0 and empty["outside"] > 0
    assert all(np.isfinite(value) for value in (*full.values(), *empty.values()))


def test_terms_without_weight_are_not_computed(recipe, pictures, encoder_file):
    made = task(recipe, pictures, encoder_file, "losses.local=0.0", "losses.identity=0.0")
    assert not {"local", "identity"} & set(terms_of(made))
    every = task(recipe, pictures, encoder_file, "losses.identity_every=2")
    assert "identity" in terms_of(every, 0) and "identity" not in terms_of(every, 1)


def test_a_batch_is_a_function_of_its_number_with_masks_of_all_kinds(recipe, pictures, encoder_file):
    made = task(recipe, pictures, encoder_file, "data.full_masks=0.5", "stages.0.batch=16")
    batch = made.batch(0, 5)
    again = made.batch(0, 5)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    assert batch["content"].shape == (16, 3, 64, 64) and batch["style"].shape == (16, 3, 80, 80)
    full = [mask.min() == 255 for mask in batch["mask"]]
    assert 2 < sum(full) < 14


def test_the_style_rises_step_by_step(recipe):
    made = read_recipe(LocalRecipe, recipe, ("losses.style=5.0", "losses.style_warmup=10", "losses.style_levels=5"))
    assert [made.weights_at(step).style for step in range(12)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]


@pytest.mark.parametrize(
    "override",
    [
        "data.full_masks=1.5",
        "data.photo_masks=-0.1",
        "data.style_scale=9.0",
        "losses.identity_every=0",
        "losses.style_levels=0",
        "losses.style_warmup=-1",
        "stages.0.size=32",
        "schedule.plateau_factor=0.0",
        "schedule.plateau_window=0",
    ],
)
def test_recipes_out_of_range_are_refused_by_key(recipe, override):
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        read_recipe(LocalRecipe, recipe, (override,))


def test_another_encoder_than_the_recipes_is_refused(recipe, pictures, encoder_file, tmp_path):
    with pytest.raises(UsageError, match=r"has \(8, 8, 10\) channels at .* expects \(8, 8, 12\)"):
        train_local(
            recipe,
            contents=[pictures / "photos"],
            styles=[pictures / "art"],
            encoder=encoder_file,
            judge=encoder_file,
            out=tmp_path / "out",
            overrides=("network.channels=[8, 8, 12]",),
        )


def test_weights_to_start_from_must_have_something_in_common(recipe, pictures, encoder_file, tmp_path):
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="has no tensor that the network of local has"):
        train_local(
            recipe,
            contents=[pictures / "photos"],
            styles=[pictures / "art"],
            encoder=encoder_file,
            judge=encoder_file,
            out=tmp_path / "out",
            start_from=tmp_path / "other.safetensors",
        )


@pytest.mark.parametrize("name", ["local", "local-mobile"])
def test_the_packaged_recipes_are_sound(name):
    from importlib import resources

    path = resources.files("impasto.training") / "recipes" / f"{name}.toml"
    made = read_recipe(LocalRecipe, path)
    assert made.network.separable == (name == "local-mobile")
    assert made.steps >= 1000


# --- phones ----------------------------------------------------------------------------------------------------------


def test_a_small_encoder_learns_and_the_network_trains_behind_it(recipe, pictures, encoder_file, tmp_path):
    own = tmp_path / "mobile.toml"
    own.write_text(MOBILE)
    losses = []
    path = train_mobile(
        own,
        contents=[pictures / "photos"],
        styles=[pictures / "art"],
        teacher=encoder_file,
        out=tmp_path / "mobile",
        on_step=lambda p: losses.append(sum(p.losses.values())),
    )
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert isinstance(load_encoder(path), Mobile)
    assert next((tmp_path / "mobile" / "sheets").iterdir()).stat().st_size > 1000
    behind = train_local(
        recipe,
        contents=[pictures / "photos"],
        styles=[pictures / "art"],
        encoder=path,
        judge=encoder_file,
        out=tmp_path / "out",
        overrides=("network.separable=true", "stages.0.steps=2"),
    )
    state, texts = tensors(behind)
    assert json.loads(texts["mobile"])["widths"] == [6, 8, 8]
    assert any(name.startswith("encoder.") for name in state)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_commands_train(recipe, pictures, encoder_file, masks, tmp_path):
    common = ["--content", str(pictures / "photos"), "--style", str(pictures / "art")]
    local = ["train", "local", *common, "--mask", str(masks), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    local += ["--encoder", str(encoder_file), "--judge", str(encoder_file), "--set", "stages.0.steps=1"]
    result = CliRunner().invoke(app, local)
    assert result.exit_code == 0 and "local.safetensors" in result.output, result.output
    own = tmp_path / "mobile.toml"
    own.write_text(MOBILE)
    mobile = ["train", "mobile", *common, "--recipe", str(own), "--teacher", str(encoder_file)]
    mobile += ["--out", str(tmp_path / "mobile"), "--set", "stages.0.steps=1"]
    result = CliRunner().invoke(app, mobile)
    assert result.exit_code == 0 and "mobile.safetensors" in result.output, result.output

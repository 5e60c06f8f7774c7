import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from impasto.errors import UsageError, WeightsError
from impasto.nets.adain import AdaInConfig, AdaInDecoder
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.local import LocalConfig, LocalNet
from impasto.training.adain import AdaInTask
from impasto.training.data import PictureSet
from impasto.training.recipe import AdaInRecipe, read_recipe
from impasto.training.run import train_adain

RECIPE = """
name = "adain"
seed = 1

[network]
channels = [10, 8]
widths = [12, 8, 8, 8]

[schedule]
learning_rate = 3e-3
warmup = 2
ema = 0.8
checkpoint_every = 10
sheet_every = 1000

[[stages]]
steps = 40
batch = 2
size = 64
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "adain.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1)))
    path = tmp_path_factory.mktemp("encoder") / "lens.safetensors"
    save_file(
        lens.state_dict(), path, metadata={"config": json.dumps({"widths": [6, 8, 8, 10, 10], "depths": [1] * 5})}
    )
    return path


def test_training_learns_and_leaves_a_decoder(recipe, pictures, encoder_file, tmp_path):
    losses = []
    path = train_adain(
        recipe,
        contents=[pictures / "photos"],
        styles=[pictures / "art"],
        encoder=encoder_file,
        out=tmp_path / "out",
        on_step=lambda p: losses.append(sum(p.losses.values())),
    )
    assert len(losses) == 40 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    with safe_open(path, framework="pt") as handle:
        texts = handle.metadata()
    sizes = json.loads(texts["config"])
    decoder = AdaInDecoder(AdaInConfig(tuple(sizes["channels"]), tuple(sizes["widths"])))
    assert sum(p.numel() for p in decoder.parameters()) * 2 < path.stat().st_size < 30_000
    assert texts["encoder"] == encoder_file.name and texts["step"] == "40"
    assert next((tmp_path / "out" / "sheets").iterdir()).stat().st_size > 1000


def test_all_terms_are_finite_and_of_a_size(recipe, pictures, encoder_file):
    from impasto.nets.encoders import load_encoder

    task = AdaInTask(
        read_recipe(AdaInRecipe, recipe),
        PictureSet([pictures / "photos"]),
        PictureSet([pictures / "art"]),
        load_encoder(encoder_file),
    )
    task.prepare(torch.device("cpu"))
    batch = {name: torch.from_numpy(array) for name, array in task.batch(0, 0).items()}
    terms = {name: float(value.detach()) for name, value in task.losses(task.model, batch, 0).items()}
    assert set(terms) == {"content", "style", "identity", "variation", "range"}
    assert all(0 <= value < 100 for value in terms.values())


def test_another_encoder_than_the_recipes_is_refused(recipe, pictures, encoder_file, tmp_path):
    with pytest.raises(UsageError, match="has 10 channels at relu4_1, the recipe's decoder expects 12"):
        train_adain(
            recipe,
            contents=[pictures / "photos"],
            styles=[pictures / "art"],
            encoder=encoder_file,
            out=tmp_path / "out",
            overrides=("network.channels=[12, 8]",),
        )


def test_a_training_starts_from_the_decoder_of_local(recipe, pictures, encoder_file, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = LocalNet(LocalConfig((8, 8, 10), 8, (12, 8, 8, 8)))
    start = tmp_path / "local.safetensors"
    save_file(net.state_dict(), start)
    sources = {"contents": [pictures / "photos"], "styles": [pictures / "art"], "encoder": encoder_file}
    still = ("stages=[{steps=1, batch=1, size=64}]", "schedule.learning_rate=1e-7", "schedule.ema=0.0")
    path = train_adain(recipe, **sources, start_from=start, out=tmp_path / "out", overrides=still)
    found = load_file(path)
    assert found.keys() == net.decoder.state_dict().keys()
    for name, value in net.decoder.state_dict().items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-3, atol=1e-4)
    other = (*still, "network.widths=[8, 8, 8, 8]")
    with pytest.raises(WeightsError, match="no decoder of the recipe's sizes"):
        train_adain(recipe, **sources, start_from=start, out=tmp_path / "other", overrides=other)

"""Training of the latent autoencoder and of diffusion, on tiny networks and made-up pictures."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from impasto.cli import app
from impasto.config import StylizeConfig
from impasto.engines.diffusion import Diffusion, split_diffusion
from impasto.errors import TrainingError, UsageError, WeightsError
from impasto.export import export_diffusion
from impasto.nets.encoders import load_encoder
from impasto.training.autoencoder import AutoencoderTask
from impasto.training.data import PictureSet
from impasto.training.diffusion import DiffusionTask
from impasto.training.latent_recipe import AutoencoderRecipe, DiffusionRecipe
from impasto.training.latent_run import load_autoencoder, train_autoencoder, train_diffusion
from impasto.training.paintings import PaintedStyles
from impasto.training.recipe import read_recipe
from impasto.weights.files import read_tensors, write_tensors

LATENT = """
name = "autoencoder"
[network]
channels = 6
encoder = [8, 8]
encoder_blocks = [1, 1]
decoder = [8, 8]
decoder_blocks = [1, 1]
[schedule]
learning_rate = 2e-3
warmup = 2
ema = 0.8
checkpoint_every = 4
sheet_every = 1000
log_every = 1
[data]
basis = 8
[[stages]]
steps = 12
batch = 2
size = 32
[[stages]]
steps = 4
batch = 1
size = 48
losses = {adversarial = 0.2}
"""
DIFFUSION = """
name = "diffusion"
[network]
latent = 6
widths = [8, 8]
middle = 1
tokens = 8
heads = 2
hints = 4
[schedule]
learning_rate = 3e-3
warmup = 2
ema = 0.8
checkpoint_every = 4
sheet_every = 1000
log_every = 1
[data]
draws = 2
[[stages]]
steps = 8
batch = 1
size = 64
[[stages]]
steps = 2
batch = 1
size = 64
losses = {content = 0.1, style = 0.2, variation = 0.01}
"""


@pytest.fixture
def recipes(tmp_path):
    """Both recipes as files."""
    found = {"autoencoder": tmp_path / "autoencoder.toml", "diffusion": tmp_path / "diffusion.toml"}
    found["autoencoder"].write_text(LATENT)
    found["diffusion"].write_text(DIFFUSION)
    return found


@pytest.fixture
def sources(pictures):
    return {"contents": [pictures / "photos"], "styles": [pictures / "art"], "device": "cpu"}


@pytest.fixture(scope="module")
def latent_file(pictures, tmp_path_factory):
    """An autoencoder that was hardly trained."""
    folder = tmp_path_factory.mktemp("latent")
    (folder / "recipe.toml").write_text(LATENT)
    return train_autoencoder(
        folder / "recipe.toml",
        contents=[pictures / "photos"],
        styles=[pictures / "art"],
        out=folder / "out",
        overrides=("stages.0.steps=1", "stages.1.steps=1"),
        device="cpu",
    )


@pytest.fixture
def diffusion_task(recipes, pictures, latent_file):
    return DiffusionTask(
        read_recipe(DiffusionRecipe, recipes["diffusion"]),
        PictureSet([pictures / "photos"]),
        PictureSet([pictures / "art"]),
        load_autoencoder(latent_file),
        load_encoder(),
    )


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", [AutoencoderRecipe, DiffusionRecipe])
def test_the_packaged_recipes_are_valid(kind):
    assert read_recipe(kind).steps > 100


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (AutoencoderRecipe, "data.art=1.5"),
        (AutoencoderRecipe, "data.basis=1"),
        (AutoencoderRecipe, "losses.deviation=-1"),
        (DiffusionRecipe, "stages.0.size=72"),
        (DiffusionRecipe, "stages.0.size=48"),
        (DiffusionRecipe, "data.draws=0"),
        (DiffusionRecipe, "data.light_dropout=2"),
        (DiffusionRecipe, "losses.noisiest=0"),
        (DiffusionRecipe, "data.painted=2"),
        (DiffusionRecipe, "data.paintings=0"),
        (DiffusionRecipe, "data.part_noise=2"),
        (DiffusionRecipe, "data.compared=-1"),
    ],
)
def test_wrong_recipes_are_refused(kind, change):
    with pytest.raises(UsageError):
        read_recipe(kind, None, (change,))


def test_windows_must_fit_into_the_paintings():
    with pytest.raises(UsageError, match="side"):
        read_recipe(DiffusionRecipe, None, ("data.painted=0.5", "data.side=64", "stages.0.size=96"))


# --- autoencoder -----------------------------------------------------------------------------------------------------


def test_training_beats_the_pca_it_starts_from(recipes, sources, tmp_path):
    path = train_autoencoder(recipes["autoencoder"], out=tmp_path / "out", **sources)
    trained = load_autoencoder(path)
    task = AutoencoderTask(
        read_recipe(AutoencoderRecipe, recipes["autoencoder"]),
        PictureSet(sources["contents"]),
        PictureSet(sources["styles"]),
        load_encoder(),
    )
    start = task.model.autoencoder
    picture = tensors(task.batch(0, 1000))["picture"].float() / 255
    with torch.no_grad():
        before, after = ((net(picture)[0] - picture).abs().mean() for net in (start, trained))
    assert after < before
    lines = logged(tmp_path / "out")
    assert {"pixels", "kl", "perceptual", "critic"} <= set(lines[0]) and "adversarial" in lines[-1]
    assert lines[0]["critic"] == 0 < lines[-1]["critic"]


def test_the_players_do_not_train_each_other(recipes, sources):
    recipe = read_recipe(AutoencoderRecipe, recipes["autoencoder"], ("losses.adversarial=1",))
    task = AutoencoderTask(recipe, PictureSet(sources["contents"]), PictureSet(sources["styles"]), load_encoder())
    task.prepare(torch.device("cpu"))
    terms = task.losses(task.model, tensors(task.batch(0, 0)), 0)
    players = {"critic": task.model.critic, "adversarial": task.model.autoencoder}
    for term, player in players.items():
        task.model.zero_grad()
        terms[term].backward(retain_graph=True)
        for other in players.values():
            moved = any(value.grad is not None and bool(value.grad.any()) for value in other.parameters())
            assert moved == (other is player)


def test_a_resumed_autoencoder_equals_an_uninterrupted_one(recipes, sources, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_autoencoder(recipes["autoencoder"], out=whole, **sources)

    def stop(progress):
        if progress.step == 14:  # two steps after the last checkpoint, with the critic at work
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(recipes["autoencoder"], out=parts, on_step=stop, **sources)
    train_autoencoder(recipes["autoencoder"], out=parts, **sources)
    one, two = (read_tensors(folder / "autoencoder.safetensors")[0] for folder in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_file_is_no_autoencoder(tmp_path):
    with pytest.raises(WeightsError):
        load_autoencoder(tmp_path / "missing.safetensors")


# --- diffusion -------------------------------------------------------------------------------------------------------


def test_training_runs_and_keeps_network_and_latents_together(recipes, sources, latent_file, tmp_path):
    path = train_diffusion(recipes["diffusion"], autoencoder=latent_file, out=tmp_path / "out", **sources)
    state, texts = read_tensors(path)
    latent, _ = read_tensors(latent_file)
    assert all(torch.equal(state[f"autoencoder.{name}"], value) for name, value in latent.items())
    assert texts["step"] == "10" and json.loads(texts["diffusion"])["latent"] == 6
    lines = logged(tmp_path / "out")
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert "style" not in lines[0] and {"own", "content", "style"} <= set(lines[-1])
    assert list((tmp_path / "out" / "sheets").glob("*.jpg"))


PAINTED = ("data.painted=0.5", "data.paintings=3", "data.side=64", 'data.painters=["brush"]', "data.part_noise=0.5")


@pytest.mark.parametrize("changes", [(), PAINTED])
def test_a_resumed_diffusion_equals_an_uninterrupted_one(recipes, sources, latent_file, tmp_path, changes):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    known = {"autoencoder": latent_file, "overrides": changes, **sources}
    train_diffusion(recipes["diffusion"], out=whole, **known)

    def stop(progress):
        if progress.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_diffusion(recipes["diffusion"], out=parts, on_step=stop, **known)
    train_diffusion(recipes["diffusion"], out=parts, **known)
    one, two = (read_tensors(folder / "diffusion.safetensors")[0] for folder in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_not_a_number_stops_the_training_and_names_the_checkpoint(
    recipes, sources, latent_file, tmp_path, monkeypatch
):
    plain = DiffusionTask.losses

    def spoilt(task, model, batch, step):
        terms = plain(task, model, batch, step)
        return {**terms, "own": terms["own"] * math.nan} if step == 5 else terms

    monkeypatch.setattr(DiffusionTask, "losses", spoilt)
    with pytest.raises(TrainingError, match=r"step 6: own nan.*step-0000004"):
        train_diffusion(recipes["diffusion"], autoencoder=latent_file, out=tmp_path / "out", **sources)


def test_the_critic_judges_in_mixed_precision_too(recipes, sources, tmp_path):
    """Through accelerate, which makes float32 copies of what a model returns."""
    seen = []
    train_autoencoder(
        recipes["autoencoder"],
        out=tmp_path / "out",
        overrides=("schedule.precision=bf16", "stages.0.steps=1", "stages.1.steps=2"),
        on_step=lambda progress: seen.append(progress.losses),
        **sources,
    )
    assert [("adversarial" in terms) for terms in seen] == [False, True, True]


def test_mixed_precision_stays_close(diffusion_task):
    diffusion_task.prepare(torch.device("cpu"))
    batch, found = tensors(diffusion_task.batch(8, 0)), []
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            found.append(diffusion_task.losses(diffusion_task.model, batch, 8))
    for name, value in found[0].items():
        assert found[1][name].item() == pytest.approx(value.item(), rel=0.1, abs=1e-3)


def test_a_batch_depends_on_seed_and_number_alone(diffusion_task):
    one, two = diffusion_task.batch(8, 3), diffusion_task.batch(8, 3)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["content"].shape == (2, 3, 64, 64) and one["noise"].shape == (2 + 2, 6, 8, 8)
    assert len(one["t"]) == 3 and one["t"].min() >= 0 and one["t"].max() < 1000
    assert diffusion_task.batch(0, 3)["content"].shape == (1, 3, 64, 64)  # no crossed pairs yet


def test_own_pairs_are_two_crops_of_one_picture(diffusion_task):
    """Every made-up picture has its own waves: colours of both crops agree more than those of two pictures."""
    batches = [diffusion_task.batch(0, index) for index in range(12)]
    means = [(batch["content"].mean((0, 2, 3)), batch["style"].mean((0, 2, 3))) for batch in batches]
    own = np.mean([np.abs(one - two).mean() for one, two in means])
    others = np.mean([np.abs(means[i][0] - means[j][1]).mean() for i in range(12) for j in range(12)])
    assert own < others


def test_painted_pairs_become_the_painting(recipes, pictures, latent_file, tmp_path):
    recipe = read_recipe(DiffusionRecipe, recipes["diffusion"], ("data.painted=1", "data.side=64"))
    contents, art = PictureSet([pictures / "photos"]), PictureSet([pictures / "art"])
    parts = (contents, art, load_autoencoder(latent_file), load_encoder())
    with pytest.raises(UsageError, match="no paintings"):
        DiffusionTask(recipe, *parts)
    (tmp_path / "pairs").mkdir()
    half = np.random.default_rng(0).integers(0, 200, (64, 64, 3), np.uint8)
    Image.fromarray(np.concatenate([half, half + 55], axis=1)).save(tmp_path / "pairs" / "0.png")
    task = DiffusionTask(recipe, *parts, PaintedStyles(tmp_path / "pairs", [2]))
    batch = task.batch(0, 1)
    assert np.array_equal(batch["content"][:1] + 55, batch["target"])
    task.prepare(torch.device("cpu"))
    painted = task.losses(task.model, tensors(batch), 0)["own"]
    kept = task.losses(task.model, tensors(batch | {"target": batch["content"]}), 0)["own"]
    assert painted.item() != kept.item()


def test_the_spread_is_that_of_the_pairs_of_the_training(recipes, pictures, latent_file, tmp_path):
    """Paintings that lie far from every guess widen it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(np.concatenate([np.full_like(noise, 128), noise], axis=1)).save(tmp_path / "0.png")
    found = []
    for share in (0.0, 1.0):
        recipe = read_recipe(DiffusionRecipe, recipes["diffusion"], (f"data.painted={share}", "data.side=64"))
        sets = (PictureSet([pictures / "photos"]), PictureSet([pictures / "art"]))
        pairs = PaintedStyles(tmp_path, [0]) if share else None
        found.append(DiffusionTask(recipe, *sets, load_autoencoder(latent_file), load_encoder(), pairs).model.spread)
    assert found[1].mean() > 1.5 * found[0].mean()


def test_a_part_of_the_noise_still_says_what_is_to_be_found(recipes, sources, latent_file):
    """Whatever its factor, ``alpha z_t - sigma v`` is the latents."""
    sets = (PictureSet(sources["contents"]), PictureSet(sources["styles"]))
    parts = (*sets, load_autoencoder(latent_file), load_encoder())
    sizes = {}
    for share in (0, 1):
        recipe = read_recipe(DiffusionRecipe, recipes["diffusion"], (f"data.part_noise={share}", "data.draws=8"))
        task = DiffusionTask(recipe, *parts)
        batch = tensors(task.batch(0, 5))
        noise, t = batch["noise"], batch["t"]
        latents = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
        noisy = task.noising.q_sample(latents, noise, t)
        velocity = task.noising.training_target(latents, noise, t, parametrisation="v")
        again = task.noising.predicted_x0(velocity, noisy, t, parametrisation="v")
        assert torch.allclose(again, latents, atol=1e-4)
        sizes[share] = noise.square().mean((1, 2, 3)).sqrt()
    assert (sizes[0] > 0.8).all() and (sizes[1] < sizes[0]).all() and sizes[1].std() > 0.1


def test_compared_pictures_teach_the_network(recipes, sources, latent_file):
    sets = (PictureSet(sources["contents"]), PictureSet(sources["styles"]))
    changes = ("losses.likeness=1", "losses.strokes=1", "losses.own=0", "data.compared=1", "data.draws=1")
    task = DiffusionTask(
        read_recipe(DiffusionRecipe, recipes["diffusion"], changes),
        *sets,
        load_autoencoder(latent_file),
        load_encoder(),
    )
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    terms = task.losses(task.model, batch, 0)
    assert set(terms) == {"own", "likeness", "strokes"} and terms["own"] == 0
    sum(terms.values()).backward()
    assert any(bool(value.grad.any()) for value in task.model.net.parameters() if value.grad is not None)
    other = task.losses(task.model, batch | {"target": 255 - batch["target"]}, 0)
    assert other["likeness"].item() != pytest.approx(terms["likeness"].item(), rel=1e-3)
    plain = DiffusionTask(read_recipe(DiffusionRecipe, recipes["diffusion"]), *sets, task.autoencoder, task.encoder)
    plain.prepare(torch.device("cpu"))
    assert set(plain.losses(plain.model, tensors(plain.batch(0, 0)), 0)) == {"own"}


def test_a_training_paints_first(recipes, sources, latent_file, tmp_path):
    heard = []
    path = train_diffusion(
        recipes["diffusion"],
        autoencoder=latent_file,
        out=tmp_path / "out",
        overrides=("data.painted=0.5", "data.paintings=3", "data.side=64", 'data.painters=["brush"]'),
        on_paint=heard.append,
        **sources,
    )
    assert path.is_file() and [item.done for item in heard] == [0, 1, 2, 3]
    assert len(list((tmp_path / "out" / "paintings").rglob("*.png"))) == 3


def test_autoencoder_and_encoder_stay_as_they_are(diffusion_task):
    diffusion_task.prepare(torch.device("cpu"))
    terms = diffusion_task.losses(diffusion_task.model, tensors(diffusion_task.batch(8, 0)), 8)
    sum(terms.values()).backward()
    frozen = [*diffusion_task.autoencoder.parameters(), *diffusion_task.encoder.parameters()]
    assert all(value.grad is None for value in frozen)
    assert any(value.grad is not None and bool(value.grad.any()) for value in diffusion_task.model.parameters())


def test_latents_of_another_length_are_refused(recipes, sources, latent_file, tmp_path):
    with pytest.raises(UsageError, match="6 channels"):
        train_diffusion(
            recipes["diffusion"],
            autoencoder=latent_file,
            out=tmp_path / "out",
            overrides=("network.latent=4",),
            **sources,
        )


def test_both_commands(recipes, pictures, tmp_path):
    """One after the other, as a person trains them."""
    common = ["--content", str(pictures / "photos"), "--style", str(pictures / "art"), "--device", "cpu"]
    latent, out = tmp_path / "latent", tmp_path / "out"
    first = ["--recipe", str(recipes["autoencoder"]), "--out", str(latent), "--set", "stages.0.steps=1"]
    second = ["--recipe", str(recipes["diffusion"]), "--out", str(out), "--set", "stages.0.steps=1"]
    second += ["--autoencoder", str(latent / "autoencoder.safetensors")]
    for kind, more in (("autoencoder", first), ("diffusion", second)):
        result = CliRunner().invoke(app, ["train", kind, *common, *more])
        assert result.exit_code == 0, result.output
        assert f"{kind}.safetensors" in result.output


def test_what_is_exported_has_the_presets_of_the_table(recipes, sources, latent_file, tmp_path):
    """Each encodes like its artworks, and weights behind another encoder are refused."""
    trained = train_diffusion(
        recipes["diffusion"],
        autoencoder=latent_file,
        out=tmp_path / "out",
        overrides=("stages.0.steps=1", "stages.1.steps=1"),
        **sources,
    )
    names = PictureSet(sources["styles"]).names
    rows = [("alone", names[:1]), ("both", names[1:3])]
    table = tmp_path / "presets.toml"
    table.write_text(
        "".join(f'[[preset]]\nname = "{n}"\ntitle = "t"\ncredit = "c"\nfiles = {json.dumps(f)}\n' for n, f in rows)
    )
    written = export_diffusion(trained, tmp_path / "set", artworks=sources["styles"], presets=table)
    kinds = {file.kind: tmp_path / "set" / file.name for file in written}
    assert set(kinds) == {"net", "presets"} and (tmp_path / "set" / "diffusion.toml").is_file()
    state, texts = read_tensors(kinds["net"])
    engine = Diffusion(
        written[0].sha256[:16], load_encoder(), *split_diffusion(state, texts), kinds["presets"].read_bytes()
    )
    pictures = PictureSet(sources["styles"])
    picture = pictures.picture(pictures.names.index(names[0])).astype(np.float32) / 255
    code = engine.encode(picture, name="alone", config=StylizeConfig())
    assert list(engine.presets()) == ["alone", "both"]
    assert engine.presets()["alone"].vector == pytest.approx(code.vector, abs=2e-2)
    assert len(engine.presets()["both"].parts["tokens"]) == 2 * len(code.parts["tokens"])
    write_tensors(tmp_path / "other.safetensors", state, texts | {"encoder": "0" * 16})
    with pytest.raises(WeightsError, match="another encoder"):
        export_diffusion(tmp_path / "other.safetensors", tmp_path / "no", artworks=sources["styles"], presets=table)
    assert not (tmp_path / "no" / "diffusion.toml").exists()

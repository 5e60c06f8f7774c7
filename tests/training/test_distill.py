"""A small network from a larger engine's paintings."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from impasto.config import StylizeConfig
from impasto.errors import TrainingError, UnknownNameError, UsageError
from impasto.training import distill
from impasto.training.data import PictureSet
from impasto.training.distill import DistillTask, PaintedPairs, Painter, paint_pairs
from impasto.training.files import load_johnson, load_teacher
from impasto.training.johnson import StylePicture
from impasto.training.loop import latest_checkpoint
from impasto.training.recipe import DistillRecipe, JohnsonRecipe, read_recipe, recipe_to_toml
from impasto.training.run import train_distill

TINY = """
name = "distill"
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
pictures = 4
side = 56

[[stages]]
steps = 2
batch = 2
size = 32
losses = {style = 0, content = 0, likeness = 0, color = 0, stability = 0}

[[stages]]
steps = 4
batch = 2
size = 48
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "distill.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def sources(pictures, teacher_file):
    return {
        "engine": "brush",
        "contents": [pictures / "photos"],
        "style": pictures / "art" / "art1.png",
        "teachers": [teacher_file],
        "name": "waves",
        "device": "cpu",
    }


class Invert:
    """In the place of an engine: quick, and counted."""

    engine = "invert"

    def __init__(self):
        self.facts = {"engine": "invert"}
        self.painted = 0

    def seconds(self, side):
        return 3.0

    def paint(self, content):
        self.painted += 1
        return 255 - content


@pytest.fixture
def made(recipe, pictures):
    return read_recipe(DistillRecipe, recipe), PictureSet([pictures / "photos"])


# --- the engine's paintings -----------------------------------------------------------------------------------------


def test_paintings_are_made_once(made, tmp_path):
    recipe, photos = made
    painter, heard = Invert(), []
    pairs = paint_pairs(painter, photos, recipe, tmp_path / "out", on_paint=heard.append)
    assert painter.painted == 4 and len(pairs) == 4
    content, painting = pairs.pair(3)
    assert content.shape == (56, 56, 3) and np.array_equal(painting, 255 - content)
    assert (heard[0].done, heard[0].count, heard[0].side, heard[0].seconds) == (0, 4, 56, 12.0)  # before the first
    assert [one.done for one in heard] == [0, 1, 2, 3, 4] and heard[-1].seconds == 0
    heard.clear()
    paint_pairs(painter, photos, recipe, tmp_path / "out", on_paint=heard.append)
    assert painter.painted == 4 and not heard


def test_an_interrupted_engine_goes_on_where_it_was(made, tmp_path):
    recipe, photos = made

    class Interrupted(Invert):
        def paint(self, content):
            if self.painted == 2:
                raise KeyboardInterrupt
            return super().paint(content)

    with pytest.raises(KeyboardInterrupt):
        paint_pairs(Interrupted(), photos, recipe, tmp_path / "parts")
    (folder,) = (tmp_path / "parts" / "paintings").iterdir()
    (folder / "000001.png").write_bytes((folder / "000001.png").read_bytes()[:200])  # the power went, too
    rest, heard = Invert(), []
    parts = paint_pairs(rest, photos, recipe, tmp_path / "parts", on_paint=heard.append)
    assert rest.painted == 3 and heard[0].done == 1 and heard[0].seconds == 9.0
    whole = paint_pairs(Invert(), photos, recipe, tmp_path / "whole")
    assert all(np.array_equal(parts.pair(n), whole.pair(n)) for n in range(4))


def test_other_settings_get_another_folder_and_more_pictures_the_same(made, tmp_path):
    recipe, photos = made
    painter, out = Invert(), tmp_path / "out"
    paint_pairs(painter, photos, recipe, out)
    more = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, pictures=6))
    assert len(paint_pairs(painter, photos, more, out)) == 6 and painter.painted == 6
    paint_pairs(painter, photos, dataclasses.replace(recipe, seed=9), out)
    assert painter.painted == 10 and len(list((out / "paintings").iterdir())) == 2
    assert json.loads((out / "engine.json").read_text())["crops"]["seed"] == 9


def test_a_student_keeps_its_engine(recipe, sources, tmp_path):
    out = tmp_path / "out"
    train_distill(recipe, **sources, out=out, overrides=("stages=[{steps=1, batch=1, size=48}]",))
    with pytest.raises(UsageError, match="learned from other paintings"):
        train_distill(recipe, **sources, out=out, settings=StylizeConfig(style_scale=2.0))
    with pytest.raises(UsageError, match="learned from other paintings"):
        train_distill(recipe, **{**sources, "contents": sources["contents"] * 2}, out=out)


def test_windows_show_the_same_place_in_both(made, tmp_path):
    recipe, photos = made
    pairs = paint_pairs(Invert(), photos, recipe, tmp_path / "out")
    contents, paintings = pairs.windows(np.random.default_rng(0), 5, 40)
    assert contents.shape == (5, 3, 40, 40) and np.array_equal(paintings, 255 - contents)
    first, again = (pairs.windows(np.random.default_rng(seed), 5, 40)[0] for seed in (1, 0))
    assert np.array_equal(again, contents) and not np.array_equal(first, contents)
    assert isinstance(PaintedPairs(next((tmp_path / "out" / "paintings").iterdir()), 2).pair(0)[0], np.ndarray)


def test_a_real_engine_paints_in_the_style(pictures):
    painter = Painter("brush", pictures / "art" / "art1.png", StylizeConfig())
    content = np.asarray(Image.open(pictures / "photos" / "photos0.png"))[:64, :64]
    painted = painter.paint(content)
    assert painted.shape == content.shape and painted.dtype == np.uint8
    assert np.abs(painted.astype(int) - content).mean() > 5
    assert painter.seconds(64) > 0 and painter.facts["settings"]["seed"] == 0
    json.dumps(painter.facts)


def test_engines_that_cannot_teach_are_named(pictures):
    style = pictures / "art" / "art1.png"
    with pytest.raises(UnknownNameError, match="gatys"):
        Painter("gatis", style, StylizeConfig())
    with pytest.raises(UsageError, match=r"'johnson' paints with styles that were trained before.*brush"):
        Painter("johnson", style, StylizeConfig())
    with pytest.raises(UsageError, match="no options of its own"):
        Painter("brush", style, StylizeConfig(options={"iterations": "3"}))
    with pytest.raises(UsageError, match="iterations"):
        Painter("gatys", style, StylizeConfig(options={"iterations": "0"}))


# --- the student ----------------------------------------------------------------------------------------------------


def test_the_painting_itself_has_no_loss(made, pictures, teacher_file, tmp_path):
    recipe, photos = made
    style = StylePicture.read(pictures / "art" / "art1.png", 64).pixels
    pairs = paint_pairs(Invert(), photos, recipe, tmp_path / "out")
    task = DistillTask(recipe, photos, style, [load_teacher(teacher_file)], pairs)
    task.prepare(torch.device("cpu"))
    batch = {name: torch.from_numpy(pixels) for name, pixels in task.batch(2, 0).items()}
    assert set(batch) == {"content", "painting"}
    shown = {name: pixels.float() / 255 for name, pixels in batch.items()}
    terms = task.terms(task.model, shown, shown["painting"], 3)
    assert float(terms["imitation"]) == 0 and float(terms["likeness"]) == 0 and float(terms["style"]) > 0
    other = task.terms(task.model, shown, shown["content"], 3)
    assert float(other["imitation"]) > 0.1 and float(other["likeness"]) > 0.01
    assert float(other["imitation"]) == pytest.approx(
        recipe.losses.imitation * float((shown["content"] - shown["painting"]).abs().mean())
    )
    early = task.losses(task.model, batch, 0)
    assert set(early) == {"variation", "range", "imitation"}  # no encoder is asked


def test_the_student_learns_and_leaves_everything_behind(recipe, sources, tmp_path):
    seen = []
    quiet = ("losses.style=0.1", "losses.content=0.1", "losses.color=0.1")  # by weights of chance, they lead elsewhere
    changes = ("stages.0.steps=20", "stages.1.steps=60", "data.pictures=3", *quiet)
    path = train_distill(
        recipe,
        **sources,
        out=tmp_path / "out",
        overrides=changes,
        on_step=lambda p: seen.append((p.losses["imitation"], p.losses.get("likeness"))),
    )
    imitation = [one for one, _ in seen]
    assert np.mean(imitation[-10:]) < 0.7 * np.mean(imitation[:10])
    likeness = [two for _, two in seen[20:]]
    assert np.mean(likeness[-10:]) < 0.9 * np.mean(likeness[:10])
    net, texts = load_johnson(path)
    facts = json.loads(texts["style"])
    assert path.name == "waves.safetensors" and net.config == read_recipe(DistillRecipe, recipe).network
    assert facts["training_data"] == "3 crops of 2 photographs, painted by the engine brush"
    assert "adapted_to" not in facts and texts["recipe"] == (tmp_path / "out" / "recipe.toml").read_text()


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(recipe, sources, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 5:  # its checkpoint is not written yet: the run goes on from the one of step 4
            raise StopError

    whole = train_distill(recipe, **sources, out=tmp_path / "whole")
    with pytest.raises(StopError):
        train_distill(recipe, **sources, out=tmp_path / "parts", on_step=stop)
    assert latest_checkpoint(tmp_path / "parts").name == "step-0000004"
    monkeypatch.setattr(distill.Painter, "paint", lambda *_: pytest.fail("painted again"))
    parts = train_distill(recipe, **sources, out=tmp_path / "parts", workers=2)
    one, two = load_file(whole), load_file(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_what_cannot_work_is_said_before_anything_is_written(recipe, sources, tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UnknownNameError, match="brush"):
        train_distill(recipe, **{**sources, "engine": "brusch"}, out=out)
    with pytest.raises(TrainingError, match=r"no picture found in .*empty"):
        train_distill(recipe, **sources, adapt=[empty], out=out)
    assert not out.exists()


def test_a_recipe_goes_to_toml_and_back(recipe, tmp_path):
    made = read_recipe(DistillRecipe, recipe)
    (tmp_path / "again.toml").write_text(recipe_to_toml(made))
    assert read_recipe(DistillRecipe, tmp_path / "again.toml") == made
    packaged, plain = read_recipe(DistillRecipe), read_recipe(JohnsonRecipe)
    assert packaged.steps == plain.steps and packaged.network.quarter < plain.network.quarter


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.pictures=0", "data.pictures"),
        ("data.side=40", "data.side"),
        ("data.side=48", "at least the largest stage's size, 56"),
        ("losses.imitate=1", "unknown key 'losses.imitate'"),
    ],
)
def test_wrong_recipes_are_refused(recipe, change, words):
    with pytest.raises(UsageError, match=words):
        read_recipe(DistillRecipe, recipe, ("stages.1.size=56", change))

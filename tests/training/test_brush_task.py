import dataclasses

import numpy as np
import pytest
import torch

from impasto.errors import UsageError
from impasto.losses.statistics import feature_statistics
from impasto.training.brush import BrushTask, SheetPictures
from impasto.training.data import PictureSet
from impasto.training.files import load_teacher
from impasto.training.presets import SEEN_SIDE, PresetArt, PresetEntry, preset_artworks, preset_table
from impasto.training.recipe import load_recipe


@pytest.fixture
def make_task(pictures, teacher_file, recipe_file):
    def make(*overrides, shown=None):
        return BrushTask(
            load_recipe(recipe_file, overrides),
            PictureSet([pictures / "photos"]),
            PictureSet([pictures / "art"]),
            [load_teacher(teacher_file)],
            shown or SheetPictures(),
        )

    return make


@pytest.fixture
def with_presets(make_task, pictures):
    """A task whose recipe shows two presets: one artwork, and two together."""

    def make(*overrides):
        task = make_task("stages=[{steps=4,batch=4,size=48}]", "data.presets=2", *overrides)
        art = task.styles
        entries = [PresetEntry("one", "", "", ("art0.png",)), PresetEntry("two", "", "", ("art1.png", "art2.png"))]
        presets = PresetArt(preset_artworks(entries, art))
        return BrushTask(task.recipe, task.contents, art, task.teachers, presets=presets)

    return make


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def test_a_batch_depends_on_seed_step_and_index_alone(make_task):
    task, other = make_task("data.hard_negatives=0.5"), make_task("data.hard_negatives=0.5")
    expected = [task.batch(0, index) for index in range(4)]
    for index in (2, 0, 3, 1):
        found = other.batch(0, index)
        assert all(np.array_equal(found[name], expected[index][name]) for name in found)
    assert not np.array_equal(expected[0]["content"], expected[1]["content"])
    assert not np.array_equal(make_task("seed=4").batch(0, 0)["content"], expected[0]["content"])


def test_stages_change_size_and_batch_by_step_and_not_by_index(make_task):
    task = make_task()
    assert task.batch(2, 1000)["content"].shape == (2, 3, 48, 48)
    assert task.batch(3, 0)["style"].shape == (3, 3, 32, 32)


def test_the_last_pairs_are_their_own_style(make_task):
    batch = make_task("data.own_pairs=1").batch(0, 0)
    assert np.array_equal(batch["content"][-1], batch["style"][-1])
    assert not np.array_equal(batch["content"][0], batch["style"][0])
    batch = make_task("data.own_pairs=9").batch(0, 0)
    assert np.array_equal(batch["content"], batch["style"])


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_contents_may_all_be_photographs_or_all_be_art(make_task, part):
    assert make_task(f"data.art_as_content={part}").batch(0, 0)["content"].shape == (2, 3, 48, 48)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(make_task):
    task = make_task()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    again = BrushTask(task.recipe, task.contents, task.styles, task.teachers)
    assert torch.equal(torch.rand(3), expected)
    first, second = task.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = make_task("seed=4").model.state_dict()
    assert not torch.equal(first["net.stem.weight"], other["net.stem.weight"])


def test_terms_follow_the_weights(make_task):
    task = make_task("data.own_pairs=1")
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    terms = task.losses(task.model, batch, 0)
    assert set(terms) == {"variation", "range", "identity", "style", "content", "coarse", "contrast", "stability"}
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    assert "stability" not in task.losses(task.model, batch, 1)
    task.recipe = dataclasses.replace(
        task.recipe, losses=dataclasses.replace(task.recipe.losses, style=8.0, coarse=0.0)
    )
    changed = task.losses(task.model, batch, 0)
    assert changed["style"].item() == pytest.approx(2 * terms["style"].item(), rel=1e-4)
    assert "coarse" not in changed


def test_two_equal_teachers_judge_like_one_but_for_the_coarse_style(make_task):
    one, two = make_task(), make_task()
    two.teachers = two.teachers * 2
    found = []
    for task in (one, two):
        task.prepare(torch.device("cpu"))
        found.append(task.losses(task.model, tensors(task.batch(0, 0)), 0))
    for name in ("style", "content", "contrast"):
        assert found[0][name].item() == pytest.approx(found[1][name].item(), rel=1e-4)
    assert found[0]["coarse"].item() == pytest.approx(2 * found[1]["coarse"].item(), rel=1e-4)


def test_under_autocast_the_terms_stay_close_and_finite(make_task):
    task = make_task()
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    exact = task.losses(task.model, batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = task.losses(task.model, batch, 0)
    for name, value in exact.items():
        assert low[name].dtype == torch.float32
        assert low[name].item() == pytest.approx(value.item(), rel=0.1, abs=0.02), name


def test_the_sheet_shows_every_pair(make_task):
    grey = np.full((40, 56, 3), 90, np.uint8)
    shown = SheetPictures([grey, grey], [grey[:33, :20], grey, grey])
    task = make_task(shown=shown)
    with torch.no_grad():
        assert task.sheet(task.model, torch.device("cpu")).size == (4 * 56, 3 * 40)
        assert make_task().sheet(task.model, torch.device("cpu")).size == (5 * 48, 4 * 48)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, [[0, 1], [0, 1]]), (1, [[0], [1]]), (2, [[0, 1], [0, 1]]), (5, [[0, 1], [0, 1]])]
)
def test_teachers_judge_in_turn(make_task, count, expected):
    task = make_task()
    task.teachers = task.teachers * 2
    assert [task._judging(step, count) for step in range(2)] == expected


def test_one_of_two_equal_judges_asks_what_both_would(make_task):
    both, one = make_task("losses.coarse=0.0"), make_task("losses.coarse=0.0", "losses.judges=1")
    for task in (both, one):
        task.prepare(torch.device("cpu"))
        task.teachers, task.scales = task.teachers * 2, task.scales * 2
    batch = tensors(both.batch(0, 0))
    expected, found = (task.losses(task.model, batch, 0) for task in (both, one))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_a_batch_has_presets_before_its_own_pairs(with_presets):
    batch = with_presets("data.own_pairs=1", "data.marked=1").batch(0, 0)
    assert [number >= 0 for number in batch["preset"]] == [False, True, True, False]
    assert np.array_equal(batch["marks"], batch["preset"])
    assert (with_presets("data.marked=0").batch(0, 0)["marks"] == -1).all()
    seen = {int(number) for index in range(12) for number in with_presets().batch(0, index)["preset"]}
    assert seen == {-1, 0, 1}
    assert (with_presets("data.presets=9", "data.own_pairs=0").batch(0, 0)["preset"] >= 0).all()


def test_styles_may_be_larger_than_contents(with_presets):
    task = with_presets("data.style_side=64", "data.own_pairs=1")
    task.prepare(torch.device("cpu"))
    batch = task.batch(0, 0)
    assert batch["content"].shape == (4, 3, 48, 48)
    assert batch["style"].shape == (4, 3, 64, 64)
    own, style = (batch[name][-1].astype(float) for name in ("content", "style"))
    assert np.abs(own.mean((1, 2)) - style.mean((1, 2))).max() < 2  # the same picture, smaller
    terms = task.losses(task.model, tensors(batch), 0)
    assert all(torch.isfinite(term) for term in terms.values())


def test_a_preset_is_judged_by_all_of_its_artwork(with_presets):
    task = with_presets()
    task.prepare(torch.device("cpu"))
    teacher, scales = task.teachers[0], task.scales[0]
    whole = torch.from_numpy(task.presets.pictures[0][0].transpose(2, 0, 1).copy())[None] / 255
    style = torch.rand(3, 3, 48, 48)
    with torch.no_grad():
        maps = teacher(whole, ("fire4",))["fire4"]
        shown = teacher(style, ("fire4",))["fire4"]
        targets = task._targets(0, style, style, [-1, 0, -1], task.recipe.weights_at(0))
    wanted = feature_statistics(maps, scales["fire4"])
    fresh = feature_statistics(shown, scales["fire4"])
    found = targets.style["fire4"]
    assert torch.allclose(found.covariance[1], wanted.covariance[0], atol=1e-4)
    assert torch.allclose(found.covariance[[0, 2]], fresh.covariance[[0, 2]], atol=1e-4)
    assert targets.coarse["fire4"].mean.shape == found.mean.shape


def test_several_artworks_of_a_preset_count_together(with_presets):
    task = with_presets()
    task.prepare(torch.device("cpu"))
    colours = [art.reshape(-1, 3).mean(0) / 255 for art in task.presets.pictures[1]]
    assert np.allclose(task.palettes[1].mean(1), np.mean(colours, axis=0), atol=0.02)
    assert torch.equal(task._palette(torch.zeros(2, 3, 32, 32), [1, -1])[1], torch.zeros(3, 8, 8))


def test_the_sheet_shows_presets_too(with_presets):
    task = with_presets()
    with torch.no_grad():
        assert task.sheet(task.model, torch.device("cpu")).size == ((1 + 4 + 2) * 48, 4 * 48)


def test_detail_looks_at_a_quarter_of_the_size(make_task):
    task = make_task("losses.content=0.0", "losses.detail=2.0")
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    terms = task.losses(task.model, batch, 0)
    assert "content" not in terms
    assert terms["detail"] > 0
    content = batch["content"].float() / 255
    weights = task.recipe.weights_at(0)
    targets = task._targets(0, content, content, [-1, -1], weights)
    assert list(targets.content) == ["fire4"]
    assert task._perceptual(task.teachers[0], task.scales[0], content, targets, weights)["detail"] < 1e-8


def test_artworks_of_presets_are_seen_at_one_size():
    art = PresetArt([[np.zeros((100, 900, 3), np.uint8)], [np.zeros((600, 400, 3), np.uint8)]])
    assert [pictures[0].shape for pictures in art.pictures] == [(SEEN_SIDE, 2 * SEEN_SIDE, 3), (432, SEEN_SIDE, 3)]
    assert art.crop(0, np.random.default_rng(0), 96).shape == (3, 96, 96)


def test_a_table_of_presets_is_read_and_faults_are_named(tmp_path, pictures):
    entries = preset_table()
    assert len(entries) >= 24
    assert all(entry.files and entry.credit for entry in entries)
    with pytest.raises(UsageError, match=entries[0].name):
        preset_artworks(entries, PictureSet([pictures / "art"]))
    path = tmp_path / "table.toml"
    for text in ("[[preset]]\nname = 'a'\n", "preset = 3\n", "not toml"):
        path.write_text(text)
        with pytest.raises(UsageError, match="no table of presets"):
            preset_table(path)

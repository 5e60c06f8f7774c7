import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.engines.brush import seen_size
from impasto.errors import UsageError
from impasto.losses.contrast import style_contrast_loss
from impasto.losses.statistics import feature_statistics
from impasto.training.brush import BrushTask, SheetPictures, _Rows, _same
from impasto.training.data import PictureSet
from impasto.training.files import load_teacher
from impasto.training.presets import PresetArt, PresetEntry, preset_artworks, preset_table
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


def test_calm_and_grid_count_in_flat_areas(make_task):
    """They are there when they are asked for, and see more of a network's pattern where the photograph is flat."""
    task = make_task("losses.calm=1", "losses.grid=1")
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    flat, busy = (
        task.losses(task.model, batch | {"content": content}, 0)
        for content in (torch.full_like(batch["content"], 128), torch.randint_like(batch["content"], 256))
    )
    assert flat["grid"] > 10 * busy["grid"].abs() and flat["calm"] > busy["calm"]


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
    batch = with_presets("data.own_pairs=1", "data.indexed=1").batch(0, 0)
    assert [number >= 0 for number in batch["preset"]] == [False, True, True, False]
    assert np.array_equal(batch["style_index"], batch["preset"])
    assert (with_presets("data.indexed=0").batch(0, 0)["style_index"] == -1).all()
    seen = {int(number) for index in range(12) for number in with_presets().batch(0, index)["preset"]}
    assert seen == {-1, 0, 1}
    with pytest.raises(UsageError, match="other artworks"):
        with_presets("data.presets=3")


def test_styles_may_be_larger_than_contents(with_presets):
    task = with_presets("data.style_side=64", "data.own_pairs=1")
    task.prepare(torch.device("cpu"))
    batch = task.batch(0, 0)
    assert batch["content"].shape == (4, 3, 48, 48)
    assert batch["style"].shape == (4, 3, 64, 64)
    own = Image.fromarray(batch["style"][-1].transpose(1, 2, 0)).resize((48, 48), Image.Resampling.BICUBIC)
    assert np.array_equal(batch["content"][-1], np.asarray(own).transpose(2, 0, 1))
    terms = task.losses(task.model, tensors(batch), 0)
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize("numbers", [[1, 0], [0, 0]])
def test_a_preset_is_judged_by_all_of_its_artworks(with_presets, reduce, numbers):
    task = with_presets()
    task.prepare(torch.device("cpu"))
    teacher, scales = task.teachers[0], task.scales[0]
    preset = torch.tensor([-1, *numbers, -1])
    style = torch.rand(4, 3, 48, 48)

    def small(picture):
        return torch.nn.functional.avg_pool2d(picture, reduce) if reduce > 1 else picture

    with torch.no_grad():
        targets = task._targets(0, style, style, preset, task.recipe.weights_at(0))
        found = (targets.style if reduce == 1 else targets.coarse)["fire4"]
        whole = []
        for arts in task.presets.pictures:
            batches = [torch.from_numpy(art.transpose(2, 0, 1).copy())[None] / 255 for art in arts]
            maps = [teacher(small(batch), ("fire4",))["fire4"].flatten(2) for batch in batches]
            whole.append(feature_statistics(torch.cat(maps, dim=2)[..., None], scales["fire4"]))
        fresh = feature_statistics(teacher(small(style), ("fire4",))["fire4"], scales["fire4"])
    for part in ("mean", "deviation", "covariance"):
        wanted = torch.stack([getattr(whole[number], part)[0] for number in numbers])
        assert torch.allclose(getattr(found, part)[1:3], wanted, atol=1e-4), part
        assert torch.allclose(getattr(found, part)[[0, 3]], getattr(fresh, part)[[0, 3]], atol=1e-4), part


def test_several_artworks_of_a_preset_count_together(with_presets):
    task = with_presets()
    task.prepare(torch.device("cpu"))
    colours = [art.reshape(-1, 3).mean(0) / 255 for art in task.presets.pictures[1]]
    assert np.allclose(task.palettes[1].mean(1), np.mean(colours, axis=0), atol=0.02)
    style = torch.zeros(4, 3, 32, 32)
    palette = task._palette(style, torch.tensor([-1, 1, 0, -1]))
    assert torch.equal(palette[[0, 3]], torch.zeros(2, 3, 8, 8))
    assert torch.equal(palette[1], task.palettes[1][:, :64].view(3, 8, 8))
    assert torch.equal(palette[2], task.palettes[0][:, :64].view(3, 8, 8))


def test_one_preset_twice_in_a_batch_is_no_negative_of_itself():
    preset = torch.tensor([-1, 2, 2, -1])
    wanted = torch.eye(3)[[0, 1, 1, 2]]
    plain = style_contrast_loss(wanted, wanted)
    spared = style_contrast_loss(wanted, wanted, same=_same(preset))
    assert spared < 0.01 < 0.3 < plain


def test_the_sheet_shows_presets_with_their_own_gains(with_presets):
    task = with_presets("network.reserved=2")
    with torch.no_grad():
        task.model.net.affine.weight[:, -1] = 0.5  # of the second preset
        sheet = np.asarray(task.sheet(task.model, torch.device("cpu")))
        task.model.net.affine.weight[:, -1] = 0.0
        without = np.asarray(task.sheet(task.model, torch.device("cpu")))
    assert sheet.shape == (4 * 48, (1 + 4 + 2) * 48, 3)
    changed = (sheet != without).any((0, 2)).reshape(-1, 48).any(1)
    assert changed.tolist() == [False] * 6 + [True]


def test_detail_looks_at_a_quarter_of_the_size(make_task):
    task = make_task("losses.content=0.0", "losses.detail=2.0")
    task.prepare(torch.device("cpu"))
    batch = tensors(task.batch(0, 0))
    terms = task.losses(task.model, batch, 0)
    assert "content" not in terms
    assert terms["detail"] > 0
    content = batch["content"].float() / 255
    weights = task.recipe.weights_at(0)
    targets = task._targets(0, content, content, torch.tensor([-1, -1]), weights)
    assert list(targets.content) == ["fire4"]
    rows = _Rows(torch.ones(2), torch.zeros(2, 2, dtype=torch.bool))
    assert task._perceptual(task.teachers[0], task.scales[0], content, targets, weights, rows)["detail"] < 1e-8


def test_styles_without_a_reserved_number_may_count_less(with_presets):
    found = []
    for encoded, indexed in ((1, 0), (0.25, 0), (0.25, 1)):
        task = with_presets(f"losses.encoded={encoded}", f"data.indexed={indexed}", "data.own_pairs=0")
        task.prepare(torch.device("cpu"))
        found.append(task.losses(task.model, tensors(task.batch(0, 0)), 0))
    for term in ("style", "coarse"):
        every, less, presets = (terms[term].item() for terms in found)
        assert less == pytest.approx(0.25 * every, rel=1e-4)
        assert 0.25 * every < presets < every


def test_artworks_of_presets_are_seen_as_the_engine_sees_styles():
    down = np.linspace(0, 255, 100).astype(np.uint8)
    tall = np.repeat(np.repeat(down[:, None], 60, axis=1)[..., None], 3, axis=2)
    art = PresetArt([[tall], [np.zeros((100, 900, 3), np.uint8)]])
    assert [pictures[0].shape[:2] for pictures in art.pictures] == [seen_size(100, 60), seen_size(100, 900)]
    shades = art.pictures[0][0].mean((1, 2))
    assert shades[0] < 3 and shades[-1] > 252  # nothing is cut off
    crop = art.crop(0, np.random.default_rng(0), 96)
    assert crop.shape == (3, 96, 96)
    assert int(crop[0, -1, 0]) - int(crop[0, 0, 0]) == pytest.approx(255 * 96 / 480, abs=4)  # at that size


def test_a_table_of_presets_is_read_and_faults_are_named(tmp_path, pictures):
    entries = preset_table()
    assert len(entries) >= 24
    assert all(entry.files and entry.credit for entry in entries)
    with pytest.raises(UsageError, match=entries[0].name):
        preset_artworks(entries, PictureSet([pictures / "art"]))


ROW = '[[preset]]\nname = "a"\ntitle = "t"\ncredit = "c"\nfiles = ["a.png"]\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("not toml", "no table of presets"),
        ("preset = 3\n", "no table of presets"),
        ("preset = []\n", "there is none"),
        (ROW.replace('title = "t"\n', ""), "title is missing"),
        (ROW.replace('["a.png"]', "[]"), "files is a list"),
        (ROW.replace('["a.png"]', '"a.png"'), "files is a list"),
        (ROW.replace('name = "a"', "name = 3"), "texts"),
        (ROW + ROW, "'a' is there twice"),
    ],
)
def test_a_faulty_table_of_presets_is_refused(tmp_path, text, fault):
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=fault):
        preset_table(path)

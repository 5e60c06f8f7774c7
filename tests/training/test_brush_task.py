import dataclasses

import numpy as np
import pytest
import torch

from impasto.training.brush import BrushTask, SheetPictures
from impasto.training.data import PictureSet
from impasto.training.files import load_teacher
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

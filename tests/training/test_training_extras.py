"""The benchmark of distillation and domain adaptation: does it run, and does it compare like with like?"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.training_extras import DISTILL_FIRST, PLAIN_FIRST, Plan, main, night  # noqa: E402
from impasto.training.recipe import DistillRecipe, JohnsonRecipe, read_recipe  # noqa: E402


def test_both_trainings_have_one_network_seed_and_schedule():
    plan = Plan()
    plain = read_recipe(JohnsonRecipe, None, plan.changes(PLAIN_FIRST))
    student = read_recipe(DistillRecipe, None, plan.changes(DISTILL_FIRST))
    assert plain.network == student.network and plain.seed == student.seed and plain.schedule == student.schedule
    sizes = [[(stage.steps, stage.batch, stage.size) for stage in recipe.stages] for recipe in (plain, student)]
    assert sizes[0] == sizes[1]


def test_a_night_is_dark_and_noisy_and_the_same_every_time():
    day = np.full((64, 64, 3), 0.6, np.float32)
    dark = night(day, np.random.default_rng(0))
    assert dark.shape == day.shape and dark.dtype == np.float32 and dark.min() >= 0
    assert 0.08 < dark.mean() < 0.2 and 0.005 < dark[..., 1].std() < 0.1
    assert dark[..., 2].mean() > dark[..., 0].mean()
    assert np.array_equal(dark, night(day, np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["distill", "adapt"])
def test_it_measures_what_it_says(pictures, tmp_path, what, capsys):
    style, photos = pictures / "art" / "art1.png", pictures / "photos"
    options = ["--style", style, "--content", photos, "--held-out", pictures / "art", "--out", tmp_path / "out"]
    if what == "adapt":
        options += ["--target", photos, "--night"]
    assert main([what, "--quick", *map(str, options), "--json", str(tmp_path / "found.json")]) == 0
    assert what in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["rows"]
    assert rows[0]["name"] == "without" and len(rows) == 3 and (tmp_path / "out").is_dir()
    for row in rows:
        assert set(row["figures"]) >= {"style", "gram", "content", "structure"}
        assert all(np.isfinite(one["mean"]) for one in row["figures"].values())
    assert rows[0]["figures"]["style"]["difference"] == {"mean": 0.0, "error": 0.0}
    if what == "distill":
        assert rows[2]["figures"]["imitation"]["mean"] == 0
    else:
        assert set(rows[1]["figures"]) >= {"clean", "told apart"}

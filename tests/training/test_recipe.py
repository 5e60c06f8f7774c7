import dataclasses

import pytest

from impasto.errors import UsageError
from impasto.training.recipe import BrushRecipe, LossWeights, Stage, load_recipe, recipe_to_toml


def test_the_packaged_recipe_loads():
    recipe = load_recipe()
    assert recipe.name == "brush"
    assert recipe.steps >= 1000


def test_a_recipe_states_only_what_differs(tmp_path):
    (tmp_path / "r.toml").write_text("[schedule]\nlearning_rate = 1\n")
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.schedule.learning_rate == 1.0 and isinstance(recipe.schedule.learning_rate, float)
    plain = BrushRecipe()
    assert recipe == dataclasses.replace(plain, schedule=dataclasses.replace(plain.schedule, learning_rate=1.0))


def test_overrides_reach_sections_stages_and_words(recipe_file):
    changes = ("seed=9", "losses.style = 7.5", "stages.1.steps=40", "stages.0.losses.gram=2", "schedule.precision=bf16")
    recipe = load_recipe(recipe_file, changes)
    assert (recipe.seed, recipe.losses.style, recipe.stages[1].steps) == (9, 7.5, 40)
    assert recipe.schedule.precision == "bf16"
    assert recipe.weights_at(0).gram == 2 and recipe.weights_at(3).gram == LossWeights().gram


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.stlye=1", r"unknown key 'losses\.stlye'; known:.*style"),
        ("stages.0.losses.stlye=1", r"unknown key 'stages\.0\.losses\.stlye'"),
        ("losses.style=loud", r"'losses\.style' has the wrong type: 'loud'"),
        ("seed=true", "'seed' has the wrong type"),
        ("stages=3", "'stages' has the wrong type"),
        ("stages=[]", "at least one stage"),
        ("stages.7.steps=3", "no place"),
        ("seed.deep=3", "no place"),
        ("network.encoder=[1, 2]", "needs 4 values, not 2"),
        ("stages.0.size=50", r"'stages\.0\.size' must be a multiple of 8"),
        ("stages.0.batch=0", "1 or more"),
        ("losses.stability_every=0", "1 or more"),
        ("schedule.precision=int4", "no, fp16 or bf16"),
        ("schedule.ema=1.0", "below 1"),
        ("data.content_smallest=1.5", "content_largest"),
        ("losses.style", r"should read section\.key=value"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(recipe_file, override, message):
    with pytest.raises(UsageError, match=message):
        load_recipe(recipe_file, (override,))


def test_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = = 3")
    with pytest.raises(UsageError, match="no valid TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no valid TOML"):
        load_recipe(tmp_path / "bytes.toml")


def test_to_toml_and_back(tmp_path, recipe_file):
    recipe = dataclasses.replace(load_recipe(recipe_file), name='a "quoted" näme')
    (tmp_path / "again.toml").write_text(recipe_to_toml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_stages_follow_each_other():
    recipe = BrushRecipe(stages=(Stage(steps=2, size=64), Stage(steps=3, size=96, losses={"style": 9.0})))
    assert recipe.steps == 5
    assert [recipe.stage_at(step).size for step in range(7)] == [64, 64, 96, 96, 96, 96, 96]
    assert recipe.weights_at(1).style == LossWeights().style
    assert recipe.weights_at(2).style == 9

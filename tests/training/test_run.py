import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from impasto.errors import ImageError, UsageError, WeightsError
from impasto.training.brush import BrushTask
from impasto.training.files import load_model, reserved_names
from impasto.training.loop import latest_checkpoint, step_of
from impasto.training.recipe import load_recipe
from impasto.training.run import train_brush
from impasto.weights.files import read_tensors


def same_weights(first, second):
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_training_lowers_the_loss_and_leaves_everything_behind(recipe_file, sources, tmp_path):
    losses = []
    path = train_brush(
        recipe_file,
        **sources,
        out=tmp_path / "out",
        overrides=("stages=[{steps = 40, batch = 3, size = 32}]", "schedule.checkpoint_every=20"),
        on_step=lambda p: losses.append(p.losses["style"] + p.losses["content"]),
    )
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.85 * sum(losses[:8])
    recipe = (tmp_path / "out" / "recipe.toml").read_text()
    assert load_recipe(tmp_path / "out" / "recipe.toml").steps == 40
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    assert (metadata["step"], metadata["recipe"]) == ("40", recipe)
    assert load_model(path).config == load_recipe(recipe_file).network
    assert list((tmp_path / "out" / "tensorboard").iterdir())
    (line,) = [json.loads(text) for text in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert (line["step"], line["recipe_sha256"]) == (0, hashlib.sha256(recipe.encode()).hexdigest())


@pytest.mark.parametrize("changes", [(), ("schedule.accumulation=2", "schedule.checkpointing=true")])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(recipe_file, sources, tmp_path, changes):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 4:  # its checkpoint is not written yet: the run goes on from the one of step 3
            raise StopError

    whole = train_brush(recipe_file, **sources, out=tmp_path / "whole", overrides=changes)
    with pytest.raises(StopError):
        train_brush(recipe_file, **sources, out=tmp_path / "parts", overrides=changes, on_step=stop)
    assert latest_checkpoint(tmp_path / "parts").name == "step-0000003"
    resumed = []
    parts = train_brush(
        recipe_file,
        **sources,
        out=tmp_path / "parts",
        overrides=changes,
        workers=2,
        on_step=lambda p: resumed.append(p.step),
    )
    assert resumed == [4, 5, 6]
    assert same_weights(whole, parts)


def test_a_changed_recipe_is_allowed_and_noted(recipe_file, sources, tmp_path):
    out = tmp_path / "out"
    for steps in (1, 1, 2):
        train_brush(recipe_file, **sources, out=out, overrides=(f"stages=[{{steps={steps}, batch=2, size=32}}]",))
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    assert load_recipe(out / "recipe.toml").steps == 2


def test_fine_tuning_starts_from_the_given_weights(recipe_file, sources, tmp_path):
    once = ("stages=[{steps=1, batch=2, size=32}]",)
    first = train_brush(recipe_file, **sources, out=tmp_path / "first", overrides=once)
    still = ("schedule.learning_rate=1e-12", "seed=8", *once)
    second = train_brush(recipe_file, **sources, out=tmp_path / "second", overrides=still, start_from=first)
    before, after = load_file(first), load_file(second)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    with pytest.raises(UsageError, match="other sizes"):
        train_brush(recipe_file, **sources, out=tmp_path / "third", overrides=("network.code=16",), start_from=first)


def test_presets_have_gains_of_their_own_after_fine_tuning(recipe_file, sources, tmp_path):
    first = train_brush(
        recipe_file, **sources, out=tmp_path / "first", overrides=("stages=[{steps=1, batch=2, size=32}]",)
    )
    table = tmp_path / "presets.toml"
    rows = [f'[[preset]]\nname = "{n}"\ntitle = ""\ncredit = ""\nfiles = ["art{n}.png"]\n' for n in range(2)]
    table.write_text("\n".join(rows))
    shown = ("stages=[{steps=6, batch=4, size=32}]", "data.presets=2", "data.indexed=1", "schedule.learning_rate=0.01")
    more = {"overrides": (*shown, "network.reserved=3"), "start_from": first, "presets": table}
    second = train_brush(recipe_file, **sources, out=tmp_path / "second", **more)
    before, after = (load_file(path)["net.affine.weight"] for path in (first, second))
    own = after[:, before.shape[1] :]
    assert (own.abs().amax(0) > 0).tolist() == [True, True, False]  # no preset has the third
    assert load_model(second).config.reserved == 3
    assert reserved_names(read_tensors(second)[1]) == ["0", "1"]
    with pytest.raises(UsageError, match="2 presets"):
        changed = more | {"overrides": (*shown, "network.reserved=1")}
        train_brush(recipe_file, **sources, out=tmp_path / "third", **changed)
    table.write_text("\n".join(rows[::-1]))
    with pytest.raises(UsageError, match="must begin with them"):
        train_brush(recipe_file, **sources, out=tmp_path / "third", **more | {"start_from": second})
    with pytest.raises(UsageError, match="no effect"):
        train_brush(recipe_file, **sources, out=tmp_path / "third", presets=table)


def test_codes_are_spread_once_before_a_new_training(recipe_file, sources, tmp_path, monkeypatch):
    spread = []
    monkeypatch.setattr(BrushTask, "spread", lambda task: spread.append(task.recipe.data.spread))
    for steps, changes in ((1, ()), (1, ("data.spread=16",)), (2, ("data.spread=16",))):
        stages = f"stages=[{{steps={steps}, batch=2, size=32}}]"
        train_brush(recipe_file, **sources, out=tmp_path / str(bool(changes)), overrides=(stages, *changes))
    assert spread == [16]


def test_mixed_precision_trains_and_saves_float32(recipe_file, sources, tmp_path):
    changes = ("schedule.precision=bf16", "stages=[{steps=2, batch=2, size=32}]")
    path = train_brush(recipe_file, **sources, out=tmp_path / "out", overrides=changes)
    assert all(v.dtype == torch.float32 and torch.isfinite(v).all() for v in load_file(path).values())


def test_sheets_show_the_given_pictures(recipe_file, sources, pictures, tmp_path):
    train_brush(
        recipe_file,
        **sources,
        out=tmp_path / "out",
        overrides=("stages=[{steps=1, batch=2, size=32}]",),
        sheet_contents=[pictures / "photos" / "photos0.png"],
        sheet_styles=[pictures / "art" / "art0.png", pictures / "art" / "art1.png"],
    )
    with Image.open(tmp_path / "out" / "sheets" / "step-0000001.jpg") as sheet:
        assert sheet.size == (3 * 336, 2 * 256)  # 96 x 72 at a short side of 256, cut to multiples of 8


def test_what_cannot_work_is_said_before_anything_is_written(recipe_file, sources, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="at least one teacher"):
        train_brush(recipe_file, **{**sources, "teachers": []}, out=out)
    with pytest.raises(WeightsError, match="there is no weights file"):
        train_brush(recipe_file, **{**sources, "teachers": [tmp_path / "none.pth"]}, out=out)
    with pytest.raises(ImageError, match="sample sheets"):
        train_brush(recipe_file, **sources, out=out, sheet_styles=[recipe_file])
    assert not out.exists()


@pytest.mark.slow
def test_a_killed_training_goes_on_exactly(recipe_file, sources, pictures, teacher_file, tmp_path):
    script = (
        "import sys; from pathlib import Path; from impasto.training.run import train_brush\n"
        "recipe, photos, art, teacher, out = map(Path, sys.argv[1:])\n"
        "train_brush(recipe, contents=[photos], styles=[art], teachers=[teacher], out=out, device='cpu',\n"
        "            overrides=('stages.0.steps=12', 'stages.1.steps=18', 'schedule.checkpoint_every=2'))"
    )

    def start(out):
        places = [recipe_file, pictures / "photos", pictures / "art", teacher_file, out]
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, places)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait(300) == 0
    process = start(killed)
    deadline = time.monotonic() + 200
    while latest_checkpoint(killed) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert latest_checkpoint(killed) is not None
    assert not (killed / "brush.safetensors").exists(), "the kill came too late to show anything"
    assert start(killed).wait(300) == 0
    assert same_weights(whole / "brush.safetensors", killed / "brush.safetensors")


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_would(recipe_file, sources, pictures, teacher_file, tmp_path):
    """Two processes with two micro-batches each, stopped by time and resumed, against one with four micro-batches."""
    changes = ("stages=[{steps=3, batch=2, size=32}]", "schedule.checkpointing=true")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from impasto.training.run import train_brush\n"
        "recipe, photos, art, teacher, out = map(Path, sys.argv[2:])\n"
        "train_brush(recipe, contents=[photos], styles=[art], teachers=[teacher], out=out, device='cpu',\n"
        f"            minutes=float(sys.argv[1]), overrides={(*changes, 'schedule.accumulation=2')})"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    places = [recipe_file, pictures / "photos", pictures / "art", teacher_file, tmp_path / "two"]
    for minutes, step in (("0", 1), ("9", 3)):
        command = [*launch, minutes, *map(str, places)]
        subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        checkpoint = latest_checkpoint(tmp_path / "two")
        assert step_of(checkpoint) == step
        assert len(list(checkpoint.glob("random_states_*"))) == 2  # one of each process
    two = load_file(tmp_path / "two" / "brush.safetensors")
    alone = {}
    for batches in (4, 2):
        overrides = (*changes, f"schedule.accumulation={batches}")
        alone[batches] = load_file(
            train_brush(recipe_file, **sources, out=tmp_path / str(batches), overrides=overrides)
        )

    def difference(other):
        # Biases in front of a normalisation have a gradient of nothing but rounding, which Adam blows up to full steps.
        names = [name for name in two if name.startswith("encoder") or name.endswith("weight")]
        return torch.cat([(two[name] - other[name]).abs().flatten() for name in names]).mean().item()

    assert difference(alone[4]) < 1e-5  # in the mean of all weights; single ones with next to no gradient may differ
    assert difference(alone[2]) > 1e-4  # other pictures show

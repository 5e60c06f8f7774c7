import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from impasto.errors import TrainingError, UsageError
from impasto.training.loop import latest_checkpoint, learning_rate_factor, train
from impasto.training.recipe import ScheduleConfig

SCHEDULE = ScheduleConfig(
    learning_rate=0.1, warmup=1, ema=0.5, clip=0.0, checkpoint_every=1, sheet_every=100, log_every=2
)


class Line:
    """Fits a line; the loss or the gradient can be spoilt at one step."""

    def __init__(self, steps, *, nan_loss_at=None, nan_gradient_at=None):
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.steps = steps
        self.nan_loss_at, self.nan_gradient_at = nan_loss_at, nan_gradient_at
        self.asked, self.failing = [], False

    def batch(self, step, index):
        if self.failing:
            raise TrainingError("cannot read the picture")
        self.asked.append((step, index))
        return {"x": np.random.default_rng(index).normal(size=(4, 1)).astype(np.float32)}

    def prepare(self, device):
        pass

    def losses(self, model, batch, step):
        found = model(batch["x"])
        loss = (found - 3 * batch["x"] - 1).square().mean()
        if step == self.nan_gradient_at:
            loss = loss + torch.sqrt((found - found.detach()).square()).mean()  # 0, with a gradient of 0 * inf
        terms = {"fit": loss if step != self.nan_loss_at else loss * math.nan}
        if step % 2 == 0:
            terms["even"] = 0.0 * loss + 1.0
        return terms

    def sheet(self, model, device):
        assert not model.training
        return Image.new("RGB", (8, 8))


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def test_the_learning_rate_rises_stays_and_falls():
    schedule = ScheduleConfig(warmup=4, decay=0.5, floor=0.1)
    factors = [learning_rate_factor(step, 20, schedule) for step in range(21)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[4:11] == [1.0] * 7
    assert factors[15] == pytest.approx(0.55) and factors[20] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(factors[4:]))
    assert learning_rate_factor(50, 20, schedule) == 0.1
    assert learning_rate_factor(19, 20, ScheduleConfig(warmup=0, decay=0.0)) == 1.0


def test_training_fits_logs_and_keeps_few_checkpoints(tmp_path):
    steps = []
    trained = train(Line(60), SCHEDULE, tmp_path, device="cpu", on_step=steps.append)
    assert trained.step == 60 and [p.step for p in steps] == list(range(1, 61))
    assert torch.allclose(weights(trained), torch.tensor([3.0, 1.0]), atol=0.3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-0000059", "step-0000060"]
    assert (tmp_path / "sheets" / "step-0000060.jpg").is_file()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2, 61, 2))
    assert all(line["even"] == 1 for line in lines)  # computed at every second step, and yet in every line
    assert lines[0]["fit"] == pytest.approx((steps[0].losses["fit"] + steps[1].losses["fit"]) / 2, abs=1e-5)


def test_a_finished_training_returns_at_once(tmp_path):
    first = train(Line(4), SCHEDULE, tmp_path, device="cpu")
    again = train(Line(4), SCHEDULE, tmp_path, device="cpu", on_step=lambda _: pytest.fail("no step is left"))
    assert again.step == 4 and torch.equal(weights(first), weights(again))


def test_a_longer_recipe_extends_a_training_with_its_own_learning_rate(tmp_path):
    train(Line(3), SCHEDULE, tmp_path, device="cpu")
    lower = ScheduleConfig(learning_rate=1e-3, warmup=1, ema=0.5, checkpoint_every=1, log_every=1, accumulation=2)
    task = Line(5)
    train(task, lower, tmp_path, device="cpu")
    rates = [json.loads(line)["lr"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rates[-2:] == pytest.approx([1e-3 * learning_rate_factor(s, 5, lower) for s in (3, 4)])
    assert task.asked == [(3, 6), (3, 7), (4, 8), (4, 9)]


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    class Whole(Line):
        def batch(self, step, index):
            return {"x": np.concatenate([Line.batch(self, step, 2 * index + i)["x"] for i in range(2)])}

    halves = ScheduleConfig(**{**vars(SCHEDULE), "accumulation": 2})
    task = Line(5)
    split, whole = (
        train(task, halves, tmp_path / "a", device="cpu"),
        train(Whole(5), SCHEDULE, tmp_path / "b", device="cpu"),
    )
    assert task.asked == [(n // 2, n) for n in range(10)]
    assert torch.allclose(weights(split), weights(whole), atol=1e-5)


@pytest.mark.parametrize(("spoilt", "named"), [("nan_loss_at", "fit nan"), ("nan_gradient_at", "gradient nan")])
def test_what_is_not_finite_stops_before_it_reaches_weights_or_checkpoints(tmp_path, spoilt, named):
    with pytest.raises(TrainingError, match=rf"step 4: .*{named}.*step-0000003"):
        train(Line(6, **{spoilt: 3}), SCHEDULE, tmp_path / "spoilt", device="cpu")
    assert latest_checkpoint(tmp_path / "spoilt").name == "step-0000003"
    mended = train(Line(6), SCHEDULE, tmp_path / "spoilt", device="cpu")
    clean = train(Line(6), SCHEDULE, tmp_path / "clean", device="cpu")
    assert torch.isfinite(weights(mended)).all()
    assert torch.equal(weights(mended), weights(clean))


def test_without_a_checkpoint_the_message_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"step 1: .*checkpoint: none"):
        train(Line(6, nan_loss_at=0), SCHEDULE, tmp_path, device="cpu")


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_of_the_threads_come_through(tmp_path, workers):
    task = Line(6)
    task.failing = True
    with pytest.raises(TrainingError, match="cannot read the picture"):
        train(task, SCHEDULE, tmp_path, device="cpu", workers=workers)


def test_time_limit_stops_with_a_checkpoint(tmp_path):
    rarely = ScheduleConfig(**{**vars(SCHEDULE), "checkpoint_every": 1000})
    first = train(Line(6), rarely, tmp_path, device="cpu", minutes=0)
    assert first.step == 1 and latest_checkpoint(tmp_path).name == "step-0000001"
    assert train(Line(6), rarely, tmp_path, device="cpu").step == 6


def test_half_written_checkpoints_are_ignored_and_cleared(tmp_path):
    train(Line(2), SCHEDULE, tmp_path, device="cpu")
    folder = tmp_path / "checkpoints"
    (folder / "step-0000009").mkdir()  # without done.json
    (folder / ".step-0000005.partial").mkdir()
    assert latest_checkpoint(tmp_path).name == "step-0000002"
    assert train(Line(3), SCHEDULE, tmp_path, device="cpu").step == 3
    assert not (folder / ".step-0000005.partial").exists()


def test_checkpoints_are_ordered_by_number(tmp_path):
    for step in ("step-9999999", "step-10000000"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
        (tmp_path / "checkpoints" / step / "done.json").write_text("{}")
    assert latest_checkpoint(tmp_path).name == "step-10000000"
    assert latest_checkpoint(tmp_path / "none") is None


def test_a_checkpoint_of_another_network_or_a_damaged_one_is_refused(tmp_path):
    train(Line(2), SCHEDULE, tmp_path, device="cpu")
    other = Line(4)
    other.model = nn.Linear(2, 1)
    with pytest.raises(TrainingError, match=r"step-0000002.*another network"):
        train(other, SCHEDULE, tmp_path, device="cpu")
    (tmp_path / "checkpoints" / "step-0000002" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match=r"step-0000002.*damaged"):
        train(Line(4), SCHEDULE, tmp_path, device="cpu")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="says what is missing on a machine without a GPU")
def test_what_the_machine_lacks_is_named(tmp_path):
    with pytest.raises(UsageError, match="'cuda' is not there"):
        train(Line(2), SCHEDULE, tmp_path, device="cuda")
    with pytest.raises(UsageError, match="workers"):
        train(Line(2), SCHEDULE, tmp_path, device="cpu", workers=0)
    torch_half = ScheduleConfig(precision="fp16")
    with pytest.raises(UsageError, match="fp16"):
        train(Line(2), torch_half, tmp_path)

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from impasto.training.loop import train
from impasto.training.recipe import ScheduleConfig

STUCK = ScheduleConfig(
    learning_rate=0.1, warmup=0, decay=0.0, ema=0.5, checkpoint_every=1, sheet_every=1000, log_every=1,
    plateau_factor=0.5, plateau_window=3, plateau_patience=1, plateau_after=4,
)  # fmt: skip


class Stuck:
    """Whatever is done, the loss stays, but for the steps that it is told to improve in."""

    def __init__(self, steps, improving=0):
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.steps = steps
        self.improving = improving

    def batch(self, step, index):
        return {"x": np.ones((1, 1), np.float32)}

    def prepare(self, device):
        pass

    def losses(self, model, batch, step):
        return {"fit": 0 * model(batch["x"]).sum() + (10.0 - step if step < self.improving else 1.0)}

    def sheet(self, model, device):
        return Image.new("RGB", (8, 8))


def rates(folder):
    return [json.loads(line)["lr"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_learning_rate_falls_when_the_loss_does_not(tmp_path):
    train(Stuck(20), STUCK, tmp_path, device="cpu")
    found = rates(tmp_path)
    # Readings at steps 7, 10, 13, 16, 19: the first is the best; the second bad one in a row lowers the rate.
    assert found[:13] == [0.1] * 13 and found[13:19] == [0.05] * 6 and found[19] == 0.025


def test_it_stays_while_the_loss_falls_and_when_switched_off(tmp_path):
    train(Stuck(20, improving=20), STUCK, tmp_path / "falling", device="cpu")
    assert rates(tmp_path / "falling") == [0.1] * 20
    off = ScheduleConfig(learning_rate=0.1, warmup=0, decay=0.0, log_every=1)
    train(Stuck(20), off, tmp_path / "off", device="cpu")
    assert rates(tmp_path / "off") == [0.1] * 20


@pytest.mark.parametrize("stop", [5, 8, 9, 13, 14])
def test_a_stopped_training_goes_on_with_what_it_had_read(tmp_path, stop):
    train(Stuck(20), STUCK, tmp_path / "whole", device="cpu")
    train(Stuck(stop), STUCK, tmp_path / "parts", device="cpu")
    train(Stuck(20), STUCK, tmp_path / "parts", device="cpu")
    assert rates(tmp_path / "parts") == rates(tmp_path / "whole")

"""Adversarial and reconstruction losses against their definitions."""

import pytest
import torch

from impasto.losses.adversarial import adaptive_weight, hinge_critic_loss, hinge_generator_loss
from impasto.losses.perceptual import charbonnier, perceptual_loss


def test_the_hinge_lets_go_beyond_1():
    assert float(hinge_critic_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -7.0]))) == 0
    assert float(hinge_critic_loss(torch.zeros(3), torch.zeros(5))) == 1
    assert float(hinge_generator_loss(torch.tensor([1.0, 3.0]))) == -2


def test_the_adaptive_weight_makes_both_pull_alike():
    picture = torch.rand(1, 3, 4, 4, requires_grad=True)
    one, other = (picture * 3).sum(), (picture * 0.5).sum()
    assert float(adaptive_weight(one, other, picture)) == pytest.approx(6, rel=1e-5)
    assert float(adaptive_weight(one, other * 1e-9, picture)) == 100
    (one + other).backward()  # the graphs are still there
    assert picture.grad is not None


def test_charbonnier_is_nearly_the_absolute_difference():
    target = torch.zeros(1, 3, 2, 2)
    assert float(charbonnier(target + 0.5, target)) == pytest.approx(0.5, abs=1e-5)
    assert float(charbonnier(target, target)) == pytest.approx(1e-3)


def test_the_perceptual_loss_is_blind_to_the_length_of_features():
    maps = {"a": torch.rand(1, 4, 3, 3) + 0.1, "b": torch.rand(1, 2, 2, 2) + 0.1}
    assert float(perceptual_loss({name: 3 * part for name, part in maps.items()}, maps)) < 1e-10
    opposite = {name: -part for name, part in maps.items()}
    assert float(perceptual_loss(opposite, maps)) == pytest.approx(4, rel=1e-5)

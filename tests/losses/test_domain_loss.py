import math

import pytest
import torch
from torch.nn import functional

from impasto.errors import UsageError
from impasto.losses.domain import domain_loss, reversal_strength


def test_it_is_the_binary_cross_entropy_of_both_domains():
    source, target = torch.tensor([-2.0, 0.5]), torch.tensor([1.0, -1.0, 3.0])
    wanted = functional.binary_cross_entropy_with_logits(source, torch.zeros(2))
    wanted = (wanted + functional.binary_cross_entropy_with_logits(target, torch.ones(3))) / 2
    torch.testing.assert_close(domain_loss(source, target), wanted)


def test_one_that_cannot_tell_has_log_two_and_one_that_knows_has_nothing():
    assert float(domain_loss(torch.zeros(1), torch.zeros(5))) == pytest.approx(math.log(2))
    assert float(domain_loss(torch.full((2,), -50.0), torch.full((2,), 50.0))) < 1e-9
    assert float(domain_loss(torch.full((2,), 50.0), torch.full((2,), -50.0))) == pytest.approx(50)


def test_half_precision_does_not_lose_small_losses():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = domain_loss(torch.full((1,), -9.0).bfloat16(), torch.full((1,), 9.0).bfloat16())
    assert loss.dtype == torch.float32 and float(loss) == pytest.approx(math.log1p(math.exp(-9)), rel=1e-4)


def test_the_reversal_follows_the_schedule_of_the_paper():
    assert reversal_strength(0) == 0
    assert reversal_strength(0.1) == pytest.approx(math.tanh(0.5))  # 2 sigmoid(2x) - 1 = tanh(x)
    assert 0.999 < reversal_strength(1) < 1
    steps = [reversal_strength(step / 20) for step in range(21)]
    assert steps == sorted(steps)
    with pytest.raises(UsageError, match="from 0 to 1"):
        reversal_strength(1.01)

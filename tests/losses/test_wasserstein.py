import numpy as np
import pytest
import torch

from impasto.losses.wasserstein import random_directions, sliced_wasserstein


def _directions(count=12, channels=3):
    return random_directions(count, channels, torch.Generator().manual_seed(0))


def test_directions_are_unit_vectors():
    assert torch.allclose(_directions().norm(dim=1), torch.ones(12))


def test_zero_for_the_same_pixels_in_another_order():
    picture = torch.rand(2, 3, 6, 5)
    shuffled = picture.flatten(2)[:, :, torch.randperm(30)].reshape(2, 3, 5, 6)
    assert sliced_wasserstein(picture, shuffled, _directions()) == pytest.approx(0, abs=1e-12)


def test_shift_costs_its_projected_length():
    picture, directions = torch.rand(1, 3, 8, 8, dtype=torch.float64), _directions().double()
    shift = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    wanted = float((directions @ shift).square().mean())
    moved = picture + shift[None, :, None, None]
    assert float(sliced_wasserstein(moved, picture, directions)) == pytest.approx(wanted)


def test_equals_sorting_in_numpy():
    first, second, directions = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), _directions(5)
    total = 0.0
    for direction in directions.numpy().astype(np.float64):
        a, b = (np.sort(direction @ part[0].flatten(1).numpy().astype(np.float64)) for part in (first, second))
        total += np.mean((a - b) ** 2) / 5
    assert float(sliced_wasserstein(first, second, directions)) == pytest.approx(total, rel=1e-5)


def test_other_number_of_positions_is_compared_by_quantiles():
    """Every value stands for the middle of its piece of the mass: a ramp is the same in steps of any size."""
    fine, coarse = (((torch.arange(side**2) + 0.5) / side**2).reshape(1, 1, side, side) for side in (8, 4))
    assert float(sliced_wasserstein(coarse, fine, torch.ones(1, 1))) == pytest.approx(0, abs=1e-12)
    inclusive = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)  # a slightly wider distribution
    assert float(sliced_wasserstein(coarse, inclusive, torch.ones(1, 1))) > 1e-6


@pytest.mark.parametrize("size", [(6, 5), (7, 9), (2, 3), (1, 1)])
def test_a_map_of_ones_is_as_good_as_none(size):
    """Also where the target has fewer or more positions."""
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 3, 6, 5, generator=generator)
    target, directions = torch.rand(2, 3, *size, generator=generator), _directions()
    wanted = sliced_wasserstein(features, target, directions)
    found = sliced_wasserstein(features, target, directions, torch.ones(1, 1, 6, 5))
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_gradient_moves_colours_towards_the_palette():
    picture = torch.full((1, 3, 4, 4), 0.2, requires_grad=True)
    sliced_wasserstein(picture, torch.full((1, 3, 4, 4), 0.8), _directions()).sum().backward()
    assert (picture.grad.sum((0, 2, 3)) < 0).all()


def test_autocast_does_not_lower_the_precision():
    generator = torch.Generator().manual_seed(0)
    found, wanted = torch.rand(1, 3, 16, 16, generator=generator), torch.rand(1, 3, 16, 16, generator=generator)
    directions = random_directions(8, 3, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = sliced_wasserstein(found, wanted, directions)
    assert torch.equal(low, sliced_wasserstein(found, wanted, directions))


def test_weights_are_as_good_as_repeated_samples():
    """A place of weight 2 counts like two places of weight 1."""
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(1, 3, 1, 6, generator=generator, dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 1.0, 0.0, 2.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 6)
    repeated = torch.repeat_interleave(features, weight.long().flatten(), dim=3)
    target = torch.full((1, 3, 1, 1), 0.3, dtype=torch.float64)  # one quantile: no interpolation between others
    directions = _directions().double()
    found = sliced_wasserstein(features, target, directions, weight)
    assert float(found) == pytest.approx(float(sliced_wasserstein(repeated, target.expand(1, 3, 1, 8), directions)))


def test_the_weighted_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.rand(1, 1, 3, 4, generator=generator, dtype=torch.float64)
    target, directions = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64), _directions(4).double()
    assert torch.autograd.gradcheck(lambda one: sliced_wasserstein(one, target, directions, weight), (features,))

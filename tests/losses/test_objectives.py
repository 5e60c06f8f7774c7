import math

import pytest
import torch
from torch.nn import functional

from impasto.losses.content import content_loss, instance_normalised, normalised_content_loss
from impasto.losses.contrast import style_contrast_loss
from impasto.losses.regularity import (
    calm_loss,
    grid_loss,
    identity_loss,
    range_loss,
    shift_noise,
    stability_loss,
    total_variation,
)


def picture(seed, *, height=48, width=40, channels=3):
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_content_loss_is_a_mean_square():
    assert content_loss(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)) == 1
    assert content_loss(picture(0), picture(0)) == 0


def test_normalised_content_is_blind_to_gain_and_bias_per_channel():
    features = picture(1, channels=4) * 5
    gain, bias = (
        torch.tensor([0.5, 2.0, 3.0, 7.0]).view(1, 4, 1, 1),
        torch.tensor([3.0, -1.0, 0.0, 9.0]).view(1, 4, 1, 1),
    )
    target = instance_normalised(features)
    assert normalised_content_loss(features * gain + bias, target) < 1e-6
    assert normalised_content_loss(picture(2, channels=4), target) > 0.5


def test_instance_normalised_has_zero_mean_unit_variance_and_survives_flat_maps():
    done = instance_normalised(picture(3) * 20)
    assert done.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(done.var((2, 3), correction=0), torch.ones(1, 3), atol=1e-3)
    assert torch.isfinite(instance_normalised(torch.ones(1, 2, 4, 4))).all()


def test_contrast_prefers_the_own_style():
    styles = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    right = style_contrast_loss(styles + 0.1, styles)
    wrong = style_contrast_loss(styles.roll(1, 0), styles)
    assert right < 0.1 < wrong


def test_contrast_of_a_single_pair_is_harmless():
    found = torch.randn(1, 8, requires_grad=True)
    loss = style_contrast_loss(found, torch.randn(1, 8))
    loss.backward()
    assert loss == 0 and torch.isfinite(found.grad).all()


@pytest.mark.parametrize("shift", [(0, 0), (4, -3), (-4, 4), (2, 1)])
def test_shift_moves_down_and_right_and_repeats_the_edges(shift):
    content = picture(4)
    down, right = shift
    moved = shift_noise(content, shift, 0.0, torch.Generator())
    expected = content.roll((down, right), (2, 3))
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert torch.equal(moved[inner], expected[inner])
    if down > 0:
        assert torch.equal(moved[:, :, 0, 8:-8], moved[:, :, down, 8:-8])


def test_noise_has_the_asked_deviation_and_a_seed():
    grey = torch.full((1, 3, 64, 64), 0.5)
    noisy = shift_noise(grey, (1, 1), 0.05, torch.Generator().manual_seed(1))
    again = shift_noise(grey, (1, 1), 0.05, torch.Generator().manual_seed(1))
    assert torch.equal(noisy, again)
    assert (noisy - grey).std() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("shift", [(3, -4), (-1, 2), (0, 0)])
def test_stability_is_zero_for_a_painter_that_moves_along(size, shift):
    kernel = torch.full((3, 1, 3, 3), 1 / 9)

    def equivariant(content):
        return functional.conv2d(content, kernel, padding=1, groups=3)

    def fixed_to_the_frame(content):
        return content * torch.linspace(0, 1, content.shape[3])

    content = picture(5, height=size, width=size)
    moved = shift_noise(content, shift, 0.0, torch.Generator())
    assert stability_loss(equivariant(content), equivariant(moved), shift) < 1e-6
    loss = stability_loss(fixed_to_the_frame(content), fixed_to_the_frame(moved), shift)
    assert math.isfinite(loss) and (loss > 1e-3 or shift[1] == 0)


def test_total_variation_counts_neighbours():
    assert total_variation(torch.ones(1, 3, 5, 5)) == 0
    stripes = torch.tensor([0.0, 1.0]).repeat(3).expand(1, 1, 4, 6)  # every horizontal step is 1, no vertical one
    assert total_variation(stripes) == 1


def test_range_and_identity():
    assert range_loss(picture(6)) == 0
    assert range_loss(torch.tensor([[-0.5, 1.25]])) == pytest.approx(0.375)
    assert identity_loss(picture(6), picture(6)) == 0
    assert identity_loss(picture(6) + 0.25, picture(6)) == pytest.approx(0.25, abs=1e-6)


def test_grid_counts_what_repeats_in_flat_areas():
    torch.manual_seed(0)
    flat = torch.full((2, 3, 64, 64), 0.5)
    tile = 0.1 * torch.randn(2, 3, 8, 8)
    grid, marks = 0.5 + tile.repeat(1, 1, 8, 8), 0.5 + 0.1 * torch.randn(2, 3, 64, 64)
    found = grid_loss(grid, flat, 8)
    assert found.item() == pytest.approx(tile.std().item() * 64 / 65, rel=0.05)  # its root mean square; of 64 blocks
    assert grid_loss(marks, flat, 8) < 0.2 * found
    assert grid_loss(grid, torch.rand(2, 3, 64, 64), 8) < 0.02 * found
    assert grid_loss(flat, flat, 8).abs() < 1e-6
    shifted = torch.roll(grid, 3, 3)
    assert grid_loss(shifted, flat, 8).item() == pytest.approx(found.item(), rel=1e-2)
    assert grid_loss(0.5 + tile[..., :4].repeat(1, 1, 8, 16), flat, 5) < 0.35 * found  # of another period
    ramp = torch.linspace(0.2, 0.8, 64).expand(2, 3, 64, 64)  # a sky that grows lighter has no grid
    assert grid_loss(ramp, flat, 8) < 1e-5
    assert grid_loss(grid[..., :61], flat[..., :61], 8).isfinite() and grid_loss(grid[..., :5], flat[..., :5], 8) == 0


def test_calm_counts_marks_in_flat_areas_alone():
    generator = torch.Generator().manual_seed(0)
    content = torch.full((1, 3, 64, 64), 0.5)
    content[..., 32:] = torch.rand(1, 3, 64, 32, generator=generator)
    marks = 0.3 * torch.rand(1, 3, 64, 64, generator=generator)
    flat, busy = marks.clone(), marks.clone()
    flat[..., 20:] = 0
    busy[..., :44] = 0
    assert calm_loss(busy, content) < 0.05 * calm_loss(flat, content)
    assert calm_loss(torch.full_like(content, 0.2), content) == 0
    even = torch.full_like(content, 0.5)
    assert calm_loss(marks, even).item() == pytest.approx(total_variation(marks).item(), rel=1e-5)
    assert calm_loss(torch.rand(1, 3, 5, 4), torch.rand(1, 3, 5, 4)).isfinite()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (100.0, 0.1), (-300.0, 0.05)])
def test_normalised_content_is_multiplied_out_exactly(mean, deviation):
    """The square of the difference, and its gradient, however small the deviation is beside the mean."""
    generator = torch.Generator().manual_seed(0)
    features = (mean + deviation * torch.randn(2, 3, 9, 11, generator=generator)).requires_grad_()
    target = instance_normalised(torch.randn(2, 3, 9, 11, generator=generator))
    found = normalised_content_loss(features, target)
    exact = content_loss(instance_normalised(features.double()), target.double())
    assert found.item() == pytest.approx(exact.item(), rel=1e-3)
    one, two = (torch.autograd.grad(loss, features)[0] for loss in (found, exact))
    assert torch.allclose(one, two, rtol=1e-2, atol=1e-2 * float(two.abs().max()))

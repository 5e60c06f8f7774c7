import pytest
import torch

from impasto.losses.boundary import outside_loss, seam_loss


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 24, 20, generator=generator) for _ in range(2)]


@pytest.fixture
def half():
    mask = torch.zeros(2, 1, 24, 20)
    mask[:, :, :, :10] = 1
    return mask


def test_outside_is_the_mean_difference_where_the_mask_is_empty(pictures, half):
    painted, content = pictures
    expected = (painted - content).abs()[..., 10:].mean()
    assert outside_loss(painted, content, half) == pytest.approx(float(expected), rel=1e-5)
    assert outside_loss(painted, content, torch.ones_like(half)) == 0
    assert outside_loss(content, content, half) == 0


def test_outside_does_not_care_for_the_inside(pictures, half):
    painted, content = pictures
    other = torch.where(half > 0, 1 - painted, painted)
    assert outside_loss(other, content, half) == outside_loss(painted, content, half)


def test_a_seam_is_what_the_composite_adds_to_the_mixed_gradient(pictures, half):
    painted, content = pictures
    laid = half * painted + (1 - half) * content
    added = torch.zeros(())
    for axis in (2, 3):
        length = laid.shape[axis] - 1
        between = 0.5 * (half.narrow(axis, 0, length) + half.narrow(axis, 1, length))
        mixed = between * painted.diff(dim=axis) + (1 - between) * content.diff(dim=axis)
        added = added + (laid.diff(dim=axis) - mixed).abs().sum()
    edge = 24 * 2  # the mask's edge, in pixels, of both pictures
    assert float(seam_loss(painted, content, half)) == pytest.approx(float(added) / 3 / edge, rel=1e-4)


def test_there_is_no_seam_without_an_edge_or_a_difference(pictures, half):
    painted, content = pictures
    assert seam_loss(painted, content, torch.ones_like(half)) == 0
    assert seam_loss(painted, content, torch.zeros_like(half)) == 0
    assert seam_loss(content, content, half) == 0


def test_both_pull_the_painting_towards_the_photograph(pictures, half):
    painted, content = pictures
    painted = painted.clone().requires_grad_()
    (outside_loss(painted, content, half) + seam_loss(painted, content, half)).backward()
    assert torch.isfinite(painted.grad).all()
    assert (painted.grad[..., 12:].sign() == (painted.detach() - content)[..., 12:].sign()).all()
    assert (painted.grad[..., :9] == 0).all()

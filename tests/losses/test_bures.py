import numpy as np
import pytest
import torch
from scipy import linalg

from impasto.losses.bures import GaussianTarget, _RootTrace, gaussian_wasserstein, newton_schulz_root, psd_root


def covariance(seed, channels=5, rank=None):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(2, channels, rank or 3 * channels, generator=generator, dtype=torch.float64)
    return factor @ factor.transpose(1, 2) / factor.shape[2]


def mean(seed, channels=5):
    return torch.randn(2, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("root", [psd_root, newton_schulz_root])
def test_a_root_times_itself_is_the_matrix(root):
    matrix = covariance(0)
    found = root(matrix)
    assert torch.allclose(found @ found, matrix, atol=1e-9)
    for one, expected in zip(found, matrix, strict=True):
        np.testing.assert_allclose(one.numpy(), np.real(linalg.sqrtm(expected.numpy())), atol=1e-8)


def test_the_root_of_a_flat_direction_is_flat():
    matrix = covariance(1, rank=2)  # rank 2 of 5
    found = psd_root(matrix)
    assert torch.isfinite(found).all() and torch.allclose(found @ found, matrix, atol=1e-9)


def test_gradients_pass_through_the_iteration():
    matrix = covariance(2, channels=3)[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda one: newton_schulz_root((one + one.transpose(1, 2)) / 2), (matrix,))


def test_the_distance_equals_the_closed_form_by_scipy():
    means, others, first, second = mean(3), mean(4), covariance(5), covariance(6)
    found = gaussian_wasserstein(means, first, GaussianTarget(others, second))
    for index in range(2):
        a, b = first[index].numpy(), second[index].numpy()
        root = linalg.sqrtm(b)
        overlap = np.real(linalg.sqrtm(root @ a @ root))
        wanted = np.square((means - others)[index].numpy()).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(overlap)
        assert float(found[index]) == pytest.approx(wanted, rel=1e-6)


def test_in_one_dimension_it_is_the_difference_of_means_and_deviations():
    found = gaussian_wasserstein(
        torch.tensor([[3.0]]), torch.tensor([[[4.0]]]), GaussianTarget(torch.tensor([[1.0]]), torch.tensor([[[25.0]]]))
    )
    assert float(found) == pytest.approx((3 - 1) ** 2 + (2 - 5) ** 2, rel=1e-5)


def test_it_is_zero_at_the_target_and_symmetric():
    means, others, first, second = mean(7), mean(8), covariance(9), covariance(10)
    here, there = GaussianTarget(means, first), GaussianTarget(others, second)
    assert gaussian_wasserstein(means, first, here).abs().max() < 1e-5
    assert torch.allclose(gaussian_wasserstein(means, first, there), gaussian_wasserstein(others, second, here))


def test_the_gradient_is_that_of_finite_differences():
    target = GaussianTarget(mean(11), covariance(12))

    def distance(means, factor):
        return gaussian_wasserstein(means, factor @ factor.transpose(1, 2), target)

    factor = torch.linalg.cholesky(covariance(13)).requires_grad_()
    assert torch.autograd.gradcheck(distance, (mean(14).requires_grad_(), factor))


def test_equal_eigenvalues_do_no_harm():
    """Differentiating eigenvectors would divide by zero here."""
    matrix = torch.eye(4, dtype=torch.float64)[None].requires_grad_()
    trace = _RootTrace.apply(matrix, torch.zeros(1, dtype=torch.float64))
    trace.sum().backward()
    assert float(trace.detach()) == pytest.approx(4)
    assert torch.allclose(matrix.grad, 0.5 * torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_pictures_and_flat_styles_give_numbers(dtype):
    flat, busy = torch.zeros(2, 5, 5, dtype=dtype), covariance(15).to(dtype)
    for first, second in ((flat, busy), (busy, flat), (flat, flat)):
        given = first.clone().requires_grad_()
        distance = gaussian_wasserstein(mean(16).to(dtype), given, GaussianTarget(mean(16).to(dtype), second))
        distance.sum().backward()
        assert torch.isfinite(distance).all() and torch.isfinite(given.grad).all()


def test_descent_reaches_the_target():
    target = GaussianTarget(mean(17), covariance(18))
    samples = torch.randn(2, 5, 200, generator=torch.Generator().manual_seed(19), dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([samples], lr=0.05)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        centred = samples - samples.mean(2, keepdim=True)
        loss = gaussian_wasserstein(samples.mean(2), centred @ centred.transpose(1, 2) / 200, target).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 1e-12, 1e-6])
def test_the_slope_at_a_flat_picture_is_bounded(dtype, level):
    """A picture with no variance in some direction, and a style with much."""
    target = GaussianTarget(mean(20).to(dtype), covariance(21).to(dtype))
    given = torch.diag_embed(torch.full((2, 5), level, dtype=dtype)).requires_grad_()
    gaussian_wasserstein(mean(20).to(dtype), given, target).sum().backward()
    assert torch.isfinite(given.grad).all() and given.grad.abs().max() < 1e5
    assert (torch.diagonal(given.grad, dim1=1, dim2=2) < 0).all()  # more variance is wanted

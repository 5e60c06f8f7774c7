import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.losses.statistics import (
    feature_statistics,
    feature_sums,
    gatys_gram_loss,
    gram_loss,
    gram_matrix,
    moment_loss,
    statistics_of,
    style_distance,
)


def maps(seed, *, batch=2, channels=5, height=7, width=6, dtype=torch.float32):
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))
def test_gram_is_symmetric_and_positive_semidefinite(seed, channels, height, width):
    gram = gram_matrix(maps(seed, channels=channels, height=height, width=width, dtype=torch.float64))
    assert torch.allclose(gram, gram.transpose(1, 2))
    assert torch.linalg.eigvalsh(gram).min() > -1e-9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_gram_is_blind_to_the_order_of_pixels(seed):
    features = maps(seed, dtype=torch.float64)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(seed))
    shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
    assert torch.allclose(gram_matrix(features), gram_matrix(shuffled))


@pytest.mark.parametrize("scaled", [False, True])
def test_statistics_match_numpy_in_float64(scaled):
    features = maps(3) * 3 + 2
    scale = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.1]) if scaled else None
    found = feature_statistics(features, scale)
    for sample in range(2):
        flat = features[sample].flatten(1).numpy().astype(np.float64)
        if scale is not None:
            flat = flat / scale.numpy().astype(np.float64)[:, None]
        covariance = np.cov(flat, bias=True)
        np.testing.assert_allclose(found.mean[sample], flat.mean(1), rtol=1e-4)
        np.testing.assert_allclose(found.covariance[sample], covariance, rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(found.deviation[sample], np.sqrt(np.diag(covariance) + 1e-4), rtol=1e-3)


def test_autocast_does_not_lower_the_precision():
    features = maps(4, height=32, width=32) + 20
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = feature_statistics(features)
    exact = feature_statistics(features)
    assert low.covariance.dtype == torch.float32
    assert torch.equal(low.covariance, exact.covariance)
    half = feature_statistics(features.bfloat16())
    assert half.covariance.dtype == torch.float32


def test_style_distance_is_zero_at_the_target_and_positive_elsewhere():
    here, there = feature_statistics(maps(5)), feature_statistics(maps(6) * 2 + 1)
    assert torch.equal(style_distance(here, here), torch.zeros(2))
    assert (style_distance(there, here) > 0.1).all()
    assert (moment_loss(there, here) > 0).all() and (gram_loss(there, here) > 0).all()


def test_style_distance_and_its_gradient_are_finite_on_constant_pictures():
    flat = torch.full((2, 5, 8, 8), 0.3, requires_grad=True)
    wanted = feature_statistics(torch.zeros(2, 5, 8, 8))
    distance = style_distance(feature_statistics(flat), wanted).sum()
    distance.backward()
    assert torch.isfinite(distance) and torch.isfinite(flat.grad).all()


def test_gram_weight_zero_leaves_the_moments():
    here, there = feature_statistics(maps(5)), feature_statistics(maps(6) * 2 + 1)
    energy = here.deviation.square().mean(1) + 0.1
    assert torch.allclose(style_distance(there, here, gram_weight=0.0), moment_loss(there, here) / energy)


def test_the_papers_weighting_is_exact():
    """E = 1 / (4 N^2 M^2) sum (G - A)^2 with matrices that are not divided by anything (Gatys et al. 2016, eq. 4)."""
    features, style = maps(7, dtype=torch.float64), maps(8, dtype=torch.float64)
    found = gatys_gram_loss(gram_matrix(features), gram_matrix(style))
    for sample in range(2):
        mine, theirs = features[sample].flatten(1).numpy(), style[sample].flatten(1).numpy()
        channels, positions = mine.shape
        wanted = np.square(mine @ mine.T - theirs @ theirs.T).sum() / (4 * channels**2 * positions**2)
        assert float(found[sample]) == pytest.approx(wanted)


def test_the_gradient_of_guided_statistics_is_that_of_finite_differences():
    wanted = feature_statistics(maps(9, batch=1, dtype=torch.float64))
    weight = torch.rand(1, 1, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def distance(features):
        return style_distance(feature_statistics(features, weight=weight), wanted)

    assert torch.autograd.gradcheck(distance, (maps(10, batch=1, dtype=torch.float64).requires_grad_(),))


def test_bfloat16_products_lose_little_even_far_from_zero():
    """Means of ten times the deviations: products of the features themselves would lose all of the covariance."""
    torch.manual_seed(0)
    mixed = torch.einsum("dc,bchw->bdhw", torch.randn(6, 6), torch.randn(2, 6, 20, 24))
    features = (mixed + 10 * mixed.std() * torch.arange(6)[:, None, None] / 3).bfloat16()
    for layout in (torch.contiguous_format, torch.channels_last):
        found, exact = feature_sums(features.contiguous(memory_format=layout)), feature_sums(features.double())
        one, two = statistics_of(found), statistics_of(exact)
        assert found.second.dtype == torch.float32
        assert torch.allclose(one.mean.double(), two.mean, rtol=1e-3, atol=1e-2)
        assert torch.allclose(one.covariance.double(), two.covariance, atol=0.02 * float(two.covariance.abs().max()))


def test_bfloat16_statistics_have_the_gradient_of_float32():
    torch.manual_seed(1)
    plain = (torch.randn(1, 4, 12, 12) + 10).bfloat16().float().requires_grad_()
    rounded = plain.detach().bfloat16().requires_grad_()
    for features in (plain, rounded):
        statistics = feature_statistics(features)
        (statistics.mean.sum() + statistics.covariance.square().sum()).backward()
    assert torch.allclose(plain.grad, rounded.grad.float(), atol=0.03 * float(plain.grad.abs().max()))

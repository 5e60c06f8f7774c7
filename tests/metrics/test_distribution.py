"""Fréchet and kernel distance against their textbook forms and torchmetrics."""

import numpy as np
import pytest
from scipy import linalg

from impasto.errors import UsageError
from impasto.metrics.distribution import art_score, frechet_distance, kernel_distance


def sets(count=40, other=55, length=12, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(length, length))
    return generator.normal(size=(count, length)), generator.normal(0.3, 1.2, (other, length)) @ mixing


def textbook(first, second):
    """Heusel et al. 2017, eq. 6, with a matrix square root."""
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = first.mean(0) - second.mean(0)
    return gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)


@pytest.mark.parametrize(("count", "other", "length"), [(40, 55, 12), (300, 200, 30), (13, 13, 12)])
def test_frechet_distance_is_the_textbooks(count, other, length):
    first, second = sets(count, other, length)
    assert frechet_distance(first, second) == pytest.approx(textbook(first, second), rel=1e-6)


def test_frechet_distance_is_that_of_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    import torch

    first, second = sets(64, 80, 16)
    facts = [torch.from_numpy(part) for one in (first, second) for part in (one.mean(0), np.cov(one, rowvar=False))]
    assert frechet_distance(first, second) == pytest.approx(float(fid._compute_fid(*facts)), rel=1e-6)


def test_frechet_distance_of_few_long_vectors_is_exact():
    """Fewer pictures than features: the covariances have no full rank, where a matrix square root goes wrong."""
    first, second = sets(6, 9, 400)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()  # tr (S1 S2)^1/2
    gap = first.mean(0) - second.mean(0)
    expected = gap @ gap + np.trace(one) + np.trace(other) - 2 * cross
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)


def test_known_values():
    line = np.array([[-1.0], [1.0]])  # mean 0, variance 2
    assert frechet_distance(line, line + 3) == pytest.approx(9.0)
    assert frechet_distance(line, 2 * line) == pytest.approx(2.0)  # (sqrt 2 - sqrt 8)^2
    assert art_score(0.5, 3.0) == 6.0
    assert art_score(0.0, 0.0) == 1.0
    # StyleID, Chung et al. 2024, table 1: FID 18.131, LPIPS 0.5055, ArtFID 28.801
    assert art_score(0.5055, 18.131) == pytest.approx(28.801, abs=2e-3)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_symmetric_and_without_memory_of_order(measure):
    first, second = sets()
    assert measure(first, second) == pytest.approx(measure(second, first), rel=1e-9)
    assert measure(first[::-1], second) == pytest.approx(measure(first, second), rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_is_that_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    import torch

    first, second = sets(50, 50, 20)
    expected = kid.poly_mmd(torch.from_numpy(first), torch.from_numpy(second), 3, None, 1.0)
    assert kernel_distance(first, second) == pytest.approx(float(expected), rel=1e-9)


def test_kernel_distance_has_no_bias_where_frechet_distance_has():
    generator = np.random.default_rng(1)
    draws = [generator.normal(size=(2, 8, 10)) for _ in range(300)]
    kernel = [kernel_distance(one, other) for one, other in draws]
    assert abs(np.mean(kernel)) < 3 * np.std(kernel) / np.sqrt(len(kernel))
    assert np.mean([frechet_distance(one, other) for one, other in draws]) > 1


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("shapes", [((1, 4), (5, 4)), ((5, 4), (5, 3)), ((5,), (5,))])
def test_what_cannot_be_compared_is_refused(measure, shapes):
    with pytest.raises(UsageError, match="two sets of at least 2 vectors"):
        measure(np.ones(shapes[0]), np.ones(shapes[1]))

"""Guided losses: a region is compared as if it were a picture of its own, and an empty one costs nothing."""

import pytest
import torch

from impasto.losses.bures import GaussianTarget, gaussian_wasserstein
from impasto.losses.content import content_loss
from impasto.losses.guidance import area_weight, flat_weight, weighted_mean
from impasto.losses.histogram import histogram_loss
from impasto.losses.matching import matching_loss
from impasto.losses.patches import mrf_loss
from impasto.losses.statistics import feature_statistics, feature_sums, gram_matrix, moment_loss, statistics_of
from impasto.losses.wasserstein import random_directions, sliced_wasserstein

CHANNELS = 4
DIRECTIONS = random_directions(6, CHANNELS, torch.Generator().manual_seed(5)).double()


def maps(seed, height=8, width=10):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, CHANNELS, height, width, generator=generator, dtype=torch.float64)


def left_half(height=8, width=10):
    weight = torch.zeros(1, 1, height, width, dtype=torch.float64)
    weight[..., : width // 2] = 1
    return weight


def wasserstein_2(features, target, weight):
    found, wanted = feature_statistics(features, weight=weight), feature_statistics(target)
    return gaussian_wasserstein(found.mean, found.covariance, GaussianTarget(wanted.mean, wanted.covariance))


def moments(features, target, weight):
    return moment_loss(feature_statistics(features, weight=weight), feature_statistics(target))


# each of them (features, target, weight) -> loss, with features and target of the same size
LOSSES = {
    "content": content_loss,
    "gram": lambda features, target, weight: (gram_matrix(features, weight) - gram_matrix(target)).square().sum(),
    "moments": moments,
    "wasserstein": wasserstein_2,
    "sliced": lambda features, target, weight: sliced_wasserstein(features, target, DIRECTIONS, weight),
    "matching": matching_loss,
    "patches": mrf_loss,
    "histogram": histogram_loss,
}
POINTWISE = ("content", "matching")  # compare a place with the same place


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def test_a_map_of_ones_changes_nothing(loss):
    features, target = maps(0), maps(1)
    assert torch.allclose(loss(features, target, torch.ones(1, 1, 8, 10)).sum(), loss(features, target, None).sum())


def test_a_map_counts_by_its_shape_and_not_by_its_size(loss):
    features, target, weight = maps(0), maps(1), left_half()
    assert torch.allclose(loss(features, target, weight), loss(features, target, weight * 0.125))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "patches"])
def test_a_region_is_a_picture_of_its_own(name):
    features, target = maps(0), maps(1)
    if name == "sliced":
        target = target[..., :5]  # as many values as the region has: nothing is interpolated
    alone = LOSSES[name](features[..., :5], target[..., :5] if name in POINTWISE else target, None)
    assert torch.allclose(LOSSES[name](features, target, left_half()).sum(), alone.sum())


def test_patches_in_a_region_are_those_with_their_middle_in_it():
    features, target = maps(0), maps(1)
    middle = torch.zeros(1, 1, 8, 10)
    middle[..., 3, 4] = 1
    alone = mrf_loss(features[:, :, 2:5, 3:6], target)
    assert torch.allclose(mrf_loss(features, target, middle), alone)


def test_an_empty_map_costs_nothing_and_pulls_nowhere(loss):
    features = maps(0).requires_grad_()
    if loss in (LOSSES["gram"], LOSSES["moments"], LOSSES["wasserstein"]):
        sums = feature_sums(features, torch.zeros(1, 1, 8, 10))
        found = statistics_of(sums)
        assert not found.mean.any() and not found.covariance.any()  # whoever has no region skips it
        value = found.covariance.sum() + found.mean.sum()
    else:
        value = loss(features, maps(1), torch.zeros(1, 1, 8, 10)).sum()
    value.backward()
    assert value == 0
    assert not features.grad.any()


def test_what_lies_outside_of_the_map_gets_no_gradient(loss):
    features = maps(0).requires_grad_()
    loss(features, maps(1), left_half()).sum().backward()
    reach = 6 if loss is LOSSES["patches"] else 5  # a patch in the middle reaches one place further
    assert not features.grad[..., reach:].any()
    assert features.grad[..., :5].any()


def test_a_fine_map_is_reduced_by_areas():
    fine = torch.zeros(1, 1, 8, 8)
    fine[..., :3] = 1
    assert torch.equal(area_weight(fine, (2, 2))[0, 0], torch.tensor([[0.75, 0.0], [0.75, 0.0]]))
    shares = flat_weight(fine, torch.zeros(2, CHANNELS, 4, 4))
    assert shares.shape == (2, 16) and torch.allclose(shares.sum(1), torch.ones(2))


def test_a_weighted_mean_is_one_of_channels_and_places():
    values = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert weighted_mean(values, None) == 3.5
    assert weighted_mean(values, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])) == 2  # (0 + 4) / 2


def test_sums_of_parts_are_sums_of_the_whole():
    features, weight = maps(2), left_half() + 0.25
    whole = feature_sums(features, weight)
    parts = feature_sums(features[:, :, :3], weight[:, :, :3]) + feature_sums(features[:, :, 3:], weight[:, :, 3:])
    for name in ("mass", "first", "second"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name))


def test_the_memory_format_changes_nothing():
    features, weight = maps(3), left_half()
    last = features.contiguous(memory_format=torch.channels_last)
    for name in ("mass", "first", "second"):
        assert torch.allclose(getattr(feature_sums(features, weight), name), getattr(feature_sums(last, weight), name))

import numpy as np
import pytest
import torch

from impasto.losses.histogram import histogram_loss, match_histogram


def maps(seed, height=6, width=7, channels=3):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_matched_values_are_the_targets_in_the_features_order():
    features, target = maps(0), maps(1) * 4 - 2
    matched = match_histogram(features, target)
    for mine, theirs, found in zip(features[0], target[0], matched[0], strict=True):
        np.testing.assert_allclose(np.sort(found.numpy().ravel()), np.sort(theirs.numpy().ravel()))
        np.testing.assert_array_equal(np.argsort(found.numpy().ravel()), np.argsort(mine.numpy().ravel()))


def test_it_leaves_alone_what_has_the_histogram_already():
    features = maps(2)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
    assert torch.allclose(match_histogram(features, shuffled), features)
    assert histogram_loss(features, shuffled) < 1e-20


def test_a_target_of_another_size_gives_its_quantiles():
    matched = match_histogram(torch.linspace(5, 9, 100).reshape(1, 1, 10, 10), torch.tensor([[[[0.0, 1.0]]]]))
    assert matched.min() == 0 and matched.max() == 1
    assert float(matched.mean()) == pytest.approx(0.5, abs=1e-6)


def test_the_loss_is_the_way_to_the_matched_features():
    features, target = maps(3), maps(4)
    wanted = float((features - match_histogram(features, target)).square().mean())
    assert float(histogram_loss(features, target)) == pytest.approx(wanted)
    given = features.clone().requires_grad_()
    histogram_loss(given, target).sum().backward()
    expected = 2 * (features - match_histogram(features, target)) / features.numel()
    assert torch.allclose(given.grad, expected)  # none through the matching


def test_flat_features_and_flat_targets_give_numbers():
    flat = torch.full((1, 2, 4, 4), 0.5).requires_grad_()
    for target in (torch.full((1, 2, 3, 3), 2.0), torch.rand(1, 2, 1, 1)):
        loss = histogram_loss(flat, target)
        loss.sum().backward()
        assert torch.isfinite(loss).all() and torch.isfinite(flat.grad).all()

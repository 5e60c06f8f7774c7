import numpy as np
import pytest
import torch

from impasto.losses.matching import (
    AXES,
    FeatureBank,
    chosen_distance,
    cosine_distance,
    matching_loss,
    nearest,
)
from impasto.losses.patches import extract_patches, mrf_loss, nearest_patches


def rows(seed, count, channels=6):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed, height=6, width=7, channels=3):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- features --------------------------------------------------------------------------------------------------------


def test_the_nearest_is_the_one_of_the_largest_centred_cosine():
    features, bank = rows(0, 40), rows(1, 30) * 3 + 1
    mine, theirs = (part.numpy() - part.numpy().mean(0) for part in (features, bank))
    cosine = (mine @ theirs.T) / np.linalg.norm(mine, axis=1)[:, None] / np.linalg.norm(theirs, axis=1)[None]
    found = nearest(features, features.mean(0), FeatureBank(bank))
    np.testing.assert_array_equal(found.numpy(), cosine.argmax(1))


def test_a_shift_and_a_gain_of_everything_change_no_choice():
    features, bank = rows(2, 50), FeatureBank(rows(3, 20))
    moved = features * 0.2 + 7
    assert torch.equal(nearest(features, features.mean(0), bank), nearest(moved, moved.mean(0), bank))


def test_pieces_of_the_search_give_what_the_whole_gives(monkeypatch):
    features, bank = rows(4, 101), FeatureBank(rows(5, 9))
    whole = nearest(features, features.mean(0), bank)
    monkeypatch.setattr("impasto.losses.matching.AT_ONCE", 9 * 7)
    assert torch.equal(nearest(features, features.mean(0), bank), whole)


def test_the_matching_loss_is_a_mean_cosine_distance():
    features, wanted = maps(6), maps(7)
    flat, aim = features[0].flatten(1).numpy(), wanted[0].flatten(1).numpy()
    cosine = (flat * aim).sum(0) / np.linalg.norm(flat, axis=0) / np.linalg.norm(aim, axis=0)
    assert float(matching_loss(features, wanted)) == pytest.approx(np.mean(1 - cosine))
    assert float(matching_loss(wanted * 5, wanted)) == pytest.approx(0, abs=1e-12)  # blind to length


def test_its_gradient_is_that_of_finite_differences_and_finite_at_zero():
    wanted, weight = maps(8), torch.rand(1, 1, 6, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda one: matching_loss(one, wanted, weight), (maps(9).requires_grad_(),))
    nothing = torch.zeros(1, 3, 6, 7).requires_grad_()
    matching_loss(nothing, torch.zeros(1, 3, 6, 7)).sum().backward()
    assert torch.isfinite(nothing.grad).all()


def test_the_distance_of_rows_is_that_of_maps():
    features, wanted = maps(20), maps(21)
    units = torch.nn.functional.normalize(wanted[0].flatten(1).T, dim=1)
    found = cosine_distance(features[0].flatten(1).T, units)
    assert torch.allclose(found.mean(), matching_loss(features, wanted))
    nothing = torch.zeros(1, 3, requires_grad=True)
    cosine_distance(nothing, units[:1]).sum().backward()
    assert torch.isfinite(nothing.grad).all()


def test_half_precision_chooses_nearly_as_well():
    features, bank = rows(22, 200, 32), FeatureBank(rows(23, 100, 32))
    exact, rough = (
        nearest(features.float(), features.float().mean(0), bank_of(bank), half=half) for half in (False, True)
    )
    cosine = torch.nn.functional.normalize(features - features.mean(0), dim=1) @ bank.directions.T
    lost = cosine.gather(1, exact[:, None]) - cosine.gather(1, rough[:, None])
    assert lost.max() < 0.02 and (exact == rough).float().mean() > 0.9


def bank_of(bank):
    return FeatureBank(bank.features.float())


def test_a_style_of_one_feature_is_always_chosen():
    assert not nearest(rows(10, 8), rows(10, 8).mean(0), FeatureBank(rows(11, 1))).any()


# -- patches ---------------------------------------------------------------------------------------------------------


def patches_by_hand(features, size=3):
    _, _, height, width = features.shape
    return np.stack(
        [
            features[0, :, top : top + size, left : left + size].numpy().ravel()
            for top in range(height - size + 1)
            for left in range(width - size + 1)
        ]
    )


def test_patches_are_all_of_them_in_order():
    features = maps(12)
    np.testing.assert_array_equal(extract_patches(features)[0].numpy(), patches_by_hand(features))
    assert extract_patches(features, 2, stride=2).shape == (1, 9, 12)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2)])
def test_a_map_smaller_than_a_patch_is_one_patch_wide(size):
    small = maps(13, *size)
    assert extract_patches(small).shape == (1, max(1, size[0] - 2) * max(1, size[1] - 2), 27)
    assert torch.isfinite(mrf_loss(small, maps(14))).all() and torch.isfinite(mrf_loss(maps(14), small)).all()


def test_the_mrf_loss_follows_the_papers_equations():
    features, target = maps(15), maps(16, 8, 5)
    mine, theirs = patches_by_hand(features), patches_by_hand(target)
    correlation = (mine @ theirs.T) / np.linalg.norm(mine, axis=1)[:, None] / np.linalg.norm(theirs, axis=1)[None]
    best = correlation.argmax(1)  # eq. 3
    np.testing.assert_array_equal(nearest_patches(torch.from_numpy(mine), torch.from_numpy(theirs)).numpy(), best)
    assert float(mrf_loss(features, target)) == pytest.approx(np.mean((mine - theirs[best]) ** 2))  # eq. 2


def test_a_picture_made_of_the_styles_patches_costs_nothing():
    target = maps(17, 9, 9)
    assert mrf_loss(target[:, :, 2:7, 1:8], target) == 0


def test_the_gradient_of_patches_is_that_of_finite_differences():
    target, weight = maps(18), torch.rand(1, 1, 6, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda one: mrf_loss(one, target, weight), (maps(19).requires_grad_(),))


# -- hypercolumns that are not stacked ---------------------------------------------------------------------------------


def stacked_distance(maps, inside, units, chosen, loudness, weight):
    rows, columns = inside
    parts = [one[0, :, rows, columns].flatten(1).T / loud for one, loud in zip(maps, loudness, strict=True)]
    return (weight * cosine_distance(torch.cat(parts, 1), units[chosen])).sum()


@pytest.fixture(params=["contiguous", "channels_last"])
def columns(request):
    generator = torch.Generator().manual_seed(30)
    kind = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[request.param]
    found = [
        torch.randn(1, count, 30, 24, generator=generator, dtype=torch.float64).to(memory_format=kind).requires_grad_()
        for count in (3, 5, 2)
    ]
    inside = (slice(2, 27), slice(1, 21))
    units = torch.nn.functional.normalize(rows(31, 12, 10), dim=1)
    chosen = torch.randint(12, (25 * 20,), generator=generator)
    return found, inside, units, chosen, [0.5, 2.0, 1.5], torch.rand(25 * 20, generator=generator, dtype=torch.float64)


def test_the_distance_of_maps_is_that_of_stacked_rows_with_its_gradient(columns):
    found, inside, units, chosen, loudness, weight = columns
    mine = chosen_distance(found, inside, units, chosen, loudness=loudness, weight=weight)
    gradients = torch.autograd.grad(2 * mine, found)
    reference = stacked_distance(*columns)
    assert mine.item() == pytest.approx(reference.item(), rel=1e-12)
    for got, wanted in zip(gradients, torch.autograd.grad(2 * reference, found), strict=True):
        torch.testing.assert_close(got, wanted)
        assert float(got[:, :, :2].abs().max()) == float(got[:, :, :, 21:].abs().max()) == 0  # outside


def test_features_of_zero_length_are_far_from_everything_and_pull_nowhere_infinite():
    nothing = torch.zeros(1, 4, 3, 3, requires_grad=True)
    inside, chosen = (slice(0, 3), slice(0, 3)), torch.zeros(9, dtype=torch.long)
    units = torch.nn.functional.normalize(torch.ones(1, 4), dim=1)
    found = chosen_distance([nothing], inside, units, chosen, loudness=[1.0], weight=torch.ones(9))
    assert found.item() == 9
    (gradient,) = torch.autograd.grad(found, nothing)
    assert torch.isfinite(gradient).all()


def test_long_features_are_compared_along_their_main_axes_and_lose_little():
    generator = torch.Generator().manual_seed(40)
    mixing = torch.randn(400, 400, generator=generator) * torch.arange(1, 401)[:, None] ** -0.7  # as features fall off
    bank, features = (torch.randn(count, 400, generator=generator) @ mixing for count in (500, 300))
    known = FeatureBank(bank)
    assert known.directions.shape == (500, AXES)
    found = nearest(features, features.mean(0), known)
    cosine = torch.nn.functional.cosine_similarity(
        (features - features.mean(0))[:, None], (bank - bank.mean(0))[None], dim=2
    )
    best, taken = cosine.max(1).values.mean(), cosine.gather(1, found[:, None]).mean()
    assert float(taken) > 0.95 * float(best)
    assert float((found == cosine.argmax(1)).float().mean()) > 0.5

import json

import pytest
import torch

from impasto.errors import UsageError, WeightsError
from impasto.nets.adain import AdaInConfig, AdaInDecoder, adain, build_decoder, channel_moments, transfer_field


@pytest.fixture
def features():
    torch.manual_seed(0)
    scale = torch.rand(1, 5, 1, 1) * 3 + 0.2
    return torch.randn(1, 5, 9, 7) * scale + torch.randn(1, 5, 1, 1)


@pytest.fixture
def styles():
    torch.manual_seed(1)
    return torch.stack([torch.randn(3, 5), torch.rand(3, 5) + 0.3], dim=1)  # [K, 2, C]


def test_the_result_has_the_moments_of_the_style(features, styles):
    painted = adain(features, styles[:1])
    torch.testing.assert_close(channel_moments(painted), styles[:1], rtol=1e-3, atol=1e-3)


def test_own_moments_change_nothing(features):
    torch.testing.assert_close(adain(features, channel_moments(features)), features, rtol=1e-4, atol=1e-5)


def test_a_part_is_normalised_by_the_whole(features, styles):
    whole = adain(features, styles[:1])
    part = adain(features[:, :, 2:5, 1:4], styles[:1], channel_moments(features))
    torch.testing.assert_close(part, whole[:, :, 2:5, 1:4])


def test_a_field_is_the_weighted_sum_of_its_styles(features, styles):
    torch.manual_seed(2)
    weights = torch.rand(3, 9, 7)
    weights /= 1.25 * weights.sum(0)
    expected = (1 - weights.sum(0)) * features
    for code, weight in zip(styles, weights, strict=True):
        expected = expected + weight * adain(features, code[None])
    torch.testing.assert_close(transfer_field(features, styles, weights), expected, rtol=1e-4, atol=1e-4)


def test_an_empty_field_leaves_the_features(features, styles):
    assert torch.equal(transfer_field(features, styles, torch.zeros(3, 1, 1)), features)


def test_a_constant_picture_gives_no_nan(styles):
    flat = torch.full((1, 5, 4, 4), 0.7)
    assert torch.isfinite(adain(flat, styles[:1])).all()


def test_the_decoder_gives_eight_times_the_size():
    decoder = AdaInDecoder(AdaInConfig((6, 5), (8, 6, 4, 4)))
    assert decoder(torch.rand(2, 6, 3, 5), torch.rand(2, 5, 6, 10)).shape == (2, 3, 24, 40)
    assert 2 * sum(parameter.numel() for parameter in AdaInDecoder().parameters()) < 4_000_000  # bytes as float16


def test_sizes_are_checked():
    with pytest.raises(UsageError, match="four widths"):
        AdaInConfig((8, 8), (4, 4))


def test_a_file_gives_its_decoder_or_says_that_it_holds_none():
    decoder = AdaInDecoder(AdaInConfig((6, 5), (8, 6, 4, 4)))
    texts = {"config": json.dumps({"channels": [6, 5], "widths": [8, 6, 4, 4]})}
    found = build_decoder({name: value.half() for name, value in decoder.state_dict().items()}, texts)
    assert found.config == decoder.config and not found.paint.weight.requires_grad
    torch.testing.assert_close(found.paint.weight, decoder.paint.weight, rtol=1e-3, atol=1e-3)
    for wrong in ({}, {"config": "{}"}, {"config": json.dumps({"channels": [6, 5], "widths": [8, 6, 4, 5]})}):
        with pytest.raises(WeightsError, match="no decoder of adain"):
            build_decoder(decoder.state_dict(), wrong)

"""The attention of local: equations of AdaAttN on small tables, fields, statistics of regions."""

import pytest
import torch

from impasto.errors import UsageError
from impasto.nets.local import (
    DEEP,
    LAYERS,
    MIDDLE,
    LocalConfig,
    LocalNet,
    StyleTokens,
    attended,
    attention,
    content_statistics,
    fused,
    guided_moments,
    matching_features,
    normalised,
    places,
    plain_tokens,
)

TINY = LocalConfig((4, 6, 8), 8, (8, 8, 6, 4))


def maps(height=6, width=5, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(batch, channels, factor * height, factor * width, generator=generator)
        for name, channels, factor in zip(LAYERS, TINY.channels, (4, 2, 1), strict=True)
    }


@pytest.fixture
def net():
    torch.manual_seed(0)
    return LocalNet(TINY).eval().requires_grad_(False)


def test_attention_is_a_softmax_over_the_styles_places():
    queries, keys = torch.randn(2, 7, 5), torch.randn(2, 9, 5)
    found = attention(queries, keys)
    assert found.shape == (2, 7, 9)
    assert torch.allclose(found.sum(2), torch.ones(2, 7))
    logits = torch.tensor([float(queries[1, 3] @ keys[1, j]) / 5**0.5 for j in range(9)])
    assert torch.allclose(found[1, 3], torch.softmax(logits, 0), atol=1e-6)


def test_means_and_deviations_are_those_of_the_weighted_places():
    tokens = StyleTokens(torch.randn(1, 9, 5), torch.randn(1, 9, 3), torch.randn(1, 9, 2), torch.rand(1, 9, 2) + 9)
    queries = torch.randn(1, 4, 5)
    shares = attention(queries, tokens.keys)[0]
    mean, deviation, middle, spread = (part[0] for part in attended(queries, tokens))
    for place in range(4):
        expected = (shares[place, :, None] * tokens.deep[0]).sum(0)
        power = (shares[place, :, None] * (tokens.deep[0] - expected).square()).sum(0)
        assert torch.allclose(mean[place], expected, atol=1e-5)
        assert torch.allclose(deviation[place], (power + 1e-5).sqrt(), atol=1e-4)
        assert torch.allclose(middle[place], (shares[place, :, None] * tokens.middle[0]).sum(0), atol=1e-5)
    second = (shares[:, :, None] * tokens.middle_square[0][None]).sum(1)
    assert torch.allclose(spread, (second - middle.square() + 1e-5).sqrt(), atol=1e-4)


def test_the_memory_of_long_lists_is_bounded_and_changes_nothing(monkeypatch):
    tokens = StyleTokens(torch.randn(1, 9, 5), torch.randn(1, 9, 3), torch.randn(1, 9, 2), torch.rand(1, 9, 2) + 9)
    queries = torch.randn(1, 50, 5)
    with torch.no_grad():
        whole = attended(queries, tokens)
        monkeypatch.setattr("impasto.nets.local.CHUNK", 7)
        parts = attended(queries, tokens)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))


def test_order_of_the_styles_places_does_not_matter():
    tokens = plain_tokens(maps(seed=1))
    order = torch.randperm(tokens.keys.shape[1])
    mixed = StyleTokens(*(part[:, order] for part in vars(tokens).values()))
    queries = torch.randn(1, 5, tokens.keys.shape[2])
    for one, other in zip(attended(queries, tokens), attended(queries, mixed), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_style_of_one_colour_gives_that_colour():
    flat = {name: torch.full_like(value, 0.5) for name, value in maps().items()}
    content = maps(seed=2)
    statistics = content_statistics(content)
    queries = places(normalised(matching_features(content), statistics.matching))
    deep, middle = fused(content, queries, plain_tokens(flat), statistics)
    assert (deep - 0.5).abs().max() < 0.05 and (middle - 0.5).abs().max() < 0.05


def test_its_own_style_comes_back_when_attention_is_sharp():
    content = maps(seed=3)
    statistics = content_statistics(content)
    sharp = 200 * places(normalised(matching_features(content), statistics.matching))
    deep, _ = fused(content, sharp, plain_tokens(content), statistics)
    assert (deep - content[DEEP]).abs().max() < 0.05  # each place finds itself, the deviation there is nearly 0


def test_statistics_of_a_region_are_those_of_its_places():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 12, 10, generator=generator)
    features[:, :, :, :5] = 3 + 2 * features[:, :, :, :5]
    mask = torch.zeros(1, 1, 24, 20)
    mask[:, :, :, :10] = 1
    found = guided_moments(features, mask)
    inside = features[:, :, :, :5].flatten(2)
    assert torch.allclose(found[:, 0], inside.mean(2), atol=0.05)
    assert torch.allclose(found[:, 1], inside.std(2), atol=0.1)
    whole = guided_moments(features)
    assert torch.allclose(guided_moments(features, torch.ones(1, 1, 24, 20)), whole, atol=1e-4)
    assert torch.allclose(guided_moments(features, torch.zeros(1, 1, 24, 20)), whole, atol=1e-4)  # never NaN


def test_no_weight_leaves_the_features_alone(net):
    content, style = maps(), net.tokens(maps(seed=1))
    for weight in (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 48, 40)):
        deep, middle = net.blended(content, [style], [weight], [content_statistics(content)])
        assert torch.equal(deep, content[DEEP]) and torch.equal(middle, content[MIDDLE])


def test_weights_are_shares(net):
    content, statistics = maps(), content_statistics(maps())
    styles = [net.tokens(maps(seed=1)), net.tokens(maps(7, 4, seed=2))]

    def blend(*weights):
        known = [statistics] * len(weights)
        return net.blended(content, styles, [torch.full((1, 1, 1, 1), w) for w in weights], known)[0]

    first, second, own = blend(1.0, 0.0), blend(0.0, 1.0), content[DEEP]
    assert torch.allclose(blend(0.3, 0.5), 0.3 * first + 0.5 * second + 0.2 * own, atol=1e-5)


def test_a_map_acts_where_it_is(net):
    content, styles = maps(), [net.tokens(maps(seed=1)), net.tokens(maps(seed=2))]
    left = torch.zeros(1, 1, 48, 40)
    left[:, :, :, :24] = 1
    known = [content_statistics(content)] * 2
    both, _ = net.blended(content, styles, [left, 1 - left], known)
    alone = [net.blended(content, [style], [torch.ones(1, 1, 1, 1)], known[:1])[0] for style in styles]
    assert torch.allclose(both[..., :3], alone[0][..., :3], atol=1e-6)
    assert torch.allclose(both[..., 3:], alone[1][..., 3:], atol=1e-6)


def test_likeness_is_what_it_looks_at_before_any_training(net):
    content = maps(seed=5)
    statistics = content_statistics(content)
    looked = attention(net.queries(content, statistics), net.tokens(content).keys)[0]
    assert looked.diagonal().mean() > 5 / looked.shape[1]  # itself far above chance


@pytest.mark.parametrize("separable", [False, True])
def test_it_paints_pictures_of_the_contents_size_and_learns(separable):
    torch.manual_seed(0)
    net = LocalNet(LocalConfig((4, 6, 8), 8, (8, 8, 6, 4), separable))
    content, style = maps(batch=2), maps(7, 9, batch=2, seed=1)
    weight = torch.rand(2, 1, 48, 40)
    painted = net(content, style, weight)
    assert painted.shape == (2, 3, 48, 40)
    painted.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    "sizes", [{"channels": (4, 6)}, {"widths": (8, 8, 8)}, {"keys": 0}, {"keys": 600}, {"widths": (8, 0, 8, 8)}]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UsageError):
        LocalConfig(**sizes)

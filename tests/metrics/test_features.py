"""Distances over features: values by hand, identity, symmetry, scale, constant pictures."""

import numpy as np
import pytest
import torch

from impasto.errors import UsageError
from impasto.metrics.features import (
    cfsd,
    content_distance,
    gram_distance,
    look,
    moment_distance,
    network_identity,
    perceptual_distance,
    structure_distance,
    summarise_style,
)

LAYERS = ("conv1", "fire3", "fire6")


@pytest.fixture(scope="module")
def seen(network, natural):
    """Features of an astronaut, of coffee, and of the astronaut with grain."""
    astronaut, coffee = natural("astronaut.png", (80, 96)), natural("coffee.png", (80, 96))
    grain = np.random.default_rng(0).normal(0, 0.05, astronaut.shape).astype(np.float32)
    return {
        "astronaut": look(network, astronaut, LAYERS),
        "coffee": look(network, coffee, LAYERS),
        "grainy": look(network, np.clip(astronaut + grain, 0, 1), LAYERS),
        "constant": look(network, np.full_like(astronaut, 0.5), LAYERS),
        "black": look(network, np.zeros_like(astronaut), LAYERS),
    }


def style(measure):
    return lambda first, second: measure(summarise_style(first), summarise_style(second))


def at(measure, layer="fire3"):
    return lambda first, second: measure(first[layer], second[layer])


DISTANCES = {
    "gram": style(gram_distance),
    "moments": style(moment_distance),
    "content": content_distance,
    "perceptual": perceptual_distance,
    "structure": at(structure_distance),
    "cfsd": at(cfsd),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_zero_for_equal_pictures_and_growing_with_change(name, seen):
    distance = DISTANCES[name]
    for same in seen.values():
        assert distance(same, same) == pytest.approx(0, abs=1e-6)
    little, much = distance(seen["grainy"], seen["astronaut"]), distance(seen["coffee"], seen["astronaut"])
    assert 0 < little < much


@pytest.mark.parametrize("name", ["gram", "moments", "content", "perceptual"])
def test_symmetric_and_in_range(name, seen):
    distance, largest = DISTANCES[name], 2 if name == "perceptual" else 1
    for first in seen.values():
        for second in seen.values():
            assert distance(first, second) == pytest.approx(distance(second, first), abs=1e-6)
            assert 0 <= distance(first, second) <= largest


@pytest.mark.parametrize("name", ["gram", "moments", "content", "perceptual", "structure"])
def test_the_scale_of_the_features_does_not_matter(name, seen):
    larger = {key: {layer: 7 * maps for layer, maps in features.items()} for key, features in seen.items()}
    expected = DISTANCES[name](seen["coffee"], seen["astronaut"])
    assert DISTANCES[name](larger["coffee"], larger["astronaut"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", DISTANCES)
def test_constant_and_silent_features_have_finite_distances(name, seen):
    silent = {layer: torch.zeros_like(maps) for layer, maps in seen["coffee"].items()}
    for first in (seen["constant"], silent):
        for second in (seen["coffee"], seen["constant"], seen["black"], silent):
            assert np.isfinite(DISTANCES[name](first, second)) and np.isfinite(DISTANCES[name](second, first))
    assert DISTANCES[name](silent, silent) == 0


@pytest.mark.parametrize("name", ["gram", "moments"])
def test_style_is_blind_to_places_and_to_size(name, seen):
    order = torch.randperm(seen["coffee"]["fire3"][0, 0].numel(), generator=torch.Generator().manual_seed(0))
    maps = {"fire3": seen["coffee"]["fire3"]}
    shuffled = {"fire3": maps["fire3"].flatten(2)[:, :, order].reshape(maps["fire3"].shape)}
    doubled = {"fire3": torch.cat([maps["fire3"], maps["fire3"]], dim=3)}
    assert DISTANCES[name](maps, shuffled) == pytest.approx(0, abs=1e-6)
    assert DISTANCES[name](maps, doubled) == pytest.approx(0, abs=1e-6)
    assert at(structure_distance)(shuffled, maps) > 0.01


def test_gram_and_moment_distances_by_hand():
    one = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]], dtype=torch.float64)  # [1, 2, 1, 2]
    two = torch.tensor([[[[2.0, 2.0]], [[1.0, 1.0]]]], dtype=torch.float64)
    grams = np.array([[5.0, 6.0], [6.0, 8.0]]), np.array([[4.0, 2.0], [2.0, 1.0]])
    expected = np.linalg.norm(grams[0] - grams[1]) / (np.linalg.norm(grams[0]) + np.linalg.norm(grams[1]))
    first, second = summarise_style({"layer": one}), summarise_style({"layer": two})
    assert gram_distance(first, second) == pytest.approx(expected, rel=1e-9)
    moments = np.array([2.0, 2.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0, 0.0])
    expected = np.linalg.norm(moments[0] - moments[1]) / (np.linalg.norm(moments[0]) + np.linalg.norm(moments[1]))
    assert moment_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_perceptual_distance_by_hand():
    one = torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]])  # unit vectors (.6, .8) and (0, 1)
    two = torch.tensor([[[[1.0, 5.0]], [[0.0, 0.0]]]])  # unit vectors (1, 0) and (1, 0)
    expected = ((0.16 + 0.64) + (1 + 1)) / 2
    assert perceptual_distance({"a": one}, {"a": two}) == pytest.approx(expected, rel=1e-5)


def test_cfsd_is_the_published_computation(seen):
    """StyleID's evaluation in a few lines: softmax of inner products of features over C, divergences summed."""
    content, painted = (seen[name]["fire3"].double() for name in ("astronaut", "coffee"))
    rows = []
    for maps in (content, painted):
        vectors = maps[0].flatten(1).T.numpy() / maps.shape[1]  # [N, C]
        products = vectors @ vectors.T
        weights = np.exp(products - products.max(1, keepdims=True))
        rows.append(weights / weights.sum(1, keepdims=True))
    expected = (rows[0] * np.log(rows[0] / rows[1])).sum()
    assert cfsd(painted, content) == pytest.approx(expected, rel=1e-6)
    assert cfsd(painted.float(), content.float()) == pytest.approx(expected, rel=1e-2)


def test_structure_is_computed_in_parts_without_a_trace(seen, monkeypatch):
    pair = seen["coffee"]["fire3"], seen["astronaut"]["fire3"]
    whole = structure_distance(*pair)
    monkeypatch.setattr("impasto.metrics.features.ROWS", 7)
    assert structure_distance(*pair) == pytest.approx(whole, rel=1e-5)


def test_structure_sees_layout_and_content_sees_colour(network, natural):
    """A picture in other colours keeps its structure better than a mirrored one, which keeps all its colours."""
    picture = natural("coffee.png", (96, 96))
    tinted = picture * np.array([0.7, 1.0, 0.8], np.float32)
    maps = [look(network, one, LAYERS) for one in (picture, tinted, picture[:, ::-1])]
    assert (
        structure_distance(maps[1]["fire3"], maps[0]["fire3"])
        < structure_distance(maps[2]["fire3"], maps[0]["fire3"]) / 3
    )


def test_networks_are_told_apart_by_their_weights(network, seeded):
    assert network_identity(network) == network_identity(seeded("squeezenet1_0"))
    assert network_identity(network) != network_identity(seeded("squeezenet1_0", seed=1))
    assert len(network_identity(network)) == 12


def test_what_cannot_be_compared_is_refused(network, natural, seen):
    small = look(network, natural("coffee.png", (64, 64)), LAYERS)
    for measure in (content_distance, perceptual_distance, at(structure_distance), at(cfsd)):
        with pytest.raises(UsageError, match="one size"):
            measure(small, seen["coffee"])
    with pytest.raises(UsageError, match="same layers"):
        content_distance({"conv1": small["conv1"]}, seen["coffee"])
    with pytest.raises(UsageError, match="no layer 'relu1_1'"):
        look(network, natural("coffee.png", (64, 64)), ["relu1_1"])
    with pytest.raises(UsageError, match="too small"):
        look(network, np.zeros((3, 3, 3), np.float32), ["fire9"])

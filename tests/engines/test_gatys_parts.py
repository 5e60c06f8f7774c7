"""Geometry, targets and objective of ``gatys``, on a small encoder with random weights."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs impasto[torch]")

import torch

from impasto.engines.gatys_objective import MARGIN, SHIFT, Eye, Objective, Tiling
from impasto.engines.gatys_options import CONTENTS, LOSSES, GatysOptions
from impasto.engines.gatys_pyramid import bands_of, picture_of, plan_scales, plan_windows
from impasto.engines.gatys_targets import COLOURS, Guide, Layers, layer_distance, merged, style_target
from impasto.losses.statistics import feature_statistics, feature_sums
from impasto.nets.lens import Lens, LensConfig

LAYERS = Layers(("relu1_1", "relu2_1", "relu3_1", "relu4_1"), ("relu4_1",), ("relu3_1", "relu4_1"))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Lens(LensConfig((6, 8, 8, 8, 8), (1, 1, 1, 1, 1))).freeze()


def picture(seed, height=64, width=80):
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth + 0.1 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


# -- the pyramid -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 600), st.integers(1, 500))
def test_sizes_grow_to_the_picture_and_spend_all_iterations(height, width, smallest, iterations):
    scales = plan_scales((height, width), smallest=smallest, iterations=iterations)
    assert (scales[-1].height, scales[-1].width) == (height, width)
    assert sum(scale.iterations for scale in scales) == iterations
    assert all(scale.iterations >= 1 for scale in scales)
    areas = [scale.height * scale.width for scale in scales]
    assert areas == sorted(areas)
    assert max(scales[0].height, scales[0].width) >= min(smallest, max(height, width)) - 1
    assert len({max(scale.height, scale.width) for scale in scales}) == len(scales)


def test_most_iterations_are_spent_where_they_cost_least():
    scales = plan_scales((512, 512), smallest=128, iterations=200)
    assert [scale.height for scale in scales] == [128, 181, 256, 362, 512]
    counts = [scale.iterations for scale in scales]
    assert counts == sorted(counts, reverse=True) and counts[0] > 3 * counts[-1]


@given(st.integers(40, 900), st.integers(40, 900), st.integers(32, 400), st.floats(0, 0.999), st.floats(0, 0.999))
def test_cores_cover_the_picture_once(height, width, tile, down, right):
    margin = 16
    covered = np.zeros((height, width), int)
    for window in plan_windows((height, width), tile, (down, right), margin=margin):
        rows, columns = window.outer
        assert rows.start % 16 == 0 and columns.start % 16 == 0
        top, left = rows.start + window.begin[0], columns.start + window.begin[1]
        bottom, end = rows.start + window.end[0], columns.start + window.end[1]
        assert rows.stop <= height and columns.stop <= width
        covered[top:bottom, left:end] += 1
        assert max(bottom - top, end - left) <= max(tile, 16) * 1.5 + 16
    inside = np.zeros_like(covered)
    inside[margin:-margin, margin:-margin] = 1
    assert np.array_equal(covered, inside)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_cores_of_features_are_disjoint_and_complete(stride):
    size = (400, 333)
    grid = torch.zeros(1, 1, size[0] // stride, size[1] // stride)
    for window in plan_windows(size, 100, (0.3, 0.8), margin=16):
        rows, columns = window.outer
        part = torch.arange(grid.numel()).reshape(grid.shape)[
            :, :, rows.start // stride : rows.stop // stride, columns.start // stride : columns.stop // stride
        ]
        grid.view(-1)[window.core(part, stride).flatten()] += 1
    inner = grid[:, :, 16 // stride : (size[0] - 16) // stride, 16 // stride : (size[1] - 16) // stride]
    assert (inner == 1).all() and grid.sum() == inner.sum()


@pytest.mark.parametrize("size", [(64, 64), (65, 91), (9, 200), (3, 5)])
def test_bands_add_up_to_the_picture(size):
    original = torch.rand(1, 3, *size)
    for count in (1, 5):
        bands = bands_of(original, count)
        assert torch.allclose(picture_of(bands), original, atol=1e-6)
        assert bands[0].shape == original.shape and len(bands) <= count


def test_a_step_in_the_finest_band_moves_lightness_more_than_chroma():
    original = torch.full((1, 3, 64, 64), 0.5)
    for band, limit in ((0, 0.3), (3, 1.01)):
        moved = []
        for channel in range(3):
            bands = bands_of(original, 5)
            bands[band][:, channel, 2, 2] += 0.01
            moved.append(float((picture_of(bands) - original).norm()))
        assert moved[1] == pytest.approx(moved[2], rel=1e-4) and moved[1] < limit * moved[0]


# -- targets ---------------------------------------------------------------------------------------------------------


def target_of(encoder, seen, loss, layers=LAYERS):
    survey = Eye(encoder, layers, 4096).survey(seen, columns=True)
    sums = {layer: survey.sums[(None, layer)] for layer in (*layers.all, COLOURS)}
    return style_target(sums, survey.columns, layers=layers, loss=loss, seed=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_distance_of_a_layer_is_zero_at_the_style_and_of_order_one_elsewhere(encoder, loss):
    style, other = picture(0), picture(1) ** 3
    target = target_of(encoder, style, loss)
    for layer in (*LAYERS.style, COLOURS):
        eye = Eye(encoder, LAYERS, 4096)
        here, there = (eye.survey(one).sums[(None, layer)] for one in (style, other))
        assert layer_distance(here, target, layer, loss).abs() < 5e-3  # roots of rounding errors, in float32
        assert 0.001 < float(layer_distance(there, target, layer, loss)) < 100


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_flat_styles_and_flat_pictures_have_finite_distances(encoder, loss, level):
    flat, busy = torch.full((1, 3, 64, 64), level), picture(2)
    for style, seen in ((flat, busy), (busy, flat), (flat, flat)):
        target = target_of(encoder, style, loss)
        features = feature_sums(encoder(seen, ("relu2_1",))["relu2_1"])
        assert torch.isfinite(layer_distance(features, target, "relu2_1", loss)).all()


def test_merging_on_the_sphere_ends_at_the_styles(encoder):
    first, second = target_of(encoder, picture(3), "nearest"), target_of(encoder, 1 - picture(4), "nearest")
    for shares, wanted in (([1.0, 0.0], first), ([0.0, 1.0], second)):
        found = merged([first, second], shares)
        for layer in LAYERS.style:
            scale = wanted.statistics[layer].covariance.abs().max()
            assert torch.allclose(found.statistics[layer].mean, wanted.statistics[layer].mean, atol=1e-5)
            difference = found.statistics[layer].covariance - wanted.statistics[layer].covariance
            assert difference.abs().max() < 1e-3 * scale
    between = merged([first, second], [0.5, 0.5])
    assert between.bank.features.shape[0] == pytest.approx(
        (first.bank.features.shape[0] + second.bank.features.shape[0]) / 2, abs=2
    )


@pytest.mark.parametrize("tile", [64, 4096])
def test_of_a_large_style_an_even_draw_of_features_is_kept(encoder, monkeypatch, tile):
    """All features of a style of many megapixels would not fit into the memory that was announced."""
    seen, eye = picture(15, 128, 160), Eye(encoder, LAYERS, tile)
    every = eye.survey(seen, columns=True).columns
    assert every.shape[0] == 32 * 40  # of stride 4
    monkeypatch.setattr("impasto.engines.gatys_objective.COLUMNS", 300)
    some, again = (eye.survey(seen, columns=True).columns for _ in range(2))
    assert torch.equal(some, again) and 290 <= some.shape[0] <= 320
    rows = {tuple(row) for row in every.tolist()}
    assert all(tuple(row) in rows for row in some.tolist())
    assert torch.allclose(some.mean(0), every.mean(0), atol=0.3 * float(every.std()))


# -- the objective ---------------------------------------------------------------------------------------------------


def objective(encoder, loss, *, tile=4096, regions=False, content="moved", size=(96, 128)):
    photo = picture(5, *size)
    layers = LAYERS if loss == "nearest" else replace(LAYERS, matched=())
    eye = Eye(encoder, layers, tile)
    targets = []
    for seed in (6, 7):
        survey = eye.survey(picture(seed), columns=bool(layers.matched))
        sums = {layer: survey.sums[(None, layer)] for layer in (*layers.all, COLOURS)}
        targets.append(style_target(sums, survey.columns, layers=layers, loss=loss, seed=0))
    options = GatysOptions(loss=loss, content=content, smooth_weight=0.1)
    if not regions:
        guides = [Guide(targets[0], None, 0.7, 0.7), Guide(None, None, 0.3, 0.3)]
        return Objective(eye, photo, guides, [], None, options)
    left = torch.zeros(1, 1, *size)
    left[..., : size[1] // 2] = 1
    right = torch.zeros(1, 1, *size)
    right[..., size[1] // 2 : size[1] * 3 // 4] = 1
    guides = [Guide(targets[0], 0, 2 / 3, 1.0), Guide(targets[1], 1, 0.2, 0.6), Guide(None, 1, 2 / 15, 0.4)]
    return Objective(eye, photo, guides, [left, right], left + right, options)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_tiles_give_the_gradient_of_the_whole(encoder, loss, regions):
    tiling = Tiling(2, 3, (0.4, 0.7))
    given = picture(8, 288, 320)
    whole = objective(encoder, loss, regions=regions, size=(288, 320))
    tiled = objective(encoder, loss, regions=regions, size=(288, 320), tile=112)
    for one in (whole, tiled):
        one.begin_block(given, tiling)
    assert len(whole._parts) == 1 and len(tiled._parts) >= 6
    value, gradient = whole.gradient(given)
    other, tiled_gradient = tiled.gradient(given)
    assert other == pytest.approx(value, rel=1e-4)
    assert (gradient - tiled_gradient).abs().max() < 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("loss", [*LOSSES])
@pytest.mark.parametrize("content", CONTENTS)
def test_the_gradient_is_that_of_finite_differences(encoder, loss, content):
    double = Lens(encoder.config).double().freeze()
    double.load_state_dict(encoder.double().state_dict())
    encoder.float()
    layers = LAYERS if loss == "nearest" else replace(LAYERS, matched=())
    eye = Eye(double, layers, 4096)
    survey = eye.survey(picture(9).double(), columns=bool(layers.matched))
    target = style_target(
        {layer: survey.sums[(None, layer)] for layer in (*layers.all, COLOURS)},
        survey.columns,
        layers=layers,
        loss=loss,
        seed=0,
    )
    options = GatysOptions(loss=loss, content=content)
    guides = [Guide(target, None, 0.8, 0.8), Guide(None, None, 0.2, 0.2)]
    one = Objective(eye, picture(10).double(), guides, [], None, options)
    given = picture(11).double() * 0.8 + 0.1
    one.begin_block(given, Tiling())
    _, gradient = one.gradient(given)
    direction = torch.randn(given.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-8  # a larger one crosses bends of ReLU
    above, below = one.gradient(given + step * direction)[0], one.gradient(given - step * direction)[0]
    assert float((gradient * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=1e-3)


def test_a_region_without_weight_gets_no_gradient_from_the_styles(encoder):
    one = objective(encoder, "nearest", regions=True, size=(96, 288))
    one.begin_block(one.content, Tiling())
    _, gradient = one.gradient(one.content.clamp(0.01, 0.99))
    inside, outside = gradient[..., :144], gradient[..., 216 + 64 :]
    assert outside.abs().max() < 0.05 * inside.abs().max()


def test_the_photograph_in_its_own_style_costs_nothing(encoder):
    photo = picture(12)
    for loss in LOSSES:
        layers = LAYERS if loss == "nearest" else replace(LAYERS, matched=())
        eye = Eye(encoder, layers, 4096)
        survey = eye.survey(photo, columns=bool(layers.matched))
        sums = {layer: survey.sums[(None, layer)] for layer in (*layers.all, COLOURS)}
        target = style_target(sums, survey.columns, layers=layers, loss=loss, seed=0)
        one = Objective(eye, photo, [Guide(target, None, 1.0, 1.0)], [], None, GatysOptions(loss=loss))
        one.begin_block(photo, Tiling())
        value, _ = one.gradient(photo)
        assert abs(value) < 5e-3, loss


def test_the_grid_goes_through_all_offsets():
    rng = np.random.default_rng(0)
    drawn = [Tiling.drawn(rng) for _ in range(200)]
    assert {one.down for one in drawn} == {one.right for one in drawn} == set(range(SHIFT))
    sizes = {Tiling(down, right).pad(picture(13)).shape[2:] for down in range(SHIFT) for right in range(SHIFT)}
    assert sizes == {(64 + 2 * MARGIN + SHIFT - 1, 80 + 2 * MARGIN + SHIFT - 1)}


def test_guided_statistics_of_the_survey_are_those_of_the_map(encoder):
    weight = torch.zeros(1, 1, 64, 80)
    weight[..., :32] = 1
    seen = picture(14)
    found = Eye(encoder, LAYERS, 4096).survey(seen, [weight]).sums
    features = encoder(Tiling().pad(seen), ("relu1_1",))["relu1_1"][:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    wanted = feature_statistics(features, weight=torch.nn.functional.pad(weight, (0, 3, 0, 3), mode="reflect"))
    assert torch.allclose(found[(0, "relu1_1")].first / found[(0, "relu1_1")].mass, wanted.mean, atol=1e-4)

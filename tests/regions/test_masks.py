"""Regions: stacking, feathering, the guided filter, and the field they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from impasto.errors import FieldError, OutputError, UnknownNameError, UsageError
from impasto.field import StyleCode
from impasto.ops.neighbourhood import box_mean, running_maximum, running_minimum
from impasto.regions import RegionConfig, Regions
from impasto.regions.guided import guided_filter
from impasto.regions.masks import feathered

CODE = StyleCode(np.ones(4, np.float32), "brush", "0" * 16, "one")
shares = st.floats(0, 1, width=32)
masks = arrays(np.float32, (9, 11), elements=shares)


def disc(size=(48, 64), centre=(24, 32), radius=14):
    y, x = np.mgrid[: size[0], : size[1]]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.float32)


# -- windows -----------------------------------------------------------------------------------------------------------


@given(arrays(np.float32, (7, 9), elements=shares), st.integers(0, 12))
def test_windows_agree_with_loops(values, radius):
    expected = np.zeros((3, 7, 9))
    for row in range(7):
        for column in range(9):
            part = values[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
            expected[:, row, column] = part.mean(dtype=np.float64), part.max(), part.min()
    np.testing.assert_allclose(box_mean(values, radius), expected[0], atol=1e-9)
    np.testing.assert_array_equal(running_maximum(values, radius), expected[1].astype(np.float32))
    np.testing.assert_array_equal(running_minimum(values, radius), expected[2].astype(np.float32))


# -- the guided filter -------------------------------------------------------------------------------------------------


def guided_reference(guide, mask, radius, epsilon):
    """Equations 16 to 19 by loops, with matrices."""
    height, width = mask.shape

    def window(row, column):
        return np.s_[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]

    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            colors = guide[window(row, column)].reshape(-1, 3).astype(np.float64)
            values = mask[window(row, column)].reshape(-1).astype(np.float64)
            mean = colors.mean(axis=0)
            covariance = (colors - mean).T @ (colors - mean) / len(colors) + epsilon * np.eye(3)
            joint = (colors * values[:, None]).mean(axis=0) - mean * values.mean()
            slopes[row, column] = np.linalg.solve(covariance, joint)
            offsets[row, column] = values.mean() - slopes[row, column] @ mean
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            slope = slopes[window(row, column)].reshape(-1, 3).mean(axis=0)
            result[row, column] = slope @ guide[row, column] + offsets[window(row, column)].mean()
    return result


def test_the_guided_filter_is_that_of_the_paper():
    chance = np.random.default_rng(3)
    guide, mask = chance.random((13, 17, 3), np.float32), chance.random((13, 17), np.float32)
    found = guided_filter(guide, mask, radius=2, epsilon=1e-3)
    np.testing.assert_allclose(found, guided_reference(guide, mask, 2, 1e-3), atol=2e-5)


def test_the_guided_filter_is_linear_and_keeps_constants():
    chance = np.random.default_rng(4)
    guide = chance.random((20, 30, 3), np.float32)
    first, second = chance.random((2, 20, 30), np.float32)
    both = guided_filter(guide, np.stack([first, second], axis=-1), radius=3, epsilon=1e-3)
    alone = guided_filter(guide, first, radius=3, epsilon=1e-3)
    np.testing.assert_allclose(both[..., 0], alone, atol=1e-6)
    np.testing.assert_allclose(
        both.sum(axis=2), guided_filter(guide, first + second, radius=3, epsilon=1e-3), atol=1e-5
    )
    np.testing.assert_allclose(
        guided_filter(guide, np.full((20, 30), 0.3, np.float32), radius=3, epsilon=1e-3), 0.3, atol=1e-6
    )


def test_the_guided_filter_moves_a_border_to_the_edge_of_the_guide():
    guide = np.zeros((40, 60, 3), np.float32)
    guide[:, 30:] = (0.9, 0.6, 0.3)
    rough = np.zeros((40, 60), np.float32)
    rough[:, 33:] = 1  # three pixels off
    fine = guided_filter(guide, rough, radius=6, epsilon=1e-4)
    assert fine[20, 29] < 0.05  # nothing leaks over the edge
    assert fine[20, 31] > 0.45  # and what was missing before it is filled
    fast = guided_filter(guide, rough, radius=6, epsilon=1e-4, step=3)
    assert np.abs(fast - fine).mean() < 0.02


def test_guide_and_mask_must_have_one_size():
    with pytest.raises(FieldError, match=r"guide is \(4, 5\), the mask \(5, 4\)"):
        guided_filter(np.zeros((4, 5, 3), np.float32), np.zeros((5, 4), np.float32), radius=1, epsilon=1)


# -- stacking ----------------------------------------------------------------------------------------------------------


@given(masks, masks, masks)
def test_stacked_regions_sum_to_at_most_one_and_the_last_is_whole(first, second, third):
    for mask in (first, second, third):
        mask[0, 0] = 1.0
    first[1, 1], second[1, 1], third[1, 1] = 1.0, 0.0, 0.0
    second[2, 2], third[2, 2] = 1.0, 0.0
    regions = Regions.stacked({"a": first, "b": second, "c": third})
    assert regions.names == ("a", "b", "c")
    np.testing.assert_array_equal(regions["c"], third)
    assert (regions["a"] <= first).all() and (regions["b"] <= second).all()
    assert float(regions.covered.max()) <= 1 + 1e-6
    np.testing.assert_allclose(regions.covered, np.minimum(1, first + second + third), atol=1e-6)
    np.testing.assert_allclose(regions.outside + regions.covered, 1, atol=1e-6)


def test_masks_that_complete_each_other_are_kept():
    soft = feathered(disc(), 5, mode="gaussian")
    regions = Regions.stacked({"object": soft, "rest": 1 - soft})
    np.testing.assert_allclose(regions["object"], soft, atol=1e-6)
    np.testing.assert_array_equal(regions["rest"], 1 - soft)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no region"),
        ([("sky", np.zeros((4, 4), np.float32))], "'sky' is empty"),
        ([("sky", np.full((4, 4), 0.001, np.float32))], "'sky' is empty"),
        ([("sky", np.ones((4, 4), np.float32)), ("sky", np.ones((4, 4), np.float32))], "'sky' is named twice"),
        ([("sky", np.ones((4, 4), np.float32)), ("all", np.ones((4, 4), np.float32))], "'sky' is hidden entirely"),
        ([("sky", np.ones((4, 4), np.float32)), ("sea", np.ones((4, 5), np.float32))], r"'sea' is \(4, 5\)"),
        ([("sky", np.full((4, 4), 1.5, np.float32))], "'sky' must hold numbers from 0 to 1"),
        ([("sky", np.full((4, 4), np.nan, np.float32))], "'sky' must hold numbers from 0 to 1"),
        ([("sky", np.ones(4, np.float32))], r"'sky' must be \[H, W\]"),
    ],
)
def test_regions_that_cannot_be_stacked(pairs, words):
    with pytest.raises(FieldError, match=words):
        Regions.stacked(pairs)


def test_overlapping_masks_need_stacking():
    with pytest.raises(FieldError, match=r"a, b overlap \(they add up to 1.60\)"):
        Regions({"a": np.full((4, 4), 0.8, np.float32), "b": np.full((4, 4), 0.8, np.float32)})


def test_a_name_that_no_region_has():
    with pytest.raises(UnknownNameError, match="did you mean sky"):
        Regions({"sky": disc()})["ski"]


# -- feathering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["gaussian", "guided"])
@pytest.mark.parametrize("feather", [1, 4, 7.5])
def test_feathering_reaches_as_far_as_it_says(mode, feather):
    guide = np.random.default_rng(1).random((48, 64, 3), np.float32)
    hard = disc()
    soft = feathered(hard, feather, mode=mode, guide=guide)
    reach = max(1, round(feather))
    np.testing.assert_array_equal(soft[running_maximum(hard, reach) == 0], 0)
    np.testing.assert_array_equal(soft[running_minimum(hard, reach) == 1], 1)
    assert ((soft > 0) & (soft < 1)).sum() > 50
    assert soft.min() >= 0 and soft.max() <= 1


@pytest.mark.parametrize("mode", ["gaussian", "guided"])
def test_nothing_shows_between_feathered_neighbours(mode):
    guide = np.random.default_rng(2).random((48, 64, 3), np.float32)
    regions = Regions.stacked({"rest": np.ones((48, 64), np.float32), "disc": disc()}).feathered(
        6, mode=mode, guide=guide
    )
    np.testing.assert_allclose(regions.covered, 1, atol=1e-5)


def test_a_gaussian_border_is_symmetric_and_falls():
    edge = np.zeros((20, 40), np.float32)
    edge[:, 20:] = 1
    row = feathered(edge, 8, mode="gaussian")[10]
    np.testing.assert_allclose(row + row[::-1], 1, atol=1e-6)
    assert (np.diff(row) >= -1e-7).all() and 0.4 < row[19] < 0.5 < row[20] < 0.6


def test_a_guided_border_follows_the_picture_where_a_gaussian_leaks():
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = 0.8
    edge = (guide[..., 0] > 0).astype(np.float32)
    leaked = {mode: feathered(edge, 8, mode=mode, guide=guide)[:, :20].sum() for mode in ("gaussian", "guided")}
    assert leaked["guided"] < 0.1 * leaked["gaussian"]


def test_no_feather_changes_nothing():
    assert feathered(disc(), 0) is not None
    np.testing.assert_array_equal(feathered(disc(), 0), disc())


def test_bad_feathers():
    with pytest.raises(FieldError, match="needs the picture"):
        feathered(disc(), 3, mode="guided")
    with pytest.raises(UsageError, match="feather must lie between 0 and 512"):
        feathered(disc(), -1, mode="gaussian")
    with pytest.raises(UsageError, match="feather_mode must be one of"):
        feathered(disc(), 1, mode="box")


# -- fields, files, settings -------------------------------------------------------------------------------------------


def test_the_field_of_regions():
    left = np.zeros((4, 6), np.float32)
    left[:, :3] = 1
    regions = Regions({"left": left, "right": 1 - left})
    field = regions.field({"left": (CODE, 0.75)})
    np.testing.assert_array_equal(field.total, 0.75 * left)
    with pytest.raises(UnknownNameError):
        regions.field({"top": (CODE, 1.0)})
    with pytest.raises(UsageError, match="strength of the region 'left'"):
        regions.field({"left": (CODE, 1.5)})


def test_masks_are_saved_under_names_that_files_can_have(tmp_path):
    from PIL import Image

    regions = Regions.stacked({"rest": np.ones((48, 64), np.float32), "click:3,4/-5,6": disc()})
    files = regions.save(tmp_path / "new" / "folder")
    assert files["click:3,4/-5,6"].name == "click_3_4_-5_6.png"
    with Image.open(files["click:3,4/-5,6"]) as saved:
        assert saved.mode == "L"
        np.testing.assert_array_equal(np.asarray(saved), 255 * disc().astype(np.uint8))
    with pytest.raises(OutputError, match="two regions would both become"):
        Regions.stacked({"a/b": np.ones((48, 64), np.float32), "a:b": disc()}).save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the masks"):
        regions.save(tmp_path / "file")


@pytest.mark.parametrize("text", ["face", "faces;text", "faces,,text"])
def test_protect_takes_faces_and_text_only(text):
    with pytest.raises(UsageError, match="protect takes faces, text"):
        RegionConfig(protect=text)

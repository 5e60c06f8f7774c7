"""Seams and warp errors on made-up cases with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from impasto.errors import UsageError
from impasto.metrics.seams import seam_error, seam_visibility
from impasto.metrics.temporal import visible, warp, warp_error


@pytest.fixture(scope="module")
def photograph(natural):
    return natural("coffee.png", (80, 100))


def test_seam_error_is_the_difference(photograph):
    tiled = photograph.copy()
    tiled[40] = np.clip(tiled[40] - 0.25, 0, None)
    assert seam_error(photograph, photograph).largest == 0
    found = seam_error(tiled, photograph)
    assert found.largest == pytest.approx(0.25) or found.largest == pytest.approx(photograph[40].max())
    assert found.mean == pytest.approx(np.abs(tiled - photograph).mean(), rel=1e-5)


def test_a_seam_is_seen_where_it_is(photograph):
    assert seam_visibility(photograph, rows=[40], columns=[50]) < 1.6
    tiled = photograph.copy()
    tiled[:, 50:] += 0.1
    assert seam_visibility(tiled, columns=[50]) > 3
    assert seam_visibility(tiled, columns=[60]) < 1.6
    assert seam_visibility(tiled.swapaxes(0, 1), rows=[50]) == pytest.approx(seam_visibility(tiled, columns=[50]))
    assert seam_visibility(tiled, rows=[40], columns=[50]) == seam_visibility(tiled, columns=[50])


def test_seams_of_constant_and_tiny_pictures_have_values():
    assert seam_visibility(np.full((30, 30, 3), 0.5), rows=[15]) == 1
    assert seam_visibility(np.zeros((2, 5)), rows=[1]) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [([], "at least one seam"), ([0], "does not lie"), ([80], "does not lie"), ([-3], "does not lie")],
)
def test_seams_outside_are_refused(photograph, rows, words):
    with pytest.raises(UsageError, match=words):
        seam_visibility(photograph, rows=rows)


def test_warp_is_that_of_scipy(photograph):
    flow = np.random.default_rng(0).normal(0, 3, (*photograph.shape[:2], 2))
    moved, inside = warp(photograph, flow)
    down, across = np.mgrid[: photograph.shape[0], : photograph.shape[1]]
    points = down + flow[..., 1], across + flow[..., 0]
    for channel in range(3):
        expected = map_coordinates(photograph[..., channel].astype(np.float64), points, order=1, mode="nearest")
        np.testing.assert_allclose(moved[..., channel][inside], expected[inside], atol=1e-6)
    outside = (points[0] < 0) | (points[0] > 79) | (points[1] < 0) | (points[1] > 99)
    np.testing.assert_array_equal(inside, ~outside)


@settings(max_examples=25)
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_a_film_that_moves_as_the_flow_says_has_no_error(natural, down, right):
    scene = natural("astronaut.png", (60, 60))
    frame, before = scene[15:45, 15:45], scene[15 + down : 45 + down, 15 + right : 45 + right]
    flow = np.broadcast_to(np.array([-right, -down], np.float32), (30, 30, 2))
    assert warp_error(frame, before, flow) == pytest.approx(0, abs=1e-12)
    if max(abs(down), abs(right)) > 4:
        assert warp_error(frame, before, np.zeros((30, 30, 2))) > 1e-3


def test_the_warp_error_is_a_mean_square_over_what_can_be_seen(photograph):
    flow, mask = np.zeros((80, 100, 2)), np.zeros((80, 100), bool)
    mask[:, :50] = True
    changed = photograph.copy()
    changed[:, :50] += 0.1
    changed[:, 50:] += 0.7
    assert warp_error(changed, photograph, flow, mask) == pytest.approx(0.01, rel=1e-4)
    assert warp_error(changed, photograph, flow) == pytest.approx((0.01 + 0.49) / 2, rel=1e-4)


def test_what_is_covered_is_not_visible():
    """A square moves 6 pixels to the right over a resting ground: what it covers next has no counterpart."""
    forward, back = np.zeros((40, 40, 2)), np.zeros((40, 40, 2))
    forward[10:30, 10:20, 0] = 6  # the square, in the first frame
    back[10:30, 16:26, 0] = -6  # the square, in the second
    seen = visible(forward, back)
    assert seen[10:30, 10:20].all() and seen[:10].all() and seen[:, :10].all()
    assert not seen[10:30, 20:26].any()
    assert not visible(np.full((40, 40, 2), 100.0), np.zeros((40, 40, 2))).any()


def test_films_of_other_sizes_are_refused(photograph):
    with pytest.raises(UsageError, match="flow of shape"):
        warp(photograph, np.zeros((80, 99, 2)))
    with pytest.raises(UsageError, match="one shape"):
        warp_error(photograph, photograph[:-1], np.zeros((80, 100, 2)))
    with pytest.raises(UsageError, match="no pixel"):
        warp_error(photograph, photograph, np.full((80, 100, 2), 500.0))
    one, inside = warp(np.ones((1, 1)), np.zeros((1, 1, 2)))
    assert one == 1 and inside.all()

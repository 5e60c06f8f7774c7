"""Efros & Leung against a slow reference of the published text, and what must hold for every sample."""

import numpy as np
import pytest

from impasto.errors import CancelledError, UsageError
from impasto.texture.growing import _grow_layer, _places, _unfilled_neighbours, fill_holes, gaussian_window, grow
from impasto.texture.settings import EfrosLeungSettings

SMALL = EfrosLeungSettings(window=7)


def colors_of(picture):
    return set(map(tuple, picture.reshape(-1, picture.shape[2]).tolist()))


def test_the_gaussian_has_the_published_width():
    weights = gaussian_window(13)
    assert weights.sum() == pytest.approx(1) and weights.argmax() == 84
    line = weights[6] / weights[6, 6]
    assert line[8] == pytest.approx(np.exp(-(2**2) / (2 * (13 / 6.4) ** 2)), rel=1e-5)


def candidates(sample, canvas, known, weights, y, x, epsilon):
    """The colours the paper draws from, and the least distance, term by term in float64."""
    window, half = len(weights), len(weights) // 2
    rows, columns = sample.shape[0] - window + 1, sample.shape[1] - window + 1
    valid = known[y - half : y + half + 1, x - half : x + half + 1] * weights.astype(np.float64)
    target = canvas[y - half : y + half + 1, x - half : x + half + 1]
    distances = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            gap = sample[row : row + window, column : column + window].astype(np.float64) - target
            distances[row, column] = ((gap**2).mean(2) * valid).sum() / valid.sum()
    near = np.argwhere(distances <= distances.min() * (1 + epsilon) + 1e-12)
    return {tuple(sample[row + half, column + half].tolist()) for row, column in near}, distances.min()


def test_a_pixel_is_drawn_from_the_candidates_of_the_paper(coffee):
    sample, settings = coffee[:24, :24], EfrosLeungSettings(window=5, epsilon=0.1)
    weights, generator = gaussian_window(5), np.random.default_rng(3)
    canvas, known = np.zeros((20, 20, 3), np.float32), np.zeros((20, 20), bool)
    canvas[8:12, 8:12], known[8:12, 8:12] = coffee[40:44, 40:44], True
    planes = np.ascontiguousarray(sample.transpose(2, 0, 1))
    places = _places(np.zeros((24, 24), bool), 5)
    for y, x in ((7, 9), (12, 12), (10, 7)):
        wanted, best = candidates(sample, canvas, known, weights, y, x, settings.epsilon)
        seen = set()
        for _ in range(40):
            trial, state = canvas.copy(), known.copy()
            layer = np.array([[y, x]])
            assert _grow_layer(planes, places, trial, state, weights, layer, generator.random(1), 0.1, 1.0) == 1
            assert state[y, x] and state.sum() == known.sum() + 1
            seen.add(tuple(trial[y, x].tolist()))
        assert seen <= wanted and len(seen) >= min(2, len(wanted))
        state = known.copy()  # and none is taken where the best is worse than the bound
        assert _grow_layer(planes, places, canvas, state, weights, layer, np.zeros(1), 0.1, best * 0.99) == 0
        assert np.array_equal(state, known)


def test_pixels_with_the_most_known_neighbours_come_first():
    known = np.zeros((15, 15), bool)
    known[5:8, 5:8] = True
    known[7, 8] = True
    inner = (slice(2, 13), slice(2, 13))
    layer = _unfilled_neighbours(known, inner, 5, np.random.default_rng(0))
    counts = [known[y - 2 : y + 3, x - 2 : x + 3].sum() for y, x in layer]
    assert counts == sorted(counts, reverse=True)
    around = {(y, x) for y in range(4, 10) for x in range(4, 10)}
    expected = {
        (y, x) for y, x in around if not known[y, x] and known[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any()
    }
    assert {tuple(pixel) for pixel in layer.tolist()} == expected
    other = _unfilled_neighbours(known, inner, 5, np.random.default_rng(1))
    assert not np.array_equal(layer, other)  # ties are broken by chance


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (20, 33)])
def test_a_grown_texture_has_the_size_and_the_samples_pixels(coffee, size):
    made = grow(coffee[:24, :24], size, SMALL)
    assert made.shape == (*size, 3) and made.dtype == np.float32
    assert colors_of(made) <= colors_of(coffee[:24, :24])


def test_a_weave_is_continued(weave):
    made = grow(weave(32, 32, 5), (48, 48), EfrosLeungSettings(window=13))
    assert np.abs(made[10:] - made[:-10]).mean() < 0.02
    assert np.abs(made[:, 10:] - made[:, :-10]).mean() < 0.02


def test_growth_follows_its_seed(gravel):
    first, again, other = (grow(gravel[:30, :30], (25, 25), SMALL, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_seed_may_come_from_the_middle(gravel):
    settings = EfrosLeungSettings(window=7, seed_place="centre")
    made = grow(gravel[:31, :31], (21, 21), settings)
    assert np.array_equal(made[9:12, 9:12], gravel[14:17, 14:17])


def test_it_goes_on_where_nothing_fits_well(gravel):
    """A bound that no match keeps to grows until one does."""
    strict = EfrosLeungSettings(window=7, largest_error=1e-4)
    assert grow(gravel[:20, :20], (12, 12), strict).shape == (12, 12, 3)


def test_a_sample_of_one_colour_gives_it():
    made = grow(np.full((9, 9, 3), 0.75, np.float32), (20, 11), SMALL)
    assert np.array_equal(made, np.full((20, 11, 3), 0.75, np.float32))


def test_a_sample_smaller_than_the_window_is_refused():
    with pytest.raises(UsageError, match=r"6 x 40 px .*smaller than the window of 7 px"):
        grow(np.zeros((40, 6, 3), np.float32), (20, 20), SMALL)


def test_progress_is_told_and_can_stop_the_work(gravel):
    told = []
    grow(gravel[:20, :20], (20, 20), SMALL, on_progress=told.append)
    assert told == sorted(told) and told[0] == pytest.approx(0) and told[-1] == 1

    def stop(done):
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        grow(gravel[:20, :20], (20, 20), SMALL, on_progress=stop)


# --- holes -----------------------------------------------------------------------------------------------------------


def test_a_hole_in_a_weave_is_mended_exactly(weave):
    whole = weave(48, 48, 5)
    holes = np.zeros((48, 48), bool)
    holes[15:26, 18:30] = True
    broken = np.where(holes[..., None], np.float32(0.123), whole)
    mended = fill_holes(broken, holes, EfrosLeungSettings(window=11))
    assert np.array_equal(mended[~holes], whole[~holes])
    assert np.abs(mended - whole)[holes].mean() < 0.02


def test_holes_at_the_border_and_no_holes(gravel):
    picture = gravel[:30, :30]
    assert np.array_equal(fill_holes(picture, np.zeros((30, 30), bool), SMALL), picture)
    holes = np.zeros((30, 30), bool)
    holes[:6, :5] = holes[-1, -1] = True
    filled = fill_holes(picture, holes, SMALL)
    assert np.array_equal(filled[~holes], picture[~holes]) and np.isfinite(filled).all()


def test_what_a_hole_held_does_not_matter(gravel):
    holes = np.zeros((30, 30), bool)
    holes[10:16, 10:16] = True
    first, second = (
        fill_holes(np.where(holes[..., None], np.float32(level), gravel[:30, :30]), holes, SMALL) for level in (0, 1)
    )
    assert np.array_equal(first, second)


def test_a_hole_that_leaves_no_window_is_refused(gravel):
    holes = np.ones((30, 30), bool)
    with pytest.raises(UsageError, match="no window of 7 px lies outside of the holes"):
        fill_holes(gravel[:30, :30], holes, SMALL)
    with pytest.raises(UsageError, match="the mask of holes is"):
        fill_holes(gravel[:30, :30], holes[:20], SMALL)

"""Seams, block search and quilting against slow references, and what must hold for every texture."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.graph import MCP

from impasto.errors import CancelledError, UsageError
from impasto.image.color import luminance
from impasto.texture.blocks import BlockSearch, draw_place
from impasto.texture.quilting import _Quilting, quilt, transfer
from impasto.texture.seams import seam, seam_cost
from impasto.texture.settings import QuiltingSettings, TransferSettings
from impasto.texture.tones import match_tones

SMALL = QuiltingSettings(block=24, attempts=2)
surfaces = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(0, 9, width=32))


def colors_of(picture):
    return set(map(tuple, picture.reshape(-1, picture.shape[2]).tolist()))


# --- seams -----------------------------------------------------------------------------------------------------------


@given(surfaces)
def test_no_path_is_cheaper_than_the_seam(surface):
    height, width = surface.shape
    paths = (
        path
        for path in itertools.product(range(width), repeat=height)
        if all(abs(a - b) <= 1 for a, b in itertools.pairwise(path))
    )
    best = min(seam_cost(surface, np.array(path)) for path in paths)
    found = seam(surface)
    assert np.abs(np.diff(found)).max(initial=0) <= 1
    assert seam_cost(surface, found) == pytest.approx(best, abs=1e-5)


def test_a_seam_costs_what_scikit_image_finds():
    """Its search for cheapest paths, with the same three steps: down, down left, down right."""
    surface = np.random.default_rng(0).random((40, 12)).astype(np.float32)
    search = MCP(surface.astype(np.float64), offsets=[(1, -1), (1, 0), (1, 1)])
    costs, _ = search.find_costs([(0, column) for column in range(12)])
    assert seam_cost(surface, seam(surface)) == pytest.approx(costs[-1].min(), rel=1e-6)
    assert costs[-1].min() < surface.sum(0).min()  # no straight cut is as cheap


def test_a_seam_follows_a_groove():
    surface = np.ones((20, 9), np.float32)
    groove = np.clip(4 + np.rint(3 * np.sin(np.arange(20) / 3)), 0, 8).astype(int)
    surface[np.arange(20), groove] = 0
    assert np.array_equal(seam(surface), groove)


# --- search ----------------------------------------------------------------------------------------------------------


def test_block_search_is_the_sum_of_squared_differences(coffee):
    generator = np.random.default_rng(1)
    template = generator.random((12, 9, 3)).astype(np.float32)
    mask = generator.random((12, 9)) < 0.4
    found = BlockSearch(coffee, (12, 9)).distances(template, mask)
    windows = np.lib.stride_tricks.sliding_window_view(coffee, (12, 9), axis=(0, 1))  # [h, w, C, 12, 9]
    gaps = windows.transpose(0, 1, 3, 4, 2).astype(np.float64) - template
    wanted = (gaps**2 * mask[..., None]).sum((2, 3, 4))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-4 * wanted.max()


def test_the_block_itself_is_found(coffee):
    errors = BlockSearch(coffee, (16, 16)).distances(coffee[31:47, 50:66], np.ones((16, 16), bool))
    assert draw_place(errors, 0.0, np.random.default_rng(0)) == (31, 50)


def test_places_are_drawn_from_the_tolerance_only():
    errors = np.array([[1.0, 1.05, 1.2], [1.1, 3.0, 1.0]], np.float32)
    generator = np.random.default_rng(0)
    drawn = {draw_place(errors, 0.11, generator) for _ in range(200)}
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 2)}


# --- quilting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (24, 24), (25, 60), (97, 50)])
def test_a_quilt_has_the_size_asked_for_and_the_samples_pixels(coffee, size):
    made = quilt(coffee, size, SMALL)
    assert made.shape == (*size, 3) and made.dtype == np.float32
    assert colors_of(made) <= colors_of(coffee)


def test_a_quilt_follows_its_seed(gravel):
    first, again, other = (quilt(gravel, (80, 70), SMALL, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_regular_texture_goes_on_without_a_fault(weave):
    """Whatever the phase, every pixel of a perfect continuation returns after two periods."""
    made = quilt(weave(64, 64, 8), (128, 128), QuiltingSettings(block=28))
    assert np.abs(made[16:] - made[:-16]).mean() < 0.01
    assert np.abs(made[:, 16:] - made[:, :-16]).mean() < 0.01


def test_seams_hide_the_blocks(gravel):
    """Steps between neighbours are no larger at the borders of blocks than in the sample; without seams they are."""
    settings = QuiltingSettings(block=32)
    made = quilt(gravel, (200, 200), settings)
    step = 32 - round(32 * settings.overlap)
    usual = np.abs(np.diff(gravel[..., 0], axis=1)).mean()
    borders = np.abs(np.diff(made[..., 0], axis=1))[:, step - 1 :: step].mean()
    generator = np.random.default_rng(0)
    places = [generator.integers(0, 64, 2) for _ in range(49)]
    chance = np.concatenate(
        [np.concatenate([gravel[y : y + 28, x : x + 28] for y, x in places[i * 7 : i * 7 + 7]], 1) for i in range(7)]
    )
    blocks = np.abs(np.diff(chance[..., 0], axis=1))[:, 27::28].mean()
    assert borders < 1.15 * usual < 0.8 * blocks


def test_more_attempts_have_better_seams(gravel, monkeypatch):
    """The error along all seams of the quilt that is returned: with eight tries a row at least a fifth less."""
    canvases = []
    with_row = _Quilting.with_row

    def watched(self, top, columns, generator):
        after = with_row(self, top, columns, generator)
        canvases.append(after.canvas)
        return after

    def error(attempts, seed):
        canvases.clear()
        settings = QuiltingSettings(block=32, attempts=attempts, tolerance=0.5)
        made = quilt(gravel, (120, 120), settings, seed=seed)
        return next(one.cost for one in canvases if np.array_equal(one.pixels[:120, :120], made))

    monkeypatch.setattr(_Quilting, "with_row", watched)
    single, several = (np.array([error(attempts, seed) for seed in range(4)]) for attempts in (1, 8))
    assert several.mean() < 0.8 * single.mean()


def test_variety_takes_from_more_of_the_sample(coffee):
    def covered(variety):
        made = quilt(coffee, (200, 200), QuiltingSettings(block=24, tolerance=0.0, variety=variety, attempts=1))
        return len(colors_of(made))

    assert covered(1.0) > 1.05 * covered(0.0)


def test_a_tile_repeats_without_a_seam(gravel):
    """Steps across the border are those of the inside; of an ordinary quilt they are those of strangers."""
    settings = QuiltingSettings(block=32)
    tile, plain = (quilt(gravel, (100, 90), settings, tileable=flag, seed=2) for flag in (True, False))

    def across(picture, axis):
        rolled = np.roll(picture, 1, axis)
        return np.abs(np.take(picture, 0, axis) - np.take(rolled, 0, axis)).mean()

    assert tile.shape == (100, 90, 3)
    for axis in (0, 1):
        inside = np.abs(np.diff(tile, axis=axis)).mean()
        assert across(tile, axis) < 1.4 * inside
        assert across(plain, axis) > 1.4 * inside


def test_a_tile_of_a_weave_is_exact(weave):
    tile = quilt(weave(96, 96, 8), (64, 64), QuiltingSettings(block=28), tileable=True)
    tiled = np.tile(tile, (2, 2, 1))
    assert np.abs(tiled[16:] - tiled[:-16]).mean() < 0.01


def test_a_picture_of_one_colour_stays_it():
    made = quilt(np.full((40, 40, 3), 0.25, np.float32), (70, 50), SMALL)
    assert np.array_equal(made, np.full((70, 50, 3), 0.25, np.float32))


@pytest.mark.parametrize("size", [(1, 1), (23, 80), (80, 23)])
def test_a_sample_smaller_than_a_block_is_refused(size):
    with pytest.raises(UsageError, match=f"smaller than a block of 24 px.*at most {min(size)}"):
        quilt(np.zeros((*size, 3), np.float32), (50, 50), SMALL)


def test_a_tile_smaller_than_a_block_is_refused(gravel):
    with pytest.raises(UsageError, match="a tile of 20 px"):
        quilt(gravel, (60, 20), SMALL, tileable=True)


def test_progress_is_told_and_can_stop_the_work(gravel):
    told = []
    quilt(gravel, (80, 80), SMALL, on_progress=told.append)
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1

    def stop(done):
        if done > 0.3:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        quilt(gravel, (80, 80), SMALL, on_progress=stop)


# --- transfer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portrait(photograph):
    return np.asarray(photograph, np.float32) / 255


def blurred_tones(picture):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(luminance(picture), 4)


def test_transfer_draws_the_picture_with_the_texture(coffee, portrait):
    drawn = transfer(coffee, portrait, TransferSettings(block=18, passes=2))
    assert drawn.shape == portrait.shape
    assert colors_of(drawn) <= colors_of(coffee)
    alike = np.corrcoef(blurred_tones(drawn).ravel(), blurred_tones(portrait).ravel())[0, 1]
    chance = quilt(coffee, portrait.shape[:2], QuiltingSettings(block=18))
    assert alike > 0.7 > np.corrcoef(blurred_tones(chance).ravel(), blurred_tones(portrait).ravel())[0, 1] + 0.3


def test_the_picture_counts_less_with_a_larger_alpha(coffee, portrait):
    def alike(alpha):
        settings = TransferSettings(block=18, passes=1, first_alpha=alpha)
        drawn = transfer(coffee, portrait, settings)
        return np.corrcoef(blurred_tones(drawn).ravel(), blurred_tones(portrait).ravel())[0, 1]

    assert alike(0.05) > alike(0.9) > alike(1.0)


def test_transfer_follows_its_seed_and_tells_progress(coffee, portrait):
    settings, told = TransferSettings(block=20, passes=2), []
    first = transfer(coffee, portrait[:41, :53], settings, seed=1, on_progress=told.append)
    again = transfer(coffee, portrait[:41, :53], settings, seed=1)
    assert first.shape == (41, 53, 3) and np.array_equal(first, again)
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


def test_transfer_onto_a_picture_of_one_colour_or_one_pixel(coffee):
    for size in ((1, 1), (30, 40)):
        drawn = transfer(coffee, np.full((*size, 3), 0.5, np.float32), TransferSettings(block=18, passes=2))
        assert drawn.shape == (*size, 3) and np.isfinite(drawn).all()


# --- tones -----------------------------------------------------------------------------------------------------------


def test_tones_are_the_references(gravel, coffee):
    values, reference = luminance(gravel), luminance(coffee)
    quantiles = np.linspace(0.02, 0.98, 25)
    matched = match_tones(values, reference)
    assert np.abs(np.quantile(matched, quantiles) - np.quantile(reference, quantiles)).max() < 0.02
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(matched.ravel()[order]) >= -1e-6).all()  # never turns light and dark around
    moved = match_tones(values, reference, 0.0)
    assert (moved.mean(), moved.std()) == pytest.approx((reference.mean(), reference.std()), abs=1e-4)


def test_tones_of_a_constant_map():
    reference = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    nearly = np.float32(0.9) + np.random.default_rng(0).normal(0, 1e-7, (5, 5)).astype(np.float32)
    for amount in (0.0, 0.5, 1.0):
        for values in (np.full((5, 5), 0.9, np.float32), nearly):  # rounding is no tone
            assert np.allclose(match_tones(values, reference, amount), 0.5, atol=0.01)

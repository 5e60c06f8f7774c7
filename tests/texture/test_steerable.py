"""Portilla-Simoncelli: the synthesised picture has the sample's statistics."""

import numpy as np
import pytest

from impasto.errors import CancelledError, UsageError
from impasto.image.color import luminance
from impasto.texture.settings import PortillaSimoncelliSettings

torch = pytest.importorskip("torch")
pytest.importorskip("plenoptic")

from impasto.texture.steerable import synthesize_statistics, texture_statistics  # noqa: E402

SMALL = PortillaSimoncelliSettings(scales=2, orientations=4, neighborhood=5, iterations=30)


def statistics(picture):
    plane = luminance(picture)
    scaled = torch.from_numpy((plane - plane.mean()) / plane.std()).double()
    return texture_statistics(scaled, SMALL)


def test_statistics_move_to_the_samples(gravel):
    sample = gravel[:64, :64]
    made = synthesize_statistics(sample, (64, 64), SMALL, seed=1)
    noise = np.random.default_rng(0).permutation(sample.reshape(-1, 3)).reshape(sample.shape)  # the same histogram
    wanted = statistics(sample)
    before, after = (float((statistics(one) - wanted).norm()) for one in (noise, made))
    assert after < 0.1 * before
    assert made.shape == (64, 64, 3) and made.min() >= 0 and made.max() <= 1


def test_the_result_has_the_size_and_the_tones_asked_for(gravel):
    settings = PortillaSimoncelliSettings(scales=2, neighborhood=5, iterations=10)
    made = synthesize_statistics(gravel[:41, :53], (70, 33), settings)
    assert made.shape == (70, 33, 3)
    quantiles = np.linspace(0.1, 0.9, 9)
    gaps = np.quantile(luminance(made), quantiles) - np.quantile(luminance(gravel[:40, :52]), quantiles)
    assert np.abs(gaps).max() < 0.05


def test_colours_follow_the_tones(coffee):
    settings = PortillaSimoncelliSettings(scales=2, neighborhood=5, iterations=10)
    made = synthesize_statistics(coffee, (64, 64), settings)
    assert np.abs(made.mean((0, 1)) - coffee.mean((0, 1))).max() < 0.03


def test_it_follows_its_seed(gravel):
    settings = PortillaSimoncelliSettings(scales=2, neighborhood=5, iterations=10)
    first, again, other = (synthesize_statistics(gravel[:32, :32], (32, 32), settings, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_sample_of_one_colour_gives_it():
    sample = np.broadcast_to(np.array([0.2, 0.4, 0.6], np.float32), (32, 32, 3)).copy()
    made = synthesize_statistics(sample, (30, 50), SMALL)
    assert made.shape == (30, 50, 3) and np.allclose(made, [0.2, 0.4, 0.6], atol=1e-6)


def test_a_sample_that_the_pyramid_cannot_hold_is_refused(gravel):
    with pytest.raises(UsageError, match="need at least 144 px"):
        synthesize_statistics(gravel, (64, 64), PortillaSimoncelliSettings())


def test_progress_can_stop_the_work(gravel):
    def stop(done):
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        synthesize_statistics(gravel[:32, :32], (32, 32), SMALL, on_progress=stop)

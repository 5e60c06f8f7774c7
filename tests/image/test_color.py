import numpy as np
import pytest

from impasto.errors import UsageError
from impasto.image import luminance, match_color_statistics, preserve_luminance_only, resize
from impasto.image.color import LUMA_WEIGHTS


def _noise(seed, shape):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _statistics(pixels):
    flat = pixels.reshape(-1, 3).astype(np.float64)
    return flat.mean(axis=0), np.cov(flat.T, bias=True)


def test_luma_weights_sum_to_one():
    assert LUMA_WEIGHTS.sum() == pytest.approx(1)
    assert luminance(np.full((2, 3, 3), 0.4, np.float32)) == pytest.approx(0.4)


def test_luminance_only_keeps_painted_luma_and_content_chroma():
    content, painted = _noise(0, (7, 5, 3)), _noise(1, (7, 5, 3))
    mixed = preserve_luminance_only(content, painted)
    assert luminance(mixed) == pytest.approx(luminance(painted), abs=1e-6)
    chroma = content - luminance(content)[..., None]
    assert mixed - luminance(mixed)[..., None] == pytest.approx(chroma, abs=1e-6)
    assert preserve_luminance_only(content, content) == pytest.approx(content)


def test_luminance_only_refuses_other_sizes():
    with pytest.raises(UsageError, match="differ in size"):
        preserve_luminance_only(_noise(0, (4, 5, 3)), _noise(0, (5, 4, 3)))


def test_statistics_are_matched():
    mixing = np.array([[0.5, 0.3, 0.1], [0.1, 0.3, 0.2], [0.0, 0.1, 0.4]], np.float32)
    style, content = _noise(2, (40, 31, 3)) @ mixing, _noise(3, (23, 50, 3)) ** 2
    mean, covariance = _statistics(match_color_statistics(style, content))
    wanted_mean, wanted_covariance = _statistics(content)
    assert mean == pytest.approx(wanted_mean, abs=1e-5)
    assert covariance == pytest.approx(wanted_covariance, abs=1e-5)


def test_statistics_of_itself_change_nothing():
    style = _noise(4, (20, 20, 3))
    assert match_color_statistics(style, style) == pytest.approx(style, abs=1e-4)


@pytest.mark.parametrize("constant", ["style", "content", "both"])
def test_statistics_of_constant_pictures(constant):
    flat = np.full((9, 9, 3), [0.2, 0.5, 0.7], np.float32)
    style = flat if constant in ("style", "both") else _noise(5, (9, 9, 3))
    content = flat + 0.1 if constant in ("content", "both") else _noise(6, (9, 9, 3))
    matched = match_color_statistics(style, content)
    assert np.isfinite(matched).all()
    assert _statistics(matched)[0] == pytest.approx(_statistics(content)[0], abs=1e-5)


def test_rounding_noise_is_not_stretched():
    grey = np.repeat(_noise(7, (30, 30, 1)), 3, axis=2)
    matched = match_color_statistics(np.rint(grey * 255).astype(np.float32) / 255, _noise(8, (30, 30, 3)))
    assert np.abs(matched).max() < 3


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (64, 5), (17, 13)])
def test_resize_shapes_and_constants(size):
    assert resize(np.full((17, 13, 3), 0.3, np.float32), size) == pytest.approx(np.full((*size, 3), 0.3))
    assert resize(np.full((17, 13), 0.3, np.float32), size).shape == size


def test_resize_keeps_the_mean_and_refuses_nothing_sides():
    pixels = _noise(9, (64, 64, 3))
    smaller = resize(pixels, (16, 16))
    assert smaller.dtype == np.float32
    assert smaller.mean() == pytest.approx(pixels.mean(), abs=0.01)
    same = resize(pixels, (64, 64))
    assert (same == pixels).all() and same is not pixels
    with pytest.raises(UsageError, match="at least 1"):
        resize(pixels, (0, 4))

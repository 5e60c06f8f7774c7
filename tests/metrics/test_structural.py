"""SSIM and MS-SSIM against scikit-image and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity

from impasto.errors import UsageError
from impasto.metrics.structural import WINDOW, diversity, ms_ssim, ssim

EXACT = 1e-9  # against scikit-image, in double precision
BORDER = 2e-3  # against torchmetrics, which counts mirrored windows beyond the border at the coarsest scale
SCIKIT = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def batch(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


@pytest.fixture(scope="session")
def pictures(natural):
    """Pairs of pictures of a size: alike, darker, another motif, the negative."""

    def make(size):
        first = natural("astronaut.png", size).astype(np.float64)
        grain = np.random.default_rng(3).normal(0, 0.1, first.shape)
        return {
            "noisy": (first, np.clip(first + grain, 0, 1)),
            "darker": (first, first * 0.6),
            "another": (first, natural("coffee.png", size).astype(np.float64)),
            "negative": (first, 1 - first),
        }

    return make


@pytest.mark.parametrize("name", ["noisy", "darker", "another", "negative"])
@pytest.mark.parametrize("size", [(96, 96), (61, 107), (WINDOW, 40)])
def test_ssim_is_that_of_scikit_image(pictures, name, size):
    first, second = pictures(size)[name]
    expected = structural_similarity(first, second, channel_axis=2, **SCIKIT)
    assert ssim(first, second) == pytest.approx(expected, abs=EXACT)
    grey = structural_similarity(first[..., 1], second[..., 1], **SCIKIT)
    assert ssim(first[..., 1], second[..., 1]) == pytest.approx(grey, abs=EXACT)


@pytest.mark.parametrize("name", ["noisy", "darker", "another", "negative"])
@pytest.mark.parametrize("size", [(192, 192), (181, 203)])
def test_ms_ssim_is_that_of_torchmetrics(pictures, name, size):
    functional = pytest.importorskip("torchmetrics.functional.image")
    whole = functional.multiscale_structural_similarity_index_measure
    first, second = pictures(size)[name]
    expected = whole(batch(first), batch(second), data_range=1.0, normalize="relu")
    assert ms_ssim(first, second) == pytest.approx(float(expected), abs=BORDER)


@pytest.mark.parametrize("name", ["noisy", "darker"])
def test_ms_ssim_is_exact_where_torchmetrics_leaves_its_border_out(pictures, name):
    """Its contrast terms, with scikit-image's SSIM of windows inside at the coarsest scale."""
    terms = pytest.importorskip("torchmetrics.functional.image.ssim")._ssim_update
    from torch.nn.functional import avg_pool2d

    pair = tuple(batch(one) for one in pictures((192, 208))[name])
    product = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        product *= float(terms(*pair, data_range=1.0, return_contrast_sensitivity=True)[1]) ** weight
        pair = tuple(avg_pool2d(one, 2) for one in pair)
    coarse = (one[0].permute(1, 2, 0).numpy() for one in pair)
    product *= structural_similarity(*coarse, channel_axis=2, **SCIKIT) ** 0.1333
    assert ms_ssim(*pictures((192, 208))[name]) == pytest.approx(product, abs=EXACT)


planes = arrays(np.float64, (16, 18), elements=st.floats(0, 1, width=32))


@given(planes, planes)
def test_ranges_identity_and_symmetry(first, second):
    assert ssim(first, first) == pytest.approx(1.0, abs=1e-9)
    assert ms_ssim(first, first) == pytest.approx(1.0, abs=1e-9)
    assert ssim(first, second) == pytest.approx(ssim(second, first), abs=1e-12)
    assert ms_ssim(first, second) == pytest.approx(ms_ssim(second, first), abs=1e-12)
    assert -1 <= ssim(first, second) <= 1 and 0 <= ms_ssim(first, second) <= 1


@pytest.mark.parametrize("side", [WINDOW, 30, 60, 120, 175])
def test_small_pictures_are_compared_at_fewer_scales(pictures, side):
    first, second = pictures((side, side))["noisy"]
    assert 0 < ms_ssim(first, second) < 1
    if side == WINDOW:
        assert ms_ssim(first, second) == pytest.approx(ssim(first, second), abs=1e-4)


def test_constant_pictures_have_values():
    black, white = np.zeros((20, 20, 3)), np.ones((20, 20, 3))
    assert ssim(black, black) == 1.0
    assert ssim(black, white) == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-9)  # eq. 13 by hand
    assert np.isfinite(ms_ssim(black, white))


def test_diversity_is_zero_for_equal_pictures_and_grows(pictures):
    first, second = pictures((64, 64))["noisy"]
    assert diversity([first, first, first]) == pytest.approx(0.0, abs=1e-9)
    two = 1 - ssim(first, second)
    assert diversity([first, second]) == pytest.approx(two)
    assert diversity([first, first, second]) == pytest.approx(two * 2 / 3)


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_what_cannot_be_compared_is_refused(measure):
    with pytest.raises(UsageError, match="one shape"):
        measure(np.zeros((20, 20)), np.zeros((20, 21)))
    with pytest.raises(UsageError, match="11 pixels"):
        measure(np.zeros((10, 20)), np.zeros((10, 20)))
    with pytest.raises(UsageError, match="not 1"):
        diversity([np.zeros((20, 20))])

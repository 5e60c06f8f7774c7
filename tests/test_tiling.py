import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.ops.tiling import pad_to_multiple, plan_tiles, quantised, to_float

sides = st.integers(1, 700)


@given(sides, sides, st.integers(8, 300), st.integers(0, 90))
def test_tiles_cover_every_pixel_once_aligned_and_no_larger_than_asked(height, width, tile, halo):
    covered = np.zeros((height, width), int)
    for part in plan_tiles(height, width, tile=tile, halo=halo):
        covered[part.core] += 1
        assert part.top % 8 == part.left % 8 == 0
        assert max(part.height, part.width) <= tile + 7
    assert (covered == 1).all()


@given(sides, sides, st.integers(8, 300), st.integers(0, 90))
def test_a_halo_surrounds_the_core_and_is_cut_at_the_picture(height, width, tile, halo):
    rows, columns = np.arange(height), np.arange(width)
    for part in plan_tiles(height, width, tile=tile, halo=halo):
        for whole, outer, core, begin, length in (
            (rows, part.outer[0], part.inner[0], part.top, part.height),
            (columns, part.outer[1], part.inner[1], part.left, part.width),
        ):
            seen = whole[outer]
            assert seen[0] == max(0, begin - halo)
            assert seen[-1] == min(len(whole), begin + length + halo) - 1
            assert np.array_equal(seen[core], np.arange(begin, begin + length))


def test_a_small_picture_is_one_tile():
    (tile,) = plan_tiles(30, 50, tile=256, halo=88)
    assert tile.core == tile.outer == tile.inner == (slice(0, 30), slice(0, 50))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 1), (3, 5), (64, 48), (61, 50)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_padding_reaches_a_multiple_and_keeps_the_picture_inside(size, channels):
    picture = np.random.default_rng(0).random((*size, *channels), np.float32)
    padded, inside = pad_to_multiple(picture, 16, 8)
    assert padded.shape[0] % 8 == padded.shape[1] % 8 == 0
    assert padded.shape[2:] == channels
    assert all(0 <= padded.shape[i] - size[i] - 32 < 8 for i in (0, 1))
    assert np.array_equal(padded[inside], picture)


def test_padding_reflects():
    padded, _ = pad_to_multiple(np.arange(5, dtype=np.float32)[None], 2, 1)
    assert np.array_equal(padded[2], [1, 0, 0, 1, 2, 3, 4, 4, 3])


def test_padding_of_one_pixel_repeats_it():
    padded, _ = pad_to_multiple(np.full((1, 1, 3), 0.25, np.float32), 16, 8)
    assert padded.shape == (40, 40, 3) and (padded == 0.25).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_survives_the_way_to_float_and_back(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    floats = to_float(values)
    assert floats.dtype == np.float32
    assert floats[0] == 0 and floats[-1] == pytest.approx(1, abs=1e-7)
    assert np.array_equal(quantised(floats, dtype), values)


def test_floats_are_rounded_to_the_nearest_and_clipped():
    floats = np.array([-0.5, 0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1, 7], np.float32)
    assert quantised(floats, np.uint8).tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert quantised(floats, np.uint16)[-1] == 65535
    assert quantised(floats, np.float32).tolist() == np.clip(floats, 0, 1).tolist()

"""The engine ``quilt``: what is special to it; the contract of all engines is tested elsewhere."""

import numpy as np
import pytest

from impasto.config import StylizeConfig
from impasto.engines import engine_options, engine_spec, load_engine
from impasto.engines.quilt_options import QuiltOptions
from impasto.errors import CancelledError, FieldError, UnknownNameError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.ops.tiling import to_float

pytest.importorskip("numba")

QUICK = StylizeConfig(options={"iterations": 1})


@pytest.fixture(scope="module")
def engine():
    return load_engine("quilt")


@pytest.fixture(scope="module")
def codes(engine, artworks):
    return [engine.encode(to_float(one), name=name, config=QUICK) for one, name in zip(artworks, "ab", strict=True)]


@pytest.fixture(scope="module")
def whole(engine, codes, photograph):
    return engine.render(photograph, StyleField.constant(codes[0]), QUICK)


def test_the_registry_tells_the_truth():
    spec = engine_spec("quilt")
    assert spec.capabilities.slow and spec.capabilities.chance and spec.capabilities.field
    assert engine_options("quilt", {"patch": "7", "uniformity": "2"}) == QuiltOptions(patch=7, uniformity=2.0)
    with pytest.raises(UnknownNameError, match="did you mean iterations"):
        engine_options("quilt", {"iteration": 3})


def test_a_code_holds_the_picture_and_survives_a_file(engine, codes, artworks, photograph, whole, tmp_path):
    assert np.array_equal(codes[0].parts["picture"], artworks[0])
    codes[0].save(tmp_path / "stars.npz")
    loaded = StyleCode.load(tmp_path / "stars.npz")
    assert np.array_equal(engine.render(photograph, StyleField.constant(loaded), QUICK), whole)


def test_a_huge_style_is_kept_smaller(engine):
    code = engine.encode(np.zeros((30, 4096, 3), np.float32), name="long", config=QUICK)
    assert code.parts["picture"].shape == (15, 2048, 3)


def test_a_code_without_a_picture_is_refused(engine, codes, photograph):
    code = StyleCode(codes[0].vector, "quilt", engine.identity, "bare")
    with pytest.raises(FieldError, match="'bare' holds no picture"):
        engine.render(photograph, StyleField.constant(code), QUICK)


def test_seeds_give_different_paintings_of_the_same_thing(engine, codes, photograph):
    first, second = (
        engine.render(photograph, StyleField.constant(codes[1]), StylizeConfig(seed=seed, options={"iterations": 1}))
        for seed in (0, 1)
    )
    assert not np.array_equal(first, second)
    assert np.corrcoef(first.mean(2).ravel(), second.mean(2).ravel())[0, 1] > 0.8


def test_options_reach_the_method(engine, codes, photograph, whole):
    for options in ({"patch": 7}, {"structure": 3.0}, {"hue": 0.0}, {"tones": 1.0}, {"uniformity": 5.0}):
        config = StylizeConfig(options={"iterations": 1} | options)
        assert not np.array_equal(engine.render(photograph, StyleField.constant(codes[0]), config), whole), options
    with pytest.raises(UsageError, match="patch must be odd"):
        engine.render(photograph, StyleField.constant(codes[0]), StylizeConfig(options={"patch": 6}))


def test_a_region_holds_its_own_styles_colours(engine, photograph):
    """Nothing of one style comes into the other's region, but for a patch's width."""
    red, blue = (
        engine.encode(np.broadcast_to(np.array(color, np.float32), (20, 20, 3)), name=name, config=QUICK)
        for color, name in (([1, 0, 0], "red"), ([0, 0, 1], "blue"))
    )
    mask = np.zeros(photograph.shape[:2], np.float32)
    mask[:, 50:] = 1
    painted = engine.render(photograph, StyleField((StyleLayer(red, 1 - mask), StyleLayer(blue, mask))), QUICK)
    assert (painted[:, :46] == [255, 0, 0]).all() and (painted[:, 54:] == [0, 0, 255]).all()


def test_a_mix_has_patches_of_both(engine, codes, photograph, whole):
    other = engine.render(photograph, StyleField.constant(codes[1]), QUICK)
    mixed = engine.render(photograph, StyleField.mixed(codes), QUICK)
    nearer = np.abs(mixed.astype(int) - whole).sum(2) < np.abs(mixed.astype(int) - other).sum(2)
    assert 0.3 < nearer.mean() < 0.7


def test_progress_shows_growing_previews(engine, codes, photograph):
    told = []
    engine.render(photograph, StyleField.constant(codes[0]), QUICK, told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[0].done, told[-1].done) == (0, 1)
    steps = [one for one in told if one.preview is not None]
    assert [one.step for one in steps] == list(range(1, steps[0].steps + 1))
    shapes = [one.preview().shape for one in steps]
    assert shapes == sorted(shapes) and shapes[0] < shapes[-1] == (96, 96, 3)
    assert "scale 1 of 3" in steps[0].message
    last = steps[-1].preview()
    assert last.dtype == np.float32 and 0 <= last.min() <= last.max() <= 1


def test_an_exception_in_the_callback_stops_it(engine, codes, photograph):
    told = []

    def stop(progress):
        told.append(progress)
        if progress.step == 2:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        engine.render(photograph, StyleField.constant(codes[0]), QUICK, stop)
    assert told[-1].step == 2


def test_estimates_grow_with_the_work(engine, codes):
    field = StyleField.constant(codes[0])
    small = engine.estimate((256, 256), field, StylizeConfig())
    large = engine.estimate((1024, 1024), field, StylizeConfig())
    long = engine.estimate((256, 256), field, StylizeConfig(options={"iterations": 12}))
    assert 0 < small.seconds < large.seconds / 6 and small.memory < large.memory < 16 * small.memory
    assert long.seconds > 2 * small.seconds and long.memory == small.memory


def test_an_estimate_is_what_the_documentation_says():
    """``docs/quilt.md``: iterations by scale are n, n + 1, ... and 2 n, each scale a quarter of the one before."""
    from impasto.texture.guided import plan_steps

    plan = plan_steps((512, 512), [(512, 512)], QuiltOptions())
    assert [count for _, count in plan] == [6, 4, 4, 4, 3]
    assert sum(height * width * count for (height, width), count in plan) == pytest.approx(4.34 * 512**2, rel=1e-2)


def test_larger_strokes_are_coarser(engine, photograph):
    """A checkered style: its fields get as large as the scale says."""
    y, x = np.mgrid[0:96, 0:96]
    checks = np.repeat((((y // 3 + x // 3) % 2) * 0.8 + 0.1)[..., None], 3, axis=2).astype(np.float32)
    code = engine.encode(checks, name="checks", config=QUICK)
    grey = np.full((96, 96, 3), 128, np.uint8)

    def steps(scale):
        config = StylizeConfig(style_scale=scale, options={"iterations": 2})
        painted = engine.render(grey, StyleField.constant(code), config).astype(float)
        return np.abs(np.diff(painted[..., 0], axis=1)).mean()

    assert steps(1.0) > 1.5 * steps(2.0)

"""What every engine of the registry keeps, whatever its method; a new row in the registry is tested from here."""

import hashlib
import json
import math
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from impasto.config import COLOR_MODES, StylizeConfig
from impasto.engines import ENGINES, Engine, engine_options, engine_spec, load_engine, options_type
from impasto.errors import FieldError, MissingExtraError, UnknownNameError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image.color import luminance
from impasto.ops.tiling import quantised, to_float
from impasto.weights import load_card, read_weights, weights_folder

PLAIN = StylizeConfig()
CHEAP = {  # settings with which slow engines paint a small picture in a moment
    "diffusion": {"steps": 2, "guidance": 1.0},
    "gatys": {"iterations": 3, "smallest": 128},
    "latent": {"steps": 2, "enlarge_to": 32, "reduce_to": 128},
    "quilt": {"iterations": 1},
}


class Cheap:
    """An engine with its cheap settings put into every configuration."""

    def __init__(self, engine):
        self.engine = engine
        self.name = engine.name
        self.identity = engine.identity
        self.presets = engine.presets

    def _config(self, config):
        return replace(config, options=CHEAP.get(self.name, {}) | dict(config.options))

    def encode(self, style, *, name, config):
        return self.engine.encode(style, name=name, config=self._config(config))

    def estimate(self, size, field, config):
        return self.engine.estimate(size, field, self._config(config))

    def render(self, content, field, config, on_progress=None):
        return self.engine.render(content, field, self._config(config), on_progress)


class Stopped(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module", params=ENGINES)
def spec(request):
    return engine_spec(request.param)


@pytest.fixture(scope="module")
def engine(spec, request):
    try:
        loaded = load_engine(spec.name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        if spec.name == "latent":  # it needs a model
            patch.setenv("IMPASTO_LATENT_MODEL", str(request.getfixturevalue("tiny_sd")))
        yield Cheap(loaded)


@pytest.fixture
def fast(spec):
    """Finer properties, which a few iterations of a slow engine do not show; its own tests have them."""
    if spec.capabilities.slow:
        pytest.skip("it is slow")


@pytest.fixture
def vectors(codes):
    """Codes that are vectors and nothing else."""
    if codes[0].parts:
        pytest.skip("its codes are more than vectors")


@pytest.fixture
def pictures(spec):
    """Engines that take any picture as a style."""
    if not spec.capabilities.pictures:
        pytest.skip("its styles are trained")


@pytest.fixture(scope="module")
def codes(engine, spec, artworks, request, tmp_path_factory):
    """Codes of two different pictures, or of two installed styles for an engine whose styles are trained."""
    if not spec.capabilities.pictures:
        home = tmp_path_factory.mktemp("home")
        shutil.copytree(request.getfixturevalue("trained"), home / "styles")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IMPASTO_HOME", str(home))
            first, second = list(engine.presets().values())[-2:]
        return replace(first, name="stars"), replace(second, name="crockery")
    first, second = (to_float(artwork) for artwork in artworks)
    return (
        engine.encode(first, name="stars", config=PLAIN),
        engine.encode(second, name="crockery", config=PLAIN),
    )


@pytest.fixture(scope="module")
def whole(engine, codes, photograph):
    """The photograph painted fully in the first style."""
    return engine.render(photograph, StyleField.constant(codes[0]), PLAIN)


def distance(first, second):
    """Mean absolute difference of uint8 pictures, in levels."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def largest(first, second):
    return int(np.abs(first.astype(int) - second.astype(int)).max())


# --- the engine and its card -----------------------------------------------------------------------------------------


def test_it_is_what_the_registry_says(engine, spec):
    assert isinstance(engine, Engine)
    assert engine.name == spec.name
    assert len(engine.identity) == 16 and int(engine.identity, 16) >= 0


def test_the_registry_answers_a_wrong_name_with_near_ones(spec):
    with pytest.raises(UnknownNameError, match=f"did you mean .*{spec.name}"):
        engine_spec(spec.name + "s")


def test_the_card_is_true_of_the_files(spec, engine):
    if not spec.card:
        pytest.skip("it has no weights")
    card = load_card(spec.card)
    assert card.identity == engine.identity
    for kind, file in card.files.items():
        content = (weights_folder() / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256), kind
        assert read_weights(card, kind) == content
    for fact in ("summary", "code_license", "weights_license", "data_license", "training_data", "recipe", "tolerance"):
        assert card.facts[fact].strip(), fact
    assert card.facts["name"] == spec.card
    assert card.facts["steps"] > 0


def test_the_card_counts_the_parameters(spec):
    if not spec.card:
        pytest.skip("it has no weights")
    card = load_card(spec.card)
    content = read_weights(card, "training" if "training" in card.files else "net")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    counts = dict.fromkeys(card.facts["parameters"], 0)
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[name.partition(".")[0]] += math.prod(tensor["shape"])
    assert counts == card.facts["parameters"]


def test_all_embedded_files_stay_below_54_megabytes():
    assert sum(path.stat().st_size for path in weights_folder().iterdir() if path.is_file()) < 54e6


# --- codes -----------------------------------------------------------------------------------------------------------


def test_a_code_names_its_maker_and_survives_a_file_exactly(engine, codes, tmp_path):
    code = codes[0]
    assert (code.engine, code.weights, code.name) == (engine.name, engine.identity, "stars")
    code.save(tmp_path / "code.npz")
    assert np.array_equal(StyleCode.load(tmp_path / "code.npz").vector, code.vector)


@pytest.mark.usefixtures("pictures")
def test_encoding_is_repeatable_and_tells_pictures_apart(engine, codes, artworks):
    again = engine.encode(to_float(artworks[0]), name="again", config=PLAIN)
    assert np.array_equal(again.vector, codes[0].vector)
    assert not np.allclose(codes[0].vector, codes[1].vector, atol=0.05)


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (17, 23)])
def test_a_style_picture_may_have_any_size(engine, artworks, size):
    small = np.asarray(Image.fromarray(artworks[1]).resize(size[::-1]))
    assert np.isfinite(engine.encode(to_float(small), name="small", config=PLAIN).vector).all()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_style_scale_changes_the_painting_and_not_its_size(engine, codes, photograph, whole, scale):
    painted = engine.render(photograph, StyleField.constant(codes[0]), StylizeConfig(style_scale=scale))
    assert painted.shape == photograph.shape and painted.dtype == photograph.dtype
    assert distance(painted, whole) > 0.5


def test_a_style_scale_leaves_what_the_mask_leaves_out(engine, codes, photograph):
    mask = np.zeros(photograph.shape[:2], np.float32)
    mask[:, : photograph.shape[1] // 2] = 1
    painted = engine.render(photograph, StyleField.constant(codes[0]).times(mask), StylizeConfig(style_scale=2.0))
    assert np.array_equal(painted[mask == 0], photograph[mask == 0])
    assert not np.array_equal(painted[mask == 1], photograph[mask == 1])


@pytest.mark.parametrize("change", [{"weights": "0" * 16}, {"engine": "other"}, {"vector": np.ones(3, np.float32)}])
def test_a_code_that_is_not_its_own_is_refused_by_name(engine, codes, photograph, change):
    with pytest.raises(FieldError, match="'stars'"):
        engine.render(photograph, StyleField.constant(replace(codes[0], **change)), PLAIN)


def test_maps_of_another_size_are_refused(engine, codes, photograph):
    field = StyleField((StyleLayer(codes[0], np.ones((96, 95))),))
    with pytest.raises(FieldError, match=r"maps are \(96, 95\), the picture is \(96, 96\)"):
        engine.render(photograph, field, PLAIN)


# --- every picture ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (53, 1), (2, 3), (7, 5), (33, 47), (96, 61)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_painting_has_the_pictures_size_and_type(engine, codes, photograph, size, dtype):
    content = quantised(to_float(photograph[: size[0], : size[1]]), dtype)
    kept = content.copy()
    painted = engine.render(content, StyleField.constant(codes[0]), PLAIN)
    assert painted.shape == (*size, 3) and painted.dtype == dtype
    assert np.isfinite(painted).all()
    assert to_float(painted).min() >= 0 and to_float(painted).max() <= 1
    assert np.array_equal(content, kept)  # the photograph itself is left alone


@pytest.mark.parametrize("mode", COLOR_MODES)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_picture_of_one_colour_is_painted_without_nan(engine, codes, level, mode):
    painted = engine.render(
        np.full((40, 40, 3), level, np.float32), StyleField.constant(codes[0]), StylizeConfig(preserve_color=mode)
    )
    assert np.isfinite(painted).all()


def test_it_paints_the_same_twice(engine, codes, photograph, whole):
    assert np.array_equal(engine.render(photograph, StyleField.constant(codes[0]), PLAIN), whole)


@pytest.mark.usefixtures("fast")
def test_16_bits_give_what_8_bits_give(engine, codes, photograph, whole):
    deep = engine.render(photograph.astype(np.uint16) * 257, StyleField.constant(codes[0]), PLAIN)
    assert np.abs(to_float(deep) - to_float(whole)).max() < 1 / 255
    assert len(np.unique(deep)) > 256  # and more than 8 bits come out


# --- strength and masks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("mode", COLOR_MODES)
def test_strength_0_gives_the_photograph_bit_for_bit(engine, codes, photograph, dtype, mode):
    content = quantised(to_float(photograph), dtype)
    config = StylizeConfig(preserve_color=mode)
    for weight in (0.0, np.zeros(content.shape[:2], np.float32)):
        painted = engine.render(content, StyleField((StyleLayer(codes[0], weight),)), config)
        assert np.array_equal(painted, content)
    assert np.array_equal(engine.render(content, StyleField(()), config), content)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("mode", COLOR_MODES)
def test_what_a_mask_leaves_out_is_untouched_bit_for_bit(engine, codes, photograph, dtype, mode):
    content = quantised(to_float(photograph), dtype)
    mask = np.zeros(content.shape[:2], np.float32)
    mask[20:70, 31:] = 1
    painted = engine.render(
        content, StyleField.constant(codes[0]).times(mask), StylizeConfig(preserve_color=mode, tile=256)
    )
    assert np.array_equal(painted[mask == 0], content[mask == 0])
    assert not np.array_equal(painted[mask == 1], content[mask == 1])


@pytest.mark.usefixtures("fast")
def test_the_painting_moves_away_from_the_photograph_with_the_strength(engine, codes, photograph):
    for code in codes:
        distances = [
            distance(engine.render(photograph, StyleField.constant(code, strength), PLAIN), photograph)
            for strength in np.linspace(0, 1, 5)
        ]
        assert distances[0] == 0
        assert distances == sorted(distances)
        assert distances[-1] > distances[1] > 1


# --- several styles --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
def test_a_style_of_weight_0_has_no_say(engine, codes, photograph, whole):
    painted = engine.render(photograph, StyleField.mixed(codes, [1, 0]), PLAIN)
    assert largest(painted, whole) <= 1


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_a_mix_lies_between_its_styles(engine, codes, photograph, whole, mode):
    config = StylizeConfig(mix_mode=mode)
    other = engine.render(photograph, StyleField.constant(codes[1]), config)
    mixes = [engine.render(photograph, StyleField.mixed(codes, [1 - t, t]), config) for t in (0.25, 0.5, 0.75)]
    away = [distance(mix, whole) for mix in (whole, *mixes, other)]
    assert away == sorted(away)
    back = [distance(mix, other) for mix in (whole, *mixes, other)]
    assert back == sorted(back, reverse=True)


@pytest.mark.usefixtures("vectors")
def test_mixing_along_the_sphere_is_another_mix(engine, codes, photograph):
    field = StyleField.mixed(codes)
    straight, round_ = (
        engine.render(photograph, one, StylizeConfig(mix_mode=mode))
        for one, mode in ((field, "linear"), (field, "slerp"))
    )
    assert distance(straight, round_) > 0.2
    mask = np.ones(photograph.shape[:2], np.float32)
    masked = engine.render(photograph, field.times(mask), StylizeConfig(mix_mode="slerp"))
    assert largest(masked, round_) <= 1  # with a mask too


@pytest.mark.usefixtures("fast")
def test_a_map_of_one_value_is_that_weight(engine, codes, photograph):
    weights = np.full(photograph.shape[:2], 0.5, np.float32)
    by_number = engine.render(photograph, StyleField.mixed(codes), PLAIN)
    by_map = engine.render(photograph, StyleField(tuple(StyleLayer(code, weights) for code in codes)), PLAIN)
    one_of_each = StyleField((StyleLayer(codes[0], 0.5), StyleLayer(codes[1], weights)))
    assert largest(by_map, by_number) <= 1
    assert largest(engine.render(photograph, one_of_each, PLAIN), by_number) <= 1


@pytest.mark.usefixtures("fast")
def test_a_number_and_a_hard_mask_fit_together_on_a_large_picture(engine, codes, photograph):
    """The maps are also seen reduced, where a filter may lift their sum above 1."""
    content = np.tile(photograph, (9, 9, 1))
    mask = np.zeros(content.shape[:2], np.float32)
    mask[200:500, 300:] = 0.5
    field = StyleField((StyleLayer(codes[0], 0.5), StyleLayer(codes[1], mask)))
    painted = engine.render(content, field, StylizeConfig(tile=512))
    assert painted.shape == content.shape


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
def test_luminance_keeps_the_photographs_chroma(engine, codes, photograph, whole):
    content = quantised(to_float(photograph), np.float32)
    painted = engine.render(content, StyleField.constant(codes[0]), StylizeConfig(preserve_color="luminance"))
    inside = (painted > 0.001).all(2) & (painted < 0.999).all(2)  # clipping changes chroma
    chroma = [picture - luminance(picture)[..., None] for picture in (content, painted, to_float(whole))]
    assert inside.mean() > 0.3
    assert np.abs(chroma[1] - chroma[0])[inside].max() < 1e-5
    assert np.abs(chroma[2] - chroma[0])[inside].max() > 0.05  # which plain painting does not


@pytest.mark.usefixtures("fast")
def test_statistics_move_the_colours_to_the_photographs(engine, codes, photograph, whole):
    painted = engine.render(photograph, StyleField.constant(codes[0]), StylizeConfig(preserve_color="statistics"))
    wanted, plain, moved = (to_float(picture).reshape(-1, 3) for picture in (photograph, whole, painted))
    for moment in (lambda pixels: pixels.mean(0), lambda pixels: np.cov(pixels.T)):
        before = np.abs(moment(plain) - moment(wanted)).max()
        after = np.abs(moment(moved) - moment(wanted)).max()
        assert after < 0.6 * before


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_tiles_equal_the_whole(engine, spec, codes, photograph, mode):
    if not spec.capabilities.tiles:
        pytest.skip("it paints no tiles")
    size = (403, 300) if spec.capabilities.slow else (603, 498)
    content = np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC))
    down = np.linspace(0, 1, len(content), dtype=np.float32)[:, None] * np.ones((1, content.shape[1]), np.float32)
    field = StyleField((StyleLayer(codes[0], down), StyleLayer(codes[1], np.float32(0.9) * (1 - down))))
    whole = engine.render(content, field, StylizeConfig(preserve_color=mode))
    told = []
    tiled = engine.render(
        content, field, StylizeConfig(preserve_color=mode, tile=256), lambda now: told.append(now.done)
    )
    # Adam moves a value by its gradient's sign at first: where that is nearly 0, rounding decides, on some processors.
    assert largest(tiled, whole) <= (8 if engine.name == "gatys" else 2)
    assert (np.abs(tiled.astype(int) - whole) > 2).mean() < 1e-3
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1 and len(told) > 2


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_progress_goes_forward_with_any_size_of_strokes(engine, codes, photograph, scale):
    content = np.tile(photograph, (4, 4, 1))
    told = []
    engine.render(
        content,
        StyleField.constant(codes[0]),
        StylizeConfig(style_scale=scale, tile=256),
        lambda now: told.append(now.done),
    )
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("scale", [0.25, 4.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (41, 2)])
def test_strokes_of_any_size_paint_small_pictures(engine, codes, photograph, size, scale):
    content = photograph[: size[0], : size[1]]
    painted = engine.render(content, StyleField.constant(codes[0]), StylizeConfig(style_scale=scale))
    assert painted.shape == (*size, 3)


# --- what it says before and on the way ------------------------------------------------------------------------------


def test_time_and_memory_are_told_before_and_grow_with_the_picture(engine, codes):
    field = StyleField.constant(codes[0])
    small, large = (engine.estimate(size, field, PLAIN) for size in ((256, 256), (2048, 2048)))
    assert 0 < small.seconds < large.seconds
    assert 10e6 < small.memory < large.memory < 40e9


def test_a_callback_that_raises_stops_it(engine, codes, photograph):
    def stop(progress):
        raise Stopped

    content = np.tile(photograph, (4, 4, 1))
    with pytest.raises(Stopped):
        engine.render(content, StyleField.constant(codes[0]), StylizeConfig(tile=256), stop)


def test_slow_engines_show_the_picture_on_the_way(engine, spec, codes, photograph):
    if not spec.capabilities.slow:
        pytest.skip("it is done at once")
    seen = []

    def look(progress):
        if progress.preview is not None:
            seen.append(progress.preview())

    engine.render(photograph, StyleField.constant(codes[0]), PLAIN, look)
    assert seen
    for preview in seen:
        assert preview.ndim == 3 and preview.shape[2] == 3 and preview.dtype == np.float32
        assert preview.min() >= 0 and preview.max() <= 1


def test_its_own_settings_are_listed_and_checked(engine, spec):
    kind = options_type(spec.name)
    if kind is None:
        with pytest.raises(UsageError, match="no options of its own"):
            engine_options(spec.name, {"speed": 1})
        return
    assert engine_options(spec.name, {}) == kind()
    for info in fields(kind):
        assert len(info.metadata["help"]) > 10, info.name
    with pytest.raises(UnknownNameError, match="no option of this engine"):
        engine_options(spec.name, {"no_such_option": 1})

"""``gatys`` as an engine, on a small encoder with random weights: field, colours, seed, cancel, resume, memory."""

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs impasto[torch]")

import torch

from impasto.config import StylizeConfig
from impasto.engines.gatys import Gatys, _shared_maps
from impasto.engines.gatys_objective import Eye, Objective
from impasto.engines.gatys_options import INITS, LOSSES, OPTIMIZERS
from impasto.errors import CancelledError, FieldError, UnknownNameError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image.color import luminance
from impasto.nets.lens import Lens, LensConfig
from impasto.ops.tiling import to_float
from impasto.stylizer import Stylizer, field_from_recipe
from impasto.weights.files import write_tensors

QUICK = {"iterations": 8, "smallest": 64}


@pytest.fixture(scope="module")
def engine():
    """Random weights, except that three channels of the first layer are the colours themselves."""
    torch.manual_seed(0)
    encoder = Lens(LensConfig((6, 8, 8, 8, 8), (1, 1, 1, 1, 1))).freeze()
    first = encoder.convolutions["relu1_1"]
    first.weight[:3] = 0
    first.bias[:3] = 2  # lens takes pictures to [-2, 2]
    for channel in range(3):
        first.weight[channel, channel, 1, 1] = 1
    return Gatys(encoder, "0123456789abcdef")


@pytest.fixture(scope="module")
def codes(engine, artworks):
    return [
        engine.encode(to_float(artwork), name=name, config=StylizeConfig())
        for artwork, name in zip(artworks, ("stars", "crockery"), strict=True)
    ]


def config(**given):
    settings = {name: given.pop(name) for name in ("preserve_color", "mix_mode", "seed", "tile") if name in given}
    return StylizeConfig(options=QUICK | given, **settings)


def distance(first, second):
    return float(np.abs(to_float(first) - to_float(second)).mean())


# -- what it paints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_the_painting_comes_nearer_to_the_style(engine, codes, photograph, artworks, loss):
    """Mean colours are part of every style loss."""
    painted = engine.render(photograph, StyleField.constant(codes[1]), config(loss=loss, iterations=30))
    wanted = to_float(artworks[1]).mean((0, 1))
    before = np.abs(to_float(photograph).mean((0, 1)) - wanted).sum()
    assert np.abs(to_float(painted).mean((0, 1)) - wanted).sum() < 0.7 * before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("init", INITS)
def test_every_start_and_optimizer_paints_the_same_way_twice(engine, codes, photograph, optimizer, init):
    chosen = config(optimizer=optimizer, init=init)
    first, second = (engine.render(photograph, StyleField.constant(codes[0]), chosen) for _ in range(2))
    assert np.array_equal(first, second)
    assert distance(first, photograph) > 0.01


def test_every_start_leads_elsewhere(engine, codes, photograph):
    painted = [
        engine.render(photograph, StyleField.constant(codes[0]), config(init=init, iterations=2)) for init in INITS
    ]
    for first, second in itertools.combinations(painted, 2):
        assert distance(first, second) > 0.02


def test_the_result_is_a_mean_of_the_iterates_unless_the_last_is_wanted(engine, codes, photograph):
    last, away = [], []
    for average in (0.0, 0.9):
        result = engine.render(
            to_float(photograph),
            StyleField.constant(codes[0]),
            config(average=average),
            lambda progress: last.append(progress.preview()) if progress.preview else None,
        )
        away.append(distance(result, last[-1]))
    assert away[0] < 1e-6 and away[1] > 1e-4


def test_the_seed_decides(engine, codes, photograph):
    painted = [
        engine.render(photograph, StyleField.constant(codes[0]), config(init="noise", seed=seed)) for seed in (1, 2)
    ]
    assert distance(*painted) > 0.01


def test_lbfgs_lowers_the_loss_below_what_it_was(engine, codes, photograph, monkeypatch):
    values = []
    gradient = Objective.gradient

    def watched(self, picture):
        value, found = gradient(self, picture)
        values.append(value)
        return value, found

    monkeypatch.setattr(Objective, "gradient", watched)
    engine.render(photograph, StyleField.constant(codes[1]), config(optimizer="lbfgs", loss="gram", smallest=96))
    assert min(values[-3:]) < 0.5 * values[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_lbfgs_forgets_its_curvature_when_targets_change(engine, codes, photograph, monkeypatch, loss):
    known = []
    step = torch.optim.LBFGS.step

    def watched(self, closure):
        known.append(len(self.state[self.param_groups[0]["params"][0]].get("old_dirs", ())))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.LBFGS, "step", watched)
    engine.render(photograph, StyleField.constant(codes[1]), config(optimizer="lbfgs", loss=loss, smallest=96))
    assert len(known) == 2 and known[0] == 0  # a block of five iterations, and one of three
    assert (known[1] == 0) == (loss == "nearest")


def test_a_high_content_weight_keeps_more_of_the_photograph(engine, codes, photograph):
    far, near = (
        engine.render(
            photograph,
            StyleField.constant(codes[0]),
            config(content_weight=weight, content="plain", content_layers="relu1_1", iterations=30, loss="gram"),
        )
        for weight in (0.0, 30.0)
    )
    assert distance(near, photograph) < 0.85 * distance(far, photograph)


def test_smoothing_smooths(engine, codes, photograph):
    rough, smooth = (
        engine.render(photograph, StyleField.constant(codes[1]), config(smooth_weight=weight, iterations=20))
        for weight in (0.0, 100.0)
    )
    assert np.abs(np.diff(to_float(smooth), axis=1)).mean() < 0.8 * np.abs(np.diff(to_float(rough), axis=1)).mean()


# -- the field -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_two_regions_take_their_own_styles(engine, photograph, loss):
    """A red and a blue style, each on its side."""
    generator = np.random.default_rng(0)
    noise = generator.random((96, 96, 1), np.float32) * 0.3
    red, blue = (
        engine.encode(np.clip(noise + np.array(color, np.float32), 0, 1), name="one", config=StylizeConfig())
        for color in ((0.7, 0.0, 0.0), (0.0, 0.0, 0.7))
    )
    left = np.zeros(photograph.shape[:2], np.float32)
    left[:, :48] = 1
    field = StyleField((StyleLayer(red, left), StyleLayer(blue, 1 - left)))
    chosen = config(loss=loss, iterations=40, content_weight=0.0, style_layers="relu1_1")
    painted = to_float(engine.render(photograph, field, chosen))
    plain = to_float(photograph)
    redness = (painted - plain)[..., 0] - (painted - plain)[..., 2]
    assert redness[:, :40].mean() > 0.1 and redness[:, 56:].mean() < -0.1


@pytest.mark.parametrize("weight", [0.0, 0.003])
def test_an_empty_region_is_harmless(engine, codes, photograph, weight):
    empty = np.full(photograph.shape[:2], weight, np.float32)
    whole = np.full(photograph.shape[:2], 0.9, np.float32)
    field = StyleField((StyleLayer(codes[0], whole), StyleLayer(codes[1], empty)))
    assert np.isfinite(engine.render(to_float(photograph), field, config())).all()
    tiny = empty.copy()
    tiny[3, 5] = 1
    painted = engine.render(photograph, StyleField((StyleLayer(codes[0], tiny - empty),)), config())
    assert np.array_equal(
        np.delete(painted.reshape(-1, 3), 3 * 96 + 5, 0), np.delete(photograph.reshape(-1, 3), 3 * 96 + 5, 0)
    )


def test_strength_brings_the_picture_away_from_the_photograph(engine, codes, photograph):
    away = [
        distance(engine.render(photograph, StyleField.constant(codes[0], strength), config(iterations=20)), photograph)
        for strength in (0.0, 0.1, 0.4, 1.0)
    ]
    assert away[0] == 0 and away == sorted(away) and away[1] > 0


def test_styles_of_one_region_share_its_map(codes):
    ramp = np.linspace(0, 1, 96 * 96, dtype=np.float32).reshape(96, 96)
    field = StyleField((StyleLayer(codes[0], ramp * 0.2), StyleLayer(codes[1], ramp * 0.4), StyleLayer(codes[0], 0.3)))
    weights, maps = _shared_maps(field, (96, 96), torch.device("cpu"))
    assert [one.region for one in weights] == [0, 0, None, 1] and [one.style for one in weights] == [0, 1, 2, None]
    assert sum(one.share for one in weights) == pytest.approx(1)
    assert len(maps) == 2 and all(float(one.max()) == 1 for one in maps)
    for one, wanted in zip(weights, (ramp * 0.2, ramp * 0.4, 0.3 + 0 * ramp, 0.7 - 0.6 * ramp), strict=True):
        found = one.scale * (1 if one.region is None else maps[one.region][0, 0].numpy())
        assert np.allclose(found, wanted, atol=1e-5)


# -- colours ---------------------------------------------------------------------------------------------------------


def test_luminance_paints_in_grey_and_keeps_the_chroma(engine, codes, photograph):
    content = to_float(photograph)
    painted = engine.render(content, StyleField.constant(codes[1]), config(preserve_color="luminance"))
    inside = (painted > 0.001).all(2) & (painted < 0.999).all(2)
    chroma = [one - luminance(one)[..., None] for one in (content, painted)]
    assert np.abs(chroma[0] - chroma[1])[inside].max() < 1e-5
    assert distance(painted, content) > 0.01


# -- listening, cancelling, going on ---------------------------------------------------------------------------------


def test_it_says_first_what_it_takes_and_then_every_step_with_a_picture(engine, codes, photograph):
    told = []
    result = engine.render(photograph, StyleField.constant(codes[0]), config(), told.append)
    assert "GB of memory" in told[0].message and told[0].done == 0
    steps = told[1:-1]
    assert [one.step for one in steps] == list(range(1, 9)) and all(one.steps == 8 for one in steps)
    assert "size 1 of 2, 68 x 68" in steps[0].message and "size 2 of 2, 96 x 96" in steps[-1].message
    shares = [one.done for one in told]
    assert shares == sorted(shares) and told[-1].done == 1
    for one in (steps[0], steps[-1]):
        shown = one.preview()
        assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    assert steps[-1].preview().shape == result.shape
    assert distance(steps[-1].preview(), result) < 0.1  # the result is a mean of iterates


def test_a_callback_that_raises_stops_it(engine, codes, photograph):
    def stop(progress):
        if progress.step == 3:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        engine.render(photograph, StyleField.constant(codes[0]), config(), stop)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [2, 7, 19])
def test_an_interrupted_run_goes_on_to_the_same_picture(engine, codes, photograph, tmp_path, optimizer, stop):
    state = tmp_path / "state"
    chosen = config(iterations=24, optimizer=optimizer)
    field = StyleField.constant(codes[0])
    whole = engine.render(photograph, field, chosen)

    def interrupt(progress):
        if progress.step >= stop:
            raise KeyboardInterrupt

    kept = config(iterations=24, optimizer=optimizer, resume=str(state))
    with pytest.raises(KeyboardInterrupt):
        engine.render(photograph, field, kept, interrupt)
    assert state.is_file()
    steps = []
    resumed = engine.render(photograph, field, kept, lambda progress: steps.append(progress.step))
    assert np.array_equal(resumed, whole)
    assert len(steps) < 26 - (stop // 5) * 5 + 5  # what was done is not done again
    assert not state.exists()


def test_a_run_that_is_killed_has_left_its_state(engine, codes, photograph, tmp_path, monkeypatch):
    """Nothing is raised in a process that the system kills: the state is written now and then while it paints."""
    monkeypatch.setattr("impasto.engines.gatys.SAVE_SECONDS", 0.0)
    state, copy = tmp_path / "state", tmp_path / "copy"
    field, chosen = StyleField.constant(codes[0]), config(iterations=24, resume=str(state))

    def take(progress):
        if progress.step == 18:
            copy.write_bytes(state.read_bytes())

    whole = engine.render(photograph, field, chosen, take)
    copy.rename(state)
    steps = []
    assert np.array_equal(engine.render(photograph, field, chosen, lambda one: steps.append(one.step)), whole)
    assert min(step for step in steps if step) > 10


def test_a_state_of_another_encoder_is_refused(engine, codes, photograph, tmp_path):
    state, field = tmp_path / "state", StyleField.constant(codes[0])

    def interrupt(progress):
        if progress.step:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        engine.render(photograph, field, config(resume=str(state)), interrupt)
    torch.manual_seed(1)
    other = Gatys(Lens(LensConfig((6, 8, 8, 8, 8), (1, 1, 1, 1, 1))).freeze(), engine.identity)
    with pytest.raises(UsageError, match="another picture, style or settings"):
        other.render(photograph, field, config(resume=str(state)))


def test_a_state_of_another_run_is_refused(engine, codes, photograph, tmp_path):
    state = tmp_path / "state"

    def interrupt(progress):
        if progress.step:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        engine.render(photograph, StyleField.constant(codes[0]), config(resume=str(state)), interrupt)
    with pytest.raises(UsageError, match="another picture, style or settings"):
        engine.render(photograph, StyleField.constant(codes[1]), config(resume=str(state)))
    state.write_bytes(b"no state")
    with pytest.raises(UsageError, match="holds no state"):
        engine.render(photograph, StyleField.constant(codes[0]), config(resume=str(state)))


# -- memory ----------------------------------------------------------------------------------------------------------


def test_tiles_paint_what_the_whole_paints(engine, codes, photograph):
    """The gradients agree to rounding; the iterates may drift apart by a little."""
    content = np.tile(photograph, (4, 4, 1))[:330, :352]
    field = StyleField.constant(codes[1])
    whole = engine.render(content, field, config(smallest=352, iterations=6))
    tiled = engine.render(content, field, config(smallest=352, iterations=6, tile=256))
    assert distance(whole, tiled) < 0.5 / 255
    assert np.abs(to_float(whole) - to_float(tiled)).max() < 0.1


def test_less_memory_means_smaller_tiles(engine, codes):
    field = StyleField.constant(codes[0])
    expected = [engine.estimate((2000, 2000), field, config(memory=memory, tile=4096)) for memory in (1.5, 1.6, 64.0)]
    assert expected[0].memory < expected[1].memory < expected[2].memory
    assert expected[0].memory <= 1.5e9 and expected[1].memory <= 1.6e9
    assert engine.estimate((100, 100), StyleField(()), config()).seconds == 0


def test_an_estimate_grows_with_size_and_iterations(engine, codes):
    field = StyleField.constant(codes[0])
    small, large = (engine.estimate((side, side), field, config()) for side in (128, 512))
    assert large.seconds > 2 * small.seconds and large.memory > 5 * small.memory
    longer = engine.estimate((512, 512), field, config(iterations=80))
    assert longer.seconds > 3 * large.seconds


def test_when_memory_ends_smaller_tiles_are_tried(engine, codes, photograph, monkeypatch):
    content = np.tile(photograph, (4, 4, 1))
    gradient, sizes = Objective.gradient, []

    def scarce(self, picture):
        sizes.append(self.eye.tile)
        if self.eye.tile > 200:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        return gradient(self, picture)

    monkeypatch.setattr(Objective, "gradient", scarce)
    painted = engine.render(content, StyleField.constant(codes[0]), config(smallest=384, iterations=3))
    assert sizes[0] > 200 >= sizes[-1]
    assert distance(painted, content) > 0.01

    monkeypatch.setattr(Objective, "gradient", gradient)
    survey, sizes = Eye.survey, []

    def scarce_survey(self, *given, **named):
        sizes.append(self.tile)
        if self.tile > 200:
            raise MemoryError
        return survey(self, *given, **named)

    monkeypatch.setattr(Eye, "survey", scarce_survey)
    engine.render(content, StyleField.constant(codes[0]), config(smallest=384, iterations=1))
    assert sizes[0] > 200 >= sizes[-1]
    monkeypatch.setattr(Eye, "survey", survey)

    def broken(self, picture):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Objective, "gradient", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        engine.render(content, StyleField.constant(codes[0]), config(smallest=384, iterations=3))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 7)])
@pytest.mark.parametrize("loss", ["nearest", "gram"])
def test_tiny_and_thin_pictures_and_styles(engine, photograph, size, loss):
    content = np.resize(photograph, (*size, 3))
    code = engine.encode(to_float(content), name="thin", config=StylizeConfig())
    painted = engine.render(content, StyleField.constant(code), config(loss=loss))
    assert painted.shape == content.shape


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_pictures_and_styles_give_numbers(engine, codes, photograph, loss, level):
    flat = np.full((70, 70, 3), level, np.float32)
    code = engine.encode(flat, name="flat", config=StylizeConfig())
    for content, style in ((flat, codes[0]), (to_float(photograph), code), (flat, code)):
        assert np.isfinite(engine.render(content, StyleField.constant(style), config(loss=loss))).all()


def test_an_encoder_that_changes_is_loaded_anew(photograph, artworks, tmp_path):
    """Under one name, within one process; the recipe has the identity of the one that painted."""
    file, sizes = tmp_path / "eye.safetensors", {"widths": (6, 8, 8, 8, 8), "depths": (1, 1, 1, 1, 1)}
    stylizer = Stylizer(Gatys())
    field = StyleField.constant(stylizer.encode(artworks[0]))
    painted = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        write_tensors(file, Lens(LensConfig(**sizes)).state_dict(), {"config": json.dumps(sizes)})
        painted.append(stylizer.render(photograph, field, config(encoder=str(file))))
        assert painted[-1].recipe["weights"] == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert distance(painted[0].stored, painted[1].stored) > 0
    with pytest.raises(FieldError, match=f"painted with the weights {painted[0].recipe['weights']}"):
        field_from_recipe(painted[0].recipe, stylizer.engine)
    assert stylizer.engine.identity_with(config()) == stylizer.engine.identity == field.layers[0].code.weights


def test_what_cannot_be_is_refused(engine, codes, photograph):
    field = StyleField.constant(codes[0])
    with pytest.raises(UsageError, match=r"no layer 'relu9_9'; it has relu1_1"):
        engine.render(photograph, field, config(style_layers="relu1_1, relu9_9"))
    with pytest.raises(UnknownNameError, match="iterations"):
        engine.render(photograph, field, config(iteration=3))
    with pytest.raises(UsageError, match="loss must be one of"):
        engine.render(photograph, field, config(loss="gramm"))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device 'cuda' is not available"):
            engine.render(photograph, field, config(device="cuda"))
    bare = StyleCode(codes[0].vector, "gatys", engine.identity, "bare")
    with pytest.raises(FieldError, match="'bare' holds no picture"):
        engine.render(photograph, StyleField.constant(bare), config())
    with pytest.raises(WeightsError, match=r"none\.pth"):
        Gatys(identity="0123456789abcdef").render(photograph, field, config(encoder="none.pth"))


def test_chosen_layers_are_used(engine, codes, photograph):
    painted = [
        engine.render(photograph, StyleField.constant(codes[0]), config(style_layers=layers, content_weight=0.0))
        for layers in ("relu1_1", "relu4_1")
    ]
    assert distance(*painted) > 0.005


def test_the_options_import_nothing_heavy(command_environment):
    code = "import sys, impasto.engines.gatys_options; sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=command_environment, check=False).returncode == 0

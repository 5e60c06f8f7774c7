"""What is special to local, on a tiny untrained network: codes, fields in the attention, explanations, its files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from impasto import export
from impasto.cli import app
from impasto.config import StylizeConfig
from impasto.engines.base import Engine, Explaining
from impasto.engines.local import STYLE_PIXELS, Local, split_local
from impasto.errors import FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.local import LocalConfig, LocalNet
from impasto.nets.mobile import Mobile, MobileConfig
from impasto.stylizer import StyleRequest, Stylizer
from impasto.weights import load_card
from impasto.weights.files import read_tensors

PLAIN = StylizeConfig()
SIZES = LocalConfig((8, 8, 10), 8, (8, 8, 8, 8))


@pytest.fixture(scope="module")
def engine():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1)))
        net = LocalNet(SIZES)
    net.decoder.paint.weight.data.mul_(10)
    return Local("0123456789abcdef", lens.freeze(), net.requires_grad_(False))


@pytest.fixture
def photo():
    return np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)).resize((80, 96))
    )


@pytest.fixture
def codes(engine):
    rng = np.random.default_rng(1)
    return [
        engine.encode(rng.uniform(low, low + 0.5, (100, 90, 3)).astype(np.float32), name=name, config=PLAIN)
        for name, low in (("dark", 0.0), ("light", 0.5))
    ]


def test_it_is_an_engine_that_explains(engine):
    assert isinstance(engine, Engine) and isinstance(engine, Explaining)


# --- codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (384, 384), (100, 90), (1200, 300), (300, 9000), (2, 4000)])
def test_a_style_is_seen_at_a_bounded_size(engine, size):
    code = engine.encode(np.full((*size, 3), 0.5, np.float32), name="style", config=PLAIN)
    height, width, _ = code.parts["picture"].shape
    assert height * width <= 1.01 * STYLE_PIXELS and min(height, width) >= 16


def test_a_code_is_a_picture_that_survives_a_file(engine, codes, photo, tmp_path):
    codes[0].save(tmp_path / "code.npz")
    again = StyleCode.load(tmp_path / "code.npz")
    assert again.digest == codes[0].digest
    fresh = Local(engine.identity, engine._encoder, engine._net)  # nothing kept
    painted = [
        one.render(photo, StyleField.constant(code), PLAIN) for one, code in ((engine, codes[0]), (fresh, again))
    ]
    assert np.array_equal(*painted)


def test_a_code_without_its_picture_is_refused_by_name(engine, codes, photo):
    bare = StyleCode(codes[0].vector, engine.name, engine.identity, "bare")
    for act in (engine.render, engine.explain):
        with pytest.raises(FieldError, match="'bare' holds no picture"):
            act(photo, StyleField.constant(bare), PLAIN)


def test_only_the_last_styles_are_kept(engine):
    for level in range(12):
        picture = np.full((40, 40, 3), level / 12, np.float32)
        engine.encode(picture, name="style", config=PLAIN)
    assert len(engine._tokens) == 8


# --- fields ----------------------------------------------------------------------------------------------------------


def test_each_region_is_painted_in_its_own_style(engine, codes, photo):
    left = np.zeros((96, 80), np.float32)
    left[:, :40] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    both = engine.render(photo, field, PLAIN)
    only = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], np.zeros_like(left))))
    alone = engine.render(photo, only, PLAIN)
    assert np.array_equal(alone[:, 40:], photo[:, 40:])
    assert not np.array_equal(both[:, 40:], photo[:, 40:])


def test_a_region_is_normalised_by_what_lies_within(engine, codes):
    """What a photograph shows outside of a region, far from it, does not change what is painted inside."""
    rng = np.random.default_rng(3)
    first = rng.uniform(0, 1, (96, 480, 3)).astype(np.float32)
    second = first.copy()
    second[:, 240:] = 1
    mask = np.zeros((96, 480), np.float32)
    mask[:, :120] = 1
    inside = [engine.render(one, StyleField.constant(codes[0]).times(mask), PLAIN)[:, :100] for one in (first, second)]
    whole = [engine.render(one, StyleField.constant(codes[0]), PLAIN)[:, :100] for one in (first, second)]
    changes = [float(np.abs(pair[0] - pair[1]).mean()) for pair in (inside, whole)]
    assert changes[0] < 0.2 * changes[1]


def test_estimates_grow_with_the_styles(engine, codes):
    one, two = (engine.estimate((512, 512), StyleField.mixed(codes[:count]), PLAIN) for count in (1, 2))
    assert one.seconds < two.seconds and one.memory < two.memory


# --- explanations ----------------------------------------------------------------------------------------------------


def test_an_explanation_shows_style_photograph_and_certainty(engine, codes, photo):
    shown = engine.explain(photo, StyleField.constant(codes[0]), PLAIN)
    assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    style = codes[0].parts["picture"].shape
    assert shown.shape == (96, round(style[1] * 96 / style[0]) + 2 * (8 + 80), 3)
    sure = shown[:, -80:]
    assert np.array_equal(sure[..., 0], sure[..., 1])  # the entropy is grey


def test_there_is_a_row_for_each_style_and_grey_where_it_has_no_weight(engine, codes, photo):
    left = np.zeros((96, 80), np.float32)
    left[:, :40] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    shown = engine.explain(photo, field, PLAIN)
    assert shown.shape[0] == 2 * 96
    start = shown.shape[1] - 80 - 8 - 80
    colour = np.ptp(shown[:96, start : start + 80], axis=2)
    assert colour[:, 44:].max() < 1e-5 < 0.01 < colour[:, :36].mean()


def test_an_empty_field_explains_nothing(engine, photo):
    with pytest.raises(FieldError, match="no style"):
        engine.explain(photo, StyleField(()), PLAIN)


def test_it_looks_where_it_finds_itself(engine):
    """Style and photograph are the same picture: the left half looks left, the right half right."""
    rng = np.random.default_rng(4)
    picture = rng.uniform(0, 0.2, (384, 384, 3)).astype(np.float32)
    picture[:, 192:, :2] += 0.8
    code = engine.encode(picture, name="itself", config=PLAIN)
    shown = engine.explain(picture, StyleField.constant(code), PLAIN)
    photograph = shown[:, 384 + 8 : 2 * 384 + 8]
    red_to_yellow = photograph[40:150, :, 1] / photograph[40:150, :, 0]  # more green to the right
    assert red_to_yellow[:, 240:340].mean() > 1.2 * red_to_yellow[:, 40:140].mean()


def test_the_facade_explains_on_demand(engine, codes, photo):
    stylizer = Stylizer(engine)
    assert stylizer.stylize(photo, [StyleRequest(codes[0])]).explanation is None
    explained = stylizer.stylize(photo, [StyleRequest(codes[0])], explain=True)
    assert explained.explanation is not None and explained.explanation.shape[0] == 96


def test_an_engine_that_cannot_explain_says_so(stylizer, photo, tmp_path):
    with pytest.raises(UsageError, match="the engine 'brush' cannot explain where it looks"):
        stylizer.stylize(photo, [StyleRequest("ukiyo-e")], explain=True)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    called = ["stylize", str(tmp_path / "photo.png"), "-s", "ukiyo-e", "-o", str(tmp_path / "painting.png")]
    result = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "explained.png")])
    assert isinstance(result.exception, UsageError) or result.exit_code == 2
    assert not (tmp_path / "painting.png").exists() and not (tmp_path / "explained.png").exists()


def test_the_command_writes_the_explanation(engine, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Stylizer, "load", classmethod(lambda cls, name: cls(engine)))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(photo[::-1]).save(tmp_path / "style.png")
    called = ["stylize", str(tmp_path / "photo.png"), "-s", str(tmp_path / "style.png")]
    called += ["-o", str(tmp_path / "painting.png")]
    result = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "explained.png")])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "explained.png") as shown:
        assert shown.height == 96
    twice = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "painting.png")])
    assert isinstance(twice.exception, UsageError) or twice.exit_code == 2


# --- files -----------------------------------------------------------------------------------------------------------


def trained_file(path, mobile=None):
    """As a training leaves it."""
    torch.manual_seed(0)
    texts = {"engine": "local", "encoder": "lens", "step": "3", "recipe": 'name = "local"\n'}
    texts["config"] = json.dumps({"channels": (8, 8, 10), "keys": 8, "widths": (8, 8, 8, 8), "separable": False})
    state = LocalNet(SIZES).state_dict()
    if mobile is not None:
        texts["mobile"] = json.dumps({"widths": (6, 8, 8), "depths": (1, 1, 1), "channels": (8, 8, 10)})
        state |= {f"encoder.{name}": value for name, value in mobile.state_dict().items()}
    save_file({name: value.half() for name, value in state.items()}, path, metadata=texts)
    return path


@pytest.mark.parametrize("name", ["local", "local-mobile"])
def test_the_export_writes_a_true_card(name, tmp_path):
    mobile = Mobile(MobileConfig((6, 8, 8), (1, 1, 1), (8, 8, 10))) if name == "local-mobile" else None
    source = trained_file(tmp_path / "trained.safetensors", mobile)
    written = export.export_set(source, tmp_path / "out")
    card = load_card(name, tmp_path / "out")
    assert {file.name for file in written} == {f"{name}.safetensors"}
    assert card.facts["name"] == name and card.facts["steps"] == 3
    assert card.facts["parameters"]["query"] == 26 * 8 + 8
    assert ("encoder" in card.facts["parameters"]) == (mobile is not None)
    state, texts = read_tensors(tmp_path / "out" / f"{name}.safetensors", sha256=card.file("net").sha256)
    net, encoder = split_local(state, texts)
    assert net.config == SIZES and bool(encoder) == (mobile is not None)


def test_damaged_weights_are_refused(tmp_path):
    state, texts = read_tensors(trained_file(tmp_path / "trained.safetensors"))
    for damaged in (
        (state, {}),
        (state, texts | {"config": "{}"}),
        ({name: value for name, value in state.items() if name != "query.weight"}, texts),
        (state, texts | {"config": texts["config"].replace('"keys": 8', '"keys": 0')}),
    ):
        with pytest.raises(WeightsError, match="no network of local"):
            split_local(*damaged)

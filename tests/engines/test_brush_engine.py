"""What is particular to ``brush``: presets, the halo, regions under shared statistics, damaged graphs."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import brush, tiles
from impasto.engines.brush import Brush
from impasto.errors import WeightsError
from impasto.field import StyleField, StyleLayer
from impasto.ops.tiling import to_float
from impasto.weights import load_card, read_weights


@pytest.fixture(scope="module")
def engine(stylizer):
    return stylizer.engine


def test_presets_have_names_titles_and_credits_of_their_own(engine):
    table = engine.preset_table()
    assert len(table) >= 24
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in table)
    assert len({preset.title for preset in table.values()}) == len(table)
    assert len({preset.credit for preset in table.values()}) == len(table)
    assert all(len(preset.title) > 5 and len(preset.credit) > 5 for preset in table.values())
    assert {name: preset.code for name, preset in table.items()}.keys() == engine.presets().keys()


def test_presets_are_codes_of_the_length_that_the_encoder_makes(engine, artworks):
    made = engine.encode(to_float(artworks[0]), name="stars", config=StylizeConfig())
    presets = engine.presets()
    own = len(made.vector) - len(presets)  # behind these stands a reserved number for each preset
    assert not made.vector[own:].any()
    for place, (name, code) in enumerate(presets.items()):
        assert code.name == name and code.vector.shape == made.vector.shape
        assert np.flatnonzero(code.vector[own:]).tolist() == [place]
        for vector in (code.vector, made.vector):
            assert np.sqrt(np.mean(np.square(vector[:own]))) == pytest.approx(1, abs=1e-3)


def test_every_preset_paints_a_picture_of_its_own(engine, photograph):
    painted = {
        name: to_float(engine.render(photograph[:64, :64], StyleField.constant(code), StylizeConfig())).ravel()
        for name, code in engine.presets().items()
    }
    names = list(painted)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert np.abs(painted[name] - painted[other]).mean() > 1 / 255, (name, other)


def test_presets_of_other_weights_are_refused():
    card = load_card("brush")
    stored = json.loads(read_weights(card, "presets")) | {"weights": "0" * 16}
    engine = Brush(card, b"", b"", json.dumps(stored))
    with pytest.raises(WeightsError, match="presets were made with other weights"):
        engine.presets()


def test_a_graph_that_is_none_is_refused(photograph):
    card = load_card("brush")
    engine = Brush(card, b"no graph", b"no graph", read_weights(card, "presets").decode())
    code = next(iter(engine.presets().values()))
    with pytest.raises(WeightsError, match="cannot load the network"):
        engine.render(photograph, StyleField.constant(code), StylizeConfig())


def test_the_halo_covers_what_the_network_sees():
    files = pytest.importorskip("impasto.training.files", reason="needs impasto[torch]")
    from impasto.weights import weights_folder

    net = files.load_model(weights_folder() / "brush.safetensors").net
    assert net.halo <= brush.HALO + brush.MARGIN
    assert (brush.HALO + brush.MARGIN) % brush.MULTIPLE == 0


def test_two_regions_are_each_their_own_style_away_from_the_border(engine, photograph):
    """With the same statistics, a region is the same picture as that style alone, beyond the network's reach."""
    content = to_float(np.asarray(Image.fromarray(photograph).resize((352, 96), Image.Resampling.BICUBIC)))
    first, second = list(engine.presets().values())[:2]
    left = np.zeros(content.shape[:2], np.float32)
    left[:, :176] = 1
    field = StyleField((StyleLayer(first, left), StyleLayer(second, 1 - left)))
    painter = engine._painter(content, field, StylizeConfig(), tiled=True)
    painted = painter.paint(content, field)
    reach = brush.HALO + brush.MARGIN
    for code, columns in ((first, slice(0, 176 - reach)), (second, slice(176 + reach, None))):
        alone = painter.paint(content, StyleField.constant(code))
        assert np.abs(painted - alone)[:, columns].max() < 1e-4
        assert np.abs(painted - alone).max() > 0.05


def test_a_large_picture_is_measured_on_a_small_copy():
    content = np.random.default_rng(0).integers(0, 255, (1201, 2003, 3), np.uint8)
    small = tiles.shrink(content, 768 * 768)
    height, width = small.shape[:2]
    assert height * width <= 1.01 * 768 * 768
    assert width / height == pytest.approx(2003 / 1201, rel=0.01)
    assert small.min() >= 0 and small.max() <= 1

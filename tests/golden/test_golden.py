"""Whole pictures of 96 px against stored ones.

The stored pictures belong to one set of weights. After new weights:

    pytest tests/golden --update-golden

writes them anew, with a sheet (before, after, difference) to look at before they are committed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines.brush import Brush
from impasto.field import StyleField
from impasto.ops.tiling import quantised, to_float
from impasto.sheet import label_grid
from impasto.weights import load_card, read_weights

FOLDER = Path(__file__).parent
BELONGS = FOLDER / "weights.json"
PRESETS = ("ukiyo-e", "impressionism", "engraving")
LARGEST, MEAN = 2, 0.1  # levels of 255: other processors round differently; 1 % of noise in the weights makes 3 and 0.5
KINDS = ("net", "encoder", "presets")


def errors(painted, stored):
    difference = np.abs(painted.astype(int) - stored.astype(int))
    return int(difference.max()), float(difference.mean())


def within_limits(painted, stored):
    largest, mean = errors(painted, stored)
    return largest <= LARGEST and mean <= MEAN


def embedded():
    """First digits of the SHA-256 of the files that decide a painting."""
    card = load_card("brush")
    return {kind: card.files[kind].sha256[:16] for kind in KINDS}


def belongings():
    """The weights that each stored picture belongs to."""
    return json.loads(BELONGS.read_text()) if BELONGS.is_file() else {}


def stored(preset):
    with Image.open(FOLDER / f"{preset}.png") as image:
        return np.asarray(image)


def write_sheet(path, preset, before, after):
    """Before, after, and ten times the difference around grey."""
    before, after = to_float(before), to_float(after)
    cells = [("before", before), ("after", after), ("difference x 10", np.clip(0.5 + 10 * (after - before), 0, 1))]
    enlarged = [(f"{preset}: {label}", np.kron(pixels, np.ones((3, 3, 1), np.float32))) for label, pixels in cells]
    Image.fromarray(quantised(label_grid(enlarged, columns=3), np.uint8)).save(path)


def update(preset, painted, folder, config):
    path = FOLDER / f"{preset}.png"
    before = stored(preset) if path.is_file() else np.zeros_like(painted)
    sheet = folder / f"{preset}.png"
    write_sheet(sheet, preset, before, painted)
    Image.fromarray(painted).save(path, optimize=True)
    BELONGS.write_text(json.dumps(belongings() | {preset: embedded()}, indent=2, sort_keys=True) + "\n")
    config.golden_sheets.append(sheet)


@pytest.fixture(scope="session")
def sheets(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


@pytest.fixture
def for_these_weights(request, preset):
    """Stored pictures say nothing of other weights."""
    if request.config.getoption("--update-golden"):
        return
    belongs = belongings().get(preset)
    if belongs != embedded():
        pytest.fail(
            f"the golden picture of '{preset}' belongs to the weights {belongs}, embedded are {embedded()}: run "
            "'pytest tests/golden --update-golden', look at the sheets that it names, and commit the new pictures",
            pytrace=False,
        )


@pytest.mark.parametrize("preset", PRESETS)
def test_the_painting_is_the_stored_one(preset, stylizer, presets, photograph, for_these_weights, sheets, request):
    painted = stylizer.engine.render(photograph, StyleField.constant(presets[preset]), StylizeConfig())
    if request.config.getoption("--update-golden"):
        update(preset, painted, sheets, request.config)
    largest, mean = errors(painted, stored(preset))
    if not within_limits(painted, stored(preset)):
        write_sheet(sheets / f"{preset}-failed.png", preset, stored(preset), painted)
        pytest.fail(
            f"'{preset}' differs from the stored picture by {largest} at most (limit {LARGEST}) and {mean:.3f} on "
            f"average (limit {MEAN}); see {sheets / f'{preset}-failed.png'}",
            pytrace=False,
        )


def with_noise(graph, share):
    """The graph with normal noise of ``share`` of its size on every weight."""
    onnx = pytest.importorskip("onnx", reason="needs impasto[export]")
    model = onnx.load_from_string(graph)
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.size >= 64:
            noisy = values * (1 + share * generator.standard_normal(values.shape))
            tensor.CopyFrom(onnx.numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize("preset", PRESETS)
def test_one_percent_of_noise_in_the_weights_fails_the_comparison(preset, presets, photograph, for_these_weights):
    card = load_card("brush")
    noisy = with_noise(read_weights(card, "net"), 0.01)
    engine = Brush(card, read_weights(card, "encoder"), noisy, read_weights(card, "presets").decode())
    painted = engine.render(photograph, StyleField.constant(presets[preset]), StylizeConfig())
    assert not within_limits(painted, stored(preset)), errors(painted, stored(preset))
    assert errors(painted, stored(preset))[1] > 2 * MEAN  # and not by a hair

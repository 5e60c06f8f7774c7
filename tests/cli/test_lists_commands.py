"""``impasto engines`` and ``impasto presets``."""

import json

import numpy as np
import pytest
from PIL import Image

from impasto.engines import ENGINES
from impasto.weights import load_card


def test_engines_are_listed(impasto):
    told = impasto("engines").out
    rows = json.loads(impasto("engines", "--json").out)
    assert [row["name"] for row in rows] == list(ENGINES)
    for row in rows:
        assert row["name"] in told and row["summary"] in told


def test_an_engine_shows_its_card(impasto, refused):
    said = json.loads(impasto("engines", "brush", "--json").out)
    assert said["card"] == load_card("brush").facts
    assert said["engine"]["name"] == "brush"
    assert "any style in one feed-forward pass" in impasto("engines", "brush").out
    refused("engines", "brsh", code=2, words="did you mean brush?")


def test_presets_are_listed_with_what_they_were_computed_from(impasto, stylizer):
    table = stylizer.engine.preset_table()
    rows = json.loads(impasto("presets", "--json").out)
    assert [(row["name"], row["title"], row["credit"]) for row in rows] == [
        (name, preset.title, preset.credit) for name, preset in table.items()
    ]
    told = impasto("presets").out
    assert all(name in told for name in table)


@pytest.mark.slow
def test_a_sheet_shows_every_preset(impasto, photo, tmp_path, presets):
    impasto("presets", "--sheet", "sheet.png", "--photo", photo, "--strength", "0.5")
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    rows = -(-(len(presets) + 1) // 4)
    assert sheet.shape[1] == 4 * (384 + 12) + 12
    assert abs(sheet.shape[0] - rows * (307 + 26 + 12) - 12) <= rows


def test_a_sheet_that_cannot_be_made_is_refused_at_once(refused, photo):
    refused("presets", "--sheet", "other.png", code=2, words="--sheet needs a --photo")
    refused("presets", "--sheet", "nowhere/sheet.png", "--photo", photo, code=4, words="'nowhere' does not exist")
    refused("presets", "--engine", "brsh", code=2, words="did you mean brush?")

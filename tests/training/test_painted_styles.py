"""Paintings of many styles that ``diffusion`` learns from."""

import json

import numpy as np
import pytest
from PIL import Image

from impasto.errors import TrainingError, UnknownNameError, UsageError
from impasto.field import StyleField
from impasto.stylizer import Stylizer
from impasto.training import paintings
from impasto.training.data import PictureSet
from impasto.training.paintings import PaintedStyles, PaintingPlan, paint_styles
from impasto.training.presets import PresetEntry

SIDE = 80


@pytest.fixture
def contents(pictures):
    return PictureSet([pictures / "photos"])


@pytest.fixture
def art(pictures):
    return PictureSet([pictures / "art"])


@pytest.fixture
def preset_of_art(monkeypatch, art):
    """The packaged table, of which one preset's artwork is at hand."""
    entries = [
        PresetEntry("ukiyo-e", "waves", "me", (art.names[1],)),
        PresetEntry("charcoal", "black", "me", ("elsewhere.jpg",)),
    ]
    monkeypatch.setattr(paintings, "preset_table", lambda: entries)


def plan(count, *painters):
    return PaintingPlan(painters or ("brush",), count, SIDE, 3)


def files(folder):
    return sorted(folder.rglob("*.png"))


def test_each_file_is_a_photograph_and_its_painting(contents, art, tmp_path, preset_of_art):
    pairs = paint_styles(plan(6), contents, art, tmp_path)
    assert len(pairs) == len(files(tmp_path)) == 6
    both = np.asarray(Image.open(files(tmp_path)[0]))
    assert both.shape == (SIDE, 2 * SIDE, 3)
    assert np.abs(both[:, :SIDE].astype(int) - both[:, SIDE:]).mean() > 3
    settings = json.loads(next(tmp_path.rglob("settings.json")).read_text())
    assert [painter[0] for painter in settings["painters"]] == ["brush"]
    assert settings["presets"] == [["ukiyo-e", art.names[1]]]


def test_presets_are_painted_as_presets(contents, art, tmp_path, preset_of_art):
    """Some paintings of the artwork of a known preset are those of the preset itself, none those of an unknown one."""
    pairs = paint_styles(plan(8), contents, art, tmp_path)
    engine = Stylizer.load("brush")
    field = StyleField.constant(engine.encode("ukiyo-e"))
    alike = []
    for index, path in enumerate(files(tmp_path)):
        both = np.asarray(Image.open(path))
        again = engine.render(Image.fromarray(both[:, :SIDE]), field)
        alike.append(np.array_equal(np.asarray(again.stored), both[:, SIDE:]))
        assert not alike[-1] or pairs.artworks[index] == 1
    assert 0 < sum(alike) < 8


def test_what_is_there_is_not_painted_again(contents, art, tmp_path):
    paint_styles(plan(2), contents, art, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    files(tmp_path)[1].write_bytes(b"half a file")
    heard = []
    paint_styles(plan(4), contents, art, tmp_path, on_paint=heard.append)
    assert [(item.done, item.count) for item in heard] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert heard[0].seconds > 0
    first, second = files(tmp_path)[:2]
    assert first.stat().st_mtime_ns == kept[first] and second.stat().st_mtime_ns != kept[second]


def folders(path):
    return {found.parent for found in files(path)}


def test_other_settings_get_another_folder(contents, art, tmp_path, monkeypatch):
    """Whatever decides which style a painting has: order and number of painters, the table of presets, the seed."""
    pytest.importorskip("torch")
    for painters in (("brush",), ("brush", "adain"), ("adain", "brush"), ("brush", "brush")):
        paint_styles(plan(1, *painters), contents, art, tmp_path)
    paint_styles(PaintingPlan(("brush",), 1, SIDE, 4), contents, art, tmp_path)
    monkeypatch.setattr(paintings, "preset_table", lambda: [PresetEntry("ukiyo-e", "waves", "me", (art.names[0],))])
    paint_styles(plan(1), contents, art, tmp_path)
    assert len(folders(tmp_path)) == 6


def test_a_training_keeps_the_paintings_that_it_began_with(contents, art, tmp_path):
    paint_styles(plan(1), contents, art, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert len(paint_styles(plan(2), contents, art, tmp_path)) == 2
    with pytest.raises(UsageError, match="other paintings"):
        paint_styles(PaintingPlan(("brush",), 1, SIDE, 4), contents, art, tmp_path)


def test_painters_take_turns(contents, art, tmp_path):
    pytest.importorskip("torch")
    one = paint_styles(plan(2, "brush", "adain"), contents, art, tmp_path / "both")
    alone = paint_styles(plan(2), contents, art, tmp_path / "alone")
    painted = [[np.asarray(Image.open(path)) for path in files(tmp_path / name)] for name in ("both", "alone")]
    assert one.artworks == alone.artworks
    assert np.array_equal(painted[0][0], painted[1][0]) and not np.array_equal(painted[0][1], painted[1][1])


def test_windows_lie_at_the_same_place_in_both(tmp_path):
    """With a file whose halves are each other's negatives, so are the windows; some are mirrored, some are not."""
    half = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(np.concatenate([half, 255 - half], axis=1)).save(tmp_path / "000000.png")
    pairs = PaintedStyles(tmp_path, [7])
    rng = np.random.default_rng(1)
    seen, mirrored = set(), set()
    cut = np.lib.stride_tricks.sliding_window_view(half, (48, 48, 3))[:, :, 0]
    for _ in range(8):
        content, painting, artwork = pairs.window(rng, 48)
        assert content.shape == painting.shape == (3, 48, 48) and artwork == 7
        assert np.array_equal(content, 255 - painting)
        seen.add(content.tobytes())
        upright = content.transpose(1, 2, 0)
        found = [(cut == shown).all((2, 3, 4)).any() for shown in (upright, upright[:, ::-1])]
        assert sum(found) == 1
        mirrored.add(found.index(True))
    assert len(seen) == 8 and mirrored == {0, 1}


def test_missing_paintings_are_an_error(tmp_path):
    Image.new("RGB", (2 * SIDE, SIDE)).save(tmp_path / "000000.png")
    with pytest.raises(TrainingError, match="1 paintings of 2"):
        PaintedStyles(tmp_path, [0, 0])


@pytest.mark.parametrize(
    ("painters", "count", "side", "error"),
    [
        ((), 1, 64, UsageError),
        (("brush",), 0, 64, UsageError),
        (("brush",), 1, 32, UsageError),
        (("johnson",), 1, 64, UsageError),
        (("brushh",), 1, 64, UnknownNameError),
    ],
)
def test_wrong_plans_are_refused(painters, count, side, error):
    with pytest.raises(error):
        PaintingPlan(painters, count, side, 0)

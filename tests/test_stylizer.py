"""The facade: sources of styles, sizes, depths, transparency, recipes."""

import json

import numpy as np
import pytest
from PIL import Image

import impasto
from impasto.config import StylizeConfig
from impasto.errors import FieldError, ImageError, UnknownNameError, UsageError
from impasto.field import StyleField, StyleLayer
from impasto.image import read_picture, read_recipe
from impasto.sheet import contact_sheet, label_grid
from impasto.stylizer import StyleRequest, Stylizer, field_from_recipe


def test_every_public_name_is_there():
    for name in impasto.__all__:
        assert getattr(impasto, name) is not None
    assert set(impasto.__all__) <= set(dir(impasto))
    with pytest.raises(AttributeError, match="no attribute 'stylise'"):
        _ = impasto.stylise


# --- styles ----------------------------------------------------------------------------------------------------------


def test_a_style_is_a_preset_a_picture_a_saved_code_or_a_code(stylizer, presets, artworks, tmp_path):
    path = tmp_path / "stars.png"
    Image.fromarray(artworks[0]).save(path)
    made = stylizer.encode(path)
    made.save(tmp_path / "stars.npz")
    assert made.name == "stars.png"
    assert np.array_equal(stylizer.encode("ukiyo-e").vector, presets["ukiyo-e"].vector)
    assert stylizer.encode(made) is made
    for source in (str(path), path.read_bytes(), artworks[0], Image.fromarray(artworks[0]), tmp_path / "stars.npz"):
        assert np.array_equal(stylizer.encode(source).vector, made.vector)
    assert stylizer.encode(artworks[0], name="mine").name == "mine"
    assert stylizer.encode(path, name="mine").name == "mine" and stylizer.encode(path).name == "stars.png"


def test_a_style_file_is_read_once_and_again_when_it_changes(stylizer, artworks, tmp_path):
    path = tmp_path / "style.png"
    Image.fromarray(artworks[0]).save(path)
    first = stylizer.encode(path)
    assert stylizer.encode(path) is first
    Image.fromarray(artworks[1]).save(path)
    assert not np.array_equal(stylizer.encode(path).vector, first.vector)


def test_a_file_goes_before_a_preset_of_its_name(stylizer, presets, artworks, tmp_path, monkeypatch):
    Image.fromarray(artworks[1]).save(tmp_path / "ukiyo-e", format="PNG")
    monkeypatch.chdir(tmp_path)
    assert not np.array_equal(stylizer.encode("ukiyo-e").vector, presets["ukiyo-e"].vector)


@pytest.mark.parametrize(
    ("style", "kind", "words"),
    [
        ("ukiyoe", UnknownNameError, "no preset or style picture is called 'ukiyoe'; did you mean ukiyo-e"),
        ("x" * 400, UnknownNameError, "no preset or style picture is called 'xxx"),
        ("missing.png", ImageError, "there is no file 'missing.png'"),
        ("folder/missing", ImageError, "there is no file 'folder/missing'"),
        ("missing.npz", FieldError, "'missing.npz' cannot be read"),
    ],
)
def test_a_style_that_is_none_is_refused_by_name(stylizer, style, kind, words):
    with pytest.raises(kind) as caught:
        stylizer.encode(style)
    assert words in str(caught.value)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_grey_and_colour_of_the_same_values_are_painted_alike(stylizer, presets, photograph):
    field = StyleField.constant(presets["ukiyo-e"])
    grey = photograph[..., 1]
    painted = [stylizer.render(source, field).stored for source in (grey, grey[..., None], np.dstack([grey] * 3))]
    assert painted[0].shape == (96, 96, 3)
    assert np.array_equal(painted[0], painted[1]) and np.array_equal(painted[0], painted[2])


def test_transparency_stays_as_it_was(stylizer, presets, photograph, tmp_path):
    alpha = np.tile(np.arange(96, dtype=np.uint8), (96, 1))
    result = stylizer.render(np.dstack([photograph, alpha]), StyleField.constant(presets["ukiyo-e"]))
    assert result.image.mode == "RGBA"
    result.save(tmp_path / "painted.png")
    with Image.open(tmp_path / "painted.png") as image:
        assert np.array_equal(np.asarray(image)[..., 3], alpha)
        assert np.array_equal(np.asarray(image)[..., :3], result.stored)


def test_16_bits_come_in_and_go_out(stylizer, presets, photograph, tmp_path):
    deep = photograph.astype(np.uint16) * np.uint16(257) + np.uint16(100) * (photograph < 200)
    result = stylizer.render(deep, StyleField.constant(presets["ukiyo-e"]))
    result.save(tmp_path / "painted.tif", depth=16)
    back = read_picture(tmp_path / "painted.tif")
    assert back.info.depth == 16
    assert np.abs(back.pixels - result.pixels).max() < 1 / 65535
    assert result.image.mode == "RGB" and result.image.size == (96, 96)


def test_strength_0_gives_the_file_back(stylizer, presets, photo):
    result = stylizer.render(photo, StyleField.constant(presets["ukiyo-e"]), StylizeConfig(strength=0))
    with Image.open(photo) as image:
        assert np.array_equal(result.stored, np.asarray(image))


@pytest.mark.parametrize(("size", "wanted"), [(40, (32, 40)), (160, (128, 160)), (1, (1, 1))])
def test_size_is_the_longer_side(stylizer, presets, photo, size, wanted):
    mask = np.zeros((64, 80), np.float32)
    mask[:, 40:] = 1
    result = stylizer.stylize(photo, [StyleRequest(presets["ukiyo-e"])], mask=mask, config=StylizeConfig(size=size))
    assert result.stored.shape == (*wanted, 3)
    assert np.isfinite(result.pixels).all()


def test_a_mask_lets_half_a_painting_through(stylizer, presets, photo):
    mask = np.zeros((64, 80), np.float32)
    mask[:, 40:] = 1
    result = stylizer.stylize(photo, [StyleRequest(presets["ukiyo-e"])], mask=mask)
    content = read_picture(photo).stored
    assert np.array_equal(result.stored[:, :40], content[:, :40])
    assert not np.array_equal(result.stored[:, 40:], content[:, 40:])


def test_the_function_is_the_class(stylizer, photo, artworks):
    by_function = impasto.stylize(photo, ["ukiyo-e", artworks[0]], mix=[1, 3], strength=0.75)
    requests = [StyleRequest("ukiyo-e", 1), StyleRequest(artworks[0], 3)]
    by_class = stylizer.stylize(photo, requests, config=StylizeConfig(strength=0.75))
    assert np.array_equal(by_function.stored, by_class.stored)
    assert by_function.recipe == by_class.recipe


def test_too_few_shares_or_styles_are_refused(stylizer, photo):
    with pytest.raises(FieldError, match="2 styles need 2 shares in mix, not 1"):
        impasto.stylize(photo, ["ukiyo-e", "irises"], mix=[1])
    with pytest.raises(UsageError, match="at least one style"):
        stylizer.stylize(photo, [])


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_a_recipe_says_everything_and_no_folder(stylizer, photo):
    config = StylizeConfig(strength=0.5, size=48)
    requests = [StyleRequest("ukiyo-e", 1), StyleRequest("irises", 2)]
    result = stylizer.stylize(photo, requests, mask=photo, config=config)
    recipe = json.loads(json.dumps(result.recipe))
    assert recipe["engine"] == "brush" and recipe["weights"] == stylizer.engine.identity
    assert recipe["impasto"] == impasto.__version__
    assert recipe["content"] == recipe["mask"] == "photo.png"
    assert recipe["settings"] == {
        "strength": 0.5,
        "style_scale": 1.0,
        "preserve_color": "none",
        "mix_mode": "linear",
        "size": 48,
        "seed": 0,
        "tile": 1536,
        "options": {},
    }
    assert [(style["name"], style["weight"]) for style in recipe["styles"]] == [("ukiyo-e", 1 / 3), ("irises", 2 / 3)]
    assert str(photo.parent) not in json.dumps(recipe)
    field = field_from_recipe(recipe, stylizer.engine)
    assert np.array_equal(field.layers[1].code.vector, stylizer.encode("irises").vector)


def test_a_saved_painting_carries_its_recipe_and_how_it_was_saved(stylizer, presets, photo, tmp_path):
    result = stylizer.render(photo, StyleField.constant(presets["ukiyo-e"]))
    result.save(tmp_path / "painted.jpg", quality=80)
    saved = json.loads(read_recipe(tmp_path / "painted.jpg"))
    assert saved == result.recipe | {"saved": {"depth": 8, "quality": 80}}
    result.save(tmp_path / "bare.jpg", strip=True)
    assert read_recipe(tmp_path / "bare.jpg") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "0" * 16}, "painted with the weights 0000000000000000 of brush; installed are"),
        ({"styles": [{"name": "x", "weight": 1}]}, "names the style 'x' but does not hold it; its file is needed"),
        ({"styles": [{"name": "x", "weight": 1, "code": "A"}]}, "cannot be understood"),
        ({"styles": [{"name": "x", "weight": "much", "code": "AAAAAA=="}]}, "cannot be understood"),
        ({"styles": 3}, "cannot be understood"),
    ],
)
def test_a_recipe_of_other_weights_or_without_sense_is_refused(stylizer, presets, photo, change, words):
    recipe = stylizer.render(photo, StyleField.constant(presets["ukiyo-e"])).recipe
    with pytest.raises(FieldError) as caught:
        field_from_recipe(recipe | change, stylizer.engine)
    assert words in str(caught.value)


def test_a_field_with_maps_makes_no_recipe_that_pretends(stylizer, presets, photo):
    field = StyleField((StyleLayer(presets["ukiyo-e"], np.full((64, 80), 0.5, np.float32)),))
    recipe = stylizer.render(photo, field).recipe
    with pytest.raises(FieldError, match="weight maps, which its recipe does not hold"):
        field_from_recipe(recipe, stylizer.engine)


# --- sheets ----------------------------------------------------------------------------------------------------------


def test_a_contact_sheet_shows_the_photograph_and_every_style(stylizer, photo):
    sheet = contact_sheet(stylizer, read_picture(photo), ["ukiyo-e", "irises"], width=80, columns=2)
    assert sheet.dtype == np.float32 and sheet.min() >= 0 and sheet.max() <= 1
    first = sheet[12 : 12 + 64, 12 : 12 + 80]
    assert np.array_equal(np.rint(first * 255), read_picture(photo).stored)
    second, third = sheet[12 : 12 + 64, 104:184], sheet[114 : 114 + 64, 12:92]
    assert np.abs(second - first).mean() > 0.02 and np.abs(third - second).mean() > 0.02


def test_a_grid_has_a_row_for_what_is_left_and_labels():
    cells = [(str(index), np.zeros((10, 20, 3), np.float32)) for index in range(3)]
    grid = label_grid(cells, columns=2)
    assert grid.shape == (2 * (10 + 26 + 12) + 12, 2 * (20 + 12) + 12, 3)
    labels = grid[12 + 10 : 12 + 10 + 26]
    assert labels.min() < 0.5  # something is written there


def test_a_stylizer_of_an_unknown_engine_is_refused():
    with pytest.raises(UnknownNameError, match="no engine is called 'brash'; did you mean brush"):
        Stylizer.load("brash")

"""``impasto stylize --region`` and ``--protect``, their recipes, and the same through the Python API."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import impasto
from impasto.engines.fields import composite, spread_field
from impasto.errors import FieldError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image import read_recipe
from impasto.regions import RegionConfig, RegionStyle
from impasto.stylizer import StyleRequest


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def folder(tmp_path, photograph, artworks):
    """A photograph of 96 x 96, a mask of its left half, one of its lower half, and an artwork with a mask."""
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    for name, box in (("left", (0, 0, 47, 95)), ("lower", (0, 48, 95, 95))):
        image = Image.new("L", (96, 96))
        ImageDraw.Draw(image).rectangle(box, fill=255)
        image.save(tmp_path / f"{name}.png")
    Image.fromarray(artworks[1]).save(tmp_path / "art.png")
    part = Image.new("L", artworks[1].shape[1::-1])
    ImageDraw.Draw(part).ellipse((20, 10, 120, 110), fill=255)
    part.save(tmp_path / "part.png")
    return tmp_path


# -- what regions promise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"style_scale": 2.0}, {"preserve_color": "statistics"}, {"tile": 256}])
def test_outside_of_a_region_not_a_bit_changes(stylizer, photograph, folder, more):
    from impasto.config import StylizeConfig

    styles = [RegionStyle(folder / "left.png", "ukiyo-e")]
    result = stylizer.stylize(photograph, [], regions=styles, config=StylizeConfig(**more))
    np.testing.assert_array_equal(result.stored[:, 48:], photograph[:, 48:])
    assert np.abs(result.stored[:, :48].astype(int) - photograph[:, :48]).mean() > 5


def test_a_picture_in_tiles_is_untouched_outside_too(stylizer):
    from impasto.config import StylizeConfig

    content = np.random.default_rng(0).integers(0, 255, (300, 420, 3)).astype(np.uint8)
    mask = np.zeros((300, 420), np.float32)
    mask[40:200, 100:330] = 1
    result = stylizer.stylize(content, [], regions=[RegionStyle(mask, "ukiyo-e")], config=StylizeConfig(tile=256))
    np.testing.assert_array_equal(result.stored[mask == 0], content[mask == 0])
    assert (result.stored[mask == 1] != content[mask == 1]).mean() > 0.8


def test_the_style_is_whole_up_to_the_border(stylizer, photograph):
    """What is painted inside of a hard border is what is painted without one, but for what the network sees beyond."""
    mask = np.zeros((96, 96), np.float32)
    mask[:, :48] = 1
    cut = stylizer.stylize(photograph, [], regions=[RegionStyle(mask, "sunflowers")]).pixels
    whole = stylizer.stylize(photograph, [StyleRequest("sunflowers")]).pixels
    photo = photograph.astype(np.float32) / 255
    rim = np.s_[:, 40:48]
    assert np.abs(cut[rim] - whole[rim]).mean() < 0.4 * np.abs(photo[rim] - whole[rim]).mean()


def test_later_regions_lie_on_top(stylizer, photograph, folder):
    left, lower = RegionStyle(folder / "left.png", "rain-print"), RegionStyle(folder / "lower.png", "sunflowers")
    result = stylizer.stylize(photograph, [], regions=[left, lower]).stored.astype(int)
    alone = stylizer.stylize(photograph, [], regions=[lower]).stored.astype(int)
    turned = stylizer.stylize(photograph, [], regions=[lower, left]).stored.astype(int)
    corner = np.s_[56:, :40]
    assert np.abs(result[corner] - alone[corner]).mean() < 0.5 * np.abs(turned[corner] - alone[corner]).mean()
    np.testing.assert_array_equal(result[:48, 48:], photograph[:48, 48:])


def test_a_style_for_the_rest_and_a_region_that_keeps_the_photograph(stylizer, photograph, folder):
    result = stylizer.stylize(photograph, [StyleRequest("ukiyo-e")], regions=[RegionStyle(folder / "left.png", None)])
    np.testing.assert_array_equal(result.stored[:, :48], photograph[:, :48])
    assert np.abs(result.stored[:, 48:].astype(int) - photograph[:, 48:]).mean() > 5


def test_strength_of_a_region(stylizer, photograph, folder):
    changes = []
    for strength in (0.0, 0.4, 1.0):
        styles = [RegionStyle(folder / "left.png", "ukiyo-e", strength), RegionStyle(folder / "lower.png", "engraving")]
        result = stylizer.stylize(photograph, [], regions=styles).stored.astype(int)
        changes.append(np.abs(result[:40, :40] - photograph[:40, :40]).mean())
    assert changes[0] == 0 < changes[1] < changes[2]


def test_protected_faces_keep_more_of_the_photograph(stylizer):
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        photo = np.asarray(image.convert("RGB").resize((256, 256)))
    plain, spared, untouched = (
        stylizer.stylize(
            photo, [StyleRequest("ukiyo-e")], region_config=RegionConfig(protect=kind, protect_strength=share)
        ).stored.astype(int)
        for kind, share in (("", 0.25), ("faces,text", 0.25), ("faces", 0.0))
    )
    face, corner = np.s_[48:66, 104:122], np.s_[200:, :60]
    assert np.abs(spared[face] - photo[face]).mean() < 0.4 * np.abs(plain[face] - photo[face]).mean()
    np.testing.assert_array_equal(untouched[face], photo[face])
    assert np.abs(spared[corner] - plain[corner]).mean() < 3


def test_the_api_takes_the_command_lines_texts(folder, photograph):
    region = f"{folder / 'left.png'}=ukiyo-e:0.8"
    result = impasto.stylize(photograph, regions=[region], feather=3)
    np.testing.assert_array_equal(result.stored[:, 52:], photograph[:, 52:])
    assert result.recipe["regions"]["settings"]["feather"] == 3
    assert result.recipe["regions"]["masks"][0]["region"] == "left.png"


def test_regions_that_make_no_painting(stylizer, photograph, folder):
    with pytest.raises(UsageError, match="at least one style"):
        stylizer.stylize(photograph, [])
    with pytest.raises(FieldError, match="every region keeps the photograph"):
        stylizer.stylize(photograph, [], regions=[RegionStyle(folder / "left.png", None)])
    with pytest.raises(FieldError, match=r"left.png' is named twice"):
        stylizer.stylize(photograph, [], regions=[RegionStyle(folder / "left.png", "ukiyo-e")] * 2)
    with pytest.raises(FieldError, match=r"'rectangle:0,60,40,90' is hidden entirely"):
        texts = ("rectangle:0,60,40,90=ukiyo-e", f"{folder / 'left.png'}=engraving")
        stylizer.stylize(photograph, [], regions=[RegionStyle.parse(text) for text in texts])


# -- edges -------------------------------------------------------------------------------------------------------------


def field_of(*weights):
    code = StyleCode(np.ones(4, np.float32), "brush", "0" * 16)
    return StyleField(tuple(StyleLayer(code, np.asarray(weight, np.float32)) for weight in weights))


def test_spread_fields_stay_fields_and_give_the_weights_back():
    chance = np.random.default_rng(0)
    first, second = np.zeros((2, 90, 120), np.float32)
    first[20:60, 10:50] = 0.7
    second[30:80, 50:90] = chance.random((50, 40))
    field = field_of(first, second)
    spread, cover = spread_field(field)
    assert spread.size == (90, 120) and float(spread.total.max()) <= 1 + 1e-5
    np.testing.assert_allclose(cover * spread.total, field.total, atol=1e-5)
    np.testing.assert_array_equal(cover == 0, field.total == 0)
    assert spread.layers[0].weight[25, 5] == pytest.approx(0.7, abs=0.01)  # the style goes on beyond its border
    assert spread.total[85, 5] == 0 or cover[85, 5] == 0
    for before, after in zip(field.layers, spread.layers, strict=True):
        assert (after.weight >= before.weight - 1e-6).all()


def test_fields_without_a_border_stay_themselves():
    for field in (field_of(0.4, 0.6), field_of(np.full((8, 8), 0.3)), field_of(np.linspace(0.1, 1, 64).reshape(8, 8))):
        spread, cover = spread_field(field)
        assert spread is field and cover is None


def test_ramps_change_only_where_they_begin():
    ramp = np.tile(np.linspace(0, 1, 400, dtype=np.float32), (60, 1))
    spread, cover = spread_field(field_of(ramp))
    np.testing.assert_allclose(spread.total[:, 80:], ramp[:, 80:], atol=1e-6)
    np.testing.assert_allclose(cover[:, 80:], 1, atol=1e-6)
    assert np.abs(np.diff(spread.total[30])).max() < 0.02


def test_compositing_is_exact_at_no_weight():
    content = np.random.default_rng(1).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    weight = np.zeros((8, 9), np.float32)
    weight[2:4] = 1
    result = composite(content, np.zeros((8, 9, 3), np.float32), weight)
    np.testing.assert_array_equal(result[weight == 0], content[weight == 0])
    assert result[2:4].max() == 0


# -- the command -------------------------------------------------------------------------------------------------------


def test_regions_on_the_command_line_and_again_from_the_picture(impasto, folder):
    finished = impasto(
        "stylize", "photo.png", "--feather", "2", "--feather-mode", "gaussian", "-o", "out.png", "--json",
        "--region", "left.png=ukiyo-e:0.9", "--region", "rectangle:60,10,90,40=art.png@part.png",
        "--region", "rectangle:10,10,30,30=keep",
    )  # fmt: skip
    recipe = json.loads(finished.out)["recipe"]
    assert [style["name"] for style in recipe["styles"]] == ["ukiyo-e", "art.png@part.png"]
    assert [mask["keep"] for mask in recipe["regions"]["masks"]] == [False, False, True]
    out, photo = pixels(folder / "out.png"), pixels(folder / "photo.png")
    np.testing.assert_array_equal(out[60:, 60:], photo[60:, 60:])
    np.testing.assert_array_equal(out[14:26, 14:26], photo[14:26, 14:26])
    impasto("replay", "out.png", "-o", "again.png")
    np.testing.assert_array_equal(pixels(folder / "again.png"), out)
    assert "folder" not in json.loads(read_recipe(folder / "out.png"))["regions"]["masks"][0]["region"]


def test_a_changed_mask_is_noticed(impasto, refused, folder):
    impasto("stylize", "photo.png", "--region", "left.png=ukiyo-e", "--style", "engraving", "-o", "out.png")
    (folder / "left.png").write_bytes((folder / "lower.png").read_bytes())
    refused("replay", "out.png", "-o", "again.png", code=2, words=["'left.png'", "is not the one", "--anyway"])
    impasto("replay", "out.png", "-o", "again.png", "--anyway")
    assert (pixels(folder / "again.png") != pixels(folder / "out.png")).any()
    (folder / "left.png").unlink()
    refused("replay", "out.png", "-o", "third.png", code=2, words="'left.png' of the recipe is not beside")


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("left.png", "REGION=STYLE"),
        ("box:5,5,5,50=ukiyo-e", ["'box:5,5,5,50'", "no area"]),
        ("box:5,5,500,50=ukiyo-e", ["'box:5,5,500,50'", "outside of the picture of 96 x 96"]),
        ("click:97,5=ukiyo-e", ["'click:97,5'", "outside"]),
        ("polygon:0,0/5,5/200,9=ukiyo-e", ["polygon", "outside"]),
        ("labelme:missing.json#sky=ukiyo-e", ["missing.json", "cannot be read"]),
        ("part.png=ukiyo-e", ["'part.png'", "shapes differ"]),
        ("left.png=ukiyo-f", "did you mean ukiyo-e"),
        ("left.png=ukiyo-e@part.png", "is no picture"),
        ("left.png=ukiyo-e:2", ["left.png", "between 0 and 1"]),
        ("faces=ukiyo-e", ["'faces'", "no faces found on 'photo.png'"]),
    ],
)
def test_regions_that_are_refused(refused, folder, region, words):
    photo = Image.open(folder / "photo.png").transpose(Image.Transpose.ROTATE_180)
    photo.save(folder / "photo.png")  # no face that way up
    refused("stylize", "photo.png", "--region", region, "-o", "out.png", code=2, words=words)


def test_a_command_without_any_style(refused, folder):
    refused("stylize", "photo.png", "-o", "out.png", code=2, words="name a --style for the photograph, or a --region")
    refused("stylize", "photo.png", "-s", "ukiyo-e", "--protect", "cats", "-o", "out.png", code=2, words="faces, text")


# -- folders -----------------------------------------------------------------------------------------------------------


def test_regions_on_a_folder_of_photographs(impasto, refused, folder, photograph):
    (folder / "in").mkdir()
    Image.fromarray(photograph).save(folder / "in" / "a.png")
    Image.fromarray(photograph[:64]).save(folder / "in" / "b.png")
    command = ("batch", "in", "-o", "out", "--region", "rectangle:0,0,50%,100%=ukiyo-e")
    assert "2 painted" in impasto(*command).out
    for name, height in (("a", 96), ("b", 64)):
        out = pixels(folder / "out" / f"{name}.png")
        np.testing.assert_array_equal(out[:, 48:], photograph[:height, 48:])
        assert (out[:, :48] != photograph[:height, :48]).any()
    assert "0 painted, 2 done before" in impasto(*command).out
    assert "2 painted" in impasto(*command, "--feather", "2", "--feather-mode", "gaussian").out
    finished = impasto("batch", "in", "-o", "out", "--region", "left.png=ukiyo-e", code=7)
    assert "1 painted" in finished.out and "shapes differ" in finished.err
    impasto("replay", "out/a.png", "--content", "in/a.png", "-o", "again.png")
    refused("batch", "in", "-o", "out", code=2, words="name a --style")

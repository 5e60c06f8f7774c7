"""Regions on pictures: masks, boxes, clicks, segments, the foreground, faces, text."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw, ImageFont

from impasto.errors import FieldError, ImageError, MissingExtraError, UsageError
from impasto.image import read_picture
from impasto.regions import RegionConfig, RegionFinder, Regions, draw_overlay, parse_region
from impasto.regions.cutting import refined
from impasto.regions.detection import find_faces, find_text
from impasto.regions.overlay import palette, spot_of
from impasto.regions.segments import merge_superpixels, superpixels


def natural(name, size):
    """A picture of scikit-image's wheel, ``[height, width, 3]``."""
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS))


def overlap(first, second):
    """Intersection over union."""
    first, second = np.asarray(first) >= 0.5, np.asarray(second) >= 0.5
    return (first & second).sum() / (first | second).sum()


def scene(size=(120, 160), seed=0):
    """A textured orange disc on a textured blue ground, and its mask."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    inside = (y - 55) ** 2 + (x - 90) ** 2 <= 34**2
    colors = np.where(inside[..., None], (220, 120, 40), (60, 90, 150)) + chance.normal(0, 12, (*size, 3))
    return np.clip(colors, 0, 255).astype(np.uint8), inside


@pytest.fixture(scope="module")
def finder():
    return RegionFinder(read_picture(scene()[0]))


# -- masks -------------------------------------------------------------------------------------------------------------


def test_masks_of_any_mode_and_size(tmp_path, finder):
    inside = scene()[1]
    grey = Image.fromarray(inside.astype(np.uint8) * 255)
    grey.resize((80, 60)).save(tmp_path / "half.png")
    grey.convert("1").save(tmp_path / "bits.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    shape = Image.new("RGBA", grey.size, (200, 20, 20, 255))
    shape.putalpha(grey)
    shape.save(tmp_path / "alpha.png")
    Image.fromarray(inside.astype(np.uint16) * 65535).save(tmp_path / "deep.png")
    for name in ("half", "bits", "rgb", "alpha", "deep"):
        mask = finder.find(str(tmp_path / f"{name}.png"))
        assert mask.shape == inside.shape and overlap(mask, inside) > 0.95, name
    np.testing.assert_array_equal(finder.find(inside), inside)
    np.testing.assert_array_equal(finder.find(tmp_path / "bits.png"), inside)


def test_masks_that_are_none(tmp_path, finder):
    Image.fromarray(scene()[0]).save(tmp_path / "photo.png")
    Image.new("L", (160, 120)).save(tmp_path / "black.png")
    Image.new("L", (120, 120), 255).save(tmp_path / "square.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, error, words in (
        ("photo.png", FieldError, "is a picture in colours, not a mask"),
        ("black.png", FieldError, "black.png' is empty"),
        ("square.png", FieldError, "square.png' does not fit: .* the shapes differ"),
        ("text.png", ImageError, "text.png"),
        ("missing.png", ImageError, "there is no file"),
    ):
        with pytest.raises(error, match=words):
            finder.find(str(tmp_path / name))


# -- boxes, clicks, polygons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["box:50,15,130,95", "box:30%,10%,85%,80%", "click:90,55", "click:85,50/100,60/-20,100"]
)
def test_an_object_is_cut_out(finder, text):
    mask = finder.find(text)
    assert mask.dtype == np.float32 and overlap(mask, scene()[1]) > 0.93
    assert mask[:8].max() == 0 and mask[50, 85] == 1  # exact away from the border


def test_a_background_can_be_clicked_at(finder):
    assert overlap(finder.find("click:10,10"), ~scene()[1]) > 0.9


def test_what_is_cut_out_is_the_same_every_time():
    first, second = (RegionFinder(read_picture(scene()[0])).find("box:50,15,130,95") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_clicks_choose_one_of_two_equal_objects():
    pixels = np.full((80, 160, 3), 60, np.uint8)
    pixels[20:60, 20:60] = pixels[20:60, 100:140] = (220, 200, 60)
    mask = RegionFinder(read_picture(pixels)).find("click:40,40")
    assert mask[20:60, 20:60].mean() > 0.95 and mask[:, 90:].max() == 0


def test_plain_shapes(finder):
    rectangle = finder.find("rectangle:10,20,50,60")
    assert rectangle.sum() == pytest.approx(1600) and rectangle[20:60, 10:50].min() == 1
    assert finder.find("polygon:0,0/100%,0/0,100%").sum() == pytest.approx(160 * 120 / 2, rel=0.01)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("box:10,20,10,60", FieldError, "'box:10,20,10,60' has no area"),
        ("box:50,20,10,60", FieldError, "'box:50,20,10,60' has no area"),
        ("rectangle:10,20,40,20", FieldError, "has no area"),
        (
            "box:10,20,300,60",
            FieldError,
            "'box:10,20,300,60': the corner's x 300 lies outside of the picture of 160 x 120",
        ),
        ("box:0,0,160,120", FieldError, "'box:0,0,160,120' fills the whole picture"),
        ("box:1,2,3", UsageError, "'box:1,2,3' needs 4 numbers"),
        ("click:200,10", FieldError, "'click:200,10': the click's x 200 lies outside"),
        ("click:10,120.5", FieldError, "the click's y 120.5 lies outside"),
        ("click:-10,20", FieldError, "only what does not belong to it"),
        ("click:10,20/-10,20", FieldError, "the same spot inside and outside"),
        ("click:10", UsageError, r"needs two numbers \(x,y\)"),
        ("polygon:0,0/10,10", FieldError, "has 2 corners"),
        ("polygon:0,0/10,10/20,20", FieldError, "has no area"),
        ("polygon:0,0/170,10/20,20", FieldError, "the corner's x 170 lies outside"),
        ("segment:0", FieldError, "segments are numbered from 1 to"),
        ("segment:99", FieldError, "segments are numbered from 1 to"),
        ("segment:two", FieldError, "segments are numbered from 1 to"),
        ("faces", FieldError, "no faces found on"),
        ("text", FieldError, "no text found on"),
    ],
)
def test_regions_that_are_not_there(finder, text, error, words):
    with pytest.raises(error, match=words):
        finder.find(text)


@pytest.mark.parametrize("text", ["box:20,20,60,60", "foreground", "click:40,40"])
def test_an_even_picture_has_no_object(text):
    finder = RegionFinder(read_picture(np.full((80, 90, 3), 128, np.uint8)))
    try:
        mask = finder.find(text)
    except FieldError as error:
        assert text in str(error)
    else:
        assert np.isfinite(mask).all() and mask.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5)])
@pytest.mark.parametrize("text", ["rectangle:0,0,100%,100%", "segment:1", "foreground", "click:50%,50%"])
def test_tiny_pictures_give_a_mask_or_a_clear_error(size, text):
    finder = RegionFinder(read_picture(np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)))
    try:
        mask = finder.find(text)
    except FieldError as error:
        assert "region" in str(error)
    else:
        assert mask.shape == size


def test_what_opencv_is_needed_for_says_so(finder, monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        MissingExtraError, match=r"cutting out boxes and clicks needs .* pip install 'impasto\[regions\]'"
    ):
        finder.find("box:50,15,130,96")
    assert finder.find("rectangle:10,20,50,60").max() == 1  # needs nothing


# -- refinement --------------------------------------------------------------------------------------------------------


def test_refinement_finds_the_edge_of_the_large_picture():
    pixels, inside = scene((240, 320))
    large = np.asarray(Image.fromarray(pixels).resize((960, 720), Image.Resampling.BICUBIC), np.float32) / 255
    wanted = np.asarray(Image.fromarray(inside).resize((960, 720)))
    small = np.asarray(Image.fromarray(inside).resize((107, 80), Image.Resampling.NEAREST))
    rough = np.asarray(Image.fromarray(small).resize((960, 720), Image.Resampling.NEAREST))
    mask = refined(small, large)
    assert overlap(mask, wanted) > max(0.97, overlap(rough, wanted))
    assert (mask == 0).mean() > 0.5 and (mask == 1).sum() > 0.8 * wanted.sum()


# -- automatic segments ------------------------------------------------------------------------------------------------


def test_segments_part_the_picture_and_the_largest_comes_first():
    picture = read_picture(natural("coffee.png", (200, 300)))
    finder = RegionFinder(picture, RegionConfig(segments=6))
    numbers = finder.segment_numbers
    areas = np.bincount(numbers.ravel())[1:]
    assert finder.segment_count == 6 and (np.diff(areas) <= 0).all() and numbers.min() == 1
    regions = Regions.stacked((f"segment:{n}", finder.find(f"segment:{n}")) for n in range(1, 7))
    assert regions.covered.min() > 0.6 and regions.covered.mean() > 0.99


def test_merging_joins_what_is_alike():
    pixels, inside = scene()
    labels = merge_superpixels(superpixels(pixels, 100), 2)
    assert labels.max() == 2 and overlap(labels == 2, inside) > 0.9
    patches = superpixels(pixels, 100)
    assert merge_superpixels(patches, 10_000).max() == patches.count
    assert merge_superpixels(patches, 1).max() == 1


def test_superpixels_say_what_they_are():
    pixels, _ = scene()
    patches = superpixels(pixels, 60)
    assert patches.areas.sum() == pixels.shape[0] * pixels.shape[1]
    touching = set()
    labels = patches.labels
    for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        touching |= {
            tuple(sorted(pair)) for pair in zip(first.ravel(), second.ravel(), strict=True) if pair[0] != pair[1]
        }
    assert touching == {tuple(pair) for pair in patches.pairs.tolist()}


def test_the_foreground_stands_out(finder):
    assert overlap(finder.foreground, scene()[1]) > 0.9
    np.testing.assert_allclose(finder.find("background"), 1 - finder.foreground, atol=1e-6)


# -- faces and text ----------------------------------------------------------------------------------------------------


def test_the_face_of_an_astronaut():
    faces = find_faces(natural("astronaut.png", (320, 320)))
    assert len(faces) == 1
    assert abs(faces[0].x - 140) < 15 and abs(faces[0].y - 70) < 15 and 20 < faces[0].across < 45
    mask = RegionFinder(read_picture(natural("astronaut.png", (320, 320)))).faces
    assert mask[70, 140] == 1 and mask[250:].max() == 0 and ((mask > 0) & (mask < 1)).any()


def test_a_rocket_and_a_cup_are_no_faces():
    assert find_faces(natural("rocket.jpg", (240, 360))) == [] == find_faces(natural("coffee.png", (240, 360)))
    assert find_faces(np.zeros((10, 10, 3), np.uint8)) == []


def test_a_tilted_face_is_found_where_it_is():
    image = Image.fromarray(natural("astronaut.png", (384, 384))).rotate(20, Image.Resampling.BICUBIC)
    faces = find_faces(np.asarray(image))
    angle = np.radians(20)
    x, y = 168 - 192, 84 - 192
    expected = (192 + x * np.cos(angle) + y * np.sin(angle), 192 - x * np.sin(angle) + y * np.cos(angle))
    assert any(np.hypot(face.x - expected[0], face.y - expected[1]) < 25 for face in faces)


@pytest.mark.parametrize("tone", ["white", "black"])
def test_printed_text_is_found(tone):
    image = Image.new("RGB", (400, 300), (110, 130, 120))
    draw = ImageDraw.Draw(image)
    draw.text((60, 100), "Harvest festival", font=ImageFont.load_default(32), fill=tone)
    left, top, right, bottom = draw.textbbox((60, 100), "Harvest festival", font=ImageFont.load_default(32))
    mask = RegionFinder(read_picture(image)).text
    assert mask[top:bottom, left:right].mean() > 0.8
    assert mask[:60].max() == 0 and mask[180:].max() == 0


@pytest.mark.parametrize("name", ["rocket.jpg", "chelsea.png", "grass.png", "gravel.png"])
def test_pictures_without_text_have_none(name):
    mask = RegionFinder(read_picture(natural(name, (300, 400)))).text
    assert mask.mean() < 0.02
    assert find_text(np.zeros((4, 4, 3), np.uint8)) == []


# -- overlays ----------------------------------------------------------------------------------------------------------


def test_an_overlay_shows_each_region_in_its_colour():
    pixels, inside = scene()
    regions = Regions.stacked({"rest": np.ones(inside.shape, np.float32), "disc": inside.astype(np.float32)})
    shown = np.asarray(draw_overlay(pixels, regions)).astype(int)
    assert shown.shape == pixels.shape
    first, second = palette(2)
    assert np.abs(shown[100, 20] - first).sum() < np.abs(shown[100, 20] - second).sum()
    assert np.abs(shown[75, 110] - second).sum() < np.abs(shown[75, 110] - first).sum()
    assert len(set(palette(64))) == 64


def test_a_number_stands_inside_its_region():
    ring = np.zeros((100, 140), np.float32)
    ring[10:90, 10:130] = 1
    ring[20:90, 20:120] = 0  # thin arms: the middle of the mass lies outside
    x, y = spot_of(ring)
    assert ring[int(y), int(x)] == 1
    single = np.zeros((50, 70), np.float32)
    single[49, 69] = 1
    assert spot_of(single) == pytest.approx((69.5, 49.5), abs=1)


def test_specs_and_texts_find_the_same(finder):
    np.testing.assert_array_equal(finder.find(parse_region("rectangle:1,2,30,40")), finder.find("rectangle:1,2,30,40"))

"""What people write as regions and their styles."""

from pathlib import Path

import pytest

from impasto.errors import UnknownNameError, UsageError
from impasto.regions import RegionStyle, parse_region
from impasto.regions.specs import KINDS, parse_numbers


@pytest.mark.parametrize(
    ("text", "kind", "argument", "key"),
    [
        ("sky.png", "file", "sky.png", ""),
        ("masks/the sky.png", "file", "masks/the sky.png", ""),
        ("C:\\masks\\sky.png", "file", "C:\\masks\\sky.png", ""),
        ("box:10,20,300,400", "box", "10,20,300,400", ""),
        ("labelme:notes/a.json#the sky", "labelme", "notes/a.json", "the sky"),
        ("labelme:a.json", "labelme", "a.json", ""),
        ("coco:a.json#17", "coco", "a.json", "17"),
        ("segment:3", "segment", "3", ""),
        (" foreground ", "foreground", "", ""),
        ("faces", "faces", "", ""),
    ],
)
def test_regions_that_are_understood(text, kind, argument, key):
    spec = parse_region(text)
    assert (spec.kind, spec.argument, spec.key) == (kind, argument, key)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", UsageError, "needs a name"),
        ("box:", UsageError, "write box:LEFT"),
        ("box", UsageError, "write box:LEFT"),
        ("coco:a.json", UsageError, "write coco:FILE"),
        ("coco:#3", UsageError, "write coco:FILE"),
        ("foreground:3", UsageError, "has too much"),
        ("bocks:1,2,3,4", UnknownNameError, "did you mean box"),
        ("forground", UnknownNameError, "did you mean foreground"),
    ],
)
def test_regions_that_are_not(text, error, words):
    with pytest.raises(error, match=words):
        parse_region(text)


def test_a_file_may_be_called_like_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mask", "layer:sky", "img@2x.jpg"):
        Path(name).write_bytes(b"")
    assert parse_region("mask").kind == parse_region("layer:sky").kind == "file"
    assert RegionStyle.parse("mask=img@2x.jpg:0.5").style_region is None


@pytest.mark.parametrize(
    ("text", "region", "style", "strength", "part"),
    [
        ("sky.png=monet.jpg:0.9", "sky.png", "monet.jpg", 0.9, None),
        ("sky.png=monet.jpg", "sky.png", "monet.jpg", 1.0, None),
        ("box:10,20,300,400=ukiyo-e:.5", "box:10,20,300,400", "ukiyo-e", 0.5, None),
        ("sky.png=monet.jpg@sky of monet.png:0.9", "sky.png", "monet.jpg", 0.9, "sky of monet.png"),
        ("segment:2=a.jpg@box:1,2,3,4", "segment:2", "a.jpg", 1.0, "box:1,2,3,4"),
        ("segment:2=a.jpg@segment:1:0.5", "segment:2", "a.jpg", 0.5, "segment:1"),
        ("faces=keep", "faces", None, 1.0, None),
        ("a==b.png=c==d.jpg", "a=b.png", "c=d.jpg", 1.0, None),
        ("sky.png=C:\\art\\monet.jpg", "sky.png", "C:\\art\\monet.jpg", 1.0, None),
    ],
)
def test_styles_of_regions(text, region, style, strength, part):
    found = RegionStyle.parse(text)
    assert (found.region, found.style, found.strength, found.style_region) == (region, style, strength, part)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sky.png", "REGION=STYLE"),
        ("=monet.jpg", "REGION=STYLE"),
        ("sky.png=", "REGION=STYLE"),
        ("a=b=c", "written twice"),
        ("sky.png=monet.jpg:1.5", "strength of the region 'sky.png' must lie between 0 and 1"),
        ("sky.png=monet.jpg@", "is not complete"),
        ("sky.png=@sky.png", "is not complete"),
        ("sky.png=keep@box:1,2,3,4", "keeps the photograph"),
        ("bocks:1,2,3,4=monet.jpg", "did you mean box"),
    ],
)
def test_styles_of_regions_that_cannot_be_understood(text, words):
    with pytest.raises(UsageError, match=words):
        RegionStyle.parse(text)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "1,2,3,-4", "1,2,3,4,5", "1 2 3 4", "1,2,3,1e5"])
def test_boxes_need_four_numbers(text):
    with pytest.raises(UsageError, match=r"the region 'box' needs 4 numbers \(left,top,right,bottom\)"):
        parse_numbers(text, 4, "box")


def test_percentages():
    x, y = parse_numbers("50%, 7.5", 2, "click")
    assert x.of(640) == 320 and y.of(480) == 7.5


def test_recipes_keep_no_folders():
    assert parse_region("/home/me/sky.png").portable == "sky.png"
    assert parse_region("labelme:/home/me/a.json#sky").portable == "labelme:a.json#sky"
    assert parse_region("box:1,2,3,4").portable == "box:1,2,3,4"
    assert parse_region("coco:a.json#3").with_file("/x/a.json").text == "coco:/x/a.json#3"


def test_every_kind_is_explained():
    assert all(text.startswith(kind) for kind, text in KINDS.items())

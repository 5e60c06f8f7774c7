"""``impasto segment``: an overlay, masks and a manifest."""

import json

import numpy as np
from PIL import Image, ImageDraw


def scene(path, size=(160, 120)):
    image = Image.new("RGB", size, (60, 90, 150))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 80, *size), fill=(70, 140, 60))
    draw.ellipse((50, 20, 110, 80), fill=(230, 120, 40))
    image.save(path)


def test_segments_are_shown_and_saved(impasto, tmp_path):
    scene(tmp_path / "photo.png")
    finished = impasto("segment", "photo.png", "-o", "out", "--segments", "3")
    assert "overlay.png" in finished.out and "segment:3" in finished.out
    found = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert found["height"] == 120 and [row["number"] for row in found["regions"]] == [1, 2, 3]
    total = np.zeros((120, 160))
    for row in found["regions"]:
        mask = np.asarray(Image.open(tmp_path / "out" / row["file"])) / 255
        total += mask
        assert abs(mask.mean() - row["share"]) < 0.01
        left, top, right, bottom = row["box"]
        assert (mask >= 0.5)[top:bottom, left:right].sum() == (mask >= 0.5).sum()
    assert np.abs(total - 1).mean() < 0.02
    with Image.open(tmp_path / "out" / "overlay.png") as overlay:
        assert overlay.size == (160, 120)
    # What was saved can be used, and means the same as its number.
    again = ("stylize", "photo.png", "--segments", "3", "--region")
    impasto(*again, "out/segment_3.png=ukiyo-e", "-o", "a.png", "--strip")
    impasto(*again, "segment:3=ukiyo-e", "-o", "b.png", "--strip")
    first, second = (np.asarray(Image.open(tmp_path / name), int) for name in ("a.png", "b.png"))
    assert np.abs(first - second).mean() < 0.5


def test_named_regions_in_place_of_segments(impasto, tmp_path):
    scene(tmp_path / "photo.png")
    finished = impasto(
        "segment",
        "photo.png",
        "-o",
        "out",
        "--region",
        "rectangle:0,80,160,120",
        "--region",
        "box:40,10,120,90",
        "--json",
    )
    rows = json.loads(finished.out)["regions"]
    assert [row["region"] for row in rows] == ["rectangle:0,80,160,120", "box:40,10,120,90"]
    disc = np.asarray(Image.open(tmp_path / "out" / rows[1]["file"])) >= 128
    y, x = np.mgrid[:120, :160]
    wanted = (x - 80) ** 2 + (y - 50) ** 2 <= 30**2
    assert (disc & wanted).sum() / (disc | wanted).sum() > 0.95


def test_what_segment_refuses(refused, tmp_path):
    scene(tmp_path / "photo.png")
    refused("segment", "photo.png", "-o", "photo.png", code=4, words="'photo.png' is a file")
    refused("segment", "photo.png", "-o", "out", "--region", "faces", code=2, words="no faces found")
    refused("segment", "missing.png", "-o", "out", code=3, words="missing.png")
    refused("segment", "photo.png", "-o", "out", "--region", "sam", code=2, words="no region or mask file")
    refused(
        "segment",
        "photo.png",
        "-o",
        "out",
        "--region",
        "box:1,1,9,9",
        "--sam",
        "x/y",
        code=2,
        words="OWNER/NAME@COMMIT",
    )

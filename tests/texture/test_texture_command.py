"""``impasto texture``."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("numba")


@pytest.fixture
def sample(tmp_path):
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:48]
    grey = 128 + 80 * np.sin(y / 2) * np.sin(x / 3) + generator.normal(0, 5, (40, 48))
    Image.fromarray(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)).save(tmp_path / "sample.png")
    return tmp_path / "sample.png"


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_texture_is_twice_its_sample_by_default(impasto, sample, tmp_path):
    assert "wall.png" in impasto("texture", sample, "-o", "wall.png", "--set", "block=16").out
    assert pixels(tmp_path / "wall.png").shape == (80, 96, 3)


def test_size_seed_and_settings_reach_the_method(impasto, sample, tmp_path):
    asked = ("--size", "70x50", "--set", "block=16", "--set", "attempts=1", "--json")
    said = json.loads(impasto("texture", sample, "-o", "a.png", *asked, "--seed", 4).out)
    assert (said["width"], said["height"], said["seed"], said["method"]) == (70, 50, 4, "quilting")
    assert said["settings"]["block"] == 16 and said["settings"]["tolerance"] == 0.1
    impasto("texture", sample, "-o", "b.png", *asked, "--seed", 4)
    impasto("texture", sample, "-o", "c.png", *asked, "--seed", 5)
    first, again, other = (pixels(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert first.shape == (50, 70, 3) and np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_other_jobs(impasto, sample, photo, tmp_path):
    impasto("texture", sample, "-o", "grown.png", "--method", "efros-leung", "--size", "20", "--set", "window=7")
    assert pixels(tmp_path / "grown.png").shape == (20, 20, 3)
    impasto("texture", sample, "-o", "tile.png", "--tileable", "--size", "40x40", "--set", "block=16")
    assert pixels(tmp_path / "tile.png").shape == (40, 40, 3)
    impasto("texture", sample, "-o", "drawn.png", "--onto", photo, "--set", "block=14", "--set", "passes=2")
    assert pixels(tmp_path / "drawn.png").shape == pixels(photo).shape
    hole = np.zeros((40, 48), np.uint8)
    hole[10:18, 20:30] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    impasto("texture", sample, "-o", "mended.png", "--fill", "hole.png", "--set", "window=7")
    mended = pixels(tmp_path / "mended.png")
    assert np.array_equal(mended[hole == 0], pixels(sample)[hole == 0])
    assert np.abs(mended.astype(int) - pixels(sample))[hole > 0].mean() < 40


def test_settings_are_listed(impasto, sample):
    told = impasto("texture", sample, "-o", "x.png", "--settings").out
    assert "tolerance" in told and "attempts" in told
    assert (
        "neighborhood" in impasto("texture", sample, "-o", "x.png", "--method", "portilla-simoncelli", "--settings").out
    )


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--method", "quilt"), 2, "method must be one of quilting, efros-leung, portilla-simoncelli"),
        (("--size", "big"), 2, "--size takes WIDTHxHEIGHT"),
        (("--size", "0x10"), 2, "width must lie between 1 and 16384"),
        (("--set", "blok=3"), 2, "did you mean block"),
        (("--set", "block=41"), 2, ["48 x 40 px", "smaller than a block of 41 px", "at most 40"]),
        (("--method", "efros-leung", "--tileable"), 2, "efros-leung grows no tiles"),
        (("--onto", "a.png", "--fill", "b.png"), 2, "different jobs"),
        (("--onto", "a.png", "--size", "3x3"), 2, "keep the picture's size"),
        (("--fill", "a.png", "--method", "portilla-simoncelli"), 2, "--fill works by efros-leung"),
        (("--onto", "missing.png"), 3, "missing.png"),
    ],
)
def test_wrong_orders_are_refused_in_one_line(refused, sample, options, code, words):
    refused("texture", sample, "-o", "out.png", *options, code=code, words=words)


def test_a_sample_of_one_pixel_is_refused(refused, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    refused("texture", "dot.png", "-o", "out.png", code=2, words="1 x 1 px")
    refused("texture", "dot.png", "-o", "dot.png", code=4, words="is the photograph itself")

"""``impasto replay``: the same picture again."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from impasto.image import read_picture, read_recipe, write_picture


@pytest.fixture
def mask(tmp_path):
    """A ramp that never reaches white."""
    ramp = np.tile(np.linspace(0, 140, 80).astype(np.uint8), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    return "ramp.png"


def with_recipe(source, target, change):
    """A copy of a painting whose recipe says something else."""
    picture = read_picture(source)
    write_picture(target, picture.pixels, like=picture.info, recipe=change(read_recipe(source)))


def changed(**values):
    return lambda text: json.dumps(json.loads(text) | values)


@pytest.mark.parametrize("name", ["out.png", "deep.png", "deep.tif", "small.jpg", "out.webp"])
def test_a_replay_is_the_same_picture_bit_for_bit(impasto, photo, mask, tmp_path, name):
    options = ["--depth", "16"] if name.startswith("deep") else ["--quality", "70"]
    impasto(
        *("stylize", photo, "-s", "ukiyo-e", "-s", "irises", "-s", "ink-wash", "--mix", "1,2,4", "--mask", mask),
        *("--strength", "0.7", "--size", "72", "--preserve-color", "luminance", "-o", name, *options),
    )
    again = f"again.{name.partition('.')[2]}"
    assert impasto("replay", name, "-o", again).out == f"{again}\n"
    assert (tmp_path / again).read_bytes() == (tmp_path / name).read_bytes()


def test_a_file_name_that_is_no_text_is_found_again(impasto, photo, tmp_path):
    odd = photo.rename(tmp_path / os.fsdecode(b"\xff photo.png"))
    assert "ukiyo-e" in impasto("stylize", odd, "-s", "ukiyo-e", "-s", odd.name, "--json").out
    painted = tmp_path / os.fsdecode(b"\xff photo.ukiyo-e+\xff photo.png")
    impasto("replay", painted.name, "-o", "again.png")
    assert (tmp_path / "again.png").read_bytes() == painted.read_bytes()
    assert "? photo.png" in impasto("replay", painted.name, "--show").out


def test_a_replay_of_a_replay_needs_nothing_more(impasto, photo, tmp_path):
    impasto("stylize", photo, "-s", "ukiyo-e", "-o", "out.png")
    impasto("replay", "out.png")
    impasto("replay", "out.replay.png")
    assert (tmp_path / "out.replay.replay.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_the_photograph_may_lie_elsewhere_or_be_another(impasto, refused, photo, tmp_path):
    impasto("stylize", photo, "-s", "ukiyo-e", "-o", "out.png")
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(photo, tmp_path / "elsewhere" / "moved.png")
    refused("replay", "out.png", code=2, words=["'photo.png' of the recipe is not beside 'out.png'", "--content"])
    impasto("replay", "out.png", "--content", moved, "-o", "again.png")
    assert np.array_equal(read_picture(tmp_path / "again.png").stored, read_picture(tmp_path / "out.png").stored)


def test_show_prints_the_recipe(impasto, photo):
    impasto("stylize", photo, "-s", "ukiyo-e", "-o", "out.png")
    assert json.loads(impasto("replay", "out.png", "--show").out) == json.loads(read_recipe(photo.with_name("out.png")))


def test_other_weights_are_an_error_unless_asked_for(impasto, refused, photo, tmp_path):
    impasto("stylize", photo, "-s", "ukiyo-e", "-s", "irises", "--mix", "1,3", "-o", "out.png")
    with_recipe(tmp_path / "out.png", tmp_path / "old.png", changed(weights="0" * 16))
    refused("replay", "old.png", code=2, words=["'old.png' was painted with the weights 0000000000000000", "--anyway"])
    finished = impasto("replay", "old.png", "--anyway", "-o", "again.png")
    assert "encoding the styles again" in finished.err
    assert np.array_equal(read_picture(tmp_path / "again.png").stored, read_picture(tmp_path / "out.png").stored)


def test_another_encoder_under_the_same_name_is_noticed(impasto, refused, photo, tmp_path):
    torch = pytest.importorskip("torch", reason="needs impasto[torch]")
    from impasto.nets.lens import Lens, LensConfig
    from impasto.weights.files import write_tensors

    def write_encoder(seed):
        torch.manual_seed(seed)
        sizes = {"widths": (6, 8, 8, 8, 8), "depths": (1, 1, 1, 1, 1)}
        write_tensors(
            tmp_path / "eye.safetensors", Lens(LensConfig(**sizes)).state_dict(), {"config": json.dumps(sizes)}
        )
        return hashlib.sha256((tmp_path / "eye.safetensors").read_bytes()).hexdigest()[:16]

    identity = write_encoder(0)
    Image.fromarray(np.full((64, 64, 3), (200, 120, 40), np.uint8)).save(tmp_path / "style.png")
    options = ("--set", "encoder=eye.safetensors", "--set", "iterations=2")
    impasto("stylize", photo, "-s", "style.png", "--engine", "gatys", *options, "-o", "out.png")
    assert json.loads(read_recipe(tmp_path / "out.png"))["weights"] == identity
    impasto("replay", "out.png", "-o", "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    other = write_encoder(1)
    words = [f"'out.png' was painted with the weights {identity} of gatys", f"installed are {other}", "--anyway"]
    refused("replay", "out.png", code=2, words=words)
    impasto("replay", "out.png", "--anyway", "-o", "other.png")
    assert json.loads(read_recipe(tmp_path / "other.png"))["weights"] == other
    (tmp_path / "eye.safetensors").unlink()
    refused("replay", "out.png", code=5, words="there is no weights file 'eye.safetensors'")


def test_pictures_without_a_recipe_are_refused(impasto, refused, photo):
    impasto("stylize", photo, "-s", "ukiyo-e", "--strip", "-o", "bare.png")
    refused("replay", "bare.png", code=2, words="'bare.png' carries no recipe")
    refused("replay", "photo.png", code=2, words="'photo.png' carries no recipe")
    refused("replay", "missing.png", code=3, words="there is no file 'missing.png'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:-9], "the recipe in 'odd.png' is damaged"),
        (lambda text: "[]", "the recipe in 'odd.png' is damaged"),
        (changed(styles=[3]), "the recipe in 'odd.png' is damaged"),
        (changed(settings={"strenght": 1}), "was painted by impasto"),
        (changed(settings={"strength": 7}), "strength must lie between 0 and 1"),
        (changed(engine="brsh"), "did you mean brush?"),
        (changed(content="../../etc/hosts"), "is not beside 'odd.png'"),
        (changed(styles=[{"name": "x", "weight": 1, "code": "AACAPw=="}]), "'x' has 1 numbers"),
        (changed(styles=[{"name": "x", "weight": 1, "code": "AADAfw=="}]), "'x' holds NaN"),
        (changed(styles=[{"name": "x", "weight": None, "code": "AACAPw=="}]), "has weight maps (x)"),
    ],
)
def test_recipes_without_sense_are_refused(refused, photo, stylizer, presets, tmp_path, change, words):
    from impasto.field import StyleField

    stylizer.render(photo, StyleField.constant(presets["ukiyo-e"])).save(tmp_path / "out.png")
    with_recipe(tmp_path / "out.png", tmp_path / "odd.png", change)
    refused("replay", "odd.png", code=2, words=words)

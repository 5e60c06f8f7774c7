"""``impasto stylize`` as a process: what it writes, and how it refuses."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from impasto.image import read_picture, read_recipe


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "file_format"),
    [("out.jpg", "JPEG"), ("out.png", "PNG"), ("out.webp", "WEBP"), ("out.tif", "TIFF"), ("out.bmp", "BMP")],
)
def test_the_suffix_decides_the_format(impasto, photo, tmp_path, name, file_format):
    said = impasto("stylize", photo, "--style", "ukiyo-e", "-o", name).out
    assert said.startswith(f"{name}  (") and said.endswith(" s)\n")
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (file_format, (80, 64))
    assert np.abs(pixels(tmp_path / name).astype(int) - pixels(photo)).mean() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photo.png", name])


def test_without_an_output_the_painting_lies_beside_the_photograph(impasto, photo, artworks, tmp_path):
    Image.fromarray(artworks[0]).save(tmp_path / "stars.jpg")
    impasto("stylize", "photo.png", "-s", "ukiyo-e", "-s", "stars.jpg")
    assert (tmp_path / "photo.ukiyo-e+stars.png").is_file()


def test_json_says_what_was_done(impasto, photo, tmp_path):
    mask = np.zeros((64, 80), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    said = json.loads(
        impasto(
            *("stylize", photo, "-s", "ukiyo-e", "-s", "irises", "--mix", "3,1", "--mask", "mask.png", "--json"),
            *("-o", "out.png", "--strength", "0.5", "--size", "40"),
        ).out
    )
    assert (said["output"], said["height"], said["width"]) == ("out.png", 32, 40)
    assert said["seconds"] > 0
    assert [style["weight"] for style in said["recipe"]["styles"]] == [0.75, 0.25]
    assert json.loads(read_recipe(tmp_path / "out.png")) == said["recipe"] | {"saved": {"depth": 8, "quality": 95}}
    assert pixels(tmp_path / "out.png").shape == (32, 40, 3)


@pytest.mark.parametrize(("engine", "needs", "options"), [("quilt", "numba", ()), ("gatys", "torch", ("smallest=64",))])
def test_a_slow_engine_says_first_what_it_takes(impasto, photo, artworks, tmp_path, engine, needs, options):
    pytest.importorskip(needs)
    Image.fromarray(artworks[0]).save(tmp_path / "stars.png")
    settings = [part for option in ("iterations=1", *options) for part in ("--set", option)]
    command = ("stylize", photo, "--style", "stars.png", "--engine", engine, *settings, "-o", "out.png")
    finished = impasto(*command)
    (line,) = finished.err.splitlines()
    assert re.fullmatch(rf"{engine}: about \d+ (s|min) and \d+\.\d GB of memory", line)
    assert pixels(tmp_path / "out.png").shape == (64, 80, 3)
    assert impasto(*command, "--json").err == ""


def test_strength_0_and_a_black_mask_give_the_photograph_back(impasto, photo, tmp_path):
    Image.new("L", (80, 64)).save(tmp_path / "black.png")
    impasto("stylize", photo, "-s", "ukiyo-e", "--strength", "0", "-o", "zero.png")
    impasto("stylize", photo, "-s", "ukiyo-e", "--mask", "black.png", "-o", "masked.png")
    assert np.array_equal(pixels(tmp_path / "zero.png"), pixels(photo))
    assert np.array_equal(pixels(tmp_path / "masked.png"), pixels(photo))


def test_a_mask_keeps_the_black_half(impasto, photo, tmp_path):
    mask = np.zeros((64, 80), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    impasto("stylize", photo, "-s", "ukiyo-e", "--mask", "mask.png", "-o", "out.png")
    painted = pixels(tmp_path / "out.png")
    assert np.array_equal(painted[:, :40], pixels(photo)[:, :40])
    assert not np.array_equal(painted[:, 40:], pixels(photo)[:, 40:])


def test_16_bits_and_no_metadata(impasto, photo, tmp_path):
    impasto("stylize", photo, "-s", "ukiyo-e", "--depth", "16", "-o", "deep.png")
    assert read_picture(tmp_path / "deep.png").info.depth == 16
    assert read_recipe(tmp_path / "deep.png") is not None
    impasto("stylize", photo, "-s", "ukiyo-e", "--strip", "-o", "bare.jpg")
    assert read_recipe(tmp_path / "bare.jpg") is None
    with Image.open(tmp_path / "bare.jpg") as image:
        assert not image.getexif()


def test_a_picture_of_one_pixel_is_painted(impasto, tmp_path):
    Image.new("RGB", (1, 1), (90, 60, 30)).save(tmp_path / "one.png")
    impasto("stylize", "one.png", "-s", "ukiyo-e", "-o", "out.png")
    assert pixels(tmp_path / "out.png").shape == (1, 1, 3)


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_files(photo, photograph, tmp_path):
    """Files that are no photographs, beside one that is."""
    whole = photo.read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    frames = [Image.fromarray(np.roll(photograph, shift, 1)) for shift in (0, 20)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "folder.png").mkdir()
    Image.new("L", (40, 80), 255).save(tmp_path / "tall.png")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.png", "there is no file 'missing.png'"),
        ("empty.png", "'empty.png' is empty"),
        ("cut.png", "'cut.png' is damaged or incomplete"),
        ("text.jpg", "'text.jpg' is not a picture"),
        ("film.gif", "'film.gif' is animated"),
        ("folder.png", "'folder.png' is a folder"),
        (".", "'.' is a folder"),
    ],
)
def test_what_is_no_photograph_is_refused(refused, bad_files, name, words):
    refused("stylize", name, "-s", "ukiyo-e", code=3, words=words)


@pytest.mark.parametrize(
    ("option", "name"), [("--mask", "cut.png"), ("--style", "text.jpg"), ("--mask", "missing.png")]
)
def test_masks_and_styles_are_refused_by_name_too(refused, bad_files, option, name):
    refused("stylize", "photo.png", "-s", "ukiyo-e", option, name, code=3, words=f"'{name}'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mask", "tall.png"], ["tall.png", "80 x 40", "64 x 80"]),
        (["-s", "irises", "--mix", "0,0"], "sum to zero"),
        (["-s", "irises", "--mix", "nan,1"], "must be finite"),
        (["-s", "irises", "--mix", "-1,2"], "not negative"),
        (["-s", "irises", "--mix", "1"], "--mix names 1 weights for 2 styles"),
        (["--mix", "much"], "--mix takes numbers with commas between, like 0.7,0.3, not 'much'"),
        (["--engine", "bruch"], "no engine is called 'bruch'; did you mean brush?"),
        (["-s", "iris"], "no preset or style picture is called 'iris'; did you mean irises"),
        (["--preserve-color", "chroma"], "preserve_color must be one of none, luminance, statistics, not 'chroma'"),
        (["--depth", "16", "-o", "out.jpg"], "JPEG holds 8 bits"),
        (["--depth", "12"], "depth is 12"),
    ],
)
def test_wrong_options_are_refused(refused, bad_files, options, words):
    refused("stylize", "photo.png", "-s", "ukiyo-e", *options, code=2, words=words)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("nowhere/out.png", "the folder 'nowhere' does not exist"),
        ("/proc/out.png", "cannot write '/proc/out.png'"),
        ("photo.png/out.png", "the folder 'photo.png' does not exist"),
        ("folder.png", "it is a folder"),
        ("photo.png", "'photo.png' is the photograph itself"),
        ("./folder.png/../photo.png", "is the photograph itself"),
        ("out.xyz", "unknown picture suffix '.xyz'"),
        ("out", "no suffix"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(refused, bad_files, output, words):
    refused("stylize", "photo.png", "-s", "ukiyo-e", "-o", output, code=4, words=words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png", "-s", "ukiyo-e", "--strength", "1.5"], "--strength"),
        (["photo.png", "-s", "ukiyo-e", "--size", "0"], "--size"),
        (["photo.png", "-s", "ukiyo-e", "--tile", "big"], "--tile"),
        (["photo.png", "-s", "ukiyo-e", "--strenght", "1"], "--strenght"),
        ([], "photo"),
    ],
)
def test_what_the_command_line_does_not_know_ends_with_2(impasto, photo, tmp_path, arguments, words):
    finished = impasto("stylize", *arguments, code=2)
    assert words in finished.err and "Usage:" in finished.err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_neither_a_style_nor_a_region_ends_with_2(impasto, photo, tmp_path):
    assert "name a --style for the photograph, or a --region" in impasto("stylize", "photo.png", code=2).err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_damaged_weights_end_with_5(photo, monkeypatch, capsys):
    """In this process: a copy of the whole package would be needed for another."""
    from impasto import cli
    from impasto.weights import cards

    monkeypatch.setattr(cards.hashlib, "sha256", lambda content: cards.hashlib.sha512(content))
    monkeypatch.setattr("sys.argv", ["impasto", "stylize", str(photo), "-s", "ukiyo-e"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 5
    said = capsys.readouterr().err
    assert said.startswith("impasto: the weights '") and said.endswith("of the card; reinstall impasto\n")
    assert said.count("\n") == 1


def test_every_setting_is_an_option_with_its_default(impasto):
    from dataclasses import fields

    from impasto.config import StylizeConfig

    told = impasto("stylize", "--help").out
    for info in fields(StylizeConfig):
        if info.name == "options":  # --set
            continue
        assert f"--{info.name.replace('_', '-')} " in told
        if info.default not in (None, ""):
            assert f"{info.default}]" in told, info.name

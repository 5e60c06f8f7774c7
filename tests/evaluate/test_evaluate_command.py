"""``impasto evaluate`` and ``impasto compare`` as processes."""

import json

import pytest
import torch

from impasto.nets.teachers import SqueezeNet

FOLDERS = ("--content", "photos", "--style", "art")
PLAIN = ("--metrics", "ssim", "--size", "64")


@pytest.fixture
def encoder(tmp_path):
    """A file in torchvision's layout with random weights."""
    torch.manual_seed(0)
    torch.save(SqueezeNet().state_dict(), tmp_path / "squeezenet.pth")
    return "squeezenet.pth"


@pytest.mark.usefixtures("contents", "styles")
def test_evaluate_writes_everything_and_goes_on(impasto, tmp_path, encoder):
    arguments = ("evaluate", *FOLDERS, "-o", "study", "--pairs", 3, "--size", 64, "--encoder", encoder)
    said = json.loads(impasto(*arguments, "--metrics", "ssim,gram", "--json").out)
    assert [row["name"] for row in said["rows"]] == ["content unchanged", "style picture", "brush"]
    assert [column["name"] for column in said["columns"]] == ["ssim", "gram-squeezenet1_0"]
    assert said == json.loads((tmp_path / "study" / "results.json").read_text())
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {
        "index.html",
        "grid.jpg",
        "results.json",
        "pictures",
    }
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*.png")}
    assert len(pictures) == 3
    table = impasto(*arguments, "--metrics", "ssim,gram").out
    assert "gram-squeezenet1_0  lower" in table and "index.html" in table
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures


@pytest.mark.usefixtures("contents", "styles")
def test_compare_takes_what_evaluate_painted(impasto, tmp_path):
    impasto("evaluate", *FOLDERS, "-o", "one", *PLAIN)
    impasto("evaluate", *FOLDERS, "-o", "two", "--size", 48, "--metrics", "ssim")
    folders = ("one/pictures/brush", "two/pictures/brush")
    said = json.loads(impasto("compare", *folders, *FOLDERS, *PLAIN, "-o", "comparison", "--json").out)
    assert [row["name"] for row in said["rows"]][2:] == ["one/pictures/brush", "two/pictures/brush"]
    assert said["wins"]["ssim"][1] == 6 and (tmp_path / "comparison" / "index.html").is_file()
    assert "one/pictures/brush against two/pictures/brush" in impasto("compare", *folders, *PLAIN).out.replace(
        "\n", " "
    )


@pytest.mark.usefixtures("styles")
def test_a_pair_that_fails_is_told_at_the_end(impasto, contents, tmp_path):
    (contents / "cat.png").write_bytes(b"broken")
    finished = impasto("evaluate", *FOLDERS, "-o", "study", *PLAIN, code=7)
    assert "is not a picture" in finished.err and "9 of 18 results failed" in finished.err.splitlines()[-1]
    assert (tmp_path / "study" / "index.html").is_file() and "3, 3 failed" in finished.out


EVALUATE = ("evaluate", "-o", "study")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((*EVALUATE, "--content", "nowhere", "--style", "art"), 2, "'nowhere' is not a folder"),
        ((*EVALUATE, "--content", "photos"), 2, "--preset"),
        ((*EVALUATE, *FOLDERS, "--metrics", "gramm"), 2, "did you mean gram"),
        ((*EVALUATE, *FOLDERS, "--metrics", ","), 2, "at least one metric"),
        ((*EVALUATE, *FOLDERS, "--engine", "brsh"), 2, "did you mean brush?"),
        ((*EVALUATE, *FOLDERS, "--encoder", "nowhere.pth"), 5, "nowhere.pth"),
        ((*EVALUATE, *FOLDERS, "--metrics", "lpips"), 2, "--lpips-backbone"),
        ((*EVALUATE, *FOLDERS, "--set", "iterations=3"), 2, "ENGINE.NAME=VALUE"),
        ((*EVALUATE, *FOLDERS, "--set", "brush.iterations=3"), 2, "iterations"),
        (("compare", "photos", "art"), 2, "no file of 'photos'"),
        (("compare", "photos", "nowhere"), 2, "'nowhere' is not a folder"),
        (("compare", "photos", "photos"), 2, "same folder"),
    ],
)
@pytest.mark.usefixtures("contents", "styles")
def test_what_cannot_be_begun_is_refused(refused, arguments, code, words):
    refused(*arguments, code=code, words=words)

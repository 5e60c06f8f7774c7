"""``impasto batch`` as a process: it goes on where it was stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from impasto.batch import JOURNAL


@pytest.fixture
def photos(tmp_path, photograph):
    """Three photographs, one in a folder below."""
    for name in ("photos/a.png", "photos/b.jpg", "photos/deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[:40, :48]).save(tmp_path / name)
    return tmp_path / "photos"


BATCH = ("batch", "photos", "-o", "painted", "-s", "ukiyo-e")


def said(finished):
    return json.loads(finished.out)


def test_a_second_run_paints_nothing_and_another_style_everything(impasto, photos, tmp_path):
    assert impasto(*BATCH).out == "3 painted, 0 done before, 0 failed\n"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "painted").rglob("*.*g")}
    assert sorted(path.name for path in before) == ["a.png", "b.jpg", "c.png"]
    assert said(impasto(*BATCH, "--json")) == {"painted": 0, "done_before": 3, "failed": {}}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert said(impasto(*BATCH, "-s", "irises", "--mix", "1,2", "--json"))["painted"] == 3
    assert said(impasto(*BATCH, "--json"))["painted"] == 3
    assert said(impasto(*BATCH, "--again", "--json")) == {"painted": 3, "done_before": 0, "failed": {}}


def test_a_broken_picture_is_told_at_the_end_and_tried_again(impasto, photos, tmp_path, photograph):
    (photos / "b.jpg").write_bytes(b"broken")
    finished = impasto(*BATCH, "--suffix", ".png", code=7)
    assert finished.out == "2 painted, 0 done before, 1 failed\n"
    lines = finished.err.splitlines()
    assert lines[-2].startswith(f"  {Path('photos', 'b.jpg')}: ") and "is not a picture" in lines[-2]
    assert lines[-1] == "impasto: 1 of 3 pictures failed; the same command tries them again"
    assert (tmp_path / "painted" / "deep" / "c.png").is_file() and not (tmp_path / "painted" / "b.png").exists()
    assert list(said(impasto(*BATCH, "--suffix", ".png", "--json", code=7))["failed"]) == ["photos/b.jpg"]
    Image.fromarray(photograph).save(photos / "b.jpg")
    assert said(impasto(*BATCH, "--suffix", ".png", "--json")) == {"painted": 1, "done_before": 2, "failed": {}}


def begun(tmp_path, environment, photograph, count=30):
    """A batch of many pictures, running, with two of them done."""
    (tmp_path / "photos").mkdir()
    large = Image.fromarray(photograph).resize((288, 288))
    for index in range(count):
        large.save(tmp_path / "photos" / f"{index:02}.png")
    running = subprocess.Popen(
        [sys.executable, "-m", "impasto", *BATCH, "--json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    journal = tmp_path / "painted" / JOURNAL
    until = time.monotonic() + 60
    while not journal.is_file() or journal.read_text().count("target") < 2:
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)
    return running


@pytest.mark.slow
def test_a_killed_batch_goes_on(impasto, tmp_path, command_environment, photograph):
    running = begun(tmp_path, command_environment, photograph)
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    rest = said(impasto(*BATCH, "--json"))
    assert rest["failed"] == {} and rest["done_before"] >= 2 and rest["painted"] >= 1
    assert rest["painted"] + rest["done_before"] == 30
    paintings = sorted((tmp_path / "painted").glob("*.png"))
    assert len(paintings) == 30
    for path in paintings:
        with Image.open(path) as image:
            image.load()


def test_an_interrupted_batch_ends_with_130_and_one_line(tmp_path, command_environment, photograph):
    running = begun(tmp_path, command_environment, photograph)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert err == "impasto: interrupted\n"
    assert not [path for path in (tmp_path / "painted").iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("batch", "nowhere", "-o", "painted", "-s", "ukiyo-e"), 2, "'nowhere' is not a folder"),
        (("batch", "photos", "-o", "photos", "-s", "ukiyo-e"), 2, "name another one"),
        ((*BATCH, "--suffix", "png"), 2, "suffix must be one of"),
        ((*BATCH, "--engine", "brsh"), 2, "did you mean brush?"),
        ((*BATCH, "-s", "iris"), 2, "did you mean irises"),
        ((*BATCH, "--mix", "0"), 2, "sum to zero"),
        (("batch", "photos", "-o", "photos/a.png/x", "-s", "ukiyo-e"), 4, "cannot write to the folder"),
    ],
)
def test_what_cannot_be_begun_is_refused(refused, photos, arguments, code, words):
    refused(*arguments, code=code, words=words)


def test_two_photographs_of_one_name_are_refused(refused, photos, photograph):
    Image.fromarray(photograph).save(photos / "a.jpg")
    refused(*BATCH, "--suffix", ".webp", code=4, words="would both become")

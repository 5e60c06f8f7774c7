"""Plans, votes, the voting page and the command."""

import csv
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from impasto.errors import UsageError
from impasto.study import Study, StudyConfig, Vote, VoteStore

METHODS = ("alpha", "beta", "gamma")


@pytest.fixture
def folders(tmp_path):
    """Results of three methods: 12 pictures each; gamma lacks one, alpha has one more in another format."""
    found = []
    for shade, method in enumerate(METHODS):
        folder = tmp_path / method
        (folder / "sea").mkdir(parents=True)
        for number in range(12):
            if (method, number) != ("gamma", 11):
                pixels = np.full((8, 10, 3), 40 * shade + number, np.uint8)
                name = f"sea/{number}.png" if number % 2 else f"{number}.webp" if method == "alpha" else f"{number}.png"
                Image.fromarray(pixels).save(folder / name, lossless=True)
        found.append(folder)
    (tmp_path / "alpha" / "extra.jpg").write_bytes((tmp_path / "alpha" / "0.webp").read_bytes())
    (tmp_path / "alpha" / ".hidden.png").write_bytes(b"")
    return found


def test_pictures_are_matched_by_name(folders):
    study = Study.of(folders, StudyConfig())
    assert len(study.pictures) == 11 and study.methods == METHODS
    assert [path.parent.parent.name for path in study.pictures["sea/3"]] == list(METHODS)


def test_plans_are_balanced_random_and_repeatable(folders):
    study = Study.of(folders, StudyConfig(per_voter=30, seed=5))
    plans = [study.plan(f"voter-{n}") for n in range(40)]
    assert plans[0] == study.plan("voter-0") and plans[0] != plans[1]
    assert plans[0] != Study.of(folders, StudyConfig(per_voter=30, seed=6)).plan("voter-0")
    for plan in plans:
        assert len(plan) == 30
        assert len({(one.subject, *sorted((one.left, one.right))) for one in plan}) == 30  # nothing twice
        pairs = Counter(tuple(sorted((one.left, one.right))) for one in plan)
        assert max(pairs.values()) - min(pairs.values()) <= 1
        assert all(first.subject != second.subject for first, second in itertools.pairwise(plan))
    left = sum(one.left < one.right for plan in plans for one in plan) / 1200
    assert 0.45 < left < 0.55
    assert len({plan[0].subject for plan in plans}) > 5
    assert study.plan("x")[:10] == Study.of(folders, StudyConfig(per_voter=10, seed=5)).plan("x")
    assert study.identity == Study.of(folders, StudyConfig(per_voter=10, seed=5)).identity
    for other in (Study.of(folders[::-1], study.config), Study.of(folders[:2], study.config)):
        assert other.identity != study.identity
    everything = Study.of(folders, StudyConfig(per_voter=1000)).plan("x")
    assert len(everything) == 33


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f[:1], "at least two"),
        (lambda f: [f[0], f[0]], "two folders are called"),
        (lambda f: [f[0], f[0].parent / "nothing"], "not a folder"),
    ],
)
def test_folders_that_make_no_study(folders, change, words):
    with pytest.raises(UsageError, match=words):
        Study.of(change(folders), StudyConfig())


def test_subjects_must_be_clear(folders, tmp_path):
    (folders[0] / "0.png").write_bytes((folders[1] / "0.png").read_bytes())
    with pytest.raises(UsageError, match="have one name"):
        Study.of(folders, StudyConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="same name"):
        Study.of([folders[1], tmp_path / "empty"], StudyConfig())


def test_votes_are_kept_and_replaced(tmp_path):
    path = tmp_path / "votes.sqlite"
    store = VoteStore(path, create=("id", "Which?", ("a", "b")))
    store.add(Vote("v" * 16, 0, "s", "a", "b", "left", 1.5))
    store.add(Vote("v" * 16, 0, "s", "a", "b", "tie", 2.5))  # went back
    store.add(Vote("v" * 16, 1, "t", "b", "a", "left", 1.0))
    store.add(Vote("w" * 16, 0, "=cmd()", "a", "b", "right", 1.0))
    store.close()
    again = VoteStore(path)
    total, groups = again.counts()
    assert np.array_equal(total, [[0, 0.5], [2.5, 0]]) and len(groups) == 2
    assert again.done("v" * 16) == {0, 1} and again.question == "Which?"
    rows = list(csv.DictReader(io.StringIO(again.csv())))
    assert len(rows) == 3 and rows[0]["choice"] == "tie" and rows[2]["subject"] == "'=cmd()"
    again.close()
    with pytest.raises(UsageError, match="another study"):
        VoteStore(path, create=("other", "Which?", ("a", "c")))


def test_files_that_hold_no_votes(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        VoteStore(tmp_path / "nothing.sqlite")
    (tmp_path / "noise.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match="holds no votes"):
        VoteStore(tmp_path / "noise.sqlite")


@pytest.fixture
def booth(folders, tmp_path):
    """The voting page on a loopback port, as a process."""
    arguments = [*map(str, folders), "--votes", "votes.sqlite", "--reference", "alpha", "--per-voter", "6"]
    command = [sys.executable, "-m", "impasto", "study", "vote", *arguments, "--port", "0", "--no-browser"]
    environment = os.environ | {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    first = process.stdout.readline()
    address = re.search(r"http://[\d.:]+", first)
    assert address, process.stderr.read() if process.poll() is not None else first
    with httpx.Client(base_url=address.group(), trust_env=False, timeout=30) as client:
        yield client
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "Traceback" not in err, err


def test_voting_from_end_to_end(booth, folders, tmp_path, impasto):
    state = booth.post("/v1/voters", json={}).json()
    voter, study = state["voter"], Study.of(folders, StudyConfig(per_voter=6))
    for number, planned in enumerate(study.plan(voter)):
        shown = state["comparison"]
        assert shown["number"] == number == state["done"] and state["total"] == 6
        text = json.dumps(state)
        assert not any(word in text for word in (*METHODS, "sea", "png", "webp"))
        for side, method in (("left", planned.left), ("right", planned.right), ("reference", 0)):
            answer = booth.get(shown[side])
            with (
                Image.open(io.BytesIO(answer.content)) as image,
                Image.open(study.pictures[planned.subject][method]) as own,
            ):
                assert image.format == "PNG" and not image.info
                assert np.array_equal(np.asarray(image), np.asarray(own.convert("RGB")))
        better = max(planned.left, planned.right)  # the voter prefers gamma to beta to alpha
        choice = "tie" if number == 0 else "left" if planned.left == better else "right"
        state = booth.post(
            f"/v1/voters/{voter}/votes", json={"number": number, "choice": choice, "seconds": 1.0}
        ).json()
    assert state["comparison"] is None and state["done"] == 6
    assert booth.get(f"/v1/voters/{voter}").json() == state  # coming back
    report = json.loads(impasto("study", "report", "votes.sqlite", "--json").out)
    assert report["votes"] == 6 and report["voters"] == 1 and report["ties"] == 1
    assert report["methods"][0]["method"] == "gamma" and report["methods"][-1]["method"] == "alpha"
    exported = impasto("study", "export", "votes.sqlite", "-o", "votes.csv")
    assert exported.out.strip() == "votes.csv" and len((tmp_path / "votes.csv").read_text().splitlines()) == 7
    assert "gamma" in impasto("study", "report", "votes.sqlite").out


def test_what_the_page_refuses(booth):
    state = booth.post("/v1/voters", json={}).json()
    voter, shown = state["voter"], state["comparison"]
    assert booth.get(shown["left"][:-1] + "x").status_code == 404  # an address that was guessed
    assert booth.get(shown["left"].replace("/left", "/right")).status_code == 404
    assert booth.get("/v1/voters/short").status_code == 422
    for wrong in (
        {"number": 99, "choice": "left", "seconds": 1},
        {"number": 0, "choice": "both", "seconds": 1},
        {"choice": "left"},
    ):
        answer = booth.post(f"/v1/voters/{voter}/votes", json=wrong)
        assert answer.status_code in (404, 422) and answer.headers["content-type"] == "application/problem+json"
    large = {"number": 0, "choice": "left", "seconds": 1, "x": "x" * 100_000}
    assert booth.post(f"/v1/voters/{voter}/votes", json=large).status_code in (400, 413)
    assert booth.get("/../votes.sqlite").status_code == booth.get("/votes.sqlite").status_code == 404
    assert booth.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_the_page_asks_no_other_host(booth):
    page = booth.get("/")
    assert page.status_code == 200 and "script-src 'self'" in page.headers["content-security-policy"]
    folder = Path(__file__).parents[2] / "src" / "impasto" / "study" / "page"
    for path in folder.iterdir():
        assert not re.search(
            r"(?:https?:)?//[a-z]", re.sub(r"^\s*//.*$|\s// .*$", "", path.read_text(), flags=re.MULTILINE)
        ), path
        assert booth.get(f"/{path.name}").text == path.read_text()


def test_commands_that_are_refused(refused, folders):
    refused("study", "vote", "alpha", "--no-browser", code=2, words="at least two")
    refused("study", "vote", "alpha", "beta", "--host", "0.0.0.0", "--no-browser", code=2, words="--anonymous")
    refused("study", "report", "nothing.sqlite", code=2, words="nothing.sqlite")


def test_a_report_needs_votes(refused, tmp_path):
    VoteStore(tmp_path / "v.sqlite", create=("id", "Which?", ("a", "b"))).close()
    refused("study", "report", "v.sqlite", code=2, words="no votes yet")


@pytest.mark.slow
def test_voting_by_keyboard_in_a_browser(booth, impasto):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium")
    hosts, troubles = set(), []
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = started.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(str(booth.base_url))
        expect = playwright.expect
        for number, key in enumerate(["ArrowLeft", "Backspace", "ArrowDown", "ArrowRight", "ArrowRight"]):
            expect(page.locator("#count")).to_have_text(f"{(0, 1, 1, 1, 2)[number]} / 6")
            expect(page.locator("#booth")).to_have_attribute("data-ready", "yes")
            page.keyboard.press(key)
        expect(page.locator("#count")).to_have_text("3 / 6")
        page.reload()
        expect(page.locator("#count")).to_have_text("3 / 6")  # the same voter
        browser.close()
    assert hosts <= {booth.base_url.netloc.decode(), ""} and not troubles
    rows = list(csv.DictReader(io.StringIO(impasto("study", "export", "votes.sqlite").out)))
    assert [row["choice"] for row in rows] == ["tie", "right", "right"]

"""Parts of the server on their own: messages, names, uploads, the store, settings, the command."""

import asyncio
import io
import json
import socket
import subprocess
import sys
import time
import unittest.mock
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from serving import jpeg, png

from impasto.errors import OutputError, UsageError
from impasto.server.media import check_name, entry_name, recognise
from impasto.server.pool import Lane, Pool, PoolSettings
from impasto.server.problems import Problem, ProblemError
from impasto.server.settings import ServerSettings, default_state_folder, is_loopback
from impasto.server.store import JobStore
from impasto.server.uploads import UploadStore
from impasto.server.wire import pack, unpack

ROOT = Path(__file__).parents[2]


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.lists(st.binary(max_size=50)))
def test_messages_arrive_as_they_were_sent(header, parts):
    header.pop("parts", None)
    assert unpack(pack(header, parts)) == (header, parts)


@given(st.binary(max_size=60))
def test_noise_is_no_message(data):
    with pytest.raises(ValueError):
        unpack(b"\0\0\0\xff" + data)


def test_a_message_must_be_whole():
    whole = pack({"a": 1}, [b"xyz"])
    for data in (whole[:-1], whole + b"!", whole[:3]):
        with pytest.raises(ValueError):
            unpack(data)


@given(st.text(max_size=300))
def test_names_in_archives_are_harmless(name):
    made = entry_name(name, ".png")
    assert made.endswith(".png") and 5 <= len(made) <= 110
    assert (
        not set(made) & set('/\\:*?"<>|\0\n\r')
        and not made.startswith(".")
        and ".." not in made.removesuffix(".png")[:2]
    )


@pytest.mark.parametrize(
    ("name", "made"),
    [("beach 1.jpg", "beach 1.png"), ("CON.jpg", "_CON.png"), ("海.webp", "海.png"), ("", "painting.png")],
)
def test_names_stay_readable(name, made):
    assert entry_name(name, ".png") == made


def test_right_to_left_tricks_are_refused():
    assert check_name("photo\u00e9.jpg", "content") == "photo\u00e9.jpg"
    for name in ("gpj.\u202egnp.exe", "a\nb", "a/b", "\ud800"):
        with pytest.raises(ProblemError):
            check_name(name, "content")


def test_pictures_are_known_by_their_bytes(photograph):
    assert recognise(png(photograph), None, "content") == "image/png"
    assert recognise(jpeg(photograph), "image/jpg; charset=x", "content") == "image/jpeg"
    zip_signature = jpeg(photograph) + b"PK\x05\x06" + bytes(30)  # the bytes alone make no archive
    assert recognise(zip_signature, None, "content") == "image/jpeg"


def test_problems_survive_json():
    problem = Problem("busy", "later", {"retry_after": 3})
    body = json.loads(json.dumps(problem.as_dict("id")))
    assert Problem.from_dict(body) == problem and body["status"] == 429 and body["instance"].endswith(":id")


def test_uploads_expire_and_make_room():
    now = [0.0]
    store = UploadStore(100, 10, clock=lambda: now[0])
    first = store.add(bytes(40), "image/png", "a", (1, 2))
    now[0] = 6
    second = store.add(bytes(40), "image/png", "b", (1, 2))
    store.get(first.id)  # used now
    now[0] = 12
    assert store.get(first.id) is first
    now[0] = 17
    with pytest.raises(ProblemError):
        store.get(second.id)
    third = store.add(bytes(90), "image/png", "c", (1, 2))  # no room for both
    assert len(store) == 1 and store.bytes == 90
    store.remove(third.id)
    store.remove(third.id)
    assert store.bytes == 0
    with pytest.raises(ProblemError, match="together"):
        store.add(bytes(101), "image/png", "d", (1, 2))


def new_job(name, *keys, batch=None):
    return {
        "id": name,
        "batch": batch,
        "pool": "fast",
        "engine": "brush",
        "name": name,
        "order": {"n": name},
        "keys": keys,
    }


def files_in(store):
    return sorted(path.name for folder in ("pictures", "results") for path in (store.folder / folder).iterdir())


def test_the_store_keeps_what_jobs_share(tmp_path):
    store = JobStore(tmp_path / "state")
    store.add([new_job("a", "x", "y"), new_job("b", "y")], {"x": b"1", "y": b"22"})
    assert store.bytes == 3 and store.position(store.get("b")) == 1
    assert store.claim("slow") is None
    job = store.claim("fast")
    assert job.id == "a" and job.order == {"n": "a"} and store.pictures("a") == {"x": b"1", "y": b"22"}
    store.finish("a", {"seconds": 1.0}, b"painting")
    assert files_in(store) == ["a", "y"] and store.result("a").read_bytes() == b"painting"
    assert store.cancel("b") and not store.cancel("b") and not store.cancel("a")
    assert files_in(store) == ["a"] and store.get("b").status == "cancelled"
    store.finish("b", {}, b"too late")
    assert files_in(store) == ["a"] and store.get("b").result is None
    assert store.expire(time.time() - 100) == [] and set(store.expire(time.time() + 1)) == {"a", "b"}
    assert files_in(store) == [] and store.bytes == 0
    store.close()


def test_a_batch_goes_as_a_whole(tmp_path):
    store = JobStore(tmp_path / "state")
    store.add([new_job("a", batch="one"), new_job("b", batch="one")], {})
    store.cancel("a")
    assert store.expire(time.time() + 1) == []
    store.cancel("b")
    assert set(store.expire(time.time() + 1)) == {"a", "b"}
    store.close()


def test_a_folder_belongs_to_one_server(tmp_path):
    store = JobStore(tmp_path / "state")
    with pytest.raises(UsageError, match="another impasto server"):
        JobStore(tmp_path / "state")
    store.close()
    JobStore(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    (tmp_path / "state" / "jobs.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(OutputError, match="cannot be used"):
        JobStore(tmp_path / "state")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot be used"):
        JobStore(tmp_path / "file")


def test_jobs_cannot_be_half_stored(tmp_path):
    store = JobStore(tmp_path / "state")
    with pytest.raises(OutputError):
        store.add([new_job("a", "x"), new_job("a", "x")], {"x": b"1"})  # an id twice
    assert store.get("a") is None and files_in(store) == []
    store.close()


def test_a_place_outlives_workers_that_do_not_start(tmp_path):
    async def twice():
        settings = PoolSettings("test", 1, 4, (), None, "", str(tmp_path / "missing"), {})
        pool = Pool(settings, lambda *args, **facts: None)
        pool.start()
        for _ in range(2):
            ticket = pool.submit({"kind": "inspect"}, {}, lane=Lane.REQUEST, seconds=5, patience=20)
            with pytest.raises(ProblemError, match="no worker could be started"):
                await asyncio.wait_for(ticket.done, 10)
        await pool.close()

    asyncio.run(twice())


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"workers": 0},
        {"request_seconds": 0},
        {"token": "short"},
        {"token": "with space in the middle"},
        {"cors_origins": ("*",)},
        {"cors_origins": ("https://a.example/path",)},
        {"cors_origins": ("example.org",)},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError):
        ServerSettings(**wrong)


def test_addresses_and_folders(monkeypatch):
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("paint.example")
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_state_folder().parts[-2:] == ("impasto", "server")


def test_commands_that_are_refused(refused, tmp_path):
    refused("serve", "--host", "0.0.0.0", code=2, words=["--token", "--anonymous"])
    refused("serve", "--token", "short", code=2, words="token")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused("serve", "--port", port, "--state", tmp_path / "s", code=2, words=[str(port), "--port"])


def test_cut_out_by_a_box_and_by_clicks(server):
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    picture = rng.normal(60, 6, (90, 120, 3)).clip(0, 255).astype(np.uint8)
    y, x = np.mgrid[:90, :120]
    disc = (y - 45) ** 2 + (x - 70) ** 2 < 22**2
    picture[disc] = rng.normal((220, 120, 40), 6, (int(disc.sum()), 3)).clip(0, 255).astype(np.uint8)
    identifier = server.client.post("/v1/uploads", files={"file": png(picture)}).json()["id"]

    def cut(**how):
        answer = server.client.post("/v1/segment", json={"content": {"upload": identifier}} | how, timeout=60)
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content))) > 127

    for mask in (
        cut(box=[42, 17, 98, 73]),
        cut(points=[{"x": 70, "y": 45}]),
        cut(box=[42, 17, 98, 73], points=[{"x": 70, "y": 45}, {"x": 45, "y": 20, "keep": False}]),
    ):
        assert (mask & disc).sum() / (mask | disc).sum() > 0.9
    assert cut(points=[{"x": 70, "y": 45}], longer_side=60).shape == (45, 60)
    for wrong in (
        {"box": [0, 0, 500, 10]},
        {"points": [{"x": 500, "y": 4}]},
        {"points": [{"x": 5, "y": 4, "keep": False}]},
    ):
        answer = server.client.post("/v1/segment", json={"content": {"upload": identifier}} | wrong)
        assert answer.status_code == 400, answer.text
    assert server.client.post("/v1/segment", json={"content": {"upload": identifier}}).status_code == 422


def test_a_worker_that_did_not_come_up_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("impasto.server.pool.START_AGAIN", 0.05)
    settings = PoolSettings("test", 1, 4, ("brush",), None, "", str(tmp_path), {"pixels": 10**6, "memory": 10**9})
    tried = []

    async def run():
        pool = Pool(settings, lambda *args, **facts: None)

        async def come_up(place):
            tried.append(place)
            pool._places[place] = None if len(tried) < 3 else unittest.mock.MagicMock()

        monkeypatch.setattr(pool, "_worker_at", come_up)
        pool.start()
        while not pool.ready:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await pool.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert tried == [0, 0, 0]


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path, command_environment):
    command = [sys.executable, "-m", "benchmarks.server", "--quick", "--json", str(tmp_path / "report.json")]
    finished = subprocess.run(command, cwd=ROOT, env=command_environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["throughput"]["value"] > 0 and rows["errors other than 429"]["value"] == 0
    assert rows["throughput"]["note"].startswith("4 clients") and rows["slider to preview"]["value"] > 0
    assert "first paint of the studio" in rows or any("left out" in note for note in report["notes"])
    assert not any(row["verdict"] for row in report["rows"])  # a quick run is not judged

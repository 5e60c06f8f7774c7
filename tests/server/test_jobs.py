"""Jobs: progress, previews, cancelling, time limits, deaths, restarts, batches."""

import base64
import io
import json
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from serving import jpeg, pixels_in, problem


def request(photo, **options):
    """A job of the slow fake engine."""
    return {
        "content": {"data": base64.b64encode(photo).decode()},
        "styles": [{"preset": "grey"}],
        "engine": "fake-slow",
        "options": options,
        "output": {"format": "png"},
    }


def events_of(server, path):
    """All events of a stream until it ends."""
    found = []
    with server.client.stream("GET", path, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                found.append([line.removeprefix("event: "), None])
            elif line.startswith("data: "):
                found[-1][1] = json.loads(line.removeprefix("data: "))
    return found


def again(server, url, painting):
    """A result in other formats: the same pixels, the recipe too unless it is left out; and as a thumbnail."""

    def get(**query):
        answer = server.client.get(url, params=query)
        assert answer.status_code == 200, answer.text
        return answer

    assert get(format="png").content == painting
    jpeg_file, plain = get(format="jpeg", quality=90), get(strip="true")
    assert jpeg_file.headers["content-type"] == "image/jpeg" and '.jpg"' in jpeg_file.headers["content-disposition"]
    assert b'"engine": "fake-slow"' in jpeg_file.content and b'"engine"' not in plain.content
    assert np.array_equal(pixels_in(plain.content), pixels_in(painting))
    small = get(format="webp", size=20)
    assert max(pixels_in(small.content).shape) == 20 and small.headers["content-type"] == "image/webp"
    problem(server.client.get(url, params={"format": "tiff"}), 422, "invalid")


def test_a_job_from_begin_to_end(server, photo_bytes, photograph):
    before = server.stored_files()
    answer = server.client.post("/v1/jobs", json=request(photo_bytes, steps=30, pause=0.1))
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" and job["status"] in ("queued", "running")
    problem(server.client.get(f"/v1/jobs/{job['id']}/result"), 409, "state")
    events = events_of(server, f"/v1/jobs/{job['id']}/events")
    kinds = [kind for kind, _ in events]
    assert kinds[0] == "job" and kinds[-1] == "end" and "progress" in kinds and "preview" in kinds
    done = [facts["done"] for kind, facts in events if kind == "progress"]
    assert done == sorted(done) and len(done) > 3
    preview = next(facts for kind, facts in events if kind == "preview")
    assert (preview["height"], preview["width"]) == (24, 32)
    final = events[-1][1]
    assert final["status"] == "done" and final["attempts"] == 1 and final["progress"]["done"] == 1
    result = server.client.get(final["result"]["url"], params={"download": "true"})
    assert result.headers["content-disposition"].startswith("attachment")
    assert np.array_equal(pixels_in(result.content), 255 - photograph)
    assert len(result.content) == final["result"]["bytes"]
    again(server, final["result"]["url"], result.content)
    assert not [name for name in server.stored_files() if name.startswith("pictures")]
    assert events_of(server, f"/v1/jobs/{job['id']}/events")[-1][0] == "end"  # also after the end
    assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    problem(server.client.get(f"/v1/jobs/{job['id']}"), 404)
    assert server.stored_files() == before


def test_previews_can_be_fetched_while_it_runs(server, photo_bytes):
    job = server.job(**request(photo_bytes, steps=200, pause=0.05))
    listener = threading.Thread(target=events_of, args=(server, f"/v1/jobs/{job}/events"))
    listener.start()
    server.wait_until(lambda: server.client.get(f"/v1/jobs/{job}").json()["preview"])
    answer = server.client.get(f"/v1/jobs/{job}/preview")
    assert answer.headers["content-type"] == "image/webp" and pixels_in(answer.content).shape == (24, 32, 3)
    server.client.delete(f"/v1/jobs/{job}")
    listener.join(10)
    assert not listener.is_alive()


def test_fast_engines_work_as_jobs_too(server, photo_bytes):
    body = request(photo_bytes) | {"engine": "brush", "styles": [{"preset": "ukiyo-e"}]}
    assert server.ended(server.job(**body))["status"] == "done"


@pytest.mark.parametrize("trouble", ["none", "hang", "deaf"])
def test_running_jobs_can_be_cancelled(server, photo_bytes, trouble):
    job = server.job(**request(photo_bytes, steps=10_000, pause=0.05, trouble=trouble))
    server.wait_until(lambda: server.status(job) == "running")
    assert server.client.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    problem(server.client.post(f"/v1/jobs/{job}/cancel"), 409, "state")
    begun = time.monotonic()
    assert (
        server.ended(server.job(**request(photo_bytes)))["status"] == "done"
    )  # the worker is free, or a new one there
    assert time.monotonic() - begun < 20
    assert server.status(job) == "cancelled"
    assert not [name for name in server.stored_files() if name.startswith("pictures")]


@pytest.mark.slow
def test_jobs_can_be_cancelled_while_their_worker_starts(start_server, photo_bytes):
    server = start_server()
    job = server.job(**request(photo_bytes, steps=10_000, pause=0.05, note=55))
    server.wait_until(lambda: 'impasto_running{pool="slow"} 1.0' in server.client.get("/metrics").text)
    assert server.client.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    assert server.ended(server.job(**request(photo_bytes)))["status"] == "done"  # it does not wait for the other
    assert not (server.markers / "55").exists()


@pytest.mark.slow
def test_nobody_waits_for_ever_behind_a_slow_job(start_server, photo_bytes):
    server = start_server(request_seconds=5.0)
    job = server.job(**request(photo_bytes, steps=10_000, pause=0.05))
    server.wait_until(lambda: server.status(job) == "running")
    answer = server.client.post("/v1/estimate", json={"engine": "fake-slow", "height": 10, "width": 10}, timeout=30)
    assert problem(answer, 429, "busy")["retry_after"] == int(answer.headers["retry-after"])
    server.client.delete(f"/v1/jobs/{job}")


def test_waiting_jobs_can_be_cancelled(server, photo_bytes):
    running = server.job(**request(photo_bytes, steps=10_000, pause=0.05))
    waiting = [server.job(**request(photo_bytes)) for _ in range(2)]
    server.wait_until(lambda: server.status(running) == "running")
    assert [server.client.get(f"/v1/jobs/{job}").json()["position"] for job in waiting] == [0, 1]
    assert server.client.post(f"/v1/jobs/{waiting[0]}/cancel").json()["status"] == "cancelled"
    assert server.client.get(f"/v1/jobs/{waiting[1]}").json()["position"] == 0
    server.client.delete(f"/v1/jobs/{running}")
    assert server.ended(waiting[1])["status"] == "done"


@pytest.mark.parametrize(("trouble", "status", "kind"), [("error", 422, "image"), ("bug", 500, "internal")])
def test_failures_are_told(server, photo_bytes, trouble, status, kind):
    job = server.ended(server.job(**request(photo_bytes, trouble=trouble)))
    assert job["status"] == "failed" and job["attempts"] == 1
    assert job["error"]["status"] == status and job["error"]["type"].endswith(kind)
    if trouble == "bug":
        assert any("ZeroDivisionError" in row["trace"] for row in server.events("painting failed"))
        assert "ZeroDivisionError: a bug" not in json.dumps(job)


def test_a_worker_that_dies_takes_one_job_with_it(server, photo_bytes):
    doomed = server.job(**request(photo_bytes, trouble="crash"))
    unlucky = server.job(**request(photo_bytes, trouble="crash-once", note=77))
    healthy = server.job(**request(photo_bytes))
    assert server.ended(healthy)["status"] == "done"
    found = server.ended(doomed)
    assert found["status"] == "failed" and found["attempts"] == 2 and found["error"]["type"].endswith("crashed")
    found = server.ended(unlucky)
    assert found["status"] == "done" and found["attempts"] == 2


def test_bad_pictures_are_refused_before_they_wait(server, photo_bytes):
    problem(server.client.post("/v1/jobs", json=request(photo_bytes[: len(photo_bytes) // 2])), 422, "image")
    assert not [name for name in server.stored_files() if name.startswith("pictures")]


def test_batches_end_in_an_archive(server, photo_bytes, photograph):
    before = server.stored_files()
    files = [("content", (f"beach {n}.png", photo_bytes)) for n in (1, 2)]
    files += [("content", ("beach 1.jpg", jpeg(photograph[:50]))), ("style", (None, "grey"))]
    fields = {"engine": "fake-slow", "format": "png", "options": '{"steps": 10, "pause": 0.1}'}
    answer = server.client.post("/v1/batches", files=files, data=fields)
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert batch["total"] == 3 and answer.headers["location"] == f"/v1/batches/{batch['id']}"
    events = events_of(server, f"/v1/batches/{batch['id']}/events")
    assert events[0][0] == "batch" and events[-1][0] == "end" and events[-1][1]["done"] == 3
    assert {facts["status"] for kind, facts in events if kind == "job"} >= {"done"}
    archive = server.client.get(events[-1][1]["zip"])
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        assert opened.testzip() is None
        assert sorted(opened.namelist()) == ["beach 1.grey (2).png", "beach 1.grey.png", "beach 2.grey.png"]
        assert np.array_equal(pixels_in(opened.read("beach 1.grey.png")), 255 - photograph)
    assert server.client.delete(f"/v1/batches/{batch['id']}").status_code == 204
    problem(server.client.get(f"/v1/batches/{batch['id']}"), 404)
    assert server.stored_files() == before


def test_batches_can_be_cancelled(server, photo_bytes):
    body = request(photo_bytes, steps=10_000, pause=0.05)
    content = body.pop("content")
    batch = server.client.post("/v1/batches", json=body | {"contents": [content] * 3}).json()
    problem(server.client.get(f"/v1/batches/{batch['id']}/zip"), 409, "state")
    assert server.client.post(f"/v1/batches/{batch['id']}/cancel").json()["cancelled"] == 3
    with zipfile.ZipFile(io.BytesIO(server.client.get(f"/v1/batches/{batch['id']}/zip").content)) as opened:
        assert opened.namelist() == ["errors.json"] and len(json.loads(opened.read("errors.json"))) == 3
    server.client.delete(f"/v1/batches/{batch['id']}")


def test_batches_grow_beyond_the_memory_for_uploads(start_server, photo_bytes, style_bytes):
    server = start_server(upload_bytes=len(photo_bytes) + len(style_bytes) + 10, keep_seconds=3.0)
    style = server.client.post("/v1/uploads", files={"file": style_bytes}).json()["id"]
    body = {"engine": "fake-slow", "styles": [{"upload": style}], "output": {"format": "png"}}
    problem(server.client.post("/v1/batches", json=body), 422, "invalid")
    answer = server.client.post("/v1/batches", json=body | {"open": True})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert (batch["status"], batch["total"], batch["zip"]) == ("open", 0, None)
    photos, close = f"/v1/batches/{batch['id']}/photos", f"/v1/batches/{batch['id']}/close"
    problem(server.client.post(close), 409, "state")
    problem(server.client.get(f"/v1/batches/{batch['id']}/zip"), 409, "state")
    assert server.client.delete(f"/v1/uploads/{style}").status_code == 204
    for number in range(4):
        sent = server.client.post(photos, files={"content": (f"{number}.png", photo_bytes)})
        assert sent.status_code == 202, sent.text
        assert [job["name"].partition(".")[0] for job in sent.json()["jobs"]] == [f"{number}"]
    problem(server.client.post(photos, files={"content": b"nothing"}), 415, "media-type")
    problem(server.client.post(photos, files={"content": photo_bytes, "style": b"x"}), 422, "invalid")
    time.sleep(3.5)  # longer than results are kept: not those of a batch that is open
    server.kill()
    server.restart()
    assert server.client.post(photos, json={"contents": [request(photo_bytes)["content"]]}).json()["total"] == 5
    for _ in range(2):
        assert server.client.post(close).json()["status"] in ("running", "done")
    problem(server.client.post(photos, files={"content": photo_bytes}), 409, "state")
    end = events_of(server, f"/v1/batches/{batch['id']}/events")[-1]
    assert end[0] == "end" and end[1]["done"] == 5
    server.wait_until(lambda: server.stored_files() == [], 20)


def test_results_that_are_gone_are_no_error_of_the_server(server, photo_bytes):
    body = request(photo_bytes)
    contents = {"contents": [body.pop("content")] * 2}
    batch = server.client.post("/v1/batches", json=body | contents).json()
    for job in batch["jobs"]:
        assert server.ended(job["id"])["status"] == "done"
    gone, kept = (job["id"] for job in batch["jobs"])
    (server.state / "results" / gone).unlink()
    problem(server.client.get(f"/v1/jobs/{gone}/result"), 404, "not-found")
    answer = server.client.get(f"/v1/jobs/{kept}/result")
    assert int(answer.headers["content-length"]) == len(answer.content) > 0
    with zipfile.ZipFile(io.BytesIO(server.client.get(f"/v1/batches/{batch['id']}/zip").content)) as opened:
        assert len(opened.namelist()) == 2 and json.loads(opened.read("errors.json"))[0]["status"] == "removed"
    server.client.delete(f"/v1/batches/{batch['id']}")


def test_deaths_of_workers_are_counted(server):
    lines = server.client.get("/metrics").text.splitlines()
    assert "# TYPE impasto_worker_deaths_total counter" in lines
    assert any(line.startswith('impasto_worker_deaths_total{pool="slow"}') for line in lines)


def test_open_batches_can_be_cancelled_and_removed(server, photo_bytes):
    before = server.stored_files()
    body = request(photo_bytes, steps=10_000, pause=0.05)
    content = body.pop("content")
    empty, begun = (server.client.post("/v1/batches", json=body | {"open": True}).json()["id"] for _ in range(2))
    problem(server.client.post(f"/v1/batches/{empty}/cancel"), 409, "state")
    assert server.client.delete(f"/v1/batches/{empty}").status_code == 204
    problem(server.client.get(f"/v1/batches/{empty}"), 404)
    server.client.post(f"/v1/batches/{begun}/photos", json={"contents": [content]})
    cancelled = server.client.post(f"/v1/batches/{begun}/cancel").json()
    assert (cancelled["status"], cancelled["cancelled"]) == ("done", 1)
    server.client.delete(f"/v1/batches/{begun}")
    assert server.stored_files() == before


def test_the_limit_of_jobs_holds_at_the_same_moment(start_server, photo_bytes):
    server = start_server(jobs=3)
    body = request(photo_bytes, steps=10_000, pause=0.05)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: server.client.post("/v1/jobs", json=body).status_code, range(8)))
    assert sorted(answers) == [202] * 3 + [429] * 5


@pytest.mark.slow
def test_ten_jobs_survive_kill_minus_nine(start_server, photo_bytes):
    server = start_server()
    first = server.job(**request(photo_bytes, steps=50, pause=0.1, note=100))
    jobs = [first, *(server.job(**request(photo_bytes, steps=2, note=n + 1)) for n in range(9))]
    server.wait_until(lambda: server.status(first) == "running" and (server.markers / "100").exists())
    workers = psutil.Process(server.process.pid).children(recursive=True)
    server.kill()
    (server.state / "pictures" / "0.part").write_bytes(b"half")  # what a write that was cut short leaves
    (server.state / "results" / "nobody").write_bytes(b"whole, but its row was not written")
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers outlive their server"
    server.restart()
    assert not [name for name in server.stored_files() if name.endswith(("0.part", "nobody"))]
    ended = [server.ended(job) for job in jobs]
    assert [job["status"] for job in ended] == ["done"] * 10
    assert all(server.client.get(job["result"]["url"]).status_code == 200 for job in ended)
    assert len((server.markers / "100").read_text().splitlines()) == 2  # painted again from the start
    assert all(len((server.markers / f"{n + 1}").read_text().splitlines()) == 1 for n in range(9))


@pytest.mark.slow
def test_a_job_that_takes_the_server_down_is_given_up(start_server, photo_bytes):
    server = start_server()
    job = server.job(**request(photo_bytes, steps=10_000, pause=0.05))
    for _ in range(3):
        server.wait_until(lambda: server.status(job) == "running")
        server.kill()
        server.restart()
    found = server.ended(job)
    assert found["status"] == "failed" and found["error"]["type"].endswith("crashed")


@pytest.mark.slow
def test_an_orderly_end_keeps_the_queue(start_server, photo_bytes):
    server = start_server()
    job = server.job(**request(photo_bytes, steps=30, pause=0.1))
    server.wait_until(lambda: server.status(job) == "running")
    listener = threading.Thread(target=events_of, args=(server, f"/v1/jobs/{job}/events"))
    listener.start()
    time.sleep(0.3)
    begun = time.monotonic()
    server.end()
    listener.join(10)
    assert not listener.is_alive()  # its stream ended in an orderly way too
    assert server.process.returncode in (0, -signal.SIGTERM) and time.monotonic() - begun < 10
    server.restart()
    assert server.ended(job)["status"] == "done"


@pytest.mark.slow
def test_limits_of_jobs(start_server, photo_bytes):
    server = start_server(jobs=2, job_seconds=1.0, request_seconds=1.0, keep_seconds=1.0)
    late = server.job(**request(photo_bytes, steps=10_000, pause=0.05))
    server.job(**request(photo_bytes, steps=10_000, pause=0.05, trouble="deaf"))
    answer = server.client.post("/v1/jobs", json=request(photo_bytes))
    assert "room for 0" in problem(answer, 429, "busy")["detail"] and int(answer.headers["retry-after"]) > 0
    server.wait_until(lambda: server.status(late) == "failed")
    assert server.client.get(f"/v1/jobs/{late}").json()["error"]["type"].endswith("time-limit")
    body = request(photo_bytes, steps=10_000, pause=0.05) | {"engine": "fake-fast"}
    problem(server.client.post("/v1/stylize", json=body), 504, "time-limit")
    server.wait_until(
        lambda: server.client.get(f"/v1/jobs/{late}").status_code == 404, 20
    )  # removed after keep_seconds
    server.wait_until(lambda: server.stored_files() == [], 20)

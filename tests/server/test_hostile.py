"""Uploads that are damaged, oversized, mislabelled or meant to do harm: 4xx with a clear problem, and nothing left."""

import base64
import contextlib
import io
import socket
import struct
import threading
import time
import zipfile
import zlib

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import jpeg, png, problem

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(side):
    """A small file that says it is ``side`` pixels wide and high, and unpacks to zeros."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    data = packer.compress(bytes(1 << 20)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_zip(data):
    """A picture that is also an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("run.class", b"\xca\xfe\xba\xbe")
    return data + stream.getvalue()


def with_text_chunk(text):
    whole = png(PIXELS)
    return whole[:33] + chunk(b"tEXt", b"Comment\0" + text) + whole[33:]


def animated_gif():
    stream = io.BytesIO()
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 255)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


HOSTILE = {
    "empty": (b"", None, 422),
    "noise": (bytes(range(256)) * 4, None, 415),
    "truncated png": (png(PIXELS)[:-600], None, 422),
    "truncated jpeg": (jpeg(PIXELS)[:400], None, 422),
    "header only": (b"\x89PNG\r\n\x1a\n", None, 422),
    "jpeg marker only": (b"\xff\xd8\xff", None, 422),
    "bomb": (png_bomb(30_000), None, 413),
    "bomb below the limit": (png_bomb(3_000), None, 422),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', None, 415),
    "svg as png": (b"<?xml version='1.0'?><svg/>", "image/png", 415),
    "html": (b"<!doctype html><script>alert(1)</script>", None, 415),
    "pdf": (b"%PDF-1.7\n", None, 415),
    "address": (b"http://169.254.169.254/latest/meta-data", None, 415),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", None, 415),
    "photoshop": (b"8BPS\0\x01" + bytes(60), None, 415),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(30), None, 415),
    "jpeg as png": (jpeg(PIXELS), "image/png", 415),
    "png as text": (png(PIXELS), "text/html", 415),
    "png as svg": (png(PIXELS), "image/svg+xml", 415),
    "zip polyglot": (with_zip(jpeg(PIXELS)), None, 415),
    "script polyglot": (with_text_chunk(b"<script>alert(1)</script>"), None, 415),
    "php polyglot": (jpeg(PIXELS) + b"<?php system($_GET[0]); ?>", None, 415),
    "pdf polyglot": (with_text_chunk(b"%PDF-1.4"), None, 415),
    "film": (animated_gif(), None, 422),
}


def ways_to_send(client, data, declared):
    """Every endpoint that takes pictures, with ``data`` in each of its places."""
    good = png(PIXELS)
    b64 = base64.b64encode(data).decode()
    part = ("x", data, declared) if declared else ("x", data)
    yield "upload", lambda: client.post("/v1/uploads", files={"file": part})
    yield "content", lambda: client.post("/v1/stylize", files={"content": part}, data={"style": "ukiyo-e"})
    yield "style", lambda: client.post("/v1/stylize", files={"content": ("g", good), "style": part})
    yield (
        "mask",
        lambda: client.post("/v1/stylize", files={"content": ("g", good), "mask": part}, data={"style": "ukiyo-e"}),
    )
    yield "preview", lambda: client.post("/v1/previews", files={"content": part}, data={"style": "ukiyo-e"})
    yield "job", lambda: client.post("/v1/jobs", files={"content": part}, data={"style": "ukiyo-e"})
    yield "batch", lambda: client.post("/v1/batches", files={"content": part}, data={"style": "ukiyo-e"})
    if declared is None:
        body = {"content": {"data": b64}, "styles": [{"preset": "ukiyo-e"}]}
        yield "json", lambda: client.post("/v1/stylize", json=body)
        yield "segment", lambda: client.post("/v1/segment", json={"content": {"data": b64}, "box": [2, 2, 9, 9]})


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures(server, name):
    data, declared, status = HOSTILE[name]
    for way, send in ways_to_send(server.client, data, declared):
        answer = send()
        assert answer.status_code == status, f"{way}: {answer.text}"
        found = problem(answer, status)
        assert "Traceback" not in answer.text and "/tmp" not in found["detail"] and "<bytes>" not in found["detail"], (
            found
        )
    assert server.stored_files() == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "C:\\x.png", "a\x01b.png", "..", "x" * 300]
)
def test_path_tricks_in_names(server, name):
    body = {
        "content": {"data": base64.b64encode(png(PIXELS)).decode(), "name": name},
        "styles": [{"preset": "ukiyo-e"}],
    }
    for path in ("/v1/stylize", "/v1/jobs"):
        problem(server.client.post(path, json=body), 422, "invalid")
    if name.isascii() and name.isprintable() and not name.startswith("C:"):  # of that the form's parser keeps "x.png"
        boundary = "frontier"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        answer = server.client.post(
            "/v1/uploads",
            content=head + png(PIXELS) + f"\r\n--{boundary}--\r\n".encode(),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        problem(answer, 422, "invalid")
    assert server.stored_files() == []


@pytest.mark.parametrize(
    "options", ['{"steps": 1' + "0" * 400 + "}", '{"\\ud800": 1}', '{"trouble": "\\ud800"}', "[" * 100_000]
)
def test_options_beyond_everything(server, options):
    fields = {"style": "grey", "engine": "fake-fast", "options": options}
    answer = server.client.post("/v1/stylize", files={"content": png(PIXELS)}, data=fields)
    assert 400 <= problem(answer, answer.status_code)["status"] < 500


def test_strange_but_harmless_pictures_are_read(server):
    phone = jpeg(PIXELS) + b"\0\0\0\x18ftypmp42" + bytes(500)  # a photograph with a film behind it
    for data in (phone, with_text_chunk(b"a comment"), png(PIXELS) + b"\0" * 10):
        answer = server.client.post("/v1/uploads", files={"file": ("x", data)})
        assert answer.status_code == 201, answer.text


@pytest.mark.slow
def test_limits_of_bytes(start_server):
    server = start_server(picture_bytes=2000, request_bytes=20_000, body_seconds=1.0, received_bytes=30_000)
    noise = png(PIXELS)  # noise cannot be packed
    assert 2000 < len(noise) < 6000
    problem(server.client.post("/v1/uploads", files={"file": noise}), 413, "too-large")
    problem(
        server.client.post("/v1/uploads", content=bytes(30_000), headers={"Content-Type": "image/png"}),
        413,
        "too-large",
    )

    def endless():
        for _ in range(100):
            yield bytes(1000)

    with contextlib.suppress(httpx.TransportError):  # without a length; the server may close while the client sends
        answer = server.client.post("/v1/uploads", content=endless(), headers={"Content-Type": "image/png"})
        problem(answer, 413, "too-large")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        head = f"POST /v1/uploads HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: 999\r\n\r\n"
        slow.sendall(head.encode())
        assert b"408" in slow.recv(4096)
    with socket.create_connection((host, int(port)), timeout=20) as dripping:
        dripping.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(20):
                dripping.sendall(b"x")
                time.sleep(0.3)
        assert b"408" in dripping.recv(4096)
    server.wait_until(lambda: "impasto_received_held_bytes 0.0" in server.client.get("/metrics").text)


@pytest.mark.slow
def test_uploads_have_a_bound(start_server):
    rng = np.random.default_rng(1)
    pictures = [png(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(4)]
    server = start_server(upload_bytes=3 * len(pictures[0]) + 100)
    ids = [server.client.post("/v1/uploads", files={"file": data}).json()["id"] for data in pictures[:3]]
    assert server.client.get(f"/v1/uploads/{ids[0]}").status_code == 200  # now the one used last
    newest = server.client.post("/v1/uploads", files={"file": pictures[3]}).json()["id"]
    statuses = [server.client.get(f"/v1/uploads/{one}").status_code for one in (*ids, newest)]
    assert statuses == [200, 404, 200, 200]


@pytest.mark.slow
def test_memory_that_would_not_suffice_is_refused(start_server, photo_bytes):
    server = start_server(memory=200 * 1024 * 1024)
    body = {"content": {"data": base64.b64encode(photo_bytes).decode()}, "styles": [{"preset": "ukiyo-e"}]}
    assert server.client.post("/v1/stylize", json=body).status_code == 200
    found = problem(server.client.post("/v1/stylize", json=body | {"settings": {"size": 4000}}), 413, "image-limit")
    assert "GB" in found["detail"]


@pytest.mark.slow
def test_a_full_queue_sends_others_away_and_forgets_who_left(start_server, photo_bytes):
    server = start_server(queue=3)
    body = {
        "content": {"data": base64.b64encode(photo_bytes).decode()},
        "styles": [{"preset": "grey"}],
        "engine": "fake-fast",
        "options": {"steps": 10_000, "pause": 0.05},
    }
    clients = [httpx.Client(base_url=server.url, trust_env=False) for _ in range(4)]

    def impatient(client):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/stylize", json=body, timeout=httpx.Timeout(30, read=6))
        client.close()

    threads = [threading.Thread(target=impatient, args=(client,)) for client in clients]
    running = 'impasto_running{pool="fast"} 1.0'
    threads[0].start()
    server.wait_until(lambda: running in server.client.get("/metrics").text, 20)
    for thread in threads[1:]:
        thread.start()
    gauge = 'impasto_waiting{lane="request",pool="fast"} 3.0'
    server.wait_until(lambda: gauge in server.client.get("/metrics").text, 20)
    answer = server.client.post("/v1/stylize", json=body)
    assert problem(answer, 429, "busy")["retry_after"] == int(answer.headers["retry-after"]) >= 1
    for thread in threads:
        thread.join()
    # all four are gone: nothing waits, nothing runs, and the worker is there for the next
    server.wait_until(lambda: 'impasto_running{pool="fast"} 0.0' in server.client.get("/metrics").text, 20)
    quick = body | {"options": {"steps": 1}}
    assert server.client.post("/v1/stylize", json=quick).status_code == 200


@pytest.mark.slow
def test_memory_is_flat_over_requests(server, photo_bytes, style_bytes):
    """The short version of ``benchmarks/server.py``."""
    files = {"content": ("a.png", photo_bytes), "style": ("b.jpg", style_bytes)}

    def memory():
        main = psutil.Process(server.process.pid)
        return sum(one.memory_info().rss for one in (main, *main.children(recursive=True)))

    def paint(count):
        for _ in range(count):
            assert server.client.post("/v1/stylize", files=files).status_code == 200

    paint(20)
    before = memory()
    paint(60)
    assert memory() - before < 12e6
    assert server.stored_files() == []


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files_never_break_it(server, data):
    """Bytes of good files, some of them changed, cut out or doubled."""
    good = bytearray(data.draw(st.sampled_from([png(PIXELS), jpeg(PIXELS), animated_gif()])))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(good) - 1))
        if data.draw(st.booleans()):
            good[place] = data.draw(st.integers(0, 255))
        else:
            end = min(len(good), place + data.draw(st.integers(0, 50)))
            good[place:end] = good[place:end] * data.draw(st.integers(0, 2))
        if not good:
            good = bytearray(b"\0")
    answer = server.client.post("/v1/uploads", files={"file": ("x", bytes(good))})
    assert answer.status_code in (201, 413, 415, 422), answer.text

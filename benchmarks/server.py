"""Load on the server: many clients at a time, throughput against the bare engine, memory, and the slider's delay.

Where Playwright and Chromium are installed, the studio's page is measured too: its first paint, and the slider.

The server runs as a process of its own on 127.0.0.1; clients are coroutines that speak HTTP/1.1 over sockets kept open,
with requests made beforehand, so that they take as little as possible of the machine they measure. Requests are bounded
in number and in time, and go to no other host.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from PIL import Image

from benchmarks.harness import Report, Target, Timing, add_options, busy_share, checked_options, publish
from benchmarks.pictures import photograph
from impasto.field import StyleField
from impasto.image import read_picture
from impasto.stylizer import Stylizer

__all__ = ["Answer", "Load", "Plan", "main"]

RATIO_TARGET = Target("at least", 85)  # % of the bare engine's throughput
FAILURE_TARGET = Target("at most", 0)
GROWTH_TARGET = Target("at most", 5)  # % between a tenth of the requests and all of them
SLIDER_TARGET = Target("at most", 150)  # ms
PAINT_TARGET = Target("at most", 1000)  # ms
STYLE = "ukiyo-e"


@dataclass(frozen=True)
class Plan:
    """Sizes and counts of a run.

    Attributes:
        requests: in all.
        clients: at a time.
        side: of the square photographs.
        bare: paintings of the bare engine.
        slides: moves of the slider.
        slider_side: longer side of the slider's previews.
        seconds: after which the load ends, whatever is missing.
        workers: of the server.
    """

    requests: int = 2000
    clients: int = 50
    side: int = 256
    bare: int = 100
    slides: int = 40
    slider_side: int = 512
    seconds: float = 1800.0
    workers: int = 1

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test."""
        return cls(requests=20, clients=4, side=64, bare=3, slides=3, slider_side=64, seconds=120.0)


@dataclass(frozen=True)
class Answer:
    """What came back: status and body."""

    status: int
    body: bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__.partition("\n")[0])
    add_options(parser, repeats=Plan.bare)
    parser.add_argument("--requests", type=int, help=f"in all (default {Plan.requests}; targets need it)")
    parser.add_argument("--clients", type=int, help=f"at a time (default {Plan.clients})")
    parser.add_argument("--workers", type=int, default=Plan.workers, help="of the server")
    options = checked_options(parser, arguments)
    base = Plan.quick() if options.quick else Plan()
    plan = Plan(
        requests=options.requests or base.requests,
        clients=options.clients or base.clients,
        side=base.side,
        bare=base.bare if options.quick else options.repeats,
        slides=base.slides,
        slider_side=base.slider_side,
        seconds=base.seconds,
        workers=options.workers,
    )
    publish(run(plan), options.json)
    return 0


def run(plan: Plan) -> Report:
    """Everything, in one report."""
    judged = plan.requests >= Plan.requests and plan.clients >= Plan.clients and plan.side == Plan.side
    report = Report("server", {"plan": vars(plan)}, judged)
    report.busy = busy_share()
    bare = _bare_rate(report, plan)
    with _running("serve", "--quiet", "--workers", str(plan.workers)) as (process, address):
        _slider(report, plan, address)
        _load(report, plan, process, address, bare)
    with _running("studio", "--no-browser") as (_, address):
        _browser(report, plan, address)
    return report


# -- what is compared ------------------------------------------------------------------------------------------------


def _jpeg(side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photograph(side, side)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _bare_rate(report: Report, plan: Plan) -> float:
    """Paintings a second of the engine alone; beside it what decoding and encoding the files adds."""
    stylizer = Stylizer.load()
    field = StyleField.constant(stylizer.engine.presets()[STYLE])
    data = _jpeg(plan.side)
    picture = read_picture(data).stored
    for _ in range(3):
        stylizer.render(picture, field)
    alone = _timed(plan.bare, lambda: stylizer.render(picture, field))

    def with_files() -> None:
        result = stylizer.render(data, field)
        result.image.save(io.BytesIO(), "JPEG", quality=95)

    whole = _timed(plan.bare, with_files)
    size = f"{plan.side}x{plan.side}"
    report.add("bare engine", 1 / alone.median, "/s", note=f"Stylizer.render, {size}, one after the other")
    report.add("bare engine with files", 1 / whole.median, "/s", note="and JPEG to JPEG")
    report.timings |= {"bare engine": alone, "bare engine with files": whole}
    return 1 / alone.median


def _timed(count: int, call: object) -> Timing:
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        call()  # type: ignore[operator]
        seconds.append(time.perf_counter() - begun)
    return Timing(tuple(seconds))


@contextlib.contextmanager
def _running(*what: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and its address; ``what`` is the command and its options."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "impasto",
            *what,
            "--port",
            "0",
            "--state",
            str(Path(folder, "state")),
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            said = process.stdout.readline().split() if process.stdout else []
            address = next((word.rstrip("/") for word in said if word.startswith("http")), "")
            asyncio.run(_until_ready(address))
            yield process, address
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


async def _until_ready(address: str) -> None:
    for _ in range(600):
        client = await Client.connect(address)
        try:
            if (await client.ask("GET", "/readyz")).status == 200:
                return
        finally:
            client.close()
        await asyncio.sleep(0.1)
    raise RuntimeError("the server did not become ready within a minute")


def _memory_of(process: subprocess.Popen[str]) -> float:
    """Resident memory of the server and its workers, in MB."""
    main_process = psutil.Process(process.pid)
    return sum(one.memory_info().rss for one in (main_process, *main_process.children(recursive=True))) / 1e6


# -- the slider ------------------------------------------------------------------------------------------------------


def _slider(report: Report, plan: Plan, address: str) -> None:
    total, painting = asyncio.run(_slide(plan, address))
    note = f"longer side {plan.slider_side}, from request to the last byte"
    report.add_timing("slider to preview", total, target=SLIDER_TARGET, note=note)
    report.add_timing("of that painting", painting)
    slowest = sorted(total.seconds)[int(0.95 * (len(total.seconds) - 1))]
    report.add("slider to preview, 95th percentile", 1e3 * slowest, "ms")


async def _slide(plan: Plan, address: str) -> tuple[Timing, Timing]:
    client = await Client.connect(address)
    uploaded = await client.ask("POST", "/v1/uploads", _jpeg(4 * plan.slider_side), "image/jpeg")
    identifier = json.loads(uploaded.body)["id"]
    seconds, painting = [], []
    for move in range(plan.slides + 2):
        strength = min(1.0, 0.2 + 0.8 * move / (plan.slides + 1))
        body = {"content": {"upload": identifier}, "styles": [{"preset": STYLE}], "settings": {"strength": strength}}
        sent = json.dumps(body | {"longer_side": plan.slider_side}).encode()
        begun = time.perf_counter()
        answer = await client.ask("POST", "/v1/previews", sent, "application/json")
        if answer.status != 200:
            raise RuntimeError(f"a preview failed: {answer.body.decode(errors='replace')}")
        if move >= 2:  # the first ones decode the photograph
            seconds.append(time.perf_counter() - begun)
            painting.append(float(client.headers["x-impasto-seconds"]))
    client.close()
    return Timing(tuple(seconds)), Timing(tuple(painting))


# -- the studio in a browser -------------------------------------------------------------------------------------------


def _browser(report: Report, plan: Plan, address: str) -> None:
    """First paint, and from the slider to the decoded preview, in a real Chromium; named where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        report.notes.append("the studio in a browser was left out: no Playwright (pip install playwright)")
        return
    program = os.environ.get("IMPASTO_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        report.notes.append("the studio in a browser was left out: no chromium (apt-get install chromium)")
        return
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=flags)
        try:
            paints = [_first_paint(running, address) for _ in range(3)]
            previews = _slide_in(running, plan, address)
        finally:
            running.close()
    note = "first contentful paint, a new profile each time"
    report.add_timing("first paint of the studio", Timing(tuple(paints)), target=PAINT_TARGET, note=note)
    note = "from the change to the decoded picture in the page, longer side 512"
    report.add_timing("slider to preview in the browser", Timing(tuple(previews)), target=SLIDER_TARGET, note=note)


def _first_paint(browser: Any, address: str) -> float:
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("h2")
    # The entry is queued after the frame is shown, on a busy machine some time later.
    entry = page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    milliseconds = entry.json_value()
    page.close()
    return float(milliseconds) / 1e3


def _slide_in(browser: Any, plan: Plan, address: str) -> list[float]:
    """Seconds of each move of the strength slider, as the page itself measures them."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-US")
    page.set_default_timeout(60_000)
    page.goto(address)
    with page.expect_file_chooser() as chooser:
        page.locator(".welcome .primary").click()
    photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": _jpeg(2 * plan.slider_side)}
    chooser.value.set_files([photo])
    page.wait_for_selector(".stage img.picture")
    page.locator(f"[data-style='preset:{STYLE}']").click()
    page.wait_for_selector("img[data-kind=full]")
    page.wait_for_selector("[data-style='preset:romantic-sea'] img[src^='blob:']")  # the wall is finished
    count = "() => window.impastoPreviewTimes.length"
    before = page.evaluate(count)
    for move in range(plan.slides):
        seen = page.evaluate(count)
        page.get_by_label("Strength").fill(f"{0.9 - 0.5 * (move % 10) / 10 - 0.01 * (move // 10 % 5):.2f}")
        page.wait_for_function("(seen) => window.impastoPreviewTimes.length > seen", arg=seen)
        page.wait_for_selector(".stage-busy", state="detached")
    times = page.evaluate("() => window.impastoPreviewTimes")[before:]
    page.close()
    return [milliseconds / 1e3 for milliseconds in times]


# -- the load --------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What a load did: statuses, seconds from begin to end, memory in MB by requests done."""

    statuses: Counter[int]
    seconds: float
    memory: dict[int, float]
    delays: Timing


def _load(report: Report, plan: Plan, process: subprocess.Popen[str], address: str, bare: float) -> None:
    load = asyncio.run(_press(plan, process, address))
    painted, sent_away = load.statuses[200], load.statuses[429]
    failed = sum(load.statuses.values()) - painted - sent_away
    rate = painted / load.seconds
    note = f"{plan.clients} clients, {plan.side}x{plan.side}, JPEG to JPEG"
    report.add("throughput", rate, "/s", note=note)
    report.add("throughput / bare engine", 100 * rate / bare, "%", target=RATIO_TARGET)
    report.add("errors other than 429", float(failed), "", target=FAILURE_TARGET, note=f"{dict(load.statuses)}")
    report.add("sent away (429)", float(sent_away), "")
    report.add_timing("delay of a request", load.delays, note="with its place in the queue")
    first, last = load.memory[min(load.memory)], load.memory[max(load.memory)]
    note = ", ".join(f"{count}: {megabytes:.0f} MB" for count, megabytes in sorted(load.memory.items()))
    report.add("memory growth", 100 * (last - first) / first, "%", target=GROWTH_TARGET, note=note)


async def _press(plan: Plan, process: subprocess.Popen[str], address: str) -> Load:
    body, media_type = _form(_jpeg(plan.side))
    left = iter(range(plan.requests))
    statuses: Counter[int] = Counter()
    delays: list[float] = []
    memory: dict[int, float] = {}
    marks = {max(1, plan.requests * tenths // 10) for tenths in (1, 3, 5, 7, 10)}
    end = time.monotonic() + plan.seconds

    async def one_client() -> None:
        client = await Client.connect(address)
        try:
            while next(left, None) is not None and time.monotonic() < end:
                begun = time.perf_counter()
                answer = await client.ask("POST", "/v1/stylize", body, media_type)
                delays.append(time.perf_counter() - begun)
                statuses[answer.status] += 1
                if len(delays) in marks:
                    memory[len(delays)] = _memory_of(process)
                if answer.status == 429:
                    await asyncio.sleep(min(2.0, float(client.headers.get("retry-after", "1"))))
        finally:
            client.close()

    begun = time.perf_counter()
    results = await asyncio.gather(*(one_client() for _ in range(plan.clients)), return_exceptions=True)
    seconds = time.perf_counter() - begun
    for broken in results:
        if isinstance(broken, BaseException):
            statuses[0] += 1
    memory.setdefault(len(delays), _memory_of(process))
    return Load(statuses, seconds, memory, Timing(tuple(delays)))


def _form(data: bytes) -> tuple[bytes, str]:
    """A form with a photograph and a preset, as curl makes it."""
    boundary = "impasto-benchmark"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="style"\r\n\r\n{STYLE}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    return parts + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Client:
    """One connection that is kept open; understands what the server sends, and nothing else."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self.headers: dict[str, str] = {}

    @classmethod
    async def connect(cls, address: str) -> Client:
        """Open a connection to an address of this machine.

        Raises:
            ValueError: another machine's.
        """
        place = urlsplit(address)
        if place.hostname != "127.0.0.1":
            raise ValueError(f"load goes to 127.0.0.1 only, not to {address}")
        return cls(place.netloc, *await asyncio.open_connection(place.hostname, place.port))

    async def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> Answer:
        """Send a request and read the answer."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"Content-Type: {media_type}"] if media_type else []
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return Answer(int(head[0].split()[1]), await self._reader.readexactly(int(self.headers["content-length"])))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


if __name__ == "__main__":
    sys.exit(main())

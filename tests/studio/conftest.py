"""A real Chromium before a real server. What the page may never do is checked in every test.

Needs the packages ``playwright`` and ``axe-playwright-python`` and the program ``chromium`` (Debian: ``apt-get install
chromium``; anything else by the variable IMPASTO_CHROMIUM). Screenshots go to the folder IMPASTO_TEST_ARTIFACTS.
"""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import skimage
from PIL import Image

pytest.importorskip("fastapi", reason="the server is not installed: pip install 'impasto[studio]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = os.environ.get("IMPASTO_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SERVER_TESTS = Path(__file__).parent.parent / "server"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium, or set IMPASTO_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield running
        running.close()


class StudioServer:
    """``impasto studio`` with two more engines, in a process of its own, always at the same port."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = []
        self.start()

    def start(self):
        settings = {"port": self.port, "studio": True, "state": str(self.folder), "setup": "fake_engines:install"}
        paths = os.pathsep.join([str(SERVER_TESTS), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER_TESTS / "run_server.py"), json.dumps(settings)],
            env=os.environ | {"PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        assert self.process.stdout.readline().strip() == self.url, "".join(self.log[-20:])

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)
        self._reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    running = StudioServer(tmp_path_factory.mktemp("studio"))
    yield running
    running.stop()


KEPT = """new Promise((done) => {
    const opening = indexedDB.open("impasto-studio", 1);
    opening.onsuccess = () => {
        const asked = opening.result.transaction("state").objectStore("state").get("session");
        asked.onsuccess = () => { opening.result.close(); done(asked.result); };
    };
})"""


class Page:
    """The page as a person uses it; ``.tab`` is Playwright's own page."""

    def __init__(self, context, url, shots):
        self.url, self.shots = url, shots
        self.context = context
        self.trouble, self.hosts, self.sent = [], set(), []
        self.forgiven = ()
        self.tab = context.new_page()
        self.tab.set_default_timeout(60_000)
        self.tab.on("console", self._console)
        self.tab.on("pageerror", lambda error: self.trouble.append(f"exception: {error}"))
        self.tab.on("request", self._request)
        self.tab.on("filechooser", lambda chooser: None)  # asked for now: later it may come after the key
        self.tab.goto(url)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.text} {message.location.get('url', '')}")

    def _request(self, request):
        if not request.url.startswith(("blob:", "data:")):
            self.hosts.add(urlparse(request.url).netloc)
        if request.method == "POST" and (request.post_data_buffer or b"").startswith(b"{"):
            self.sent.append((urlparse(request.url).path, json.loads(request.post_data_buffer)))

    def last(self, path):
        """The newest JSON sent to a path, not counting the wall's small pictures."""
        return next(body for where, body in reversed(self.sent) if where == path and body.get("longer_side", 512) > 224)

    def newest_style(self):
        """The first style of the newest preview or painting that was asked for, not counting the wall's."""
        paths = ("/v1/previews", "/v1/stylize")
        asked = (body for where, body in reversed(self.sent) if where in paths and body.get("longer_side", 512) > 224)
        return next(asked)["styles"][0]

    # -- what people do ----------------------------------------------------------------------------------------------

    def choose(self, button, files):
        with self.tab.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(files)

    def open(self, photo):
        self.choose(self.tab.locator(".welcome .primary"), photo)
        self.tab.wait_for_selector(".stage img.picture")

    def style(self, name):
        self.tab.locator(f"[data-style='preset:{name}']").click()

    def mix_in(self, name):
        tile = self.tab.locator(f".tile:has([data-style='preset:{name}'])")
        tile.scroll_into_view_if_needed()
        tile.hover()
        tile.locator(".tile-mix").click()

    def painted(self, kind="full"):
        """Wait for a painting of the present look."""
        self.tab.wait_for_selector(f"img[data-kind={kind}]")
        self.tab.wait_for_selector(".stage-busy", state="detached")
        self.tab.wait_for_selector(f"img[data-kind={kind}]")

    def change(self, act, kind="full"):
        """Do something that changes the painting, and wait for the new one."""
        before = self.tab.locator("img[data-kind]").get_attribute("src")
        act()
        self.tab.wait_for_selector(f"img[data-kind]:not([src='{before}'])")
        self.painted(kind)

    def stroke(self, *points):
        """Draw over the picture; points are parts of its width and height."""
        box = self.tab.locator(".pane img.picture").first.bounding_box()
        spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.tab.mouse.move(*spots[0])
        self.tab.mouse.down()
        for spot in spots[1:]:
            self.tab.mouse.move(*spot, steps=8)
        self.tab.mouse.up()

    def pixels(self, selector="img[data-kind]"):
        """What an image element shows: uint8 ``[H, W, 3]``."""
        address = self.tab.locator(selector).first.evaluate(
            """(image) => {
                const canvas = document.createElement("canvas");
                canvas.width = image.naturalWidth;
                canvas.height = image.naturalHeight;
                canvas.getContext("2d").drawImage(image, 0, 0);
                return canvas.toDataURL("image/png");
            }"""
        )
        with urllib.request.urlopen(address) as data, Image.open(io.BytesIO(data.read())) as image:
            return np.asarray(image.convert("RGB"))

    def saved(self, condition):
        """Wait until what the browser keeps fulfils a condition, a JavaScript expression about ``state``."""
        for _ in range(600):
            if self.tab.evaluate(f"{KEPT}.then((state) => Boolean(state && ({condition})))"):
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError(f"never kept: {condition}")

    def download(self, act, folder):
        with self.tab.expect_download() as coming:
            act()
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def shot(self, name):
        """Keep a picture of the page."""
        self.shots.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=self.shots / f"{name}.png")

    def close(self):
        self.context.close()
        assert self.hosts <= {urlparse(self.url).netloc}, f"the page asked other hosts: {self.hosts}"
        left = [line for line in self.trouble if not any(part in line for part in self.forgiven)]
        assert not left, f"on the page's console: {left}"


@pytest.fixture
def open_page(browser, studio, tmp_path):
    """Open the studio in a fresh browser profile; gives a :class:`Page`."""
    opened = []
    shots = Path(os.environ.get("IMPASTO_TEST_ARTIFACTS", tmp_path)) / "studio"

    def open_(width=1440, height=900, *, scale=1, language="en-US", **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, locale=language, **options
        )
        opened.append(Page(context, studio.url, shots))
        return opened[-1]

    yield open_
    for page in opened:
        page.close()


@pytest.fixture
def page(open_page):
    """The studio on a desktop."""
    return open_page()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three photographs of different shapes, by name."""
    bundled = Path(skimage.__file__).parent / "data"  # these files lie in scikit-image's wheel
    folder = tmp_path_factory.mktemp("photos")
    found = {}
    for name, source, size in (
        ("portrait", "astronaut.png", (360, 300)),
        ("cat", "chelsea.png", (300, 451)),
        ("cup", "coffee.png", (200, 300)),
    ):
        found[name] = folder / f"{name}.png"
        with Image.open(bundled / source) as image:
            image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS).save(found[name])
    return found


@pytest.fixture
def painting(page, photos):
    """A page with a photograph, painted in one style."""
    page.open(photos["cat"])
    page.style("ukiyo-e")
    page.painted()
    return page

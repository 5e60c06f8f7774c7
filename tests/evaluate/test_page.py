"""The page: whole, self-contained, accessible; and it works in a real browser."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from impasto.evaluate.grid import save_grid, shown_pairs
from impasto.evaluate.job import EvaluateConfig, EvaluateJob, run_evaluation
from impasto.evaluate.measuring import Measurer
from impasto.evaluate.page import render_page, save_page
from impasto.evaluate.results import number

VOID = {"meta", "img", "br", "link", "wbr", "circle", "line"}


class Checked(HTMLParser):
    """Every element is closed where it should be; collects tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def evaluated(contents, styles, tmp_path, network, noisy):
    """An evaluation of two engines, one of whose contents is called like a tag."""
    (contents / "cat.png").rename(contents / "<b>&cat.png")
    Image.new("RGB", (96, 72)).save(contents / "dark.png")
    metrics = ("ssim", "perceptual", "gram", "leak", "frechet", "artfrechet")
    config = EvaluateConfig(size=64)
    job = EvaluateJob(("noisy", "brush"), contents, styles, tmp_path / "out", metrics=metrics, config=config)
    return run_evaluation(job, Measurer(job.check(), network=network))


def test_the_page_is_whole_and_asks_no_network(evaluated):
    text = render_page(*evaluated, count=24)
    page = Checked(text)
    values = [value or "" for _, attributes in page.found for value in attributes.values()]
    assert not [value for value in values if "//" in value and not value.startswith("data:image/jpeg;base64,")]
    assert not re.search(r"url\(|@import|fetch\(|https?:", text.partition("<main>")[0])
    (policy,) = (one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not page.all("link") and all("src" not in one for one in page.all("script"))


def test_every_picture_is_in_it_with_a_text(evaluated):
    images = Checked(render_page(*evaluated, count=24)).all("img")
    assert len(images) == 9 * 2 + 6 * 2 + 3  # contents and styles, two engines, of which one cannot paint dark
    assert all(one["src"].startswith("data:image/jpeg;base64,") and one["alt"] and one["width"] for one in images)
    assert len(Checked(render_page(*evaluated, count=2)).all("img")) <= 8
    assert not Checked(render_page(*evaluated, count=0)).all("img")


def test_names_cannot_break_the_page(evaluated):
    text = render_page(*evaluated, count=24)
    assert "<b>&cat" not in text and "&lt;b&gt;&amp;cat" in text


def test_all_numbers_and_failures_are_told(evaluated):
    evaluation, album = evaluated
    text = render_page(evaluation, album, count=1)
    for row in evaluation.rows:
        assert all(f"<b>{number(cell.median)}</b>" in text for cell in row.cells.values())
    assert "What failed" in text and text.count("black cannot be painted") == 3 and "3 failed" in text
    assert text.count('class="best"') == len(evaluation.columns)
    assert text.count("<tr") == 1 + len(evaluation.rows) + 1 + len(evaluation.records)


def test_numbers_are_short():
    assert [number(value) for value in (0.12345, 0, 9.99951, 12.345, 1234.5)] == [
        "0.123",
        "0.000",
        "10.000",
        "12.3",
        "1.23e+03",
    ]


def test_the_grid_has_a_cell_for_each_picture(evaluated, tmp_path):
    save_grid(*evaluated, tmp_path / "grid.jpg", count=4)
    with Image.open(tmp_path / "grid.jpg") as grid:
        assert grid.size == (4 * 266 + 10, 30 + 4 * 266 + 10)
    assert len(shown_pairs(evaluated[0], 4)) == 4 and len(shown_pairs(evaluated[0], 99)) == 9


@pytest.mark.slow
def test_a_browser_shows_it_without_a_request_and_sorts(evaluated, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")
    save_page(*evaluated, tmp_path / "index.html", count=24)
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=chromium, headless=True, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"file://{tmp_path / 'index.html'}")
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager' })")
        page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert [url for url in asked if not url.startswith("data:")] == [f"file://{tmp_path / 'index.html'}"]
        assert said == []
        head = page.locator("table.results th", has_text="gram")

        def column():
            return [float(text) for text in page.locator("table.results tbody tr td:nth-child(4) b").all_inner_texts()]

        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending" and column() == sorted(column())
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending" and column() == sorted(column(), reverse=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()

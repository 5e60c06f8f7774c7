"""End to end: slow engines with previews and cancelling, many photographs, a server that goes away and comes back."""

import io
import json
import re
import signal
import zipfile

import numpy as np
import pytest
from PIL import Image

from impasto.image.reading import read_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def slow(page, photos):
    """A photograph before an engine that takes minutes (of pretended work)."""
    page.open(photos["cat"])
    page.forgiven = ("/preview?version=",)  # the last steps of a job that has just ended
    page.tab.locator("input[name=engine][value=fake-slow]").check()
    page.style("grey")
    return page


def options(page, **values):
    for label, value in values.items():
        field = page.tab.get_by_label(label.capitalize(), exact=True)
        field.fill(value)
        if field.get_attribute("type") == "number":
            field.press("Enter")


def test_options_are_made_from_the_metadata(slow, studio):
    (fake,) = [one for one in studio.get("/v1/engines")["engines"] if one["name"] == "fake-slow"]
    panel = slow.tab.locator("section[aria-labelledby=engine-title] details")
    for option in fake["options"]:
        label = option["name"].capitalize()
        assert panel.get_by_label(label, exact=True).or_(panel.get_by_role("group", name=label)).count() >= 1, label
        assert panel.get_by_text(option["help"].capitalize(), exact=False).first.is_visible()
    assert panel.locator("select option").all_inner_texts() == fake["options"][2]["choices"]
    slow.tab.locator("label.engine", has_text="fake-slow").get_by_text("about", exact=False).wait_for()


def test_slow_engine_shows_steps_and_stops(slow, studio):
    options(slow, pause="0.3", steps="500")
    slow.tab.get_by_role("button", name="Paint with fake-slow").click()
    slow.painted("step")
    assert slow.tab.get_by_role("progressbar").is_visible()
    slow.tab.get_by_text("left", exact=False).first.wait_for()
    assert slow.pixels("img[data-kind=step]").shape == (24, 32, 3)
    slow.shot("slow")
    assert slow.last("/v1/jobs")["options"] == {"pause": 0.3, "steps": 500}
    slow.tab.get_by_role("button", name="Cancel").click()
    slow.tab.get_by_text("Stopped.", exact=False).wait_for()
    slow.tab.get_by_role("button", name="Paint with fake-slow").wait_for()
    assert slow.tab.locator("img[data-kind=step]").count() == 0
    assert slow.tab.locator(".mix-name").inner_text() == "Grey"


def test_slow_engine_finishes(slow, photos, tmp_path):
    options(slow, steps="3")
    slow.tab.get_by_role("button", name="Paint with fake-slow").click()
    slow.painted()
    assert slow.last("/v1/jobs")["options"] == {"steps": 3}
    path = slow.download(lambda: slow.tab.get_by_role("button", name="Download", exact=True).click(), tmp_path)
    with Image.open(path) as image:
        negative = 255 - np.asarray(Image.open(photos["cat"])).astype(int)
        assert np.abs(np.asarray(image.convert("RGB")) - negative).mean() < 3
    slow.tab.get_by_role("button", name="File format").click()  # another one than the job was made in
    slow.tab.locator("#download-menu").get_by_text("PNG", exact=True).click()
    slow.tab.keyboard.press("Escape")
    path = slow.download(lambda: slow.tab.get_by_role("button", name="Download", exact=True).click(), tmp_path)
    with Image.open(path) as image:
        assert (path.suffix, image.format) == (".png", "PNG")
    assert json.loads(read_recipe(path))["engine"] == "fake-slow"


def test_failing_engine_says_why(slow):
    options(slow, steps="2")
    slow.tab.locator("section[aria-labelledby=engine-title] select").select_option("error")
    slow.tab.get_by_role("button", name="Paint with fake-slow").click()
    alert = slow.tab.locator(".notice-error")
    alert.wait_for()
    assert "does not like this picture" in alert.inner_text()
    assert slow.tab.get_by_role("button", name="Paint with fake-slow").is_visible()


def test_running_job_survives_a_reload(slow):
    options(slow, pause="0.3", steps="500")
    slow.tab.get_by_role("button", name="Paint with fake-slow").click()
    slow.painted("step")
    slow.saved("state.job !== null")
    slow.tab.reload()
    slow.tab.get_by_role("progressbar").wait_for()
    slow.painted("step")
    assert slow.tab.locator(".mix-name").inner_text() == "Grey"
    slow.tab.get_by_role("button", name="Cancel").click()
    slow.tab.get_by_text("Stopped.", exact=False).wait_for()


def test_finished_job_survives_a_reload(slow):
    options(slow, steps="2")
    slow.tab.get_by_role("button", name="Paint with fake-slow").click()
    slow.painted()
    before = slow.pixels()
    slow.saved("state.job !== null")
    slow.tab.reload()
    slow.painted()
    assert np.array_equal(slow.pixels(), before)


def test_server_restart_loses_nothing(painting, studio):
    painting.forgiven = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "404", "503")
    before = painting.pixels()
    studio.stop(signal.SIGKILL)
    painting.style("ink-wash")
    painting.tab.get_by_text("The server does not answer.", exact=False).wait_for()
    painting.shot("offline")
    studio.start()
    painting.tab.get_by_text("The server is back.", exact=False).wait_for()
    painting.tab.wait_for_selector("img[data-kind=full][alt*='Ink wash']")
    assert np.abs(painting.pixels().astype(float) - before).mean() > 5


def test_batch_ends_in_a_zip(painting, photos, tmp_path):
    painting.tab.get_by_role("button", name="Many photos").click()
    dialog = painting.tab.get_by_role("dialog")
    painting.choose(dialog.get_by_role("button", name="choose them"), list(photos.values()))
    dialog.get_by_role("button", name="Remove cup.png").click()
    painting.choose(dialog.get_by_role("button", name="Add a picture"), photos["cup"])
    painting.shot("batch-start")
    dialog.get_by_role("button", name="Paint 3 photos").click()
    dialog.locator(".batch-progress", has_text="All 3 are done").wait_for()
    painting.tab.wait_for_timeout(1500)  # the results' pictures
    painting.shot("batch-end")
    path = painting.download(lambda: dialog.get_by_role("link", name="Download the zip").click(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        sizes = {Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()}
    assert sizes == {(300, 360), (451, 300), (300, 200)}
    dialog.get_by_role("button", name="New batch").click()
    assert dialog.get_by_role("button", name="choose them").is_visible()


def refuse_once(page, path, status):
    """Answer the first request to a path as a server that has no room; gives the requests that came."""
    came = []

    def answer(route):
        came.append(route.request.url)
        if len(came) > 1:
            return route.continue_()
        problem = {"type": "urn:impasto:problem:busy", "title": "", "status": status, "detail": "", "retry_after": 1}
        return route.fulfill(status=status, content_type="application/problem+json", body=json.dumps(problem))

    page.forgiven = (str(status),)
    page.tab.route(path, answer)
    return came


def test_batch_waits_for_room_and_leaves_out_what_is_no_picture(painting, photos, tmp_path):
    came = refuse_once(painting, "**/photos", 429)
    painting.forgiven = ("429", "415")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    painting.tab.get_by_role("button", name="Many photos").click()
    dialog = painting.tab.get_by_role("dialog")
    painting.choose(dialog.get_by_role("button", name="choose them"), [photos["cat"], broken, photos["cup"]])
    dialog.get_by_role("button", name="Paint 3 photos").click()
    dialog.locator(".batch-progress", has_text="2 painted, 1 could not be").wait_for()
    assert len(came) == 4
    assert dialog.locator(".batch-item").all_inner_texts()[1].split() == ["broken.png", "failed"]
    path = painting.download(lambda: dialog.get_by_role("link", name="Download the zip").click(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 2


def test_batch_that_was_sent_in_part_ends_after_a_reload(painting, photos):
    held = []
    painting.tab.get_by_role("button", name="Many photos").click()
    dialog = painting.tab.get_by_role("dialog")
    painting.choose(dialog.get_by_role("button", name="choose them"), [photos["cat"], photos["cup"]])

    def let_one_through(route):
        held.append(route)
        if len(held) == 1:
            route.continue_()

    painting.tab.route("**/photos", let_one_through)
    dialog.get_by_role("button", name="Paint 2 photos").click()
    dialog.get_by_text("Sending 1 of 2").wait_for()
    painting.tab.reload()
    painting.tab.get_by_role("button", name="Many photos").click()
    painting.tab.get_by_role("dialog").locator(".batch-progress", has_text="All 1 are done").wait_for()


def test_presets_are_asked_for_until_they_come(page, photos):
    page.open(photos["cat"])
    came = refuse_once(page, re.compile("/v1/presets.engine=fake-slow"), 429)
    page.tab.locator("input[name=engine][value=fake-slow]").check()
    page.tab.locator("[data-style='preset:grey']").wait_for()
    assert len(came) >= 2


def test_batch_survives_a_reload(painting, photos):
    painting.tab.get_by_role("button", name="Many photos").click()
    dialog = painting.tab.get_by_role("dialog")
    painting.choose(dialog.get_by_role("button", name="choose them"), [photos["cat"], photos["cup"]])
    dialog.get_by_role("button", name="Paint 2 photos").click()
    dialog.locator(".batch-progress", has_text=re.compile("of 2 painted|All 2 are done")).wait_for()
    painting.tab.reload()
    painting.tab.get_by_role("button", name="Many photos").click()
    painting.tab.get_by_role("dialog").locator(".batch-progress", has_text="All 2 are done").wait_for()

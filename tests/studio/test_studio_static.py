"""The files of the page, without a browser."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from impasto.studio import static_folder

ROOT = Path(__file__).parents[2]
SOURCES = ("index.html", "package-lock.json", "tsconfig.json", "vite.config.ts", "public", "src")
NAMESPACE = "http://www.w3.org/"  # names of XML vocabularies; nothing is loaded from there


def test_everything_the_page_names_is_there():
    page = (static_folder() / "index.html").read_text("utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/") and not address.startswith("//")
        assert (static_folder() / address.lstrip("/")).is_file(), address


def test_no_file_names_another_host():
    for path in static_folder().rglob("*"):
        if path.suffix in (".html", ".js", ".css", ".svg"):
            found = re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z.]+[^\s\"'`)]*", path.read_text("utf-8"))
            assert [one for one in found if not one.startswith(NAMESPACE)] == [], path.name


def test_page_is_small():
    total = sum(path.stat().st_size for path in static_folder().rglob("*") if path.is_file())
    assert total < 500_000


def test_page_was_built_from_these_sources():
    folder = ROOT / "studio-ui"
    if not folder.is_dir():
        pytest.skip("the page's sources are not part of this copy")
    files = []
    for name in SOURCES:
        path = folder / name
        files += [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    order = sorted(names, key=lambda name: ([SOURCES.index(name.split("/")[0])], name.split("/")))
    digest = hashlib.sha256()
    for name in order:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    built = json.loads((static_folder() / "build.json").read_text("utf-8"))["sources"]
    assert built == digest.hexdigest(), "run 'npm ci && npm run build' in studio-ui/"


def test_both_languages_name_every_preset():
    presets = json.loads((ROOT / "src/impasto/weights/brush-presets.json").read_text("utf-8"))["presets"]
    if not (ROOT / "studio-ui").is_dir():
        pytest.skip("the page's sources are not part of this copy")
    table = (ROOT / "studio-ui/src/i18n/zh.ts").read_text("utf-8").split("zhPresets", 1)[1]
    for preset in presets:
        assert re.search(rf'^  "?{re.escape(preset["name"])}"?: ', table, re.M), preset["name"]

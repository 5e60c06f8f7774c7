"""Engines for the server's tests: slow, failing, crashing and hanging on demand. Registered in server and workers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from impasto.config import check_settings, setting
from impasto.engines import ENGINES, Capabilities, EngineSpec, RenderEstimate, RenderProgress, engine_options
from impasto.errors import ImageError
from impasto.field import StyleCode

MARKERS = "IMPASTO_TEST_MARKERS"  # folder where engines note what they did


@dataclass(frozen=True)
class FakeOptions:
    """What a fake engine does."""

    steps: int = setting(4, "how many steps", smallest=1, largest=10_000)
    pause: float = setting(0.02, "seconds of each step", smallest=0.0, largest=60.0, unit="s")
    trouble: str = setting(
        "none", "what goes wrong", choices=("none", "crash", "crash-once", "error", "bug", "hang", "deaf")
    )
    note: int = setting(0, "number of the file that is written when it begins", smallest=0, largest=1000)
    weights: str = setting("", "a file that no client may name")

    def __post_init__(self):
        check_settings(self)


class FakeEngine:
    """Inverts the photograph, step by step."""

    identity = "0123456789abcdef"

    def __init__(self, name):
        self.name = name

    def encode(self, style, *, name, config):
        return StyleCode(np.asarray(style.mean((0, 1)), np.float32), self.name, self.identity, name)

    def presets(self):
        return {"grey": StyleCode(np.full(3, 0.5, np.float32), self.name, self.identity, "grey")}

    def estimate(self, size, field, config):
        options = engine_options(self.name, config.options)
        return RenderEstimate(options.steps * options.pause, size[0] * size[1] * 12)

    def render(self, content, field, config, on_progress=None):
        options = engine_options(self.name, config.options)
        self._note(options.note)
        for step in range(options.steps):
            if on_progress is not None and options.trouble != "deaf":
                on_progress(
                    RenderProgress(
                        step / options.steps,
                        step,
                        options.steps,
                        f"step {step}",
                        lambda: np.full((24, 32, 3), 0.5, np.float32),
                    )
                )
            time.sleep(options.pause)
            self._trouble(options)
        return np.asarray(255 - content if content.dtype == np.uint8 else 1 - content, content.dtype)

    def _note(self, name):
        folder = os.environ.get(MARKERS)
        if name and folder:
            with (Path(folder) / str(name)).open("a") as stream:
                stream.write(f"{os.getpid()}\n")

    def _trouble(self, options):
        if options.trouble == "crash":
            os._exit(3)
        if options.trouble == "crash-once":
            marker = Path(os.environ[MARKERS]) / f"crashed-{options.note}"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), 9)
        if options.trouble == "error":
            raise ImageError("the fake engine does not like this picture")
        if options.trouble == "bug":
            raise ZeroDivisionError("a bug")
        if options.trouble == "hang":
            while True:
                time.sleep(0.05)


def load_slow():
    return FakeEngine("fake-slow")


def load_fast():
    return FakeEngine("fake-fast")


def install():
    """Add the engines to the registry."""
    for speed in ("slow", "fast"):
        name = f"fake-{speed}"
        able = Capabilities(field=False, tiles=False, chance=False, gpu=False, slow=speed == "slow")
        ENGINES[name] = EngineSpec(
            name, f"fake_engines:load_{speed}", "", "for tests", able, "", options="fake_engines:FakeOptions"
        )

"""Small folders of photographs and artworks, a small network, and an engine that uses chance."""

from pathlib import Path

import noisy_engine
import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from impasto.engines.base import Capabilities, EngineSpec
from impasto.engines.registry import ENGINES
from impasto.nets.lens import Lens, LensConfig

CONTENTS = {"cup": "coffee.png", "cat": "chelsea.png"}
STYLES = {"bricks": "brick.png", "woman": "astronaut.png", "stars": "hubble_deep_field.jpg"}


def _write(folder, names, size):
    folder.mkdir()
    for name, file in names.items():
        with Image.open(Path(skimage.__file__).parent / "data" / file) as image:
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def contents(tmp_path):
    """Two photographs of 96 x 72 pixels."""
    return _write(tmp_path / "photos", CONTENTS, (96, 72))


@pytest.fixture
def styles(tmp_path):
    """Three artworks of 80 x 96 pixels."""
    return _write(tmp_path / "art", STYLES, (80, 96))


@pytest.fixture(scope="session")
def network():
    """An encoder of a few thousand random weights."""
    torch.manual_seed(0)
    network = Lens(LensConfig((8, 8, 16, 16, 16), (1, 1, 1, 1, 1)))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.freeze()


@pytest.fixture
def noisy(monkeypatch):
    """Registers the engine ``noisy``; the seeds of what it painted."""
    capabilities = Capabilities(field=False, tiles=False, chance=True, gpu=False, slow=True)
    spec = EngineSpec("noisy", "noisy_engine:load", "", "grain", capabilities, "")
    monkeypatch.setitem(ENGINES, "noisy", spec)
    noisy_engine.PAINTED.clear()
    return noisy_engine.PAINTED


@pytest.fixture
def passes(network, monkeypatch):
    """The sizes of the pictures that the encoder has looked at."""
    seen = []
    forward = Lens.forward

    def counted(self, picture, layers):
        seen.append(tuple(picture.shape[2:]))
        return forward(self, picture, layers)

    monkeypatch.setattr(Lens, "forward", counted)
    return seen


@pytest.fixture
def pictures_of():
    """Reads a file as float pixels."""

    def read(path):
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)

    return read

"""Networks with seeded random weights: enough for every property, and no file is needed; pictures of scikit-image."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from impasto.nets.lens import Lens, LensConfig
from impasto.nets.teachers import TEACHERS


def _randomised(network, seed):
    """Random weights that keep the features' size from layer to layer."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    return network.freeze()


@pytest.fixture(scope="session")
def seeded():
    """Makes a network of a known layout with seeded random weights."""
    return lambda name, seed=0: _randomised(TEACHERS[name](), seed)


@pytest.fixture(scope="session")
def network(seeded):
    """SqueezeNet with random weights."""
    return seeded("squeezenet1_0")


@pytest.fixture(scope="session")
def lens():
    """A narrow network of VGG's shape with random weights: it tells places apart, as trained ones do."""
    return _randomised(Lens(LensConfig((32, 64, 128, 256, 64), (2, 2, 2, 1, 1))), 2)


@pytest.fixture(scope="session")
def natural():
    """Reads a picture of scikit-image as float ``[H, W, 3]`` in ``[0, 1]``, reduced to a size (height, width)."""

    def read(name, size):
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            rgb = image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS)
        return np.asarray(rgb, np.float32) / np.float32(255)

    return read

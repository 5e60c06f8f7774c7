"""Samples that are natural or drawn here."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

NATURAL = Path(skimage.__file__).parent / "data"


def natural_sample(name, rows, columns):
    """A cut of a picture of scikit-image, float32 ``[H, W, 3]``."""
    with Image.open(NATURAL / name) as image:
        return np.asarray(image.convert("RGB"), np.float32)[rows, columns] / 255


def draw_weave(height, width, period):
    """Threads that go over and under each other."""
    y, x = np.mgrid[0:height, 0:width]
    over = (x // period + y // period) % 2 == 0
    across = np.where(over, y % period, x % period) / period
    shade = 0.4 + 0.6 * np.sin(np.pi * (across + 0.5 / period))
    return (np.where(over[..., None], [0.9, 0.7, 0.4], [0.4, 0.2, 0.1]) * shade[..., None]).astype(np.float32)


@pytest.fixture(scope="session")
def gravel():
    return natural_sample("gravel.png", slice(0, 96), slice(0, 96))


@pytest.fixture(scope="session")
def coffee():
    """Brown and grey, with colours."""
    return natural_sample("coffee.png", slice(200, 296), slice(300, 396))


@pytest.fixture(scope="session")
def weave():
    """Draws a texture that has one right continuation."""
    return draw_weave

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from safetensors.torch import save_file

from impasto.nets.teachers import SqueezeNet

TINY = """
name = "tiny"
seed = 3

[network]
code = 8
quarter = 8
eighth = 8
blocks_eighth = 1
encoder = [4, 4, 8, 8]

[schedule]
learning_rate = 3e-3
warmup = 2
ema = 0.5
checkpoint_every = 1
sheet_every = 1000
log_every = 2

[losses]
stability_every = 2

[[stages]]
steps = 3
batch = 2
size = 48

[[stages]]
steps = 3
batch = 3
size = 32
losses = {style = 6}
"""


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its state per process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with two photographs, and one with three artworks."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    down, right = np.mgrid[0:72, 0:96] / 96
    for kind, count in (("photos", 2), ("art", 3)):
        (root / kind).mkdir()
        for number in range(count):
            waves = [np.sin((4 + 9 * number) * (down * a + right * b)) for a, b in rng.normal(size=(3, 2))]
            noise = 0.15 * rng.normal(size=(72, 96, 3)) * (kind == "art")
            pixels = (np.stack(waves, 2) * 0.4 + 0.5 + noise).clip(0, 1) * 255
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / f"{kind}{number}.png")
    return root


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """A squeezenet file with random weights: features enough to learn something from."""
    path = tmp_path_factory.mktemp("teacher") / "squeezenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = SqueezeNet().state_dict()
    save_file({key: value * (2.0 if key.endswith("weight") else 1.0) for key, value in state.items()}, path)
    return path


@pytest.fixture
def sources(pictures, teacher_file):
    """The keyword arguments of ``train_brush`` that say where everything lies."""
    return {
        "contents": [pictures / "photos"],
        "styles": [pictures / "art"],
        "teachers": [teacher_file],
        "device": "cpu",
    }

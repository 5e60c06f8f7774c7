import json

import pytest
import torch
from safetensors.torch import save_file

from impasto.errors import UsageError, WeightsError
from impasto.nets.encoders import load_encoder
from impasto.nets.mobile import NAMES, Mobile, MobileConfig, build_mobile, folded_mobile

TINY = MobileConfig((6, 8, 8), (1, 2, 1), (8, 8, 10))


@pytest.fixture
def trained():
    """With statistics that a few batches left."""
    torch.manual_seed(0)
    mobile = Mobile(TINY, normalised=True)
    for _ in range(5):
        mobile(torch.rand(4, 3, 32, 32), NAMES)
    return mobile.eval()


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (40, 24)])
def test_layers_are_where_those_of_lens_are(size):
    found = Mobile(TINY)(torch.rand(2, 3, *size), NAMES)
    for name, channels, stride in zip(NAMES, TINY.channels, (2, 4, 8), strict=True):
        assert found[name].shape == (2, channels, size[0] // stride, size[1] // stride)
        assert found[name].min() >= 0


def test_only_what_is_asked_for_is_computed():
    assert set(Mobile(TINY)(torch.rand(1, 3, 32, 32), ("relu3_1",))) == {"relu3_1"}


def test_folding_changes_nothing(trained):
    picture = torch.rand(1, 3, 48, 40)
    with torch.no_grad():
        wanted, found = trained(picture, NAMES), folded_mobile(trained)(picture, NAMES)
    for name in NAMES:
        assert torch.allclose(wanted[name], found[name], atol=1e-5)


def test_a_file_of_it_is_an_encoder(trained, tmp_path):
    mobile = folded_mobile(trained)
    path = tmp_path / "mobile.safetensors"
    sizes = {"widths": TINY.widths, "depths": TINY.depths, "channels": TINY.channels}
    save_file(mobile.half().state_dict(), path, metadata={"mobile": json.dumps(sizes)})
    encoder = load_encoder(path)
    assert isinstance(encoder, Mobile) and encoder.config == TINY and not encoder.training
    assert encoder.spec.layers == {"relu2_1": (2, 8), "relu3_1": (4, 8), "relu4_1": (8, 10)}


@pytest.mark.parametrize("texts", [{}, {"mobile": "{"}, {"mobile": '{"widths": [1]}'}, {"mobile": '{"depth": [1]}'}])
def test_damaged_files_are_refused(texts):
    with pytest.raises(WeightsError, match="these weights are no mobile"):
        build_mobile(Mobile(TINY).state_dict(), texts)


def test_impossible_sizes_are_refused():
    with pytest.raises(UsageError, match="three levels"):
        MobileConfig((1, 2), (1, 1), (3, 3))

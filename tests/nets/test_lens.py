import pytest
import torch

from impasto.nets.lens import Lens, LensConfig, LensTrunk, folded, lens_layers

TINY = LensConfig((4, 6, 8, 10, 12), (2, 2, 2, 3, 1))


@pytest.fixture(scope="module")
def trained():
    """A trunk whose normalisations are not at their initial state."""
    torch.manual_seed(0)
    trunk = LensTrunk(TINY)
    for norm in trunk.norms.values():
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.2)
    for _ in range(20):
        trunk(torch.rand(2, 3, 48, 48))
    return trunk.eval()


def test_folding_changes_nothing(trained):
    picture = torch.rand(2, 3, 50, 67)
    with torch.no_grad():
        wanted = trained(picture)
        found = folded(trained)(picture, tuple(wanted))
    assert list(found) == list(wanted) == list(lens_layers(TINY))
    for layer, maps in wanted.items():
        torch.testing.assert_close(found[layer], maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (67, 33), (16, 1000)])
def test_strides_and_channels_are_as_stated(size):
    lens = Lens(TINY).freeze()
    found = lens(torch.rand(1, 3, *size), tuple(lens.spec.layers))
    for layer, (stride, channels) in lens.spec.layers.items():
        height, width = size
        for _ in range(stride.bit_length() - 1):
            height, width = height // 2, width // 2
        assert found[layer].shape == (1, channels, height, width)


def test_only_what_is_asked_for_is_computed():
    lens = Lens(TINY).freeze()
    calls = []
    for name, convolution in lens.convolutions.items():
        convolution.register_forward_hook(lambda *_, name=name: calls.append(name))
    found = lens(torch.rand(1, 3, 32, 32), ("relu1_2", "relu3_1"))
    assert list(found) == ["relu1_2", "relu3_1"] and calls[-1] == "relu3_1"


def test_the_gradient_reaches_the_picture_and_not_the_weights():
    lens = Lens(TINY).freeze()
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    lens(picture, lens.spec.content_layers)[lens.spec.content_layers[0]].sum().backward()
    assert picture.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in lens.parameters())


def test_default_sizes_fit_the_budget():
    lens = Lens()
    assert 2 * sum(parameter.numel() for parameter in lens.parameters()) < 12_000_000  # bytes in half precision

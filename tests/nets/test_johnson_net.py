import pytest
import torch
from torch.nn import functional

from impasto.nets.johnson import LEAST_SIDE, JohnsonConfig, JohnsonNet

TINY = JohnsonConfig(half=6, quarter=8, blocks=2)


def made(config=TINY, seed=0):
    """A network whose gains and biases are not at their initial state."""
    torch.manual_seed(seed)
    net = JohnsonNet(config)
    torch.nn.init.uniform_(net.gain, 0.5, 1.5)
    torch.nn.init.normal_(net.bias, std=0.3)
    net.paint.weight.data.normal_(std=0.1)
    return net.eval().requires_grad_(False)


def reference(net, picture):
    """The same in double precision, layer by layer, with PyTorch's own normalisation and padding."""
    net = net.double()
    gains, biases = (iter(torch.split(one, net.widths)) for one in (net.gain, net.bias))

    def convolved(features, layer, stride=1):
        side = layer.weight.shape[2] // 2
        padded = functional.pad(features, (side,) * 4, mode="reflect")
        return functional.conv2d(padded, layer.weight, layer.bias, stride=stride)

    def normalised(features):
        return functional.instance_norm(features, weight=next(gains), bias=next(biases), eps=1e-5)

    features = functional.pixel_unshuffle(picture.double() * 2 - 1, 2)
    features = functional.relu(normalised(convolved(features, net.stem)))
    features = functional.relu(normalised(convolved(features, net.down, stride=2)))
    for block in net.middle:
        hidden = functional.relu(normalised(convolved(features, block.first)))
        features = features + normalised(convolved(hidden, block.second))
    features = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    features = functional.relu(normalised(convolved(features, net.up)))
    return functional.pixel_shuffle(convolved(features, net.paint), 2) * 0.5 + 0.5


@pytest.mark.parametrize("size", [(8, 8), (64, 40), (36, 100)])
def test_it_is_what_the_formula_says(size):
    picture = torch.rand(2, 3, *size)
    painted, _ = made()(picture)
    torch.testing.assert_close(painted.double(), reference(made(), picture), rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_picture_and_can_be_given_back():
    net, picture, other = made(), torch.rand(1, 3, 48, 64), torch.rand(1, 3, 48, 64) * 0.3
    painted, measured = net(picture)
    assert measured.shape == (1, 2, net.channels) and (measured[:, 1] > 0).all()
    given, used = net(picture, measured, torch.tensor(1.0))
    assert torch.equal(used, measured)
    torch.testing.assert_close(given, painted)
    ignored, _ = net(other, measured, torch.tensor(0.0))
    assert torch.equal(ignored, net(other)[0])
    assert (net(other, measured, torch.tensor(1.0))[0] - ignored).abs().max() > 0.01


@pytest.mark.parametrize("config", [TINY, JohnsonConfig()])
def test_the_halo_is_as_far_as_a_pixel_looks(config):
    net = made(config)
    side = 2 * net.halo + 24
    picture = torch.rand(1, 3, side, side)
    _, statistics = net(picture)
    picture.requires_grad_()
    painted, _ = net(picture, statistics, torch.tensor(1.0))
    reach = 0
    for phase in range(4):
        at = side // 2 // 4 * 4 + phase
        (gradient,) = torch.autograd.grad(painted[0, :, at, at].sum(), picture, retain_graph=True)
        rows = torch.nonzero(gradient.abs().sum((0, 1, 3)))
        reach = max(reach, at - int(rows.min()), int(rows.max()) - at)
    assert net.halo - 8 <= reach <= net.halo
    assert net.halo % 4 == 0


def test_a_crop_with_its_halo_is_the_crop_of_the_painting():
    net = made()
    picture = torch.rand(1, 3, 160, 176)
    painted, statistics = net(picture)
    top, left, halo = 64, 72, net.halo
    window = picture[:, :, top - halo : top + 24 + halo, left - halo : left + 24 + halo]
    part, _ = net(window, statistics, torch.tensor(1.0))
    inner = part[:, :, halo : halo + 24, halo : halo + 24]
    torch.testing.assert_close(inner, painted[:, :, top : top + 24, left : left + 24], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [TINY, JohnsonConfig()])
def test_a_flat_picture_is_painted_flat_up_to_its_border(config):
    """No padding shows at the edge, and a fresh sub-pixel layer draws no checkerboard."""
    torch.manual_seed(1)
    net = JohnsonNet(config).eval()
    statistics = net(torch.rand(1, 3, 64, 64))[1]
    with torch.no_grad():
        painted, _ = net(torch.full((1, 3, 48, 52), 0.8), statistics, torch.tensor(1.0))
    assert (painted - painted[:, :, :1, :1]).abs().max() < 1e-5


def test_a_picture_of_one_colour_has_no_nan():
    assert torch.isfinite(made()(torch.full((1, 3, LEAST_SIDE, LEAST_SIDE), 0.5))[0]).all()


def test_the_default_fits_into_half_a_megabyte_with_room_for_a_graph():
    assert 2 * sum(parameter.numel() for parameter in JohnsonNet().parameters()) < 485_000

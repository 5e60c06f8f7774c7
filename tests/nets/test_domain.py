import pytest
import torch

from impasto.losses.domain import domain_loss
from impasto.nets.domain import AdaptedNet, DomainClassifier, DomainConfig, reverse_gradient
from impasto.nets.johnson import JohnsonConfig, JohnsonNet

TINY = JohnsonConfig(half=6, quarter=8, blocks=1)


@pytest.mark.parametrize("strength", [0.0, 0.37, 2.5])
def test_the_gradient_is_exactly_the_reversed_one(strength):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 5, 4, generator=generator, requires_grad=True)
    weight = torch.randn(2, 3, 5, 4, generator=generator)

    def gradient(seen):
        return torch.autograd.grad((seen.sin() * weight).sum(), features)[0]

    assert torch.equal(reverse_gradient(features, strength), features)
    assert torch.equal(gradient(reverse_gradient(features, strength)), -strength * gradient(features))


def test_the_gradient_is_reversed_twice_where_two_layers_are():
    features = torch.randn(4, requires_grad=True)
    reverse_gradient(reverse_gradient(features, 2.0), 3.0).sum().backward()
    assert torch.equal(features.grad, torch.full((4,), 6.0))


def test_the_classifier_learns_to_tell_two_textures_apart():
    generator = torch.Generator().manual_seed(1)

    def maps():
        noise = torch.randn(2, 8, 4, 12, 12, generator=generator)
        return noise[0], (noise[1] + noise[1].roll(1, 2)) / 2**0.5  # equal in mean and variance of each channel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = DomainClassifier(DomainConfig(inputs=4, channels=8))
    optimiser = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(120):
        source, target = maps()
        loss = domain_loss(classifier(source), classifier(target))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    source, target = (classifier(one) for one in maps())
    assert source.shape == (8,)
    assert ((source < 0).sum() + (target > 0).sum()).item() >= 15  # of 16


def test_the_adapted_network_paints_what_the_network_paints():
    net = JohnsonNet(TINY)
    adapted = AdaptedNet(net)
    picture, target = torch.rand(2, 3, 48, 32), torch.rand(3, 3, 48, 32)
    painted, used = adapted(picture)
    again, same, source, other = adapted(picture, target, 0.5)
    assert torch.equal(painted, net(picture)[0]) and torch.equal(used, net(picture)[1])
    assert torch.equal(painted, again) and torch.equal(used, same)
    assert source.shape == (2,) and other.shape == (3,)


def test_the_network_hears_the_opposite_of_what_the_classifier_hears():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = AdaptedNet(JohnsonNet(TINY))
    picture, target = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32) * 0.2
    inner, outer = adapted.net.stem.weight, adapted.classifier.last.weight
    found = []
    for strength in (1.0, -1.0):  # at -1 nothing is reversed
        loss = domain_loss(*adapted(picture, target, strength)[2:])
        found.append(torch.autograd.grad(loss, (inner, outer)))
    assert torch.equal(found[0][0], -found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert found[0][0].abs().sum() > 0
    loss = domain_loss(*adapted(picture, target, 0.0)[2:])
    still, moving = torch.autograd.grad(loss, (inner, outer))
    assert not still.any() and moving.any()

import dataclasses

import pytest
import torch

from impasto.nets.brush import (
    BrushConfig,
    BrushModel,
    BrushNet,
    StyleEncoder,
    _Normalised,
    level,
    spread_codes,
    widened,
)

TINY = BrushConfig(code=8, quarter=8, eighth=12, blocks_eighth=1, blocks_quarter=1, encoder=(4, 4, 8, 8))


def make(kind, seed=0):
    torch.manual_seed(seed)
    net = kind(TINY).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
        parameter.add_(0.05 * torch.randn(parameter.shape))  # so that no layer is at its special initial values
    return net


@pytest.fixture(scope="module")
def net():
    return make(BrushNet)


@pytest.fixture(scope="module")
def codes():
    code = torch.randn(1, 3, TINY.code, generator=torch.Generator().manual_seed(1))
    return code / code.square().mean(2, keepdim=True).sqrt()


def picture(height=64, width=96, seed=2):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def constant(weights, height=1, width=1):
    return torch.tensor(weights).view(1, -1, 1, 1).expand(1, len(weights), height, width)


@pytest.mark.parametrize("size", [(8, 8), (64, 96), (40, 16)])
def test_the_painting_has_the_pictures_size(net, codes, size):
    painted, used = net(picture(*size), *BrushModel.constant_field(codes[:, 0]))
    assert painted.shape == (1, 3, *size)
    assert used.shape == (1, 2, net.channels)
    assert torch.isfinite(painted).all() and (used[:, 1] >= 0).all()


def test_statistics_that_were_measured_give_the_same_picture(net, codes):
    field = BrushModel.constant_field(codes[:, 0])
    painted, used = net(picture(), *field)
    again, reported = net(picture(), *field, used, torch.ones(()))
    assert torch.allclose(painted, again, atol=1e-6)
    assert torch.allclose(used, reported)
    ignored, _ = net(picture(), *field, torch.randn_like(used), torch.zeros(()))
    assert torch.allclose(painted, ignored)


def test_a_tile_with_a_halo_equals_the_whole(net, codes):
    whole = picture(256, 320)
    field = BrushModel.constant_field(codes[:, 0])
    painted, used = net(whole, *field)
    top, left, bottom, right, halo = 96, 104, 160, 184, net.halo
    tile = whole[:, :, top - halo : bottom + halo, left - halo : right + halo]
    part, _ = net(tile, *field, used, torch.ones(()))
    inner = part[:, :, halo : halo + bottom - top, halo : halo + right - left]
    assert (inner - painted[:, :, top:bottom, left:right]).abs().max() < 1e-5


@pytest.mark.parametrize("changes", [{}, {"blocks_eighth": 2}, {"blocks_quarter": 3}])
def test_the_halo_covers_the_receptive_field(codes, changes):
    torch.manual_seed(0)
    net = BrushNet(dataclasses.replace(TINY, **changes))
    side = 2 * net.halo + 80
    whole = picture(side, side).requires_grad_()
    measured = torch.rand(1, 2, net.channels)
    centre = net.halo + 40
    for offset in range(0, 8, 7):  # the first and the last pixel of a cell
        painted, _ = net(whole, *BrushModel.constant_field(codes[:, 0]), measured, torch.ones(()))
        (gradient,) = torch.autograd.grad(painted[0, :, centre + offset, centre + offset].sum(), whole)
        reached = gradient.abs().sum((0, 1)).nonzero()
        assert reached.min() >= centre - net.halo
        assert reached.max() < centre + 8 + net.halo


def test_a_constant_field_is_the_weighted_code(net, codes):
    weights = [0.5, 0.2, 0.3]
    mixed = (codes * torch.tensor(weights).view(1, 3, 1)).sum(1)  # gains and biases are linear in the code
    one, _ = net(picture(), *BrushModel.constant_field(mixed))
    three, _ = net(picture(), codes, constant(weights), constant(weights))
    assert torch.allclose(one, three, atol=1e-5)


def test_a_constant_map_is_a_constant_weight(net, codes):
    weights = [0.5, 0.2, 0.3]
    one, _ = net(picture(), codes, constant(weights), constant(weights))
    maps, _ = net(picture(), codes, constant(weights, 16, 24), constant(weights, 8, 12))
    assert torch.allclose(one, maps, atol=1e-5)


def test_a_map_acts_where_it_is(net, codes):
    left = torch.zeros(1, 3, 32, 64)
    left[:, 0, :, :32], left[:, 1, :, 32:] = 1, 1
    eighth = left[:, :, ::2, ::2]
    wide = picture(128, 256)
    only, used = net(wide, codes, constant([1.0, 0.0, 0.0]), constant([1.0, 0.0, 0.0]))
    given = (used, torch.ones(()))
    half, _ = net(wide, codes, left, eighth, *given)
    assert torch.allclose(half[..., : 128 - net.halo], only[..., : 128 - net.halo], atol=1e-5)
    assert (half[..., 160:] - only[..., 160:]).abs().mean() > 1e-3


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 200)])
def test_the_encoder_takes_any_size_and_gives_codes_of_unit_length(size):
    code = make(StyleEncoder)(picture(*size))
    assert code.shape == (1, TINY.code)
    assert code.square().mean() == pytest.approx(1, abs=1e-4)


def test_new_sub_pixel_layers_start_as_nearest_neighbour():
    torch.manual_seed(0)
    net = BrushNet(TINY)
    painted, _ = net(picture(), *BrushModel.constant_field(torch.ones(1, TINY.code)))
    blocks = painted.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert (blocks.amax(4) - blocks.amin(4)).max() < 1e-5


def test_checkpointing_changes_neither_the_painting_nor_the_gradients():
    torch.manual_seed(0)
    model = BrushModel(TINY)
    results = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        painted = model(picture(), picture(32, 32, seed=3))
        painted.square().sum().backward()
        results.append([painted.detach(), *(p.grad.clone() for p in model.parameters())])
    assert all(torch.allclose(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_training_normalises_as_rendering_does(net, codes, kind):
    """With gradients a pass of its own runs for fields without maps: same paintings, statistics and gradients."""
    net = make(BrushNet).to(kind)
    shown, some = picture().to(kind), codes[:, :2].to(kind)
    found = []
    for maps in (False, True):
        photo, learned = shown.clone().requires_grad_(), some.clone().requires_grad_()
        weights = [constant([0.3, 0.7], *(side // at if maps else 1 for side in (64, 96))).to(kind) for at in (4, 8)]
        painted, statistics = net(photo, learned, *weights)
        (painted * torch.linspace(0, 1, painted.numel(), dtype=kind).view_as(painted)).sum().backward()
        found.append((painted.detach(), statistics.detach(), photo.grad, learned.grad))
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-3 * float(two.abs().max()))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_training_normalises_in_half_precision_too(kind):
    """Near float32, also where squares leave the range of float16."""
    generator = torch.Generator().manual_seed(0)
    plain = (3 + 300 * torch.randn(2, 5, 12, 10, generator=generator)).to(kind).float()
    gain, bias = (torch.randn(2, 5, 1, 1, generator=generator).requires_grad_() for _ in range(2))
    pull = torch.randn(2, 5, 12, 10, generator=generator)
    found = []
    for features in (plain, plain.to(kind).contiguous(memory_format=torch.channels_last)):
        features = features.clone().requires_grad_()
        painted, statistics = _Normalised.apply(features, gain, bias)
        gradients = torch.autograd.grad((painted.float() * pull).sum(), (features, gain, bias))
        found.append([painted, statistics, *gradients])
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two.float(), rtol=0.05, atol=0.02 * float(one.detach().abs().max()))


def test_a_reserved_number_is_a_presets_own_gains():
    plain = make(BrushModel)
    wide = BrushModel(dataclasses.replace(TINY, reserved=2)).eval()
    wide.load_state_dict(widened(plain.state_dict(), TINY, wide.config))
    content, style = picture(), picture(48, 48, seed=3)
    code = wide.encoder(style)
    assert code.shape == (1, TINY.code + 2)
    assert torch.equal(code[:, TINY.code :], torch.zeros(1, 2))
    with torch.no_grad():
        expected = plain(content, style)
        for index in (None, torch.tensor([-1]), torch.tensor([1])):
            assert torch.allclose(wide(content, style, index), expected, atol=1e-5)
        wide.net.affine.weight[:, TINY.code + 1] = 0.1
        assert torch.allclose(wide(content, style, torch.tensor([0])), expected, atol=1e-5)
        assert (wide(content, style, torch.tensor([1])) - expected).abs().max() > 1e-3


def test_widening_changes_nothing_else():
    state = make(BrushModel).state_dict()
    for other in (dataclasses.replace(TINY, code=16), dataclasses.replace(TINY, code=16, reserved=3)):
        with pytest.raises(ValueError, match="other sizes"):
            widened(state, TINY, other)
    with pytest.raises(ValueError, match="none can be taken away"):
        widened(state, dataclasses.replace(TINY, reserved=3), TINY)


def test_another_scale_of_the_codes_paints_the_same():
    plain = make(BrushModel)
    scaled = BrushModel(dataclasses.replace(TINY, reserved=2, scale=0.125)).eval()
    scaled.load_state_dict(widened(plain.state_dict(), TINY, scaled.config))
    content, style = picture(), picture(48, 48, seed=3)
    with torch.no_grad():
        assert torch.allclose(scaled(content, style), plain(content, style), atol=1e-5)
    assert torch.allclose(scaled.net.affine.weight[:, : TINY.code], 8 * plain.net.affine.weight)


def test_spread_codes_point_in_all_directions_and_paint_nearly_the_same():
    config = dataclasses.replace(TINY, code=64, scale=0.5, reserved=1)
    torch.manual_seed(0)
    model = BrushModel(config).eval()
    pictures = [torch.cat([picture(48, 48, seed=seed) ** (0.3 + 0.3 * seed) for seed in range(8)])]
    content = picture().expand(8, -1, -1, -1)
    with torch.no_grad():
        alike = torch.nn.functional.normalize(model.encoder(pictures[0]), dim=1)
        before = model(content, pictures[0])
        spread_codes(model, pictures)
        codes = model.encoder(pictures[0])
        after = model(content, pictures[0])
    spread = torch.nn.functional.normalize(codes, dim=1)
    assert (alike @ alike.T).mean() > 0.9
    assert abs((spread @ spread.T - torch.eye(8)).mean()) < 0.2
    assert torch.allclose(codes[:, :64].square().mean(1), torch.ones(8), atol=1e-3)
    assert torch.equal(codes[:, 64:], torch.zeros(8, 1))
    assert (before.mean(0) - after.mean(0)).abs().mean() < 0.1 * before.std()
    before, after = ((painted - painted.mean(0)).flatten() for painted in (before, after))
    assert torch.nn.functional.cosine_similarity(before, after, dim=0) > 0.7  # but for the lengths of the codes


def test_after_levelling_flat_features_give_one_colour_and_fine_ones_what_they_gave(net):
    levelled = BrushNet(TINY).eval()
    levelled.load_state_dict(net.state_dict())
    level(levelled)
    flat = torch.rand(1, TINY.quarter, 1, 1).expand(1, TINY.quarter, 9, 9)
    checks = (-1.0) ** torch.arange(9)
    fine = torch.rand(1, TINY.quarter, 1, 1) * checks[:, None] * checks  # 3x3 means of a ninth
    with torch.no_grad():
        for features, one_colour in ((flat, True), (fine, False)):
            before, after = (
                torch.nn.functional.pixel_shuffle(one.paint(features), 4)[..., 8:-8, 8:-8] for one in (net, levelled)
            )
            spread = after.std((2, 3)).max() / before.std((2, 3)).max()
            assert spread < 1e-4 if one_colour else spread > 0.5

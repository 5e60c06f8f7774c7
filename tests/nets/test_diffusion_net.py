"""The diffusion network: hints without style, fields inside attention and modulation, and CLIP in a style's place."""

import dataclasses
import json

import pytest
import torch

from impasto.errors import UsageError, WeightsError
from impasto.nets.clip_style import fit_clip_style
from impasto.nets.diffusion import REACH, DiffusionConfig, StyleDiffusion, build_diffusion, diffusion_schedule
from impasto.nets.hints import (
    HINT_LAYERS,
    STYLE_LAYERS,
    TOKENS,
    ContentHints,
    content_hints,
    hint_statistics,
    style_features,
)
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.prior import Gaussian, coarse, colours_of, recoloured
from impasto.nets.styled_attention import StyleCodes, StyledAttention, StyleShare, complete

SIZES = DiffusionConfig(latent=4, encoder=(6, 8, 8, 10), widths=(8, 8), middle=3, tokens=8, heads=2, hints=4)


@pytest.fixture(scope="module")
def lens():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1))).freeze()


@pytest.fixture(scope="module")
def network():
    """Random weights everywhere, also where training starts from 0."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = StyleDiffusion(SIZES)
        for value in net.parameters():
            value.data += 0.1 * torch.randn_like(value)
    return net.requires_grad_(False).eval()


def told(lens, picture):
    maps = lens(picture, STYLE_LAYERS)
    return content_hints(maps, picture, hint_statistics(maps, picture)), style_features(maps, picture)


def codes(seed, count=5):
    generator = torch.Generator().manual_seed(seed)
    return StyleCodes(torch.randn(1, count, 8, generator=generator), torch.randn(1, 8, generator=generator))


def everywhere(weight):
    return torch.full((1, 1, 1, 1), float(weight))


# --- hints and styles ------------------------------------------------------------------------------------------------


def test_hints_do_not_know_brightness_and_contrast_of_the_light():
    picture = torch.rand(1, 3, 32, 48) * 0.5
    maps = {layer: torch.rand(1, 3, 32 // s, 48 // s) for layer, s in zip(HINT_LAYERS, (4, 8), strict=True)}
    other = {layer: 5 * part + 2 for layer, part in maps.items()}
    changed = picture * 1.5 + 0.2
    one = content_hints(maps, picture, hint_statistics(maps, picture))
    two = content_hints(other, changed, hint_statistics(other, changed))
    for name in ("deep", "middle", "light"):
        assert (getattr(one, name) - getattr(two, name)).abs().max() < 0.1


def test_styles_are_seen_at_three_scales(lens):
    picture = torch.rand(2, 3, 80, 72)
    style = told(lens, picture)[1]
    assert style.cells.shape == (2, TOKENS, 6 + 2 * 8 + 2 * 8 + 10) and style.whole.shape == (2, 6 + 2 * 32)
    assert torch.allclose(style.cells[:, 0, :3], picture.mean((2, 3)), atol=1e-5)


def test_shapes_and_dropped_styles(lens, network):
    hints, style = told(lens, torch.rand(2, 3, 64, 96))
    noisy, t = torch.randn(4, 4, 8, 12), torch.tensor([0, 10, 500, 999])
    guess = torch.randn(4, 4, 8, 12)
    plain = network(noisy, t, guess, hints, style)
    some = network(noisy, t, guess, hints, style, without_style=torch.tensor([0.0, 1, 0, 0]))
    assert plain.shape == noisy.shape
    assert torch.allclose(plain[[0, 2, 3]], some[[0, 2, 3]], atol=1e-6) and not torch.allclose(plain[1], some[1])


def test_checkpointing_changes_memory_not_gradients(lens):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = StyleDiffusion(SIZES)
        net.net.leave.weight.data.normal_()
        noisy = torch.randn(2, 4, 8, 8)
    hints, style = told(lens, torch.rand(2, 3, 64, 64))
    found = []
    for net.checkpointing in (False, True):
        net.zero_grad()
        net(noisy, torch.tensor([3, 700]), 0.1 * noisy, hints, style).square().mean().backward()
        found.append([value.grad.clone() for value in net.parameters() if value.grad is not None])
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*found, strict=True))


def test_the_schedule_ends_without_signal():
    assert diffusion_schedule().alpha_cumprod(999) == 0


# --- what it starts from ---------------------------------------------------------------------------------------------


def test_the_guess_has_the_styles_colours():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        content, style = 0.3 + 0.4 * torch.rand(2, 3, 40, 48), 0.4 + 0.2 * torch.rand(2, 3, 32, 32) ** 2
    wanted = colours_of(style)
    found = colours_of(recoloured(content, colours_of(content), wanted))
    assert (found.mean - wanted.mean).abs().max() < 1e-3
    assert (found.root - wanted.root).abs().max() < 5e-3
    same = recoloured(content, colours_of(content), colours_of(content))
    assert (same - content).abs().max() < 1e-4


def test_grey_pictures_get_colours_without_harm():
    grey, style = torch.full((1, 3, 16, 16), 0.5), torch.rand(1, 3, 16, 16)
    found = recoloured(grey, colours_of(grey), colours_of(style))
    assert torch.isfinite(found).all() and (found.mean((2, 3)) - style.mean((2, 3))).abs().max() < 1e-3


def test_the_coarse_picture_keeps_means_and_its_size():
    picture = torch.rand(1, 3, 16, 24)
    assert coarse(picture).shape == picture.shape
    assert (coarse(picture).mean() - picture.mean()).abs() < 0.05


@pytest.mark.parametrize("t", [999, 600, 10])
def test_the_gaussian_is_the_regression_of_the_velocity(t):
    """Against many draws: residuals of v have mean 0, the stated deviation, and nothing to do with what is seen."""
    schedule = diffusion_schedule()
    generator = torch.Generator().manual_seed(0)
    guess = torch.randn(1, 2, 100, 400, generator=generator)
    spread = torch.tensor([0.3, 1.5])[:, None, None]
    clean = guess + spread * torch.randn(guess.shape, generator=generator)
    noise = torch.randn(guess.shape, generator=generator)
    noisy = schedule.q_sample(clean, noise, t)
    known = Gaussian.about(noisy, guess, spread, *schedule.alpha_sigma(t, noisy))
    rest = schedule.training_target(clean, noise, t, parametrisation="v") - known.velocity
    unit = rest / known.scale
    assert (known.noisy.std((2, 3)) - 1).abs().max() < 0.02 and (unit.std((2, 3)) - 1).abs().max() < 0.02
    assert (unit * known.noisy).mean((2, 3)).abs().max() < 0.02 and unit.mean((2, 3)).abs().max() < 0.02


def test_a_network_that_learned_nothing_paints_the_guess(lens):
    net = StyleDiffusion(SIZES).requires_grad_(False)
    net.spread.fill_(0.2)
    hints, style = told(lens, torch.rand(1, 3, 64, 64))
    guess, last = torch.randn(1, 4, 8, 8), torch.tensor([999])
    noisy = torch.randn(1, 4, 8, 8)
    answer = net(noisy, last, guess, hints, style)
    found = diffusion_schedule().predicted_x0(answer, noisy, last, parametrisation="v")
    assert torch.allclose(found, guess, atol=1e-5)


# --- fields ----------------------------------------------------------------------------------------------------------


def test_one_style_with_weight_1_is_that_style(lens, network):
    hints = network.hints(told(lens, torch.rand(1, 3, 64, 64))[0])
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    one = network.denoise(noisy, t, 0.3 * noisy, hints, [StyleShare(codes(0), everywhere(1))])
    fields = complete([StyleShare(codes(0), torch.ones(1, 1, 8, 8)), StyleShare(codes(1), everywhere(0))], codes(2))
    assert len(fields) == 1
    assert torch.allclose(network.denoise(noisy, t, 0.3 * noisy, hints, fields), one, atol=1e-6)


def test_where_a_style_has_no_weight_attention_is_the_contents_own():
    attention = StyledAttention(8, 8, 2)
    attention.out.weight.data.normal_()
    features, weight = torch.randn(1, 8, 6, 6), torch.zeros(1, 1, 6, 6)
    weight[..., 3:] = 1
    mixed, other = (attention(features, complete([StyleShare(codes(s), weight)], codes(1))) for s in (0, 7))
    alone = [attention(features, [StyleShare(part, everywhere(1))]) for part in (codes(1), codes(0))]
    assert torch.equal(mixed[..., :3], other[..., :3]) and not torch.equal(mixed[..., 3:], other[..., 3:])
    assert torch.allclose(mixed[..., :3], alone[0][..., :3], atol=1e-6)
    assert torch.allclose(mixed[..., 3:], alone[1][..., 3:], atol=1e-6)


def test_shares_are_shares_of_the_attention():
    """One softmax over the tokens of both styles, each style's part scaled to its weight, gives the same."""
    attention = StyledAttention(8, 8, 1)
    attention.out.weight.data.copy_(torch.eye(8)[:, :, None, None])
    features, (one, two) = torch.randn(1, 8, 2, 3), (codes(0), codes(1, count=9))
    found = attention(features, [StyleShare(one, everywhere(0.3)), StyleShare(two, everywhere(0.7))]) - features
    queries = attention.query(attention.norm(features))[0].flatten(1).T.double()
    parts = []
    for part in (one, two):
        weights = (queries @ attention.key(part.tokens)[0].double().T / 8**0.5).exp()
        parts.append((weights / weights.sum(1, keepdim=True)) @ attention.value(part.tokens)[0].double())
    expected = 0.3 * parts[0] + 0.7 * parts[1]
    assert torch.allclose(found[0].flatten(1).T.double(), expected, atol=1e-5)


def test_equal_styles_mix_to_themselves(lens, network):
    hints = network.hints(told(lens, torch.rand(1, 3, 64, 64))[0])
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([900])
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    mixed = network.denoise(noisy, t, 0.3 * noisy, hints, complete([StyleShare(codes(0), ramp)], codes(0)))
    assert torch.allclose(
        mixed, network.denoise(noisy, t, 0.3 * noisy, hints, [StyleShare(codes(0), everywhere(1))]), atol=1e-5
    )


def test_nothing_is_seen_beyond_the_reach(network):
    wide, cut = 2 * REACH + 40, 20
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 4, 8, wide, generator=generator)
    hints = network.hints(_raw(8, wide, generator))
    share = [StyleShare(codes(0), everywhere(1))]
    whole = network.denoise(noisy, torch.tensor([5]), 0.3 * noisy, hints, share)
    keep = cut + REACH
    local = dataclasses.replace(hints, fine=hints.fine[..., :keep], coarse=hints.coarse[..., : keep // 2])
    part = network.denoise(noisy[..., :keep], torch.tensor([5]), 0.3 * noisy[..., :keep], local, share)
    assert (part[..., :cut] - whole[..., :cut]).abs().max() < 1e-5


def _raw(height, width, generator):
    return ContentHints(
        torch.randn(1, 10, height, width, generator=generator),
        torch.randn(1, 8, 2 * height, 2 * width, generator=generator),
        torch.randn(1, 2, 2 * height, 2 * width, generator=generator),
    )


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_network_comes_back_from_its_tensors(network):
    texts = {"diffusion": json.dumps(dataclasses.asdict(SIZES))}
    again = build_diffusion(network.state_dict(), texts)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    for wrong in ({}, {"diffusion": "{}"}, {"diffusion": "[]"}):
        with pytest.raises(WeightsError, match="no diffusion network"):
            build_diffusion(network.state_dict(), wrong)


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"tokens": 7}, {"widths": (0, 8)}])
def test_sizes_without_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        dataclasses.replace(SIZES, **wrong)


# --- CLIP ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_clip_takes_a_styles_place(lens, network):
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
    text = {"vocab_size": 60, "bos_token_id": 56, "eos_token_id": 57, "pad_token_id": 57}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=tower | text, vision_config=tower | {"image_size": 32, "patch_size": 8}, projection_dim=16
            )
        ).eval()
        pictures = torch.rand(12, 3, 64, 64) * torch.rand(12, 3, 1, 1)
    with torch.inference_mode():
        small = torch.nn.functional.avg_pool2d(pictures, 2)
        embeddings = clip.visual_projection(clip.vision_model(pixel_values=small).pooler_output)
        wanted = network.codes(told(lens, pictures)[1])
        words = clip.text_projection(clip.text_model(input_ids=torch.tensor([[56, 3, 57]])).pooler_output)
    adapter = fit_clip_style(embeddings, wanted, ridge=1e-9)
    found = adapter(embeddings)
    assert (found.vector - wanted.vector).abs().max() < 1e-2 and found.tokens.shape == (12, 17, 8)
    assert (found.tokens - wanted.tokens[:, :17]).abs().max() < 1e-2
    assert (found.colours.root - wanted.colours.root).abs().max() < 1e-2
    of_text = adapter(words, center=torch.nn.functional.normalize(words, dim=1)[0])
    assert torch.allclose(of_text.vector, wanted.vector.mean(0, keepdim=True), atol=1e-4)


def test_a_fit_needs_pictures_and_an_adapter_its_embeddings():
    some = StyleCodes(torch.randn(3, 20, 8), torch.randn(3, 8), colours_of(torch.rand(3, 3, 8, 8)))
    with pytest.raises(UsageError, match="two pictures"):
        fit_clip_style(torch.randn(2, 5), some)
    adapter = fit_clip_style(torch.randn(3, 5), some)
    with pytest.raises(UsageError, match=r"\[B, 5\]"):
        adapter(torch.randn(1, 6))

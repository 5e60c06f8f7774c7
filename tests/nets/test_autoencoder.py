"""The latent autoencoder: a PCA before it is trained, whole at its borders, and the critic beside it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from impasto.errors import UsageError, WeightsError
from impasto.nets.autoencoder import Autoencoder, AutoencoderConfig, build_autoencoder, patch_basis
from impasto.nets.patchgan import PatchGAN

SIZES = AutoencoderConfig(channels=6, encoder=(8, 8), encoder_blocks=(1, 1), decoder=(8, 8), decoder_blocks=(1, 1))


@pytest.fixture(scope="module")
def pictures():
    """Smooth random pictures, like photographs in that neighbours resemble each other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rough = torch.rand(24, 3, 8, 8)
        return functional.interpolate(rough, size=(32, 32), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def network(pictures):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Autoencoder(SIZES, patch_basis([pictures], SIZES.channels)).requires_grad_(False)


@pytest.fixture
def moved(network):
    """A network whose residual paths say something."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        other = Autoencoder(SIZES)
        other.load_state_dict(network.state_dict())
        for value in other.parameters():
            value.data += 0.05 * torch.randn_like(value)
    return other.requires_grad_(False)


def patches(pictures):
    return functional.pixel_unshuffle(pictures, 8).permute(0, 2, 3, 1).reshape(-1, 192).double().numpy()


def test_it_starts_as_the_pca_of_patches(network, pictures):
    rows = patches(pictures)
    mean = rows.mean(0)
    _, _, components = np.linalg.svd(rows - mean, full_matrices=False)
    kept = components[: SIZES.channels]
    expected = mean + (rows - mean) @ kept.T @ kept
    np.testing.assert_allclose(patches(network(pictures)[0]), expected, atol=2e-5)
    assert torch.equal(network(pictures)[0], network.linear(pictures))


def test_its_latents_start_with_mean_0_and_deviation_1(network, pictures):
    latents = network.encode(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.01


def test_nothing_linear_is_better_than_where_it_starts(network, pictures):
    started = (network(pictures)[0] - pictures).square().mean()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        directions, _ = torch.linalg.qr(torch.randn(192, SIZES.channels, dtype=torch.float64))
    rows = patches(pictures)
    centred = rows - rows.mean(0)
    other = ((centred - centred @ directions.numpy() @ directions.numpy().T) ** 2).mean()
    assert float(started) < other


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (24, 16)])
def test_a_latent_stands_for_8x8_pixels(network, size):
    latents = network.encode(torch.rand(2, 3, *size))
    assert latents.shape == (2, 6, size[0] // 8, size[1] // 8)
    assert network.decode(latents).shape == (2, 3, *size)


def test_a_flat_picture_has_no_frame(moved):
    latents = moved.encode(torch.full((1, 3, 64, 64), 0.3))
    assert (latents - latents[:, :, 3:4, 3:4]).abs().max() < 1e-5


def test_a_tile_with_its_surroundings_is_the_whole(moved):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        picture = torch.rand(1, 3, 64, 320)
    whole = moved.encode(picture)
    part = moved.encode(picture[:, :, :, :192])
    assert (part[..., :14] - whole[..., :14]).abs().max() < 1e-5
    decoded = moved.decode(whole)
    assert (moved.decode(whole[..., :28])[..., : 16 * 8] - decoded[..., : 16 * 8]).abs().max() < 1e-5


def test_noise_reaches_the_picture_but_not_the_latents(network, pictures):
    noise = torch.full((1, 6, 4, 4), 0.5)
    decoded, latents = network(pictures[:1], noise)
    assert torch.equal(latents, network.encode(pictures[:1]))
    assert torch.equal(decoded, network.decode(latents + noise))


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"channels": 193}, {"encoder": (0, 8)}, {"decoder_blocks": (1, 0)}])
def test_sizes_without_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        AutoencoderConfig(**wrong)


def test_tensors_of_another_network_are_refused(network):
    texts = {"autoencoder": '{"channels": 6, "encoder": [8, 8], "encoder_blocks": [1, 1], "decoder": [8, 8]}'}
    for state, about in ((network.state_dict(), {}), ({}, texts), (network.state_dict(), {"autoencoder": "[1]"})):
        with pytest.raises(WeightsError, match="no latent autoencoder"):
            build_autoencoder(state, about)


# --- the critic ------------------------------------------------------------------------------------------------------


def test_a_critic_judges_patches_for_themselves():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic, picture = PatchGAN((8, 8, 16)), torch.rand(2, 3, 64, 48)
    scores = critic(picture)
    assert scores.shape[:2] == (2, 1) and scores.shape[2] > scores.shape[3] > 1
    assert torch.allclose(scores[:1], critic(picture[:1]), atol=1e-6)  # not by the batch


@pytest.mark.parametrize("widths", [(), (8, 12), (0, 8)])
def test_a_critic_needs_widths_in_groups(widths):
    with pytest.raises(UsageError):
        PatchGAN(widths)

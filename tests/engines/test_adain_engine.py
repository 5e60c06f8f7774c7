"""What is special to adain, on a tiny untrained network: codes are moments, mixes of codes, fields, tiles, its file."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs impasto[torch]")

import torch
from safetensors.torch import save_file

from impasto.config import StylizeConfig
from impasto.engines import adain as module
from impasto.engines.adain import AdaIn, load_decoder
from impasto.engines.base import Engine
from impasto.errors import FieldError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer, blend_codes
from impasto.nets.adain import LAYERS, AdaInConfig, AdaInDecoder
from impasto.nets.lens import Lens, LensConfig
from impasto.ops.tiling import pad_to_multiple, quantised, to_float
from impasto.weights import Card, WeightsFile, load_card

PLAIN = StylizeConfig()
SIZES = AdaInConfig((10, 8), (8, 8, 8, 8))
REACH = 40  # pixels that the tiny network looks far: encoder 2 + 2 + 4 + 8 and pools, decoder 30


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1)))
    return lens.freeze()


@pytest.fixture(scope="module")
def decoder():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = AdaInDecoder(SIZES)
    net.paint.weight.data.mul_(400)  # untrained, it paints everything nearly alike
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def engine(encoder, decoder):
    return AdaIn("0123456789abcdef", encoder, decoder)


@pytest.fixture(scope="module")
def codes(engine, artworks):
    return [
        engine.encode(to_float(artwork), name=name, config=PLAIN)
        for artwork, name in zip(artworks, ("stars", "crockery"), strict=True)
    ]


def features(encoder, padded):
    with torch.no_grad():
        maps = encoder(torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None])), LAYERS)
    return [maps[layer] for layer in LAYERS]


def largest(first, second):
    return float(np.abs(to_float(first) - to_float(second)).max())


def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine) and engine.name == "adain" and not engine.presets()


# --- codes -----------------------------------------------------------------------------------------------------------


def test_the_code_holds_the_moments_of_the_styles_features(engine, encoder):
    style = np.random.default_rng(0).uniform(0, 1, (384, 400, 3)).astype(np.float32)  # seen as it is
    padded, (rows, columns) = pad_to_multiple(style, 32, 8)
    wanted = []
    for maps, stride in zip(features(encoder, padded), (8, 4), strict=True):
        down, right = (slice(part.start // stride, part.stop // stride) for part in (rows, columns))
        flat = maps[0, :, down, right].flatten(1).double().numpy()
        wanted += [flat.mean(1), np.sqrt(flat.var(1) + 1e-5)]
    code = engine.encode(style, name="style", config=PLAIN)
    assert code.vector.dtype == np.float32 and not code.parts
    np.testing.assert_allclose(code.vector, np.concatenate(wanted), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (17, 23), (2, 4000)])
def test_a_style_may_have_any_size_and_its_code_survives_a_file(engine, size, tmp_path):
    style = np.random.default_rng(1).uniform(0, 1, (*size, 3)).astype(np.float32)
    code = engine.encode(style, name="style", config=PLAIN)
    assert code.vector.shape == (36,) and np.isfinite(code.vector).all()
    code.save(tmp_path / "code.npz")
    assert StyleCode.load(tmp_path / "code.npz").digest == code.digest


def test_a_photograph_in_its_own_style_is_what_the_decoder_makes_of_its_features(engine, encoder, decoder, photograph):
    content = np.tile(to_float(photograph), (4, 4, 1))  # 384 x 384: seen as a style at this very size
    padded, inside = pad_to_multiple(content, 32, 8)
    with torch.no_grad():
        wanted = decoder(*features(encoder, padded))[0].permute(1, 2, 0).numpy()[inside].clip(0, 1)
    own = engine.encode(content, name="own", config=PLAIN)
    assert largest(engine.render(content, StyleField.constant(own), PLAIN), wanted) < 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "brush"}, "encoded by brush"),
        ({"weights": "0" * 16}, "encoded by adain 0000000000000000"),
        ({"vector": np.ones(35, np.float32)}, "has 35 numbers, adain needs 36"),
    ],
)
def test_a_code_that_is_not_its_own_is_refused_by_name(engine, codes, photograph, change, words):
    with pytest.raises(FieldError, match=f"'stars'.*{words}"):
        engine.render(photograph, StyleField.constant(replace(codes[0], **change)), PLAIN)


# --- several styles --------------------------------------------------------------------------------------------------


def test_a_full_mix_is_the_style_between(engine, codes, photograph):
    """AdaIN is linear in the moments: a mix of paintings' features is a painting in mixed moments."""
    content = to_float(photograph)
    mixed = engine.render(content, StyleField.mixed(codes, (0.3, 0.7)), PLAIN)
    between = engine.render(content, StyleField.constant(blend_codes(codes, (0.3, 0.7))), PLAIN)
    assert largest(mixed, between) < 1e-4
    alone = [engine.render(content, StyleField.constant(code), PLAIN) for code in codes]
    assert min(largest(mixed, one) for one in alone) > 0.01


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_along_the_sphere_it_is_the_code_there_by_number_and_by_map(engine, codes, photograph, strength):
    content, round_ = to_float(photograph), StylizeConfig(mix_mode="slerp")
    field = StyleField.mixed(codes, strength=strength)
    between = blend_codes(codes, None, mode="slerp")
    wanted = engine.render(content, StyleField.constant(between, strength), PLAIN)
    assert largest(engine.render(content, field, round_), wanted) < 1e-4
    assert largest(engine.render(content, field.times(np.ones((96, 96), np.float32)), round_), wanted) < 1e-4
    assert largest(engine.render(content, field, PLAIN), wanted) > 1e-3


def test_each_region_is_painted_in_its_own_style(engine, codes, photograph):
    content = np.tile(to_float(photograph), (1, 3, 1))
    left = np.zeros(content.shape[:2], np.float32)
    left[:, :144] = 1
    both = engine.render(content, StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left))), PLAIN)
    first, second = (engine.render(content, StyleField.constant(code), PLAIN) for code in codes)
    assert largest(both[:, : 144 - REACH], first[:, : 144 - REACH]) < 1e-4
    assert largest(both[:, 144 + REACH :], second[:, 144 + REACH :]) < 1e-4
    assert largest(first, second) > 0.02


# --- strength and masks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_field_of_weight_0_returns_the_photograph(engine, codes, photograph, dtype):
    content = quantised(to_float(photograph), dtype)
    for weight in (0.0, np.zeros((96, 96), np.float32)):
        painted = engine.render(content, StyleField((StyleLayer(codes[0], weight),)), PLAIN)
        assert painted is not content and painted.dtype == dtype and np.array_equal(painted, content)
    assert np.array_equal(engine.render(content, StyleField(()), PLAIN), content)


@pytest.mark.parametrize("mode", ["none", "luminance", "statistics"])
def test_what_a_mask_leaves_out_is_untouched(engine, codes, photograph, mode):
    mask = np.zeros((96, 96), np.float32)
    mask[20:70, 31:] = 1
    field = StyleField.constant(codes[0]).times(mask)
    painted = engine.render(photograph, field, StylizeConfig(preserve_color=mode))
    assert np.array_equal(painted[mask == 0], photograph[mask == 0])
    assert (painted[mask == 1] != photograph[mask == 1]).any(1).mean() > 0.5


# --- sizes and tiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (53, 1), (7, 5), (33, 47)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_painting_has_the_pictures_size_and_type(engine, codes, photograph, size, dtype):
    content = quantised(to_float(photograph[: size[0], : size[1]]), dtype)
    painted = engine.render(content, StyleField.constant(codes[1]), PLAIN)
    assert painted.shape == content.shape and painted.dtype == dtype
    assert np.isfinite(painted).all() and to_float(painted).min() >= 0 and to_float(painted).max() <= 1


def test_tiles_equal_the_whole_because_of_their_halo(engine, codes, photograph, monkeypatch):
    content = np.tile(to_float(photograph), (4, 3, 1))[:371, :283]
    down = np.linspace(0, 1, 371, dtype=np.float32)[:, None] * np.ones((1, 283), np.float32)
    field = StyleField((StyleLayer(codes[0], down), StyleLayer(codes[1], np.float32(0.9) * (1 - down))))
    whole = engine.render(content, field, PLAIN)
    told = []
    tiled = engine.render(content, field, replace(PLAIN, tile=256), lambda now: told.append(now.done))
    assert largest(tiled, whole) < 1e-3 and told == sorted(told) and told[-1] == 1 and len(told) > 4
    monkeypatch.setattr(module, "HALO", 0)
    assert largest(engine.render(content, field, replace(PLAIN, tile=256)), whole) > 0.01


def test_all_tiles_are_normalised_by_the_whole_photograph(engine, codes, photograph):
    """A part painted by itself is normalised by itself, which shows where the other part is unlike it."""
    content = np.tile(to_float(photograph), (1, 4, 1))
    content[:, 192:] *= 0.1
    tiled = engine.render(content, StyleField.constant(codes[0]), replace(PLAIN, tile=256))
    alone = engine.render(content[:, :192], StyleField.constant(codes[0]), PLAIN)
    assert largest(tiled[:, : 192 - REACH], alone[:, : 192 - REACH]) > 0.01


def test_estimates_grow_with_the_picture_and_with_enlarging(engine, codes):
    field = StyleField.constant(codes[0])
    small, large, fine = (
        engine.estimate(size, field, StylizeConfig(style_scale=scale))
        for size, scale in (((256, 256), 1.0), ((512, 512), 1.0), ((256, 256), 0.5))
    )
    assert small.seconds < large.seconds and small.memory < large.memory
    assert fine.seconds == pytest.approx(large.seconds)


# --- the decoder's file ----------------------------------------------------------------------------------------------


@pytest.fixture
def stored(decoder, tmp_path, monkeypatch):
    """Writes a decoder's file with the given texts, and gives the card that lists it."""
    monkeypatch.setattr(module, "weights_folder", lambda: tmp_path)

    def write(**changes):
        sizes = {"channels": SIZES.channels, "widths": SIZES.widths}
        texts = {"encoder": load_card("lens").identity, "config": json.dumps(sizes)} | changes
        path = tmp_path / "adain.safetensors"
        save_file(
            {name: value.half().contiguous() for name, value in decoder.state_dict().items()}, path, metadata=texts
        )
        content = path.read_bytes()
        file = WeightsFile(path.name, "net", len(content), hashlib.sha256(content).hexdigest())
        return Card("adain", {"net": file}, {})

    return write


def test_a_decoder_is_read_in_full_precision(stored, decoder):
    found = load_decoder(stored())
    assert found.config == SIZES
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, decoder.state_dict()[name].half().float(), rtol=0, atol=0)


def test_a_decoder_behind_another_encoder_is_refused(stored):
    with pytest.raises(WeightsError, match="trained behind another encoder"):
        load_decoder(stored(encoder="vgg19.pth"))


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{}",
        '{"channels": [10, 8], "widths": [8, 8]}',
        '{"channels": [10, 8], "widths": [8, 8, 8, 4]}',
        '{"channels": 10, "widths": [8, 8, 8, 8]}',
    ],
)
def test_a_file_that_is_no_decoder_is_refused(stored, config):
    with pytest.raises(WeightsError, match="no decoder of adain"):
        load_decoder(stored(config=config))

"""The engine diffusion on a tiny network of random weights: fields, seeds, sizes, tiles, guidance, previews, memory."""

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import diffusion as module
from impasto.engines.base import Engine
from impasto.engines.diffusion import Diffusion, split_diffusion
from impasto.engines.diffusion_canvas import Canvas
from impasto.engines.diffusion_options import DiffusionOptions
from impasto.engines.diffusion_presets import merged_code, pack_presets, unpack_presets
from impasto.errors import CancelledError, FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.nets.autoencoder import Autoencoder, AutoencoderConfig, patch_basis
from impasto.nets.clip_style import ClipStyle
from impasto.nets.diffusion import DiffusionConfig, StyleDiffusion
from impasto.nets.lens import Lens, LensConfig

LATENT = AutoencoderConfig(channels=6, encoder=(8, 8), encoder_blocks=(1, 1), decoder=(8, 8), decoder_blocks=(1, 1))
SIZES = DiffusionConfig(latent=6, encoder=(6, 8, 8, 10), widths=(8, 8), middle=3, tokens=8, heads=2, hints=4)


def settings(seed=0, tile=1536, **options):
    return StylizeConfig(seed=seed, tile=tile, options={"steps": 2, **options})


@pytest.fixture(scope="module")
def engine():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1))).freeze()
        pictures = torch.nn.functional.interpolate(torch.rand(24, 3, 8, 8), size=(32, 32), mode="bicubic").clamp(0, 1)
        latent = Autoencoder(LATENT, patch_basis([pictures], 6)).requires_grad_(False)
        net = StyleDiffusion(SIZES)
        for value in net.parameters():
            value.data += 0.1 * torch.randn_like(value)
    return Diffusion("0123456789abcdef", lens, net.requires_grad_(False), latent)


@pytest.fixture(scope="module")
def photo():
    rough = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((83, 97), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def codes(engine):
    rng = np.random.default_rng(1)
    return [
        engine.encode(rng.uniform(low, low + 0.5, (70, 90, 3)).astype(np.float32), name=name, config=settings())
        for name, low in (("dark", 0.0), ("light", 0.5))
    ]


def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine) and engine.presets() == {}


# --- codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (1200, 300), (2, 900)])
def test_any_picture_is_a_style(engine, photo, size):
    code = engine.encode(np.full((*size, 3), 0.5, np.float32), name="style", config=settings())
    assert code.vector.shape == (8,) and code.parts["tokens"].shape == (81, 8) and code.parts["colours"].shape == (4, 3)
    assert engine.render(photo, StyleField.constant(code), settings()).shape == photo.shape


def test_a_code_survives_a_file(engine, codes, photo, tmp_path):
    codes[0].save(tmp_path / "code.npz")
    again = StyleCode.load(tmp_path / "code.npz")
    painted = [engine.render(photo, StyleField.constant(code), settings()) for code in (codes[0], again)]
    assert np.array_equal(*painted)


def test_codes_of_others_are_refused(engine, codes, photo):
    plain = StyleCode(codes[0].vector, "diffusion", engine.identity, "plain")
    for code, words in (
        (StyleCode(codes[0].vector, "brush", "0" * 16), "encode it again"),
        (plain, "no tokens or colours"),
    ):
        with pytest.raises(FieldError, match=words):
            engine.render(photo, StyleField.constant(code), settings())


def test_an_embedding_takes_a_styles_place(engine, photo):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        code = engine.encode_embedding(np.ones(5), ClipStyle(5, 8), name="a woodcut")
    assert code.parts["tokens"].shape == (17, 8)
    assert engine.render(photo, StyleField.constant(code), settings()).shape == photo.shape
    with pytest.raises(UsageError, match="fit one for this network"):
        engine.encode_embedding(np.ones(5), ClipStyle(5, 12), name="a woodcut")


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 3), (50, 70), (64, 48)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_result_has_the_contents_size_and_type(engine, codes, size, kind):
    content = np.random.default_rng(2).random((*size, 3)).astype(np.float32)
    content = content if kind is np.float32 else (content * np.iinfo(kind).max).astype(kind)
    painted = engine.render(content, StyleField.constant(codes[0]), settings())
    assert painted.shape == content.shape and painted.dtype == content.dtype
    assert np.isfinite(painted.astype(float)).all()


def test_the_seed_decides_the_picture(engine, codes, photo):
    field = StyleField.constant(codes[0])
    one, two, other = (engine.render(photo, field, settings(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_strength_0_is_the_photograph(engine, codes, photo):
    assert np.array_equal(engine.render(photo, StyleField.constant(codes[0], 0.0), settings()), photo)
    assert np.array_equal(engine.render(photo, StyleField(()), settings()), photo)


def test_strength_comes_gently(engine, codes, photo):
    steps = [
        engine.render(photo, StyleField.constant(codes[0], strength), settings()).astype(float)
        for strength in (0.0, 0.02, 0.05)
    ]
    away = [np.abs(step - photo).mean() for step in steps]
    assert 0 == away[0] < away[1] < away[2] < 30


def test_a_region_without_weight_is_untouched(engine, codes, photo):
    weight = np.zeros(photo.shape[:2], np.float32)
    weight[:, 41:] = 1
    painted = engine.render(photo, StyleField((StyleLayer(codes[0], weight),)), settings())
    assert np.array_equal(painted[:, :41], photo[:, :41]) and not np.array_equal(painted[:, 41:], photo[:, 41:])


def test_a_field_of_one_style_is_that_style(engine, codes, photo):
    plain = engine.render(photo, StyleField.constant(codes[0]), settings())
    ones = np.ones(photo.shape[:2], np.float32)
    field = StyleField((StyleLayer(codes[0], ones), StyleLayer(codes[1], 0.0)))
    assert np.abs(engine.render(photo, field, settings()).astype(int) - plain).max() <= 1


def test_two_styles_in_two_regions(engine, codes, photo):
    left = np.zeros(photo.shape[:2], np.float32)
    left[:, :40] = 1
    both = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    painted = engine.render(photo, both, settings()).astype(float)
    alone = [engine.render(photo, StyleField.constant(code), settings()).astype(float) for code in codes]
    for part, mine, other in ((np.s_[:, :16], 0, 1), (np.s_[:, 67:], 1, 0)):
        near, far = (np.abs(painted[part] - alone[index][part]).mean() for index in (mine, other))
        assert near < far


@pytest.mark.parametrize("mode", ["luminance", "statistics"])
def test_colours_can_be_kept(engine, codes, photo, mode):
    config = StylizeConfig(preserve_color=mode, options={"steps": 2})
    assert engine.render(photo, StyleField.constant(codes[0]), config).shape == photo.shape


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_strokes_of_another_size(engine, codes, photo, scale):
    config = StylizeConfig(style_scale=scale, options={"steps": 2})
    assert engine.render(photo, StyleField.constant(codes[0]), config).shape == photo.shape


# --- controls --------------------------------------------------------------------------------------------------------


def test_guidance_1_is_the_network_itself(engine, codes, photo, monkeypatch):
    called = []
    monkeypatch.setattr(module, "classifier_free_guidance", lambda c, u, scale: called.append(scale) or c)
    field = StyleField.constant(codes[0])
    conditional = engine.render(photo, field, settings(guidance=1.0))
    assert called == []
    assert np.array_equal(conditional, engine.render(photo, field, settings(guidance=3.0))) and called == [3.0, 3.0]


def test_start_0_leaves_nothing_to_paint(engine, codes, photo):
    """What is left is the way through the latents, the same for every style and seed."""
    made = [
        engine.render(photo, StyleField.constant(code), settings(seed, start=0.0)) for seed, code in enumerate(codes)
    ]
    assert np.array_equal(*made)


def test_without_noise_the_seed_does_not_matter(engine, codes, photo):
    made = [engine.render(photo, StyleField.constant(codes[0]), settings(seed, temperature=0.0)) for seed in (1, 2)]
    assert np.array_equal(*made)


def test_light_is_a_control(engine, codes, photo):
    field = StyleField.constant(codes[0])
    assert not np.array_equal(
        engine.render(photo, field, settings(light=0.0)), engine.render(photo, field, settings(light=1.0))
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"guidance": -1.0},
        {"start": 1.5},
        {"sampler": "euler"},
        {"device": "abacus"},
        {"light": 2},
        {"temperature": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        DiffusionOptions(**wrong)


# --- tiles and memory ------------------------------------------------------------------------------------------------


def test_tiles_are_the_whole(engine, codes):
    rng = np.random.default_rng(3)
    photo = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 20, 3), np.uint8)).resize((700, 300)))
    weight = np.linspace(0.3, 1, 700, dtype=np.float32) * np.ones((300, 1), np.float32)
    field = StyleField((StyleLayer(codes[0], weight),))
    whole, tiled = (engine.render(photo, field, settings(tile=tile)) for tile in (1024, 256))
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_when_memory_ends_smaller_tiles_are_tried_and_said(engine, codes, photo, monkeypatch):
    plain, told = Canvas.denoise, []

    def narrow(canvas, *args):
        if canvas.tile > 256:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return plain(canvas, *args)

    field = StyleField.constant(codes[0])
    expected = engine.render(photo, field, settings())
    monkeypatch.setattr(Canvas, "denoise", narrow)
    painted = engine.render(photo, field, settings(), lambda progress: told.append(progress.message))
    assert np.array_equal(painted, expected)
    assert [message for message in told if "memory" in message] == [
        f"out of memory: painting again in tiles of {tile} px" for tile in (512, 256)
    ]


def test_other_errors_are_not_mistaken_for_it(engine, codes, photo, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Canvas, "denoise", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        engine.render(photo, StyleField.constant(codes[0]), settings())


# --- on the way ------------------------------------------------------------------------------------------------------


def test_every_step_is_shown(engine, codes, photo):
    told = []
    engine.render(photo, StyleField.constant(codes[0]), settings(steps=3), told.append)
    assert [progress.step for progress in told] == [0, 1, 2, 3, 3] and (told[0].done, told[-1].done) == (0, 1)
    shown = told[1].preview()
    assert shown.ndim == 3 and shown.shape[2] == 3 and shown.min() >= 0 and shown.max() <= 1
    assert shown.shape[0] / shown.shape[1] == pytest.approx(97 / 83, rel=0.1)


def test_it_can_be_called_off(engine, codes, photo):
    def stop(_):
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        engine.render(photo, StyleField.constant(codes[0]), settings(), stop)


def test_the_estimate_grows_with_the_work(engine, codes):
    field = StyleField.constant(codes[0])
    small, large, guided = (
        engine.estimate(size, field, settings(guidance=guidance))
        for size, guidance in (((64, 64), 1.0), ((640, 640), 1.0), ((640, 640), 2.0))
    )
    assert small.seconds < large.seconds < guided.seconds and small.memory < large.memory
    assert engine.estimate((64, 64), StyleField(()), settings()).seconds == 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_of_something_else_is_refused():
    with pytest.raises(WeightsError):
        split_diffusion({"weight": torch.zeros(1)}, {})


# --- presets ---------------------------------------------------------------------------------------------------------

ROWS = [{"name": "one", "title": "first", "credit": "me"}, {"name": "two", "title": "second", "credit": "you"}]


def test_presets_come_back_from_their_file(engine, codes, photo):
    """In half precision, so nearly the same."""
    packed = pack_presets(ROWS, codes[:2], weights=engine.identity)
    networks = engine._networks
    again = Diffusion(engine.identity, networks.encoder, networks.net, networks.autoencoder, packed)
    assert list(again.presets()) == ["one", "two"] and again.preset_table()["two"].credit == "you"
    painted = [
        again.render(photo, StyleField.constant(code), settings()) for code in (codes[0], again.presets()["one"])
    ]
    assert np.abs(painted[0].astype(int) - painted[1]).max() <= 2


def test_presets_of_other_weights_are_refused(codes):
    packed = pack_presets(ROWS, codes[:2], weights="0" * 16)
    with pytest.raises(WeightsError, match="other weights"):
        unpack_presets(packed, engine="diffusion", identity="1" * 16)
    with pytest.raises(WeightsError, match="cannot be understood"):
        unpack_presets(packed[:-40], engine="diffusion", identity="0" * 16)
    assert unpack_presets(b"", engine="diffusion", identity="0" * 16) == {}


def test_a_preset_of_two_artworks_has_the_colours_of_both(engine):
    """As many as of one picture in which they hang side by side, 256 px high as styles are seen."""
    rng = np.random.default_rng(2)
    pictures = [rng.uniform(low, low + 0.4, (256, 256, 3)).astype(np.float32) for low in (0.1, 0.5)]
    one, two, both = (
        engine.encode(picture, name="x", config=settings()) for picture in (*pictures, np.concatenate(pictures, axis=1))
    )
    code = merged_code([one, two], "both")
    found, wanted = (np.asarray(part.parts["colours"]) for part in (code, both))
    assert found[0] == pytest.approx(wanted[0], abs=1e-3)
    assert found[1:] @ found[1:].T == pytest.approx(wanted[1:] @ wanted[1:].T, abs=1e-3)
    assert np.array_equal(code.parts["tokens"], np.concatenate([one.parts["tokens"], two.parts["tokens"]]))
    assert code.name == "both" and code.vector == pytest.approx((one.vector + two.vector) / 2, abs=1e-6)

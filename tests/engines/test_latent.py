"""The engine ``latent``: what is special to it; the contract of all engines is tested elsewhere."""

import gc
import importlib
import json
import shutil
import socket
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from impasto.config import StylizeConfig  # noqa: E402
from impasto.engines import latent as engine_module  # noqa: E402
from impasto.engines import load_engine  # noqa: E402
from impasto.engines.latent_attention import (  # noqa: E402
    CONTENT,
    Stage,
    StyledAttention,
    adain,
    on_stage,
    self_attention_layers,
)
from impasto.engines.latent_control import canny_edges  # noqa: E402
from impasto.engines.latent_models import choose_offload, find_model, pick_precision  # noqa: E402
from impasto.engines.latent_options import LatentOptions  # noqa: E402
from impasto.errors import CancelledError, UsageError, WeightsError  # noqa: E402
from impasto.field import StyleField, StyleLayer  # noqa: E402
from impasto.ops.tiling import to_float  # noqa: E402
from impasto.stylizer import Stylizer, weights_in_use  # noqa: E402

CHEAP = {"steps": 3, "enlarge_to": 32}
CONFIG = StylizeConfig(options=CHEAP)


@pytest.fixture(autouse=True)
def model(tiny_sd, monkeypatch):
    monkeypatch.setenv("IMPASTO_LATENT_MODEL", str(tiny_sd))
    return tiny_sd


@pytest.fixture(scope="module")
def engine():
    return load_engine("latent")


@pytest.fixture(scope="module")
def content(photograph):
    return to_float(photograph[:64, :48])


@pytest.fixture(scope="module")
def codes(engine, artworks):
    return [
        engine.encode(to_float(art), name=name, config=CONFIG)
        for art, name in zip(artworks, ("stars", "crockery"), strict=True)
    ]


def options(**more):
    return StylizeConfig(options=CHEAP | more)


def paint(engine, content, codes, seed=0, shares=None, field=None, **more):
    field = field or StyleField.mixed(codes, shares)
    return engine.render(content, field, replace(options(**more), seed=seed))


def apart(first, second):
    return float(np.abs(first - second).mean())


# -- the style comes through attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["styleid", "stylealigned"])
@pytest.mark.parametrize("begin_with", ["inversion", "noise"])
def test_another_style_changes_the_painting_through_attention_alone(engine, content, codes, method, begin_with):
    """With ``adain`` 0 nothing else knows the style."""
    first, second, again = (
        paint(engine, content, [code], method=method, begin_with=begin_with, adain=0)
        for code in (codes[0], codes[1], codes[0])
    )
    assert apart(first, second) > 1e-5
    assert np.array_equal(first, again)


def test_layers_that_are_left_out_do_not_see_the_style(engine, content, codes, monkeypatch):
    """And without any layer, there is no difference at all: the same two styles paint the same picture."""
    monkeypatch.setattr(engine_module, "on_stage", lambda layers, processors: on_stage({}, {}))
    first, second = (paint(engine, content, [code], adain=0) for code in codes)
    assert np.array_equal(first, second)


def test_each_option_of_the_attention_counts(engine, content, codes):
    plain = paint(engine, content, codes[:1])
    for change in ({"query": 0.0}, {"temperature": 1.0}, {"adain": 0.0}, {"layers": "down_blocks"}, {"start": 0.5}):
        assert apart(paint(engine, content, codes[:1], **change), plain) > 1e-6, change


class Network:
    """A layer's projections, for processors without a network around them."""

    def __init__(self, width=8, heads=2):
        generator = torch.Generator().manual_seed(0)

        def linear():
            weight = torch.randn(width, width, generator=generator, dtype=torch.float64)
            return lambda tokens: tokens @ weight

        self.to_q, self.to_k, self.to_v, out = linear(), linear(), linear(), linear()
        self.to_out = [out]
        self.heads, self.norm_q, self.norm_k, self.rescale_output_factor = heads, None, None, 1.0


def spoken(method, maps, styles=1, gamma=0.75, tau=1.5, pieces=1):
    """What a layer answers for a painting of 4 x 6 positions, and plain attention of the painting to the photograph."""
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randn(1, count, 8, generator=generator, dtype=torch.float64) for count in (24, 24, 10, 15)]
    painting, photo, *pictures = tokens
    stage, network = Stage(method, maps, gamma, tau, pieces), Network()
    layer = StyledAttention("one", stage, None)
    for number, picture in ((CONTENT, photo), *enumerate(pictures[:styles])):
        with stage.hear(number):
            layer(network, picture)
    heard = dict(stage.heard)
    with stage.speak():
        answer = layer(network, painting)
    assert not stage.heard
    return answer, heard, network, painting


def attention(network, q, k, v):
    q, k, v = (one[0].numpy() for one in (q, k, v))
    weights = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
    out = weights / weights.sum(-1, keepdims=True) @ v  # [heads, N, d]
    return network.to_out[0](torch.from_numpy(out.transpose(1, 0, 2).reshape(1, out.shape[1], -1)))


def split(tokens):
    return tokens.reshape(1, tokens.shape[1], 2, 4).transpose(1, 2)


def test_styleid_is_its_equations():
    answer, heard, network, painting = spoken("styleid", torch.ones(1, 4, 6, dtype=torch.float64))
    style = heard[0, "one"]
    q = 0.75 * heard[CONTENT, "one"].query + 0.25 * split(network.to_q(painting))
    torch.testing.assert_close(answer, attention(network, 1.5 * q, style.key, style.value))


def test_stylealigned_is_its_equations():
    answer, heard, network, painting = spoken("stylealigned", torch.ones(1, 4, 6, dtype=torch.float64))
    style = heard[0, "one"]
    q, k, v = (split(to(painting)) for to in (network.to_q, network.to_k, network.to_v))
    keys = torch.cat([style.key, adain(k, style.key)], 2)
    values = torch.cat([style.value, v], 2)
    torch.testing.assert_close(answer, attention(network, adain(q, style.query), keys, values))
    torch.testing.assert_close(adain(q, style.query).mean(2), style.query.mean(2))


@pytest.mark.parametrize("method", ["styleid", "stylealigned"])
def test_maps_mix_the_styles_and_what_is_left_is_the_photographs(method):
    """Every position answers by its own weights: a patchwork of what one style alone would say, and the photograph."""
    maps = torch.zeros(2, 4, 6, dtype=torch.float64)
    maps[0, :, :2], maps[1, :, 2:4], maps[0, 0, 4], maps[1, 0, 4] = 1, 1, 0.25, 0.5
    answer, heard, network, painting = spoken(method, maps, styles=2)
    alone = [spoken(method, one, styles=2)[0] for one in (only(0), only(1))]
    photo = heard[CONTENT, "one"]
    own = attention(network, split(network.to_q(painting)), photo.key, photo.value)
    shares = maps.reshape(2, 24, 1)
    wanted = shares[0] * alone[0] + shares[1] * alone[1] + (1 - shares.sum(0)) * own
    torch.testing.assert_close(answer, wanted)
    torch.testing.assert_close(spoken(method, maps, styles=2, pieces=5)[0], answer)


def only(index):
    maps = torch.zeros(2, 4, 6, dtype=torch.float64)
    maps[index] = 1
    return maps


def test_a_layer_sees_the_maps_at_its_own_resolution():
    maps = torch.zeros(1, 8, 12)
    maps[0, :4] = 1
    stage = Stage("styleid", maps)
    assert torch.equal(stage.shares(24)[0, :, 0].reshape(4, 6)[:, 0], torch.tensor([1.0, 1, 0, 0]))
    assert torch.equal(stage.shares(6)[0, :, 0].reshape(2, 3)[:, 0], torch.tensor([1.0, 0]))
    with pytest.raises(UsageError, match="no reduction"):
        stage.shares(25)


def painting_of(engine, content, code, **more):
    settings = LatentOptions(**CHEAP | more)
    loaded = engine._model(settings, (64, 48))
    return engine_module._Painting(
        loaded, content, [StyleLayer(code, 1.0)], CONFIG, settings, 1, engine_module._Clock(None)
    )


def test_with_no_weight_the_network_says_what_it_says_without_styles(engine, content, codes):
    """At the photograph's own latents, with maps of 0, whatever the queries that are kept."""
    painting = painting_of(engine, content, codes[0])
    x, style, t = (torch.randn(1, 4, 16, 12, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    model, words, t = painting.model, painting.model.words(""), 500
    plain = model.predict(x, t, words)
    painting.path, painting.style_paths, painting.words = (lambda t: x), [lambda t: style], words
    said = []
    for weight in (0.0, 1.0):
        painting.stage.maps.fill_(weight)
        painting.stage._shares.clear()
        with engine_module.ExitStack() as stack:
            painting._enter_stage(stack)
            painting._listen(t)
            with painting.stage.speak():
                said.append(model.predict(x, t, words))
    torch.testing.assert_close(said[0], plain, rtol=0, atol=1e-5)
    assert float((said[1] - plain).abs().max()) > 1e-4


def test_with_no_weight_it_is_the_reconstruction_by_plain_ddim(engine, content, codes):
    def run(weight, styled):
        painting = painting_of(engine, content, codes[0], refinements=6, adain=0)
        painting.maps *= weight
        if not styled:
            painting._enter_stage = lambda stack: None
        return painting.paint()

    plain, empty, full = run(0, False), run(0, True), run(1, True)
    assert apart(empty, plain) < 0.5 * apart(full, plain)  # the inversion of three steps is not exact


def test_the_layers_are_styleids_and_wrong_names_are_refused(engine, content, codes):
    unet = engine._model(LatentOptions(**CHEAP), (64, 48)).unet
    assert {name.split(".")[0] for name in self_attention_layers(unet, ())} == {"down_blocks", "mid_block", "up_blocks"}
    with pytest.raises(UsageError, match="begins with 'top_blocks'; there are down_blocks"):
        paint(engine, content, codes[:1], layers="up_blocks, top_blocks")
    before = dict(unet.attn_processors)
    with pytest.raises(CancelledError):
        engine.render(content, StyleField.constant(codes[0]), CONFIG, stop_at(9))
    assert unet.attn_processors == before


def stop_at(call):
    def look(progress):
        if progress.step == call:
            raise CancelledError("enough")

    return look


# -- fields, seeds, sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["styleid", "img2img"])
def test_regions_take_their_styles(engine, codes, photograph, method):
    content = to_float(photograph)
    left = np.zeros(content.shape[:2], np.float32)
    left[:, :40] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], np.float32(1) - left)))
    both = paint(engine, content, codes, field=field, method=method)
    alone = [paint(engine, content, [code], method=method) for code in codes]
    nearer = [[apart(both[part], one[part]) for one in alone] for part in (np.s_[:, :24], np.s_[:, 56:])]
    assert nearer[0][0] < nearer[0][1] and nearer[1][1] < nearer[1][0]
    masked = paint(engine, content, codes, field=StyleField((StyleLayer(codes[0], left),)), method=method)
    assert np.array_equal(masked[:, 40:], content[:, 40:]) and apart(masked[:, :40], content[:, :40]) > 1e-3


@pytest.mark.parametrize("method", ["styleid", "stylealigned", "img2img"])
def test_strength_goes_from_the_photograph_to_the_painting(engine, content, codes, method):
    whole = paint(engine, content, codes[:1], method=method, refinements=5)
    field = StyleField.constant(codes[0])
    steps = [paint(engine, content, [], field=field.times(w), method=method, refinements=5) for w in (0.3, 0.6, 1.0)]
    off = [apart(step, whole) for step in steps]
    assert off == sorted(off, reverse=True) and off[-1] == 0


def test_weights_of_img2img_are_starts(engine, content, codes):
    """Half of the weight is half of the start, for each position (but for the colours that it starts from)."""
    half = paint(engine, content, [], field=StyleField.constant(codes[0], 0.5), method="img2img", start=1, adain=0)
    whole = paint(engine, content, codes[:1], method="img2img", start=1, adain=0)
    latents = to_float(content)
    assert apart(half, latents) > 0 and apart(half, whole) > 1e-4


@pytest.mark.parametrize("method", ["img2img", "styleid", "stylealigned"])
def test_a_seed_is_a_picture_and_noise_depends_on_it(engine, content, codes, method):
    paintings = [paint(engine, content, codes[:1], seed, method=method, begin_with="noise") for seed in (1, 2, 1)]
    assert np.array_equal(paintings[0], paintings[2]) and apart(paintings[0], paintings[1]) > 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++"])
def test_every_sampler_paints(engine, content, codes, sampler):
    painted = paint(engine, content, codes[:1], method="img2img", sampler=sampler)
    assert np.isfinite(painted).all() and apart(painted, content) > 1e-3


def test_large_and_small_pictures_are_painted_at_a_size_that_the_model_likes(engine, codes, photograph):
    content = np.tile(to_float(photograph), (2, 1, 1))[:150]
    told = []
    painted = engine.render(content, StyleField.constant(codes[0]), options(reduce_to=64), lambda now: told.append(now))
    assert painted.shape == content.shape
    previews = [now.preview().shape for now in told if now.preview is not None]
    assert set(previews) == {(64, 41, 3)}
    assert [now.done for now in told] == sorted(now.done for now in told)
    assert engine_module._working_size((30, 20), LatentOptions()) == (512, 341)
    assert engine_module._working_size((700, 200), LatentOptions()) == (700, 200)


def test_guidance_uses_the_prompt_and_takes_a_second_row(engine, content, codes):
    plain = paint(engine, content, codes[:1], method="img2img", prompt="cat")
    other = paint(engine, content, codes[:1], method="img2img", prompt="a dog")
    guided = paint(engine, content, codes[:1], method="img2img", prompt="cat", guidance=6.0)
    against = paint(engine, content, codes[:1], method="img2img", prompt="cat", negative_prompt="x", guidance=6.0)
    soft = paint(engine, content, codes[:1], method="img2img", prompt="cat", guidance=6.0, rescale=1.0)
    pictures = [plain, other, guided, against, soft]
    assert all(apart(one, two) > 0 for index, one in enumerate(pictures) for two in pictures[:index])
    assert apart(paint(engine, content, codes[:1], prompt="cat", guidance=3.0), content) > 1e-3  # styleid too


# -- other models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["styleid", "stylealigned", "img2img"])
def test_stable_diffusion_xl_paints(content, codes, tiny_sdxl, method):
    engine = load_engine("latent")
    first, second = (
        paint(engine, content, [code], model=str(tiny_sdxl), method=method, guidance=2.0, prompt="cat")
        for code in codes
    )
    assert first.shape == content.shape and apart(first, second) > 1e-5


def test_a_controlnet_sees_the_photograph(content, codes, tiny_control):
    engine = load_engine("latent")
    named = {"controlnet": str(tiny_control), "method": "img2img"}
    none = paint(engine, content, codes[:1], method="img2img")
    edges = paint(engine, content, codes[:1], **named)
    photo = paint(engine, content, codes[:1], **named, control_picture="photo")
    silent = paint(engine, content, codes[:1], **named, control_scale=0.0)
    assert np.abs(silent - none).max() < 1e-5
    assert apart(edges, none) > 1e-4 and apart(edges, photo) > 1e-6
    assert apart(paint(engine, content, codes[:1], controlnet=str(tiny_control), guidance=2.0), none) > 1e-4


@pytest.fixture
def adapter(tiny_adapter):
    return {"method": "ip-adapter", "adapter": str(tiny_adapter[0]), "image_encoder": str(tiny_adapter[1]), "adain": 0}


def test_an_ip_adapter_sees_the_style(content, codes, adapter):
    engine = load_engine("latent")
    first, second, silent, also_silent = (
        paint(engine, content, [code], **adapter, adapter_scale=scale)
        for code, scale in ((codes[0], 1), (codes[1], 1), (codes[0], 0), (codes[1], 0))
    )
    assert apart(first, second) > 1e-6 and np.array_equal(silent, also_silent) and apart(first, silent) > 1e-5
    everywhere = paint(engine, content, codes[:1], **adapter, adapter_blocks="all")
    assert apart(everywhere, first) > 1e-6
    assert apart(paint(engine, content, codes, **adapter, guidance=3.0), first) > 1e-6
    with pytest.raises(UsageError, match="'nowhere' names no cross-attention layer"):
        paint(engine, content, codes[:1], **adapter, adapter_blocks="nowhere")


def test_an_adapters_answer_is_that_of_diffusers_where_there_is_no_mask(content, codes, adapter):
    """Our cross attention with maps of 1 against diffusers' own processor, through the whole network."""
    engine = load_engine("latent")
    painting = painting_of(engine, content, codes[0], **adapter | {"adapter_blocks": "all"})
    model, condition = painting.model, painting._condition()
    x = torch.randn(1, 4, 16, 12, generator=torch.Generator().manual_seed(0))
    theirs = model.predict(x, 500, condition)
    with engine_module.ExitStack() as stack:
        painting._enter_stage(stack)
        stack.enter_context(painting.stage.speak())
        ours = model.predict(x, 500, condition)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_several_image_prompts_have_their_regions(codes, photograph, adapter):
    engine, content = load_engine("latent"), to_float(photograph[:64, :64])
    left = np.zeros((64, 64), np.float32)
    left[:, :32] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    swapped = StyleField((StyleLayer(codes[1], left), StyleLayer(codes[0], 1 - left)))
    first, second = (paint(engine, content, [], field=one, **adapter) for one in (field, swapped))
    assert apart(first, second) > 1e-6
    inverted = paint(engine, content, [], field=field, **adapter, begin_with="inversion")
    assert np.isfinite(inverted).all() and apart(inverted, first) > 1e-4


def test_an_adapter_of_another_kind_is_refused(content, codes, adapter, model, tmp_path):
    engine = load_engine("latent")
    with pytest.raises(WeightsError, match=r"ip-adapter needs .*h94/IP-Adapter.*method=styleid"):
        paint(engine, content, codes[:1], method="ip-adapter")
    with pytest.raises(WeightsError, match="is no IP-Adapter"):
        paint(
            engine, content, codes[:1], **adapter | {"adapter": str(model / "vae/diffusion_pytorch_model.safetensors")}
        )
    for name, words in (("adapter.bin", "could run code"), ("adapter.safetensors", "there is no adapter")):
        with pytest.raises(WeightsError, match=words):
            paint(engine, content, codes[:1], **adapter | {"adapter": str(tmp_path / name)})


# -- finding models ----------------------------------------------------------------------------------------------------


def test_without_a_model_the_error_says_where_to_get_one_and_what_works(engine, content, codes, monkeypatch, tmp_path):
    monkeypatch.delenv("IMPASTO_LATENT_MODEL")
    with pytest.raises(WeightsError, match=r"--set model=FOLDER or IMPASTO_LATENT_MODEL.*stable-diffusion-v1-5.*brush"):
        paint(engine, content, codes[:1])
    with pytest.raises(WeightsError, match="there is no folder"):
        paint(engine, content, codes[:1], model=str(tmp_path / "none"))
    for name in ("some/model", "some/model@main"):
        with pytest.raises(UsageError, match=r"must be pinned: --set model=OWNER/NAME@COMMIT"):
            paint(engine, content, codes[:1], model=name)


def test_a_model_that_is_not_there_is_not_fetched(engine, content, codes, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *given, **named: asked.append(given) or (_ for _ in ()).throw(OSError)
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"not in the hub's cache on this machine; --set download=true fetches it"):
        paint(engine, content, codes[:1], model=f"some/model@{'0' * 40}")
    assert not asked


OFFLINE = """
import socket, sys
def refuse(*given, **named):
    raise SystemExit("a network call")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import numpy as np
from impasto.config import StylizeConfig
from impasto.engines import load_engine
from impasto.field import StyleField
from impasto.errors import WeightsError
engine, config = load_engine("latent"), StylizeConfig(options={"steps": 1, "enlarge_to": 32})
assert "diffusers" not in sys.modules  # it is slow to import
picture = np.linspace(0, 1, 32 * 32 * 3, dtype=np.float32).reshape(32, 32, 3)
code = engine.encode(picture, name="ramp", config=config)
assert engine.render(picture, StyleField.constant(code), config).shape == picture.shape
try:
    options = {"model": "some/model@" + "0" * 40, "download": True}
    engine.render(picture, StyleField.constant(code), StylizeConfig(options=options))
except WeightsError as error:
    print(error)
"""


def test_offline_it_paints_without_a_network_call(command_environment, model, tmp_path):
    environment = command_environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    finished = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment | {"IMPASTO_LATENT_MODEL": str(model)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "cannot be had" in finished.stdout


@pytest.fixture
def copied(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def edit(path, **change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_pickles_and_other_models_are_refused(copied):
    settings = LatentOptions(model=str(copied))
    assert find_model(settings) == copied
    edit(copied / "unet/config.json", in_channels=9)
    with pytest.raises(WeightsError, match="takes 9 channels where its decoder has 4: it is made for inpainting"):
        find_model(settings)
    (copied / "unet/diffusion_pytorch_model.safetensors").rename(copied / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"no weights as \*\.safetensors, but diffusion_pytorch_model\.bin"):
        find_model(settings)
    edit(copied / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(WeightsError, match="holds a FluxPipeline; latent knows"):
        find_model(settings)
    (copied / "model_index.json").write_text("[")
    with pytest.raises(WeightsError, match="cannot be read"):
        find_model(settings)
    (copied / "model_index.json").unlink()
    with pytest.raises(WeightsError, match=r"model_index\.json' is missing"):
        find_model(settings)


def test_loading_says_nothing_on_the_terminal(content, codes, capfd):
    paint(load_engine("latent"), content, codes[:1])
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


def test_damaged_weights_are_named(content, codes, copied):
    path = copied / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=f"the model in '{copied}' cannot be loaded"):
        paint(load_engine("latent"), content, codes[:1], model=str(copied))


def test_the_recipe_names_the_weights_in_use(engine, content, codes, tiny_sdxl, copied):
    own = weights_in_use(engine, CONFIG)
    assert (
        own
        == weights_in_use(engine, options(model=str(copied)))
        != weights_in_use(engine, options(model=str(tiny_sdxl)))
    )
    painted = Stylizer(engine).render(content, StyleField.constant(codes[0]), config=CONFIG)
    assert painted.recipe["weights"] == own
    edit(copied / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert weights_in_use(engine, options(model=str(copied))) != own  # the same weights paint otherwise


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guidance": 31}, "guidance must lie between"),
        ({"start": 1.2}, "start must lie between"),
        ({"method": "dreambooth"}, "method must be one of"),
        ({"enlarge_to": 600, "reduce_to": 500}, "must not exceed reduce_to"),
        ({"sampler": "ddpm"}, "ddpm adds noise to an inversion"),
        ({"device": "mps"}, "device 'mps' is not available"),
    ],
)
def test_wrong_settings_are_refused(engine, content, codes, change, words):
    with pytest.raises(UsageError, match=words):
        paint(engine, content, codes[:1], **change)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_is_given_back(content, codes, tiny_sdxl):
    engine = load_engine("latent")
    paint(engine, content, codes[:1])
    first = engine._kept[1]
    gone = [weakref.ref(first), weakref.ref(first.unet), weakref.ref(next(first.unet.parameters()))]
    assert not any("StyledAttention" in type(one).__name__ for one in first.unet.attn_processors.values())
    del first
    paint(engine, content, codes[:1], model=str(tiny_sdxl))  # another model takes the place of the first
    gc.collect()
    assert [one() for one in gone] == [None] * 3
    second = weakref.ref(engine._kept[1].unet)
    engine.release()
    gc.collect()
    assert second() is None and engine._kept is None


def test_a_painting_leaves_nothing_behind(engine, content, codes, monkeypatch):
    kept = []
    begin = engine_module._Painting.__init__

    def seen(self, *given):
        begin(self, *given)
        kept.extend([weakref.ref(self), weakref.ref(self.stage), weakref.ref(self.maps)])

    monkeypatch.setattr(engine_module._Painting, "__init__", seen)
    paint(engine, content, codes[:1])
    gc.collect()
    assert kept and [one() for one in kept] == [None] * len(kept)


def test_when_memory_runs_out_it_tries_again_in_pieces_and_says_so(engine, content, codes, monkeypatch):
    whole = paint(engine, content, codes[:1])
    decoder = engine._kept[1].pipe.vae
    assert not decoder.use_tiling
    tried = []
    run = engine_module._Painting.paint

    def short(self):
        tried.append(self.stage.pieces)
        if self.stage.pieces < 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return run(self)

    monkeypatch.setattr(engine_module._Painting, "paint", short)
    told = []
    field = StyleField.constant(codes[0])
    painted = engine.render(content, field, CONFIG, lambda now: told.append((now.done, now.message)))
    assert tried == [1, 4]
    assert any("out of memory: once more, attention in 4 pieces" in message for _, message in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert decoder.use_tiling
    monkeypatch.setattr(engine._kept[1], "decode_in_tiles", lambda tiles: decoder.disable_tiling())
    again = engine.render(content, field, CONFIG)  # tiles of 32 pixels are too small to look alike; pieces are exact
    assert np.abs(again - whole).max() < 1e-4 and painted.shape == whole.shape


def test_a_picture_that_never_fits_is_told_what_to_do(engine, content, codes, monkeypatch):
    monkeypatch.setattr(engine_module._Painting, "paint", lambda self: (_ for _ in ()).throw(MemoryError("no more")))
    with pytest.raises(UsageError, match=r"64 x 48 does not fit into memory even in small pieces.*reduce_to=768"):
        paint(engine, content, codes[:1])


def test_other_errors_are_not_taken_for_a_lack_of_memory(engine, content, codes, monkeypatch):
    monkeypatch.setattr(
        engine_module._Painting, "paint", lambda self: (_ for _ in ()).throw(RuntimeError("shapes do not fit"))
    )
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        paint(engine, content, codes[:1])


def test_offload_and_precision_follow_the_memory_and_the_device():
    parts = {"unet": 1_700, "vae": 170, "text_encoder": 250}
    assert choose_offload(4_000, parts, 1_000) == "none"
    assert choose_offload(3_000, parts, 1_000) == "model"
    assert choose_offload(2_000, parts, 1_000) == "sequential"
    assert pick_precision("auto", torch.device("cpu")) == torch.float32
    assert pick_precision("auto", torch.device("mps")) == torch.float16
    assert pick_precision("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_half_precision_paints_nearly_the_same(content, codes):
    engine = load_engine("latent")
    whole = paint(engine, content, codes[:1])
    half = paint(engine, content, codes[:1], precision="bfloat16")
    assert 0 < apart(whole, half) < 0.05


def test_numbers_that_overflow_are_told(engine, content, codes, monkeypatch):
    loaded = engine._model(LatentOptions(**CHEAP), (64, 48))
    monkeypatch.setattr(loaded, "predict", lambda x, t, condition: torch.full_like(x, float("nan")))
    with pytest.raises(UsageError, match=r"overflow in torch\.float32"):
        paint(engine, content, codes[:1])


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    from impasto.errors import MissingExtraError

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "diffusers" else find(name, *more)
    )
    with pytest.raises(MissingExtraError, match=r"impasto\[diffusion\]"):
        load_engine("latent")


# -- edges for a ControlNet --------------------------------------------------------------------------------------------


def test_edges_are_thin_lines_where_brightness_jumps():
    picture = np.zeros((20, 24, 3), np.float32)
    picture[:, 12:] = 1
    edges = canny_edges(picture)
    assert set(np.unique(edges)) == {0, 1}
    assert (edges[..., 0].sum(1) <= 2).all() and (edges[:, 11:13, 0].max(1) == 1).all()
    assert canny_edges(np.full((9, 9, 3), 0.4, np.float32)).max() == 0

"""What is special to local, on a tiny untrained network: codes, fields in the attention, explanations, its files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs impasto[torch]")
pytest.importorskip("onnxscript", reason="needs impasto[export]")

import torch
from reference.local_torch import paint
from safetensors.torch import save_file

from impasto import export
from impasto.cli import app
from impasto.config import StylizeConfig
from impasto.engines.base import Engine, Explaining, PresetTable
from impasto.engines.local import STYLE_PIXELS, Local
from impasto.engines.local_codes import LocalPresets, StoredPresets, read_presets
from impasto.engines.local_graphs import LocalGraphs
from impasto.errors import FieldError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.nets.encoders import load_encoder
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.local import LocalConfig, LocalNet, split_local
from impasto.nets.mobile import Mobile, MobileConfig
from impasto.ops.tiling import quantised, to_float
from impasto.stylizer import StyleRequest, Stylizer
from impasto.training.files import save_lens
from impasto.training.local_presets import grouped, key_metric, preset_groups
from impasto.weights import load_card, read_weights, weights_folder
from impasto.weights.files import read_tensors

PLAIN = StylizeConfig()
LIMIT = 1e-3  # the card's tolerance
SIZES = LocalConfig((8, 8, 10), 8, (8, 8, 8, 8))


def tiny_lens():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lens = Lens(LensConfig((6, 8, 8, 10, 10), (1, 1, 1, 1, 1)))
    export.round_to_half(lens)
    return lens.freeze()


@pytest.fixture(scope="module")
def graphs():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = LocalNet(SIZES)
    net.decoder.paint.weight.data.mul_(10)
    export.round_to_half(net)
    return LocalGraphs(**export.local_graphs(net.eval().requires_grad_(False), tiny_lens()))


@pytest.fixture(scope="module")
def engine(graphs):
    return Local("0123456789abcdef", graphs)


@pytest.fixture
def photo():
    return np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)).resize((80, 96))
    )


@pytest.fixture
def codes(engine):
    rng = np.random.default_rng(1)
    return [
        engine.encode(rng.uniform(low, low + 0.5, (100, 90, 3)).astype(np.float32), name=name, config=PLAIN)
        for name, low in (("dark", 0.0), ("light", 0.5))
    ]


def test_it_is_an_engine_that_explains(engine):
    assert isinstance(engine, Engine) and isinstance(engine, Explaining)


# --- codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (384, 384), (100, 90), (1200, 300), (300, 9000), (2, 4000)])
def test_a_style_is_seen_at_a_bounded_size(engine, size):
    code = engine.encode(np.full((*size, 3), 0.5, np.float32), name="style", config=PLAIN)
    height, width, _ = code.parts["picture"].shape
    assert height * width <= 1.01 * STYLE_PIXELS and min(height, width) >= 16


def test_a_code_is_a_picture_that_survives_a_file(engine, codes, photo, tmp_path):
    codes[0].save(tmp_path / "code.npz")
    again = StyleCode.load(tmp_path / "code.npz")
    assert again.digest == codes[0].digest
    fresh = Local(engine.identity, engine._graphs)  # nothing kept
    painted = [
        one.render(photo, StyleField.constant(code), PLAIN) for one, code in ((engine, codes[0]), (fresh, again))
    ]
    assert np.array_equal(*painted)


def test_a_code_without_its_picture_is_refused_by_name(engine, codes, photo):
    bare = StyleCode(codes[0].vector, engine.name, engine.identity, "bare")
    other = replace(bare, parts={"picture": to_float(codes[0].parts["picture"])})
    for code in (bare, other):
        for act in (engine.render, engine.explain):
            with pytest.raises(FieldError, match="'bare' holds no picture"):
                act(photo, StyleField.constant(code), PLAIN)


def test_only_the_last_styles_are_kept(engine):
    for level in range(12):
        picture = np.full((40, 40, 3), level / 12, np.float32)
        engine.encode(picture, name="style", config=PLAIN)
    assert len(engine._tokens) == 8


def test_each_style_of_a_large_field_is_looked_at_once(engine, photo, monkeypatch):
    pictures = [np.full((40, 40, 3), level / 12, np.float32) for level in range(10)]
    codes = [engine.encode(picture, name="style", config=PLAIN) for picture in pictures]
    seen, plain = [], engine.places
    monkeypatch.setattr(engine, "places", lambda picture: seen.append(picture) or plain(picture))
    engine._tokens.clear()
    content = np.tile(photo, (4, 4, 1))[:330, :330]
    engine.render(content, StyleField.mixed(codes), replace(PLAIN, tile=256))
    assert len(seen) == len(codes)


# --- parity with PyTorch ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    net, _ = split_local(*read_tensors(weights_folder() / "local.safetensors"))
    return Stylizer.load("local").engine, load_encoder(), net


def test_the_shipped_graphs_equal_the_shipped_network(shipped):
    card = load_card("local")
    graphs = {kind: read_weights(card, kind) for kind in ("encoder", "tokens", "attention", "blend", "net")}
    assert export.local_parity(shipped[2], shipped[1], graphs) < LIMIT
    with torch.no_grad():
        shipped[2].query.weight.mul_(1.02)
        differs = export.local_parity(shipped[2], shipped[1], graphs)
        shipped[2].query.weight.div_(1.02)
    assert differs > LIMIT


@pytest.mark.parametrize("size", [(96, 96), (41, 67), (90, 13)])
@pytest.mark.parametrize("maps", [False, True])
def test_the_shipped_engine_equals_pytorch(shipped, photograph, artworks, size, maps):
    engine, encoder, net = shipped
    content = to_float(photograph[: size[0], : size[1]])
    codes = [engine.encode(to_float(artwork[:90, :100]), name="style", config=PLAIN) for artwork in artworks]
    down = np.linspace(0, 1, size[0], dtype=np.float32)[:, None] * np.ones((1, size[1]), np.float32)
    weights = [down, np.float32(0.8) * (1 - down)] if maps else [0.5, 0.3]
    field = StyleField(tuple(StyleLayer(code, weight) for code, weight in zip(codes, weights, strict=True)))
    wanted = paint(encoder, net, content, [to_float(code.parts["picture"]) for code in codes], weights)
    painted = engine.render(content, field, PLAIN)
    assert np.abs(painted - wanted).max() < LIMIT
    assert np.abs(painted - content).max() > 0.05


# --- groups of places ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metric(engine, graphs, artworks):
    return preset_groups(engine, graphs, [[to_float(artwork)] for artwork in artworks])[1]


def code_of(engine, groups, name="groups"):
    parts = {part: np.asarray(getattr(groups, part), np.float16) for part in ("keys", "means", "deviations")}
    parts |= {"counts": groups.counts, "colours": quantised(groups.colours, np.uint8)}
    return StyleCode(groups.colours.reshape(-1).astype(np.float32), engine.name, engine.identity, name, parts)


def test_as_many_groups_as_places_change_nothing(engine, graphs, metric, photo, artworks):
    code = engine.encode(to_float(artworks[1][:64, :64]), name="style", config=PLAIN)
    tokens, colours = engine.places(to_float(code.parts["picture"])[:80, :80])
    whole = replace(code, parts={"picture": code.parts["picture"][:80, :80]})
    groups = grouped(tokens, colours, metric, channels=graphs.channels, groups=len(colours))
    content = to_float(photo)
    painted = [engine.render(content, StyleField.constant(one), PLAIN) for one in (whole, code_of(engine, groups))]
    assert np.abs(painted[0] - painted[1]).max() < 0.02  # float16, and equal places that share a group


def test_groups_weigh_as_much_as_their_places(engine, graphs, metric, artworks):
    tokens, colours = engine.places(to_float(artworks[1]))
    groups = grouped(tokens, colours, metric, channels=graphs.channels, groups=20)
    assert len(groups.counts) <= 20 and groups.counts.sum() == pytest.approx(1, abs=1e-5)
    assert groups.counts @ groups.keys == pytest.approx(tokens.keys.mean(0), abs=1e-4)
    assert groups.counts @ groups.colours == pytest.approx(colours.mean(0), abs=1e-4)
    deep = tokens.values[:, : graphs.channels]
    found = groups.means[:, : graphs.channels], groups.deviations[:, : graphs.channels]
    assert groups.counts @ found[0] == pytest.approx(deep.mean(0), abs=1e-4)
    assert groups.counts @ (found[0] ** 2 + found[1] ** 2) == pytest.approx((deep**2).mean(0), abs=1e-3)


def test_more_groups_come_nearer_to_all_places(shipped, photograph, artworks):
    """On the shipped weights: 512 groups paint nearly what all places paint, a few groups do not."""
    engine = shipped[0]
    code = engine.encode(to_float(artworks[1]), name="style", config=PLAIN)
    tokens, colours = engine.places(to_float(code.parts["picture"]))
    metric = key_metric(np.random.default_rng(0).standard_normal((4 * tokens.keys.shape[1], tokens.keys.shape[1])))
    content = to_float(photograph)
    whole = engine.render(content, StyleField.constant(code), PLAIN)
    away = []
    for count in (8, 512):
        groups = grouped(tokens, colours, metric, channels=engine._graphs.channels, groups=count)
        painted = engine.render(content, StyleField.constant(code_of(engine, groups)), PLAIN)
        away.append(255 * float(np.abs(painted - whole).mean()))
    assert away[1] < 4 < away[0]


# --- presets ---------------------------------------------------------------------------------------------------------


def test_presets_are_those_of_brush(shipped, stylizer):
    ours, theirs = shipped[0].preset_table(), stylizer.engine.preset_table()
    assert isinstance(shipped[0], PresetTable)
    assert [(name, one.title) for name, one in ours.items()] == [(name, one.title) for name, one in theirs.items()]
    assert (weights_folder() / "local-presets.npz").stat().st_size <= 2e6


def test_a_preset_survives_a_file_and_mixes_with_a_picture(shipped, photo, tmp_path):
    engine = shipped[0]
    preset = engine.presets()["ukiyo-e"]
    preset.save(tmp_path / "preset.npz")
    again = StyleCode.load(tmp_path / "preset.npz")
    assert again.digest == preset.digest
    picture = engine.encode(to_float(photo[:, ::-1]), name="picture", config=PLAIN)
    alone, mixed, other = (
        engine.render(to_float(photo), StyleField.mixed([again, picture], shares), PLAIN)
        for shares in ((1, 0), (1, 1), (0, 1))
    )
    assert np.array_equal(alone, engine.render(to_float(photo), StyleField.constant(preset), PLAIN))
    assert 0 < np.abs(mixed - alone).mean() < np.abs(other - alone).mean()


def test_a_preset_is_explained_by_its_palette(shipped, photo):
    preset = shipped[0].presets()["sunflowers"]
    shown = shipped[0].explain(photo, StyleField.constant(preset), PLAIN)
    assert shown.shape == (96, 96 // 4 + 2 * (8 + 80), 3) and shown.min() >= 0 and shown.max() <= 1
    bars = shown[:, : 96 // 4]
    assert np.array_equal(bars[:, :1].repeat(96 // 4, axis=1), bars)
    brightness = bars[:, 0] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(brightness) > -1e-6) and len(np.unique(bars[:, 0], axis=0)) > 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": None}, "holds no picture"),
        ({"keys": "narrow"}, "do not fit each other or the network"),
        ({"means": "narrow", "deviations": "narrow"}, "do not fit each other or the network"),
        ({"counts": "number"}, "do not fit each other"),
        ({"counts": np.zeros(3, np.float32)}, "do not fit each other"),
        ({"colours": np.zeros((5, 3), np.uint8)}, "do not fit each other"),
        ({"counts": "zero"}, "empty groups"),
        ({"means": "nan"}, "NaN"),
    ],
)
def test_damaged_groups_are_refused_by_name(shipped, photo, change, words):
    preset = shipped[0].presets()["tarot"]
    parts = dict(preset.parts)
    for name, value in change.items():
        if value is None:
            del parts[name]
        else:
            kept = parts[name]
            made = {"zero": 0 * kept, "nan": np.nan * kept, "narrow": kept[..., 1:], "number": np.array(1, np.float32)}
            parts[name] = made[value] if isinstance(value, str) else value
    with pytest.raises(FieldError, match=f"'tarot'.*{words}"):
        shipped[0].render(photo, StyleField.constant(replace(preset, parts=parts)), PLAIN)


def test_presets_of_other_weights_or_none_at_all_are_refused():
    content = read_weights(load_card("local"), "presets")
    with pytest.raises(WeightsError, match="presets were made with other weights"):
        read_presets(content, engine="local", identity="0" * 16)
    for damaged in (content[:1000], content[:500_000] + bytes(64) + content[500_064:], b"\x93NUMPY"):
        with pytest.raises(WeightsError, match="presets cannot be understood"):
            StoredPresets.unpacked(damaged)
    assert len(read_presets(b"", engine="local", identity="0" * 16)) == 0


@pytest.mark.parametrize("damage", ["about", "groups", "counts", "basis"])
def test_a_file_without_the_presets_that_it_names_is_refused(damage):
    card = load_card("local")
    stored = StoredPresets.unpacked(read_weights(card, "presets"))
    about = json.loads(stored.about)
    about["presets"][0]["groups"] += 1
    damaged = {
        "about": replace(stored, about='{"weights": "' + card.identity + '"}'),
        "groups": replace(stored, about=json.dumps(about)),
        "counts": replace(stored, counts=stored.counts[1:]),
        "basis": replace(stored, basis=stored.basis[1:]),
    }
    assert len(LocalPresets(stored, engine="local", identity=card.identity)) == len(about["presets"])
    with pytest.raises(WeightsError, match="presets cannot be understood"):
        LocalPresets(damaged[damage], engine="local", identity=card.identity)


# --- fields ----------------------------------------------------------------------------------------------------------


def test_each_region_is_painted_in_its_own_style(engine, codes, photo):
    left = np.zeros((96, 80), np.float32)
    left[:, :40] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    both = engine.render(photo, field, PLAIN)
    only = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], np.zeros_like(left))))
    alone = engine.render(photo, only, PLAIN)
    assert np.array_equal(alone[:, 40:], photo[:, 40:])
    assert not np.array_equal(both[:, 40:], photo[:, 40:])


def test_a_region_is_normalised_by_what_lies_within(engine, codes):
    """What a photograph shows outside of a region, far from it, does not change what is painted inside."""
    rng = np.random.default_rng(3)
    first = rng.uniform(0, 1, (96, 480, 3)).astype(np.float32)
    second = first.copy()
    second[:, 240:] = 1
    mask = np.zeros((96, 480), np.float32)
    mask[:, :120] = 1
    inside = [engine.render(one, StyleField.constant(codes[0]).times(mask), PLAIN)[:, :100] for one in (first, second)]
    whole = [engine.render(one, StyleField.constant(codes[0]), PLAIN)[:, :100] for one in (first, second)]
    changes = [float(np.abs(pair[0] - pair[1]).mean()) for pair in (inside, whole)]
    assert changes[0] < 0.2 * changes[1]


def test_estimates_grow_with_the_styles(engine, codes):
    one, two = (engine.estimate((512, 512), StyleField.mixed(codes[:count]), PLAIN) for count in (1, 2))
    assert one.seconds < two.seconds and one.memory < two.memory


# --- explanations ----------------------------------------------------------------------------------------------------


def test_an_explanation_shows_style_photograph_and_certainty(engine, codes, photo):
    shown = engine.explain(photo, StyleField.constant(codes[0]), PLAIN)
    assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    style = codes[0].parts["picture"].shape
    assert shown.shape == (96, round(style[1] * 96 / style[0]) + 2 * (8 + 80), 3)
    sure = shown[:, -80:]
    assert np.array_equal(sure[..., 0], sure[..., 1])  # the entropy is grey


def test_there_is_a_row_for_each_style_and_grey_where_it_has_no_weight(engine, codes, photo):
    left = np.zeros((96, 80), np.float32)
    left[:, :40] = 1
    field = StyleField((StyleLayer(codes[0], left), StyleLayer(codes[1], 1 - left)))
    shown = engine.explain(photo, field, PLAIN)
    assert shown.shape[0] == 2 * 96
    start = shown.shape[1] - 80 - 8 - 80
    colour = np.ptp(shown[:96, start : start + 80], axis=2)
    assert colour[:, 44:].max() < 1e-5 < 0.01 < colour[:, :36].mean()


def test_an_empty_field_explains_nothing(engine, photo):
    with pytest.raises(FieldError, match="no style"):
        engine.explain(photo, StyleField(()), PLAIN)


def test_it_looks_where_it_finds_itself(engine):
    """Style and photograph are the same picture: the left half looks left, the right half right."""
    rng = np.random.default_rng(4)
    picture = rng.uniform(0, 0.2, (384, 384, 3)).astype(np.float32)
    picture[:, 192:, :2] += 0.8
    code = engine.encode(picture, name="itself", config=PLAIN)
    shown = engine.explain(picture, StyleField.constant(code), PLAIN)
    photograph = shown[:, 384 + 8 : 2 * 384 + 8]
    red_to_yellow = photograph[40:150, :, 1] / photograph[40:150, :, 0]  # more green to the right
    assert red_to_yellow[:, 240:340].mean() > 1.2 * red_to_yellow[:, 40:140].mean()


def test_the_facade_explains_on_demand(engine, codes, photo):
    stylizer = Stylizer(engine)
    assert stylizer.stylize(photo, [StyleRequest(codes[0])]).explanation is None
    explained = stylizer.stylize(photo, [StyleRequest(codes[0])], explain=True)
    assert explained.explanation is not None and explained.explanation.shape[0] == 96


def test_an_engine_that_cannot_explain_says_so(stylizer, photo, tmp_path):
    with pytest.raises(UsageError, match="the engine 'brush' cannot explain where it looks"):
        stylizer.stylize(photo, [StyleRequest("ukiyo-e")], explain=True)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    called = ["stylize", str(tmp_path / "photo.png"), "-s", "ukiyo-e", "-o", str(tmp_path / "painting.png")]
    result = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "explained.png")])
    assert isinstance(result.exception, UsageError) or result.exit_code == 2
    assert not (tmp_path / "painting.png").exists() and not (tmp_path / "explained.png").exists()


def test_the_command_writes_the_explanation(engine, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Stylizer, "load", classmethod(lambda cls, name: cls(engine)))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(photo[::-1]).save(tmp_path / "style.png")
    called = ["stylize", str(tmp_path / "photo.png"), "-s", str(tmp_path / "style.png")]
    called += ["-o", str(tmp_path / "painting.png")]
    result = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "explained.png")])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "explained.png") as shown:
        assert shown.height == 96
    twice = CliRunner().invoke(app, [*called, "--explain", str(tmp_path / "painting.png")])
    assert isinstance(twice.exception, UsageError) or twice.exit_code == 2


# --- files -----------------------------------------------------------------------------------------------------------


def trained_file(path, mobile=None):
    """As a training leaves it."""
    torch.manual_seed(0)
    texts = {"engine": "local", "encoder": "lens", "step": "3", "recipe": 'name = "local"\n'}
    texts["config"] = json.dumps({"channels": (8, 8, 10), "keys": 8, "widths": (8, 8, 8, 8), "separable": False})
    state = LocalNet(SIZES).state_dict()
    if mobile is not None:
        texts["mobile"] = json.dumps({"widths": (6, 8, 8), "depths": (1, 1, 1), "channels": (8, 8, 10)})
        state |= {f"encoder.{name}": value for name, value in mobile.state_dict().items()}
    save_file({name: value.half() for name, value in state.items()}, path, metadata=texts)
    return path


def own_lens(folder):
    save_lens(tiny_lens(), folder / "own-lens.safetensors", {})
    return folder / "own-lens.safetensors"


@pytest.mark.parametrize("name", ["local", "local-mobile"])
def test_the_export_writes_graphs_and_a_true_card(name, photo, tmp_path):
    mobile = Mobile(MobileConfig((6, 8, 8), (1, 1, 1), (8, 8, 10))) if name == "local-mobile" else None
    source = trained_file(tmp_path / "trained.safetensors", mobile)
    written = export.export_local(source, tmp_path / "out", encoder=own_lens(tmp_path))
    card = load_card(name, tmp_path / "out")
    assert {file.kind: file.name for file in written} == {
        "encoder": f"{name}-encoder.onnx",  # not lens's own, which another card lists
        "net": f"{name}.onnx",
        "training": f"{name}.safetensors",
    } | {kind: f"{name}-{kind}.onnx" for kind in ("tokens", "attention", "blend")}
    parts = {kind: read_weights(card, kind, tmp_path / "out") for kind in card.files}
    assert parts.pop("training")
    painter = Local(card.identity, LocalGraphs(**parts), name=name)
    code = painter.encode(to_float(photo[:, ::-1]), name="style", config=PLAIN)
    painted = painter.render(photo, StyleField.constant(code), PLAIN)
    assert painted.shape == photo.shape and not np.array_equal(painted, photo)
    assert card.facts["name"] == name and card.facts["steps"] == 3
    assert card.facts["parameters"]["query"] == 26 * 8 + 8
    assert ("encoder" in card.facts["parameters"]) == (mobile is not None)
    state, texts = read_tensors(tmp_path / "out" / f"{name}.safetensors", sha256=card.file("training").sha256)
    net, encoder = split_local(state, texts)
    assert net.config == SIZES and bool(encoder) == (mobile is not None)


def test_a_network_behind_another_encoder_is_refused(tmp_path):
    source = trained_file(tmp_path / "trained.safetensors")
    with pytest.raises(WeightsError, match="trained behind another encoder"):
        export.export_local(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(tmp_path):
    state, texts = read_tensors(trained_file(tmp_path / "trained.safetensors"))
    for damaged in (
        (state, {}),
        (state, texts | {"config": "{}"}),
        ({name: value for name, value in state.items() if name != "query.weight"}, texts),
        (state, texts | {"config": texts["config"].replace('"keys": 8', '"keys": 0')}),
    ):
        with pytest.raises(WeightsError, match="no network of local"):
            split_local(*damaged)

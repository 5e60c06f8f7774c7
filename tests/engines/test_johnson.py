"""What is particular to ``johnson``: a style is a network, found by name or file, and never mistaken for another."""

import re
import shutil
import tomllib

import numpy as np
import pytest
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import johnson, johnson_styles
from impasto.engines.johnson import Johnson
from impasto.engines.johnson_styles import (
    check_free,
    check_style_name,
    find_styles,
    install_style,
    read_style,
    shipped_folder,
    style_name_of,
    styles_folder,
)
from impasto.errors import FieldError, OutputError, UnknownNameError, UsageError, WeightsError
from impasto.field import StyleCode, StyleField, StyleLayer, blend_codes
from impasto.ops.tiling import to_float
from impasto.stylizer import Stylizer, field_from_recipe
from impasto.weights import weights_folder

PLAIN = StylizeConfig()
NAMES = ("waves", "stones")  # what the fixture `trained` holds


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's folder without any style."""
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def installed(trained, home):
    """The folder of personal styles with both in it."""
    for name in NAMES:
        install_style(trained / f"{name}.onnx", name=name)
    return home / "styles"


@pytest.fixture
def engine():
    return Johnson()


@pytest.fixture
def codes(engine, trained):
    return tuple(engine.open_style(trained / f"{name}.onnx") for name in NAMES)


def damaged(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


# --- files -----------------------------------------------------------------------------------------------------------


def test_an_installed_style_is_found_by_name_and_paints_like_its_file(installed, trained, photograph):
    stylizer = Stylizer(Johnson())
    by_name = stylizer.stylize(photograph, [one("waves")]).stored
    by_path = stylizer.stylize(photograph, [one(trained / "waves.onnx")]).stored
    assert np.array_equal(by_name, by_path) and not np.array_equal(by_name, photograph)
    assert find_styles()["waves"].title == "Random waves" and find_styles()["waves"].personal
    with pytest.raises(UnknownNameError, match="did you mean waves"):
        stylizer.encode("wavez")


def one(source):
    from impasto.stylizer import StyleRequest

    return StyleRequest(source)


def test_installing_under_another_name_changes_card_and_file(trained, home):
    target = install_style(trained / "waves.onnx", name="My-Waves-2")
    assert target == home / "styles" / "My-Waves-2.onnx"
    card = tomllib.loads(target.with_suffix(".toml").read_text())
    assert card["name"] == "My-Waves-2" and card["files"][0]["name"] == "My-Waves-2.onnx"
    assert find_styles()["My-Waves-2"].read() == (trained / "waves.onnx").read_bytes()
    assert [path.name for path in sorted(target.parent.iterdir())] == ["My-Waves-2.onnx", "My-Waves-2.toml"]


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", "-a", "a--b", "ä", "a.onnx", "x" * 65, "NUL", "a\n"])
def test_names_that_are_none_are_refused(trained, name):
    with pytest.raises(UsageError, match="cannot be a style's name"):
        install_style(trained / "waves.onnx", name=name)


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Style (1).jpg", "my-style-1"), ("ÄÖ.png", "style"), ("con.png", "style"), ("a" * 99 + ".png", "a" * 64)],
)
def test_a_name_is_made_from_a_file_name(tmp_path, file, name):
    assert style_name_of(tmp_path / file) == name
    assert check_style_name(name) == name


def test_a_style_of_the_same_name_is_kept_unless_asked(installed, tmp_path):
    (tmp_path / "other.png").write_bytes(b"another picture")
    with pytest.raises(UsageError, match=r"'waves' is installed already.*--replace"):
        check_free("waves", tmp_path / "other.png")
    check_free("waves", tmp_path / "other.png", replace=True)
    check_free("fresh", tmp_path / "other.png")


def test_the_folder_follows_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("IMPASTO_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(johnson_styles.sys, "platform", "linux")
    assert styles_folder() == tmp_path / "data" / "impasto" / "styles"
    monkeypatch.setattr(johnson_styles.sys, "platform", "darwin")
    assert styles_folder().parts[-4:] == ("Library", "Application Support", "impasto", "styles")


def test_a_folder_that_cannot_be_written_is_said(trained, home):
    home.write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot install the style"):
        install_style(trained / "waves.onnx", name="waves")


# --- damaged and foreign files ---------------------------------------------------------------------------------------


def test_a_damaged_network_says_so_and_leaves_the_others(installed, photograph):
    path = installed / "waves.onnx"
    path.write_bytes(damaged(path.read_bytes()))
    stylizer = Stylizer(Johnson())
    with pytest.raises(WeightsError, match=r"'waves' is damaged.*train it again"):
        stylizer.encode("waves")
    with pytest.raises(WeightsError, match="is damaged"):
        stylizer.encode(path)
    assert stylizer.stylize(photograph, [one("stones")]).stored.shape == photograph.shape


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (b"files = [", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b'engine = "brush"', "no card of a johnson style"),
        (b'engine = "johnson"', "does not describe one network"),
        (b'engine = "johnson"\nfiles = 3', "does not describe one network"),
        (
            b'engine="johnson"\nname="a"\ntitle="a"\ncredit="a"\n[[files]]\nkind="net"\nname="../a.onnx"\nsha256=""',
            "is no file beside it",
        ),
    ],
)
def test_a_damaged_card_is_listed_with_its_reason_and_refused(installed, card, words):
    (installed / "waves.toml").write_bytes(card)
    assert words in find_styles()["waves"].credit and find_styles()["waves"].title == "cannot be used"
    with pytest.raises(WeightsError, match=words):
        Johnson().presets()["waves"]
    with pytest.raises(WeightsError, match=words):
        read_style(installed / "waves.onnx")


def test_missing_files_are_named(installed, tmp_path):
    with pytest.raises(WeightsError, match="there is no style"):
        Johnson().open_style(tmp_path / "none.onnx")
    (installed / "waves.toml").unlink()
    with pytest.raises(WeightsError, match=r"waves\.toml' is missing: a style is a network and the card beside it"):
        Johnson().open_style(installed / "waves.onnx")
    (installed / "stones.onnx").unlink()
    with pytest.raises(WeightsError, match=r"'stones' cannot be read"):
        Johnson().presets()["stones"]


def test_a_card_of_another_file_is_refused(installed):
    shutil.copy(installed / "waves.toml", installed / "stones.toml")
    with pytest.raises(WeightsError, match=r"describes 'waves\.onnx', not 'stones\.onnx'"):
        read_style(installed / "stones.onnx")


@pytest.mark.parametrize("content", [b"no network at all", (weights_folder() / "brush.onnx").read_bytes()])
def test_a_foreign_network_with_a_true_card_is_refused(tmp_path, content):
    digest = johnson.hashlib.sha256(content).hexdigest()
    (tmp_path / "x.onnx").write_bytes(content)
    (tmp_path / "x.toml").write_text(
        f'engine="johnson"\nname="x"\ntitle="x"\ncredit="x"\n[[files]]\nkind="net"\nname="x.onnx"\nsha256="{digest}"'
    )
    with pytest.raises(WeightsError, match=r"ONNX Runtime cannot load|no johnson network"):
        Johnson().open_style(tmp_path / "x.onnx")


# --- codes -----------------------------------------------------------------------------------------------------------


def test_a_picture_as_a_style_is_answered_with_how_to_train(engine, installed, artworks):
    with pytest.raises(UsageError, match=r"impasto train johnson --style art\.jpg.*waves.*--engine brush"):
        engine.encode(to_float(artworks[0]), name="art.jpg", config=PLAIN)


def test_a_code_is_the_network_and_survives_a_file(engine, codes, photograph, tmp_path):
    codes[0].save(tmp_path / "code.npz")
    loaded = StyleCode.load(tmp_path / "code.npz")
    assert loaded.digest == codes[0].digest != codes[1].digest
    assert not np.array_equal(codes[0].vector, codes[1].vector)
    painted = [engine.render(photograph, StyleField.constant(code), PLAIN) for code in (codes[0], loaded)]
    assert np.array_equal(*painted)


def test_a_code_whose_network_was_changed_is_refused(engine, codes, photograph):
    network = codes[0].parts["network"].copy()
    network[5000] ^= 1
    for parts, words in (({}, "holds no network"), ({"network": network}, "is damaged: its network is not the one")):
        code = StyleCode(codes[0].vector, "johnson", engine.identity, "waves", parts)
        with pytest.raises(FieldError, match=words):
            engine.render(photograph, StyleField.constant(code), PLAIN)


def test_codes_are_not_averaged(codes):
    with pytest.raises(FieldError, match="more than vectors"):
        blend_codes(codes, [1, 1])


def test_a_replay_refuses_another_network_of_the_same_name(installed, photograph):
    stylizer = Stylizer(Johnson())
    recipe = stylizer.stylize(photograph, [one("waves")]).recipe
    again = field_from_recipe(recipe, stylizer.engine, lambda name: stylizer.encode(name))
    assert np.array_equal(again.layers[0].code.vector, stylizer.encode("waves").vector)
    install_style(installed / "stones.onnx", name="waves")  # trained anew, say
    with pytest.raises(FieldError, match="'waves' is not the one that the picture was painted with"):
        field_from_recipe(recipe, stylizer.engine, lambda name: stylizer.encode(name))


# --- painting --------------------------------------------------------------------------------------------------------


def test_it_paints_what_the_network_says(engine, trained, codes, photograph):
    torch = pytest.importorskip("torch")
    from impasto.export import round_to_half
    from impasto.training.files import load_johnson

    net, _ = load_johnson(trained / "waves.safetensors")
    round_to_half(net)
    with torch.no_grad():
        wanted, _ = net.eval()(torch.from_numpy(to_float(photograph).transpose(2, 0, 1)[None].copy()))
    found = engine.render(to_float(photograph), StyleField.constant(codes[0]), PLAIN)
    assert np.abs(found - wanted[0].clamp(0, 1).permute(1, 2, 0).numpy()).max() < 1e-5


def test_a_mix_is_the_mean_of_paintings_and_slerp_keeps_its_contrast(engine, codes, photograph):
    content = to_float(photograph)
    first, second = (engine.render(content, StyleField.constant(code), PLAIN) for code in codes)
    field = StyleField.mixed(codes, [1, 3])
    linear = engine.render(content, field, PLAIN)
    assert np.abs(linear - (0.25 * first + 0.75 * second)).max() < 1e-5
    half = StyleField.mixed(codes, [1, 3], strength=0.5)
    assert np.abs(engine.render(content, half, PLAIN) - (0.5 * linear + 0.5 * content)).max() < 1e-5
    lifted = engine.render(content, field, StylizeConfig(mix_mode="slerp"))

    def contrast(picture):
        return float(np.mean(np.square(picture - picture.mean((0, 1)))))

    promised = 0.25 * contrast(first) + 0.75 * contrast(second)
    assert contrast(linear) < 0.95 * promised
    assert contrast(lifted) == pytest.approx(promised, rel=0.05)  # but for what is clipped
    assert np.abs(lifted.mean((0, 1)) - linear.mean((0, 1))).max() < 0.02


def test_a_region_without_a_style_does_not_run_its_network(engine, codes, photograph, monkeypatch):
    content = np.tile(photograph, (6, 6, 1))
    mask = np.zeros(content.shape[:2], np.float32)
    mask[:100, :100] = 1
    calls = []
    run = johnson._Network.run
    monkeypatch.setattr(
        johnson._Network, "run", lambda self, picture, known: calls.append(picture.shape) or run(self, picture, known)
    )
    field = StyleField((StyleLayer(codes[0], mask), StyleLayer(codes[1], 1 - mask)))
    engine.render(content, field, StylizeConfig(tile=256))
    tiles = 9
    assert len(calls) == 2 + tiles + 1  # both measured once; the first style lies in one tile alone


def test_a_tile_that_is_smaller_than_the_halo_equals_the_whole(engine, codes, photograph):
    content = np.asarray(Image.fromarray(photograph).resize((531, 262), Image.Resampling.BICUBIC))
    whole = engine.render(content, StyleField.constant(codes[0]), PLAIN)
    tiled = engine.render(content, StyleField.constant(codes[0]), StylizeConfig(tile=256))
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_borders_are_as_calm_as_the_inside(engine, codes):
    flat = engine.render(np.full((72, 92, 3), 0.6, np.float32), StyleField.constant(codes[0]), PLAIN)
    blocks = flat.reshape(18, 4, 23, 4, 3)  # an untrained sub-pixel layer draws each block alike
    assert np.ptp(blocks, axis=(0, 2)).max() < 1e-5


def test_only_the_last_networks_are_kept(engine, codes, photograph, monkeypatch):
    monkeypatch.setattr(johnson, "SESSIONS", 1)
    for code in codes:
        engine.render(photograph, StyleField.constant(code), PLAIN)
        assert len(engine._networks) == 1


def test_an_estimate_counts_styles_and_strokes(engine, codes):
    size = (512, 512)
    single = engine.estimate(size, StyleField.constant(codes[0]), PLAIN)
    double = engine.estimate(size, StyleField.mixed(codes), PLAIN)
    fine = engine.estimate(size, StyleField.constant(codes[0]), StylizeConfig(style_scale=0.5))
    assert double.seconds == pytest.approx(2 * single.seconds) and fine.seconds == pytest.approx(4 * single.seconds)


# --- what is shipped -------------------------------------------------------------------------------------------------


def shipped():
    return sorted(shipped_folder().glob("*.toml"))


def test_styles_come_with_impasto():
    table = find_styles()
    assert list(table) == [path.stem for path in shipped()]
    assert len({style.title for style in table.values()}) == len(table)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_shipped_card_is_true(path):
    card = tomllib.loads(path.read_text(encoding="utf-8"))
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", card["name"]) and card["name"] == path.stem
    (file,) = card["files"]
    content = path.with_suffix(".onnx").read_bytes()
    assert (file["name"], file["bytes"]) == (path.with_suffix(".onnx").name, len(content))
    assert find_styles()[path.stem].read() == content
    assert len(content) <= 500_000
    for fact in ("summary", "credit", "code_license", "weights_license", "data_license", "training_data", "hardware"):
        assert card[fact].strip(), fact
    for fact in ("recipe", "tolerance", "limits", "style_picture", "input", "size_rules"):
        assert card[fact].strip(), fact
    assert card["steps"] > 0 and card["hours"] > 0 and card["teachers"]
    assert card["steps"] - 50 < card["curve"]["step"][-1] <= card["steps"]  # the log has every fiftieth step
    assert tomllib.loads(card["recipe"])["network"]


def test_shipped_styles_paint_pictures_of_their_own(engine, photograph):
    painted = {
        name: to_float(engine.render(photograph, StyleField.constant(code), PLAIN))
        for name, code in engine.presets().items()
    }
    names = list(painted)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert np.abs(painted[name] - painted[other]).mean() > 5 / 255, (name, other)

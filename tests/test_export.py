"""The deployed graphs against PyTorch, and the exporter on a small network."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs impasto[torch]")
pytest.importorskip("onnx", reason="needs impasto[export]")

import torch
from reference.brush_field import paint

from impasto import export
from impasto.config import StylizeConfig
from impasto.engines.brush import Brush
from impasto.errors import UsageError, WeightsError
from impasto.field import StyleField, StyleLayer
from impasto.image.color import resize
from impasto.nets.brush import RESERVED_VALUE, BrushConfig, BrushModel
from impasto.ops.tiling import to_float
from impasto.training.files import load_model, save_model
from impasto.weights import load_card, read_weights, weights_folder
from impasto.weights.files import read_tensors

LIMIT = 1e-3  # the card's tolerance
TINY = BrushConfig(code=8, quarter=8, eighth=8, blocks_eighth=1, blocks_quarter=1, encoder=(4, 4, 8, 8))


# --- what is shipped -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_model(weights_folder() / "brush.safetensors").eval()


def test_the_shipped_graphs_equal_the_shipped_safetensors(shipped):
    card = load_card("brush")
    found = export.measure_parity(shipped, read_weights(card, "net"), read_weights(card, "encoder"))
    assert len({(parity.height, parity.width) for parity in found}) == 3
    for parity in found:
        assert parity.painting < LIMIT and parity.code < LIMIT, parity


def test_parity_would_notice_another_network(shipped):
    card = load_card("brush")
    other = load_model(weights_folder() / "brush.safetensors").eval()
    with torch.no_grad():
        other.net.stem.weight.mul_(1.01)
    found = export.measure_parity(other, read_weights(card, "net"), read_weights(card, "encoder"))
    assert max(parity.painting for parity in found) > LIMIT


@pytest.mark.parametrize("size", [(96, 96), (41, 67), (90, 13)])
def test_the_engine_equals_a_float64_rendering_of_the_field(shipped, stylizer, presets, photograph, size):
    content = to_float(photograph[: size[0], : size[1]])
    codes = list(presets.values())[:2]
    down = np.linspace(0, 1, size[0], dtype=np.float32)[:, None]
    across = np.linspace(0, 1, size[1], dtype=np.float32)[None]
    maps = np.stack([down * across, np.broadcast_to((1 - down) * np.float32(0.8), size)])
    field = StyleField(tuple(StyleLayer(code, weight) for code, weight in zip(codes, maps, strict=True)))
    painted = stylizer.engine.render(content, field, StylizeConfig())
    wanted = paint(shipped.double(), content, [code.vector for code in codes], maps, resize)
    shipped.float()
    assert np.abs(painted - wanted).max() < LIMIT
    assert np.abs(painted - content).max() > 0.05


# --- the exporter ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a training leaves: random weights of a tiny network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("trained") / "brush.safetensors"
    save_model(BrushModel(TINY), path, {"step": "12", "recipe": "name = 'tiny'"})
    return path


@pytest.fixture(scope="module")
def artwork_folder(tmp_path_factory, artworks):
    folder = tmp_path_factory.mktemp("artworks")
    for name, pixels in zip(("stars.png", "cups.png"), artworks, strict=True):
        Image.fromarray(pixels).save(folder / name)
    table = "".join(
        f'[[preset]]\nname = "{name}"\ntitle = "T"\ncredit = "C"\nfiles = {json.dumps(files)}\n'
        for name, files in (("one", ["stars.png"]), ("both", ["stars.png", "cups.png"]))
    )
    (folder / "presets.toml").write_text(table)
    return folder


@pytest.fixture(scope="module")
def exported(trained, artwork_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "new"
    export.export_set(trained, folder, artworks=[artwork_folder], presets=artwork_folder / "presets.toml")
    return folder


def test_an_exported_set_is_complete_and_its_card_true(exported):
    card = load_card("brush", exported)
    assert {kind: file.name for kind, file in card.files.items()} == {
        "net": "brush.onnx",
        "encoder": "brush-encoder.onnx",
        "training": "brush.safetensors",
        "presets": "brush-presets.json",
    }
    for kind in card.files:
        read_weights(card, kind, exported)
    model = BrushModel(TINY)
    assert card.facts["parameters"] == {
        "net": sum(parameter.numel() for parameter in model.net.parameters()),
        "encoder": sum(parameter.numel() for parameter in model.encoder.parameters()),
    }
    assert card.facts["steps"] == 12 and card.facts["recipe"] == "name = 'tiny'\n"


def test_an_exported_set_paints_with_its_presets(exported, photograph):
    card = load_card("brush", exported)
    parts = [read_weights(card, kind, exported) for kind in ("encoder", "net", "presets")]
    engine = Brush(card, parts[0], parts[1], parts[2].decode())
    codes = engine.presets()
    assert list(codes) == ["one", "both"]
    assert all(np.sqrt(np.mean(np.square(code.vector))) == pytest.approx(1, abs=1e-3) for code in codes.values())
    painted = engine.render(photograph, StyleField.constant(codes["both"]), StylizeConfig())
    assert painted.shape == photograph.shape and not np.array_equal(painted, photograph)


def test_the_exported_safetensors_are_the_graphs_weights_in_half(exported, trained):
    half, whole = (load_model(path).state_dict() for path in (exported / "brush.safetensors", trained))
    for name, value in half.items():
        assert torch.equal(value, whole[name].half().float()), name
    card = load_card("brush", exported)
    found = export.measure_parity(
        load_model(exported / "brush.safetensors").eval(),
        read_weights(card, "net", exported),
        read_weights(card, "encoder", exported),
    )
    assert max(parity.painting for parity in found) < 1e-4


def test_presets_set_the_numbers_that_are_reserved_for_their_names(artwork_folder, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "brush.safetensors"
    facts = {"step": "1", "recipe": "name = 'tiny'", "presets": json.dumps(["both", "gone", "one"])}
    save_model(BrushModel(replace(TINY, reserved=3)), path, facts)
    folder = tmp_path / "out"
    export.export_set(path, folder, artworks=[artwork_folder], presets=artwork_folder / "presets.toml")
    card = load_card("brush", folder)
    engine = Brush(card, *(read_weights(card, kind, folder) for kind in ("encoder", "net")), "")
    table = json.loads(read_weights(card, "presets", folder))["presets"]
    codes = {entry["name"]: np.array(entry["code"], np.float32) for entry in table}
    assert codes["one"][TINY.code :].tolist() == [0, 0, RESERVED_VALUE]
    assert codes["both"][TINY.code :].tolist() == [RESERVED_VALUE, 0, 0]
    assert all(np.mean(np.square(code[: TINY.code])) == pytest.approx(1, abs=1e-3) for code in codes.values())
    picture = np.zeros((40, 40, 3), np.float32)
    assert engine.encode(picture, name="grey", config=StylizeConfig()).vector[TINY.code :].tolist() == [0, 0, 0]


def test_a_preset_of_an_unknown_artwork_is_refused(trained, artwork_folder, tmp_path):
    table = (artwork_folder / "presets.toml").read_text().replace("cups", "mugs")
    (tmp_path / "presets.toml").write_text(table)
    with pytest.raises(UsageError, match=r"the preset 'both' names 'mugs\.png', which is not among the artworks"):
        export.export_set(trained, tmp_path / "out", artworks=[artwork_folder], presets=tmp_path / "presets.toml")


def test_weights_that_are_none_are_refused(tmp_path):
    (tmp_path / "brush.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"brush\.safetensors"):
        export.export_set(tmp_path / "brush.safetensors", tmp_path / "out")


def test_the_embedded_adain_exports_to_itself(tmp_path):
    embedded = weights_folder() / "adain.safetensors"
    export.export_set(embedded, tmp_path)
    (before, facts), (after, kept) = (read_tensors(path) for path in (embedded, tmp_path / "adain.safetensors"))
    assert facts == kept and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_card("adain", tmp_path).facts["parameters"] == load_card("adain").facts["parameters"]

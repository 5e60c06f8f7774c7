import shutil

import pytest

from impasto.errors import WeightsError
from impasto.weights import load_card, read_weights, weights_folder


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded weights that may be damaged."""
    for path in weights_folder().iterdir():
        if path.suffix in (".toml", ".onnx", ".json"):
            shutil.copy(path, tmp_path)
    return tmp_path


def test_whole_files_are_read(folder):
    card = load_card("brush", folder)
    assert card.name == "brush"
    assert all(
        len(read_weights(card, kind, folder)) == card.files[kind].bytes for kind in ("net", "encoder", "presets")
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
    ],
    ids=["empty", "cut", "longer", "one bit"],
)
@pytest.mark.parametrize("kind", ["net", "encoder", "presets"])
def test_a_damaged_file_is_refused_by_name(folder, kind, damage):
    card = load_card("brush", folder)
    path = folder / card.files[kind].name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=f"{path.name}' are damaged or not those of the card; reinstall impasto"):
        read_weights(card, kind, folder)


def test_a_missing_file_is_refused_by_name(folder):
    card = load_card("brush", folder)
    (folder / "brush.onnx").unlink()
    with pytest.raises(WeightsError, match=r"brush\.onnx' are missing"):
        read_weights(card, "net", folder)


def test_a_missing_card_is_refused_by_name(folder):
    with pytest.raises(WeightsError, match=r"quilt\.toml' is missing"):
        load_card("quilt", folder)


@pytest.mark.parametrize(
    "content",
    [b"files = [", b"name = 'brush'", b"\xff\xfe", b"files = 3", b"[[files]]\nkind = 'net'\n"],
    ids=["cut", "no files", "no text", "no table", "no name"],
)
def test_a_card_that_is_none_is_refused_by_name(folder, content):
    (folder / "brush.toml").write_bytes(content)
    with pytest.raises(WeightsError, match=r"brush\.toml' cannot be understood"):
        load_card("brush", folder)


def test_a_card_without_a_network_is_refused(folder):
    (folder / "brush.toml").write_text("files = []")
    card = load_card("brush", folder)
    with pytest.raises(WeightsError, match="lists no 'net' file"):
        _ = card.identity
    with pytest.raises(WeightsError, match="lists no 'presets' file"):
        read_weights(card, "presets", folder)

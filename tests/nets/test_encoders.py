import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from impasto.errors import UnknownNameError, UsageError, WeightsError
from impasto.nets.encoders import encoder_sha256, load_encoder
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.teachers import TEACHERS
from impasto.weights import load_card, weights_folder

TINY = LensConfig((4, 6, 8, 10, 12), (2, 2, 2, 3, 1))


@pytest.fixture
def lens_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    config = {"widths": TINY.widths, "depths": TINY.depths}
    save_file(Lens(TINY).half().state_dict(), path, metadata={"config": json.dumps(config)})
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lens_of_ones_own_is_read(lens_file):
    lens = load_encoder(lens_file, sha256=sha256(lens_file))
    assert isinstance(lens, Lens) and lens.config == TINY and not lens.training
    assert lens.convolutions["relu1_1"].weight.dtype == torch.float32


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_backbones_are_read_from_their_files(name, suffix, tmp_path):
    torch.manual_seed(0)
    network = TEACHERS[name]()
    state = {network.stored_key(key): value for key, value in network.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_encoder(path)
    assert loaded.spec.name == name
    layer = loaded.spec.style_layers[0]
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(picture, (layer,))[layer], network.freeze()(picture, (layer,))[layer])


def test_another_hash_is_refused(lens_file):
    with pytest.raises(WeightsError, match=f"their SHA-256 is {sha256(lens_file)}, not {'0' * 64}"):
        load_encoder(lens_file, sha256="0" * 64)


def test_the_hash_of_an_encoder_is_that_of_the_file_as_it_is_now(lens_file, monkeypatch):
    assert encoder_sha256() == sha256(weights_folder() / load_card("lens").file("net").name)
    before = encoder_sha256(lens_file)
    assert before == sha256(lens_file)
    lens_file.write_bytes(lens_file.read_bytes() + b" ")
    assert encoder_sha256(lens_file) == sha256(lens_file) != before
    with monkeypatch.context() as patch:  # known already
        patch.setattr(hashlib, "file_digest", None)
        encoder_sha256(lens_file)
    assert encoder_sha256(lens_file, sha256="AB" * 32) == "ab" * 32  # loading checks it
    assert encoder_sha256(f"hub:owner/name@{'0' * 40}/own.pth", sha256="CD" * 32) == "cd" * 32


def test_what_has_no_hash_says_why(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no weights file '.*none\.pth'"):
        encoder_sha256(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        (tmp_path / "folder.pth").mkdir()
        encoder_sha256(tmp_path / "folder.pth")
    with pytest.raises(UnknownNameError, match="did you mean lens"):
        encoder_sha256("lense")
    with pytest.raises(UsageError, match="names no pinned file"):
        encoder_sha256("hub:owner/name@main/own.pth", sha256="0" * 64)


def test_what_is_no_encoder_says_why(lens_file, tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        load_encoder(tmp_path / "none.safetensors")
    with pytest.raises(UnknownNameError, match="did you mean lens"):
        load_encoder("lense")
    with pytest.raises(WeightsError, match="do not come with impasto: name their file"):
        load_encoder("vgg19")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(lens_file.read_bytes()[:900])
    with pytest.raises(WeightsError, match="damaged"):
        load_encoder(damaged)
    save_file(Lens(TINY).state_dict(), damaged, metadata={"config": '{"widths": [1, 2], "depths": [1, 1]}'})
    with pytest.raises(WeightsError, match="are no lens, or do not fit"):
        load_encoder(damaged)
    save_file({"layer1.weight": torch.zeros(3)}, damaged)
    with pytest.raises(WeightsError, match=re.escape(str(damaged)) + ".*layout of no known"):
        load_encoder(damaged)


def test_pickled_code_is_not_run(tmp_path):
    class Loud:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "loud.pth"
    torch.save({"0.weight": Loud()}, path)
    with pytest.raises(WeightsError, match="could run code"):
        load_encoder(path)


@pytest.mark.parametrize("name", ["hub:a/b@main/file.pth", "hub:a/b/file.pth", "hub:a/b@" + "0" * 40 + "/file.pth"])
def test_a_hub_file_must_be_pinned(name):
    with pytest.raises(UsageError, match="names no pinned file"):
        load_encoder(name)


def test_a_hub_file_is_asked_for_at_its_commit_and_checked(lens_file, monkeypatch):
    hub, asked = pytest.importorskip("huggingface_hub"), []

    def download(repository, file, *, revision):
        asked.append((repository, file, revision))
        return str(lens_file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    name = "hub:someone/nets@" + "0123456789" * 4 + "/deep/lens.safetensors"
    assert load_encoder(name, sha256=sha256(lens_file)).config == TINY
    assert asked == [("someone/nets", "deep/lens.safetensors", "0123456789" * 4)]
    with pytest.raises(WeightsError, match="their SHA-256 is"):
        load_encoder(name, sha256="0" * 64)

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from impasto.errors import OutputError, WeightsError
from impasto.nets.brush import BrushConfig, BrushModel
from impasto.nets.teachers import SqueezeNet
from impasto.training.files import load_model, load_teacher, save_model

TINY = BrushConfig(code=8, quarter=8, eighth=8, blocks_eighth=1, encoder=(4, 4, 8, 8))


@pytest.fixture
def saved(tmp_path):
    model = BrushModel(TINY).to(memory_format=torch.channels_last)
    save_model(model, tmp_path / "deep" / "brush.safetensors", {"step": "7"})
    return model, tmp_path / "deep" / "brush.safetensors"


def test_a_model_comes_back_exactly(saved):
    model, path = saved
    again = load_model(path)
    assert again.config == TINY
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    with safe_open(path, framework="pt") as handle:
        assert handle.metadata()["step"] == "7"
        assert json.loads(handle.metadata()["config"])["encoder"] == [4, 4, 8, 8]
    assert [p.name for p in path.parent.iterdir()] == ["brush.safetensors"]


def test_half_precision_is_stored_as_float32(tmp_path):
    save_model(BrushModel(TINY).half(), tmp_path / "half.safetensors", {})
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "half.safetensors").values())


def test_files_that_are_no_model_say_why(saved, tmp_path):
    _, path = saved
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_model(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="no brush model"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"config": '{"encoder": [1, 2, 3, 4], "colour": 3}'})
    with pytest.raises(WeightsError, match="no brush model"):
        load_model(path)


def test_missing_foreign_and_misshapen_tensors_are_named(saved):
    model, path = saved
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    del state["net.stem.bias"]
    state |= {"net.extra": torch.zeros(1), "net.up.bias": torch.zeros(1)}
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    save_file(state, path, metadata=metadata)
    with pytest.raises(WeightsError, match=r"missing \['net.stem.bias'\], unknown \['net.extra'\].*\['net.up.bias'\]"):
        load_model(path)


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the weights"):
        save_model(BrushModel(TINY), tmp_path / "file" / "brush.safetensors", {})


@pytest.mark.parametrize("wrapped", [False, True])
def test_teachers_of_torch_files_equal_those_of_safetensors(tmp_path, teacher_file, wrapped):
    state = load_file(teacher_file)
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "squeezenet.pth")
    first, second = load_teacher(teacher_file), load_teacher(tmp_path / "squeezenet.pth")
    assert isinstance(second, SqueezeNet)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_teacher_files_that_do_not_load_say_why(tmp_path):
    path = tmp_path / "teacher.pth"
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_teacher(path)
    path.write_bytes(b"no torch file")
    with pytest.raises(WeightsError, match=r"teacher\.pth"):
        load_teacher(path)
    torch.save(torch.nn.Linear(1, 1), path)  # a whole pickled module
    with pytest.raises(WeightsError, match="could run code"):
        load_teacher(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no state_dict"):
        load_teacher(path)
    torch.save({"fc.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"teacher\.pth.*no known teacher"):
        load_teacher(path)

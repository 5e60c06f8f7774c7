import pytest
import torch

from impasto.errors import WeightsError
from impasto.nets.teachers import TEACHERS, build_teacher, recognise


def random_state(name):
    """Weights as they lie in the teacher's file."""
    torch.manual_seed(0)
    teacher = TEACHERS[name]()
    return {teacher.stored_key(key): value.clone() for key, value in teacher.state_dict().items()}


@pytest.fixture(scope="module", params=sorted(TEACHERS))
def built(request):
    return request.param, build_teacher(random_state(request.param))


def test_a_file_is_recognised_and_built_whatever_else_it_holds(built):
    name, teacher = built
    state = random_state(name) | {"classifier.1.weight": torch.zeros(3)}
    assert recognise(state) == name
    assert teacher.spec.name == name
    assert not teacher.training


def test_every_layer_has_the_stated_stride_and_channels(built):
    _, teacher = built
    with torch.no_grad():
        found = teacher(torch.rand(1, 3, 128, 96), tuple(teacher.spec.layers))
    assert list(found) == list(teacher.spec.layers)
    for layer, (stride, channels) in teacher.spec.layers.items():
        assert found[layer].shape[1] == channels
        assert found[layer].min() >= 0  # all of them follow a ReLU
        for got, side in zip(found[layer].shape[2:], (128, 96), strict=True):
            assert abs(got - side / stride) <= 6, layer  # unpadded convolutions lose a few positions


def test_layers_asked_for_alone_are_the_same(built):
    _, teacher = built
    picture = torch.rand(1, 3, 64, 64)
    first, *_, last = teacher.spec.style_layers
    with torch.no_grad():
        both = teacher(picture, (first, last))
        alone = teacher(picture, (first,))
    assert set(both) == {first, last} and set(alone) == {first}
    assert torch.equal(both[first], alone[first])


def test_the_gradient_reaches_the_picture_and_not_the_weights(built):
    _, teacher = built
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    teacher(picture, teacher.spec.content_layers)[teacher.spec.content_layers[0]].square().sum().backward()
    assert picture.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_an_unknown_layout_names_the_known_ones():
    with pytest.raises(WeightsError, match=r"no known teacher.*vgg19.*layer1\.weight"):
        recognise({"layer1.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="first keys are none"):
        recognise({})


def test_missing_and_misshapen_tensors_are_named():
    state = random_state("squeezenet1_0")
    del state["features.5.expand3x3.bias"]
    state["features.0.weight"] = torch.zeros(64, 3, 3, 3)  # as in squeezenet1_1
    with pytest.raises(WeightsError, match=r"squeezenet1_0.*features\.5\.expand3x3\.bias.*features\.0\.weight"):
        build_teacher(state)


def test_origins_are_the_centres_of_the_first_positions(built):
    """Where the gradient of a layer's positions lies in the picture: at the origin, then one stride further each."""
    name, teacher = built
    torch.manual_seed(1)
    side = 160
    for layer, (stride, channels) in teacher.spec.layers.items():
        if name.startswith("vgg") and layer.startswith(("relu5", "relu4_4")):
            continue  # their receptive field is larger than the picture
        picture = torch.rand(1, 3, side, side, requires_grad=True)
        features = teacher(picture, (layer,))[layer]
        index = features.shape[2] // 2
        weights = torch.rand(channels)[None, :, None, None]
        (features[:, :, index : index + 1, index : index + 1] * weights).sum().backward()
        seen = picture.grad.abs().sum((0, 1))
        rows, columns = (torch.nonzero(seen.sum(axis)).flatten() for axis in (1, 0))
        expected = teacher.spec.origin(layer) + stride * index
        for found in (rows, columns):  # the middle of what it sees; max pools may hide a pixel or two at its ends
            assert (int(found[0]) + int(found[-1])) / 2 == pytest.approx(expected, abs=1.5 + 0.12 * stride), layer

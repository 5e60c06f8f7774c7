"""LPIPS against torchmetrics' code with its packaged official heads; the backbones have random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from impasto.errors import WeightsError
from impasto.metrics.features import look
from impasto.metrics.lpips import AlexNet, Lpips, load_lpips
from impasto.weights.files import read_tensors


def official_heads(name):
    """The heads' file as the authors published it; torchmetrics carries it."""
    reference = pytest.importorskip("torchmetrics.functional.image.lpips")
    return Path(reference.__file__).parent / "lpips_models" / f"{name}.pth"


def alexnet():
    torch.manual_seed(0)
    return AlexNet().freeze()


@pytest.mark.parametrize("name", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_is_that_of_torchmetrics(name, seeded, natural, monkeypatch):
    heads = official_heads(name)
    from torchmetrics.functional.image import lpips as reference

    network = alexnet() if name == "alex" else seeded("vgg16")
    if name == "alex":
        layers = list(network.features)
    else:  # torchvision's list, with the poolings that VGG has between its blocks
        layers = []
        for key, _ in network._plan:
            layers += [network.features[key], torch.nn.ReLU()] if key else [torch.nn.MaxPool2d(2)]
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_, **__: torch.nn.Sequential(*layers))
    whole = reference._LPIPS(net=name, model_path=str(heads))

    measure = Lpips(network, read_tensors(heads)[0])
    assert measure.name == f"lpips-{name}"
    pair = natural("astronaut.png", (72, 88)), natural("coffee.png", (72, 88))
    batches = (torch.from_numpy(one).permute(2, 0, 1)[None] for one in pair)
    expected = float(whole(*batches, normalize=True))
    found = measure.distance(*(look(network, one, measure.layers) for one in pair))
    assert found == pytest.approx(expected, rel=1e-4)


def test_zero_at_identity_symmetric_and_growing(natural):
    heads = {f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), 0.1) for i, c in enumerate((64, 192, 384, 256, 256))}
    measure, network = Lpips(alexnet(), heads), alexnet()
    first = natural("astronaut.png", (80, 80))
    grain = np.clip(first + np.random.default_rng(0).normal(0, 0.05, first.shape), 0, 1).astype(np.float32)
    seen = [look(network, one, measure.layers) for one in (first, grain, natural("coffee.png", (80, 80)))]
    assert measure.distance(seen[0], seen[0]) == 0
    assert 0 < measure.distance(seen[0], seen[1]) < measure.distance(seen[0], seen[2])
    assert measure.distance(seen[0], seen[2]) == pytest.approx(measure.distance(seen[2], seen[0]))


def test_files_are_read_and_checked(tmp_path):
    backbone, heads = tmp_path / "alexnet.pth", official_heads("alex")
    torch.save(alexnet().state_dict(), backbone)
    assert load_lpips(backbone, heads).name == "lpips-alex"
    with pytest.raises(WeightsError, match=r"not the LPIPS heads of alexnet.*lin1"):
        load_lpips(backbone, official_heads("vgg"))
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_lpips(tmp_path / "nowhere.pth", heads)
    short = alexnet().state_dict()
    del short["features.10.weight"]
    torch.save(short, backbone)
    with pytest.raises(WeightsError, match="not complete"):
        load_lpips(backbone, heads)


def test_other_backbones_have_no_lpips(network):
    with pytest.raises(WeightsError, match="not over squeezenet1_0"):
        Lpips(network, {})

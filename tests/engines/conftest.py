"""Styles for the engine ``johnson``, whose tests do not lean on those that come with impasto."""

import json

import pytest

NAMES = ("waves", "stones")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with two styles as ``impasto train johnson`` leaves them: small networks with random weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from impasto.export import export_johnson
    from impasto.nets.johnson import JohnsonConfig, JohnsonNet
    from impasto.training.files import save_johnson

    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(NAMES):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = JohnsonNet(JohnsonConfig(half=8, quarter=8, blocks=1))
            net.paint.weight.data.normal_(std=0.04)
            net.paint.bias.data.normal_(std=0.1)
        facts = {"name": name, "title": f"Random {name}", "credit": "chance", "summary": "for tests"}
        texts = {"step": "1", "recipe": 'name = "johnson"', "style": json.dumps(facts)}
        save_johnson(net, folder / f"{name}.safetensors", texts)
        export_johnson(folder / f"{name}.safetensors", folder)
    return folder

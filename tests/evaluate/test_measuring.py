"""All metrics of one result."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from impasto.errors import UsageError, WeightsError
from impasto.evaluate.measures import METRICS
from impasto.evaluate.measuring import Measurement, Measurer, MetricFiles, load_measurer
from impasto.nets.teachers import TEACHERS

ENCODER_METRICS = tuple(name for name, spec in METRICS.items() if spec.over == "encoder" and name != "cfsd")


@pytest.fixture
def scene(contents, styles, pictures_of):
    return pictures_of(contents / "cup.png"), pictures_of(styles / "woman.png")


@pytest.fixture
def measurer(network):
    return Measurer(("ssim", "ms-ssim", *ENCODER_METRICS), network=network)


def test_the_networks_name_is_in_the_metrics(measurer, seeded_vgg):
    assert measurer.names["gram"] == "gram-lens" and measurer.names["ssim"] == "ssim"
    assert Measurer(("cfsd",), network=seeded_vgg).names == {"cfsd": "cfsd-vgg19"}
    assert not [name for name in measurer.names.values() if name.startswith(("fid", "lpips", "cfsd"))]


@pytest.fixture(scope="module")
def seeded_vgg():
    torch.manual_seed(0)
    return TEACHERS["vgg19"]().freeze()


def test_identity_keeps_the_content_and_the_style_has_the_style(measurer, scene):
    content, style = scene
    same = measurer.measure(content, measurer.content(content), measurer.style(style)).values
    assert same["ssim"] == pytest.approx(1) and same["ms-ssim"] == pytest.approx(1)
    for name in ("content-lens", "perceptual-lens", "structure-lens", "leak-lens"):
        assert same[name] == pytest.approx(0, abs=1e-6)
    assert same["gram-lens"] > 0.02
    own = measurer.measure(style, measurer.content(style), measurer.style(style)).values
    assert own["gram-lens"] == pytest.approx(0, abs=1e-6) and own["moments-lens"] == pytest.approx(0, abs=1e-6)


def test_what_is_not_known_is_not_measured(measurer, scene):
    content, style = scene
    values = measurer.measure(content, None, measurer.style(style)).values
    assert values["ssim"] is None and values["leak-lens"] is None and values["gram-lens"] is not None
    values = measurer.measure(content, measurer.content(content), None).values
    assert values["gram-lens"] is None and values["leak-lens"] is None and values["ssim"] == pytest.approx(1)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_pictures_have_finite_values(measurer, scene, level):
    flat = np.full_like(scene[0], level)
    for result, content, style in (
        (flat, flat, flat),
        (flat, *scene),
        (scene[0], flat, scene[1]),
        (scene[0], scene[0], flat),
    ):
        found = measurer.measure(result, measurer.content(content), measurer.style(style))
        assert all(np.isfinite(value) for value in found.values.values()), found.values
        assert np.isfinite(found.vector).all()


def test_sets_are_compared_by_their_moments(measurer, scene):
    generator = np.random.default_rng(0)
    styles = [np.clip(scene[1] * generator.uniform(0.3, 1, 3), 0, 1).astype(np.float32) for _ in range(5)]
    names = [str(index) for index in range(5)]

    def rows(results):
        pairs = zip(results, styles, strict=True)
        return [measurer.measure(one, measurer.content(one), measurer.style(style)) for one, style in pairs]

    own, other = rows(styles), rows([scene[0]] * 4 + [scene[0][::-1]])
    same, far = measurer.measure_set(own, names), measurer.measure_set(other, names)
    assert same["frechet-lens"] == pytest.approx(0, abs=1e-6) and far["frechet-lens"] > 10
    assert far["artfrechet-lens"] == pytest.approx(1 + far["frechet-lens"])  # its perceptual distances are 0
    nothing = {"frechet-lens": None, "artfrechet-lens": None}
    assert measurer.measure_set(own, ["one"] * 5) == nothing
    assert measurer.measure_set(own[:1], names[:1]) == nothing and measurer.measure_set([], []) == nothing
    assert measurer.measure_set([Measurement({})] * 3, names[:3]) == nothing


def test_files_that_metrics_need(tmp_path):
    for metrics, words in ((("lpips",), "--lpips-backbone"), (("clip-style",), "--clip")):
        with pytest.raises(UsageError, match=words):
            load_measurer(metrics, MetricFiles())
    with pytest.raises(WeightsError, match="nowhere"):
        load_measurer(("gram",), MetricFiles(encoder=str(tmp_path / "nowhere.pth")))
    assert load_measurer(("ssim",), MetricFiles(encoder="nowhere")).encoder is None


def test_cfsd_is_refused_over_another_network(network):
    with pytest.raises(UsageError, match="cfsd is defined over VGG-19, not over lens"):
        Measurer(("cfsd",), network=network)


def test_other_weights_are_another_identity(network):
    torch.manual_seed(1)
    other = type(network)(network.config).freeze()
    assert Measurer(("gram",), network=network).identity != Measurer(("gram",), network=other).identity
    assert Measurer(("gram",), network=network).identity == Measurer(("ssim", "gram"), network=network).identity


def test_pictures_too_small_for_a_metric_are_refused(measurer):
    small = np.zeros((6, 6, 3), np.float32)
    with pytest.raises(UsageError, match="11 pixels"):
        measurer.measure(small, measurer.content(small), None)


def test_plain_metrics_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np\n"
        "from impasto.evaluate.measuring import MetricFiles, load_measurer\n"
        "from impasto.errors import MissingExtraError\n"
        "m = load_measurer(('ssim', 'ms-ssim'), MetricFiles()); p = np.full((32, 32, 3), 0.5, np.float32)\n"
        "print(m.measure(p, m.content(p), None).values['ssim'])\n"
        "try: load_measurer(('gram', 'ssim'), MetricFiles())\n"
        "except MissingExtraError as error: print(error)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert float(lines[0]) == 1 and "pip install 'impasto[torch]'" in lines[1] and "--metrics ssim," in lines[1]

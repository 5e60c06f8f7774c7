import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import flops, harness, memory, pictures, speed  # noqa: E402
from benchmarks.harness import Case, Report, Target, Timing, measure  # noqa: E402
from impasto.engines import brush  # noqa: E402
from impasto.weights import load_card  # noqa: E402


class FakeClock:
    """Time that passes only when a case or a pause says so."""

    def __init__(self):
        self.now = 100.0
        self.slept = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept += seconds

    def case(self, name, *durations, log=None):
        remaining = list(durations)

        def call():
            self.now += remaining.pop(0)
            if log is not None:
                log.append(name)

        return Case(name, call)


def test_only_the_timed_calls_count():
    clock = FakeClock()
    case = clock.case("a", 50, 60, 9, 1, 9, 2, 9, 3)  # two warm-up calls, then a settling call before each timed one
    timing = measure([case], repeats=3, warmup=2, settle=1, pause=7, clock=clock, sleep=clock.sleep)["a"]
    assert timing.seconds == (1, 2, 3)
    assert clock.slept == 21


def test_cases_take_turns_in_a_rotating_order():
    clock, log = FakeClock(), []
    cases = [clock.case(name, *[1] * 9, log=log) for name in "abc"]
    measure(cases, repeats=3, warmup=0, settle=0, pause=0, clock=clock, sleep=clock.sleep)
    assert "".join(log) == "abc" + "bca" + "cab"


def test_the_median_and_spread():
    timing = Timing((5.0, 1.0, 2.0, 4.0, 3.0))
    assert timing.median == 3
    assert timing.quartiles == (2, 4)
    assert timing.spread == 2
    assert Timing((1.0, 2.0)).median == 1.5
    assert Timing((7.0,)).spread == 0
    assert Timing((1.0, 1.0, 1.0, 1.0, 99.0)).spread == 0  # one outlier moves neither


def test_measuring_nothing_is_refused():
    with pytest.raises(ValueError, match="repeats"):
        measure([], repeats=0)
    twins = [Case("a", lambda: None), Case("a", lambda: None)]
    with pytest.raises(ValueError, match="one name"):
        measure(twins, repeats=1)


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Target("at most", 80), 80, "met"),
        (Target("at most", 80), 80.1, "not met"),
        (Target("below", 400), 400, "not met"),
        (Target("at least", 3), 3, "met"),
        (Target("at least", 3), 2.99, "not met"),
        (Target("at least", 3), None, ""),
        (None, 1, ""),
    ],
)
def test_verdicts(target, value, verdict):
    report = Report("speed", {})
    report.add("x", value, "ms", target=target)
    assert report.rows[0].verdict == verdict


def test_a_quick_run_is_not_judged():
    report = Report("speed", {}, judged=False)
    report.add("x", 1, "ms", target=Target("at most", 2))
    assert report.rows[0].target is None and report.rows[0].verdict == ""


def test_targets_and_verdicts_stand_in_the_table(capsys, tmp_path):
    report = Report("speed", {}, busy=0.5)
    report.add("fast", 79.96, "ms", target=Target("at most", 80))
    report.add("slow", 3.5, "s", target=Target("at most", 3), note="a note")
    report.add("absent", None, "%", target=Target("at least", 60))
    harness.publish(report, tmp_path / "report.json")
    lines = capsys.readouterr().out.splitlines()
    fast, slow, absent = (next(line for line in lines if name in line) for name in ("fast", "slow", "absent"))
    assert "80.0 ms" in fast and "at most 80 ms" in fast and "met" in fast and "not met" not in fast
    assert "not met" in slow and "a note" in slow
    assert "not measured" in absent and "met" not in absent
    assert any("worthless" in line for line in lines)
    assert len(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]) == 3


def test_a_report_says_where_it_was_made():
    report = Report("speed", {"size": 64})
    report.add_timing("a", Timing((0.5, 1.0, 1.5)))
    content = json.loads(json.dumps(report.as_dict()))
    assert content["rows"][0]["value"] == 1000 and content["rows"][0]["spread"] == 500
    assert content["timings"]["a"]["seconds"] == [0.5, 1.0, 1.5]
    assert content["weights"] == load_card("brush").identity
    assert content["machine"]["cores"] >= 1 and content["machine"]["cpu"]
    assert {"date", "commit", "packages", "settings"} <= set(content)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (81.26, "81.3"), (1234.5, "1234")]
)
def test_figures_have_three_digits(value, text):
    assert harness.shown(value) == text


def test_the_stand_in_photograph_is_deterministic_and_varied():
    picture = pictures.photograph(300, 70)
    assert picture.shape == (300, 70, 3)
    assert (picture == pictures.photograph(300, 70)).all()
    assert picture.std() > 20


# -- operations ------------------------------------------------------------------------------------------------------


def counted_by_hooks(net, inputs):
    """Operations that really happen: twice the weights of a layer for each position of its output."""
    torch = pytest.importorskip("torch")
    total = 0

    def count(layer, _inputs, output):
        nonlocal total
        positions = output.shape[2] * output.shape[3] if output.ndim == 4 else output.shape[1]
        total += 2 * layer.weight.numel() * positions

    hooks = [
        module.register_forward_hook(count)
        for module in net.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    with torch.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize(("height", "width", "codes"), [(32, 48, 1), (64, 40, 3)])
def test_operations_are_those_of_the_layers_that_run(height, width, codes):
    torch = pytest.importorskip("torch")
    from impasto.nets.brush import BrushConfig, BrushNet

    net = BrushNet(BrushConfig(code=8, quarter=12, eighth=20, blocks_eighth=2, blocks_quarter=1)).eval()
    weights = torch.full((1, codes, 1, 1), 1 / codes)
    expected = counted_by_hooks(net, (torch.rand(1, 3, height, width), torch.randn(1, codes, 8), weights, weights))
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert flops.brush_flops(shapes, height, width, codes=codes) == expected


def test_the_embedded_weights_have_the_networks_shapes():
    pytest.importorskip("torch")
    from impasto.nets.brush import BrushModel
    from impasto.training.files import load_model
    from impasto.weights import weights_folder

    card = load_card("brush")
    model = load_model(weights_folder() / card.files["training"].name)
    assert isinstance(model, BrushModel)
    assert flops.embedded_shapes(card) == {name: tuple(value.shape) for name, value in model.net.state_dict().items()}


def test_operations_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="multiples of 8"):
        flops.brush_flops({}, 60, 64)
    with pytest.raises(ValueError, match="not known"):
        flops.brush_flops({"novel.weight": (3, 3, 1, 1)}, 64, 64)


# -- rivals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["fractional", "resize"])
def test_johnson_keeps_the_size_and_has_its_parameters(way):
    torch = pytest.importorskip("torch")
    from benchmarks.rivals import JohnsonNet

    net = JohnsonNet(upsampling=way).eval()
    with torch.no_grad():
        painted = net(torch.rand(1, 3, 32, 48))
    assert painted.shape == (1, 3, 32, 48)
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_679_235  # "1.68 M", as in reports of it


def test_microast_keeps_the_size_and_has_the_published_parameters():
    torch = pytest.importorskip("torch")
    from benchmarks.rivals import MicroAst

    net = MicroAst().eval()
    with torch.no_grad():
        first, second = (net(torch.rand(1, 3, 32, 48), net.encode_style(torch.rand(1, 3, 40, 24))) for _ in range(2))
    assert first.shape == (1, 3, 32, 48)
    assert torch.isfinite(first).all() and not torch.allclose(first, second)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 0.47


def test_microasts_filters_are_modulated_as_its_features_would_be():
    torch = pytest.importorskip("torch")
    from benchmarks.rivals import DualModulation, StyleSignal

    block = DualModulation(4).eval()
    generator = torch.Generator().manual_seed(0)
    signal = StyleSignal(*(torch.rand(1, 4, 1, 1, generator=generator) for _ in range(4)))
    features = torch.rand(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        modulated = DualModulation._filtered(block.first, features, signal)
        expected = block.first(features) * signal.filter_gain + signal.filter_bias
    assert torch.allclose(modulated, expected, atol=1e-6)


# -- seams -----------------------------------------------------------------------------------------------------------


def test_a_missing_halo_would_be_noticed(monkeypatch):
    code = next(iter(brush.load().presets().values()))
    monkeypatch.setattr(brush.Brush, "presets", lambda _self: {code.name: code})
    assert memory.seam_error(304)[0] <= 2
    monkeypatch.setattr(brush, "HALO", 0)
    assert memory.seam_error(304)[0] > 2


def test_seams_need_tiles_and_one_set_of_statistics():
    for side in (256, 769):
        with pytest.raises(ValueError, match="side"):
            memory.seam_error(side)


def test_a_folder_is_weighed_by_its_blocks(tmp_path):
    before = memory.folder_bytes(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "file")
    assert 100_000 <= memory.folder_bytes(tmp_path) - before < 130_000


# -- whole runs ------------------------------------------------------------------------------------------------------


def test_options_are_checked_before_anything_is_measured(tmp_path, capsys):
    for wrong in (["--repeats", "0"], ["--json", str(tmp_path / "no" / "x.json")], ["--size", "30"]):
        with pytest.raises(SystemExit):
            speed.main([*wrong, "--quick"])
    assert "does not exist" in capsys.readouterr().err


def run_module(name, target, *options):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(target), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(target.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_speed_runs(tmp_path):
    pytest.importorskip("torch")
    printed, content = run_module("speed", tmp_path / "speed.json", "--size", "64")
    rows = {row["name"]: row for row in content["rows"]}
    for name in (speed.PASS, speed.RENDER, speed.LARGE, speed.STYLIZE, speed.HELP, speed.MICROAST, speed.JOHNSON):
        assert rows[name]["value"] > 0
        assert name in printed
    ratio = content["timings"][speed.JOHNSON]["median"] / content["timings"][speed.PASS]["median"]
    assert rows["Johnson 2016 / brush"]["value"] == pytest.approx(ratio)
    assert all(row["verdict"] == "" for row in content["rows"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory of single processes is counted on Unix only")
def test_memory_runs(tmp_path):
    _, content = run_module("memory", tmp_path / "memory.json", "--huge")
    rows = {row["name"]: row["value"] for row in content["rows"]}
    assert rows["impasto stylize, 64x64"] > rows["Python with impasto imported"] * 0.8
    assert rows["impasto stylize, 400x300"] > 0
    assert 0 <= rows["largest difference at seams"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs", "options", "rows"),
    [
        (
            "gatys",
            "torch",
            ("--skip-memory",),
            ("plain / gatys, iteration at full size", "plain / gatys, iteration mean of a run"),
        ),
        ("texture", "numba", (), ("quilting", "Efros-Leung", "engine quilt", "NumPy / Efros-Leung")),
        ("evaluate", "torch", (), ("time of a pair, many over few",)),
    ],
)
def test_the_others_run(tmp_path, name, needs, options, rows):
    pytest.importorskip(needs)
    _, content = run_module(name, tmp_path / f"{name}.json", *options)
    found = {row["name"]: row["value"] for row in content["rows"]}
    assert all(found[row] > 0 for row in rows)
    assert all(row["verdict"] == "" for row in content["rows"])


@pytest.mark.slow
def test_diffusion_runs(tmp_path):
    pytest.importorskip("torch")
    printed, content = run_module("diffusion", tmp_path / "diffusion.json")
    rows = {row["name"]: row for row in content["rows"]}
    assert rows["paint"]["value"] > 0 and "paint" in printed
    assert rows["12 dpm-solver++ steps from 4 ddim"]["value"] > 0 and rows["another seed from 4 ddim"]["value"] > 0
    assert all(row["verdict"] == "" for row in content["rows"])

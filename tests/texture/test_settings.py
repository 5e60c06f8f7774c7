"""Settings of texture synthesis: where they refuse, and that nothing heavy stands behind them."""

import subprocess
import sys

import pytest

from impasto.errors import UnknownNameError, UsageError
from impasto.texture.settings import (
    METHODS,
    EfrosLeungSettings,
    GuidedSettings,
    PortillaSimoncelliSettings,
    QuiltingSettings,
    TransferSettings,
    settings_type,
)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (QuiltingSettings, {"block": 3}, "block must lie between 4 and 512"),
        (QuiltingSettings, {"overlap": 0.6}, "overlap must lie between"),
        (QuiltingSettings, {"attempts": 1.5}, "attempts must be a whole number"),
        (TransferSettings, {"passes": 0}, "passes must lie between 1 and 8"),
        (EfrosLeungSettings, {"window": 10}, "window must be odd"),
        (EfrosLeungSettings, {"seed_place": "corner"}, "seed_place must be one of random, centre"),
        (GuidedSettings, {"patch": 4}, "patch must be odd"),
        (GuidedSettings, {"tones": 2.0}, "tones must lie between 0 and 1"),
        (PortillaSimoncelliSettings, {"neighborhood": 8}, "neighborhood must be odd"),
    ],
)
def test_wrong_values_are_refused_by_name(kind, values, words):
    with pytest.raises(UsageError, match=words):
        kind(**values)


def test_every_method_has_settings():
    assert len({settings_type(method) for method in (*METHODS, "transfer")}) == len(METHODS) + 1
    with pytest.raises(UnknownNameError, match="did you mean quilting"):
        settings_type("quiltin")


def test_the_package_imports_nothing_heavy():
    code = (
        "import sys, impasto.texture, impasto.engines.quilt_options\n"
        "heavy = {'torch', 'scipy', 'numba', 'plenoptic', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

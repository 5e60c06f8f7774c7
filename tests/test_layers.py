"""What the core install leaves alone, seen in fresh processes."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnxruntime", "numpy", "PIL", "tifffile", "scipy", "skimage")

PAINT = """
import json, sys, pathlib
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise AssertionError(f"{{name}} was imported")
sys.meta_path.insert(0, Blocked())
import impasto
result = impasto.stylize({photo!r}, {style!r}, mask={photo!r}, engine={engine!r})
result.save({target!r})
print(json.dumps([result.stored.shape[0], sorted(sys.modules)]))
"""


def python(code, environment):
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("engine", "style"), [("brush", "ukiyo-e"), ("local", "ukiyo-e"), ("local", "photo.png")])
def test_painting_imports_nothing_that_the_core_does_not_have(engine, style, photo, command_environment):
    blocked = {"torch", "safetensors", "accelerate", "onnx", "scipy", "skimage", "tensorboard", "typer", "rich"}
    source = str(photo) if style == photo.name else style
    painted = str(photo.with_name("painted.png"))
    code = PAINT.format(blocked=blocked, photo=str(photo), style=source, engine=engine, target=painted)
    finished = python(code, command_environment)
    assert finished.returncode == 0, finished.stderr
    height, modules = json.loads(finished.stdout)
    assert height == 64 and photo.with_name("painted.png").is_file()
    assert not blocked & {name.partition(".")[0] for name in modules}


def test_importing_the_package_loads_nothing_heavy(command_environment):
    finished = python(
        f"import sys, impasto; sys.exit(str([m for m in {HEAVY} if m in sys.modules]))", command_environment
    )
    assert finished.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["stylize", "--help"], ["batch", "--help"]])
def test_help_loads_nothing_heavy(arguments, command_environment):
    code = (
        f"import sys; sys.argv = ['impasto', *{arguments}]\n"
        "import atexit\n"
        f"atexit.register(lambda: print('loaded', [m for m in {HEAVY} if m in sys.modules]))\n"
        "from impasto.cli import main; main()"
    )
    finished = python(code, command_environment)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().endswith("loaded []")

"""Masks, polygons and annotations work with the core install alone; asking for help loads nothing heavy."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

PAINT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
import impasto
from impasto.errors import MissingExtraError
result = impasto.stylize({photo!r}, "engraving", regions={regions!r}, feather=2)
assert result.stored.shape[:2] == (64, 80)
for extra in ("box:10,10,40,40=ukiyo-e", "segment:1=ukiyo-e", "faces=keep", "foreground=keep"):
    try:
        impasto.stylize({photo!r}, "engraving", regions=[extra])
    except MissingExtraError as error:
        assert "impasto[regions]" in str(error)
    else:
        raise AssertionError(extra)
print("done")
"""
BLOCKED = {"torch", "safetensors", "scipy", "skimage", "cv2", "transformers", "numba", "typer", "rich"}


def test_what_the_core_install_can_do(photo, tmp_path, command_environment):
    Image.fromarray(np.pad(np.full((32, 80), 255, np.uint8), ((0, 32), (0, 0)))).save(tmp_path / "top.png")
    shapes = [{"label": "leaf", "shape_type": "circle", "points": [[60, 50], [66, 50]]}]
    (tmp_path / "notes.json").write_text(json.dumps({"shapes": shapes, "imageHeight": 64, "imageWidth": 80}))
    regions = [
        f"{tmp_path / 'top.png'}=ukiyo-e:0.8",
        f"labelme:{tmp_path / 'notes.json'}#leaf=keep",
        f"polygon:0,63/20,40/20,63={photo}@rectangle:10,10,60,60",
    ]
    code = PAINT.format(blocked=BLOCKED, photo=str(photo), regions=regions)
    finished = subprocess.run(
        [sys.executable, "-c", code], env=command_environment, capture_output=True, text=True, timeout=120
    )
    assert finished.stdout.strip() == "done", finished.stderr


def test_help_of_segment_loads_nothing_heavy(command_environment):
    code = (
        "import sys; sys.argv = ['impasto', 'segment', '--help']\n"
        "import atexit\n"
        "heavy = ('numpy', 'PIL', 'onnxruntime', 'torch', 'cv2', 'skimage', 'scipy', 'transformers')\n"
        "atexit.register(lambda: print('loaded', [m for m in heavy if m in sys.modules]))\n"
        "from impasto.cli import main; main()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], env=command_environment, capture_output=True, text=True, timeout=120
    )
    assert finished.stdout.strip().endswith("loaded []"), finished.stderr

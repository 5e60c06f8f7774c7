"""The pictures of the README and the docs, made by the shipped weights from the photographs that scikit-image carries.

python scripts/gallery.py docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data

import impasto
from demo import paint_style
from impasto.config import StylizeConfig
from impasto.image import Picture, write_picture
from impasto.sheet import contact_sheet, label_grid
from impasto.types import FloatArray

SHOWN = [
    "ukiyo-e",
    "wheatfield",
    "ink-wash",
    "divisionism",
    "gold-leaf",
    "tarot",
    "nocturne",
    "pink-hills",
    "charcoal",
    "irises",
    "cubism",
]


def main(folder: Path) -> None:
    """Write every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    stylizer = impasto.Stylizer.load("brush")
    astronaut, cat = (impasto.read_picture(array) for array in (skimage.data.astronaut(), skimage.data.chelsea()))
    write_picture(folder / "sheet.jpg", contact_sheet(stylizer, astronaut, SHOWN), quality=90)
    everything = contact_sheet(stylizer, cat, list(stylizer.engine.presets()), width=320)
    write_picture(folder / "presets.jpg", everything, quality=88)
    write_picture(folder / "field.jpg", field_sheet(stylizer, astronaut), quality=90)


def field_sheet(stylizer: impasto.Stylizer, photo: Picture) -> FloatArray:
    """What a field can say: a picture's style, strengths, mixtures, a ramp, two regions, colours kept."""
    own = stylizer.encode(paint_style(), name="a style picture")
    first, second = stylizer.encode("irises"), stylizer.encode("expressionism")
    ramp = np.broadcast_to(np.linspace(0, 1, photo.width, dtype=np.float32), photo.size)
    split = np.clip((ramp - 0.45) / 0.1, 0, 1)
    field = impasto.StyleField
    fields = {
        "style of a picture": field.constant(own),
        "strength 0.33": field.constant(first, 0.33),
        "strength 0.66": field.constant(first, 0.66),
        "irises": field.constant(first),
        "irises 0.5 + expressionism 0.5": field.mixed([first, second]),
        "a ramp from nothing to irises": field.constant(first).times(ramp),
        "irises left, expressionism right": field.constant(first).times(1 - split)
        + field.constant(second).times(split),
    }
    cells = [(label, stylizer.render(photo, one).pixels) for label, one in fields.items()]
    kept = stylizer.render(photo, field.constant(second), StylizeConfig(preserve_color="luminance"))
    return label_grid([*cells, ("expressionism, colours kept", kept.pixels)], columns=4)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))

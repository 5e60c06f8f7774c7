"""The pictures of the README and the docs, made by the shipped weights from the photographs that scikit-image carries.

python scripts/gallery.py docs/images
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import impasto
from demo import paint_sheet, paint_style
from drawn_styles import draw_glass, draw_ink
from impasto.config import StylizeConfig
from impasto.image import Picture, write_picture
from impasto.image.color import resize
from impasto.sheet import contact_sheet, label_grid
from impasto.types import FloatArray


def main(folder: Path) -> None:
    """Write every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    stylizer = impasto.Stylizer.load("brush")
    astronaut, cat = (impasto.read_picture(array) for array in (skimage.data.astronaut(), skimage.data.chelsea()))
    write_picture(folder / "sheet.jpg", paint_sheet(cat, paint_style()), quality=90)
    everything = contact_sheet(stylizer, cat, list(stylizer.engine.presets()), width=320)
    write_picture(folder / "presets.jpg", everything, quality=88)
    local = impasto.Stylizer.load("local")
    everything = contact_sheet(local, cat, list(local.engine.presets()), width=320)
    write_picture(folder / "presets-local.jpg", everything, quality=88)
    write_picture(folder / "field.jpg", field_sheet(stylizer, astronaut), quality=90)
    write_picture(folder / "quilt-failures.jpg", quilt_failures(astronaut), quality=88)
    square = Image.fromarray(np.ascontiguousarray(skimage.data.chelsea()[:, 75:375])).resize((512, 512))
    write_picture(folder / "local.jpg", local_sheet([astronaut, impasto.read_picture(square)]), quality=88)
    write_picture(folder / "johnson.jpg", johnson_sheet([astronaut, impasto.read_picture(square)]), quality=88)
    write_picture(folder / "diffusion.jpg", diffusion_sheet(cat), quality=88)
    diffusion = impasto.Stylizer.load("diffusion")
    everything = contact_sheet(diffusion, cat, list(diffusion.engine.presets()), width=320)
    write_picture(folder / "presets-diffusion.jpg", everything, quality=88)
    write_picture(
        folder / "regions-engines.jpg", regions_by_engine(impasto.read_picture(skimage.data.coffee())), quality=90
    )


def local_sheet(photos: list[Picture]) -> FloatArray:
    """Three drawn styles, each beside what ``local`` makes of the photographs with it."""
    stylizer = impasto.Stylizer.load("local")
    cells = []
    for name, style in (("stained glass", draw_glass()), ("strokes", paint_style()), ("pen and ink", draw_ink())):
        shown = np.asarray(style.resize((photos[0].width, photos[0].height)))
        cells.append((f"style: {name}", impasto.read_picture(shown).pixels))
        code = stylizer.encode(style, name=name)
        cells += [("", stylizer.render(photo, impasto.StyleField.constant(code)).pixels) for photo in photos]
    return label_grid(cells, columns=1 + len(photos))


def johnson_sheet(photos: list[Picture]) -> FloatArray:
    """Each photograph, then what the shipped networks of ``johnson`` make of it."""
    stylizer = impasto.Stylizer.load("johnson")
    styles = {name: stylizer.encode(name) for name in stylizer.engine.presets()}
    cells = []
    for photo in photos:
        cells.append(("", photo.pixels))
        for name, code in styles.items():
            cells.append((name, stylizer.render(photo, impasto.StyleField.constant(code)).pixels))
    return label_grid(cells, columns=1 + len(styles))


def diffusion_sheet(photo: Picture) -> FloatArray:
    """What each control of ``diffusion`` does: strength, seeds, guidance, temperature, start, light, steps, a field."""
    stylizer = impasto.Stylizer.load("diffusion")
    one, two = stylizer.encode("divisionism"), stylizer.encode("ukiyo-e")
    field, settings = impasto.StyleField, StylizeConfig
    ramp = np.broadcast_to(np.linspace(0, 1, photo.width, dtype=np.float32), photo.size)
    split = np.clip((ramp - 0.45) / 0.1, 0, 1)
    cells = [(f"strength {part:g}", field.constant(one, part), settings()) for part in (0, 0.25, 0.5, 0.75, 1)]
    rows: list[tuple[str, dict[str, list[float]]]] = [
        ("guidance", {"guidance": [1.0, 2.0, 3.0]}),
        ("temperature", {"temperature": [0.0, 0.7, 1.0]}),
        ("start", {"start": [0.3, 0.5, 0.7]}),
        ("light", {"light": [0.0, 0.5, 1.5]}),
        ("steps", {"steps": [2, 8, 40]}),
    ]
    for name, options in rows:
        cells += [
            (f"{name} {value:g}", field.constant(one), settings(options={name: value})) for value in options[name]
        ]
    cells += [
        ("another seed, temperature 1", field.constant(one), settings(seed=1, options={"temperature": 1.0})),
        ("divisionism 0.5 + ukiyo-e 0.5", field.mixed([one, two]), settings()),
        (
            "divisionism left, ukiyo-e right",
            field.constant(one).times(1 - split) + field.constant(two).times(split),
            settings(),
        ),
        ("colours kept", field.constant(one), settings(preserve_color="luminance")),
        ("ukiyo-e", field.constant(two), settings()),
    ]
    painted = [(label, stylizer.render(photo, layers, config).pixels) for label, layers, config in cells]
    return label_grid(painted, columns=5)


def regions_by_engine(photo: Picture) -> FloatArray:
    """One call through four engines: a style within a polygon, another one outside; below, a part of the border."""
    rows, columns = slice(200, 300), slice(40, 190)  # of 400 x 600: the saucer's edge and the table
    plate = "/".join(  # an ellipse around cup and saucer
        f"{278 + 204 * np.cos(turn):.0f},{204 + 184 * np.sin(turn):.0f}" for turn in np.linspace(0, 2 * np.pi, 40)
    )
    above, below = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = {"glass": Path(folder) / "glass.png", "strokes": Path(folder) / "strokes.png"}
        draw_glass().save(files["glass"])
        paint_style().save(files["strokes"])
        regions = [f"rectangle:0%,0%,100%,100%={files['glass']}", f"polygon:{plate}={files['strokes']}"]
        for engine in ("brush", "adain", "local", "gatys"):
            painted = impasto.stylize(photo.pixels, regions=regions, feather=4, engine=engine).pixels
            above.append((engine, painted))
            detail = np.repeat(np.repeat(painted[rows, columns], 4, axis=0), 4, axis=1)
            below.append(("a part of it, four times as large", detail))
    return label_grid([*above, *below], columns=len(above))


def field_sheet(stylizer: impasto.Stylizer, photo: Picture) -> FloatArray:
    """What a field can say: a picture's style, strengths, mixtures, a ramp, two regions, colours kept."""
    own = stylizer.encode(paint_style(), name="a style picture")
    first, second = stylizer.encode("rain-print"), stylizer.encode("divisionism")
    ramp = np.broadcast_to(np.linspace(0, 1, photo.width, dtype=np.float32), photo.size)
    split = np.clip((ramp - 0.45) / 0.1, 0, 1)
    field = impasto.StyleField
    fields = {
        "style of a picture": field.constant(own),
        "strength 0.33": field.constant(first, 0.33),
        "strength 0.66": field.constant(first, 0.66),
        "rain-print": field.constant(first),
        "rain-print 0.5 + divisionism 0.5": field.mixed([first, second]),
        "a ramp from nothing to rain-print": field.constant(first).times(ramp),
        "rain-print left, divisionism right": field.constant(first).times(1 - split)
        + field.constant(second).times(split),
    }
    cells = [(label, stylizer.render(photo, one).pixels) for label, one in fields.items()]
    kept = stylizer.render(photo, field.constant(second), StylizeConfig(preserve_color="luminance"))
    return label_grid([*cells, ("divisionism, colours kept", kept.pixels)], columns=4)


def quilt_failures(photo: Picture, side: int = 256) -> FloatArray:
    """What goes wrong with whole patches: words of a page turn up in a picture; two tones leave none between."""
    stylizer = impasto.Stylizer.load("quilt")
    small = np.clip(resize(photo.pixels, (side, side)), 0, 1)
    page = np.repeat(skimage.data.page()[:191, :191, None], 3, axis=2).astype(np.float32) / 255
    printed = np.clip(resize(page, (side, side)), 0, 1)
    light = resize(printed, (4, 4))  # of the page, which lies half in shadow
    two_tones = (printed > resize(light, (side, side)) - 0.08).astype(np.float32)

    def painted(style: FloatArray, **options: float) -> FloatArray:
        code = stylizer.encode(style, name="a page")
        return stylizer.render(small, impasto.StyleField.constant(code), StylizeConfig(options=options)).pixels

    cells = [
        ("a printed page", printed),
        ("its words turn up", painted(printed)),
        ("structure=3, detail=3", painted(printed, structure=3.0, detail=3.0)),
        ("the page in two tones", two_tones),
        ("no halftones for the face", painted(two_tones)),
        ("structure=3, detail=3", painted(two_tones, structure=3.0, detail=3.0)),
    ]
    return label_grid(cells, columns=3)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))

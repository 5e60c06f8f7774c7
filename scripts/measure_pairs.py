"""Content and style distances of paintings to their pairs, as a teacher network sees them, with two controls.

    python scripts/measure_pairs.py --content DIR --style DIR --teacher FILE ours=DIR rival=DIR

Paintings are named CONTENT_STYLE.jpg. The controls are the identity (the photograph unchanged: perfect content, no
style) and the style picture itself (the reverse); a method is as good as what it gains between them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impasto.losses.content import instance_normalised, normalised_content_loss
from impasto.losses.statistics import Statistics, feature_statistics, style_distance
from impasto.nets.teachers import Teacher
from impasto.training.files import load_teacher


def read(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """``[1, 3, H, W]`` in ``[0, 1]``; ``size`` is (width, height)."""
    image = Image.open(path).convert("RGB")
    if size is not None:
        image = image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


class Ruler:
    """Distances by one teacher, channels scaled by their loudness over the style pictures."""

    def __init__(self, teacher: Teacher, styles: list[Tensor]) -> None:
        self.teacher = teacher
        powers = [{name: found.deviation.square()[0] for name, found in self.statistics(s).items()} for s in styles]
        self.scales = {name: torch.stack([p[name] for p in powers]).mean(0).sqrt() + 1e-3 for name in powers[0]}

    def statistics(self, picture: Tensor) -> dict[str, Statistics]:
        """Unscaled statistics of the style layers."""
        maps = self.teacher(picture, self.teacher.spec.style_layers)
        return {name: feature_statistics(features) for name, features in maps.items()}

    def style(self, picture: Tensor, style: Tensor) -> float:
        """Mean relative style distance over the layers; 0 for the same statistics."""
        layers = self.teacher.spec.style_layers
        found, wanted = (self.teacher(p, layers) for p in (picture, style))
        distances = [
            style_distance(
                feature_statistics(found[name], self.scales[name]), feature_statistics(wanted[name], self.scales[name])
            )
            for name in layers
        ]
        return float(torch.stack(distances).mean())

    def content(self, picture: Tensor, content: Tensor) -> float:
        """Mean squared difference of instance-normalised content features; 2 for unrelated pictures."""
        layers = self.teacher.spec.content_layers
        found, wanted = (self.teacher(p, layers) for p in (picture, content))
        return float(
            np.mean([float(normalised_content_loss(found[n], instance_normalised(wanted[n]))) for n in layers])
        )


def main() -> None:
    """Print a table of medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, action="append", required=True)
    parser.add_argument("results", nargs="+", help="NAME=FOLDER")
    options = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in options.results)}
    names = sorted(set.intersection(*({path.name for path in folder.glob("*_*.jpg")} for folder in folders.values())))
    table: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        for teacher_file in options.teacher:
            teacher = load_teacher(teacher_file)
            used = sorted({name.removesuffix(".jpg").split("_")[1] for name in names})
            styles = {style: read(options.style / f"{style}.jpg") for style in used}
            ruler = Ruler(teacher, list(styles.values()))
            rows: dict[str, list[tuple[float, float]]] = {}
            for name in names:
                content_name, style_name = name.removesuffix(".jpg").split("_")
                paintings = {method: read(folder / name) for method, folder in folders.items()}
                height, width = next(iter(paintings.values())).shape[2:]
                content = read(options.content / f"{content_name}.jpg", (width, height))
                style = styles[style_name]
                resized = torch.nn.functional.interpolate(style, size=(height, width), mode="bilinear", antialias=True)
                for method, picture in {**paintings, "identity": content, "style itself": resized}.items():
                    if picture.shape[2:] != content.shape[2:]:
                        picture = torch.nn.functional.interpolate(
                            picture, size=(height, width), mode="bilinear", antialias=True
                        )
                    rows.setdefault(method, []).append((ruler.content(picture, content), ruler.style(picture, style)))
            for method, values in rows.items():
                content_median, style_median = (float(v) for v in np.median(np.array(values), axis=0))
                entry = table.setdefault(method, {})
                entry[f"content {teacher.spec.name}"] = round(content_median, 3)
                entry[f"style {teacher.spec.name}"] = round(style_median, 3)
    print(json.dumps({"pairs": len(names), "medians": table}, indent=2))


if __name__ == "__main__":
    main()

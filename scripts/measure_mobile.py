"""What the engine local loses on a phone: local-mobile against local, on pictures neither was trained on.

    python scripts/measure_mobile.py --content DIR --style DIR [--judge squeezenet1_0.safetensors] [--pairs 48]

Prints, in TOML for the card, how much of each layer of lens the small encoder explains (1 - error / variance), and over
pairs of photographs and artworks, for both engines: the distance of style statistics and of content features, seen
through lens or another judge, and seconds a picture.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impasto.config import StylizeConfig
from impasto.engines.local import Local, load, load_mobile
from impasto.field import StyleField
from impasto.image import read_picture
from impasto.losses.content import instance_normalised, normalised_content_loss
from impasto.losses.statistics import feature_statistics, style_distance
from impasto.nets.encoders import load_encoder
from impasto.nets.local import LAYERS, split_local
from impasto.nets.mobile import build_mobile
from impasto.nets.teachers import Teacher
from impasto.types import FloatArray
from impasto.weights import load_card, weights_folder
from impasto.weights.files import read_tensors

SIDE = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--judge", default="lens")
    parser.add_argument("--pairs", type=int, default=48)
    given = parser.parse_args()
    contents, styles = (_pictures(folder) for folder in (given.content, given.style))
    judge = load_encoder(given.judge)
    engines = [load(), load_mobile()]
    with torch.inference_mode():
        print("[encoder]")
        for layer, value in _explained([*contents, *styles]).items():
            print(f"{layer} = {value:.3f}")
        for engine in engines:
            print(f"\n[{engine.name.replace('-', '_')}]")
            for name, value in _measured(engine, judge, contents, styles, given.pairs).items():
                print(f"{name} = {value:.4f}")


def _pictures(folder: Path) -> list[FloatArray]:
    """All pictures of a folder, their short side at 384 pixels, sides cut to multiples of 8."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        image = Image.fromarray(np.round(255 * read_picture(path).pixels).astype(np.uint8))
        factor = SIDE / min(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
        pixels = np.asarray(image, np.float32)[: image.height // 8 * 8, : image.width // 8 * 8] / 255
        found.append(pixels[:, : 2 * SIDE])
    return found


def _batch(picture: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))


def _explained(pictures: list[FloatArray]) -> dict[str, float]:
    """Explained variance of each layer, mean over its channels."""
    card = load_card("local-mobile")
    state, texts = read_tensors(weights_folder() / card.file("training").name, sha256=card.file("training").sha256)
    large, small = load_encoder(), build_mobile(split_local(state, texts)[1], texts)
    errors: dict[str, Tensor] = {}
    powers: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
    for picture in pictures:
        wanted, found = large(_batch(picture), LAYERS), small(_batch(picture), LAYERS)
        for name in LAYERS:
            error = (wanted[name] - found[name]).square().mean((0, 2, 3)) / len(pictures)
            errors[name] = errors.get(name, torch.zeros_like(error)) + error
            first, second = wanted[name].mean((0, 2, 3)), wanted[name].square().mean((0, 2, 3))
            powers[name].append(torch.stack([first, second]))
    result = {}
    for name in LAYERS:
        first, second = torch.stack(powers[name]).mean(0)
        variance = (second - first.square()).clamp_min(1e-8)
        result[name] = float((1 - errors[name] / variance).clamp_min(-1).mean())
    return result


def _measured(
    engine: Local, judge: Teacher, contents: list[FloatArray], styles: list[FloatArray], pairs: int
) -> dict[str, float]:
    """Means over pairs."""
    layers = tuple(dict.fromkeys((*judge.spec.style_layers, *judge.spec.content_layers)))
    sums = {"style": 0.0, "content": 0.0, "seconds": 0.0}
    for index in range(pairs):
        content, style = contents[index % len(contents)], styles[(5 * index + index // len(contents)) % len(styles)]
        code = engine.encode(style, name="style", config=StylizeConfig())
        begun = time.perf_counter()
        painted = engine.render(content, StyleField.constant(code), StylizeConfig())
        sums["seconds"] += time.perf_counter() - begun
        seen, wanted, own = (judge(_batch(picture), layers) for picture in (painted, style, content))
        distances = [
            style_distance(feature_statistics(seen[name]), feature_statistics(wanted[name]))
            for name in judge.spec.style_layers
        ]
        sums["style"] += float(torch.stack(distances).mean())
        layer = judge.spec.content_layers[0]
        sums["content"] += float(normalised_content_loss(seen[layer], instance_normalised(own[layer])))
    return {name: value / pairs for name, value in sums.items()}


if __name__ == "__main__":
    main()

"""How ``johnson`` is trained: one style, many photographs, perceptual losses (Johnson et al. 2016, section 3).

    L = c |norm(phi_j(y)) - norm(phi_j(x))|^2 + s sum_l D(phi_l(y), phi_l(style)) + v TV(y) + ...

with ``phi`` the layers of a frozen encoder, ``x`` the photograph and ``y`` its painting. ``D`` compares means,
deviations and centred Gram matrices (:func:`impasto.losses.statistics.style_distance`), at the painting's own size and
once more at half of it, where longer strokes fit into what the encoder sees. Those of the style are taken once.

Differs from the paper: content features are normalised, so that colours and contrast belong to the style alone; the
distribution of colours has a term of its own (sliced Wasserstein distance), because a thousand steps are too few for
Gram matrices to find it; a photograph that is moved and noisy must be painted alike (for films); values outside of
``[0, 1]`` cost something instead of being squashed. In a short first stage, without any encoder, the network learns to
give the photograph back: it then has what it needs to keep, and the style comes in much sooner.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import OutputError, UsageError
from impasto.image import read_picture, resize
from impasto.losses.content import instance_normalised, normalised_content_loss
from impasto.losses.regularity import range_loss, shift_noise, stability_loss, total_variation
from impasto.losses.statistics import Statistics, feature_statistics, style_distance
from impasto.losses.wasserstein import random_directions, sliced_wasserstein
from impasto.nets.johnson import JohnsonNet
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import quantised
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.loop import Batch
from impasto.training.recipe import JohnsonRecipe, JohnsonWeights

__all__ = ["JohnsonTask", "Judge", "StylePicture", "content_layer", "style_facts", "to_float"]

PHASES = 8  # the painting is seen from this many offsets in each direction, so that no encoder's grid shows in it
SHEET_SIDE = 256
CALIBRATION = 16  # photographs by which the channels of an encoder are weighed
LONGEST_STYLE = 3  # longer side of a style, in short sides; more is cut off
CURVE_POINTS = 12  # of the training curve in a card


@dataclass(frozen=True)
class StylePicture:
    """The picture whose style is learned.

    Attributes:
        pixels: ``[h, w, 3]`` uint8, at the size at which its strokes are learned.
        file: its file's name.
        sha256: of the file.
        size: height and width in the file.
    """

    pixels: PixelArray
    file: str
    sha256: str
    size: tuple[int, int]

    @classmethod
    def read(cls, path: Path, short_side: int) -> StylePicture:
        """Read a picture and bring it to ``short_side``.

        Raises:
            ImageError: it cannot be read.
        """
        picture = read_picture(path)
        longest = LONGEST_STYLE * min(picture.size)
        pixels = picture.pixels[:longest, :longest]
        factor = short_side / min(picture.size)
        size = (round(pixels.shape[0] * factor), round(pixels.shape[1] * factor))
        small = np.asarray(quantised(resize(pixels, size), np.uint8))
        return cls(small, path.name, hashlib.sha256(path.read_bytes()).hexdigest(), picture.size)

    def claim(self, out: Path) -> None:
        """Leave the picture in a run's folder as ``style.png``.

        Raises:
            UsageError: the folder holds the training of another style.
            OutputError: the folder cannot be written.
        """
        kept = out / "style.json"
        try:
            if kept.is_file() and json.loads(kept.read_text(encoding="utf-8"))["sha256"] != self.sha256:
                raise UsageError(
                    f"'{out}' holds the training of another style picture; choose another --out, or go on with that one"
                )
            out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.pixels).save(out / "style.png")
            kept.write_text(json.dumps({"file": self.file, "sha256": self.sha256}) + "\n", encoding="utf-8")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"'{kept}' is damaged; delete it, or choose another --out") from error
        except OSError as error:
            raise OutputError(f"cannot write to the folder '{out}': {error.strerror or error}") from error


@dataclass(frozen=True)
class Judge:
    """A frozen encoder with what it sees in the style.

    Attributes:
        teacher: the encoder.
        scales: of each style layer, how loud its channels are, ``[C]``.
        fine: statistics of the style.
        coarse: those of the style at half size.
    """

    teacher: Teacher
    scales: dict[str, Tensor]
    fine: dict[str, Statistics]
    coarse: dict[str, Statistics]


class JohnsonTask:
    """The :class:`~impasto.training.loop.Task` of one style.

    Args:
        recipe: everything that decides the training.
        contents: photographs.
        style: the style picture ``[h, w, 3]`` uint8, at the size at which its strokes are to be learned.
        teachers: encoders that judge; their terms are averaged.
        shown: photographs for the sample sheets, with sides that are multiples of 4; by default crops of ``contents``.
    """

    def __init__(
        self,
        recipe: JohnsonRecipe,
        contents: PictureSet,
        style: PixelArray,
        teachers: Sequence[Teacher],
        shown: Sequence[PixelArray] = (),
    ) -> None:
        self.recipe = recipe
        self.contents = contents
        self.style = style
        self.teachers = list(teachers)
        self.shown = list(shown)
        self.steps = recipe.steps
        self.judges: list[Judge] = []
        self.palette = torch.empty(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = JohnsonNet(recipe.network)

    def batch(self, step: int, index: int) -> Batch:
        """Photographs ``[B, 3, size, size]``, uint8."""
        stage, data = self.recipe.stage_at(step), self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        rule = CropRule(stage.size, data.content_smallest, data.content_largest)
        return {"content": self.contents.crops(rng, stage.batch, rule)}

    def prepare(self, device: torch.device) -> None:
        """Move the encoders over and take the style's statistics."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        crops = self.contents.crops(rng, CALIBRATION, CropRule(self.recipe.stages[0].size, 0.5, 1.0))
        photographs = to_float(torch.from_numpy(crops).to(device))
        style = to_float(torch.from_numpy(self.style.transpose(2, 0, 1).copy())[None].to(device))
        self.palette = functional.avg_pool2d(style, 4)
        self.judges = []
        for teacher in self.teachers:
            teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            layers = teacher.spec.style_layers
            with torch.no_grad():
                plain = {name: feature_statistics(maps.float()) for name, maps in teacher(style, layers).items()}
                power = {name: found.deviation.square().mean(0) for name, found in plain.items()}
                for part in torch.split(photographs, 4):
                    for name, maps in teacher(part, layers).items():
                        power[name] = power[name] + feature_statistics(maps.float()).deviation.square().mean(0) / 4
                scales = {name: _channel_scale(value) for name, value in power.items()}
                fine = _statistics(teacher, teacher(style, layers), scales)
                coarse = _statistics(teacher, teacher(functional.avg_pool2d(style, 2), layers), scales)
            self.judges.append(Judge(teacher, scales, fine, coarse))

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The weighted terms of :class:`~impasto.training.recipe.JohnsonWeights`."""
        shown = {name: to_float(pixels) for name, pixels in batch.items()}
        return self.terms(model, shown, model(shown["content"])[0].float(), step)

    def terms(self, model: nn.Module, shown: Mapping[str, Tensor], painted: Tensor, step: int) -> dict[str, Tensor]:
        """The terms of :meth:`losses` for a painting.

        Args:
            model: paints, once more where a term asks for it.
            shown: the batch as float32 in ``[0, 1]``.
            painted: what the model made of ``shown["content"]``.
            step: see :meth:`losses`.
        """
        weights, content = self.recipe.weights_at(step), shown["content"]
        terms = {
            "variation": weights.variation * total_variation(painted),
            "range": weights.range * range_loss(painted),
        }
        rng = np.random.default_rng([self.recipe.seed, step, 1])
        down, right = (int(v) for v in rng.integers(0, PHASES, size=2))
        if weights.pixels > 0:
            terms["pixels"] = weights.pixels * normalised_content_loss(painted, instance_normalised(content))
        for judge in self.judges if weights.style > 0 or weights.content > 0 else ():
            moved = {name: pictures[:, :, down:, right:] for name, pictures in shown.items()}
            found = self.perceptual(judge, painted[:, :, down:, right:], moved, weights)
            for name, value in found.items():
                part = value / len(self.judges)
                terms[name] = terms[name] + part if name in terms else part
        if weights.color > 0:
            directions = random_directions(16, 3, torch.Generator().manual_seed(step)).to(painted.device)
            small = functional.avg_pool2d(painted, 4)
            palette = self.palette.expand(len(small), -1, -1, -1)
            terms["color"] = weights.color * sliced_wasserstein(small, palette, directions).mean()
        if weights.stability > 0 and step % weights.stability_every == 0:
            terms["stability"] = weights.stability * _stability(model, content, painted, step)
        return terms

    def perceptual(
        self, judge: Judge, painted: Tensor, shown: Mapping[str, Tensor], weights: JohnsonWeights
    ) -> dict[str, Tensor]:
        """Content, style and coarse style for one encoder; those of style are means over its layers."""
        teacher, spec = judge.teacher, judge.teacher.spec
        layer = content_layer(teacher)
        with torch.no_grad():
            wanted = instance_normalised(teacher(shown["content"], (layer,))[layer].float())
        maps = teacher(painted, tuple(dict.fromkeys((*spec.style_layers, layer))))
        found = _statistics(teacher, maps, judge.scales)
        terms = {
            "style": weights.style * _distance(found, judge.fine, weights.gram),
            "content": weights.content * normalised_content_loss(maps[layer].float(), wanted),
        }
        if weights.coarse > 0:
            small = teacher(functional.avg_pool2d(painted, 2), spec.style_layers)
            seen = _statistics(teacher, small, judge.scales)
            terms["coarse"] = weights.style * weights.coarse * _distance(seen, judge.coarse, weights.gram)
        return terms | self.feature_terms(judge, maps, shown, weights)

    def feature_terms(
        self, judge: Judge, maps: Mapping[str, Tensor], shown: Mapping[str, Tensor], weights: JohnsonWeights
    ) -> dict[str, Tensor]:
        """Terms that others add to those of :meth:`perceptual`, from the painting's features ``maps``; here none."""
        return {}

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """The style in the corner, photographs in the first row, paintings in the second."""
        contents = self.shown or list(self._crops_for_sheet())
        width = max(content.shape[1] for content in contents)
        height = max(content.shape[0] for content in contents)
        sheet = Image.new("RGB", ((1 + len(contents)) * width, 2 * height), "white")
        thumbnail = Image.fromarray(self.style)
        thumbnail.thumbnail((width, height))
        sheet.paste(thumbnail, (0, 0))
        for column, content in enumerate(contents, start=1):
            sheet.paste(Image.fromarray(content), (column * width, 0))
            batch = to_float(torch.from_numpy(content.transpose(2, 0, 1).copy())[None].to(device))
            painted = model(batch)[0][0].clamp(0, 1).permute(1, 2, 0)
            sheet.paste(Image.fromarray((painted * 255).round().byte().cpu().numpy()), (column * width, height))
        return sheet

    def _crops_for_sheet(self) -> PixelArray:
        rng = np.random.default_rng([self.recipe.seed, 3])
        return self.contents.crops(rng, 4, CropRule(SHEET_SIDE, 1.0, 1.0)).transpose(0, 2, 3, 1)


def content_layer(teacher: Teacher) -> str:
    """The layer by which the photograph is recognised: the deepest one at a quarter of its size.

    It is the paper's choice (``relu3_3`` of VGG-16). Deeper ones, which optimisation and arbitrary styles use, know
    what there is but not where its edges are, and a network of one style learns to draw none.
    """
    return teacher.spec.deepest(4)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def _statistics(teacher: Teacher, maps: dict[str, Tensor], scales: dict[str, Tensor]) -> dict[str, Statistics]:
    return {name: feature_statistics(maps[name].float(), scales[name]) for name in teacher.spec.style_layers}


def _distance(found: dict[str, Statistics], wanted: dict[str, Statistics], gram: float) -> Tensor:
    """Mean over layers and pictures; the one style's statistics ``[1, ...]`` stand for all pictures."""
    return torch.stack([style_distance(found[name], wanted[name], gram_weight=gram).mean() for name in wanted]).mean()


def _channel_scale(power: Tensor) -> Tensor:
    """Root of the variance per channel; quiet channels are not blown up beyond a third of the median."""
    deviation = torch.sqrt(power)
    return deviation.clamp_min(float(deviation.median()) / 3 + 1e-6)


def _stability(model: nn.Module, content: Tensor, painted: Tensor, step: int) -> Tensor:
    """One of the photographs again, moved by up to 4 px and a little noisy."""
    generator = torch.Generator().manual_seed(step)
    down, right = (int(v) for v in torch.randint(-4, 5, (2,), generator=generator))
    moved = shift_noise(content[:1], (down, right), 0.02, generator)
    return stability_loss(painted[:1], model(moved)[0].float(), (down, right))


def style_facts(task: JohnsonTask, picture: StylePicture, out: Path, step: int) -> dict[str, Any]:
    """What a card says of a training, from its folder's log."""
    log = [json.loads(line) for line in _lines(out / "log.jsonl")]
    passed = {
        int(line["step"]): line for line in log if int(line["step"]) <= step
    }  # what a resumed run did again counts once
    steps = sorted(passed)
    lengths = np.diff([0, *steps])
    seconds = sum(float(passed[at]["seconds"]) * length for at, length in zip(steps, lengths, strict=True))
    chosen = sorted({steps[round(at)] for at in np.linspace(0, len(steps) - 1, CURVE_POINTS)}) if steps else []
    height, width = picture.size
    return {
        "summary": "A feed-forward network for one style (Johnson et al. 2016), instance-normalised.",
        "weights_license": "Apache-2.0, as far as the authors have rights in them; see style_picture and data_license",
        "data_license": "that of the pictures it was trained on",
        "training_data": f"{len(task.contents)} photographs",
        "style_picture": f"{picture.file}, {width} x {height} px, at a short side of {task.recipe.data.style_side} px",
        "style_sha256": picture.sha256,
        "teachers": [teacher.spec.name for teacher in task.teachers],
        "hardware": _hardware(),
        "hours": round(seconds / 3600, 3),
        "curve": {"step": chosen}
        | {term: [float(passed[at].get(term, 0)) for at in chosen] for term in ("style", "content", "stability")},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} in use"

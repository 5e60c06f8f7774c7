"""How ``mobile`` is trained: to see what a larger encoder sees, layer by layer.

FitNets, Romero et al. 2015, arXiv:1412.6550.

For each of the three layers, with ``x`` what the teacher sees and ``y`` what the student predicts,

    L = w_features mean |(y - x) / s|^2 + w_gram |G(y) - G(x)|^2 / |G(x)|^2

``s`` the deviation of each channel over many pictures, so that quiet channels count too, and ``G`` the Gram matrix,
because styles are compared by statistics.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.losses.statistics import gram_matrix
from impasto.nets.mobile import NAMES, Mobile
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.loop import Batch
from impasto.training.recipe import MobileRecipe

__all__ = ["MobileTask", "MobileTrunk"]

CALIBRATION = 48
SHEET_SIDE = 128


class MobileTrunk(nn.Module):
    """The network while it is trained: ``[B, 3, H, W]`` to a table of feature maps.

    It is not frozen, and normalises its batches.
    """

    def __init__(self, recipe: MobileRecipe) -> None:
        super().__init__()
        self.mobile = Mobile(recipe.network, normalised=True)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Feature maps of all three layers."""
        maps: dict[str, Tensor] = self.mobile(picture, NAMES)
        return maps


class MobileTask:
    """The :class:`~impasto.training.loop.Task` of ``mobile``.

    Args:
        recipe: everything that decides the training.
        photographs: pictures to look at.
        artworks: likewise, drawn in the recipe's proportion.
        teacher: the encoder that is predicted.
    """

    def __init__(self, recipe: MobileRecipe, photographs: PictureSet, artworks: PictureSet, teacher: Teacher) -> None:
        self.recipe = recipe
        self.photographs = photographs
        self.artworks = artworks
        self.teacher = teacher
        self.steps = recipe.steps
        self.gains: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = MobileTrunk(recipe)

    def batch(self, step: int, index: int) -> Batch:
        """Crops ``[B, 3, size, size]``, uint8."""
        stage, data = self.recipe.stage_at(step), self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        rule = CropRule(stage.size, data.smallest, data.largest, data.jitter, data.grey)
        painted = int(rng.binomial(stage.batch, data.art))
        photographs = self.photographs.crops(rng, stage.batch - painted, rule)
        return {"picture": np.concatenate([photographs, self.artworks.crops(rng, painted, rule)])}

    def prepare(self, device: torch.device) -> None:
        """Move the teacher over and measure the deviation of each of its channels."""
        self.teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        rule = CropRule(self.recipe.stages[0].size, self.recipe.data.smallest, self.recipe.data.largest)
        half = CALIBRATION // 2
        crops = np.concatenate([kind.crops(rng, half, rule) for kind in (self.photographs, self.artworks)])
        seen: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for part in np.array_split(crops, 6):
                for name, maps in self.teacher(_to_float(torch.from_numpy(part).to(device)), NAMES).items():
                    seen.setdefault(name, []).append(maps.float().permute(1, 0, 2, 3).flatten(1))
        for name, parts in seen.items():
            deviation = torch.cat(parts, dim=1).std(1)
            # Nearly dead channels are not blown up beyond a fifth of the median.
            self.gains[name] = 1 / deviation.clamp_min(float(deviation.median()) / 5 + 1e-6)[:, None, None]

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """A term for each layer, and the Gram agreement of all."""
        weights = self.recipe.weights_at(step)
        picture = _to_float(batch["picture"])
        with torch.no_grad():
            wanted = self.teacher(picture, NAMES)
        found = model(picture)
        terms, grams = {}, []
        for name in NAMES:
            gain, true, guess = self.gains[name], wanted[name].float(), found[name].float()
            terms[name] = weights.features / len(NAMES) * ((guess - true) * gain).square().mean()
            grams.append(_gram_distance(guess * gain, true * gain))
        terms["gram"] = weights.gram * torch.stack(grams).mean()
        return terms

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Pictures, then the mean of each layer's channels: the teacher's above, the student's below."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        crops = self.artworks.crops(rng, 4, CropRule(SHEET_SIDE, 0.6, 1.0))
        picture = _to_float(torch.from_numpy(crops).to(device))
        rows = [[_shown(maps) for maps in seen.values()] for seen in (self.teacher(picture, NAMES), model(picture))]
        size = SHEET_SIDE
        sheet = Image.new("RGB", (4 * size, (1 + 2 * len(NAMES)) * size))
        for column, crop in enumerate(crops):
            sheet.paste(Image.fromarray(np.ascontiguousarray(crop.transpose(1, 2, 0))), (column * size, 0))
            for layer in range(len(NAMES)):
                for below in range(2):
                    plane = Image.fromarray(rows[below][layer][column]).resize((size, size), Image.Resampling.NEAREST)
                    sheet.paste(plane, (column * size, (1 + 2 * layer + below) * size))
        return sheet


def _shown(maps: Tensor) -> PixelArray:
    """Means over channels as grey levels, ``[B, h, w]`` uint8."""
    means = maps.float().mean(1)
    scaled = means / means.amax((1, 2), keepdim=True).clamp_min(1e-6)
    return np.asarray((scaled * 255).round().byte().cpu().numpy(), np.uint8)


def _gram_distance(guess: Tensor, true: Tensor) -> Tensor:
    """Squared distance of the Gram matrices, in parts of the true one's square."""
    found, wanted = gram_matrix(guess), gram_matrix(true)
    return ((found - wanted).square().sum((1, 2)) / (wanted.square().sum((1, 2)) + 1e-6)).mean()


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)

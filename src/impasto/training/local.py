"""How ``local`` is trained: pairs of photographs and artworks and a mask for each, behind a frozen encoder.

With encoder ``phi``, network ``g``, mask ``m`` and ``p = g(c, s, m)`` before it is laid over the photograph, the terms
are

    content    |Norm(phi(p)) - Norm(phi(c))|^2                   inside the mask
    style      moments and centred Gram matrices of phi_i(p) inside the mask against those of phi_i(s)
    local      |phi_i(p) - F_i|^2, F the features that attention without learned projections gives
               (local feature loss, Liu et al. 2021, arXiv:2108.03647, eq. 8)
    identity   |g(c, c) - c|                                     (Park & Lee 2019, arXiv:1812.02342, eq. 9)
    outside    |p - c|                                           where the mask is empty
    seam       |(p - c) grad m|                                  what the mask's edge would add to the gradient

and total variation and range. The weight of the style rises step by step (``losses.style_warmup``).

Differs from the papers: masks; features of the project's own ``lens``; style terms relative to the target's size, so
that pale and loud styles weigh alike, and with Gram matrices beside the moments; identity in pixels only.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.losses.boundary import outside_loss, seam_loss
from impasto.losses.content import content_loss, instance_normalised
from impasto.losses.guidance import area_weight
from impasto.losses.regularity import identity_loss, range_loss, total_variation
from impasto.losses.statistics import Statistics, feature_statistics, style_distance
from impasto.nets.local import (
    DEEP,
    LAYERS,
    MIDDLE,
    LocalNet,
    content_statistics,
    fused,
    matching_features,
    normalised,
    places,
    plain_tokens,
)
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.loop import Batch
from impasto.training.masks import MaskedPictures, generated_mask
from impasto.training.recipe import LocalRecipe, LocalWeights

__all__ = ["LocalTask"]

CALIBRATION = 16  # photographs by which the channels of the judging encoder are weighed
SHEET_SIDE = 224


class LocalTask:
    """The :class:`~impasto.training.loop.Task` of ``local``.

    Args:
        recipe: everything that decides the training.
        contents: photographs.
        styles: artworks.
        encoder: the frozen encoder that the network works behind.
        judge: the encoder that the losses look through; by default the same.
        masked: photographs with masks; by default all masks are made up.
        shown: photographs and artworks for the sample sheets; by default crops of the training's own.
    """

    def __init__(
        self,
        recipe: LocalRecipe,
        contents: PictureSet,
        styles: PictureSet,
        encoder: Teacher,
        *,
        judge: Teacher | None = None,
        masked: MaskedPictures | None = None,
        shown: tuple[Sequence[PixelArray], Sequence[PixelArray]] = ((), ()),
    ) -> None:
        self.recipe = recipe
        self.contents = contents
        self.styles = styles
        self.encoder = encoder
        self.judge = encoder if judge is None else judge
        self.masked = masked
        self.shown = shown
        self.steps = recipe.steps
        names = list(self.judge.spec.layers)
        seen = names[: names.index(DEEP) + 1]  # what lies deeper costs a quarter of a step and changes little
        self.style_layers = tuple(name for name in seen if name in self.judge.spec.style_layers)
        self.layers = tuple(name for name in seen if name in self.style_layers or name in LAYERS)
        self.scales: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = LocalNet(recipe.network)

    def batch(self, step: int, index: int) -> Batch:
        """Contents ``[B, 3, size, size]``, masks ``[B, 1, size, size]`` and styles, uint8."""
        stage, data = self.recipe.stage_at(step), self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        photo = CropRule(stage.size, data.content_smallest, data.content_largest)
        side = max(48, round(stage.size * data.style_scale / 8) * 8)
        art = CropRule(side, data.style_smallest, data.style_largest, jitter=data.style_jitter)
        painted = CropRule(stage.size, data.style_smallest, data.style_largest)
        contents, masks = [], []
        for _ in range(stage.batch):
            content, mask = self._sample(rng, photo, painted)
            contents.append(content)
            masks.append(mask)
        return {
            "content": np.stack(contents),
            "mask": np.stack(masks),
            "style": self.styles.crops(rng, stage.batch, art),
        }

    def _sample(self, rng: np.random.Generator, photo: CropRule, art: CropRule) -> tuple[PixelArray, PixelArray]:
        """One content and its mask."""
        data = self.recipe.data
        full = rng.random() < data.full_masks
        if not full and self.masked is not None and rng.random() < data.photo_masks:
            return self.masked.crop(rng, photo)
        painted = rng.random() < data.art_as_content
        content = self.styles.crops(rng, 1, art)[0] if painted else self.contents.crops(rng, 1, photo)[0]
        if full:
            return content, np.full((1, photo.size, photo.size), 255, np.uint8)
        return content, generated_mask(rng, photo.size)

    def prepare(self, device: torch.device) -> None:
        """Move the encoders over and weigh the judge's channels."""
        for network in (self.encoder, self.judge):
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        rule = CropRule(self.recipe.stages[0].size, 0.5, 1.0)
        crops = np.concatenate([kind.crops(rng, CALIBRATION // 2, rule) for kind in (self.contents, self.styles)])
        power: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for part in torch.split(_to_float(torch.from_numpy(crops).to(device)), 4):
                for name, maps in self.judge(part, self.style_layers).items():
                    power.setdefault(name, []).append(feature_statistics(maps.float()).deviation.square().mean(0))
        self.scales = {name: _channel_scale(torch.stack(found).mean(0)) for name, found in power.items()}

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of :class:`~impasto.training.recipe.LocalWeights`."""
        weights = self.recipe.weights_at(step)
        content, style = _to_float(batch["content"]), _to_float(batch["style"])
        mask = batch["mask"].float() / 255
        with torch.no_grad():
            seen, seen_style = self.judge(content, self.layers), self.judge(style, self.layers)
            if self.encoder is self.judge:
                maps, style_maps = seen, seen_style
            else:
                maps, style_maps = self.encoder(content, LAYERS), self.encoder(style, LAYERS)
        painted = model(maps, style_maps, mask).float()
        found = self.judge(painted, self.layers)
        terms = self._perceptual(found, seen, seen_style, mask, weights)
        terms |= {
            "outside": weights.outside * outside_loss(painted, content, mask),
            "seam": weights.seam * seam_loss(painted, content, mask),
            "variation": weights.variation * total_variation(painted),
            "range": weights.range * range_loss(painted),
        }
        own = min(self.recipe.data.own_pairs, content.shape[0])
        if own and weights.identity > 0 and step % weights.identity_every == 0:
            last = {name: maps[name][-own:] for name in LAYERS}
            terms["identity"] = weights.identity * identity_loss(model(last, last).float(), content[-own:])
        return terms

    def _perceptual(
        self,
        found: Mapping[str, Tensor],
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        mask: Tensor,
        weights: LocalWeights,
    ) -> dict[str, Tensor]:
        """Content, style and local features, from the judge's view of painting, content and style."""
        kept = content_loss(instance_normalised(found[DEEP].float()), instance_normalised(content[DEEP].float()), mask)
        distances = []
        for name in self.style_layers:
            scale = self.scales[name]
            with torch.no_grad():
                wanted = feature_statistics(style[name], scale)
            distances.append(self._distance(feature_statistics(found[name], scale, mask), wanted, mask, weights.gram))
        terms = {"content": weights.content * kept, "style": weights.style * torch.stack(distances).mean()}
        if weights.local > 0:
            with torch.no_grad():
                goals = _local_goal(content, style, mask)
            parts = [
                ((found[name].float() - goal).square().mean((1, 2, 3)) / (goal.square().mean((1, 2, 3)) + 1e-3)).mean()
                for name, goal in zip((DEEP, MIDDLE), goals, strict=True)
            ]
            terms["local"] = weights.local * torch.stack(parts).mean()
        return terms

    def _distance(self, found: Statistics, wanted: Statistics, mask: Tensor, gram: float) -> Tensor:
        """Distance of the statistics; a picture counts for the root of its painted part, whose statistics are rough."""
        share = mask.mean((1, 2, 3)).sqrt()
        return (share * style_distance(found, wanted, gram_weight=gram)).mean()

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Styles in the first row, contents in the first column; of each two rows the second paints the left half."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        rule = CropRule(SHEET_SIDE, 1.0, 1.0)
        contents = [_square(picture) for picture in self.shown[0]] or _listed(self.contents.crops(rng, 3, rule))
        styles = list(self.shown[1]) or _listed(self.styles.crops(rng, 4, rule))
        size = SHEET_SIDE
        sheet = Image.new("RGB", ((len(styles) + 1) * size, (2 * len(contents) + 1) * size), "white")
        half = torch.ones(1, 1, size, size, device=device)
        half[:, :, :, size // 2 :] = 0
        for row, content in enumerate(contents):
            maps = self.encoder(_batched(content, device), LAYERS)
            sheet.paste(Image.fromarray(content), (0, (2 * row + 1) * size))
            for column, style in enumerate(styles, start=1):
                sheet.paste(Image.fromarray(_square(style)), (column * size, 0))
                style_maps = self.encoder(_batched(style, device), LAYERS)
                for below, mask in enumerate((None, half)):
                    painted = model(maps, style_maps, mask)[0].clamp(0, 1)
                    pixels = (painted * 255).round().byte().permute(1, 2, 0).cpu().numpy()
                    sheet.paste(Image.fromarray(pixels), (column * size, (2 * row + 1 + below) * size))
        return sheet


def _local_goal(content: Mapping[str, Tensor], style: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features that attention gives without anything learned, ``AdaAttN*``; outside the mask the content's own."""
    maps = {name: content[name].float() for name in LAYERS}
    tokens = plain_tokens({name: style[name].float() for name in LAYERS})
    statistics = content_statistics(maps, mask)
    queries = places(normalised(matching_features(maps), statistics.matching))
    goals = []
    for name, goal in zip((DEEP, MIDDLE), fused(maps, queries, tokens, statistics), strict=True):
        share = area_weight(mask, (goal.shape[2], goal.shape[3]))
        goals.append(share * goal + (1 - share) * maps[name])
    return goals[0], goals[1]


def _channel_scale(power: Tensor) -> Tensor:
    """Root of the variance per channel; quiet channels are not blown up beyond a third of the median."""
    deviation = torch.sqrt(power)
    return deviation.clamp_min(float(deviation.median()) / 3 + 1e-6)


def _listed(crops: PixelArray) -> list[PixelArray]:
    """``[N, 3, H, W]`` to pictures ``[H, W, 3]``."""
    return list(np.ascontiguousarray(crops.transpose(0, 2, 3, 1)))


def _square(picture: PixelArray) -> PixelArray:
    """The middle of a picture, on the sheet's side."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(picture).resize((SHEET_SIDE,) * 2, Image.Resampling.LANCZOS, box=box))


def _batched(picture: PixelArray, device: torch.device) -> Tensor:
    return _to_float(torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))[None]).to(device))


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)

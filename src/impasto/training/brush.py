"""How ``brush`` is trained: pairs of photographs and artworks, perceptual teachers, no paired targets."""

from __future__ import annotations

import typing
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from impasto.losses.content import instance_normalised, normalised_content_loss
from impasto.losses.contrast import style_contrast_loss
from impasto.losses.regularity import (
    calm_loss,
    grid_loss,
    identity_loss,
    range_loss,
    shift_noise,
    stability_loss,
    total_variation,
)
from impasto.losses.statistics import (
    FeatureSums,
    Statistics,
    feature_statistics,
    feature_sums,
    statistics_of,
    style_distance,
)
from impasto.losses.wasserstein import random_directions, sliced_wasserstein
from impasto.nets.brush import BrushModel, spread_codes
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.loop import Batch
from impasto.training.presets import PresetArt
from impasto.training.recipe import BrushRecipe, LossWeights

__all__ = ["BrushTask", "SheetPictures"]

COLOURS = 4096  # of each preset
SHEET_PRESETS = 6  # that a sample sheet shows
COARSEST = 8  # pixels of a place of the network's lowest resolution
PHASES = 8  # offsets in each direction from which a teacher may look


@dataclass(frozen=True)
class SheetPictures:
    """Pictures for the sample sheets, uint8 ``[H, W, 3]``; sides of contents are multiples of 8.

    Where there are none, crops of the training pictures take their place.
    """

    contents: Sequence[PixelArray] = ()
    styles: Sequence[PixelArray] = ()


@dataclass(frozen=True)
class _Targets:
    """What a teacher sees in the style and the content, computed without gradients."""

    style: dict[str, Statistics]
    coarse: dict[str, Statistics]
    content: dict[str, Tensor]


@dataclass(frozen=True)
class _Rows:
    """How much the style of each row counts, ``[B]``, and which rows show the same preset, ``[B, B]``."""

    style: Tensor
    same: Tensor


class BrushTask:
    """The :class:`~impasto.training.loop.Task` of the ``brush`` network."""

    def __init__(
        self,
        recipe: BrushRecipe,
        contents: PictureSet,
        styles: PictureSet,
        teachers: Sequence[Teacher],
        shown: SheetPictures = SheetPictures(),
        presets: PresetArt | None = None,
    ) -> None:
        self.recipe = recipe
        self.contents = contents
        self.styles = styles
        self.teachers = list(teachers)
        self.scales: list[dict[str, Tensor]] = []
        self.presets = presets
        self.preset_statistics: list[dict[int, dict[str, Statistics]]] = []  # by teacher, reduction, layer
        self.palettes = torch.empty(0)
        self.steps = recipe.steps
        self.shown = shown
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = BrushModel(recipe.network)
        self.model.checkpointing = recipe.schedule.checkpointing

    # -- data ------------------------------------------------------------------------------------------------------

    def batch(self, step: int, index: int) -> Batch:
        """Pairs of a step; the last ``own_pairs`` are contents in their own style, presets stand before them.

        Returns:
            ``content`` ``[B, 3, size, size]`` and ``style`` ``[B, 3, side, side]``, uint8, with the recipe's
            ``data.style_side`` as side; ``preset`` ``[B]``, which preset a style is, -1 for none; ``style_index``
            ``[B]``, the same where its reserved number is set. Own pairs of two sizes are photographs.
        """
        stage = self.recipe.stage_at(step)
        data = self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        photo = CropRule(stage.size, data.content_smallest, data.content_largest)
        side = data.style_side or stage.size
        art = CropRule(side, data.style_smallest, data.style_largest, jitter=data.style_jitter)
        plain = replace(art, size=stage.size, jitter=0.0)
        painted = min(int(rng.binomial(stage.batch, data.art_as_content)), stage.batch - 1)
        content = self.contents.crops(rng, stage.batch - painted, photo)
        if painted:
            content = np.concatenate([content, self.styles.crops(rng, painted, plain)])
            content = content[rng.permutation(stage.batch)]
        own, rows = min(data.own_pairs, stage.batch), self._preset_rows(stage.batch)
        several = self._similar if rng.random() < data.hard_negatives else self.styles.crops
        style = several(rng, stage.batch if rows.start == rows.stop else rows.start, art)
        preset = np.full(stage.batch, -1)
        if self.presets is not None and rows.stop > rows.start:
            preset[rows] = rng.integers(len(self.presets), size=rows.stop - rows.start)
            shown = [self.presets.crop(int(number), rng, side) for number in preset[rows]]
            style = np.concatenate([style, np.stack(shown), np.empty((own, *style.shape[1:]), np.uint8)])
        if own and side == stage.size:
            style[-own:] = content[-own:]
        elif own:
            style[-own:] = self.contents.crops(rng, own, replace(photo, size=side))
            content[-own:] = np.stack([_reduced(crop, stage.size) for crop in style[-own:]])
        style_index = np.where(rng.random(stage.batch) < data.indexed, preset, -1)
        return {"content": content, "style": style, "preset": preset, "style_index": style_index}

    def _preset_rows(self, batch: int) -> slice:
        """Rows of a batch whose styles are presets: those before its own pairs."""
        last = batch - min(self.recipe.data.own_pairs, batch)
        return slice(last if self.presets is None else max(0, last - self.recipe.data.presets), last)

    def _similar(self, rng: np.random.Generator, count: int, rule: CropRule) -> PixelArray:
        """Of four times as many crops, those whose mean colour is nearest to the first one's."""
        crops = self.styles.crops(rng, 4 * count, rule)
        colours = crops.mean((2, 3))
        order = np.argsort(np.square(colours - colours[0]).sum(1), kind="stable")
        return np.ascontiguousarray(crops[order[:count]])

    def spread(self) -> None:
        """Spread the codes of the model; to be done before the training of new weights."""
        count, rng = self.recipe.data.spread, np.random.default_rng([self.recipe.seed, zlib.crc32(b"spread")])
        rule = CropRule(self.recipe.data.style_side or self.recipe.stages[0].size, 0.5, 1.0)
        crops = [kind.crops(rng, count // 2, rule) for kind in (self.contents, self.styles)]
        parts = np.array_split(np.concatenate(crops), max(1, count // 8))
        spread_codes(typing.cast("BrushModel", self.model), [_to_float(torch.from_numpy(part)) for part in parts])

    def prepare(self, device: torch.device) -> None:
        """Move the teachers over and measure how loud each of their channels is on the styles."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        size = min(192, self.recipe.stages[0].size)
        crops = self.styles.crops(rng, 48, CropRule(size, 0.5, 1.0))
        self.scales = []
        for teacher in self.teachers:
            teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            sums: dict[str, Tensor] = {}
            with torch.no_grad():
                for part in np.array_split(crops, 8):
                    features = teacher(_to_float(torch.from_numpy(part).to(device)), teacher.spec.style_layers)
                    for name, maps in features.items():
                        found = feature_statistics(maps).deviation.square().mean(0)
                        sums[name] = sums.get(name, torch.zeros_like(found)) + found / 8
            self.scales.append({name: _channel_scale(power) for name, power in sums.items()})
        if self.presets is not None:
            self._look_at_presets(self.presets, device)

    @torch.no_grad()
    def _look_at_presets(self, presets: PresetArt, device: torch.device) -> None:
        """Statistics of all artworks of each preset, and its colours in random order."""
        pictures = [[_to_float(_tensor(art).to(device)) for art in arts] for arts in presets.pictures]
        self.preset_statistics = [
            {reduce: _stacked([_pooled(teacher, arts, scales, reduce) for arts in pictures]) for reduce in (1, 2)}
            for teacher, scales in zip(self.teachers, self.scales, strict=True)
        ]
        generator = torch.Generator().manual_seed(self.recipe.seed)
        found = []
        for arts in pictures:
            colours = torch.cat([functional.avg_pool2d(art, 4).flatten(2) for art in arts], dim=2).cpu()
            found.append(colours[:, :, torch.randint(colours.shape[2], (COLOURS,), generator=generator)])
        self.palettes = torch.cat(found).to(device)  # [P, 3, COLOURS]

    # -- objective -------------------------------------------------------------------------------------------------

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The weighted terms of :class:`~impasto.training.recipe.LossWeights`."""
        weights = self.recipe.weights_at(step)
        content, style = _to_float(batch["content"]), _to_float(batch["style"])
        painted = model(content, style, batch["style_index"]).float()
        terms = {
            "variation": weights.variation * total_variation(painted),
            "range": weights.range * range_loss(painted),
        }
        if weights.calm > 0:
            terms["calm"] = weights.calm * calm_loss(painted, content)
        if weights.grid > 0:
            terms["grid"] = weights.grid * grid_loss(painted, content, COARSEST)
        own = min(self.recipe.data.own_pairs, content.shape[0])
        if own:
            terms["identity"] = weights.identity * identity_loss(painted[-own:], content[-own:])
        # A random offset, so that a teacher's strides do not always meet the 4x4 blocks of the output alike.
        rng = np.random.default_rng([self.recipe.seed, step, 1])
        phases = min(PHASES, content.shape[2] // 8)  # a small crop must stay large enough for the teacher
        down, right = (int(v) for v in rng.integers(0, phases, size=2))
        shown = painted[:, :, down:, right:]
        seen = content[:, :, down:, right:]
        preset, indexed = batch["preset"], (batch["style_index"] >= 0).float()
        rows = _Rows(weights.encoded + (1 - weights.encoded) * indexed, _same(preset))
        judging = self._judging(step, weights.judges)
        for index in judging:
            teacher, scales = self.teachers[index], self.scales[index]
            used = weights if index == 0 else replace(weights, coarse=0.0)  # longer strokes: the first one says enough
            targets = self._targets(index, seen, style, preset, used)
            for name, value in self._perceptual(teacher, scales, shown, targets, used, rows).items():
                part = value / len(judging)
                terms[name] = terms[name] + part if name in terms else part
        if weights.color > 0:
            directions = random_directions(16, 3, torch.Generator().manual_seed(step)).to(painted.device)
            small, palette = functional.avg_pool2d(painted, 4), self._palette(style, preset)
            terms["color"] = weights.color * sliced_wasserstein(small, palette, directions).mean()
        if weights.stability > 0 and step % weights.stability_every == 0:
            pairs = (content, style, batch["style_index"])
            terms["stability"] = weights.stability * self._stability(model, pairs, painted, step)
        return terms

    def _judging(self, step: int, count: int) -> list[int]:
        """Which teachers judge a step: all, or ``count`` of them in turn."""
        total = len(self.teachers)
        return list(range(total)) if count in (0, total) else sorted({(step * count + i) % total for i in range(count)})

    def _palette(self, style: Tensor, preset: Tensor) -> Tensor:
        """Colours of each style ``[B, 3, h, w]``, of all of it where it is a preset."""
        found = functional.avg_pool2d(style, 4)
        rows = self._preset_rows(len(style))
        if rows.stop > rows.start:
            places = torch.arange(found.shape[2] * found.shape[3], device=found.device) % COLOURS
            found[rows] = self.palettes[preset[rows]][:, :, places].view_as(found[rows])
        return found

    @torch.no_grad()
    def _targets(self, index: int, content: Tensor, style: Tensor, preset: Tensor, weights: LossWeights) -> _Targets:
        teacher = self.teachers[index]
        spec = teacher.spec
        used = list(spec.content_layers) if weights.content > 0 else []
        if weights.detail > 0:
            used.append(spec.deepest(4))
        maps = teacher(content, tuple(dict.fromkeys(used))) if used else {}
        normalised = {name: instance_normalised(found.float()) for name, found in maps.items()}
        wanted = self._wanted(index, style, preset, 1)
        return _Targets(wanted, self._wanted(index, style, preset, 2) if weights.coarse > 0 else {}, normalised)

    def _wanted(self, index: int, style: Tensor, preset: Tensor, reduce: int) -> dict[str, Statistics]:
        """Statistics of each style at 1/``reduce`` of its size; of presets those of all their artworks."""
        teacher, rows = self.teachers[index], self._preset_rows(len(style))
        shown = torch.cat([style[: rows.start], style[rows.stop :]])
        found: dict[str, Statistics] = {}
        if len(shown):
            small = functional.avg_pool2d(shown, reduce) if reduce > 1 else shown
            found = _statistics(teacher, teacher(small, teacher.spec.style_layers), self.scales[index])
        if rows.stop == rows.start:
            return found
        known = self.preset_statistics[index][reduce]
        return {name: _inserted(every, preset[rows], rows.start, found.get(name)) for name, every in known.items()}

    def _perceptual(
        self,
        teacher: Teacher,
        scales: dict[str, Tensor],
        painted: Tensor,
        targets: _Targets,
        weights: LossWeights,
        rows: _Rows,
    ) -> dict[str, Tensor]:
        """Content, style, coarse style and contrast for one teacher, each a mean over its layers."""
        spec = teacher.spec
        maps = teacher(painted, tuple(dict.fromkeys((*spec.style_layers, *targets.content))))
        found = _statistics(teacher, maps, scales)
        style = [
            (rows.style * style_distance(found[name], targets.style[name], gram_weight=weights.gram)).mean()
            for name in spec.style_layers
        ]
        terms = {"style": weights.style * torch.stack(style).mean()}
        for term, weight, kept in (
            ("content", weights.content, spec.content_layers),
            ("detail", weights.detail, (spec.deepest(4),)),
        ):
            if weight > 0:
                lost = [normalised_content_loss(maps[name].float(), targets.content[name]) for name in kept]
                terms[term] = weight * torch.stack(lost).mean()
        if targets.coarse:
            small = _statistics(teacher, teacher(functional.avg_pool2d(painted, 2), spec.style_layers), scales)
            distances = [
                (rows.style * style_distance(small[name], targets.coarse[name], gram_weight=weights.gram)).mean()
                for name in spec.style_layers
            ]
            terms["coarse"] = weights.style * weights.coarse * torch.stack(distances).mean()
        if weights.contrast > 0:
            contrast = style_contrast_loss(_descriptor(found), _descriptor(targets.style), same=rows.same)
            terms["contrast"] = weights.contrast * contrast
        return terms

    def _stability(self, model: nn.Module, pairs: tuple[Tensor, Tensor, Tensor], painted: Tensor, step: int) -> Tensor:
        """One of the batch's pairs again, another one each time, moved by up to 4 px and a little noisy."""
        generator = torch.Generator().manual_seed(step)
        down, right = (int(v) for v in torch.randint(-4, 5, (2,), generator=generator))
        row = step // max(1, self.recipe.weights_at(step).stability_every) % len(painted)
        content, style, style_index = (part[row : row + 1] for part in pairs)
        moved = shift_noise(content, (down, right), 0.02, generator)
        again = model(moved, style, style_index).float()
        return stability_loss(painted[row : row + 1], again, (down, right))

    # -- samples ---------------------------------------------------------------------------------------------------

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Styles and some presets in the first row, contents in the first column, paintings in between."""
        shown = self._sheet_pictures()
        columns = [(style, -1) for style in shown.styles]
        if self.presets is not None:
            columns += [(arts[0], number) for number, arts in enumerate(self.presets.pictures[:SHEET_PRESETS])]
        width = max(content.shape[1] for content in shown.contents)
        height = max(content.shape[0] for content in shown.contents)
        sheet = Image.new("RGB", ((1 + len(columns)) * width, (1 + len(shown.contents)) * height), "white")
        for column, (style, number) in enumerate(columns, start=1):
            thumbnail = Image.fromarray(style)
            thumbnail.thumbnail((width, height))
            sheet.paste(thumbnail, (column * width, 0))
            style_batch = _to_float(_tensor(style).to(device))
            style_index = torch.tensor([number], device=device)
            for row, content in enumerate(shown.contents, start=1):
                sheet.paste(Image.fromarray(content), (0, row * height))
                content_batch = _to_float(_tensor(content).to(device))
                painted = model(content_batch, style_batch, style_index)[0].clamp(0, 1).permute(1, 2, 0)
                pixels = (painted * 255).round().byte().cpu().numpy()
                sheet.paste(Image.fromarray(pixels), (column * width, row * height))
        return sheet

    def _sheet_pictures(self) -> SheetPictures:
        rng = np.random.default_rng([self.recipe.seed, 3])
        size = self.recipe.stages[0].size
        contents = self.contents.crops(rng, 3, CropRule(size, 1.0, 1.0)).transpose(0, 2, 3, 1)
        styles = self.styles.crops(rng, 4, CropRule(size, 1.0, 1.0)).transpose(0, 2, 3, 1)
        return SheetPictures(self.shown.contents or list(contents), self.shown.styles or list(styles))


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def _tensor(pixels: PixelArray) -> Tensor:
    """``[H, W, 3]`` to ``[1, 3, H, W]``."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def _reduced(crop: PixelArray, side: int) -> PixelArray:
    """``[3, h, w]`` to ``[3, side, side]``."""
    image = Image.fromarray(crop.transpose(1, 2, 0))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _pooled(
    teacher: Teacher, pictures: Sequence[Tensor], scales: dict[str, Tensor], reduce: int
) -> dict[str, Statistics]:
    """Statistics of several pictures taken together, seen at 1/``reduce`` of their size."""
    sums: dict[str, FeatureSums] = {}
    for picture in pictures:
        small = functional.avg_pool2d(picture, reduce) if reduce > 1 else picture
        for name, maps in teacher(small, teacher.spec.style_layers).items():
            found = feature_sums(maps.float())
            sums[name] = sums[name] + found if name in sums else found
    return {name: statistics_of(found, scales[name]) for name, found in sums.items()}


def _stacked(parts: Sequence[dict[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of one picture each, ``[1, ...]``, as those of a batch."""
    return {
        name: Statistics(
            torch.cat([part[name].mean for part in parts]),
            torch.cat([part[name].deviation for part in parts]),
            torch.cat([part[name].covariance for part in parts]),
        )
        for name in parts[0]
    }


def _inserted(every: Statistics, chosen: Tensor, at: int, others: Statistics | None) -> Statistics:
    """Those of the ``chosen`` presets put before row ``at`` of others."""

    def put(known: Tensor, rest: Tensor | None) -> Tensor:
        return known[chosen] if rest is None else torch.cat([rest[:at], known[chosen], rest[at:]])

    if others is None:
        return Statistics(put(every.mean, None), put(every.deviation, None), put(every.covariance, None))
    return Statistics(
        put(every.mean, others.mean),
        put(every.deviation, others.deviation),
        put(every.covariance, others.covariance),
    )


def _same(preset: Tensor) -> Tensor:
    """Which other rows of a batch show the same preset: ``[B, B]``."""
    return (preset[:, None] == preset) & (preset[:, None] >= 0)


def _statistics(teacher: Teacher, maps: dict[str, Tensor], scales: dict[str, Tensor]) -> dict[str, Statistics]:
    """Statistics of the style layers.

    Layers at half resolution have four times the positions they need: every second row and column of theirs is enough
    (the caller's random offset moves them over the picture).
    """
    found = {}
    for name in teacher.spec.style_layers:
        features = maps[name]
        if teacher.spec.layers[name][0] <= 2 and features.shape[2] > 48:
            features = features[:, :, ::2, ::2]
        found[name] = feature_statistics(features, scales[name])
    return found


def _channel_scale(power: Tensor) -> Tensor:
    """Root of the mean variance per channel; quiet channels are not blown up beyond a third of the median."""
    deviation = torch.sqrt(power)
    return deviation.clamp_min(float(deviation.median()) / 3 + 1e-6)


def _descriptor(statistics: dict[str, Statistics]) -> Tensor:
    """Moments of all style layers in a row, ``[B, D]``."""
    return torch.cat([torch.cat([item.mean, item.deviation], dim=1) for item in statistics.values()], dim=1)

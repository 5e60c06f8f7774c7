"""How the decoder of ``adain`` is trained: pairs of photographs and artworks, behind a frozen encoder.

Huang & Belongie 2017, arXiv:1703.06868, section 6: with encoder ``f``, decoder ``g`` and ``t = AdaIN(f(c), f(s))``,

    L_c = |f(g(t)) - t|^2                                                                                  (eq. 12)
    L_s = sum_i |m(phi_i(g(t))) - m(phi_i(s))|^2 + |s(phi_i(g(t))) - s(phi_i(s))|^2                         (eq. 13)

over the encoder's layers ``phi_i`` up to the one that is exchanged.

Differs from the paper: moments are exchanged at two layers, see :mod:`impasto.nets.adain`, and the content term asks
for both; centred Gram matrices stand beside the moments (the paper found the two alike after long training; in a short
one moments alone leave colours and strokes timid); terms are relative to the target's size, so that pale and loud
styles weigh alike; an identity term asks that unchanged features decode to the photograph itself; total variation and
range terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from impasto.losses.regularity import identity_loss, range_loss, total_variation
from impasto.losses.statistics import feature_statistics, style_distance
from impasto.nets.adain import LAYERS, AdaInDecoder, adain, channel_moments
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet
from impasto.training.loop import Batch
from impasto.training.recipe import AdaInRecipe

__all__ = ["AdaInTask"]

MARGIN = 16  # reflected pixels around a crop; half of the engine's, for cheaper steps


class AdaInTask:
    """The :class:`~impasto.training.loop.Task` of the decoder."""

    def __init__(self, recipe: AdaInRecipe, contents: PictureSet, styles: PictureSet, encoder: Teacher) -> None:
        self.recipe = recipe
        self.contents = contents
        self.styles = styles
        self.encoder = encoder
        self.steps = recipe.steps
        names = list(encoder.spec.layers)
        seen = names[: max(names.index(layer) for layer in LAYERS) + 1]
        self.layers = tuple(layer for layer in seen if layer in encoder.spec.style_layers or layer in LAYERS)
        self.strides = [encoder.spec.layers[layer][0] for layer in LAYERS]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = AdaInDecoder(recipe.network)

    def batch(self, step: int, index: int) -> Batch:
        """Contents and styles ``[B, 3, size, size]``, uint8."""
        stage, data = self.recipe.stage_at(step), self.recipe.data
        rng = np.random.default_rng([self.recipe.seed, index])
        photo = CropRule(stage.size, data.content_smallest, data.content_largest)
        art = CropRule(stage.size, data.style_smallest, data.style_largest, jitter=data.style_jitter)
        painted = min(int(rng.binomial(stage.batch, data.art_as_content)), stage.batch - 1)
        content = [self.contents.crops(rng, stage.batch - painted, photo), self.styles.crops(rng, painted, art)]
        return {"content": np.concatenate(content), "style": self.styles.crops(rng, stage.batch, art)}

    def prepare(self, device: torch.device) -> None:
        """Move the encoder over."""
        self.encoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of :class:`~impasto.training.recipe.AdaInWeights`."""
        weights = self.recipe.weights_at(step)
        content, style = _to_float(batch["content"]), _to_float(batch["style"])
        with torch.no_grad():
            features = self._encoded(content)
            wanted = {name: feature_statistics(maps) for name, maps in self.encoder(style, self.layers).items()}
            goals = [torch.stack([wanted[name].mean, wanted[name].deviation], dim=1) for name in LAYERS]  # [B, 2, C]
            targets = self._exchanged(features, goals)
        painted = _cropped(model(*targets), 1).float()
        found = self.encoder(painted, self.layers)
        inner = [_cropped(target, stride) for target, stride in zip(targets, self.strides, strict=True)]
        terms = {
            "content": weights.content
            * torch.stack([_missed(found[name].float(), aim) for name, aim in zip(LAYERS, inner, strict=True)]).mean(),
            "style": weights.style
            * torch.stack(
                [
                    style_distance(feature_statistics(found[name]), wanted[name], gram_weight=weights.gram).mean()
                    for name in self.layers
                ]
            ).mean(),
            "variation": weights.variation * total_variation(painted),
            "range": weights.range * range_loss(painted),
        }
        own = min(self.recipe.data.own_pairs, content.shape[0])
        if own and weights.identity > 0:
            again = _cropped(model(*(maps[-own:] for maps in features)), 1).float()
            terms["identity"] = weights.identity * identity_loss(again, content[-own:])
        return terms

    def _encoded(self, picture: Tensor) -> list[Tensor]:
        """Features of the layers that are exchanged, margin included."""
        maps = self.encoder(functional.pad(picture, (MARGIN,) * 4, mode="reflect"), LAYERS)
        return [maps[layer] for layer in LAYERS]

    def _exchanged(self, features: Sequence[Tensor], goals: Sequence[Tensor]) -> list[Tensor]:
        """The features with other moments; their own are those within the margin."""
        return [
            adain(maps, goal, channel_moments(_cropped(maps, stride)))
            for maps, goal, stride in zip(features, goals, self.strides, strict=True)
        ]

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Styles in the first row, contents in the first column, paintings in between."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        size = 224
        contents = self.contents.crops(rng, 3, CropRule(size, 1.0, 1.0))
        styles = self.styles.crops(rng, 4, CropRule(size, 1.0, 1.0))
        sheet = Image.new("RGB", (5 * size, 4 * size), "white")
        for column, style in enumerate(styles, start=1):
            sheet.paste(Image.fromarray(style.transpose(1, 2, 0)), (column * size, 0))
            maps = self.encoder(_to_float(torch.from_numpy(style[None]).to(device)), LAYERS)
            goals = [channel_moments(maps[layer]) for layer in LAYERS]
            for row, content in enumerate(contents, start=1):
                sheet.paste(Image.fromarray(content.transpose(1, 2, 0)), (0, row * size))
                features = self._encoded(_to_float(torch.from_numpy(content[None]).to(device)))
                painted = _cropped(model(*self._exchanged(features, goals)), 1)[0].clamp(0, 1)
                pixels = (painted * 255).round().byte().permute(1, 2, 0).cpu().numpy()
                sheet.paste(Image.fromarray(pixels), (column * size, row * size))
        return sheet


def _missed(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared difference in parts of the target's own size."""
    return functional.mse_loss(found, wanted) / wanted.square().mean()


def _cropped(maps: Tensor, stride: int) -> Tensor:
    """Maps without what belongs to the margin."""
    edge = MARGIN // stride
    return maps[:, :, edge : maps.shape[2] - edge, edge : maps.shape[3] - edge]


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)

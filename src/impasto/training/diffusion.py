"""How ``diffusion`` is trained: pictures come back from their own hints, paintings from those of a photograph.

Own pairs, of one picture ``x`` (Rombach et al. 2022 for the latents, Zhang et al. 2023, InST, arXiv:2211.13203, for a
style that is learned from reconstruction): with ``z_0 = E(x)``, ``z_t = alpha_t z_0 + sigma_t eps``,

    own       w(t) sum_c a_c |f(z_t, t, hints(x), style(another crop of x)) - (alpha_t eps - sigma_t z_0)|_c^2

``a_c`` is how much of a picture a channel decides: latents have unit variance, so that the mean colour of 8x8 pixels
would count no more than the faintest of sixteen patterns. It follows the length ``d_c`` of what the decoder's shortcut
makes of the channel, ``a_c ~ d_c^p`` with mean 1. ``w`` is the min-SNR weight (Hang et al. 2023, arXiv:2303.09556),
with a floor, because the schedule ends without any signal (Lin et al. 2024, arXiv:2305.08891) and the first step of a
rendering starts there. The network answers about a guess of the result in the style's colours
(:mod:`impasto.nets.prior`); detail has to come from hints and style.

Painted pairs are trained in the same way, with ``x`` a painting: hints are those of the photograph, the style is the
artwork that another engine painted it after (:mod:`impasto.training.paintings`).

Some of the draws have a part ``tau`` of their noise only, in ``z_t`` and in ``v`` alike, so that
``alpha_t z_t - sigma_t v`` is ``z_0`` all the same: so the network learns what a low temperature shows it.
Some pictures are also painted in one step from such noise, decoded, and compared with what they should be, ``x``:

    likeness  |phi_i(y) / |phi_i(y)| - phi_i(x) / |phi_i(x)||^2       at three layers of ``lens``, place by place
    strokes   moments and centred Gram matrices of phi_i(y) against those of x

because the mean of all paintings that are possible, which is what squares ask for, has no strokes.

Crossed pairs, a content and another picture's style, have no target. The network paints them from pure noise in one
step without gradient, that is noised to a step ``t`` again, and the picture ``y`` that it then predicts is decoded:

    content   |Norm(phi(y)) - Norm(phi(content))|^2     at relu4_1 of ``lens``
    style     moments and centred Gram matrices of phi_i(y) against those of the style

so that ``z_t`` is like what a rendering sees. Styles and some hints are dropped at random for classifier-free guidance
(Ho & Salimans 2022, arXiv:2207.12598).
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.errors import UsageError
from impasto.losses.content import content_loss, instance_normalised
from impasto.losses.perceptual import perceptual_loss
from impasto.losses.regularity import total_variation
from impasto.losses.statistics import feature_statistics, style_distance
from impasto.nets.autoencoder import FACTOR, Autoencoder
from impasto.nets.diffusion import PARAMETRISATION, StyleDiffusion, diffusion_schedule
from impasto.nets.hints import (
    STYLE_LAYERS,
    ContentHints,
    StyleFeatures,
    content_hints,
    hint_statistics,
    style_features,
)
from impasto.nets.prior import Colours, coarse, colours_of, recoloured
from impasto.nets.styled_attention import StyleShare
from impasto.nets.teachers import Teacher
from impasto.ops.samplers import sample
from impasto.training.data import CropRule, PictureSet, PixelArray, hsv_jitter, random_crop
from impasto.training.latent_recipe import DiffusionRecipe, DiffusionWeights
from impasto.training.loop import Batch
from impasto.training.paintings import PaintedStyles

__all__ = ["DiffusionTask"]

LIKENESS_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CALIBRATION = 48
SHEET_SIDE = 128
SHEET_STEPS = 10


class DiffusionTask:
    """The :class:`~impasto.training.loop.Task` of ``diffusion``.

    Args:
        recipe: everything that decides the training.
        photographs: contents.
        artworks: styles; and contents of own pairs, in the recipe's proportion.
        autoencoder: frozen.
        encoder: frozen; sees contents and styles, and judges crossed pairs.
        paintings: what other engines made of photographs, for a recipe with ``data.painted``.

    Raises:
        UsageError: such a recipe, and no paintings.
    """

    def __init__(
        self,
        recipe: DiffusionRecipe,
        photographs: PictureSet,
        artworks: PictureSet,
        autoencoder: Autoencoder,
        encoder: Teacher,
        paintings: PaintedStyles | None = None,
    ) -> None:
        if recipe.data.painted > 0 and paintings is None:
            raise UsageError("data.painted is above 0, and there are no paintings")
        self.recipe = recipe
        self.paintings = paintings
        self.photographs = photographs
        self.artworks = artworks
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.encoder = encoder
        self.steps = recipe.steps
        self.noising = diffusion_schedule()
        lengths = autoencoder.synthesis.weight.detach().flatten(1).norm(dim=0) ** recipe.losses.channels  # [C]
        self.importance = (lengths / lengths.mean())[:, None, None]
        self.scales: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = StyleDiffusion(recipe.network)
        network.checkpointing = recipe.schedule.checkpointing
        self._calibrate(network)
        self.model: nn.Module = network

    @torch.no_grad()
    def _calibrate(self, network: StyleDiffusion) -> None:
        """Means and deviations of the statistics of styles, and of the channels that the style loss compares."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"calibration")])
        data = self.recipe.data
        rule = CropRule(self.recipe.stages[0].size, data.smallest, data.largest)
        kinds = (self.photographs, self.artworks)
        crops = np.concatenate([kind.crops(rng, CALIBRATION // 2, rule) for kind in kinds])
        found: list[StyleFeatures] = []
        squares: list[Tensor] = []
        power: dict[str, list[Tensor]] = {}
        for part in torch.split(_to_float(torch.from_numpy(crops)), 8):
            maps = self.encoder(part, STYLE_LAYERS)
            found.append(style_features(maps, part))
            rest = self.autoencoder.encode(part) - self.autoencoder.encode(_guess(part, colours_of(part)))
            squares.append(rest.square().mean((0, 2, 3)))
            for name in STYLE_LAYERS:
                power.setdefault(name, []).append(feature_statistics(maps[name]).deviation.square().mean(0))
        self.scales = {name: _bounded(torch.stack(parts).mean(0).sqrt()) for name, parts in power.items()}
        square = 1.2**2 * torch.stack(squares).mean(0)  # other crops' colours lie further off
        if self.paintings is not None:
            square = (1 - data.painted) * square + data.painted * self._apart(self.paintings, rule.size)
        network.spread.copy_(square.sqrt()[:, None, None])
        style = network.style_encoder
        cells = torch.cat([features.cells.flatten(0, 1) for features in found])
        whole = torch.cat([features.whole for features in found])
        for name, rows in (("cell", cells), ("whole", whole)):
            getattr(style, f"{name}_mean").copy_(rows.mean(0))
            getattr(style, f"{name}_deviation").copy_(_bounded(rows.std(0)))

    def _apart(self, paintings: PaintedStyles, size: int) -> Tensor:
        """Mean square of what paintings' latents differ by from the guess, ``[C]``."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"paintings")])
        found = []
        for _ in range(CALIBRATION):
            content, painting, number = paintings.window(rng, size)
            style = self.artworks.picture(number).transpose(2, 0, 1)
            shown, wanted, told = (
                _to_float(torch.from_numpy(part.copy())[None]) for part in (content, painting, style)
            )
            rest = self.autoencoder.encode(wanted) - self.autoencoder.encode(_guess(shown, colours_of(told)))
            found.append(rest.square().mean((0, 2, 3)))
        return torch.stack(found).mean(0)

    def batch(self, step: int, index: int) -> Batch:
        """Contents and styles ``[B + X, 3, size, size]``, uint8, the X crossed pairs last; what the other B become,
        ``[B, 3, size, size]``; noise and steps.
        """
        recipe, stage, data = self.recipe, self.recipe.stage_at(step), self.recipe.data
        weights = recipe.weights_at(step)
        rng = np.random.default_rng([recipe.seed, index])
        rule = CropRule(stage.size, data.smallest, data.largest)
        pairs = [self._pair(rng, rule) for _ in range(stage.batch)]
        crossed = data.crossed if weights.style > 0 or weights.content > 0 else 0
        contents = np.concatenate([np.stack([pair[0] for pair in pairs]), self.photographs.crops(rng, crossed, rule)])
        styles = np.concatenate([np.stack([pair[1] for pair in pairs]), self.artworks.crops(rng, crossed, rule)])
        draws, side, total = stage.batch * data.draws, stage.size // FACTOR, self.noising.steps
        own_steps = ((np.arange(draws) + rng.random(draws)) / draws * total).astype(np.int64)  # stratified
        rng.shuffle(own_steps)
        low = weights.noisiest * total * rng.random(crossed) ** weights.low_noise
        noise = rng.standard_normal((draws + 2 * crossed, recipe.network.latent, side, side), np.float32)
        found = {
            "content": contents,
            "style": styles,
            "target": np.stack([pair[2] for pair in pairs]),
            "noise": noise,
            "t": np.concatenate([own_steps, low.astype(np.int64)]),
            "without_style": (rng.random(draws) < data.style_dropout).astype(np.float32),
            "features": (rng.random(stage.batch + crossed) >= data.feature_dropout).astype(np.float32),
            "light": (rng.random(stage.batch + crossed) >= data.light_dropout).astype(np.float32),
        }
        part = np.where(rng.random(draws) < data.part_noise, rng.random(draws), 1.0)
        noise[:draws] *= part[:, None, None, None].astype(np.float32)
        return found

    def _pair(self, rng: np.random.Generator, rule: CropRule) -> tuple[PixelArray, PixelArray, PixelArray]:
        """Content, style and what shall become of them, ``[3, size, size]`` each."""
        if self.paintings is None or rng.random() >= self.recipe.data.painted:
            content, style = self._own_pair(rng, rule)
            return content, style, content
        content, painting, number = self.paintings.window(rng, rule.size)
        style = random_crop(self.artworks.picture(number), rng, rule).transpose(2, 0, 1)
        return content, style, painting

    def _own_pair(self, rng: np.random.Generator, rule: CropRule) -> tuple[PixelArray, PixelArray]:
        """Two crops ``[3, size, size]`` of one picture, with the same jitter."""
        source = self.artworks if rng.random() < self.recipe.data.art else self.photographs
        pixels = source.picture(int(rng.choice(len(source), p=source.chance)))
        found = [random_crop(pixels, rng, rule) for _ in range(2)]
        jitter = self.recipe.data.jitter
        if jitter > 0:
            both = hsv_jitter(Image.fromarray(np.concatenate(found)), rng, jitter)
            found = list(np.split(np.asarray(both), 2))
        return found[0].transpose(2, 0, 1), found[1].transpose(2, 0, 1)

    def prepare(self, device: torch.device) -> None:
        """Move autoencoder and encoder over."""
        self.autoencoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scales = {name: scale.to(device) for name, scale in self.scales.items()}
        self.importance = self.importance.to(device)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of :class:`~impasto.training.latent_recipe.DiffusionWeights`."""
        weights = self.recipe.weights_at(step)
        content, style = _to_float(batch["content"]), _to_float(batch["style"])
        draws = len(batch["without_style"])
        own, crossed = draws // self.recipe.data.draws, len(batch["t"]) - draws
        with torch.no_grad():
            maps, style_maps = (
                {name: part.float() for name, part in self.encoder(picture, STYLE_LAYERS).items()}
                for picture in (content, style)
            )
            hints = _kept(
                content_hints(maps, content, hint_statistics(maps, content)), batch["features"], batch["light"]
            )
            features = style_features(style_maps, style)
            target = _to_float(batch["target"])
            latents = self.autoencoder.encode(target).float().repeat(self.recipe.data.draws, 1, 1, 1)
            guess = self.autoencoder.encode(_guess(content, features.colours)).float()
            own_guess = guess[:own].repeat(self.recipe.data.draws, 1, 1, 1)
        noise, t = batch["noise"][:draws], batch["t"][:draws]
        noisy = self.noising.q_sample(latents, noise, t)
        wanted = self.noising.training_target(latents, noise, t, parametrisation=PARAMETRISATION)
        found = model(
            noisy, t, own_guess, _part(hints, 0, own), _styles(features, 0, own), without_style=batch["without_style"]
        ).float()
        snr = self.noising.min_snr_weight(t.cpu(), weights.gamma, parametrisation=PARAMETRISATION).to(found)
        error = (self.importance * (found - wanted).square()).mean((1, 2, 3))  # [draws]
        terms = {"own": weights.own * (snr.clamp_min(weights.floor) * error).mean()}
        compared = min(self.recipe.data.compared, own)
        if compared and (weights.likeness > 0 or weights.strokes > 0):
            told = (guess[:compared], _part(hints, 0, compared), _styles(features, 0, compared))
            painted = self._at_once(model, noise[:compared], *told)
            terms |= self._compared(painted, target[:compared], weights)
        if crossed:
            told = (guess[own:], _part(hints, own, own + crossed), _styles(features, own, own + crossed))
            painted = self._painted(model, batch["noise"][draws:], batch["t"][draws:], *told)
            seen = {name: part[own:] for name, part in style_maps.items()}
            terms |= self._crossed_terms(painted, maps["relu4_1"][own:], seen, weights)
        return terms

    def _painted(
        self, model: nn.Module, noise: Tensor, t: Tensor, prior: Tensor, hints: ContentHints, style: StyleFeatures
    ) -> Tensor:
        """Crossed pairs: a first guess from noise, noised again, and the picture predicted from that."""
        first, second = noise.chunk(2)
        last = torch.full_like(t, self.noising.steps - 1)
        with torch.no_grad():
            answer = model(first, last, prior, hints, style).float()
            guess = self.noising.predicted_x0(answer, first, last, parametrisation=PARAMETRISATION)
            noisy = self.noising.q_sample(guess, second, t)
        answer = model(noisy, t, prior, hints, style).float()
        latents = self.noising.predicted_x0(answer, noisy, t, parametrisation=PARAMETRISATION)
        return self.autoencoder.decode(latents).float()

    def _at_once(
        self, model: nn.Module, noise: Tensor, prior: Tensor, hints: ContentHints, style: StyleFeatures
    ) -> Tensor:
        """Pictures predicted from nothing but noise."""
        last = torch.full((len(noise),), self.noising.steps - 1, device=noise.device)
        answer = model(noise, last, prior, hints, style).float()
        latents = self.noising.predicted_x0(answer, noise, last, parametrisation=PARAMETRISATION)
        return self.autoencoder.decode(latents).float()

    def _compared(self, painted: Tensor, target: Tensor, weights: DiffusionWeights) -> dict[str, Tensor]:
        """Perceptual terms of pictures that should be others."""
        found = self.encoder(painted, STYLE_LAYERS)
        with torch.no_grad():
            wanted = self.encoder(target, STYLE_LAYERS)
        near = perceptual_loss({name: found[name] for name in LIKENESS_LAYERS}, wanted)
        distances = [
            style_distance(
                feature_statistics(found[name], self.scales[name]),
                feature_statistics(wanted[name], self.scales[name]),
                gram_weight=weights.gram,
            ).mean()
            for name in STYLE_LAYERS
        ]
        return {"likeness": weights.likeness * near, "strokes": weights.strokes * torch.stack(distances).mean()}

    def _crossed_terms(
        self, painted: Tensor, content: Tensor, style: dict[str, Tensor], weights: DiffusionWeights
    ) -> dict[str, Tensor]:
        """Perceptual terms of decoded predictions."""
        found = self.encoder(painted, STYLE_LAYERS)
        kept = content_loss(instance_normalised(found["relu4_1"].float()), instance_normalised(content.float()))
        distances = []
        for name in STYLE_LAYERS:
            with torch.no_grad():
                wanted = feature_statistics(style[name], self.scales[name])
            seen = feature_statistics(found[name], self.scales[name])
            distances.append(style_distance(seen, wanted, gram_weight=weights.gram).mean())
        return {
            "content": weights.content * kept,
            "style": weights.style * torch.stack(distances).mean(),
            "variation": weights.variation * total_variation(painted),
        }

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Styles in the first row, contents in the first column, and beside them what their own style makes of them."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        rule = CropRule(SHEET_SIDE, 0.8, 1.0)
        contents = _to_float(torch.from_numpy(self.photographs.crops(rng, 4, rule)).to(device))
        styles = _to_float(torch.from_numpy(self.artworks.crops(rng, 5, rule)).to(device))
        shape = (1, self.recipe.network.latent, SHEET_SIDE // FACTOR, SHEET_SIDE // FACTOR)
        noise = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
        rows = [torch.cat([torch.ones_like(styles[:2]), styles])]
        for content in torch.split(contents, 1):
            told = torch.cat([content, styles])
            rows.append(torch.cat([content, self._sampled(model, content, told, noise)]))
        sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).clamp(0, 1)
        return Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).cpu().numpy())

    def _sampled(self, model: nn.Module, content: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        """One content in several styles, from the same noise."""
        network: StyleDiffusion = model  # type: ignore[assignment]
        maps = self.encoder(content, STYLE_LAYERS)
        hints = network.hints(content_hints(maps, content, hint_statistics(maps, content)))
        codes = network.codes(style_features(self.encoder(styles, STYLE_LAYERS), styles))
        shares = [StyleShare(codes, noise.new_ones(1, 1, 1, 1))]
        guess = self.autoencoder.encode(_guess(content.expand(len(styles), -1, -1, -1), colours_of(styles)))

        def denoise(noisy: Tensor, t: int | Tensor) -> Tensor:
            step = torch.as_tensor(t, device=noisy.device).expand(len(noisy))
            return network.denoise(noisy, step, guess, hints, shares)

        latents = sample(
            "dpm-solver++",
            denoise,
            noise.expand(len(styles), -1, -1, -1),
            schedule=self.noising,
            steps=SHEET_STEPS,
            parametrisation=PARAMETRISATION,
        )
        return self.autoencoder.decode(latents)


def _kept(hints: ContentHints, features: Tensor, light: Tensor) -> ContentHints:
    """Hints with some of them not shown: normalised maps, whose mean is 0, become 0."""
    features, light = features[:, None, None, None], light[:, None, None, None]
    return ContentHints(hints.deep * features, hints.middle * features, hints.light * light)


def _part(hints: ContentHints, begin: int, end: int) -> ContentHints:
    return ContentHints(hints.deep[begin:end], hints.middle[begin:end], hints.light[begin:end])


def _styles(features: StyleFeatures, begin: int, end: int) -> StyleFeatures:
    colours = Colours(features.colours.mean[begin:end], features.colours.root[begin:end])
    return StyleFeatures(features.cells[begin:end], features.whole[begin:end], colours)


def _guess(content: Tensor, colours: Colours) -> Tensor:
    """What the diffusion starts from, in pixels."""
    return recoloured(coarse(content), colours_of(content), colours)


def _bounded(deviation: Tensor) -> Tensor:
    """Deviations; those of quiet channels are not below a fifth of the median."""
    return deviation.clamp_min(float(deviation.median()) / 5 + 1e-6)


def _to_float(pixels: Tensor) -> Tensor:
    """uint8 to float32 in ``[0, 1]``, channels last in memory."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)

"""How the latent autoencoder is trained: photographs and artworks come back through their latents.

Rombach et al. 2022 (arXiv:2112.10752, section 3.1 and appendix G), after VQGAN (Esser et al. 2021, arXiv:2012.09841).
With the decoded picture ``y = D(E(x) + n)``, ``n`` normal of a small fixed deviation, the terms are

    pixels       Charbonnier distance of y and x
    perceptual   unit-length features of the encoder ``lens``, at its first layer and at 1/2 and 1/4 of the picture
    kl           |E(x)|^2 / 2, the divergence of a posterior of fixed deviation from the standard normal
    adversarial  -C(y) of a PatchGAN C, its pull on the picture as strong as that of the pixels times a factor
    critic       the critic's hinge loss on x and y

and what lies outside of ``[0, 1]``. The critic is switched on by a late stage of the recipe. One optimiser serves both
players, as their terms share no weights: the critic that judges for the decoder is the same with weights held still.

Differs from the papers: no learned heads (``lens`` in the place of LPIPS); the critic starts with its stage.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from impasto.losses.adversarial import adaptive_weight, hinge_critic_loss, hinge_generator_loss
from impasto.losses.perceptual import charbonnier, perceptual_loss
from impasto.losses.regularity import range_loss
from impasto.nets.autoencoder import FACTOR, Autoencoder, PatchBasis, patch_basis
from impasto.nets.patchgan import PatchGAN
from impasto.nets.teachers import Teacher
from impasto.training.data import CropRule, PictureSet, PixelArray
from impasto.training.latent_recipe import AutoencoderRecipe
from impasto.training.loop import Batch

__all__ = ["AutoencoderTask", "AutoencoderTrunk", "Decoded"]

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
BASIS_SIDE = 96
SHEET_SIDE = 192

Decoded = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor] | None]
"""Picture, latents, and the critic's scores: of real pictures, of made ones for its own loss and for the decoder's."""


class AutoencoderTrunk(nn.Module):
    """The autoencoder and its critic while they are trained."""

    def __init__(self, recipe: AutoencoderRecipe, basis: PatchBasis | None = None) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(recipe.network, basis)
        self.critic = PatchGAN()

    def forward(self, picture: Tensor, noise: Tensor | None = None, judged: bool = False) -> Decoded:
        """``[B, 3, H, W]`` to a picture and latents, and scores if they are wanted."""
        decoded, latents = self.autoencoder(picture, noise)
        decoded = decoded.float()  # one tensor for critic and losses, whose pulls are compared; wrappers copy others
        if not judged:
            return decoded, latents, None
        still = {name: value.detach() for name, value in self.critic.named_parameters()}
        passing: Tensor = functional_call(self.critic, still, (decoded,))  # type: ignore[no-untyped-call, unused-ignore]
        return decoded, latents, (self.critic(picture), self.critic(decoded.detach()), passing)


class AutoencoderTask:
    """The :class:`~impasto.training.loop.Task` of the autoencoder.

    Args:
        recipe: everything that decides the training.
        photographs: pictures to reconstruct.
        artworks: likewise, drawn in the recipe's proportion.
        judge: the encoder whose features are compared, with the layers ``relu1_1``, ``relu2_1`` and ``relu3_1``.
    """

    def __init__(
        self, recipe: AutoencoderRecipe, photographs: PictureSet, artworks: PictureSet, judge: Teacher
    ) -> None:
        self.recipe = recipe
        self.photographs = photographs
        self.artworks = artworks
        self.judge = judge
        self.steps = recipe.steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model: nn.Module = AutoencoderTrunk(recipe, self._basis())

    def _basis(self) -> PatchBasis:
        """Principal components of crops of both kinds of pictures."""
        rng = np.random.default_rng([self.recipe.seed, zlib.crc32(b"basis")])
        crops = self._crops(rng, self.recipe.data.basis, BASIS_SIDE)
        parts = [torch.from_numpy(part).float() / 255 for part in np.array_split(crops, -(-len(crops) // 100))]
        return patch_basis(parts, self.recipe.network.channels)

    def _crops(self, rng: np.random.Generator, count: int, size: int) -> PixelArray:
        data = self.recipe.data
        rule = CropRule(size, data.smallest, data.largest, data.jitter)
        painted = int(rng.binomial(count, data.art))
        photographs = self.photographs.crops(rng, count - painted, rule)
        return np.concatenate([photographs, self.artworks.crops(rng, painted, rule)])

    def batch(self, step: int, index: int) -> Batch:
        """Crops ``[B, 3, size, size]``, uint8, and normal numbers for their latents."""
        stage = self.recipe.stage_at(step)
        rng = np.random.default_rng([self.recipe.seed, index])
        side = stage.size // FACTOR
        shape = (stage.batch, self.recipe.network.channels, side, side)
        return {
            "picture": self._crops(rng, stage.batch, stage.size),
            "noise": rng.standard_normal(shape, np.float32),
        }

    def prepare(self, device: torch.device) -> None:
        """Move the judge over."""
        self.judge.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of :class:`~impasto.training.latent_recipe.AutoencoderWeights`."""
        weights = self.recipe.weights_at(step)
        picture = (batch["picture"].float() / 255).contiguous(memory_format=torch.channels_last)
        decoded, latents, scores = model(picture, weights.deviation * batch["noise"], weights.adversarial > 0)
        pixels = weights.pixels * charbonnier(decoded, picture)
        terms = {
            "pixels": pixels,
            "kl": weights.kl * latents.float().square().mean() / 2,
            "range": weights.range * range_loss(decoded),
        }
        if weights.perceptual > 0:
            with torch.no_grad():
                wanted = self.judge(picture, LAYERS)
            terms["perceptual"] = weights.perceptual * perceptual_loss(self.judge(decoded, LAYERS), wanted)
        if scores is not None:
            real, fake, passing = (score.float() for score in scores)
            pull = hinge_generator_loss(passing)
            terms["adversarial"] = weights.adversarial * adaptive_weight(pixels, pull, decoded) * pull
            terms["critic"] = weights.critic * hinge_critic_loss(real, fake)
        else:  # several processes wait for a gradient of every weight
            critic: PatchGAN = self.model.critic  # type: ignore[assignment]
            terms["critic"] = 0 * torch.stack([weight.sum() for weight in critic.parameters()]).sum()
        return terms

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """Three rows: pictures, what the shortcuts alone make of them, and what the whole network does."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        rule = CropRule(SHEET_SIDE, 0.6, 1.0)
        crops = np.concatenate([kind.crops(rng, 3, rule) for kind in (self.photographs, self.artworks)])
        picture = torch.from_numpy(crops).to(device).float() / 255
        network: Autoencoder = model.autoencoder  # type: ignore[assignment]
        rows = [picture, network.linear(picture), network(picture)[0]]
        sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).clamp(0, 1)  # [3, 3 side, 6 side]
        return Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).cpu().numpy())

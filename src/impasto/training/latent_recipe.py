"""Recipes of the latent autoencoder and of the diffusion within its latents."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from impasto.nets.autoencoder import AutoencoderConfig
from impasto.training.recipe import Rule, Stage, TrainingRecipe

__all__ = ["AutoencoderData", "AutoencoderRecipe", "AutoencoderWeights"]


@dataclass(frozen=True)
class AutoencoderData:
    """What a crop shows.

    Attributes:
        art: part of the crops that are taken from artworks, the others from photographs.
        smallest: smallest side of a crop, as a part of the picture's short side.
        largest: largest side, likewise.
        jitter: HSV jitter.
        basis: crops from which the principal components are computed.
    """

    art: float = 0.4
    smallest: float = 0.35
    largest: float = 1.0
    jitter: float = 0.02
    basis: int = 600


@dataclass(frozen=True)
class AutoencoderWeights:
    """Weight of each term of the autoencoder's training.

    Attributes:
        pixels: Charbonnier distance.
        perceptual: distance of unit-length features.
        kl: divergence of the latents from a standard normal.
        deviation: of the posterior, in parts of the latents' own.
        range: values outside of ``[0, 1]``.
        adversarial: the critic's pull on the picture, in parts of that of the pixels; 0 leaves the critic out.
        critic: weight of the critic's own loss.
    """

    pixels: float = 1.0
    perceptual: float = 0.1
    kl: float = 1e-5
    deviation: float = 0.04
    range: float = 0.2
    adversarial: float = 0.0
    critic: float = 0.1


@dataclass(frozen=True)
class AutoencoderRecipe(TrainingRecipe):
    """Everything that decides a training of the autoencoder, apart from where the pictures lie."""

    name: str = "autoencoder"
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: AutoencoderData = field(default_factory=AutoencoderData)
    losses: AutoencoderWeights = field(default_factory=AutoencoderWeights)
    stages: tuple[Stage, ...] = (Stage(size=96),)

    def weights_at(self, step: int) -> AutoencoderWeights:
        """Loss weights at step ``step``: the recipe's, with the stage's own on top."""
        changed: dict[str, Any] = dict(self.stage_at(step).losses)
        return dataclasses.replace(self.losses, **changed)

    def rules(self) -> list[Rule]:
        """Ranges of the data and of the noise."""
        data = self.data
        found: list[Rule] = [
            ("data.art", data.art, "from 0 to 1", 0 <= data.art <= 1),
            ("data.jitter", data.jitter, "from 0 to 0.5", 0 <= data.jitter <= 0.5),
            ("data.smallest", data.smallest, "above 0, largest and 1 at most", 0 < data.smallest <= data.largest <= 1),
            ("data.basis", data.basis, "2 or more", data.basis >= 2),
        ]
        for number, stage in enumerate(self.stages):
            weights = dataclasses.replace(self.losses, **stage.losses)  # type: ignore[arg-type]
            for key in ("deviation", "adversarial"):
                value = getattr(weights, key)
                found.append((f"stages.{number}.losses.{key}", value, "0 or more", value >= 0))
        return found

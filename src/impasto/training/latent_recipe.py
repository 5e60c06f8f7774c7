"""Recipes of the latent autoencoder and of the diffusion within its latents."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from impasto.nets.autoencoder import AutoencoderConfig
from impasto.nets.diffusion import DiffusionConfig
from impasto.training.recipe import Rule, Stage, TrainingRecipe

__all__ = [
    "AutoencoderData",
    "AutoencoderRecipe",
    "AutoencoderWeights",
    "DiffusionData",
    "DiffusionRecipe",
    "DiffusionWeights",
]


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
class AutoencoderRecipe(TrainingRecipe[AutoencoderWeights]):
    """Everything that decides a training of the autoencoder, apart from where the pictures lie."""

    name: str = "autoencoder"
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: AutoencoderData = field(default_factory=AutoencoderData)
    losses: AutoencoderWeights = field(default_factory=AutoencoderWeights)
    stages: tuple[Stage, ...] = (Stage(size=96),)

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
            weights = dataclasses.replace(self.losses, **stage.losses)
            for key in ("deviation", "adversarial"):
                value = getattr(weights, key)
                found.append((f"stages.{number}.losses.{key}", value, "0 or more", value >= 0))
        return found


@dataclass(frozen=True)
class DiffusionData:
    """What a crop shows, and what of it the network is told.

    Attributes:
        art: part of the pictures that are artworks, of those that are told their own style.
        painted: part of the pairs that are photographs and what other engines made of them
            (:mod:`impasto.training.paintings`).
        painters: those engines, in turn.
        paintings: how many they paint before the training begins.
        side: of a painting, in pixels.
        smallest: smallest side of a crop, as a part of the picture's short side.
        largest: largest side, likewise.
        jitter: HSV jitter, the same for both crops of a picture.
        draws: noises and steps for each picture; its features are computed once for all.
        part_noise: part of the draws with a part of the noise only, as a rendering with a temperature below 1 has.
        compared: pictures of each batch that are also painted in one step, decoded and compared, where ``losses`` ask
            for it.
        crossed: pairs of each batch whose style is another picture's, where ``losses`` ask for them.
        style_dropout: part of the draws that are told of no style.
        feature_dropout: part of the contents whose features are not shown.
        light_dropout: part of the contents whose luminance and edges are not shown.
    """

    art: float = 0.6
    painted: float = 0.0
    painters: tuple[str, ...] = ("brush", "local")
    paintings: int = 3000
    side: int = 256
    smallest: float = 0.35
    largest: float = 1.0
    jitter: float = 0.06
    draws: int = 4
    part_noise: float = 0.0
    compared: int = 2
    crossed: int = 1
    style_dropout: float = 0.1
    feature_dropout: float = 0.05
    light_dropout: float = 0.3


@dataclass(frozen=True)
class DiffusionWeights:
    """Weight of each term of the training of ``diffusion``.

    Attributes:
        own: squared error of v: a picture from its own hints and style, or a painting from the photograph's.
        channels: exponent of a latent channel's share in the picture, by which its error counts; 0 for all alike.
        floor: least weight of a step; min-SNR alone would ignore the noisiest.
        gamma: of min-SNR weighting.
        likeness: compared pictures: squared distance of unit-length features from the picture that they should be.
        strokes: compared pictures: moments and Gram matrices of that picture.
        content: crossed pairs: instance-normalised features of the content.
        style: crossed pairs: moments and Gram matrices of the style.
        gram: the Gram part within ``style`` and ``strokes``.
        noisiest: crossed pairs are judged at steps below this part of the schedule.
        low_noise: exponent of the draw of those steps; above 1, low noise is drawn more often.
        variation: crossed pairs: total variation.
    """

    own: float = 1.0
    channels: float = 1.0
    floor: float = 0.25
    gamma: float = 5.0
    likeness: float = 0.0
    strokes: float = 0.0
    content: float = 0.0
    style: float = 0.0
    gram: float = 1.0
    noisiest: float = 0.9
    low_noise: float = 1.5
    variation: float = 0.0


@dataclass(frozen=True)
class DiffusionRecipe(TrainingRecipe[DiffusionWeights]):
    """Everything that decides a training of ``diffusion``, apart from the autoencoder and where the pictures lie."""

    name: str = "diffusion"
    network: DiffusionConfig = field(default_factory=DiffusionConfig)
    data: DiffusionData = field(default_factory=DiffusionData)
    losses: DiffusionWeights = field(default_factory=DiffusionWeights)
    stages: tuple[Stage, ...] = (Stage(size=96),)

    def rules(self) -> list[Rule]:
        """Ranges of the data, and sizes that the network's two levels can halve."""
        data = self.data
        found: list[Rule] = [
            ("data.draws", data.draws, "1 or more", data.draws >= 1),
            ("data.paintings", data.paintings, "1 or more", data.paintings >= 1),
            ("data.side", data.side, "64 or more", data.side >= 64),
            ("data.compared", data.compared, "0 or more", data.compared >= 0),
            ("data.crossed", data.crossed, "0 or more", data.crossed >= 0),
            ("data.jitter", data.jitter, "from 0 to 0.5", 0 <= data.jitter <= 0.5),
            ("data.smallest", data.smallest, "above 0, largest and 1 at most", 0 < data.smallest <= data.largest <= 1),
        ]
        for key in ("art", "painted", "part_noise", "style_dropout", "feature_dropout", "light_dropout"):
            value = getattr(data, key)
            found.append((f"data.{key}", value, "from 0 to 1", 0 <= value <= 1))
        for number, stage in enumerate(self.stages):
            size = stage.size
            found.append((f"stages.{number}.size", size, "a multiple of 16, 64 or more", size % 16 == 0 and size >= 64))
            if data.painted > 0:
                found.append((f"stages.{number}.size", size, f"data.side ({data.side}) at most", size <= data.side))
            weights = dataclasses.replace(self.losses, **stage.losses)
            top = weights.noisiest
            found.append((f"stages.{number}.losses.noisiest", top, "above 0 and up to 1", 0 < top <= 1))
        return found

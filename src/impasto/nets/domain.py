"""Domain-adversarial training: a classifier that asks where a picture comes from, behind a reversed gradient.

Ganin & Lempitsky 2015 ("Unsupervised domain adaptation by backpropagation", arXiv:1409.7495): a classifier learns to
tell the features of training pictures (the source) from those of unlabelled others (the target). Between features and
classifier lies a layer that is the identity forwards and multiplies the gradient by ``-lambda`` backwards (eqs. 14 and
15), so that the same minimisation makes the classifier better and the features harder to tell apart:

    E(f, y, d) = L_y(f, y) - lambda L_d(f, d)                                                             (eq. 1)

Differs from the paper: the classifier is convolutional with a mean over places in the place of fully connected layers,
because the features are maps of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.nets.johnson import JohnsonNet

__all__ = ["AdaptedNet", "DomainClassifier", "DomainConfig", "GradientReversal", "reverse_gradient"]

SLOPE = 0.2  # of the leaky ReLU


class GradientReversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by ``-strength``; see :func:`reverse_gradient`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        """``R(f) = f`` (eq. 14)."""
        ctx.strength = strength
        return features.view_as(features)  # another tensor: autograd would skip one that comes back as it was

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """``dR/df = -lambda I`` (eq. 15)."""
        return -ctx.strength * gradients[0], None


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The features themselves; the gradient that comes back through them is multiplied by ``-strength``.

    Args:
        features: of any shape.
        strength: ``lambda``, 0 or more; at 0 nothing goes back.

    Source: Ganin & Lempitsky 2015, eqs. 14 and 15.
    """
    reversed_features: Tensor = GradientReversal.apply(features, strength)  # type: ignore[no-untyped-call]
    return reversed_features


@dataclass(frozen=True)
class DomainConfig:
    """Sizes of the classifier.

    Attributes:
        inputs: channels of the features.
        channels: of its two convolutions.
    """

    inputs: int = 48
    channels: int = 32


class DomainClassifier(nn.Module):
    """Feature maps ``[B, inputs, h, w]``, to one logit for each picture: ``[B]``, positive for the target."""

    def __init__(self, config: DomainConfig | None = None) -> None:
        super().__init__()
        self.config = config or DomainConfig()
        inputs, channels = self.config.inputs, self.config.channels
        self.first = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.last = nn.Linear(channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """The logits."""
        hidden = functional.leaky_relu(self.first(features), SLOPE)
        hidden = functional.leaky_relu(self.second(hidden), SLOPE)
        logits: Tensor = self.last(hidden.mean((2, 3)))[:, 0]
        return logits


class AdaptedNet(nn.Module):
    """A network of one style with the classifier of its features, which is not kept after training."""

    def __init__(self, net: JohnsonNet) -> None:
        super().__init__()
        self.net = net
        self.classifier = DomainClassifier(DomainConfig(inputs=net.config.quarter))

    def forward(self, picture: Tensor, target: Tensor | None = None, strength: float = 0.0) -> tuple[Tensor, ...]:
        """Paint, and with a ``target`` classify too; in one pass, as data-parallel training needs it.

        Args:
            picture: ``[B, 3, H, W]`` in ``[0, 1]``, of the source.
            target: ``[T, 3, H, W]``, of the target domain; None to paint only.
            strength: of the reversal.

        Returns:
            The painted picture ``[B, 3, H, W]`` and the statistics used, as :class:`~impasto.nets.johnson.JohnsonNet`;
            with a target also the logits of the sources ``[B]`` and of the targets ``[T]``.
        """
        if target is None:
            plain: tuple[Tensor, Tensor] = self.net(picture)
            return plain
        painted, used, features = self.net.forward_with_features(picture)
        both = torch.cat([features, self.net.features(target)])
        logits = self.classifier(reverse_gradient(both, strength))
        return painted, used, logits[: len(picture)], logits[len(picture) :]

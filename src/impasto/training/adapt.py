"""Domain adaptation while a network of one style is trained: its features forget which kind of picture they show.

Ganin & Lempitsky 2015, arXiv:1409.7495: besides the photographs, every step shows as many unlabelled pictures of the
domain that the network is meant for (at night, drawn, medical, ...). A small classifier tells the features of the two
apart; its gradient comes back reversed, ``lambda`` times as strong, and ``lambda`` rises from 0 to 1 over the training:
``2 / (1 + exp(-10 p)) - 1``. Network, gradient and loss: :mod:`impasto.nets.domain`, :mod:`impasto.losses.domain`.

The pictures of the target domain are *not* painted: no other term sees them. As the losses of a style need no labels,
one can also paint them like photographs (name their folder as ``--content`` too), which the paper's classifiers could
not; ``docs/training.md`` has the measured difference.

Differs from the paper: the label loss is the style's objective; Adam in the place of its learning-rate schedule.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.losses.domain import domain_loss, reversal_strength
from impasto.nets.domain import AdaptedNet
from impasto.nets.johnson import JohnsonNet
from impasto.training.data import CropRule, PictureSet
from impasto.training.johnson import JohnsonTask, to_float
from impasto.training.loop import Batch

__all__ = ["AdaptedTask", "network_of"]

TARGET = "target"
_DRAWS = zlib.crc32(b"target domain")  # so that other crops are drawn than of the photographs


class AdaptedTask:
    """The :class:`~impasto.training.loop.Task` of one style, made blind to the difference of two domains.

    Args:
        task: the training without adaptation; its own batches and terms stay as they are.
        targets: pictures of the target domain.
    """

    def __init__(self, task: JohnsonTask, targets: PictureSet) -> None:
        if not isinstance(task.model, JohnsonNet):
            raise TypeError("only the network of one style can be adapted")
        self.task = task
        self.targets = targets
        self.steps = task.steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.recipe.seed + 1)
            self.model: nn.Module = AdaptedNet(task.model)

    def batch(self, step: int, index: int) -> Batch:
        """The batch of the task, and as many crops of the target domain."""
        found, stage, data = self.task.batch(step, index), self.task.recipe.stage_at(step), self.task.recipe.data
        rng = np.random.default_rng([self.task.recipe.seed, index, _DRAWS])
        rule = CropRule(stage.size, data.content_smallest, data.content_largest)
        return found | {TARGET: self.targets.crops(rng, stage.batch, rule)}

    def prepare(self, device: torch.device) -> None:
        """As the task."""
        self.task.prepare(device)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of the task, and ``domain``."""
        weight = self.task.recipe.weights_at(step).domain
        if weight == 0:
            return self.task.losses(model, {name: pixels for name, pixels in batch.items() if name != TARGET}, step)
        shown = {name: to_float(pixels) for name, pixels in batch.items()}
        strength = reversal_strength(step / self.steps)
        painted, _, source, target = model(shown["content"], shown.pop(TARGET), strength)
        terms = self.task.terms(model, shown, painted.float(), step)
        return terms | {"domain": weight * domain_loss(source, target)}

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """As the task."""
        return self.task.sheet(model, device)


def network_of(model: nn.Module) -> nn.Module:
    """The network that paints, without the classifier if there is one."""
    return model.net if isinstance(model, AdaptedNet) else model

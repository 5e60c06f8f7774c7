"""Which domain a picture comes from: the classifier's loss, and how strongly its gradient is reversed.

Source: Ganin & Lempitsky 2015 ("Unsupervised domain adaptation by backpropagation", arXiv:1409.7495).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import UsageError

__all__ = ["domain_loss", "reversal_strength"]

STEEPNESS = 10.0  # gamma of the schedule, as in the paper


def domain_loss(source: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of a classifier that says how likely a picture is of the target domain.

    Args:
        source: logits ``[B]`` of training pictures, whose answer is no.
        target: logits ``[T]`` of pictures of the target domain, whose answer is yes.

    Returns:
        A scalar: ``log 2`` when it cannot tell. Both domains weigh alike, whatever their numbers.
    """
    with torch.autocast(source.device.type, enabled=False):
        no = functional.softplus(source.float()).mean()  # -log(1 - sigmoid)
        yes = functional.softplus(-target.float()).mean()  # -log sigmoid
    return (no + yes) / 2


def reversal_strength(progress: float) -> float:
    """``lambda_p = 2 / (1 + exp(-10 p)) - 1`` (section 4): 0 while the classifier still guesses, then towards 1.

    Args:
        progress: ``p``, the part of the training that is done, from 0 to 1.

    Raises:
        UsageError: a progress outside of 0 to 1.
    """
    if not 0 <= progress <= 1:
        raise UsageError(f"the progress of a training is from 0 to 1, not {progress}")
    return 2 / (1 + math.exp(-STEEPNESS * progress)) - 1

"""The forward process of diffusion: schedules, noising, what a network is asked to predict, and weights of its loss.

With ``abar_t`` the cumulative product of ``1 - beta`` (Ho, Jain & Abbeel 2020, arXiv:2006.11239):

    q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I),      alpha_t = sqrt(abar_t),  sigma_t = sqrt(1 - abar_t)

Tables are float64; results have the type of the pictures. Everything is a pure function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.checks import check_choice, check_range
from impasto.errors import UsageError

__all__ = [
    "PARAMETRISATIONS",
    "NoiseSchedule",
    "cosine_schedule",
    "linear_schedule",
    "scaled_linear_schedule",
    "zero_terminal_snr",
]

PARAMETRISATIONS = ("epsilon", "v", "sample")
"""What a network predicts: the noise, ``v = alpha eps - sigma x_0`` (Salimans & Ho 2022, arXiv:2202.00512), or x_0."""

LARGEST_BETA = 0.999  # of the cosine schedule


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much of a picture is left at each step of the forward process.

    Steps ``t`` are whole numbers from 0 (nearly clean) to ``T - 1``; -1 stands for the clean picture itself. Where a
    method takes ``t``, it is one number for the whole batch, or a tensor ``[B]``.

    Attributes:
        alphas_cumprod: ``abar`` ``[T]`` float64, falling, in ``[0, 1)``.

    Raises:
        UsageError: a table of another form.
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        if table.ndim != 1 or not len(table) or table.dtype != torch.float64:
            raise UsageError(f"alphas_cumprod must be float64 [T], not {table.dtype} {list(table.shape)}")
        if not bool(((table >= 0) & (table < 1)).all()) or bool((table.diff() >= 0).any()):
            raise UsageError("alphas_cumprod must fall from step to step, within [0, 1)")

    @property
    def steps(self) -> int:
        """``T``."""
        return len(self.alphas_cumprod)

    def alpha_cumprod(self, t: int) -> float:
        """``abar_t``; 1 for ``t = -1``."""
        return 1.0 if t < 0 else float(self.alphas_cumprod[t])

    def alpha_sigma(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha_t`` and ``sigma_t``, shaped to be multiplied with ``like`` ``[B, ...]``, in its type."""
        steps = torch.as_tensor(t, device="cpu").reshape(-1)
        table = self.alphas_cumprod.cpu()
        abar = torch.where(steps < 0, torch.ones((), dtype=torch.float64), table[steps.clamp(min=0)])
        abar = abar.reshape(-1, *[1] * (like.ndim - 1))  # [B or 1, 1, ...]
        return abar.sqrt().to(like), (1 - abar).sqrt().to(like)

    # -- noising ---------------------------------------------------------------------------------------------------

    def q_sample(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """``x_t = alpha_t x_0 + sigma_t eps``: the picture ``[B, ...]`` at step ``t``."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * noise

    def training_target(self, x0: Tensor, noise: Tensor, t: int | Tensor, *, parametrisation: str) -> Tensor:
        """What a network should answer for ``q_sample(x0, noise, t)``."""
        check_choice("parametrisation", parametrisation, PARAMETRISATIONS)
        if parametrisation == "epsilon":
            return noise
        if parametrisation == "sample":
            return x0
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * noise - sigma * x0

    # -- reading a network's answer --------------------------------------------------------------------------------

    def predicted_x0(self, prediction: Tensor, x_t: Tensor, t: int | Tensor, *, parametrisation: str) -> Tensor:
        """The clean picture that a prediction means.

        Raises:
            UsageError: ``epsilon`` where nothing of the picture is left: noise says nothing of it there.
        """
        check_choice("parametrisation", parametrisation, PARAMETRISATIONS)
        if parametrisation == "sample":
            return prediction
        alpha, sigma = self.alpha_sigma(t, x_t)
        if parametrisation == "v":
            return alpha * x_t - sigma * prediction
        if bool((alpha == 0).any()):
            raise UsageError(
                "a network that predicts epsilon cannot start where alpha is 0; let it predict v or sample"
            )
        return (x_t - sigma * prediction) / alpha

    def predicted_noise(self, prediction: Tensor, x_t: Tensor, t: int | Tensor, *, parametrisation: str) -> Tensor:
        """The noise that a prediction means."""
        check_choice("parametrisation", parametrisation, PARAMETRISATIONS)
        if parametrisation == "epsilon":
            return prediction
        alpha, sigma = self.alpha_sigma(t, x_t)
        if parametrisation == "v":
            return alpha * prediction + sigma * x_t
        return (x_t - alpha * prediction) / sigma

    # -- weights of the loss ---------------------------------------------------------------------------------------

    def snr(self, t: int | Tensor) -> Tensor:
        """Signal-to-noise ratio ``abar_t / (1 - abar_t)``, float64 ``[]`` or ``[B]``."""
        abar = self.alphas_cumprod[torch.as_tensor(t, device=self.alphas_cumprod.device)]
        return abar / (1 - abar)

    def min_snr_weight(self, t: int | Tensor, gamma: float = 5.0, *, parametrisation: str) -> Tensor:
        """Weight of a squared error at step ``t``, float64 ``[]`` or ``[B]`` (Hang et al. 2023, arXiv:2303.09556).

        It is ``min(SNR, gamma)`` for an error of ``x_0``; an error of epsilon is ``SNR`` times, one of v ``SNR + 1``
        times as large, so there the weight is divided by that (eq. 5 and appendix).

        Raises:
            UsageError: ``gamma`` is not positive.
        """
        check_choice("parametrisation", parametrisation, PARAMETRISATIONS)
        check_range("gamma", gamma, 1e-6, 1e6)
        snr = self.snr(t)
        least = snr.clamp(max=gamma)
        if parametrisation == "sample":
            return least
        if parametrisation == "v":
            return least / (snr + 1)
        return torch.where(snr > gamma, gamma / snr, torch.ones_like(snr))


def linear_schedule(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> NoiseSchedule:
    """``beta`` rises linearly (Ho et al. 2020).

    Raises:
        UsageError: fewer than 2 steps, or betas that are not within (0, 1) and rising.
    """
    _check_betas(steps, start, end)
    return _from_betas(torch.linspace(start, end, steps, dtype=torch.float64))


def scaled_linear_schedule(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> NoiseSchedule:
    """``sqrt(beta)`` rises linearly: the schedule of Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752).

    Raises:
        UsageError: see :func:`linear_schedule`.
    """
    _check_betas(steps, start, end)
    return _from_betas(torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2)


def cosine_schedule(steps: int = 1000, shift: float = 0.008) -> NoiseSchedule:
    """``abar`` falls as a squared cosine (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).

    Raises:
        UsageError: fewer than 2 steps, or a shift outside of [0, 1].
    """
    check_range("steps", steps, 2, 1_000_000)
    check_range("shift", shift, 0, 1)
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((time + shift) / (1 + shift) * math.pi / 2) ** 2  # [T + 1]
    return _from_betas((1 - f[1:] / f[:-1]).clamp(max=LARGEST_BETA))


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """The schedule with nothing of the picture left at its last step (Lin et al. 2024, arXiv:2305.08891, algorithm 1).

    Square roots of ``abar`` are shifted to 0 at the end and scaled so that the first stays.
    """
    root = schedule.alphas_cumprod.sqrt()
    shifted = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return NoiseSchedule(shifted**2)


def _check_betas(steps: int, start: float, end: float) -> None:
    check_range("steps", steps, 2, 1_000_000)
    check_range("start", start, 1e-8, 1 - 1e-8)
    check_range("end", end, start, 1 - 1e-8)


def _from_betas(betas: Tensor) -> NoiseSchedule:
    return NoiseSchedule(torch.cumprod(1 - betas, 0))

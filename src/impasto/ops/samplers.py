"""Samplers: from noise to pictures with a denoiser that somebody trained.

One loop (:func:`sample_from`) walks down a ladder of steps; a sampler is the rule for one rung, from step ``t`` to the
next lower ``s``, given the clean picture ``x0`` that the network sees in ``x_t``:

* ``ddpm``: ancestral (Ho et al. 2020, arXiv:2006.11239);
* ``ddim``: deterministic, or with noise where ``eta > 0`` (Song et al. 2021, arXiv:2010.02502);
* ``dpm-solver++``: second order, multistep, midpoint (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

The last rung leads to the clean picture itself, ``abar = 1``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from impasto.checks import check_choice, check_range
from impasto.errors import UsageError
from impasto.ops.noise import NoiseSchedule

__all__ = [
    "SAMPLERS",
    "SPACINGS",
    "Denoise",
    "OnStep",
    "classifier_free_guidance",
    "ddim_inversion",
    "noise_for",
    "sample",
    "sample_from",
    "timesteps",
]

SAMPLERS = ("ddpm", "ddim", "dpm-solver++")
SPACINGS = ("trailing", "leading", "linspace")

Denoise = Callable[[Tensor, "int | Tensor"], Tensor]
"""``denoise(x_t, t)``: a network's prediction for ``[B, ...]`` at step ``t``, as its parametrisation says."""
OnStep = Callable[[int, int, Tensor], None]
"""``on_step(step, steps, x0)``: called after each step (counted from 1) with the picture it predicts; may raise."""


def timesteps(count: int, steps: int, *, spacing: str = "trailing", start: float = 1.0, offset: int = 0) -> list[int]:
    """The ladder: at most ``steps`` falling steps out of ``0 ... start * count - 1``.

    Args:
        count: ``T`` of the schedule.
        steps: how many; all of them lie below ``start``, so that a run costs the same at any strength (diffusers cuts
            the ladder of a whole run instead). Fewer where there are not so many.
        spacing: ``trailing`` begins with the last step (the one to use for zero terminal SNR), ``leading`` ends with
            the first, ``linspace`` has both ends (Lin et al. 2024, arXiv:2305.08891, table 2).
        start: share of the noise to begin with, 0 to 1; 0 gives an empty ladder.
        offset: added to ``leading`` steps; Stable Diffusion was trained to be used with 1.

    Raises:
        UsageError: a number out of range or an unknown spacing.
    """
    check_choice("spacing", spacing, SPACINGS)
    check_range("start", start, 0, 1)
    check_range("steps", steps, 1, 1_000_000)
    check_range("offset", offset, 0, count - 1)
    last = round(start * count)
    steps = min(steps, last)
    if not steps:
        return []
    if spacing == "leading":
        ratio = last // steps
        offset = min(offset, count - 1 - ratio * (steps - 1))  # no step beyond the last one, and none twice
        return [index * ratio + offset for index in reversed(range(steps))]
    if spacing == "trailing":
        return [round(last - index * last / steps) - 1 for index in range(steps)]
    return [round(index * (last - 1) / max(1, steps - 1)) for index in reversed(range(steps))]


def noise_for(like: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Gaussian noise of the shape of ``like`` ``[B, ...]``: each picture's own generator draws its own.

    Numbers are drawn where the generator lives, so that CPU generators give every device the same picture.

    Raises:
        UsageError: another number of generators than of pictures.
    """
    if generators is None:
        return torch.randn_like(like)
    if len(generators) != len(like):
        raise UsageError(f"{len(like)} pictures need {len(like)} generators, not {len(generators)}")
    drawn = [
        torch.randn(like.shape[1:], generator=one, device=one.device, dtype=torch.float32).to(like)
        for one in generators
    ]
    return torch.stack(drawn)


def classifier_free_guidance(
    conditional: Tensor, unconditional: Tensor, scale: float, *, rescale: float = 0.0
) -> Tensor:
    """``u + scale (c - u)`` (Ho & Salimans 2022, arXiv:2207.12598), optionally with its contrast brought back.

    Args:
        conditional: ``c`` ``[B, ...]``, the prediction with the condition.
        unconditional: ``u``, the one without.
        scale: 1 gives ``c``, 0 gives ``u``.
        rescale: how far the deviation of each picture goes back to that of ``c``, 0 to 1 (Lin et al. 2024, eq. 15-16).

    Raises:
        UsageError: a rescale out of range.
    """
    check_range("rescale", rescale, 0, 1)
    guided = unconditional + scale * (conditional - unconditional)
    if rescale == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    lifted = guided * (conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-8))
    return rescale * lifted + (1 - rescale) * guided


def sample(
    sampler: str,
    denoise: Denoise,
    noise: Tensor,
    *,
    schedule: NoiseSchedule,
    steps: int,
    parametrisation: str = "epsilon",
    spacing: str = "trailing",
    offset: int = 0,
    start: float = 1.0,
    content: Tensor | None = None,
    eta: float = 0.0,
    clip: float | None = None,
    generators: Sequence[torch.Generator] | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Pictures ``[B, ...]`` from noise, or from pictures that noise was added to.

    Args:
        sampler: one of :data:`SAMPLERS`.
        denoise: the network.
        noise: ``[B, ...]``, standard normal.
        schedule: the forward process it was trained for.
        steps: calls of ``denoise``.
        parametrisation: what it predicts, see :data:`~impasto.ops.noise.PARAMETRISATIONS`.
        spacing: see :func:`timesteps`.
        offset: likewise.
        start: share of the noise to begin with; below 1, ``content`` is noised to it (SDEdit, Meng et al. 2022,
            arXiv:2108.01073). 0 gives ``content`` back.
        content: ``[B, ...]`` clean pictures; None begins with noise alone.
        eta: noise of ``ddim``: 0 is deterministic, 1 has the variance of ``ddpm``.
        clip: predicted pictures are clamped to ``[-clip, clip]``.
        generators: one for each picture, of samplers that add noise; None uses torch's own.
        on_step: see :data:`OnStep`.

    Raises:
        UsageError: unknown names, numbers out of range, or a start below 1 without ``content``.
    """
    ladder = timesteps(schedule.steps, steps, spacing=spacing, start=start, offset=offset)
    if content is None and start < 1:
        raise UsageError(f"start {start:g} needs a content to start from; only 1 begins with noise alone")
    if not ladder and content is not None:
        return content.clone()
    x_t = noise if content is None else schedule.q_sample(content, noise, ladder[0])
    return sample_from(
        sampler,
        denoise,
        x_t,
        ladder,
        schedule=schedule,
        parametrisation=parametrisation,
        eta=eta,
        clip=clip,
        generators=generators,
        on_step=on_step,
    )


def sample_from(
    sampler: str,
    denoise: Denoise,
    x_t: Tensor,
    ladder: Sequence[int],
    *,
    schedule: NoiseSchedule,
    parametrisation: str = "epsilon",
    eta: float = 0.0,
    clip: float | None = None,
    generators: Sequence[torch.Generator] | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Walk down ``ladder`` from pictures ``x_t`` ``[B, ...]`` that are at its first step, such as inverted ones.

    Args: see :func:`sample`.

    Raises:
        UsageError: unknown names or numbers out of range.
    """
    check_choice("sampler", sampler, SAMPLERS)
    check_range("eta", eta, 0, 1)
    earlier: tuple[int, Tensor] | None = None  # the step before, and the picture it predicted
    for index, t in enumerate(ladder):
        s = ladder[index + 1] if index + 1 < len(ladder) else -1
        x0 = schedule.predicted_x0(denoise(x_t, t), x_t, t, parametrisation=parametrisation)
        if clip is not None:
            x0 = x0.clamp(-clip, clip)
        draw = functools.partial(noise_for, x_t, generators)
        if sampler == "ddpm":
            x_t = _ddpm(schedule, x_t, x0, t, s, draw)
        elif sampler == "ddim":
            x_t = _ddim(schedule, x_t, x0, t, s, eta, draw)
        else:
            x_t = _dpm_solver(schedule, x_t, x0, t, s, earlier)
        earlier = (t, x0)
        if on_step is not None:
            on_step(index + 1, len(ladder), x0)
    return x_t


def ddim_inversion(
    denoise: Denoise,
    x0: Tensor,
    ladder: Sequence[int],
    *,
    schedule: NoiseSchedule,
    parametrisation: str = "epsilon",
    refinements: int = 0,
    on_step: OnStep | None = None,
) -> list[Tensor]:
    """The noise from which deterministic DDIM makes ``x0`` ``[B, ...]``: the ladder walked upwards (Song et al. 2021).

    A step down takes the noise that is seen in ``x_t``, which is not known yet on the way up: ``x_s`` stands in for it
    (Dhariwal & Nguyen 2021, arXiv:2105.05233). ``refinements`` solves for it by fixed-point iteration, each of which
    costs another call (Pan et al. 2023, arXiv:2309.04907); with them the way down leads back nearly exactly.

    Args:
        denoise: the network.
        x0: clean pictures.
        ladder: falling steps, as :func:`timesteps` gives them.
        schedule: the forward process.
        parametrisation: what the network predicts.
        refinements: fixed-point iterations for each step.
        on_step: hears of each step, with the picture predicted there.

    Returns:
        The pictures at every step of the ladder: the first one is the noise to start from.
    """
    path: list[Tensor] = []
    x_s, s = x0, -1
    for index, t in enumerate(reversed(ladder)):
        a_t, a_s = schedule.alpha_cumprod(t), schedule.alpha_cumprod(s)
        x_t = x_s
        for _ in range(1 + refinements):
            noise = schedule.predicted_noise(denoise(x_t, t), x_t, t, parametrisation=parametrisation)
            clean = (x_s - math.sqrt(1 - a_s) * noise) / math.sqrt(a_s)  # the step down, solved for x_t
            x_t = math.sqrt(a_t) * clean + math.sqrt(1 - a_t) * noise
        path.append(x_t)
        x_s, s = x_t, t
        if on_step is not None:
            on_step(index + 1, len(ladder), clean)
    return path[::-1]


# -- one rung ----------------------------------------------------------------------------------------------------------


def _ddpm(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int, s: int, draw: Callable[[], Tensor]) -> Tensor:
    """A draw from ``q(x_s | x_t, x_0)``: eq. 6-7 of Ho et al. for the step from t to s, with its own variance."""
    a_t, a_s = schedule.alpha_cumprod(t), schedule.alpha_cumprod(s)
    alpha = a_t / a_s  # of the one step that leads from s to t
    beta = 1 - alpha
    mean = (math.sqrt(a_s) * beta * x0 + math.sqrt(alpha) * (1 - a_s) * x_t) / (1 - a_t)
    variance = beta * (1 - a_s) / (1 - a_t)
    return mean + math.sqrt(variance) * draw() if s >= 0 else mean


def _ddim(
    schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int, s: int, eta: float, draw: Callable[[], Tensor]
) -> Tensor:
    """Eq. 12 and 16 of Song et al."""
    a_t, a_s = schedule.alpha_cumprod(t), schedule.alpha_cumprod(s)
    noise = (x_t - math.sqrt(a_t) * x0) / math.sqrt(1 - a_t)
    sigma = eta * math.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
    x_s = math.sqrt(a_s) * x0 + math.sqrt(max(0.0, 1 - a_s - sigma**2)) * noise
    return x_s + sigma * draw() if sigma > 0 else x_s


def _dpm_solver(
    schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int, s: int, earlier: tuple[int, Tensor] | None
) -> Tensor:
    """Algorithm 2 of Lu et al., with ``lambda = log(alpha / sigma)`` and ``h = lambda_s - lambda_t``.

        x_s = sigma_s / sigma_t x_t + alpha_s (1 - e^-h) D,      D = x0 + h / (2 h_earlier) (x0 - x0_earlier)

    The first rung knows no earlier one; the last has ``h`` infinite, where ``D = x0`` (lower order at the end). Where
    ``alpha_t`` is 0, ``h`` is infinite too and says nothing of the next rung's curvature: the quotient is then 0.
    """
    a_t, a_s = schedule.alpha_cumprod(t), schedule.alpha_cumprod(s)
    if s < 0:
        return x0
    shrink = math.sqrt((1 - a_s) / (1 - a_t))  # sigma_s / sigma_t
    decay = shrink * math.sqrt(a_t / a_s)  # e^-h
    direction = x0
    if earlier is not None:
        before, x0_before = earlier
        h, h_before = _lambda(a_s) - _lambda(a_t), _lambda(a_t) - _lambda(schedule.alpha_cumprod(before))
        direction = x0 + h / (2 * h_before) * (x0 - x0_before)
    return shrink * x_t + math.sqrt(a_s) * (1 - decay) * direction


def _lambda(abar: float) -> float:
    """Half the logarithm of the signal-to-noise ratio; minus infinity where nothing of the picture is left."""
    return 0.5 * math.log(abar / (1 - abar)) if abar > 0 else -math.inf

"""Bradley-Terry scores of methods from votes on pairs.

The model (Bradley & Terry 1952): method *i* is preferred to *j* with probability ``p_i / (p_i + p_j)``. The strengths
``p`` are fitted by the MM algorithm of Hunter (2004), "MM algorithms for generalized Bradley-Terry models", Annals of
Statistics 32(1), section 3; a tie counts half a win for each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from impasto.checks import check_range
from impasto.errors import UsageError

__all__ = ["Scores", "bradley_terry", "preference_counts", "resampled"]

Doubles = NDArray[np.float64]

TOLERANCE = 1e-8  # of the log-strengths between two steps; a tenth of an Elo point is 6e-4
MOST_STEPS = 100_000
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Scores:
    """Fitted strengths of ``K`` methods.

    Attributes:
        names: of the methods.
        log_strengths: ``[K]`` natural logarithms of the strengths, their mean 0.
        low: ``[K]`` lower ends of the confidence intervals of ``log_strengths``.
        high: ``[K]`` upper ends.
        level: of the intervals, such as 0.95.
        preferred: ``[K, K]`` fitted probability that the row's method is preferred to the column's.
        bounded: False where the votes hold no finite scores (a method that lost or won every time); a prior then keeps
            them finite.
    """

    names: tuple[str, ...]
    log_strengths: Doubles
    low: Doubles
    high: Doubles
    level: float
    preferred: Doubles
    bounded: bool

    @property
    def elo(self) -> Doubles:
        """``[K]`` the strengths on the Elo scale: 400 points are odds of ten to one; their mean is 1000."""
        return np.asarray(1000 + 400 * self.log_strengths / np.log(10), np.float64)

    @property
    def order(self) -> list[int]:
        """Indices of the methods, the strongest first."""
        return [int(index) for index in np.argsort(-self.log_strengths, kind="stable")]


def preference_counts(count: int, votes: Sequence[tuple[int, int, float]]) -> Doubles:
    """``[K, K]`` how often the row's method was preferred to the column's.

    Args:
        count: number of methods ``K``.
        votes: each with the indices of two methods and what the first one got of the vote: 1, 0.5 for a tie, or 0.

    Raises:
        UsageError: an index that no method has, a method against itself, or another share.
    """
    wins = np.zeros((count, count))
    for first, second, share in votes:
        if not (0 <= first < count and 0 <= second < count) or first == second:
            raise UsageError(f"a vote on the methods {first} and {second} of {count}")
        check_range("the share of a vote", share, 0, 1)
        wins[first, second] += share
        wins[second, first] += 1 - share
    return wins


def bradley_terry(
    names: Sequence[str],
    wins: Doubles,
    *,
    level: float = 0.95,
    prior: float = 0.0,
    samples: Sequence[Doubles] | None = None,
) -> Scores:
    """Fit strengths to counts of preferences.

    Args:
        names: of the methods, ``K`` at least 2.
        wins: ``[K, K]``, how often the row's method was preferred to the column's; ties count half on both sides.
        level: of the confidence intervals, between 0.5 and 0.999.
        prior: this many ties are added to each pair of methods; keeps strengths finite. 0 is maximum likelihood. Where
            that has no finite answer, one tie is added, and ``bounded`` says so.
        samples: resampled counts ``[K, K]``, for intervals by the bootstrap's percentiles (:func:`resampled`). Without,
            intervals come from the Fisher information.

    Raises:
        UsageError: counts of another shape, negative or not finite; fewer than two methods; no votes at all.
    """
    check_range("the confidence level", level, 0.5, 0.999)
    check_range("the prior", prior, 0, 1e6)
    wins = _checked(names, wins)
    bounded = prior > 0 or _strongly_connected(wins)
    prepared = _with_ties(wins, prior if bounded else 1.0)
    logs = _fitted(prepared)
    if samples is None:
        low, high = _by_information(wins, prepared, logs, level)
    else:
        low, high = _by_bootstrap(samples, prior, level)
    difference = logs[:, None] - logs[None, :]
    preferred = 1 / (1 + np.exp(-difference))
    return Scores(tuple(names), logs, low, high, level, preferred, bounded)


def resampled(groups: Sequence[Doubles], *, count: int = RESAMPLES, seed: int = 0) -> list[Doubles]:
    """Counts of ``count`` bootstrap samples, drawn with replacement from groups of votes.

    A group is what belongs together, normally all votes of one voter: they are not independent of each other, and
    drawing single votes would make the intervals too narrow.

    Args:
        groups: counts ``[K, K]`` of each group.
        count: of samples.
        seed: of the draw.
    """
    stacked = np.stack(groups)  # [G, K, K]
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(groups), (count, len(groups)))
    return [stacked[draw].sum(axis=0) for draw in draws]


def _checked(names: Sequence[str], wins: Doubles) -> Doubles:
    counts = np.array(wins, np.float64)
    if len(names) < 2 or counts.shape != (len(names), len(names)):
        raise UsageError(
            f"{len(names)} methods need counts [{len(names)}, {len(names)}] of at least two, not {counts.shape}"
        )
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise UsageError("counts of preferences must be finite and not negative")
    np.fill_diagonal(counts, 0)
    if counts.sum() == 0:
        raise UsageError("there are no votes yet")
    return counts


def _strongly_connected(wins: Doubles) -> bool:
    """Ford's condition (Hunter 2004, assumption 1): however the methods are split in two groups, each group wins once.

    Exactly then the likelihood has a finite maximum.
    """
    reached = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins)):
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    return bool(reached.all())


def _with_ties(wins: Doubles, ties: float) -> Doubles:
    """Counts with further ties between every two methods."""
    return np.asarray(wins + ties / 2 * (1 - np.eye(wins.shape[-1])), np.float64)


def _fitted(wins: Doubles) -> Doubles:
    """The MM algorithm: ``p_i <- W_i / sum_j N_ij / (p_i + p_j)`` (Hunter 2004, eq. 3), until it stands still.

    Args:
        wins: ``[..., K, K]``; several are fitted at once.

    Returns:
        ``[..., K]`` log-strengths, their mean 0.
    """
    won = wins.sum(axis=-1)  # W_i
    compared = wins + np.swapaxes(wins, -1, -2)  # N_ij
    logs = np.zeros(won.shape)
    for _ in range(MOST_STEPS):
        strengths = np.exp(logs)
        sums = strengths[..., :, None] + strengths[..., None, :]
        updated = np.log(won / (compared / sums).sum(axis=-1))
        updated -= updated.mean(axis=-1, keepdims=True)  # strengths have no scale of their own
        moved = np.abs(updated - logs).max()
        logs = updated
        if moved < TOLERANCE:
            break
    return np.asarray(logs, np.float64)


def _information(wins: Doubles, logs: Doubles) -> Doubles:
    """Observed Fisher information ``[K, K]`` of the log-strengths.

    ``-d^2 l / d b_i d b_j = -N_ij p_ij (1 - p_ij)`` beside the diagonal, minus the row's sum on it.
    """
    probability = 1 / (1 + np.exp(-(logs[:, None] - logs[None, :])))
    weight = (wins + wins.T) * probability * (1 - probability)
    np.fill_diagonal(weight, 0)
    return np.asarray(np.diag(weight.sum(axis=1)) - weight, np.float64)


def _by_information(wins: Doubles, prepared: Doubles, logs: Doubles, level: float) -> tuple[Doubles, Doubles]:
    """Wald intervals. Strengths are known up to a factor; the pseudo-inverse is their covariance with a mean of 0."""
    covariance = np.linalg.pinv(_information(prepared, logs), hermitian=True)
    reach = NormalDist().inv_cdf(0.5 + level / 2) * np.sqrt(np.clip(np.diag(covariance), 0, None))
    reach[(wins + wins.T).sum(axis=1) == 0] = np.inf  # never compared
    return logs - reach, logs + reach


def _by_bootstrap(samples: Sequence[Doubles], prior: float, level: float) -> tuple[Doubles, Doubles]:
    """Percentile intervals. Samples without a finite answer (somebody lost every time) get a tie."""
    if len(samples) < 20:
        raise UsageError(f"{len(samples)} bootstrap samples are too few for an interval; take at least 20")
    ties = [prior if prior > 0 or _strongly_connected(one) else 1.0 for one in samples]
    fits = _fitted(np.stack([_with_ties(one, more) for one, more in zip(samples, ties, strict=True)]))  # [S, K]
    low, high = np.quantile(fits, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return np.asarray(low, np.float64), np.asarray(high, np.float64)

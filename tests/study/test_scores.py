"""Bradley-Terry scores against references that are computed another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from impasto.errors import UsageError
from impasto.study import bradley_terry, preference_counts, resampled

NAMES = ("a", "b", "c", "d")
WINS = np.array([[0, 7, 9, 3], [3, 0, 6, 5], [1, 4, 0, 6], [2, 1.5, 4, 0]], float)


def negative_likelihood(logs, wins):
    logs = np.append(logs, -logs.sum())
    difference = logs[:, None] - logs[None, :]
    return float((wins * np.logaddexp(0, -difference))[~np.eye(len(wins), dtype=bool)].sum())


def by_optimiser(wins):
    """Maximum likelihood by a general optimiser, the mean of the log-strengths 0."""
    found = minimize(negative_likelihood, np.zeros(len(wins) - 1), args=(wins,), method="BFGS", options={"gtol": 1e-9})
    return np.append(found.x, -found.x.sum())


def test_strengths_maximise_the_likelihood():
    scores = bradley_terry(NAMES, WINS)
    assert scores.bounded
    np.testing.assert_allclose(scores.log_strengths, by_optimiser(WINS), atol=1e-5)


@given(arrays(np.float64, (3, 3), elements=st.integers(1, 30).map(float)))
def test_any_counts_match_the_optimiser(wins):
    np.fill_diagonal(wins, 0)
    np.testing.assert_allclose(bradley_terry("abc", wins).log_strengths, by_optimiser(wins), atol=2e-4)


def test_two_methods_have_a_closed_form():
    scores = bradley_terry("ab", np.array([[0, 30], [10, 0]]))
    assert scores.preferred[0, 1] == pytest.approx(0.75)
    assert scores.elo[0] - scores.elo[1] == pytest.approx(400 * np.log10(3))
    # of the difference of two log-strengths: 1 / (N p (1 - p)); each is half of the difference
    error = np.sqrt(1 / (40 * 0.75 * 0.25)) / 2
    assert scores.high[0] - scores.log_strengths[0] == pytest.approx(1.959964 * error, rel=1e-5)


def test_known_example():
    """Baseball teams of the American League 1987 (Agresti 2002, table 10.10), fitted there with Baltimore at 0."""
    teams = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ],
        float,
    )
    logs = bradley_terry(teams, wins).log_strengths
    published = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0]
    np.testing.assert_allclose(logs - logs[-1], published, atol=0.006)


def test_intervals_cover_as_often_as_they_say():
    generator = np.random.default_rng(0)
    truth = np.array([0.6, 0.0, -0.6])
    probability = 1 / (1 + np.exp(-(truth[:, None] - truth[None, :])))
    inside = {"information": 0, "bootstrap": 0}
    rounds = 150
    for _ in range(rounds):
        groups = []
        for _ in range(15):  # voters, each with 4 votes on each pair
            one = np.zeros((3, 3))
            for first, second in ((0, 1), (0, 2), (1, 2)):
                one[first, second] = generator.binomial(4, probability[first, second])
                one[second, first] = 4 - one[first, second]
            groups.append(one)
        wins = np.sum(groups, axis=0)
        samples = resampled(groups, count=200, seed=1)
        for name, chosen in (("information", None), ("bootstrap", samples)):
            scores = bradley_terry("abc", wins, level=0.9, samples=chosen)
            inside[name] += int(((scores.low <= truth) & (truth <= scores.high)).sum())
    shares = {name: count / (3 * rounds) for name, count in inside.items()}
    assert 0.85 < shares["information"] < 0.95, shares
    assert 0.82 < shares["bootstrap"] < 0.95, shares  # percentiles of 15 voters are a little narrow


def test_voters_who_agree_with_themselves_widen_the_bootstrap():
    """Two kinds of voters: single votes look like many, though there are few opinions."""
    fans = [np.array([[0, 10.0], [0, 0]])] * 6 + [np.array([[0, 0], [10.0, 0]])] * 6
    wins = np.sum(fans, axis=0)
    narrow = bradley_terry("ab", wins)
    wide = bradley_terry("ab", wins, samples=resampled(fans, seed=0))
    assert wide.high[0] - wide.low[0] > 2 * (narrow.high[0] - narrow.low[0])


@given(st.permutations(range(4)))
def test_order_of_methods_does_not_matter(order):
    first = bradley_terry(NAMES, WINS)
    other = bradley_terry([NAMES[i] for i in order], WINS[np.ix_(order, order)])
    np.testing.assert_allclose(other.log_strengths, first.log_strengths[list(order)], atol=1e-7)
    np.testing.assert_allclose(other.high, first.high[list(order)], atol=1e-6)


def test_ties_count_half():
    tied = preference_counts(2, [(0, 1, 0.5)] * 10)
    assert np.array_equal(tied, [[0, 5], [5, 0]])
    assert bradley_terry("ab", tied).log_strengths == pytest.approx([0, 0])


def test_who_never_lost_stays_finite_and_it_is_said():
    scores = bradley_terry("ab", np.array([[0, 9], [0, 0]]))
    assert not scores.bounded and np.isfinite(scores.log_strengths).all() and scores.order == [0, 1]
    split = np.zeros((4, 4))
    split[0, 1] = split[1, 0] = split[2, 3] = split[3, 2] = 5  # two groups that never met
    assert not bradley_terry(NAMES, split).bounded


def test_never_compared():
    scores = bradley_terry("abc", np.array([[0, 4, 0], [2, 0, 0], [0, 0, 0.0]]))
    assert not scores.bounded and np.isinf(scores.high[2]) and np.isfinite(scores.log_strengths).all()


@pytest.mark.parametrize(
    ("names", "wins", "words"),
    [
        ("a", np.zeros((1, 1)), "at least two"),
        ("ab", np.zeros((2, 2)), "no votes"),
        ("ab", -np.ones((2, 2)), "not negative"),
        ("ab", np.full((2, 2), np.nan), "finite"),
        ("ab", np.zeros((3, 3)), "counts"),
    ],
)
def test_counts_that_cannot_be_fitted(names, wins, words):
    with pytest.raises(UsageError, match=words):
        bradley_terry(names, wins)


def test_votes_that_cannot_be_counted():
    for vote in ((0, 0, 1), (0, 2, 1), (-1, 0, 1), (0, 1, 2)):
        with pytest.raises(UsageError):
            preference_counts(2, [vote])
    with pytest.raises(UsageError, match="too few"):
        bradley_terry("ab", np.ones((2, 2)), samples=[np.ones((2, 2))])

"""User studies: blind comparisons of result folders, votes, and Bradley-Terry scores with confidence intervals."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impasto.study.pairs import Comparison, Study
    from impasto.study.scores import Scores, bradley_terry, preference_counts, resampled
    from impasto.study.settings import StudyConfig
    from impasto.study.votes import Vote, VoteStore

__all__ = [
    "Comparison",
    "Scores",
    "Study",
    "StudyConfig",
    "Vote",
    "VoteStore",
    "bradley_terry",
    "preference_counts",
    "resampled",
]

_HOMES = {
    "Comparison": "pairs",
    "Scores": "scores",
    "Study": "pairs",
    "StudyConfig": "settings",
    "Vote": "votes",
    "VoteStore": "votes",
    "bradley_terry": "scores",
    "preference_counts": "scores",
    "resampled": "scores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'impasto.study' has no attribute '{name}'")
    return getattr(importlib.import_module(f"impasto.study.{_HOMES[name]}"), name)

"""Settings of a user study. Imports nothing heavy: the command line reads the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.config import check_settings, setting
from impasto.errors import UsageError

__all__ = ["INTERVALS", "StudyConfig"]

INTERVALS = ("auto", "information", "bootstrap")
LONGEST_QUESTION = 300


@dataclass(frozen=True)
class StudyConfig:
    """How a study is held.

    Raises:
        UsageError: a value outside of its range.
    """

    question: str = setting("Which picture do you prefer?", "what voters are asked")
    per_voter: int = setting(40, "comparisons that each voter gets at most", smallest=1, largest=100_000)
    ties: bool = setting(True, "voters may say that they cannot decide")
    seed: int = setting(0, "seed of order and sides", smallest=0, largest=2**63 - 1)

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.question.strip() or len(self.question) > LONGEST_QUESTION:
            raise UsageError(f"the question must have 1 to {LONGEST_QUESTION} characters")

"""The plan of a study: which pictures are compared, in which order, on which side."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto.errors import UsageError
from impasto.study.settings import StudyConfig

__all__ = ["SUFFIXES", "Comparison", "Study"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Formats that every browser shows."""


@dataclass(frozen=True)
class Comparison:
    """Two pictures of one subject by two methods.

    Attributes:
        subject: the file's name without ending, below the folders.
        left: index of the method on the left.
        right: index of the method on the right.
    """

    subject: str
    left: int
    right: int


@dataclass(frozen=True)
class Study:
    """Result folders of methods that painted the same photographs.

    Attributes:
        folders: one of each method; the folder's name is the method's, which voters never see.
        pictures: by subject, a file of each method; subjects that not all methods have are left out.
        reference: by subject, a picture shown above both (the photograph or the style), where there is one.
        config: see :class:`StudyConfig`.
    """

    folders: tuple[Path, ...]
    pictures: dict[str, tuple[Path, ...]]
    reference: dict[str, Path]
    config: StudyConfig

    @classmethod
    def of(cls, folders: Sequence[Path], config: StudyConfig, *, reference: Path | None = None) -> Study:
        """Match the pictures of the folders by their names.

        Raises:
            UsageError: fewer than two folders, one that does not exist, two of one name, or no picture in all of them.
        """
        if len(folders) < 2:
            raise UsageError("a comparison needs at least two folders")
        names = [folder.resolve().name for folder in folders]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"two folders are called '{twice}'; the name is the method's, so give them different ones")
        found = [_subjects(folder) for folder in folders]
        common = sorted(set(found[0]).intersection(*found[1:]))
        if not common:
            raise UsageError(
                "no picture has the same name in all folders; results are matched by their names without ending"
            )
        shown = {} if reference is None else _subjects(reference)
        return cls(
            tuple(folder.resolve() for folder in folders),
            {subject: tuple(one[subject] for one in found) for subject in common},
            {subject: shown[subject] for subject in common if subject in shown},
            config,
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(folder.name for folder in self.folders)

    @property
    def identity(self) -> str:
        """Tells whether votes belong to this study: fingerprint of all that plans are drawn from, and of the question.

        A voter who comes back must find the same comparisons under the same numbers.
        """
        parts = json.dumps([self.methods, list(self.pictures), self.config.seed, self.config.question])
        return hashlib.sha256(parts.encode("utf-8")).hexdigest()[:16]

    def plan(self, voter: str) -> list[Comparison]:
        """The comparisons of one voter, in their order.

        Each voter has an order of their own, drawn from the study's seed and the voter's id, so that no comparison is
        always first and none always last. The pairs of methods come as evenly as the number allows: the plan is made of
        rounds in which every pair of methods occurs once. Sides are drawn for each comparison.
        """
        draw = random.Random(f"{self.config.seed}:{voter}")
        pairs = list(itertools.combinations(range(len(self.folders)), 2))
        left = {pair: draw.sample(list(self.pictures), len(self.pictures)) for pair in pairs}
        plan: list[Comparison] = []
        while len(plan) < self.config.per_voter and any(left.values()):
            for first, second in draw.sample(pairs, len(pairs)):
                if left[first, second] and len(plan) < self.config.per_voter:
                    sides = (first, second) if draw.random() < 0.5 else (second, first)
                    plan.append(Comparison(self._next(left[first, second], plan), *sides))
        return plan

    @staticmethod
    def _next(subjects: list[str], plan: Sequence[Comparison]) -> str:
        """A subject that was not shown just before, if there is one."""
        for index, subject in enumerate(subjects):
            if not plan or subject != plan[-1].subject:
                return subjects.pop(index)
        return subjects.pop(0)

    def files(self) -> Iterator[Path]:
        """Every picture that is shown."""
        for row in self.pictures.values():
            yield from row
        yield from self.reference.values()


def _subjects(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by their place in it without ending.

    Raises:
        UsageError: it is no folder, or two pictures differ in their endings only.
    """
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        subject = path.relative_to(folder).with_suffix("").as_posix()
        if subject in found:
            raise UsageError(f"'{found[subject]}' and '{path}' have one name; keep one of them")
        found[subject] = path
    return found

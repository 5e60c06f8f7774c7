"""Folders of photographs: planned, painted one by one, resumable, with failures listed instead of raised."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from impasto.checks import check_choice
from impasto.config import StylizeConfig
from impasto.engines import engine_spec
from impasto.errors import ImpastoError, OutputError, UsageError
from impasto.field import StyleField
from impasto.regions import RegionConfig, RegionSpec, RegionStyle, parse_region
from impasto.stylizer import StyleRequest, Stylizer, file_stamp, fingerprint
from impasto.weights import load_card

__all__ = ["SUFFIXES", "BatchJob", "Outcome", "SaveOptions", "run_batch"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
JOURNAL = ".impasto-batch.jsonl"


@dataclass(frozen=True)
class SaveOptions:
    """How paintings are written; ``suffix`` None keeps each photograph's format.

    Raises:
        UsageError: a suffix that no format of a batch has.
    """

    suffix: str | None = None
    depth: int = 8
    quality: int = 95
    strip: bool = False

    def __post_init__(self) -> None:
        if self.suffix is not None:
            check_choice("suffix", self.suffix.lower(), tuple(sorted(SUFFIXES)))


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph; ``error`` is empty when it was painted."""

    source: Path
    target: Path
    error: str


@dataclass(frozen=True)
class BatchJob:
    """A folder, where its paintings go, and how they are made."""

    folder: Path
    output: Path
    engine: str
    styles: tuple[tuple[str, float], ...]
    config: StylizeConfig
    save: SaveOptions
    regions: tuple[str, ...] = ()
    region_config: RegionConfig = field(default_factory=RegionConfig)

    @property
    def settings(self) -> str:
        """Fingerprint of all that shapes the paintings: weights, settings, and the style files as they are now."""
        card = engine_spec(self.engine).card
        weights = load_card(card).identity if card else ""
        styles: list[Any] = [(name, share, file_stamp(Path(name))) for name, share in self.styles]
        if self.regions or self.region_config != RegionConfig():  # journals without regions stay valid
            files = [file_stamp(Path(name)) for text in self.regions for name in _files_of(text)]
            styles += [self.regions, files, asdict(self.region_config)]
        return fingerprint(self.engine, weights, styles, asdict(self.config), asdict(self.save))

    def target(self, source: Path) -> Path:
        """Where the painting of ``source`` goes: the same place below the output folder."""
        relative = source.relative_to(self.folder)
        return self.output / (relative.with_suffix(self.save.suffix) if self.save.suffix else relative)

    def plan(self, *, again: bool = False) -> tuple[list[Path], int]:
        """Photographs still to be painted, and how many the journal has as done with these settings.

        Raises:
            UsageError: the folder is missing, holds no picture, or is the output folder itself; no such engine.
            OutputError: two photographs would become one file.
            WeightsError: the engine's card is missing or damaged.
        """
        if not self.folder.is_dir():
            raise UsageError(f"'{self.folder}' is not a folder")
        if self.output.resolve() == self.folder.resolve():
            raise UsageError("the output folder is the folder of photographs; name another one")
        inside = self.output.resolve()
        found = sorted(
            path
            for path in self.folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file() and inside not in path.resolve().parents
        )
        if not found:
            raise UsageError(f"no picture found in '{self.folder}' ({', '.join(sorted(SUFFIXES))})")
        targets: dict[Path, Path] = {}
        for path in found:
            other = targets.setdefault(self.target(path), path)
            if other != path:
                raise OutputError(f"'{other}' and '{path}' would both become '{self.target(path)}'")
        painted = {} if again else self._journal()
        settings = self.settings
        todo = [
            path
            for path in found
            if painted.get(self._name(path)) != self._entry(path, settings) or not self.target(path).is_file()
        ]
        return todo, len(found) - len(todo)

    def _name(self, source: Path) -> str:
        """The painting in the journal: relative, so that the folders may be spelled differently or moved."""
        return self.target(source).relative_to(self.output).as_posix()

    def _entry(self, source: Path, settings: str) -> dict[str, Any]:
        """What the journal says when the painting of ``source``, as it is now, is done."""
        return {"target": self._name(source), "settings": settings, "source": list(file_stamp(source) or ())}

    def _journal(self) -> dict[str, dict[str, Any]]:
        """The last entry of each painting; one that was painted anew in another way since is no longer there."""
        try:
            lines = (self.output / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        entries = {}
        for line in lines:
            try:
                entry = json.loads(line)
                entries[str(entry["target"])] = entry
            except (KeyError, TypeError, ValueError):  # the line that was being written when the power went
                continue
        return entries


def run_batch(job: BatchJob, todo: Sequence[Path]) -> Iterator[Outcome]:
    """Paint ``todo`` one after the other; the iterator yields after each.

    Raises:
        ImpastoError: engine or styles are wrong, or the output folder cannot be written; at once, not when the iterator
            is first asked.
    """
    stylizer = Stylizer.load(job.engine)
    codes = [stylizer.encode(name, config=job.config) for name, _ in job.styles]
    shares = [share for _, share in job.styles]
    if codes or not job.regions:
        StyleField.mixed(codes, shares)  # raises when they make no field
    requests = [StyleRequest(code, share) for code, share in zip(codes, shares, strict=True)]
    regions = [stylizer.encoded(RegionStyle.parse(text), job.config, job.region_config) for text in job.regions]
    _begin_journal(job.output)
    return _painted(job, todo, stylizer, requests, regions)


def _files_of(text: str) -> list[str]:
    """The files that a region's text names: masks, annotations, the style and its mask."""
    one = RegionStyle.parse(text)
    specs = [parse_region(part) for part in (one.region, one.style_region) if isinstance(part, str)]
    named = [spec.file for spec in specs if isinstance(spec, RegionSpec) and spec.file is not None]
    return named + ([one.style] if isinstance(one.style, str) else [])


def _painted(
    job: BatchJob,
    todo: Sequence[Path],
    stylizer: Stylizer,
    requests: Sequence[StyleRequest],
    regions: Sequence[RegionStyle],
) -> Iterator[Outcome]:
    settings = job.settings
    with (job.output / JOURNAL).open("a", encoding="utf-8") as journal:
        for source in todo:
            target = job.target(source)
            entry = job._entry(source, settings)  # before it is read: a later change is then seen
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                result = stylizer.stylize(
                    source, requests, regions=regions, region_config=job.region_config, config=job.config
                )
                result.save(target, depth=job.save.depth, quality=job.save.quality, strip=job.save.strip)
            except (ImpastoError, OSError, MemoryError) as error:
                yield Outcome(source, target, str(error) or type(error).__name__)
                continue
            journal.write(json.dumps(entry) + "\n")
            journal.flush()
            yield Outcome(source, target, "")


def _begin_journal(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write("\n")  # ends a line that was cut off
    except OSError as error:
        raise OutputError(f"cannot write to the folder '{folder}': {error.strerror}") from error

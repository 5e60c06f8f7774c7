"""Folders of photographs: planned, painted one by one, resumable, with failures listed instead of raised."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from impasto.config import StylizeConfig
from impasto.errors import ImpastoError, OutputError, UsageError
from impasto.stylizer import StyleRequest, Stylizer, fingerprint

__all__ = ["SUFFIXES", "BatchJob", "Outcome", "SaveOptions", "run_batch"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
JOURNAL = ".impasto-batch.jsonl"


@dataclass(frozen=True)
class SaveOptions:
    """How paintings are written; ``suffix`` None keeps each photograph's format."""

    suffix: str | None = None
    depth: int = 8
    quality: int = 95
    strip: bool = False


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

    @property
    def settings(self) -> str:
        """Fingerprint of everything that shapes the paintings, the style files' contents included."""
        styles = []
        for name, share in self.styles:
            path = Path(name)
            stamp = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
            styles.append((name, share, stamp))
        return fingerprint(self.engine, styles, asdict(self.config), asdict(self.save))

    def target(self, source: Path) -> Path:
        """Where the painting of ``source`` goes: the same place below the output folder."""
        relative = source.relative_to(self.folder)
        return self.output / (relative.with_suffix(self.save.suffix) if self.save.suffix else relative)

    def plan(self, *, again: bool = False) -> tuple[list[Path], int]:
        """Photographs still to be painted, and how many the journal has as done with these settings.

        Raises:
            UsageError: the folder is missing, holds no picture, or is the output folder itself.
            OutputError: two photographs would become one file.
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
        finished = set() if again else self._finished()
        todo = [path for path in found if (str(path), _stamp(path)) not in finished or not self.target(path).is_file()]
        return todo, len(found) - len(todo)

    def _finished(self) -> set[tuple[str, str]]:
        try:
            lines = (self.output / JOURNAL).read_text(encoding="utf-8").splitlines()
        except OSError:
            return set()
        finished = set()
        settings = self.settings
        for line in lines:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when the power went
                continue
            if entry.get("settings") == settings:
                finished.add((entry["source"], entry["stamp"]))
        return finished


def run_batch(job: BatchJob, todo: Sequence[Path]) -> Iterator[Outcome]:
    """Paint ``todo`` one after the other; yields after each.

    Raises:
        ImpastoError: engine or styles are wrong (found out before the first picture), or the output folder cannot be
            written.
    """
    stylizer = Stylizer.load(job.engine)
    requests = [
        StyleRequest(stylizer.encode(name, config=job.config), share) for name, share in job.styles
    ]
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder '{job.output}': {error.strerror}") from error
    settings = job.settings
    with (job.output / JOURNAL).open("a", encoding="utf-8") as journal:
        for source in todo:
            target = job.target(source)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                result = stylizer.stylize(source, requests, config=job.config)
                result.save(target, depth=job.save.depth, quality=job.save.quality, strip=job.save.strip)
            except (ImpastoError, OSError, MemoryError) as error:
                yield Outcome(source, target, str(error) or type(error).__name__)
                continue
            entry = {"settings": settings, "source": str(source), "stamp": _stamp(source)}
            journal.write(json.dumps(entry) + "\n")
            journal.flush()
            yield Outcome(source, target, "")


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"

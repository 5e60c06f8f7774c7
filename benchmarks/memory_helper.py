"""What :mod:`benchmarks.memory` has done by other processes, so that its own memory stays small.

``photograph FILE HEIGHT WIDTH`` writes a picture, ``style`` prints a preset's name, ``render HEIGHT WIDTH`` paints
pixels by the engine alone, ``seams SIDE`` prints the largest and the mean difference between tiles and whole.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Do one of the four."""
    match list(arguments):
        case ["photograph", path, height, width]:
            _photograph(Path(path), int(height), int(width))
        case ["style"]:
            _style()
        case ["render", height, width]:
            _render(int(height), int(width))
        case ["seams", side]:
            _seams(int(side))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _photograph(path: Path, height: int, width: int) -> None:
    from benchmarks.pictures import write_photograph

    write_photograph(path, height, width)


def _style() -> None:
    from impasto.engines import load_engine

    print(next(iter(load_engine("brush").presets())))


def _render(height: int, width: int) -> None:
    from benchmarks.pictures import photograph
    from impasto.config import StylizeConfig
    from impasto.engines import load_engine
    from impasto.field import StyleField

    engine = load_engine("brush")
    code = next(iter(engine.presets().values()))
    engine.render(photograph(height, width), StyleField.constant(code), StylizeConfig())


def _seams(side: int) -> None:
    from benchmarks.memory import seam_error

    largest, mean = seam_error(side)
    print(largest, mean)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Every error this package raises on purpose.

    ImpastoError                    exit code 1   HTTP 500
    ├── UsageError                            2        400   an option, a name or a combination is wrong
    │   ├── UnknownNameError                  2        404   no such engine, preset or recipe; near matches are named
    │   └── FieldError                        2        400   weights, masks or strengths that make no field
    ├── ImageError                            3        422   a picture cannot be read
    │   └── ImageLimitError                   3        413   a picture is larger than allowed
    ├── OutputError                           4        507   a result cannot be written
    ├── WeightsError                          5        503   weights are missing, damaged or of another layout
    ├── MissingExtraError                     6        501   an optional part is not installed
    ├── BatchError                            7        207   some pictures of a batch failed
    ├── TrainingError                         8        500   training cannot go on
    └── CancelledError                      130        499   whoever asked for the picture took it back

Each message says what was wrong, with which input, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BatchError",
    "CancelledError",
    "FieldError",
    "ImageError",
    "ImageLimitError",
    "ImpastoError",
    "MissingExtraError",
    "OutputError",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "WeightsError",
]


class ImpastoError(Exception):
    """Base of all errors; ``exit_code`` is what the command line ends with, ``http_status`` what the server says."""

    exit_code = 1
    http_status = 500


class UsageError(ImpastoError):
    """An option, a name or a combination of them is wrong."""

    exit_code = 2
    http_status = 400


class UnknownNameError(UsageError):
    """A name that is in no table; the message names near matches."""

    http_status = 404

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"no {kind} is called '{name}'; {hint}")
        self.near = near


class FieldError(UsageError):
    """Weights, masks or strengths from which no style field can be made."""


class ImageError(ImpastoError):
    """A picture that cannot be read."""

    exit_code = 3
    http_status = 422


class ImageLimitError(ImageError):
    """A picture with more pixels than allowed."""

    http_status = 413


class OutputError(ImpastoError):
    """A result that cannot be written."""

    exit_code = 4
    http_status = 507


class WeightsError(ImpastoError):
    """Weights that are missing, damaged or laid out for another network."""

    exit_code = 5
    http_status = 503


class MissingExtraError(ImpastoError):
    """A part of impasto that needs packages which are not installed."""

    exit_code = 6
    http_status = 501

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'impasto[{extra}]'")
        self.extra = extra


class BatchError(ImpastoError):
    """Some pictures of a batch failed; the others are done."""

    exit_code = 7
    http_status = 207


class TrainingError(ImpastoError):
    """Training that cannot go on."""

    exit_code = 8


class CancelledError(ImpastoError):
    """Work that was called off: raised by a progress callback to stop an engine."""

    exit_code = 130
    http_status = 499

"""The table of metrics: what each is called, what it needs, which way is better. It imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from impasto.errors import UnknownNameError, UsageError

__all__ = ["DEFAULT_METRICS", "METRICS", "PLAIN_METRICS", "MetricSpec", "check_metrics"]


@dataclass(frozen=True)
class MetricSpec:
    """A row of the table.

    Attributes:
        name: as users write it.
        better: which way is better; for ``diversity``, neither is in itself.
        over: ``pixels``, or what it needs: the ``encoder``, ``lpips`` files, ``clip`` weights, or several ``seeds``.
        against: the picture that results are compared with; ``set`` for the styles as a whole.
        meaning: one sentence for a person.
    """

    name: str
    better: Literal["lower", "higher", ""]
    over: Literal["pixels", "encoder", "lpips", "clip", "seeds"]
    against: Literal["content", "style", "both", "set", "itself"]
    meaning: str


_ROWS = (
    MetricSpec("ssim", "higher", "pixels", "content", "structural similarity of luminance with the content, -1 to 1"),
    MetricSpec("ms-ssim", "higher", "pixels", "content", "the same at up to five scales, 0 to 1"),
    MetricSpec(
        "content", "lower", "encoder", "content", "relative distance of deep feature maps from the content's, 0 to 1"
    ),
    MetricSpec(
        "perceptual",
        "lower",
        "encoder",
        "content",
        "difference of unit-length features from the content's, 0 to 2; the idea of LPIPS without its learned heads",
    ),
    MetricSpec(
        "structure",
        "lower",
        "encoder",
        "content",
        "how much the similarities between places of the picture changed, not its colours or texture; the idea of CFSD",
    ),
    MetricSpec("cfsd", "lower", "encoder", "content", "CFSD as published; needs VGG-19 as the encoder"),
    MetricSpec("gram", "lower", "encoder", "style", "relative distance of Gram matrices from the style's, 0 to 1"),
    MetricSpec("moments", "lower", "encoder", "style", "relative distance of features' means and deviations, 0 to 1"),
    MetricSpec(
        "leak",
        "lower",
        "encoder",
        "both",
        "share of the picture that repeats a certain place of the style picture: its objects, not its texture; 0 to 1",
    ),
    MetricSpec(
        "frechet",
        "lower",
        "encoder",
        "set",
        "Fréchet distance of the moments of all results from all styles', in percent of the styles' variance; not FID",
    ),
    MetricSpec(
        "artfrechet",
        "lower",
        "encoder",
        "set",
        "(1 + mean perceptual) (1 + frechet): content and style in one number, 1 at best; made like ArtFID, not ArtFID",
    ),
    MetricSpec("lpips", "lower", "lpips", "content", "LPIPS with the official backbone and heads"),
    MetricSpec("clip-content", "higher", "clip", "content", "cosine of CLIP embeddings of result and content, -1 to 1"),
    MetricSpec("clip-style", "higher", "clip", "style", "cosine of CLIP embeddings of result and style, -1 to 1"),
    MetricSpec(
        "diversity", "", "seeds", "itself", "1 - SSIM between results of several seeds; 0 for engines without chance"
    ),
)

METRICS: dict[str, MetricSpec] = {row.name: row for row in _ROWS}

DEFAULT_METRICS = (
    "ssim",
    "content",
    "perceptual",
    "structure",
    "gram",
    "moments",
    "leak",
    "frechet",
    "artfrechet",
)
PLAIN_METRICS = tuple(row.name for row in _ROWS if row.over in ("pixels", "seeds"))
"""What the core install can measure, without torch."""


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the table's order, each once; ``artfrechet`` brings what it is made of.

    Raises:
        UnknownNameError: a name that is not in the table.
        UsageError: none at all.
    """
    if not names:
        raise UsageError(f"at least one metric is needed, of {', '.join(METRICS)}")
    wanted = set()
    for name in names:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
        wanted.add(name)
    if "artfrechet" in wanted:
        wanted |= {"perceptual", "frechet"}
    return tuple(name for name in METRICS if name in wanted)

"""Content against style distance as a small SVG, medians with quartiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from impasto.evaluate.results import Column, Evaluation, Row, number

__all__ = ["render_plot", "shown_columns"]

CONTENT_METRICS = ("perceptual", "lpips", "content", "structure", "cfsd")
STYLE_METRICS = ("gram", "moments")


def shown_columns(columns: Sequence[Column]) -> tuple[Column | None, Column | None]:
    """The content and the style distance that stand for the others, None where none was measured."""
    found = [
        next((column for metric in metrics for column in columns if column.metric == metric), None)
        for metrics in (CONTENT_METRICS, STYLE_METRICS)
    ]
    return found[0], found[1]


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE, _TICKS = 720, 430, 66, 54, 22, 4


def render_plot(evaluation: Evaluation) -> str:
    """The section of the page; empty where one of the two was not measured."""
    content, style = shown_columns(evaluation.columns)
    if content is None or style is None:
        return ""
    across, down = content.name, style.name
    rows = [row for row in evaluation.rows if across in row.cells and down in row.cells]
    if not rows:
        return ""
    names = across, down
    most = [max(row.cells[name].third or row.cells[name].median for row in rows) or 1.0 for name in names]
    ends = _round_end(most[0]), _round_end(most[1])
    marks = "".join(_mark(row, names, ends) for row in rows)
    told = escape(_told(rows, across, down))
    return f"""<section aria-labelledby="plot">
<h2 id="plot">Content against style</h2>
<p class="note">Both are distances: the lower left corner would keep the photograph and have all of the style.
Lines span the middle half of the pairs.</p>
<div class="card plot"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{told}">
{_axes(names, ends)}{marks}{_labels(rows, names, ends)}
</svg></div>
</section>
"""


def _told(rows: Sequence[Row], across: str, down: str) -> str:
    each = (f"{row.name}: {number(row.cells[across].median)}, {number(row.cells[down].median)}" for row in rows)
    return f"Medians of {across} and {down}. " + "; ".join(each)


def _round_end(most: float) -> float:
    """The end of an axis: a little beyond the data, so that its ticks are round numbers."""
    step = 1.04 * most / _TICKS
    unit = 10.0 ** math.floor(math.log10(step))
    return _TICKS * unit * next(factor for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * unit >= step)


def _place(values: tuple[float, float], ends: tuple[float, float]) -> tuple[float, float]:
    x = _LEFT + values[0] / ends[0] * (_WIDTH - _LEFT - _EDGE)
    return x, _HEIGHT - _BOTTOM - values[1] / ends[1] * (_HEIGHT - _BOTTOM - _EDGE)


def _axes(names: tuple[str, str], ends: tuple[float, float]) -> str:
    parts, low = [], _HEIGHT - _BOTTOM
    for index in range(_TICKS + 1):
        values = ends[0] * index / _TICKS, ends[1] * index / _TICKS
        x, y = _place(values, ends)
        parts += [
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_EDGE}" y2="{low}"/>',
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _EDGE}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{low + 18}">{values[0]:.3g}</text>',
            f'<text class="tick" text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{values[1]:.3g}</text>',
        ]
    across, down = (_LEFT + _WIDTH - _EDGE) // 2, (low + _EDGE) // 2
    turned = f'transform="rotate(-90 16 {down})"'
    parts += [
        f'<text text-anchor="middle" x="{across}" y="{_HEIGHT - 10}">{escape(names[0])}</text>',
        f'<text text-anchor="middle" x="16" y="{down}" {turned}>{escape(names[1])}</text>',
    ]
    return "".join(parts)


def _mark(row: Row, names: tuple[str, str], ends: tuple[float, float]) -> str:
    kind = "control" if row.kind == "control" else "engine"
    cells = [row.cells[name] for name in names]
    x, y = _place((cells[0].median, cells[1].median), ends)
    low = _place((cells[0].first or 0.0, cells[1].first or 0.0), ends)
    high = _place((cells[0].third or 0.0, cells[1].third or 0.0), ends)
    return (
        f'<line class="whisker {kind}" x1="{low[0]:.1f}" x2="{high[0]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<line class="whisker {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low[1]:.1f}" y2="{high[1]:.1f}"/>'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    )


def _labels(rows: Sequence[Row], names: tuple[str, str], ends: tuple[float, float]) -> str:
    """Names beside the marks, moved down where two would lie on each other."""
    places = [(_place((row.cells[names[0]].median, row.cells[names[1]].median), ends), row) for row in rows]
    taken: list[tuple[float, float]] = []
    parts = []
    for (x, y), row in sorted(places, key=lambda one: one[0][1]):
        at = y - 10
        while any(abs(at - other) < 16 and abs(x - beside) < 170 for beside, other in taken):
            at += 4
        taken.append((x, at))
        kind = "control" if row.kind == "control" else "engine"
        anchor, shift = ("end", -10) if x > _WIDTH - 190 else ("start", 10)
        place = f'text-anchor="{anchor}" x="{x + shift:.1f}" y="{at:.1f}"'
        parts.append(f'<text class="{kind}" {place}>{escape(row.name)}</text>')
    return "".join(parts)

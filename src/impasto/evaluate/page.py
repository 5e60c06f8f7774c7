"""The page of an evaluation: one HTML file with everything in it, which asks no network for anything."""

from __future__ import annotations

import base64
import importlib.resources
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from impasto.evaluate.grid import jpeg, shown_pairs
from impasto.evaluate.plot import render_plot, shown_columns
from impasto.evaluate.results import Cell, Column, Evaluation, Record, Row, number, save_text
from impasto.evaluate.tasks import CONTROLS, Album
from impasto.types import FloatArray
from impasto.version import __version__

__all__ = ["LEAK_WARNING", "render_page", "save_page"]

LEAK_WARNING = 0.05
"""Share of a picture from which the page warns of the style picture's objects in it."""

_TIMES = " \N{MULTIPLICATION SIGN} "
_NOTHING = "\N{EN DASH}"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def save_page(evaluation: Evaluation, album: Album, path: Path, *, count: int) -> None:
    """Write the page.

    Args:
        evaluation: what was measured.
        album: its pictures; they become JPEG inside of the file.
        path: of the HTML file.
        count: pairs to show.

    Raises:
        OutputError: the file cannot be written.
    """
    save_text(path, render_page(evaluation, album, count=count))


def render_page(evaluation: Evaluation, album: Album, *, count: int) -> str:
    """The page's text; see :func:`save_page`."""
    files = importlib.resources.files("impasto.evaluate")
    css, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    parts = [_table(evaluation), render_plot(evaluation), _pictures(evaluation, album, count), _failures(evaluation)]
    parts += [_meanings(evaluation.columns), _everything(evaluation)]
    title = f"impasto: {evaluation.title.lower()} of {_listed([row.name for row in _candidates(evaluation)])}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="impasto {__version__}">
<title>{escape(title)}</title>
<style>{css}</style>
</head>
<body>
<a class="skip" href="#table">Skip to the table</a>
<header>
<h1>{escape(evaluation.title)}</h1>
<p class="lede">{escape(_lede(evaluation))}</p>
</header>
<main>
{"".join(parts)}
</main>
<footer>
<p>impasto {__version__}. Settings: <code>{escape(json.dumps(dict(evaluation.settings)))}</code></p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def _candidates(evaluation: Evaluation) -> list[Row]:
    return [row for row in evaluation.rows if row.kind != "control"]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _lede(evaluation: Evaluation) -> str:
    pairs = {(record.content, record.style) for record in evaluation.records}
    contents, styles = {content for content, _ in pairs} - {""}, {style for _, style in pairs} - {""}
    text = _listed([row.name for row in _candidates(evaluation)]) + f" on {_count(len(pairs), 'pair')}"
    if contents and styles:
        text += f" of {_count(len(contents), 'photograph')} and {_count(len(styles), 'style')}"
    text += f", measured at {evaluation.settings['size']} pixels"
    if evaluation.encoder:
        text += f" through the encoder {evaluation.encoder['name']} (weights {evaluation.encoder['weights']})"
    return text + "."


def _count(amount: int, word: str) -> str:
    return f"{amount} {word}" + ("" if amount == 1 else "s")


# -- table -----------------------------------------------------------------------------------------------------------


def _table(evaluation: Evaluation) -> str:
    heads = '<th scope="col"><button type="button">row</button></th>' + "".join(map(_head, evaluation.columns))
    timed = any(row.seconds for row in evaluation.rows)
    if timed:
        heads += _head(Column("seconds", "seconds", "lower", ""))
    body = "".join(_row(row, evaluation, timed) for row in evaluation.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
    return f"""<section aria-labelledby="table">
<h2 id="table">Medians and spreads</h2>
<p class="note">Read every column beside the two controls: <b>{CONTROLS[0]}</b> keeps all of the content and takes
nothing of the style, <b>{CONTROLS[1]}</b> takes all of the style and keeps nothing of the content. A good result lies
near the first in columns about content, and near the second in columns about style. The best engine or folder of a
column is green.</p>
{f'<ul class="notes">{notes}</ul>' if notes else ""}
<div class="card scroll"><table class="sortable results">
<caption>Median over the pairs; below it the interquartile range (IQR), drawn to the column's scale. Press a head to
sort.</caption>
<thead><tr>{heads}</tr></thead>
<tbody>{body}</tbody>
</table></div>
{_wins(evaluation)}
</section>
"""


def _head(column: Column) -> str:
    way = {"lower": "lower is better", "higher": "higher is better"}.get(column.better, "")
    first = "descending" if column.better == "higher" else "ascending"
    return (
        f'<th scope="col" data-first="{first}"><button type="button">{_breakable(column.name)}</button>'
        f'<span class="way">{way}</span></th>'
    )


def _breakable(name: str) -> str:
    """The name, with a place to break it before the network's."""
    return escape(name).replace("-", "-<wbr>")


def _row(row: Row, evaluation: Evaluation, timed: bool) -> str:
    tag = f'<span class="tag">{row.kind}</span>' if row.kind == "control" else ""
    failed = f'<small class="leak">{row.failed} failed</small>' if row.failed else ""
    cells = f'<th scope="row" data-value="{escape(row.name)}">{escape(row.name)}{tag}{failed}</th>'
    for column in evaluation.columns:
        others = [other.cells[column.name] for other in evaluation.rows if column.name in other.cells]
        cells += _cell(row.cells.get(column.name), others, best=evaluation.best(column) == row.name)
    if timed:
        cells += _cell(row.seconds, [other.seconds for other in evaluation.rows if other.seconds], best=False)
    return f'<tr class="{row.kind}">{cells}</tr>'


def _cell(cell: Cell | None, column: Sequence[Cell], *, best: bool) -> str:
    if cell is None:
        return '<td data-value=""><span aria-label="does not apply">' + f"{_NOTHING}</span></td>"
    low = min(other.median if other.first is None else other.first for other in column)
    high = max(other.median if other.third is None else other.third for other in column)
    scale = 100 / (high - low) if high > low else 0.0
    bar = ""
    if cell.first is not None and cell.third is not None:
        bar = f'<i style="left:{(cell.first - low) * scale:.1f}%;width:{(cell.third - cell.first) * scale:.1f}%"></i>'
    bar = f'<span class="range" aria-hidden="true">{bar}<u style="left:{(cell.median - low) * scale:.1f}%"></u></span>'
    spread = "of the set" if cell.spread is None else f"IQR {number(cell.spread)}"
    mark = ' class="best"' if best else ""
    told = '<span class="skip">, best</span>' if best else ""
    return f'<td{mark} data-value="{cell.median!r}"><b>{number(cell.median)}</b>{told}<small>{spread}</small>{bar}</td>'


def _wins(evaluation: Evaluation) -> str:
    if not evaluation.wins:
        return ""
    first, second = (row.name for row in _candidates(evaluation))
    items = "".join(
        f"<dt>{escape(column.name)}</dt><dd>{escape(first)} is better in {evaluation.wins[column.name][0]} of "
        f"{evaluation.wins[column.name][1]} pairs</dd>"
        for column in evaluation.columns
        if column.name in evaluation.wins
    )
    return f"<h3 class='wins'>Pair by pair: {escape(first)} or {escape(second)}</h3><dl>{items}</dl>"


# -- pictures --------------------------------------------------------------------------------------------------------


def _pictures(evaluation: Evaluation, album: Album, count: int) -> str:
    pairs = shown_pairs(evaluation, count)
    if not pairs:
        return ""
    records = {(record.row, record.content, record.style): record for record in evaluation.records}
    total = len({(record.content, record.style) for record in evaluation.records})
    of = "all pairs" if len(pairs) == total else f"{len(pairs)} of {total} pairs, spread over all of them"
    articles = "".join(_pair(evaluation, album, records, pair) for pair in pairs)
    return f"""<section aria-labelledby="pictures">
<h2 id="pictures">Pictures</h2>
<p class="note">{of[0].upper()}{of[1:]}. Numbers decide nothing that the eye does not see here.</p>
{articles}</section>
"""


def _pair(
    evaluation: Evaluation, album: Album, records: dict[tuple[str, str, str], Record], pair: tuple[str, str]
) -> str:
    content, style = album.sources(pair)
    same = pair[0] == pair[1]
    figures = "" if content is None or same else _figure(content, f"Content {pair[0]}", "content")
    figures += "" if style is None or same else _figure(style, f"Style {pair[1]}", "style")
    if same and content is not None:
        figures += _figure(content, f"The other folder's {pair[0]}", "the other folder")
    for row in _candidates(evaluation):
        record = records.get((row.name, *pair))
        values = "" if record is None else _short(record, evaluation.columns)
        pixels = album.result(row.name, pair)
        figures += _figure(pixels, f"{row.name}: {pair[0]} in the style of {pair[1]}", row.name, values)
    name = _TIMES.join(part for part in dict.fromkeys(pair) if part)
    return f'<article class="card pair"><h3>{escape(name)}</h3><div class="pictures">{figures}</div></article>'


def _figure(pixels: FloatArray | None, alternative: str, caption: str, values: str = "") -> str:
    if pixels is None:
        return f'<figure><div class="none">no picture</div><figcaption>{escape(caption)}</figcaption></figure>'
    height, width = pixels.shape[:2]
    data = base64.b64encode(jpeg(pixels)).decode("ascii")
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" loading="lazy" '
        f'alt="{escape(alternative)}"><figcaption>{escape(caption)}{values}</figcaption></figure>'
    )


def _short(record: Record, columns: Sequence[Column]) -> str:
    """The two numbers that the plot shows, and a warning of leaked content."""
    parts, leak = [], ""
    for column in shown_columns(columns):
        value = None if column is None else record.values.get(column.name)
        if column is not None and value is not None:
            parts.append(f"{column.metric} {number(value)}")
    for column in columns:
        value = record.values.get(column.name)
        if column.metric == "leak" and value is not None and value >= LEAK_WARNING:
            leak = f'<span class="leak">content of the style in {value:.0%} of it</span>'
    return f"<span>{escape(' · '.join(parts))}</span>{leak}"


# -- the rest --------------------------------------------------------------------------------------------------------


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failures:
        return ""
    items = ""
    for one in evaluation.failures:
        pair = _TIMES.join(filter(None, (one.content, one.style)))
        items += f"<li><b>{escape(one.row)}</b>, {escape(pair)}: {escape(one.error)}</li>"
    return f"""<section aria-labelledby="failures"><h2 id="failures">What failed</h2>
<ul class="failures">{items}</ul></section>
"""


def _meanings(columns: Sequence[Column]) -> str:
    items = "".join(
        f"<dt>{escape(column.name)}</dt><dd>{escape(column.meaning[0].upper() + column.meaning[1:])}"
        f"{f' ({column.better} is better)' if column.better else ''}.</dd>"
        for column in columns
    )
    return f"""<section aria-labelledby="meanings">
<h2 id="meanings">What the columns measure</h2>
<dl>{items}</dl>
</section>
"""


def _everything(evaluation: Evaluation) -> str:
    heads = "".join(
        f'<th scope="col"><button type="button">{_breakable(name)}</button></th>'
        for name in ("row", "content", "style", *(column.name for column in evaluation.columns if _pairwise(column)))
    )
    body = "".join(_line(record, evaluation.columns) for record in evaluation.records)
    return f"""<section aria-labelledby="everything"><h2 id="everything">Every pair</h2>
<details class="card"><summary>{_count(len(evaluation.records), "result")}</summary>
<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
</details></section>
"""


def _pairwise(column: Column) -> bool:
    return column.metric not in ("frechet", "artfrechet")


def _line(record: Record, columns: Sequence[Column]) -> str:
    names = (record.row, record.content, record.style)
    cells = "".join(f'<td data-value="{escape(name)}">{escape(name)}</td>' for name in names)
    for column in columns:
        if _pairwise(column):
            value = record.values.get(column.name)
            shown, known = (_NOTHING, "") if value is None else (number(value), repr(value))
            cells += f'<td data-value="{known}">{shown}</td>'
    return f"<tr>{cells}</tr>"

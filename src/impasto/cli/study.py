"""``impasto study``: which of several methods people prefer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.options import say
from impasto.config import field_info
from impasto.study.settings import INTERVALS, StudyConfig

if TYPE_CHECKING:
    from impasto.study import Scores, VoteStore

__all__ = ["register"]

ENOUGH_VOTERS = 10  # from here on intervals come from resampled voters
_Votes = Annotated[Path, typer.Argument(help="The file with the votes.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add ``study`` and its commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Compare methods by blind votes of people.")
    group.command("vote")(_vote)
    group.command("report")(_report)
    group.command("export")(_export)
    app.add_typer(group, name="study")


def _option(name: str) -> Any:
    _, metadata = field_info(StudyConfig, name)
    flag = f"--{name.replace('_', '-')}"
    return typer.Option(
        f"{flag}/--no-{name}" if name == "ties" else flag,
        help=metadata["help"],
        min=metadata["smallest"],
        max=metadata["largest"],
    )


def _vote(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Result folders, one of each method; pictures are matched by name.", show_default=False),
    ],
    votes: Annotated[Path, typer.Option(help="File for the votes; goes on if it has some.")] = Path("votes.sqlite"),
    reference: Annotated[
        Path | None, typer.Option(help="Folder of pictures shown above both, like the photographs.", show_default=False)
    ] = None,
    question: Annotated[str, _option("question")] = StudyConfig.question,
    per_voter: Annotated[int, _option("per_voter")] = StudyConfig.per_voter,
    ties: Annotated[bool, _option("ties")] = StudyConfig.ties,
    seed: Annotated[int, _option("seed")] = StudyConfig.seed,
    host: Annotated[
        str, typer.Option(help="Address; 0.0.0.0 with --anonymous lets the local network vote.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8401,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Let everybody vote who can reach the address.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name under which the page is known; may be repeated.", show_default=False)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    r"""Show pairs of pictures, blind and in random order, and collect votes (needs impasto\[studio]).

    impasto study vote brush/ gatys/ --reference photos/
    """
    from impasto.server import ServerSettings
    from impasto.study import Study, VoteStore

    settings = ServerSettings(host=host, port=port, anonymous=anonymous, allowed_hosts=tuple(allow_host or ()))
    study = Study.of(folders, StudyConfig(question, per_voter, ties, seed), reference=reference)
    running, voting = _web()
    running.check_exposure(settings)
    store = VoteStore(votes, create=(study.identity, question, study.methods))
    try:
        app = voting.create_voting_app(study, store, settings)
        with running.listening(settings) as found:
            running.run(app, found, on_listening=lambda address: _tell(address, study, votes, browser), quiet=True)
    finally:
        store.close()


def _web() -> tuple[Any, Any]:
    """The modules that need FastAPI.

    Raises:
        MissingExtraError: it is not installed.
    """
    from impasto.server import web_module

    return web_module("impasto.server.running"), web_module("impasto.study.voting")


def _tell(address: str, study: Any, votes: Path, browser: bool) -> None:
    typer.echo(f"{len(study.pictures)} subjects, {len(study.methods)} methods; vote at {address}/   (Ctrl-C ends it)")
    typer.echo(f"impasto study report {votes}")
    if browser:
        import threading
        import webbrowser

        threading.Timer(0.3, webbrowser.open, [f"{address}/"]).start()


def _report(
    votes: _Votes,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the confidence intervals.")] = 0.95,
    intervals: Annotated[
        str,
        typer.Option(
            help=f"How: {', '.join(INTERVALS)}; auto resamples voters from {ENOUGH_VOTERS} on, "
            "else it takes the Fisher information."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Bradley-Terry scores of the methods with confidence intervals."""
    from impasto.checks import check_choice
    from impasto.study import VoteStore, bradley_terry, resampled

    check_choice("intervals", intervals, INTERVALS)
    store = VoteStore(votes)
    try:
        wins, groups = store.counts()
        by_voters = intervals == "bootstrap" or (intervals == "auto" and len(groups) >= ENOUGH_VOTERS)
        samples = resampled(groups, seed=seed) if by_voters and groups else None
        scores = bradley_terry(store.methods, wins, level=level, samples=samples)
        facts = _facts(store, scores, wins, len(groups), "bootstrap" if by_voters else "information")
    finally:
        store.close()
    if as_json:
        say(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)


def _facts(store: VoteStore, scores: Scores, wins: Any, voters: int, intervals: str) -> dict[str, Any]:
    import math

    votes = list(store.votes())
    decided = [vote.choice for vote in votes if vote.choice != "tie"]
    scale = 400 / math.log(10)

    def elo(value: float) -> float | None:
        return round(1000 + scale * value, 1) if math.isfinite(value) else None

    rows = [
        {
            "method": scores.names[place],
            "elo": elo(scores.log_strengths[place]),
            "low": elo(scores.low[place]),
            "high": elo(scores.high[place]),
            "won": float(wins[place].sum()),
            "lost": float(wins[:, place].sum()),
        }
        for place in scores.order
    ]
    return {
        "question": store.question,
        "votes": len(votes),
        "voters": voters,
        "ties": len(votes) - len(decided),
        "left_share": round(decided.count("left") / len(decided), 4) if decided else None,
        "median_seconds": sorted(vote.seconds for vote in votes)[len(votes) // 2] if votes else None,
        "level": scores.level,
        "intervals": intervals,
        "finite": scores.bounded,
        "methods": rows,
        "preferred": {
            scores.names[i]: {scores.names[j]: round(float(scores.preferred[i, j]), 4) for j in scores.order if j != i}
            for i in scores.order
        },
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{facts['question']}  {facts['votes']} votes of {facts['voters']} voters, {facts['ties']} ties",
        highlight=False,
    )
    table = Table("method", f"score ({facts['level']:.0%} interval)", "won", "lost", "preferred to the next", box=None)
    rows = facts["methods"]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        low, high = ("-" if end is None else f"{end:.0f}" for end in (row["low"], row["high"]))
        share = "" if following is None else f"{facts['preferred'][row['method']][following['method']]:.0%}"
        table.add_row(
            row["method"], f"{row['elo']:.0f} ({low} to {high})", f"{row['won']:g}", f"{row['lost']:g}", share
        )
    console.print(table)
    console.print(f"Elo scale: 400 points are odds of ten to one. Intervals: {facts['intervals']}.", highlight=False)
    if facts["left_share"] is not None:
        console.print(f"The left picture won {facts['left_share']:.0%} of the decided votes.", highlight=False)
    if not facts["finite"]:
        console.print(
            "A method won or lost every time: one tie added to each pair of methods keeps the scores finite.",
            highlight=False,
        )


def _export(
    votes: _Votes,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file; by default standard output.", show_default=False)
    ] = None,
) -> None:
    """All votes as CSV."""
    from impasto.errors import OutputError
    from impasto.study import VoteStore

    store = VoteStore(votes)
    try:
        text = store.csv()
    finally:
        store.close()
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise OutputError(f"cannot write '{output}': {error.strerror}") from error
    say(output)

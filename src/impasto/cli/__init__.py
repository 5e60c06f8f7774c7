"""The command line: ``impasto COMMAND``. Each command has its own module and imports what it needs when it runs.

Exit codes are those of :mod:`impasto.errors`; 130 after an interrupt.
"""

from __future__ import annotations

import sys

import typer

from impasto.cli import batch, evaluate, export, lists, replay, segment, serve, study, stylize, texture, train
from impasto.errors import ImpastoError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="impasto",
    help="Image style transfer: any photograph in any painting's style.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 unexpected, 2 usage, 3 unreadable picture, 4 unwritable output, 5 weights, "
    "6 missing extra, 7 some pictures of a batch failed, 8 training, 130 interrupted.",
)
for module in (stylize, batch, replay, lists, segment, train, export, serve, texture, study, evaluate):
    module.register(app)


def _version(asked: bool) -> None:
    if asked:
        from impasto.version import __version__

        typer.echo(f"impasto {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Image style transfer: any photograph in any painting's style."""


def main() -> None:
    """Entry point: errors become one line on stderr and an exit code."""
    try:
        app()
    except ImpastoError as error:
        typer.echo(f"impasto: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            typer.echo("impasto: interrupted", err=True)
        raise
    except MemoryError:
        typer.echo("impasto: out of memory; try a smaller --tile or --size", err=True)
        sys.exit(1)

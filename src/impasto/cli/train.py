"""``impasto train``: training from the command line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from impasto.training.loop import Progress

__all__ = ["register"]

EXTRA = {"torch", "accelerate", "safetensors", "tensorboard"}


def register(app: typer.Typer) -> None:
    """Add ``train`` and its commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Train models on your own pictures (needs impasto\\[torch]).")
    group.callback()(_group)
    group.command("brush")(brush)
    app.add_typer(group, name="train")


def _group() -> None:
    """Keeps ``brush`` a command of its own while it is the only one."""


def brush(
    content: Annotated[list[Path], typer.Option(help="Folder or tar file with photographs; may be repeated.")],
    style: Annotated[list[Path], typer.Option(help="Folder or tar file with artworks; may be repeated.")],
    teacher: Annotated[
        list[Path],
        typer.Option(help="Weights of a perceptual network, such as torchvision's squeezenet1_0 or vgg19."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for checkpoints, samples and the result; goes on if it has some."),
    ],
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML); by default that of the embedded weights.")] = None,
    style_manifest: Annotated[
        Path | None, typer.Option(help="CSV with the columns file and genre: rare genres are drawn more often.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value; may be repeated.")
    ] = None,
    start_from: Annotated[Path | None, typer.Option(help="Model to start a new training from (fine-tuning).")] = None,
    device: Annotated[str | None, typer.Option(help="'cpu' to stay off an accelerator.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that prepare pictures.")] = 1,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this long; run again to go on.")] = None,
    sheet_content: Annotated[list[Path] | None, typer.Option(help="Photograph for the sample sheets.")] = None,
    sheet_style: Annotated[list[Path] | None, typer.Option(help="Artwork for the sample sheets.")] = None,
) -> None:
    """Train the brush network. The same command goes on after a stop, exactly where it was."""
    run = _import_training()
    with _bar() as bar:
        try:
            path: Path = run.train_brush(
                recipe,
                contents=content,
                styles=style,
                teachers=teacher,
                out=out,
                style_manifest=style_manifest,
                sheet_contents=sheet_content or (),
                sheet_styles=sheet_style or (),
                overrides=tuple(changes or ()),
                device=device,
                workers=workers,
                minutes=minutes,
                start_from=start_from,
                on_step=_Display(bar).show,
            )
        except KeyboardInterrupt:
            typer.echo("Stopped. Run the same command to go on from the last checkpoint.", err=True)
            raise typer.Exit(130) from None
    typer.echo(f"Wrote {path}")


def _import_training() -> ModuleType:
    try:
        return importlib.import_module("impasto.training.run")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA:
            raise MissingExtraError("training", "torch") from error
        raise


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[seconds]:.2f} s/step  {task.fields[left]} left"),
        console=Console(stderr=True),
    )


class _Display:
    """Brings the bar up to date; it appears with the first step, and only in the process that reports."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.task: TaskID | None = None
        self.loss = 0.0

    def show(self, progress: Progress) -> None:
        total = sum(progress.losses.values())
        self.loss = total if self.task is None else 0.95 * self.loss + 0.05 * total
        seconds = progress.seconds_per_step
        left = _duration((progress.steps - progress.step) * seconds)
        if self.task is None:
            self.task = self.bar.add_task("brush", total=progress.steps, loss=0.0, seconds=0.0, left="")
        self.bar.update(self.task, completed=progress.step, loss=self.loss, seconds=seconds, left=left)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"

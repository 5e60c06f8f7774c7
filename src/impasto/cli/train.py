"""``impasto train``: training from the command line."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.options import parse_settings, setting_option
from impasto.config import StylizeConfig
from impasto.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from impasto.training.distill import Painting
    from impasto.training.loop import Progress

__all__ = ["register"]

EXTRA = {"torch", "accelerate", "safetensors", "tensorboard"}


def register(app: typer.Typer) -> None:
    """Add ``train`` and its commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Train models on your own pictures (needs impasto\\[torch]).")
    group.command("brush")(brush)
    group.command("lens")(lens)
    group.command("adain")(adain)
    group.command("local")(local)
    group.command("mobile")(mobile)
    group.command("autoencoder")(autoencoder)
    group.command("diffusion")(diffusion)
    group.command("johnson")(johnson)
    group.command("distill")(distill)
    app.add_typer(group, name="train")


Contents = Annotated[list[Path], typer.Option(help="Folder or tar file with photographs; may be repeated.")]
Styles = Annotated[list[Path], typer.Option(help="Folder or tar file with artworks; may be repeated.")]
Teachers = Annotated[
    list[Path],
    typer.Option(help="Weights of a perceptual network, such as torchvision's squeezenet1_0 or vgg19."),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for checkpoints, samples and the result; goes on if it has some."),
]
Recipe = Annotated[Path | None, typer.Option(help="Recipe (TOML); by default the packaged one.")]
Manifest = Annotated[
    Path | None, typer.Option(help="CSV with the columns file and genre: rare genres are drawn more often.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: section.key=value; may be repeated.")
]
Device = Annotated[str | None, typer.Option(help="'cpu' to stay off an accelerator.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads that prepare pictures.")]
Adapt = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder or tar file with pictures unlike the photographs (at night, drawn, medical), to which the network "
        "is adapted; may be repeated."
    ),
]
StyleName = Annotated[str | None, typer.Option(help="Name of the style; by default made from the picture's file name.")]
Title = Annotated[str, typer.Option(help="What it looks like, for listings.")]
Credit = Annotated[str, typer.Option(help="Whose picture it is, for listings and the card.")]
Judges = Annotated[
    list[Path] | None, typer.Option(help="Weights of a perceptual network; by default the embedded lens.")
]
SheetContents = Annotated[list[Path] | None, typer.Option(help="Photograph for the sample sheets.")]
Install = Annotated[bool, typer.Option(help="Make the style known by its name; otherwise it stays in the folder.")]
Replace = Annotated[bool, typer.Option("--replace", help="Take the place of an installed style.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop after this long; run again to go on.")]


def brush(
    content: Contents,
    style: Styles,
    teacher: Teachers,
    out: Out,
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    start_from: Annotated[Path | None, typer.Option(help="Model to start a new training from (fine-tuning).")] = None,
    presets: Annotated[
        Path | None, typer.Option(help="Table of presets (TOML) for data.presets; by default the packaged one.")
    ] = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
    sheet_content: Annotated[list[Path] | None, typer.Option(help="Photograph for the sample sheets.")] = None,
    sheet_style: Annotated[list[Path] | None, typer.Option(help="Artwork for the sample sheets.")] = None,
) -> None:
    """Train the brush network. The same command goes on after a stop, exactly where it was."""
    run = _import_training()
    with _display("brush") as display:
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
            presets=presets,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def lens(
    content: Contents,
    style: Styles,
    teacher: Teachers,
    out: Out,
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
) -> None:
    """Train the perceptual encoder that losses and metrics look through. The same command goes on after a stop."""
    run = _import_training()
    with _display("lens") as display:
        path: Path = run.train_lens(
            recipe,
            contents=content,
            styles=style,
            teachers=teacher,
            out=out,
            style_manifest=style_manifest,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def adain(
    content: Contents,
    style: Styles,
    out: Out,
    encoder: Annotated[
        str, typer.Option(help="Frozen encoder: 'lens', or a file of torchvision's VGG layout.")
    ] = "lens",
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Weights of adain or local whose decoder a new training starts from.")
    ] = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
) -> None:
    """Train the decoder of the adain engine. The same command goes on after a stop."""
    run = _import_training()
    with _display("adain") as display:
        path: Path = run.train_adain(
            recipe,
            contents=content,
            styles=style,
            out=out,
            encoder=encoder,
            style_manifest=style_manifest,
            start_from=start_from,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def local(
    content: Contents,
    style: Styles,
    out: Out,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with photographs, masks of their objects and a manifest.csv; may be repeated."),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Frozen encoder: 'lens', or a file of a trained lens or mobile encoder, or of a VGG.")
    ] = "lens",
    judge: Annotated[str, typer.Option(help="Encoder that the losses look through.")] = "lens",
    start_from: Annotated[Path | None, typer.Option(help="Weights to start a new training from.")] = None,
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
    sheet_content: Annotated[list[Path] | None, typer.Option(help="Photograph for the sample sheets.")] = None,
    sheet_style: Annotated[list[Path] | None, typer.Option(help="Artwork for the sample sheets.")] = None,
) -> None:
    """Train the attention and the decoder of the local engine. The same command goes on after a stop."""
    run = _import_training("impasto.training.local_run")
    with _display("local") as display:
        path: Path = run.train_local(
            recipe,
            contents=content,
            styles=style,
            out=out,
            masks=mask or (),
            encoder=encoder,
            judge=judge,
            start_from=start_from,
            style_manifest=style_manifest,
            sheet_contents=sheet_content or (),
            sheet_styles=sheet_style or (),
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def mobile(
    content: Contents,
    style: Styles,
    out: Out,
    teacher: Annotated[str, typer.Option(help="Encoder to learn from: 'lens', or a file.")] = "lens",
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
) -> None:
    """Train a small encoder for 'train local --encoder', to see what a larger one sees."""
    run = _import_training("impasto.training.local_run")
    with _display("mobile") as display:
        path: Path = run.train_mobile(
            recipe,
            contents=content,
            styles=style,
            teacher=teacher,
            out=out,
            style_manifest=style_manifest,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def autoencoder(
    content: Contents,
    style: Styles,
    out: Out,
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
) -> None:
    """Train the autoencoder in whose latents the diffusion runs. The same command goes on after a stop."""
    run = _import_training("impasto.training.latent_run")
    with _display("autoencoder") as display:
        path: Path = run.train_autoencoder(
            recipe,
            contents=content,
            styles=style,
            out=out,
            style_manifest=style_manifest,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def diffusion(
    content: Contents,
    style: Styles,
    autoencoder: Annotated[Path, typer.Option(help="autoencoder.safetensors of 'impasto train autoencoder'.")],
    out: Out,
    recipe: Recipe = None,
    style_manifest: Manifest = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
) -> None:
    """Train the diffusion network in the latents of an autoencoder. The same command goes on after a stop."""
    run = _import_training("impasto.training.latent_run")
    with _display("diffusion") as display:
        path: Path = run.train_diffusion(
            recipe,
            contents=content,
            styles=style,
            autoencoder=autoencoder,
            out=out,
            style_manifest=style_manifest,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_paint=display.show_painting,
            on_step=display.show,
        )
    typer.echo(f"Wrote {path}")


def johnson(
    content: Contents,
    style: Annotated[Path, typer.Option(help="The picture whose style is learned.", show_default=False)],
    out: Out,
    name: StyleName = None,
    title: Title = "",
    credit: Credit = "",
    teacher: Judges = None,
    adapt: Adapt = None,
    recipe: Recipe = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
    sheet_content: SheetContents = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Network of another style (.safetensors) to start a new training from.")
    ] = None,
    install: Install = True,
    replace: Replace = False,
) -> None:
    """Train a filter of your own from one picture. The same command goes on after a stop, exactly where it was."""
    known, run, export = _before_a_style(style, name, install=install, replace=replace)
    with _display(known) as display:
        path: Path = run.train_johnson(
            recipe,
            contents=content,
            style=style,
            out=out,
            name=known,
            title=title,
            credit=credit,
            teachers=teacher or (),
            adapt=adapt or (),
            sheet_contents=sheet_content or (),
            start_from=start_from,
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_step=display.show,
        )
        export.export_johnson(path, out)
    _after_a_style(path, known, install=install)


def distill(
    content: Contents,
    style: Annotated[Path, typer.Option(help="The picture whose style is learned.", show_default=False)],
    out: Out,
    engine: Annotated[
        str, typer.Option(help="The larger engine whose paintings are learned from: 'impasto engines' lists them.")
    ] = "brush",
    engine_set: Annotated[
        list[str] | None,
        typer.Option(help="A setting of the engine's own, NAME=VALUE, such as iterations=300; may be repeated."),
    ] = None,
    style_scale: Annotated[float, setting_option("style_scale")] = StylizeConfig.style_scale,
    name: StyleName = None,
    title: Title = "",
    credit: Credit = "",
    teacher: Judges = None,
    adapt: Adapt = None,
    recipe: Recipe = None,
    changes: Changes = None,
    device: Device = None,
    workers: Workers = 1,
    minutes: Minutes = None,
    sheet_content: SheetContents = None,
    install: Install = True,
    replace: Replace = False,
) -> None:
    """Train a small, fast filter from what a larger engine paints. The same command goes on after a stop."""
    settings = StylizeConfig(style_scale=style_scale, options=parse_settings(engine_set, option="--engine-set"))
    known, run, export = _before_a_style(style, name, install=install, replace=replace)
    with _display(known) as display:
        path: Path = run.train_distill(
            recipe,
            engine=engine,
            settings=settings,
            contents=content,
            style=style,
            out=out,
            name=known,
            title=title,
            credit=credit,
            teachers=teacher or (),
            adapt=adapt or (),
            sheet_contents=sheet_content or (),
            overrides=tuple(changes or ()),
            device=device,
            workers=workers,
            minutes=minutes,
            on_paint=display.show_painting,
            on_step=display.show,
        )
        export.export_johnson(path, out)
    _after_a_style(path, known, install=install)


def _before_a_style(
    style: Path, name: str | None, *, install: bool, replace: bool
) -> tuple[str, ModuleType, ModuleType]:
    """The style's name, found to be free, and the modules that train and export it."""
    from impasto.engines.johnson_styles import check_free, check_style_name, style_name_of

    known = check_style_name(name) if name else style_name_of(style)
    run, export = _import_training(), _import_export()
    if install:
        check_free(known, style, replace=replace)
    return known, run, export


def _after_a_style(path: Path, name: str, *, install: bool) -> None:
    """Install the exported network if asked to, and say how to use it."""
    from impasto.engines.johnson_styles import install_style

    network = path.with_suffix(".onnx")
    typer.echo(f"Wrote {network}")
    if install:
        install_style(network, name=name)
        typer.echo(f"Installed: impasto stylize photo.jpg --engine johnson --style {name}")
    else:
        typer.echo(f"Use it: impasto stylize photo.jpg --engine johnson --style {network}")


@contextlib.contextmanager
def _display(name: str) -> Iterator[_Display]:
    """The progress bar of a training; an interrupt ends it with a hint and the usual exit code."""
    with _bar() as bar:
        try:
            yield _Display(bar, name)
        except KeyboardInterrupt:
            typer.echo("Stopped. Run the same command to go on from the last checkpoint.", err=True)
            raise typer.Exit(130) from None


def _import_training(module: str = "impasto.training.run") -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA:
            raise MissingExtraError("training", "torch") from error
        raise


def _import_export() -> ModuleType:
    """The exporter, asked for before a training starts: without it the result could not be used."""
    try:
        return importlib.import_module("impasto.export")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA | {"onnx", "onnxscript"}:
            raise MissingExtraError("a filter of your own", "export") from error
        raise


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.fields[counted]}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[about]}{task.fields[left]} left"),
        console=Console(stderr=True),
    )


class _Display:
    """Brings the bar up to date; it appears with the first step, and only in the process that reports."""

    def __init__(self, bar: Bar, name: str) -> None:
        self.bar = bar
        self.name = name
        self.task: TaskID | None = None
        self.painting: TaskID | None = None
        self.loss = 0.0

    def show_painting(self, painting: Painting) -> None:
        """Say before the first painting how long all will take; then show how far they are."""
        left, count = _duration(painting.seconds), painting.count
        if self.painting is None:
            missing = f"{count - painting.done} of {count} crops" if painting.done else f"{count} crops"
            self.bar.console.print(
                f"First {painting.engine} paints {missing} of {painting.side} px, about {left} in all. "
                "If you stop, run the same command again: what is painted stays.",
                highlight=False,
            )
            self.painting = self.bar.add_task(painting.engine, total=count, counted="painting", about="", left="")
        self.bar.update(self.painting, completed=painting.done, left=left)

    def show(self, progress: Progress) -> None:
        total = sum(progress.losses.values())
        self.loss = total if self.task is None else 0.95 * self.loss + 0.05 * total
        seconds = progress.seconds_per_step
        left = _duration((progress.steps - progress.step) * seconds)
        if self.task is None:
            self.task = self.bar.add_task(self.name, total=progress.steps, counted="step", about="", left="")
        about = f"loss {self.loss:.4f}  {seconds:.2f} s/step  "
        self.bar.update(self.task, completed=progress.step, about=about, left=left)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"

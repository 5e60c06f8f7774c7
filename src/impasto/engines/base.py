"""What every engine offers, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.field import StyleCode, StyleField
from impasto.types import FloatArray

__all__ = [
    "Capabilities",
    "ChosenWeights",
    "Engine",
    "EngineSpec",
    "Preset",
    "PresetInfo",
    "PresetTable",
    "ProgressCallback",
    "RenderEstimate",
    "RenderProgress",
    "StyleFiles",
]


@dataclass(frozen=True, eq=False)
class RenderProgress:
    """How far a rendering is.

    Attributes:
        done: finished part of the work, from 0 to 1.
        step: iterations behind, of engines that iterate.
        steps: iterations in all; 0 where there are none.
        message: what is being done, such as ``scale 3 of 5, 362 x 256``.
        preview: gives the picture as it is now, ``[h, w, 3]`` float32 in ``[0, 1]``, possibly smaller than the result.
            It costs time: call it only to show it. None where there is nothing to show.
    """

    done: float
    step: int = 0
    steps: int = 0
    message: str = ""
    preview: Callable[[], FloatArray] | None = None


ProgressCallback = Callable[[RenderProgress], None]
"""Called now and then during a rendering. An exception that it raises stops the engine;
:class:`~impasto.errors.CancelledError` is the one meant for it."""


@dataclass(frozen=True)
class RenderEstimate:
    """What a rendering will take: ``seconds`` on this machine, and ``memory`` at its peak in bytes.

    Both are estimates from before it starts: within a factor of two for a machine that has nothing else to do.
    """

    seconds: float
    memory: int

    def __str__(self) -> str:
        """As it is told to a person: ``about 40 s and 1.2 GB of memory``."""
        shown = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.0f} min"
        return f"about {shown} and {self.memory / 1e9:.1f} GB of memory"


@dataclass(frozen=True)
class Capabilities:
    """What an engine does natively; the rest is composited.

    Attributes:
        field: weight maps work inside the method rather than by blending finished pictures.
        tiles: pictures of any size in bounded memory.
        chance: the seed matters.
        gpu: profits from an accelerator.
        slow: takes seconds to minutes, and shows what it does on the way.
        pictures: any picture can be a style; where not, a style is trained first, and asked for by its name.
        explains: can show where it looked; see :class:`Explaining`.
    """

    field: bool
    tiles: bool
    chance: bool
    gpu: bool
    slow: bool = False
    pictures: bool = True
    explains: bool = False


@dataclass(frozen=True)
class EngineSpec:
    """A row of the registry.

    Attributes:
        name: as users write it.
        factory: ``module:function`` that builds the engine, imported only when asked for.
        extra: the optional part it needs, or an empty string.
        summary: one line for the table of engines.
        capabilities: see :class:`Capabilities`.
        card: name of the weights card, or an empty string.
        options: ``module:Class`` of the dataclass with the engine's own settings, or an empty string. The module
            imports nothing heavy: listings read it.
        environment: variable that names a model which does not come with impasto, or an empty string; a server offers
            the engine only where it is set.
    """

    name: str
    factory: str
    extra: str
    summary: str
    capabilities: Capabilities
    card: str
    options: str = ""
    environment: str = ""


@runtime_checkable
class Engine(Protocol):
    """One method of style transfer."""

    name: str

    @property
    def identity(self) -> str:
        """First digits of the SHA-256 of the weights in use."""

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``."""

    def presets(self) -> Mapping[str, StyleCode]:
        """Codes that come with the engine or were installed, by name."""

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Time and memory that rendering a picture of ``size`` (height, width) will take."""

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16 or float32); the result has its shape and type."""


@runtime_checkable
class ChosenWeights(Protocol):
    """An engine whose settings can name other weights than its own."""

    def identity_with(self, config: StylizeConfig) -> str:
        """First digits of the SHA-256 of the weights in use with these settings; what a result's recipe records."""


@runtime_checkable
class StyleFiles(Protocol):
    """An engine whose styles can be files of its own."""

    style_suffix: str

    def open_style(self, path: Path) -> StyleCode:
        """The code of a file that ends in :attr:`style_suffix`."""


@runtime_checkable
class Explaining(Protocol):
    """An engine that can show where it looked."""

    def explain(self, content: NDArray[Any], field: StyleField, config: StylizeConfig) -> FloatArray:
        """A picture ``[h, w, 3]`` in ``[0, 1]`` of how a rendering with these arguments comes about."""


@dataclass(frozen=True)
class Preset:
    """A named code that comes with the weights."""

    code: StyleCode
    title: str
    credit: str


class PresetInfo(Protocol):
    """What a listing shows of a preset."""

    @property
    def title(self) -> str:
        """What it looks like."""

    @property
    def credit(self) -> str:
        """What it was computed from."""


@runtime_checkable
class PresetTable(Protocol):
    """An engine whose presets have titles and credits."""

    def preset_table(self) -> Mapping[str, PresetInfo]:
        """Presets by name."""

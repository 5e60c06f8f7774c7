"""What every engine offers, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.field import StyleCode, StyleField
from impasto.types import FloatArray

__all__ = ["Capabilities", "Engine", "EngineSpec", "ProgressCallback"]

ProgressCallback = Callable[[float], None]
"""Called with the finished part of the work, from 0 to 1."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine does natively; the rest is composited.

    Attributes:
        field: weight maps work inside the method rather than by blending finished pictures.
        tiles: pictures of any size in bounded memory.
        chance: the seed matters.
        gpu: profits from an accelerator.
    """

    field: bool
    tiles: bool
    chance: bool
    gpu: bool


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
    """

    name: str
    factory: str
    extra: str
    summary: str
    capabilities: Capabilities
    card: str


@runtime_checkable
class Engine(Protocol):
    """One method of style transfer."""

    name: str

    @property
    def identity(self) -> str:
        """First digits of the SHA-256 of the weights in use."""

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``."""

    def presets(self) -> dict[str, StyleCode]:
        """Codes that come with the engine, by name."""

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16 or float32); the result has its shape and type."""

"""Settings that only ``quilt`` has. Imports nothing heavy: listings read it."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.texture.settings import GuidedSettings

__all__ = ["QuiltOptions"]


@dataclass(frozen=True)
class QuiltOptions(GuidedSettings):
    """Weights of the guides, patch, iterations; weights are relative, 1 is usual.

    Raises:
        UsageError: a value outside of its range, or an even patch.
    """

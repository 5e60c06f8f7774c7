"""The table of engines. Adding one means adding a row; CONTRIBUTING.md has the six steps."""

from __future__ import annotations

import importlib

from impasto.engines.base import Capabilities, Engine, EngineSpec
from impasto.errors import MissingExtraError, UnknownNameError

__all__ = ["ENGINES", "engine_spec", "load_engine"]

ENGINES: dict[str, EngineSpec] = {
    "brush": EngineSpec(
        name="brush",
        factory="impasto.engines.brush:load",
        extra="",
        summary="any style in one feed-forward pass, on the embedded weights",
        capabilities=Capabilities(field=True, tiles=True, chance=False, gpu=False),
        card="brush",
    ),
}


def engine_spec(name: str) -> EngineSpec:
    """The row of an engine.

    Raises:
        UnknownNameError: there is none of that name.
    """
    try:
        return ENGINES[name]
    except KeyError:
        raise UnknownNameError("engine", name, ENGINES) from None


def load_engine(name: str) -> Engine:
    """Build an engine.

    Raises:
        UnknownNameError: there is none of that name.
        MissingExtraError: packages that it needs are not installed.
        WeightsError: its weights are missing or damaged.
    """
    spec = engine_spec(name)
    module, _, function = spec.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), function)
    except ImportError as error:
        if not spec.extra:
            raise
        raise MissingExtraError(f"the engine '{name}'", spec.extra) from error
    engine: Engine = factory()
    return engine

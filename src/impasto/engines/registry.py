"""The table of engines. Adding one means adding a row; CONTRIBUTING.md has the six steps."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from impasto.config import resolve_options
from impasto.engines.base import Capabilities, Engine, EngineSpec
from impasto.errors import MissingExtraError, UnknownNameError, UsageError

__all__ = ["ENGINES", "engine_options", "engine_spec", "load_engine", "options_type"]

ENGINES: dict[str, EngineSpec] = {
    "adain": EngineSpec(
        name="adain",
        factory="impasto.engines.adain:load",
        extra="torch",
        summary="any style in one feed-forward pass: the moments of its deep features, exchanged and decoded",
        capabilities=Capabilities(field=True, tiles=True, chance=False, gpu=False),
        card="adain",
    ),
    "brush": EngineSpec(
        name="brush",
        factory="impasto.engines.brush:load",
        extra="",
        summary="any style in one feed-forward pass, on the embedded weights",
        capabilities=Capabilities(field=True, tiles=True, chance=False, gpu=False),
        card="brush",
    ),
    "diffusion": EngineSpec(
        name="diffusion",
        factory="impasto.engines.diffusion:load",
        extra="torch",
        summary="a small latent diffusion: the picture grows out of noise, the style in its attention",
        capabilities=Capabilities(field=True, tiles=True, chance=True, gpu=True, slow=True),
        card="diffusion",
        options="impasto.engines.diffusion_options:DiffusionOptions",
    ),
    "gatys": EngineSpec(
        name="gatys",
        factory="impasto.engines.gatys:load",
        extra="torch",
        summary="optimises the picture until an encoder sees the photograph's shapes and the painting's strokes",
        capabilities=Capabilities(field=True, tiles=True, chance=True, gpu=True, slow=True),
        card="",
        options="impasto.engines.gatys_options:GatysOptions",
    ),
    "johnson": EngineSpec(
        name="johnson",
        factory="impasto.engines.johnson:load",
        extra="",
        summary="one small network for each style: filters trained on your own pictures",
        capabilities=Capabilities(field=False, tiles=True, chance=False, gpu=False, pictures=False),
        card="",
    ),
    "latent": EngineSpec(
        name="latent",
        factory="impasto.engines.latent:load",
        extra="diffusion",
        summary="Stable Diffusion 1.5 or XL, a model that you have: the style in its attention, or a prompt",
        capabilities=Capabilities(field=True, tiles=False, chance=True, gpu=True, slow=True),
        card="",
        options="impasto.engines.latent_options:LatentOptions",
        environment="IMPASTO_LATENT_MODEL",
    ),
    "local": EngineSpec(
        name="local",
        factory="impasto.engines.local:load",
        extra="",
        summary="attention: each place takes colours and strokes of what resembles it in the style",
        capabilities=Capabilities(field=True, tiles=True, chance=False, gpu=False, explains=True),
        card="local",
    ),
    "local-mobile": EngineSpec(
        name="local-mobile",
        factory="impasto.engines.local:load_mobile",
        extra="",
        summary="local for phones: a small encoder and decoder, three megabytes less and a fraction of the arithmetic",
        capabilities=Capabilities(field=True, tiles=True, chance=False, gpu=False, explains=True),
        card="local-mobile",
    ),
    "quilt": EngineSpec(
        name="quilt",
        factory="impasto.engines.quilt:load",
        extra="texture",
        summary="whole patches of the style picture, found by PatchMatch from coarse to fine",
        capabilities=Capabilities(field=True, tiles=False, chance=True, gpu=False, slow=True),
        card="",
        options="impasto.engines.quilt_options:QuiltOptions",
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


def options_type(name: str) -> type[Any] | None:
    """The dataclass of the settings that only this engine has, None where it has none.

    Raises:
        UnknownNameError: there is no engine of that name.
    """
    spec = engine_spec(name)
    if not spec.options:
        return None
    module, _, kind = spec.options.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), kind)
    return found


def engine_options(name: str, given: Mapping[str, Any]) -> Any:
    """An engine's own settings, with their defaults, from those that were given; None where the engine has none.

    Raises:
        UsageError: unknown names, or values of the wrong type or out of range.
    """
    kind = options_type(name)
    if kind is not None:
        return resolve_options(kind, given)
    if given:
        raise UsageError(f"the engine '{name}' has no options of its own, such as {', '.join(sorted(given))}")
    return None

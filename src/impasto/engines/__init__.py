"""Engines: one method each, from a content picture and a style field to a painting."""

from impasto.engines.base import Capabilities, Engine, EngineSpec, ProgressCallback, RenderEstimate, RenderProgress
from impasto.engines.registry import ENGINES, engine_options, engine_spec, load_engine, options_type

__all__ = [
    "ENGINES",
    "Capabilities",
    "Engine",
    "EngineSpec",
    "ProgressCallback",
    "RenderEstimate",
    "RenderProgress",
    "engine_options",
    "engine_spec",
    "load_engine",
    "options_type",
]

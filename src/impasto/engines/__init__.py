"""Engines: one method each, from a content picture and a style field to a painting."""

from impasto.engines.base import Capabilities, Engine, EngineSpec
from impasto.engines.registry import ENGINES, engine_spec, load_engine

__all__ = ["ENGINES", "Capabilities", "Engine", "EngineSpec", "engine_spec", "load_engine"]

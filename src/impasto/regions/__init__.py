"""Regions: which part of a photograph takes which style.

>>> from impasto.regions import RegionStyle
>>> RegionStyle.parse("sky.png=monet.jpg:0.9").strength
0.9

Names are resolved at first use: the command line reads settings from here and must start quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impasto.regions.finder import RegionFinder
    from impasto.regions.masks import Regions
    from impasto.regions.overlay import draw_overlay
    from impasto.regions.plan import RegionPlan
    from impasto.regions.settings import RegionConfig
    from impasto.regions.specs import RegionSpec, RegionStyle, parse_region
    from impasto.regions.texture import region_texture

_HOMES = {
    "RegionConfig": "settings",
    "RegionFinder": "finder",
    "RegionPlan": "plan",
    "RegionSpec": "specs",
    "RegionStyle": "specs",
    "Regions": "masks",
    "draw_overlay": "overlay",
    "parse_region": "specs",
    "region_texture": "texture",
}

__all__ = [
    "RegionConfig",
    "RegionFinder",
    "RegionPlan",
    "RegionSpec",
    "RegionStyle",
    "Regions",
    "draw_overlay",
    "parse_region",
    "region_texture",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'impasto.regions' has no attribute '{name}'")
    return getattr(importlib.import_module(f"impasto.regions.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

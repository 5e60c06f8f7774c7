"""From styles for regions to one style field, and to what a recipe says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from impasto.errors import FieldError
from impasto.field import StyleCode, StyleField
from impasto.image import Picture
from impasto.regions.finder import RegionFinder, mask_digest
from impasto.regions.masks import Regions
from impasto.regions.settings import RegionConfig, parse_protect
from impasto.regions.specs import RegionStyle, parse_region
from impasto.types import FloatArray

__all__ = ["RegionPlan"]


@dataclass(frozen=True, eq=False)
class RegionPlan:
    """Where on a photograph which style goes.

    Attributes:
        styles: what was asked for, in its order: later regions lie on top of earlier ones.
        regions: their masks, stacked and feathered; None without any region.
        digests: of the regions' masks as they were found, before that.
        keep: how much of the photograph lies over the painting to protect it, ``[H, W]`` in ``[0, 1]``; None where
            nothing is protected.
        config: the settings.
    """

    styles: tuple[RegionStyle, ...]
    regions: Regions | None
    digests: tuple[str, ...]
    keep: FloatArray | None
    config: RegionConfig

    @classmethod
    def make(cls, picture: Picture, styles: Sequence[RegionStyle], config: RegionConfig) -> RegionPlan:
        """Find the regions and what shall be protected.

        Raises:
            FieldError: a region that cannot be found, is empty or hidden, or is not the one of a recipe.
            UsageError: a region that cannot be understood.
            ImageError: a mask that cannot be read.
            MissingExtraError: an optional part is needed.
        """
        finder = RegionFinder(picture, config)
        regions, digests = None, []
        if styles:
            masks = []
            for style in styles:
                mask = finder.find(style.region)
                digests.append(mask_digest(mask))
                if style.digest not in ("", digests[-1]):
                    raise FieldError(
                        f"the region '{style.name}' is not the one that the picture was painted with; find its file, "
                        "or paint with what is there now (--anyway)"
                    )
                masks.append((style.name, mask))
            regions = finder.feathered(Regions.stacked(masks))
        protected = [finder.faces if kind == "faces" else finder.text for kind in parse_protect(config.protect)]
        keep = None
        if protected:
            keep = np.asarray((1 - config.protect_strength) * np.maximum.reduce(protected), np.float32)
        return cls(tuple(styles), regions, tuple(digests), keep, config)

    def field(self, codes: Sequence[StyleCode | None], base: StyleField | None) -> StyleField:
        """The style field over the photograph.

        Args:
            codes: of the regions' styles, in their order; None where the photograph stays.
            base: the field of the rest, outside of all regions; None leaves the photograph there.

        Raises:
            FieldError: there is no style at all.
        """
        layers: tuple[StyleField, ...] = ()
        if base is not None:
            layers += (base if self.regions is None else base.times(self.regions.outside),)
        if self.regions is not None:
            painted = {
                style.name: (code, style.strength)
                for style, code in zip(self.styles, codes, strict=True)
                if code is not None
            }
            layers += (self.regions.field(painted),)
        field = StyleField(tuple(layer for one in layers for layer in one.layers))
        if not field.layers:
            raise FieldError("every region keeps the photograph: name a style for one of them, or for the rest")
        return field

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of the regions; it keeps no folders. Styles stand elsewhere, in the regions' order."""
        masks = []
        for style, digest in zip(self.styles, self.digests, strict=True):
            region = "<mask>"
            if isinstance(style.region, str):
                region = parse_region(style.region).portable
            elif isinstance(style.region, PathLike):
                region = Path(style.region).name
            masks.append({"region": region, "strength": style.strength, "keep": style.style is None, "sha256": digest})
        return {"masks": masks, "settings": asdict(self.config)}

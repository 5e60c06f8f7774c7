"""Texture synthesis: more of a sample, a picture drawn with a texture, holes filled from what is around them.

Three methods in the order of their years: non-parametric sampling (Efros & Leung 1999,
:func:`~impasto.texture.growing.grow`), joint statistics of wavelets (Portilla & Simoncelli 2000,
:func:`~impasto.texture.steerable.synthesize_statistics`) and image quilting (Efros & Freeman 2001,
:func:`~impasto.texture.quilting.quilt`, :func:`~impasto.texture.quilting.transfer`). The functions here take pictures
of any kind and load what a method needs when it is called. Guided synthesis, which the engine ``quilt`` paints with,
is :mod:`impasto.texture.guided`.
"""

from impasto.texture.api import fill, synthesize, transfer
from impasto.texture.settings import (
    METHODS,
    EfrosLeungSettings,
    GuidedSettings,
    PortillaSimoncelliSettings,
    QuiltingSettings,
    TransferSettings,
)

__all__ = [
    "METHODS",
    "EfrosLeungSettings",
    "GuidedSettings",
    "PortillaSimoncelliSettings",
    "QuiltingSettings",
    "TransferSettings",
    "fill",
    "synthesize",
    "transfer",
]

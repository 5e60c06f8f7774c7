"""The three things one does with a texture, for pictures of any kind. Imports nothing heavy before it is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TypeAlias

import numpy as np

from impasto.checks import check_choice, check_range
from impasto.errors import MissingExtraError, UsageError
from impasto.image.reading import read_mask, read_picture
from impasto.texture.settings import (
    METHODS,
    EfrosLeungSettings,
    PortillaSimoncelliSettings,
    QuiltingSettings,
    TransferSettings,
    settings_type,
)
from impasto.types import FloatArray, PictureSource

__all__ = ["fill", "synthesize", "transfer"]

LARGEST_SIDE = 16384
MOST_PIXELS = 100_000_000

MethodSettings: TypeAlias = "QuiltingSettings | EfrosLeungSettings | PortillaSimoncelliSettings"
Progress = Callable[[float], None]

_OF_EXTRAS = {"numba": "texture", "scipy": "texture", "torch": "texture-statistics", "plenoptic": "texture-statistics"}


def synthesize(
    sample: PictureSource,
    method: str = "quilting",
    *,
    size: tuple[int, int] | None = None,
    settings: MethodSettings | None = None,
    seed: int = 0,
    tileable: bool = False,
    on_progress: Progress | None = None,
) -> FloatArray:
    """More of a texture.

    Args:
        sample: path, bytes, PIL image or array.
        method: ``quilting`` (seconds, keeps whole pieces), ``efros-leung`` (pixel by pixel, small pictures) or
            ``portilla-simoncelli`` (new pixels with the same statistics; needs another extra).
        size: height and width of the result; by default twice the sample's.
        settings: of the method; by default the method's defaults.
        seed: the same seed gives the same texture.
        tileable: the result can be laid beside itself without a seam (quilting, and Portilla-Simoncelli, whose
            filters wrap around, if its size is a multiple of ``2 ** scales``).
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Returns:
        ``[*size, 3]`` float32 in ``[0, 1]``.

    Raises:
        UsageError: a wrong method, size or combination, or a sample too small for the settings.
        ImageError: the sample cannot be read.
        MissingExtraError: packages that the method needs are not installed.

    Example:
        >>> from impasto.texture import synthesize
        >>> wall = synthesize("brick.png", size=(512, 512))  # doctest: +SKIP
    """
    check_choice("method", method, METHODS)
    kind = settings_type(method)
    chosen = kind() if settings is None else settings
    if not isinstance(chosen, kind):
        raise UsageError(f"{method} takes {kind.__name__}, not {type(settings).__name__}")
    picture = read_picture(sample).pixels
    target = (2 * picture.shape[0], 2 * picture.shape[1]) if size is None else size
    _check_target(target)
    if isinstance(chosen, PortillaSimoncelliSettings):
        _check_tile(target, 2**chosen.scales, tileable)
        make = _module("steerable").synthesize_statistics
    elif isinstance(chosen, EfrosLeungSettings):
        if tileable:
            raise UsageError("efros-leung grows no tiles; use quilting for a texture that repeats without a seam")
        make = _module("growing").grow
    else:
        make = partial(_module("quilting").quilt, tileable=tileable)
    made: FloatArray = make(picture, target, chosen, seed=seed, on_progress=on_progress)
    return made


def transfer(
    texture: PictureSource,
    picture: PictureSource,
    *,
    settings: TransferSettings | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """A picture drawn with a texture (Efros & Freeman 2001, section 3), ``[H, W, 3]`` of the picture's size.

    Args:
        texture: path, bytes, PIL image or array.
        picture: likewise; its brightness says where what goes.
        settings: blocks, passes, weights.
        seed: the same seed gives the same result.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Raises:
        UsageError: the texture is smaller than a block.
        ImageError: a picture cannot be read.
        MissingExtraError: SciPy is not installed.
    """
    module = _module("quilting")
    source, target = read_picture(texture).pixels, read_picture(picture).pixels
    drawn: FloatArray = module.transfer(source, target, settings, seed=seed, on_progress=on_progress)
    return drawn


def fill(
    picture: PictureSource,
    holes: PictureSource,
    *,
    settings: EfrosLeungSettings | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> FloatArray:
    """Holes of a picture filled with texture from around them (Efros & Leung 1999), ``[H, W, 3]``.

    Args:
        picture: path, bytes, PIL image or array.
        holes: a picture of the same size, white where something new goes.
        settings: window and tolerance.
        seed: the same seed gives the same result.
        on_progress: called with the finished part, 0 to 1; an exception that it raises stops the work.

    Raises:
        UsageError: no window lies outside of the holes.
        ImageError: a picture cannot be read, or the mask has another size.
        MissingExtraError: numba or SciPy is not installed.
    """
    module = _module("growing")
    known = read_picture(picture).pixels
    mask = read_mask(holes, (known.shape[0], known.shape[1])) >= np.float32(0.5)
    filled: FloatArray = module.fill_holes(known, mask, settings, seed=seed, on_progress=on_progress)
    return filled


def _check_tile(size: tuple[int, int], multiple: int, tileable: bool) -> None:
    if tileable and (size[0] % multiple or size[1] % multiple):
        raise UsageError(
            f"a tile by portilla-simoncelli needs sides that {multiple} divides, not {size[1]} x {size[0]} px"
        )


def _check_target(size: tuple[int, int]) -> None:
    for name, side in zip(("height", "width"), size, strict=True):
        check_range(name, side, 1, LARGEST_SIDE)
    if size[0] * size[1] > MOST_PIXELS:
        raise UsageError(f"{size[1]} x {size[0]} px are more than {MOST_PIXELS // 10**6} megapixels")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"impasto.texture.{name}")
    except ModuleNotFoundError as error:
        extra = _OF_EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise MissingExtraError(f"texture synthesis by {name}", extra) from error

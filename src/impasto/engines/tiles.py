"""What engines that paint in one pass share: tiles, the way back to the photograph, colours kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.config import StylizeConfig
from impasto.engines.base import ProgressCallback, RenderProgress
from impasto.engines.fields import resize_field
from impasto.errors import FieldError
from impasto.field import StyleField
from impasto.image.color import color_transfer, preserve_luminance_only, resize
from impasto.ops.tiling import plan_tiles, quantised, to_float
from impasto.types import FloatArray

__all__ = ["GATE", "Finish", "check_field", "color_finish", "gated", "paint_scaled", "paint_tiles", "part_of", "shrink"]

GATE = 0.2
"""Total weight of a field from which the painting counts fully."""

Finish = Callable[[FloatArray, FloatArray], FloatArray]
"""A last step on colours, ``(content, painted) -> painted``."""


def check_field(
    field: StyleField, size: tuple[int, int], *, engine: str, identity: str, length: int | None = None
) -> None:
    """A field fits a picture of ``size`` (height, width) and an engine whose codes have ``length`` numbers.

    An engine with codes of several lengths gives none, and looks at them itself.

    Raises:
        FieldError: maps of another size, or codes of other weights.
    """
    if field.size is not None and field.size != size:
        raise FieldError(f"the field's maps are {field.size}, the picture is {size} (height, width)")
    for layer in field.layers:
        code = layer.code
        if code.engine != engine or code.weights != identity:
            raise FieldError(
                f"the style '{code.name}' was encoded by {code.engine} {code.weights}; "
                f"this is {engine} {identity}: encode it again"
            )
        if length is not None and code.vector.size != length:
            raise FieldError(f"the style '{code.name}' has {code.vector.size} numbers, {engine} needs {length}")


def paint_tiles(
    content: NDArray[Any],
    field: StyleField,
    paint: Callable[[FloatArray, StyleField], FloatArray],
    *,
    tile: int,
    halo: int,
    multiple: int,
    on_progress: ProgressCallback | None = None,
) -> NDArray[Any]:
    """Paint a picture in one piece, or in tiles when its longer side exceeds ``tile``.

    Args:
        content: ``[H, W, 3]``, uint8, uint16 or float32.
        field: of the picture's size.
        paint: float32 picture and field of the same size to float32 picture.
        tile: side of a tile's core.
        halo: pixels around a core that influence it.
        multiple: alignment of the cores.
        on_progress: told before each tile and at the end.
    """
    height, width = content.shape[:2]
    result = np.empty_like(content)
    if max(height, width) <= tile:
        result[...] = quantised(paint(to_float(content), field), content.dtype)
        return result
    plan = list(plan_tiles(height, width, tile=tile, halo=halo, multiple=multiple))
    for index, part in enumerate(plan):
        if on_progress is not None:
            message = f"tile {index + 1} of {len(plan)}"
            on_progress(RenderProgress(index / len(plan), index, len(plan), message))
        rows, columns = part.outer
        window = field.window(part.outer_top, part.outer_left, part.outer_height, part.outer_width)
        painted = paint(to_float(content[rows, columns]), window)
        result[part.core] = quantised(painted[part.inner], content.dtype)
    if on_progress is not None:
        on_progress(RenderProgress(1.0, len(plan), len(plan)))
    return result


def gated(content: FloatArray, painted: FloatArray, total: FloatArray) -> FloatArray:
    """The painting where the field weighs at least :data:`GATE`, fading to exactly the content where it is empty."""
    gate = np.minimum(total / np.float32(GATE), np.float32(1))
    if gate.ndim == 0:
        return painted if gate == 1 else content + gate * (painted - content)
    return np.asarray(content + gate[..., None] * (painted - content), np.float32)


def color_finish(
    mode: str, proxy: FloatArray, field: StyleField, paint: Callable[[FloatArray, StyleField], FloatArray]
) -> Finish | None:
    """The last step for a ``preserve_color`` mode; statistics are measured on a small copy, so that tiles agree."""
    if mode == "luminance":
        return preserve_luminance_only
    if mode == "statistics":
        transfer = color_transfer(paint(proxy, field), proxy)
        return lambda _content, picture: transfer(picture)
    return None


def paint_scaled(
    content: NDArray[Any],
    field: StyleField,
    config: StylizeConfig,
    render: Callable[[NDArray[Any], StyleField, StylizeConfig, ProgressCallback | None], NDArray[Any]],
    on_progress: ProgressCallback | None,
) -> NDArray[Any]:
    """Other strokes: paint the photograph at another size, where a network's strokes cover more or less of it.

    ``render`` is the engine's own, which is called with a ``style_scale`` of 1.

    Smaller strokes: paint it enlarged and reduce the painting. Larger strokes: the coarse painting gives everything
    that survives the reduction, the painting at full size the finer detail, as in a Laplacian pyramid (Burt &
    Adelson 1983). Holds several float copies of the picture.
    """
    scale, plain = config.style_scale, replace(config, style_scale=1.0)
    height, width = content.shape[:2]
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    other = quantised(resize(to_float(content), size), content.dtype)
    passes = 2 if scale > 1 else 1
    coarse = to_float(render(other, resize_field(field, size), plain, part_of(on_progress, 0, passes)))
    painted = resize(coarse, (height, width))
    if scale > 1:
        fine = to_float(render(content, field, plain, part_of(on_progress, 1, passes)))
        painted += fine - resize(resize(fine, size), (height, width))
    result = quantised(painted, content.dtype)
    untouched = np.broadcast_to(field.total == 0, (height, width))
    result[untouched] = content[untouched]
    return result


def part_of(on_progress: ProgressCallback | None, index: int, count: int) -> ProgressCallback | None:
    """Tells ``on_progress`` of one of ``count`` equal parts of the work."""
    if on_progress is None:
        return None
    return lambda progress: on_progress(replace(progress, done=(index + progress.done) / count))


def shrink(content: NDArray[Any], pixels: int) -> FloatArray:
    """A copy of at most ``pixels`` pixels, float32."""
    height, width = content.shape[:2]
    if height * width <= pixels:
        return to_float(content)
    stride = max(1, int(np.sqrt(height * width / (9 * pixels))))  # huge pictures: three pixels for one are enough
    thinned = to_float(content[::stride, ::stride])
    factor = np.sqrt(pixels / (height * width))
    return np.clip(resize(thinned, (max(1, round(height * factor)), max(1, round(width * factor)))), 0, 1)

"""``quilt``: a photograph painted with whole patches of the style picture itself.

The method is :mod:`impasto.texture.guided`: from coarse to fine, every part of the photograph gets a patch of the
painting whose brightness, colour and direction fit, and patches that overlap must agree. There is no network, and
there are no weights: a style code is the picture.

Fields: which painting a pixel takes its patches from is decided by the shares of the styles before anything is
painted (:func:`impasto.texture.guided.label_map`); a soft mask between two styles becomes a border where each takes
over where it fits better. What the styles leave to the photograph is composited: a crossfade, exact at weight 0. A
mix of styles is therefore a mix of patches, not of their colours, and ``mix_mode`` has nothing to say.

Size of strokes: a painting is used at its own resolution, unless its short side is longer than the photograph's; then
it is reduced to that. ``style_scale`` multiplies this.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.config import StylizeConfig, resolve_options
from impasto.engines.base import ProgressCallback, RenderEstimate, RenderProgress
from impasto.engines.fields import composite
from impasto.engines.quilt_options import QuiltOptions
from impasto.errors import FieldError
from impasto.field import StyleCode, StyleField
from impasto.image.color import (
    color_transfer,
    luminance,
    match_color_statistics,
    preserve_luminance_only,
    resize,
)
from impasto.ops.tiling import quantised, to_float
from impasto.texture.compiled import processors
from impasto.texture.guided import Step, label_map, paint, plan_steps
from impasto.texture.patchmatch import STRIPS
from impasto.types import FloatArray

__all__ = ["Quilt", "load"]

PICTURE = "picture"  # the code's part that holds the painting, uint8 [h, w, 3]
LARGEST_STYLE = 2048  # longer side of a kept painting; more than strokes need
BANDS = 4  # octaves in the vector that describes a painting
TRANSFERS = 3  # of colour statistics: what clipping takes away comes back
BYTES_PER_PIXEL = 200  # of the photograph and of every painting, at the finest scale
BASE_BYTES = 220_000_000  # the interpreter with its libraries
SECONDS_PER_STEP = 5e-7  # of one processor: a pixel, an iteration, a pixel of the patch


class Quilt:
    """The engine; :func:`load` builds it."""

    name = "quilt"

    @property
    def identity(self) -> str:
        """There are no weights: 16 digits that name the form of its codes."""
        return hashlib.sha256(b"impasto quilt, codes of form 1").hexdigest()[:16]

    # -- codes -----------------------------------------------------------------------------------------------------

    def encode(self, style: FloatArray, *, name: str, config: StylizeConfig) -> StyleCode:
        """The code of a style picture ``[H, W, 3]``: the picture, and a description of it as its vector.

        A picture with a longer side above 2048 pixels is reduced to that.
        """
        longer = max(style.shape[:2])
        if longer > LARGEST_STYLE:
            factor = LARGEST_STYLE / longer
            size = (max(1, round(style.shape[0] * factor)), max(1, round(style.shape[1] * factor)))
            style = resize(style, size)
        picture = np.asarray(quantised(style, np.uint8))
        return StyleCode(_described(to_float(picture)), self.name, self.identity, name, {PICTURE: picture})

    def presets(self) -> dict[str, StyleCode]:
        """None: its codes are pictures."""
        return {}

    # -- rendering -------------------------------------------------------------------------------------------------

    def estimate(self, size: tuple[int, int], field: StyleField, config: StylizeConfig) -> RenderEstimate:
        """Time and memory for a photograph of ``size`` (height, width)."""
        options = resolve_options(QuiltOptions, config.options)
        styles = [_style_size(size, _picture(layer.code).shape, config) for layer in field.layers]
        if not styles:
            return RenderEstimate(0.0, 0)
        plan = plan_steps(size, styles, options)
        work = sum(height * width * count for (height, width), count in plan) * options.patch**2
        pixels = size[0] * size[1] + sum(height * width for height, width in styles)
        workers = min(STRIPS, processors())
        return RenderEstimate(1.0 + SECONDS_PER_STEP * work / workers, BASE_BYTES + BYTES_PER_PIXEL * pixels)

    def render(
        self,
        content: NDArray[Any],
        field: StyleField,
        config: StylizeConfig,
        on_progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Paint ``content`` ``[H, W, 3]`` (uint8, uint16, or float32 in ``[0, 1]``); same shape and type.

        Raises:
            FieldError: the field's maps have another size, or its codes were made by another engine.
            UsageError: an option that ``quilt`` does not have, or out of its range.
        """
        options = resolve_options(QuiltOptions, config.options)
        size = (content.shape[0], content.shape[1])
        self._check(field, size)
        layers = [layer for layer in field.layers if float(np.max(layer.weight)) > 0]
        if not layers:
            return content.copy()
        # 8 bits are what a photograph of any depth has in common: matches jump at the smallest difference
        photo = to_float(np.asarray(quantised(to_float(content), np.uint8)))
        styles = [_scaled(_picture(layer.code), size, config) for layer in layers]
        if config.preserve_color == "statistics":  # first, so that patches are found by the colours they will have
            styles = [np.clip(match_color_statistics(style, photo), 0, 1) for style in styles]
        shares = [np.broadcast_to(np.asarray(layer.weight, np.float32), size) for layer in layers]
        if on_progress is not None:
            on_progress(RenderProgress(0.0, message=str(self.estimate(size, field, config))))
            if len(layers) > 1:
                on_progress(RenderProgress(0.0, message="comparing styles"))
        labels = label_map(photo, styles, shares, options, seed=config.seed)

        def tell(step: Step) -> None:
            if on_progress is not None:
                message = f"scale {step.scale} of {step.scales}, {step.size[1]} x {step.size[0]}"
                on_progress(
                    RenderProgress(min(step.done, 0.99), step.number, step.count, message, lambda: step.picture)
                )

        painted = paint(photo, styles, labels, options, seed=config.seed, on_step=tell)
        painted = _with_colors(painted, to_float(content), config.preserve_color)
        result = composite(content, np.clip(painted, 0, 1), np.minimum(field.total, np.float32(1)))
        if on_progress is not None:
            on_progress(RenderProgress(1.0))
        return result

    def _check(self, field: StyleField, size: tuple[int, int]) -> None:
        if field.size is not None and field.size != size:
            raise FieldError(f"the field's maps are {field.size}, the picture is {size} (height, width)")
        for layer in field.layers:
            code = layer.code
            if code.engine != self.name or code.weights != self.identity:
                raise FieldError(
                    f"the style '{code.name}' was encoded by {code.engine} {code.weights}; "
                    f"this is {self.name} {self.identity}: encode it again"
                )
            _picture(code)
            if code.vector.size != _VECTOR_SIZE:
                raise FieldError(f"the style '{code.name}' has {code.vector.size} numbers, quilt needs {_VECTOR_SIZE}")


def load() -> Quilt:
    """The engine; it needs numba and SciPy, which :mod:`impasto.texture` imports.

    Raises:
        MissingExtraError: they are not installed.
    """
    return Quilt()


def _picture(code: StyleCode) -> NDArray[np.uint8]:
    picture = code.parts.get(PICTURE)
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise FieldError(f"the style '{code.name}' holds no picture; encode it again with quilt")
    return picture


def _style_size(size: tuple[int, int], style: tuple[int, ...], config: StylizeConfig) -> tuple[int, int]:
    """Height and width at which a painting of ``style`` is used for a photograph of ``size``."""
    factor = config.style_scale * min(1.0, min(size) / min(style[:2]))
    return max(1, round(style[0] * factor)), max(1, round(style[1] * factor))


def _scaled(picture: NDArray[np.uint8], size: tuple[int, int], config: StylizeConfig) -> FloatArray:
    return np.clip(resize(to_float(picture), _style_size(size, picture.shape, config)), 0, 1)


def _with_colors(painted: FloatArray, content: FloatArray, mode: str) -> FloatArray:
    if mode == "luminance":
        return preserve_luminance_only(content, painted)
    if mode == "statistics":
        for _ in range(TRANSFERS):
            painted = np.clip(color_transfer(painted, content)(painted), 0, 1)
    return painted


_VECTOR_SIZE = 9 + 2 * BANDS


def _described(picture: FloatArray) -> FloatArray:
    """``[17]`` mean colour, deviations and correlations of the channels, and strength and direction of each octave.

    It tells paintings apart and says whether two codes hold the same one; nothing is painted from it.
    """
    flat = picture.reshape(-1, 3)
    deviations = flat.std(0)
    centred = (flat - flat.mean(0)) / (deviations + np.float32(1e-3))
    correlations = (centred.T @ centred / len(flat))[np.triu_indices(3, 1)]
    bands: list[float] = []
    plane = luminance(picture)
    for _ in range(BANDS):
        coarse = resize(plane, (max(1, plane.shape[0] // 2), max(1, plane.shape[1] // 2)))
        fine = plane - resize(coarse, (plane.shape[0], plane.shape[1]))
        down, right = np.abs(np.diff(plane, axis=0)).sum(), np.abs(np.diff(plane, axis=1)).sum()
        bands += [float(fine.std()), float((right - down) / (right + down + 1e-3))]
        plane = coarse
    return np.concatenate([flat.mean(0), deviations, correlations, bands]).astype(np.float32)

"""The facade: load an engine, encode styles, render fields. Everything above (CLI, batch) goes through here."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import Engine, load_engine
from impasto.engines.base import ProgressCallback
from impasto.engines.fields import resize_field
from impasto.errors import FieldError, UnknownNameError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image import Picture, PictureInfo, read_mask, read_picture, write_picture
from impasto.image.color import resize
from impasto.ops.tiling import quantised, to_float
from impasto.types import FloatArray, PictureSource
from impasto.version import __version__

__all__ = ["DEFAULT_ENGINE", "StyleRequest", "Stylization", "Stylizer", "field_from_recipe", "stylize"]

DEFAULT_ENGINE = "brush"


@dataclass(frozen=True, eq=False)
class Stylization:
    """A painting with everything needed to make it again.

    Attributes:
        stored: ``[H, W, 3]`` uint8, or float32 in ``[0, 1]``, as the content was.
        alpha: ``[H, W]`` float32, the content's, or None.
        info: what is known of the content's file.
        recipe: engine, weights, settings, styles and versions, ready for JSON.
        seconds: time the rendering took.
    """

    stored: NDArray[Any]
    alpha: FloatArray | None
    info: PictureInfo
    recipe: dict[str, Any]
    seconds: float

    @property
    def pixels(self) -> FloatArray:
        """``[H, W, 3]`` float32 sRGB in ``[0, 1]``."""
        return to_float(self.stored)

    @property
    def image(self) -> Image.Image:
        """The painting as an 8-bit PIL image, RGB or RGBA."""
        pixels = self.stored if self.stored.dtype == np.uint8 else quantised(self.pixels, np.uint8)
        if self.alpha is None:
            return Image.fromarray(pixels)
        alpha = quantised(self.alpha, np.uint8)
        return Image.fromarray(np.dstack([pixels, alpha]))

    def save(self, path: str | PathLike[str], *, depth: int = 8, quality: int = 95, strip: bool = False) -> None:
        """Write the painting; the suffix decides the format, the recipe and the photograph's metadata travel along.

        Args:
            path: where to; it is replaced at once, never half written.
            depth: 8, or 16 for PNG and TIFF.
            quality: of JPEG and WebP, 1 to 100.
            strip: leave all metadata out, the recipe too.

        Raises:
            OutputError: the file cannot be written.
            UsageError: 16 bits in a format that has 8.
        """
        recipe = self.recipe | {"saved": {"depth": depth, "quality": quality}}
        write_picture(
            path,
            self.stored,
            alpha=self.alpha,
            like=self.info,
            depth=depth,
            quality=quality,
            recipe=json.dumps(recipe),  # in ASCII: file names may hold bytes that are no text
            strip=strip,
        )


@dataclass(frozen=True)
class StyleRequest:
    """What a caller asked for as a style: a preset's name, a picture, a saved code, or a code."""

    source: str | PictureSource | StyleCode
    share: float = 1.0


class Stylizer:
    """An engine, ready to encode and render. Styles that were encoded once are kept."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._codes: dict[tuple[str, tuple[int, int] | None], StyleCode] = {}

    @classmethod
    def load(cls, engine: str = DEFAULT_ENGINE) -> Stylizer:
        """Load an engine by name.

        Raises:
            UnknownNameError: there is no engine of that name.
            WeightsError: its weights are missing or damaged.
            MissingExtraError: it needs an optional part.
        """
        return cls(load_engine(engine))

    def encode(
        self, style: PictureSource | StyleCode, *, name: str | None = None, config: StylizeConfig | None = None
    ) -> StyleCode:
        """The code of a style: a preset's name, a picture (path, bytes, PIL image, array), or a saved ``.npz`` code.

        Raises:
            UnknownNameError: the text is neither a file nor a preset; near matches are named.
            ImageError: the picture cannot be read.
        """
        if isinstance(style, StyleCode):
            return style
        settings = config or StylizeConfig()
        if isinstance(style, (str, PathLike)):
            code = self._encode_named(Path(style), settings)
            return code if name is None else replace(code, name=name)
        return self.engine.encode(read_picture(style).pixels, name=name or "style", config=settings)

    def _encode_named(self, path: Path, config: StylizeConfig) -> StyleCode:
        """The code of a preset, of a saved code, or of a picture's file; files that did not change are read once."""
        presets, stamp = self.engine.presets(), file_stamp(path)
        preset = presets.get(str(path)) if stamp is None else None
        if preset is not None or path.suffix.lower() == ".npz":
            return preset or StyleCode.load(path)
        if stamp is None and not path.suffix and len(path.parts) == 1:
            raise UnknownNameError("preset or style picture", str(path), presets)
        key = (str(path), stamp)
        if key not in self._codes:
            self._codes[key] = self.engine.encode(read_picture(path).pixels, name=path.name, config=config)
        return self._codes[key]

    def render(
        self,
        content: PictureSource | Picture,
        field: StyleField,
        config: StylizeConfig | None = None,
        *,
        mask: PictureSource | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Stylization:
        """Paint a photograph with a style field; the result has the photograph's size (or ``config.size``).

        ``config.strength`` and ``mask`` multiply the field. The recipe names a mask's file, so that the painting can be
        made again; weight maps in the field itself are too large for it.

        Raises:
            FieldError: the field or the mask does not fit the picture, or the field the weights.
            ImageError: the picture or the mask cannot be read.
        """
        settings = config or StylizeConfig()
        picture = content if isinstance(content, Picture) else read_picture(content)
        source, stored, alpha = picture.info, picture.stored, picture.alpha
        recipe = _recipe(self.engine, field, settings, source.source)
        if mask is not None:
            field = field.times(read_mask(mask, picture.size))
            recipe["mask"] = Path(mask).name if isinstance(mask, (str, PathLike)) else "<mask>"
        if settings.size is not None:
            stored, alpha, field = _resized(stored, alpha, field, settings.size)
        scaled = field.times(settings.strength)
        begun = time.perf_counter()
        painted = self.engine.render(stored, scaled, settings, on_progress)
        seconds = time.perf_counter() - begun
        return Stylization(painted, alpha, source, recipe, seconds)

    def stylize(
        self,
        content: PictureSource | Picture,
        styles: Sequence[StyleRequest],
        *,
        mask: PictureSource | None = None,
        config: StylizeConfig | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Stylization:
        """Encode the styles, mix them by their shares, limit them to a mask, and render."""
        settings = config or StylizeConfig()
        if not styles:
            raise UsageError("at least one style is needed")
        picture = content if isinstance(content, Picture) else read_picture(content)
        codes = [self.encode(request.source, config=settings) for request in styles]
        field = StyleField.mixed(codes, [request.share for request in styles])
        return self.render(picture, field, settings, mask=mask, on_progress=on_progress)


def _resized(
    stored: NDArray[Any], alpha: FloatArray | None, field: StyleField, longer: int
) -> tuple[NDArray[Any], FloatArray | None, StyleField]:
    height, width = stored.shape[:2]
    factor = longer / max(height, width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    pixels = quantised(resize(to_float(stored), size), stored.dtype)
    return pixels, None if alpha is None else np.clip(resize(alpha, size), 0, 1), resize_field(field, size)


def _recipe(engine: Engine, field: StyleField, config: StylizeConfig, content: str) -> dict[str, Any]:
    """What ``impasto replay`` needs. Only file names are kept, no folders: the picture may be passed on.

    Weight maps are too large for it: they stand as ``null``, and such a painting cannot be replayed.
    """
    styles = []
    for layer in field.layers:
        code = layer.code
        styles.append(
            {
                "name": code.name,
                "weight": None if np.ndim(layer.weight) else float(layer.weight),
                "code": base64.b64encode(code.vector.astype("<f4").tobytes()).decode("ascii"),
            }
        )
    return {
        "impasto": __version__,
        "engine": engine.name,
        "weights": engine.identity,
        "content": Path(content).name,
        "settings": asdict(config),
        "styles": styles,
    }


def field_from_recipe(recipe: dict[str, Any], engine: Engine) -> StyleField:
    """The field that a recipe describes, without its mask.

    Raises:
        FieldError: the recipe's codes were made by other weights, or it holds none.
    """
    try:
        if recipe["weights"] != engine.identity:
            raise FieldError(
                f"the picture was painted with the weights {recipe['weights']} of {recipe['engine']}; "
                f"installed are {engine.identity}"
            )
        layers = []
        for style in recipe["styles"]:
            if style["weight"] is None:
                raise FieldError("the picture was painted with weight maps, which its recipe does not hold")
            vector = np.frombuffer(base64.b64decode(style["code"]), "<f4").astype(np.float32)
            code = StyleCode(vector, engine.name, engine.identity, str(style["name"]))
            layers.append(StyleLayer(code, float(style["weight"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FieldError(f"the recipe cannot be understood: {error}") from error
    return StyleField(tuple(layers))


@functools.lru_cache(maxsize=4)
def _shared(engine: str) -> Stylizer:
    return Stylizer.load(engine)


def stylize(
    content: PictureSource,
    style: PictureSource | StyleCode | Sequence[PictureSource | StyleCode],
    *,
    mix: Sequence[float] | None = None,
    mask: PictureSource | None = None,
    engine: str = DEFAULT_ENGINE,
    strength: float = StylizeConfig.strength,
    style_scale: float = StylizeConfig.style_scale,
    preserve_color: Literal["none", "luminance", "statistics"] | str = StylizeConfig.preserve_color,
    mix_mode: Literal["linear", "slerp"] | str = StylizeConfig.mix_mode,
    size: int | None = StylizeConfig.size,
    seed: int = StylizeConfig.seed,
) -> Stylization:
    """Paint a photograph in the style of a picture, of a preset, or of several of them.

    Args:
        content: the photograph: path, bytes of a file, PIL image, or array ``[H, W, 3]``.
        style: a preset's name, a picture, a saved code, or a list of these.
        mix: shares of several styles, scaled to sum to 1; equal by default.
        mask: where to paint: a picture of the photograph's shape, white where the style goes.
        engine: which method.
        strength: how much of the style, 0 to 1.
        style_scale: size of the strokes, 0.25 to 4.
        preserve_color: ``none``, ``luminance`` or ``statistics``.
        mix_mode: ``linear`` or ``slerp``.
        size: longer side of the result in pixels; the photograph's own by default.
        seed: of engines that use chance.

    Returns:
        The painting; ``.save(path)`` writes it, ``.image`` is a PIL image, ``.pixels`` the array.

    Raises:
        ImpastoError: see :mod:`impasto.errors`.

    Example:
        >>> import impasto
        >>> impasto.stylize("photo.jpg", "ukiyo-e").save("painting.jpg")  # doctest: +SKIP
    """
    config = StylizeConfig(
        strength=strength,
        style_scale=style_scale,
        preserve_color=preserve_color,
        mix_mode=mix_mode,
        size=size,
        seed=seed,
    )
    several: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    shares = [1.0] * len(several) if mix is None else [float(share) for share in mix]
    if len(shares) != len(several):
        raise FieldError(f"{len(several)} styles need {len(several)} shares in mix, not {len(shares)}")
    requests = [StyleRequest(one, share) for one, share in zip(several, shares, strict=True)]
    return _shared(engine).stylize(content, requests, mask=mask, config=config)


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None where there is none (or no name for one); tells whether it was changed."""
    try:
        facts = path.stat()
    except (OSError, ValueError):  # too long a name, a null byte
        return None
    return (facts.st_size, facts.st_mtime_ns) if path.is_file() else None


def fingerprint(*parts: Any) -> str:
    """SHA-256 of anything JSON can hold, for journals and caches."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8")).hexdigest()

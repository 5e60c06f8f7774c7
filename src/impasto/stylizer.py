"""The facade: load an engine, encode styles, render fields. Everything above (CLI, batch) goes through here."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import Engine, engine_options, load_engine
from impasto.engines.base import ChosenWeights, Explaining, ProgressCallback, RenderEstimate, StyleFiles
from impasto.engines.fields import composite, resize_field, spread_field
from impasto.engines.registry import ENGINES
from impasto.errors import FieldError, UnknownNameError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer
from impasto.image import Picture, PictureInfo, read_mask, read_picture, write_picture
from impasto.image.color import resize
from impasto.ops.tiling import quantised, to_float
from impasto.regions import (
    RegionConfig,
    RegionFinder,
    RegionPlan,
    RegionSpec,
    RegionStyle,
    parse_region,
    region_texture,
)
from impasto.types import FloatArray, PictureSource
from impasto.version import __version__

__all__ = [
    "DEFAULT_ENGINE",
    "StyleRequest",
    "Stylization",
    "Stylizer",
    "code_from_recipe",
    "field_from_recipe",
    "regions_from_recipe",
    "stylize",
    "weights_in_use",
]

DEFAULT_ENGINE = "brush"
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Stylization:
    """A painting with everything needed to make it again.

    Attributes:
        stored: ``[H, W, 3]`` uint8, or float32 in ``[0, 1]``, as the content was.
        alpha: ``[H, W]`` float32, the content's, or None.
        info: what is known of the content's file.
        recipe: engine, weights, settings, styles and versions, ready for JSON.
        seconds: time the rendering took.
        explanation: ``[h, w, 3]`` float32, where the engine looked, if that was asked for.
    """

    stored: NDArray[Any]
    alpha: FloatArray | None
    info: PictureInfo
    recipe: dict[str, Any]
    seconds: float
    explanation: FloatArray | None = None

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
        self._codes: dict[tuple[Any, ...], StyleCode] = {}

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
        if isinstance(self.engine, StyleFiles) and path.suffix.lower() == self.engine.style_suffix:
            return self.engine.open_style(path)
        if stamp is None and not path.suffix and len(path.parts) == 1:
            raise UnknownNameError("preset or style picture", str(path), presets)
        key = (str(path), stamp, config.style_scale, config.size, repr(sorted(config.options.items())))
        if key not in self._codes:
            self._codes[key] = self.engine.encode(read_picture(path).pixels, name=path.name, config=config)
        return self._codes[key]

    def encode_part(
        self,
        style: PictureSource,
        part: str | RegionSpec | PictureSource,
        *,
        config: StylizeConfig | None = None,
        region_config: RegionConfig | None = None,
    ) -> StyleCode:
        """The code of a part of a style picture, such as its sky.

        Args:
            style: the picture.
            part: a region of it, as :func:`impasto.regions.parse_region` reads it, or a mask of its shape.
            config: settings of the engine.
            region_config: settings of the region.

        Raises:
            FieldError: the region is empty, does not fit the picture, or is too thin to take a style from.
            UsageError: the region's text cannot be understood, or a preset or saved code is given instead of a picture.
            ImageError: the picture or the mask cannot be read.
        """
        path = Path(style) if isinstance(style, (str, PathLike)) else None
        if path is not None and (path.suffix.lower() == ".npz" or str(path) in self.engine.presets()):
            raise UsageError(f"'{path}' is no picture, of which a part could be taken")
        spec = parse_region(part) if isinstance(part, str) else part
        about = spec.portable if isinstance(spec, RegionSpec) else "<mask>"
        picture = read_picture(style)
        mask = RegionFinder(picture, region_config).find(spec)
        name = f"{'style' if path is None else path.name}@{about}"
        texture = region_texture(picture.pixels, mask, about=about)
        return self.engine.encode(texture, name=name, config=config or StylizeConfig())

    def estimate(
        self, content: PictureSource | Picture, field: StyleField, config: StylizeConfig | None = None
    ) -> RenderEstimate:
        """Time and memory that :meth:`render` will take with these arguments.

        Raises:
            UsageError: an option that the engine does not have, or out of range.
        """
        settings = config or StylizeConfig()
        self._check_options(settings)
        picture = content if isinstance(content, Picture) else read_picture(content)
        size = picture.size if settings.size is None else _target_size(picture.size, settings.size)
        return self.engine.estimate(size, field, settings)

    def check_explaining(self) -> Explaining:
        """The engine, if it can show where it looked.

        Raises:
            UsageError: it cannot.
        """
        if isinstance(self.engine, Explaining):
            return self.engine
        able = ", ".join(name for name, spec in ENGINES.items() if spec.capabilities.explains)
        raise UsageError(f"the engine '{self.engine.name}' cannot explain where it looks; these can: {able or 'none'}")

    def _check_options(self, config: StylizeConfig) -> None:
        if self.engine.name in ENGINES:  # others were made by the caller, and check for themselves
            engine_options(self.engine.name, config.options)

    def render(
        self,
        content: PictureSource | Picture,
        field: StyleField,
        config: StylizeConfig | None = None,
        *,
        mask: PictureSource | None = None,
        keep: FloatArray | None = None,
        explain: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> Stylization:
        """Paint a photograph with a style field; the result has the photograph's size (or ``config.size``).

        ``config.strength`` and ``mask`` multiply the field. The recipe names a mask's file, so that the painting can be
        made again; weight maps in the field itself are too large for it.

        Args:
            content: the photograph.
            field: the style field.
            config: the settings.
            mask: where to paint.
            keep: ``[H, W]`` in ``[0, 1]``, how much of the photograph to lay over the painting. Less weight in the
                field means a milder style in an engine's own way; this is a crossfade, after which a face is still
                that face.
            explain: also show where the engine looked, as the result's ``explanation``.
            on_progress: called now and then.

        Raises:
            UsageError: ``explain``, of an engine that cannot.
            FieldError: the field or the mask does not fit the picture, or the field the weights.
            ImageError: the picture or the mask cannot be read.
        """
        settings = config or StylizeConfig()
        self._check_options(settings)
        explainer = self.check_explaining() if explain else None
        picture = content if isinstance(content, Picture) else read_picture(content)
        source, stored, alpha = picture.info, picture.stored, picture.alpha
        recipe = _recipe(self.engine, field, settings, source.source)
        if mask is not None:
            field = field.times(read_mask(mask, picture.size))
            recipe["mask"] = Path(mask).name if isinstance(mask, (str, PathLike)) else "<mask>"
        if keep is not None and keep.shape != picture.size:
            raise FieldError(f"what to keep is {keep.shape}, the picture is {picture.size} (height, width)")
        if settings.size is not None:
            stored, alpha, field = _resized(stored, alpha, field, settings.size)
            keep = None if keep is None else np.clip(resize(keep, (stored.shape[0], stored.shape[1])), 0, 1)
        scaled = field.times(settings.strength)
        begun = time.perf_counter()
        painted = self._painted(stored, scaled, keep, settings, on_progress)
        seconds = time.perf_counter() - begun
        shown = None if explainer is None else explainer.explain(stored, scaled, settings)
        return Stylization(painted, alpha, source, recipe, seconds, shown)

    def _painted(
        self,
        stored: NDArray[Any],
        field: StyleField,
        keep: FloatArray | None,
        config: StylizeConfig,
        on_progress: ProgressCallback | None,
    ) -> NDArray[Any]:
        """The engine's painting, with clean edges where the field ends: painted beyond them, and cut off there."""
        spread, cover = spread_field(field)
        painted = self.engine.render(stored, spread, config, on_progress)
        if keep is not None:
            cover = (1 - keep) * (np.float32(1) if cover is None else cover)
        if cover is None:
            return painted
        for top in range(0, len(stored), _ROWS_AT_ONCE):  # without float copies of the whole picture
            rows = slice(top, top + _ROWS_AT_ONCE)
            painted[rows] = composite(stored[rows], to_float(painted[rows]), cover[rows])
        return painted

    def stylize(
        self,
        content: PictureSource | Picture,
        styles: Sequence[StyleRequest],
        *,
        regions: Sequence[RegionStyle] = (),
        region_config: RegionConfig | None = None,
        mask: PictureSource | None = None,
        config: StylizeConfig | None = None,
        explain: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> Stylization:
        """Encode the styles, mix them by their shares, put others into regions, limit all to a mask, and render.

        Args:
            content: the photograph.
            styles: for the whole of it; with ``regions``, for what lies outside of them, and may then be empty.
            regions: styles for regions; later ones lie on top.
            region_config: how regions are found, feathered, and what is protected.
            mask: where to paint.
            config: the settings.
            explain: see :meth:`render`.
            on_progress: called now and then.

        Raises:
            ImpastoError: see :mod:`impasto.errors`.
        """
        settings, region_settings = config or StylizeConfig(), region_config or RegionConfig()
        self._check_options(settings)
        if explain:
            self.check_explaining()
        if not styles and not regions:
            raise UsageError("at least one style is needed")
        picture = content if isinstance(content, Picture) else read_picture(content)
        codes = [self.encode(request.source, config=settings) for request in styles]
        base = StyleField.mixed(codes, [request.share for request in styles]) if styles else None
        if base is not None and not regions and not region_settings.protect:
            return self.render(picture, base, settings, mask=mask, explain=explain, on_progress=on_progress)
        regions = [self.encoded(region, settings, region_settings) for region in regions]
        inside = [region.style if isinstance(region.style, StyleCode) else None for region in regions]
        plan = RegionPlan.make(picture, regions, region_settings)
        field = plan.field(inside, base)
        result = self.render(
            picture, field, settings, mask=mask, keep=plan.keep, explain=explain, on_progress=on_progress
        )
        plain = () if base is None else base.layers
        plain += tuple(
            StyleLayer(code, one.strength) for one, code in zip(regions, inside, strict=True) if code is not None
        )
        return replace(result, recipe=result.recipe | {"styles": _style_entries(plain), "regions": plan.recipe()})

    def encoded(
        self, region: RegionStyle, config: StylizeConfig | None = None, region_config: RegionConfig | None = None
    ) -> RegionStyle:
        """The same region with its style encoded: once for many photographs.

        Raises:
            ImpastoError: see :meth:`encode` and :meth:`encode_part`.
        """
        if region.style is None:
            return region
        if region.style_region is None:
            return replace(region, style=self.encode(region.style, config=config))
        if isinstance(region.style, StyleCode):
            raise UsageError(f"the style '{region.style.name}' is encoded already: there is no part of it to take")
        code = self.encode_part(region.style, region.style_region, config=config, region_config=region_config)
        return replace(region, style=code, style_region=None)


def _resized(
    stored: NDArray[Any], alpha: FloatArray | None, field: StyleField, longer: int
) -> tuple[NDArray[Any], FloatArray | None, StyleField]:
    size = _target_size((stored.shape[0], stored.shape[1]), longer)
    pixels = quantised(resize(to_float(stored), size), stored.dtype)
    return pixels, None if alpha is None else np.clip(resize(alpha, size), 0, 1), resize_field(field, size)


def _target_size(size: tuple[int, int], longer: int) -> tuple[int, int]:
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _recipe(engine: Engine, field: StyleField, config: StylizeConfig, content: str) -> dict[str, Any]:
    """What ``impasto replay`` needs. Only file names are kept, no folders: the picture may be passed on.

    Codes that are more than a vector are too large for it: their SHA-256 stands there, and the style's file is needed.

    Weight maps are too large for it: they stand as ``null``, and such a painting cannot be replayed, except where they
    come from regions that the recipe can name.
    """
    return {
        "impasto": __version__,
        "engine": engine.name,
        "weights": weights_in_use(engine, config),
        "content": Path(content).name,
        "settings": asdict(config),
        "styles": _style_entries(field.layers),
    }


def weights_in_use(engine: Engine, config: StylizeConfig) -> str:
    """First digits of the SHA-256 of the weights that an engine paints with: its own, or those that the settings name.

    Raises:
        WeightsError: the settings name a file that is missing.
    """
    return engine.identity_with(config) if isinstance(engine, ChosenWeights) else engine.identity


def _style_entries(layers: Sequence[StyleLayer]) -> list[dict[str, Any]]:
    """Names, weights and codes of styles; of codes that are more than a vector only the SHA-256."""
    styles: list[dict[str, Any]] = []
    for layer in layers:
        code = layer.code
        entry = {"name": code.name, "weight": None if np.ndim(layer.weight) else float(layer.weight)}
        if code.parts:
            styles.append(entry | {"sha256": code.digest})
        else:
            styles.append(entry | {"code": base64.b64encode(code.vector.astype("<f4").tobytes()).decode("ascii")})
    return styles


def field_from_recipe(
    recipe: dict[str, Any], engine: Engine, encode: Callable[[str], StyleCode] | None = None
) -> StyleField:
    """The field that a recipe describes, without its mask.

    Args:
        recipe: as a painting carries it.
        engine: the engine that it names.
        encode: finds and encodes a style that the recipe holds only the name and the SHA-256 of.

    Raises:
        FieldError: the recipe's picture was painted with other weights, it holds no codes, or ``encode`` gives another
            style.
        WeightsError: a file of weights that its settings name is missing.
    """
    try:
        identity = weights_in_use(engine, StylizeConfig(**recipe["settings"]))
        if recipe["weights"] != identity:
            raise FieldError(
                f"the picture was painted with the weights {recipe['weights']} of {recipe['engine']}; "
                f"installed are {identity}"
            )
        if "regions" in recipe:
            raise FieldError("the picture was painted with regions, of which a field alone knows nothing")
        layers = []
        for style in recipe["styles"]:
            if style["weight"] is None:
                raise FieldError("the picture was painted with weight maps, which its recipe does not hold")
            code = code_from_recipe(style, engine, encode)
            layers.append(StyleLayer(code, float(style["weight"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FieldError(f"the recipe cannot be understood: {error}") from error
    return StyleField(tuple(layers))


def regions_from_recipe(
    recipe: dict[str, Any],
    code_of: Callable[[dict[str, Any]], StyleCode],
    find: Callable[[str], PictureSource],
    *,
    check: bool = True,
) -> tuple[list[StyleRequest], list[RegionStyle], RegionConfig]:
    """What was asked of :meth:`Stylizer.stylize` for a picture that was painted with regions.

    Args:
        recipe: as a painting carries it.
        code_of: the code of an entry of its styles; see :func:`code_from_recipe`.
        find: the file of a mask or of annotations, by the name that the recipe keeps.
        check: whether a region must have the very mask that it had.

    Raises:
        FieldError: the recipe cannot be understood.
    """
    try:
        kept, masks = recipe["regions"], recipe["regions"]["masks"]
        codes = [(code_of(style), float(style["weight"])) for style in recipe["styles"]]
        painted = sum(not mask["keep"] for mask in masks)
        base, inside = codes[: len(codes) - painted], iter(codes[len(codes) - painted :])
        regions = []
        for mask in masks:
            spec = parse_region(str(mask["region"]))
            if spec.file is not None:
                spec = spec.with_file(str(find(spec.file)))
            style = None if mask["keep"] else next(inside)[0]
            digest = str(mask["sha256"]) if check else ""
            regions.append(RegionStyle(spec.text, style, float(mask["strength"]), digest=digest))
        return [StyleRequest(code, share) for code, share in base], regions, RegionConfig(**kept["settings"])
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        raise FieldError(f"the recipe's regions cannot be understood: {error}") from error


def code_from_recipe(style: dict[str, Any], engine: Engine, encode: Callable[[str], StyleCode] | None) -> StyleCode:
    """The code that a recipe holds, or that ``encode`` finds for it.

    Raises:
        FieldError: the recipe holds only a name and there is no ``encode``, or it gives another style.
    """
    name = str(style["name"])
    if "code" in style:
        vector = np.frombuffer(base64.b64decode(style["code"]), "<f4").astype(np.float32)
        return StyleCode(vector, engine.name, engine.identity, name)
    if encode is None:
        raise FieldError(f"the recipe names the style '{name}' but does not hold it; its file is needed")
    code = encode(name)
    if code.digest != style["sha256"]:
        raise FieldError(f"the style '{name}' is not the one that the picture was painted with")
    return code


@functools.lru_cache(maxsize=4)
def _shared(engine: str) -> Stylizer:
    return Stylizer.load(engine)


def stylize(
    content: PictureSource,
    style: PictureSource | StyleCode | Sequence[PictureSource | StyleCode] | None = None,
    *,
    mix: Sequence[float] | None = None,
    mask: PictureSource | None = None,
    regions: Sequence[str | RegionStyle] = (),
    feather: float = RegionConfig.feather,
    protect: str = RegionConfig.protect,
    engine: str = DEFAULT_ENGINE,
    strength: float = StylizeConfig.strength,
    style_scale: float = StylizeConfig.style_scale,
    preserve_color: Literal["none", "luminance", "statistics"] | str = StylizeConfig.preserve_color,
    mix_mode: Literal["linear", "slerp"] | str = StylizeConfig.mix_mode,
    size: int | None = StylizeConfig.size,
    seed: int = StylizeConfig.seed,
    options: Mapping[str, Any] | None = None,
    on_progress: ProgressCallback | None = None,
) -> Stylization:
    """Paint a photograph in the style of a picture, of a preset, or of several of them.

    Args:
        content: the photograph: path, bytes of a file, PIL image, or array ``[H, W, 3]``.
        style: a preset's name, a picture, a saved code, or a list of these; may be left out if ``regions`` have styles.
        mix: shares of several styles, scaled to sum to 1; equal by default.
        mask: where to paint: a picture of the photograph's shape, white where the style goes.
        regions: styles for parts of the photograph, such as ``"sky.png=monet.jpg:0.9"``; later ones lie on top.
        feather: softness of the regions' borders in pixels.
        protect: ``faces``, ``text`` or ``faces,text``: where less of the style goes.
        engine: which method.
        strength: how much of the style, 0 to 1.
        style_scale: size of the strokes, 0.25 to 4.
        preserve_color: ``none``, ``luminance`` or ``statistics``.
        mix_mode: ``linear`` or ``slerp``.
        size: longer side of the result in pixels; the photograph's own by default.
        seed: of engines that use chance.
        options: settings that only this engine has, by name; ``impasto engines NAME`` lists them.
        on_progress: called now and then with a :class:`~impasto.engines.RenderProgress`; what it raises stops the work.

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
        options=dict(options or {}),
    )
    several: list[Any] = list(style) if isinstance(style, (list, tuple)) else [] if style is None else [style]
    shares = [1.0] * len(several) if mix is None else [float(share) for share in mix]
    if len(shares) != len(several):
        raise FieldError(f"{len(several)} styles need {len(several)} shares in mix, not {len(shares)}")
    requests = [StyleRequest(one, share) for one, share in zip(several, shares, strict=True)]
    return _shared(engine).stylize(
        content,
        requests,
        regions=[RegionStyle.parse(region) if isinstance(region, str) else region for region in regions],
        region_config=RegionConfig(feather=feather, protect=protect),
        mask=mask,
        config=config,
        on_progress=on_progress,
    )


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

"""What a worker does for one order: read the pictures, encode the styles, build the field, paint, write the result.

Pictures arrive as bytes under a key (their SHA-256); nothing here opens a file that a client named. A style that is a
text is looked up in the engine's presets and nowhere else.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.config import StylizeConfig
from impasto.engines import ProgressCallback
from impasto.errors import FieldError, ImageError, ImageLimitError, UnknownNameError, UsageError
from impasto.field import StyleCode, StyleField
from impasto.image import Picture, read_mask, read_picture, read_recipe, resize, write_picture
from impasto.ops.tiling import quantised, to_float
from impasto.server.media import WRITTEN
from impasto.stylizer import Stylization, Stylizer
from impasto.types import FloatArray

__all__ = ["Answer", "RenderLimits", "Renderer", "encoded"]

CACHED_BYTES = 96 * 1024 * 1024  # decoded pictures that a worker keeps
CACHED_CODES = 256
CACHED_CODE_BYTES = 1 << 16  # larger codes are whole pictures
THUMBNAIL = 256


@dataclass(frozen=True)
class RenderLimits:
    """What a worker refuses.

    Attributes:
        pixels: most pixels of a picture that is read or written.
        memory: most memory in bytes that an engine may expect to take.
        folder: private folder in which a result is written for a moment.
    """

    pixels: int
    memory: int
    folder: str


@dataclass(frozen=True)
class Answer:
    """What came of an order: facts for JSON, and the bytes of a picture (empty where there is none)."""

    facts: dict[str, Any]
    data: bytes = b""


Fetch = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Gives the bytes of pictures by their keys."""


@runtime_checkable
class _HasTitles(Protocol):
    """Engines that know more of their presets than the name."""

    def preset_table(self) -> Mapping[str, Any]:
        """By name, with ``title`` and ``credit``."""


class Renderer:
    """Handles orders one after the other; keeps engines, decoded pictures and style codes for the next."""

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self._stylizers: dict[str, Stylizer] = {}
        self._known_presets: dict[str, Mapping[str, StyleCode]] = {}
        self._pictures = _Kept()
        self._codes: OrderedDict[tuple[Any, ...], StyleCode] = OrderedDict()
        self._kinds: dict[str, Callable[[dict[str, Any], Fetch, ProgressCallback | None], Answer]] = {
            "convert": self._convert,
            "estimate": self._estimate,
            "inspect": self._inspect,
            "picture": self._show,
            "presets": self._presets,
            "preview": self._preview,
            "render": self._render,
            "segment": self._segment,
            "thumbnail": self._thumbnail,
        }

    def handle(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None = None) -> Answer:
        """Do what an order asks for.

        Raises:
            ImpastoError: see :mod:`impasto.errors`.
        """
        return self._kinds[order["kind"]](order, fetch, on_progress)

    def warm(self, engine: str) -> None:
        """Load an engine and paint a few pixels, so that the first request finds everything ready."""
        stylizer = self._stylizer(engine)
        code = next(iter(stylizer.engine.presets().values()), None)
        if code is not None:
            stylizer.render(np.full((64, 64, 3), 127, np.uint8), StyleField.constant(code, 0.5))

    # -- orders --------------------------------------------------------------------------------------------------------

    def _inspect(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        picture = self._read(order["content"], fetch)
        return Answer({"height": picture.height, "width": picture.width})

    def _show(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        picture = self._reduced(order["content"], order["longer_side"], fetch)
        return self._encoded(_image_of(picture.stored, picture.alpha), order["format"], order["quality"], {})

    def _preview(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        picture = self._reduced(order["content"], order["longer_side"], fetch)
        result = self._painted(order, picture, fetch, on_progress)
        return self._encoded(result.image, order["format"], order["quality"], {"seconds": result.seconds})

    def _render(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        picture = self._read(order["content"], fetch)
        result = self._painted(order, picture, fetch, on_progress)
        height, width = result.stored.shape[:2]
        output = order["output"]
        media_type, suffix = WRITTEN[output["format"]]
        path = Path(self.limits.folder) / f"result{suffix}"
        try:
            result.save(path, quality=output["quality"], strip=output["strip"])
            data = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
        facts = {"height": height, "width": width, "seconds": result.seconds, "media_type": media_type}
        return Answer(facts | {"quality": output["quality"], "strip": output["strip"]}, data)

    def _convert(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        """A painting in another format, with its recipe and metadata."""
        picture, output = self._read(order["content"], fetch), order["output"]
        media_type, suffix = WRITTEN[output["format"]]
        before, path = Path(self.limits.folder) / "painting", Path(self.limits.folder) / f"result{suffix}"
        try:
            before.write_bytes(fetch([order["content"]["key"]])[order["content"]["key"]])
            write_picture(
                path,
                quantised(picture.pixels, np.uint8),
                alpha=picture.alpha,
                like=picture.info,
                quality=output["quality"],
                recipe=read_recipe(before),
                strip=output["strip"],
            )
            data = path.read_bytes()
        finally:
            before.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return Answer({"height": picture.height, "width": picture.width, "media_type": media_type}, data)

    def _presets(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        engine = self._stylizer(order["engine"]).engine
        titles = engine.preset_table() if isinstance(engine, _HasTitles) else {}
        rows = [
            {
                "name": name,
                "title": getattr(titles.get(name), "title", name),
                "credit": getattr(titles.get(name), "credit", ""),
            }
            for name in engine.presets()
        ]
        return Answer({"engine": engine.name, "identity": engine.identity, "presets": rows})

    def _thumbnail(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        stylizer = self._stylizer(order["engine"])
        field = StyleField.constant(self._preset(stylizer, order["name"]))
        sample = (resources.files("impasto.server") / "sample.jpg").read_bytes()
        result = stylizer.render(_scaled(read_picture(sample), THUMBNAIL), field)
        return self._encoded(result.image, "webp", 80, {})

    def _estimate(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        stylizer = self._stylizer(order["engine"])
        config = StylizeConfig(**order["settings"], options=order["options"])
        asked = (order["height"], order["width"])
        size = asked if config.size is None else _size_at(asked, config.size)
        code = next(iter(stylizer.engine.presets().values()), None)
        if code is None:
            code = stylizer.encode(_grey(), name="grey", config=config)
        expected = stylizer.engine.estimate(size, StyleField.mixed([code] * order["styles"]), config)
        return Answer({"engine": order["engine"], "seconds": expected.seconds, "memory": expected.memory})

    def _segment(self, order: dict[str, Any], fetch: Fetch, on_progress: ProgressCallback | None) -> Answer:
        from impasto.server.segmenting import segment

        picture = self._read(order["content"], fetch)
        mask = segment(picture, order["box"], order["points"])
        longer = order["longer_side"]
        if longer is not None and longer < max(mask.shape):
            mask = np.clip(resize(mask, _fitted((mask.shape[0], mask.shape[1]), longer)), 0, 1)
        return self._encoded(Image.fromarray(quantised(mask, np.uint8)), "png", 95, {})

    # -- painting ------------------------------------------------------------------------------------------------------

    def _painted(
        self, order: dict[str, Any], picture: Picture, fetch: Fetch, on_progress: ProgressCallback | None
    ) -> Stylization:
        config = StylizeConfig(**order["settings"], options=order["options"])
        stylizer = self._stylizer(order["engine"])
        target = picture.size if config.size is None else _size_at(picture.size, config.size)
        if target[0] * target[1] > self.limits.pixels:
            raise ImageLimitError(
                f"the result would have {target[0]} x {target[1]} pixels, more than the limit of {self.limits.pixels:,}"
            )
        field = self._field(order, stylizer, config, picture, fetch)
        expected = stylizer.engine.estimate(target, field, config)
        if expected.memory > self.limits.memory:
            raise ImageLimitError(
                f"painting this would take about {expected.memory / 1e9:.1f} GB of memory, more than the server's "
                f"limit of {self.limits.memory / 1e9:.1f} GB; make the picture smaller"
            )
        return stylizer.render(picture, field, config, on_progress=on_progress)

    def _field(
        self, order: dict[str, Any], stylizer: Stylizer, config: StylizeConfig, picture: Picture, fetch: Fetch
    ) -> StyleField:
        """Styles everywhere, replaced by the regions' own where those are, limited to the mask."""
        if not order["styles"] and not order["regions"]:
            raise UsageError("at least one style is needed, or a region with one")
        base = self._mixed(order["styles"], stylizer, config, fetch)
        if order["regions"]:
            base = self._with_regions(base, order, stylizer, config, picture, fetch)
        if order["mask"] is not None:
            base = base.times(self._mask(order["mask"], picture.size, fetch))
        return base

    def _with_regions(
        self,
        base: StyleField,
        order: dict[str, Any],
        stylizer: Stylizer,
        config: StylizeConfig,
        picture: Picture,
        fetch: Fetch,
    ) -> StyleField:
        from impasto.regions.masks import Regions

        masks = {
            str(index): self._mask(one["mask"], picture.size, fetch) for index, one in enumerate(order["regions"], 1)
        }
        regions = Regions.stacked(masks)
        if order["feather"] > 0:
            guide = picture.pixels if order["feather_mode"] == "guided" else None
            regions = regions.feathered(order["feather"], mode=order["feather_mode"], guide=guide)
        field = base.times(regions.outside)
        for name, one in zip(regions.names, order["regions"], strict=True):
            inside = self._mixed(one["styles"], stylizer, config, fetch).times(float(one["strength"]))
            field = field + inside.times(regions[name])
        return field

    def _mixed(
        self, styles: Sequence[dict[str, Any]], stylizer: Stylizer, config: StylizeConfig, fetch: Fetch
    ) -> StyleField:
        """Several styles by their shares; those without weight are not even encoded."""
        if not styles:
            return StyleField(())
        used = [style for style in styles if style["weight"] > 0]
        if not used:
            raise FieldError("the weights of the styles sum to zero; give one of them some")
        codes = [self._code(style, stylizer, config, fetch) for style in used]
        return StyleField.mixed(codes, [style["weight"] for style in used])

    def _code(self, style: dict[str, Any], stylizer: Stylizer, config: StylizeConfig, fetch: Fetch) -> StyleCode:
        if style.get("preset") is not None:
            return self._preset(stylizer, style["preset"])
        settings = (config.style_scale, config.size, config.tile, repr(sorted(config.options.items())))
        key = (stylizer.engine.name, style["key"], settings)
        code = self._codes.get(key)
        if code is None:
            picture = self._read(style, fetch)
            code = stylizer.encode(picture.stored, name=style["name"] or "style", config=config)
            if code.vector.nbytes + sum(part.nbytes for part in code.parts.values()) <= CACHED_CODE_BYTES:
                self._codes[key] = code
                while len(self._codes) > CACHED_CODES:
                    self._codes.popitem(last=False)
        else:
            self._codes.move_to_end(key)
        return code if code.name == (style["name"] or "style") else replace(code, name=style["name"] or "style")

    def _preset(self, stylizer: Stylizer, name: str) -> StyleCode:
        engine = stylizer.engine.name
        if engine not in self._known_presets:
            self._known_presets[engine] = stylizer.engine.presets()  # reading them takes milliseconds
        presets = self._known_presets[engine]
        if name not in presets:
            raise UnknownNameError(f"preset of {stylizer.engine.name}", name, presets)
        return presets[name]

    def _stylizer(self, engine: str) -> Stylizer:
        if engine not in self._stylizers:
            self._stylizers[engine] = Stylizer.load(engine)
        return self._stylizers[engine]

    # -- pictures ------------------------------------------------------------------------------------------------------

    def _read(self, reference: dict[str, Any], fetch: Fetch) -> Picture:
        """The picture of a reference ``{"key", "name", "role"}``, in full."""
        role, name = reference["role"], reference["name"]
        data = fetch([reference["key"]])[reference["key"]]
        try:
            picture = read_picture(data, limit_pixels=self.limits.pixels)
        except ImageError as error:
            raise type(error)(str(error).replace("'<bytes>'", f"the {role} picture")) from error
        except MemoryError as error:
            raise ImageLimitError(f"the {role} picture needs more memory than there is; make it smaller") from error
        return replace(picture, info=replace(picture.info, source=name or role))

    def _reduced(self, reference: dict[str, Any], longer: int, fetch: Fetch) -> Picture:
        """The same at a longer side of at most ``longer`` pixels, in 8 bits; kept for the next time."""
        key = (reference["key"], longer)
        found = self._pictures.get(key)
        if found is None:
            found = _scaled(self._read(reference, fetch), longer)
            self._pictures.put(key, found)
        return found

    def _mask(self, reference: dict[str, Any], size: tuple[int, int], fetch: Fetch) -> FloatArray:
        key = (reference["key"], -1)
        picture = self._pictures.get(key)
        if picture is None:
            picture = self._read(reference, fetch)
            self._pictures.put(key, picture)
        plane = picture.stored if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
        try:
            return read_mask(plane, size)
        except FieldError as error:
            raise FieldError(str(error).replace("'<array>'", f"of the {reference['role']}")) from error

    def _encoded(self, image: Image.Image, file_format: str, quality: int, facts: dict[str, Any]) -> Answer:
        facts = facts | {"height": image.height, "width": image.width, "media_type": WRITTEN[file_format][0]}
        return Answer(facts, encoded(image, file_format, quality))


class _Kept:
    """The pictures used last, within a bound of memory."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[str, int]) -> Picture | None:
        if key in self._pictures:
            self._pictures.move_to_end(key)
        return self._pictures.get(key)

    def put(self, key: tuple[str, int], picture: Picture) -> None:
        if _bytes_of(picture) > CACHED_BYTES // 4:
            return
        self._pictures[key] = picture
        self._bytes += _bytes_of(picture)
        while self._bytes > CACHED_BYTES:
            _, gone = self._pictures.popitem(last=False)
            self._bytes -= _bytes_of(gone)


def _bytes_of(picture: Picture) -> int:
    return picture.stored.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)


def _fitted(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """``size`` reduced to a longer side; never enlarged."""
    return size if max(size) <= longer else _size_at(size, longer)


def _size_at(size: tuple[int, int], longer: int) -> tuple[int, int]:
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _scaled(picture: Picture, longer: int) -> Picture:
    size = _fitted(picture.size, longer)
    alpha = picture.alpha
    if size != picture.size:
        stored = quantised(np.clip(resize(_thinned(picture.stored, size), size), 0, 1), np.uint8)
        alpha = None if alpha is None else np.clip(resize(alpha, size), 0, 1)
    else:
        stored = quantised(picture.pixels, np.uint8)
    return Picture(stored, alpha, replace(picture.info, depth=8, exif=None, xmp=None))


def _thinned(stored: NDArray[Any], size: tuple[int, int]) -> FloatArray:
    """A large 8-bit picture in floats, reduced by area to twice ``size`` first: in full it would be too much."""
    twice = (2 * size[0], 2 * size[1])
    if stored.dtype != np.uint8 or stored.shape[0] < 2 * twice[0] or stored.shape[1] < 2 * twice[1]:
        return to_float(stored)
    return to_float(np.asarray(Image.fromarray(stored).resize(twice[::-1], Image.Resampling.BOX)))


def _image_of(stored: NDArray[np.uint8], alpha: FloatArray | None) -> Image.Image:
    if alpha is None:
        return Image.fromarray(stored)
    return Image.fromarray(np.dstack([stored, quantised(alpha, np.uint8)]))


def encoded(image: Image.Image, file_format: str, quality: int) -> bytes:
    """A PIL image as a file's bytes, without metadata; JPEG shows transparent parts on white."""
    if file_format == "jpeg" and image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    stream = io.BytesIO()
    if file_format == "webp":
        image.save(stream, "WEBP", quality=quality, method=2)
    elif file_format == "png":
        image.save(stream, "PNG", compress_level=3)
    else:
        image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _grey() -> FloatArray:
    return np.full((64, 64, 3), 0.5, np.float32)

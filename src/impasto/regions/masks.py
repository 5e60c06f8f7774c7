"""``Regions``: named soft masks over one picture that sum to at most 1, and the style field they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from impasto.checks import check_choice, check_range
from impasto.errors import FieldError, OutputError, UnknownNameError
from impasto.field import TOLERANCE, StyleCode, StyleField, StyleLayer
from impasto.ops.neighbourhood import running_maximum, running_minimum
from impasto.regions.guided import guided_filter
from impasto.regions.settings import FEATHER_MODES, RegionConfig
from impasto.types import FloatArray

__all__ = ["VISIBLE", "Regions", "feathered", "limited"]

VISIBLE = 0.5 / 255
"""A mask that is nowhere above this is empty: no 8-bit pixel would change."""

GUIDED_EPSILON = 0.02**2  # variance of colour below which the guide counts as flat; photographs have edges far above
GUIDED_PIXELS = 1_500_000  # above, the guided filter's coefficients are computed on a smaller copy


@dataclass(frozen=True, eq=False)
class Regions:
    """Named soft masks over one picture.

    Attributes:
        masks: by name, ``[H, W]`` float32 in ``[0, 1]``, all of one size; at every pixel they sum to at most 1. What is
            left to 1 lies outside of all regions.

    Raises:
        FieldError: no mask, masks of different sizes or outside of ``[0, 1]``, an empty one, or a sum above 1
            (:meth:`stacked` settles overlaps).
    """

    masks: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        if not self.masks:
            raise FieldError("there is no region; name at least one")
        sizes = {np.shape(mask) for mask in self.masks.values()}
        for name, mask in self.masks.items():
            _check_mask(name, mask)
        if len(sizes) > 1:
            raise FieldError(f"regions of one picture must have one size, not {sorted(sizes)}")
        highest = float(np.max(self.covered))
        if highest > 1 + TOLERANCE:
            raise FieldError(f"the regions {', '.join(self.masks)} overlap (they add up to {highest:.2f}); stack them")

    @classmethod
    def stacked(cls, masks: Mapping[str, FloatArray] | Iterable[tuple[str, FloatArray]]) -> Regions:
        """Regions that may overlap: **what is named later lies on top**.

        The last region gets its whole mask, each one before it what those above leave: ``min(mask, 1 - above)``. Two
        soft masks that complete each other (a foreground and its background) are both kept as they are.

        Raises:
            FieldError: a name twice, a mask outside of ``[0, 1]``, an empty one, different sizes, or a region that
                those above hide entirely.
        """
        pairs = list(masks.items()) if isinstance(masks, Mapping) else list(masks)
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise FieldError(f"the region '{twice}' is named twice; join its parts into one mask, or name it once")
        if not pairs:
            raise FieldError("there is no region; name at least one")
        above = np.zeros(np.shape(pairs[0][1]), np.float32)
        result: dict[str, FloatArray] = {}
        for name, mask in reversed(pairs):
            _check_mask(name, mask)
            if np.shape(mask) != above.shape:
                raise FieldError(f"the region '{name}' is {np.shape(mask)}, others are {above.shape} (height, width)")
            left = np.minimum(mask, 1 - above).astype(np.float32)
            if float(left.max()) <= VISIBLE:
                raise FieldError(
                    f"the region '{name}' is hidden entirely by those named after it; name it later, or leave it out"
                )
            above = above + left
            result[name] = left
        return cls({name: result[name] for name in names})

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """In the order they were given."""
        return tuple(self.masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = next(iter(self.masks.values())).shape
        return int(height), int(width)

    @property
    def covered(self) -> FloatArray:
        """Sum of the masks ``[H, W]``."""
        return np.asarray(sum(self.masks.values()), np.float32)

    @property
    def outside(self) -> FloatArray:
        """What belongs to no region, ``[H, W]``."""
        return np.clip(1 - self.covered, 0, 1)

    def __getitem__(self, name: str) -> FloatArray:
        """The mask of a region.

        Raises:
            UnknownNameError: there is none of that name.
        """
        if name not in self.masks:
            raise UnknownNameError("region", name, self.masks)
        return self.masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.masks)

    def __len__(self) -> int:
        return len(self.masks)

    # -- making --------------------------------------------------------------------------------------------------------

    def feathered(
        self, feather: float, *, mode: str = RegionConfig.feather_mode, guide: FloatArray | None = None
    ) -> Regions:
        """The regions with soft borders; where two meet, one fades into the other and nothing shows between them.

        Args:
            feather: how far the border reaches to both sides, in pixels. Further away masks stay as they are, and 0
                changes nothing.
            mode: ``gaussian`` fades everywhere alike, ``guided`` follows the edges of ``guide``, so that style does not
                leak over them.
            guide: the picture ``[H, W, 3]`` in ``[0, 1]``, for ``guided``.

        Raises:
            UsageError: a feather or mode out of range.
            FieldError: ``guided`` without a guide, or one of another size; a region too small to survive.
        """
        masks = feathered(np.stack(list(self.masks.values()), axis=-1), feather, mode=mode, guide=guide)
        return Regions({name: np.ascontiguousarray(masks[..., i]) for i, name in enumerate(self.masks)})

    def field(self, styles: Mapping[str, tuple[StyleCode, float]]) -> StyleField:
        """The style field: in each region its code with its strength; regions without a style keep the photograph.

        Args:
            styles: code and strength in ``[0, 1]`` by the region's name.

        Raises:
            UnknownNameError: a name that no region has.
            UsageError: a strength out of range.
        """
        layers = []
        for name, (code, strength) in styles.items():
            check_range(f"the strength of the region '{name}'", strength, 0.0, 1.0)
            layers.append(StyleLayer(code, np.asarray(self[name] * np.float32(strength), np.float32)))
        return StyleField(tuple(layers))

    def save(self, folder: str | PathLike[str]) -> dict[str, Path]:
        """Write each mask as an 8-bit grey PNG, white where the region is.

        Returns:
            The files, by the regions' names. Characters that are not fit for a file name become ``_``.

        Raises:
            OutputError: the folder or a file cannot be written, or two names become one file.
        """
        target = Path(folder)
        files: dict[str, Path] = {}
        for name in self.masks:
            path = target / f"{_file_name(name)}.png"
            if path in files.values():
                raise OutputError(f"two regions would both become '{path}'; name them differently")
            files[name] = path
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, path in files.items():
                Image.fromarray(np.round(self.masks[name] * 255).astype(np.uint8)).save(path)
        except OSError as error:
            raise OutputError(f"cannot write the masks to '{target}': {error.strerror or error}") from error
        return files


def feathered(
    masks: FloatArray, feather: float, *, mode: str = RegionConfig.feather_mode, guide: FloatArray | None = None
) -> FloatArray:
    """Masks ``[H, W, K]`` (or one, ``[H, W]``) with soft borders; see :meth:`Regions.feathered`.

    Both filters are linear and keep constants, so masks that sum to 1 around a pixel still do.
    """
    check_choice("feather_mode", mode, FEATHER_MODES)
    check_range("feather", feather, 0.0, 512.0)
    if feather == 0:
        return masks
    if mode == "guided" and guide is None:
        raise FieldError("guided feathering needs the picture as guide; give it, or use gaussian")
    planes = masks[..., None] if masks.ndim == 2 else masks
    reach = max(1, round(feather))
    if mode == "gaussian" or guide is None:
        soft = _gaussian(planes, reach)
    else:
        step = max(1, int(np.ceil(np.sqrt(guide.shape[0] * guide.shape[1] / GUIDED_PIXELS))))
        soft = guided_filter(guide, planes, radius=max(1, reach // 2), epsilon=GUIDED_EPSILON, step=min(step, reach))
    soft = np.clip(limited(soft, planes, reach), 0, 1)  # exactly as drawn further away
    soft /= np.maximum(soft.sum(axis=2, keepdims=True), 1)
    return soft[..., 0] if masks.ndim == 2 else soft


def limited(soft: FloatArray, masks: FloatArray, reach: int) -> FloatArray:
    """``soft`` ``[H, W, K]`` within what ``masks`` have nearby: theirs again further than ``reach`` from a border.

    Args:
        soft: filtered masks.
        masks: ``[H, W, K]``, the same before the filter.
        reach: in pixels, along rows and columns.
    """
    return np.clip(soft, running_minimum(masks, reach), running_maximum(masks, reach))


def _check_mask(name: str, mask: FloatArray) -> None:
    if np.ndim(mask) != 2 or 0 in np.shape(mask):
        raise FieldError(f"the mask of the region '{name}' must be [H, W], not {np.shape(mask)}")
    if not np.isfinite(mask).all() or float(np.min(mask)) < 0 or float(np.max(mask)) > 1 + TOLERANCE:
        raise FieldError(f"the mask of the region '{name}' must hold numbers from 0 to 1")
    if float(np.max(mask)) <= VISIBLE:
        raise FieldError(f"the region '{name}' is empty: its mask is black everywhere")


def _gaussian(planes: FloatArray, reach: int) -> FloatArray:
    """Gaussian blur with a standard deviation of half the reach, cut off at the reach; mirrored at the border."""
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / (reach / 2)) ** 2)
    kernel /= kernel.sum()
    result = np.asarray(planes, np.float32)
    for axis in (0, 1):
        result = _convolved(result, kernel.astype(np.float32), axis)
    return result


def _convolved(planes: FloatArray, kernel: FloatArray, axis: int) -> FloatArray:
    reach = len(kernel) // 2
    padding = [(0, 0)] * planes.ndim
    padding[axis] = (reach, reach)
    padded = np.pad(planes, padding, mode="symmetric")
    length = planes.shape[axis]
    result = np.zeros_like(planes)
    for index, weight in enumerate(kernel):
        window = [slice(None)] * planes.ndim
        window[axis] = slice(index, index + length)
        result += weight * padded[tuple(window)]
    return result


def _file_name(name: str) -> str:
    """A region's name as a file's: letters, digits, ``.``, ``-`` and ``_``, at most 80 of them."""
    kept = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
    return kept.strip("._")[:80] or "region"

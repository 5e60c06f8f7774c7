"""A picture in memory: its pixels, and what its file said beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.types import FloatArray

__all__ = ["Picture", "PictureInfo"]


@dataclass(frozen=True)
class PictureInfo:
    r"""What is known of a picture beside its pixels.

    Attributes:
        format: Pillow's name of the file format (``"JPEG"``, ``"PNG"``, …); ``None`` for arrays.
        depth: 8 or 16, the bits a channel that the pixels were read with (16 for floats too).
        mode: Pillow's mode before conversion (``"RGB"``, ``"P"``, ``"CMYK"``, ``"I;16"``, …), or an array's dtype.
        icc: The original ICC profile. The pixels are sRGB already, so it says only where they came from.
        exif: The EXIF block from its TIFF header on, without the ``Exif\0\0`` prefix; orientation reset to 1.
        xmp: The XMP packet; orientation reset to 1.
        dpi: Horizontal and vertical resolution in dots an inch.
        source: The path, or ``"<bytes>"``, ``"<array>"``, ``"<image>"``: a name for messages.
    """

    format: str | None
    depth: int
    mode: str
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    source: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as every part of impasto sees it.

    Attributes:
        stored: ``[H, W, 3]`` sRGB (gamma-encoded), upright: uint8 where the source had 8 bits, so that a very large
            picture takes a quarter of the memory; else float32 in ``[0, 1]``.
        alpha: ``[H, W]`` float32 opacity in ``[0, 1]``, not premultiplied; ``None`` where the source had none.
        info: What is known beside the pixels.
    """

    stored: NDArray[Any]
    alpha: FloatArray | None
    info: PictureInfo

    @property
    def pixels(self) -> FloatArray:
        """``[H, W, 3]`` float32 sRGB in ``[0, 1]``; made anew from 8-bit pictures."""
        if self.stored.dtype == np.uint8:
            return np.asarray(self.stored.astype(np.float32) / np.float32(255))
        return self.stored

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.stored.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.stored.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

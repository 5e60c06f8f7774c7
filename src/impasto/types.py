"""Names for the arrays and picture sources that cross the public boundary."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FloatArray", "PictureSource"]

FloatArray: TypeAlias = NDArray[np.float32]
"""float32; a picture is ``[H, W, 3]`` sRGB in ``[0, 1]``, a mask or weight map ``[H, W]`` in ``[0, 1]``."""

PictureSource: TypeAlias = "str | PathLike[str] | bytes | Image | NDArray[Any]"
"""A path, a file's bytes, a PIL image, or an array (float in [0, 1] or uint8/uint16, ``[H, W]`` or ``[H, W, C]``)."""

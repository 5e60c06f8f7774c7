"""impasto: image style transfer.

>>> import impasto
>>> impasto.stylize("photo.jpg", "ukiyo-e").save("painting.jpg")  # doctest: +SKIP

Importing the package loads nothing heavy; names are resolved at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impasto.config import StylizeConfig
    from impasto.errors import ImpastoError
    from impasto.field import StyleCode, StyleField, StyleLayer, slerp
    from impasto.image import Picture, read_picture
    from impasto.stylizer import StyleRequest, Stylization, Stylizer, stylize
    from impasto.version import __version__

_HOMES = {
    "ImpastoError": "impasto.errors",
    "Picture": "impasto.image",
    "StyleCode": "impasto.field",
    "StyleField": "impasto.field",
    "StyleLayer": "impasto.field",
    "StyleRequest": "impasto.stylizer",
    "Stylization": "impasto.stylizer",
    "StylizeConfig": "impasto.config",
    "Stylizer": "impasto.stylizer",
    "__version__": "impasto.version",
    "read_picture": "impasto.image",
    "slerp": "impasto.field",
    "stylize": "impasto.stylizer",
}

__all__ = [
    "ImpastoError",
    "Picture",
    "StyleCode",
    "StyleField",
    "StyleLayer",
    "StyleRequest",
    "Stylization",
    "StylizeConfig",
    "Stylizer",
    "__version__",
    "read_picture",
    "slerp",
    "stylize",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'impasto' has no attribute '{name}'")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

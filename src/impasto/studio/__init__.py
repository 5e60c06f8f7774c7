"""The studio: one page that paints photographs by looking, served beside the HTTP interface.

The page is plain files that travel in the wheel. Their TypeScript source is ``studio-ui/`` in the repository;
``npm run build`` there writes them anew. This module only says where they are, so that the server needs no more than a
folder.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["static_folder"]


def static_folder() -> Path:
    """The folder with ``index.html`` and everything it loads; all of it comes from the same host."""
    return Path(__file__).parent / "static"

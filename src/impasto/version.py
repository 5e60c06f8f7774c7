"""The version, from the installed package's metadata."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("impasto")
except PackageNotFoundError:  # run from a source folder
    __version__ = "0+source"

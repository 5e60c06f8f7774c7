"""Perceptual encoders by name: the embedded ``lens``, or the field's backbones from files that people have.

One interface for all of them (:class:`~impasto.nets.teachers.Teacher`): named layers with strides and channels,
pictures in ``[0, 1]``, preprocessing inside.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from impasto.errors import MissingExtraError, UnknownNameError, UsageError, WeightsError
from impasto.nets.lens import Lens, LensConfig
from impasto.nets.mobile import build_mobile
from impasto.nets.teachers import TEACHERS, Teacher, build_teacher
from impasto.weights import load_card, weights_folder
from impasto.weights.files import read_tensors

__all__ = ["build_lens", "encoder_sha256", "load_encoder"]

EMBEDDED = "lens"
_HUB = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})/(?P<file>[\w./-]+)")


def load_encoder(name: str | Path = EMBEDDED, *, sha256: str | None = None) -> Teacher:
    """A frozen perceptual encoder.

    Args:
        name: ``lens`` for the embedded one; a file with torchvision's VGG-16, VGG-19 or SqueezeNet 1.0, the AdaIN
            authors' normalised VGG-19, the TensorFlow Inception-v3 stem, or a trained ``lens`` or ``mobile``; or, at a
            pinned revision, ``hub:OWNER/REPOSITORY@COMMIT/FILE`` (40 digits of the commit; ``sha256`` is then
            required).
        sha256: what the file's SHA-256 must be.

    Returns:
        The network: ``encoder(picture, layers)`` gives ``{layer: [B, C, h, w]}``; ``encoder.spec`` has the layers.

    Raises:
        WeightsError: the file is missing or damaged, has another SHA-256, or the layout of no known network.
        UnknownNameError: neither a file nor a known name.
        UsageError: a hub file without a full commit or SHA-256.
        MissingExtraError: a hub file, without ``huggingface_hub``.
    """
    text = str(name)
    if text == EMBEDDED:
        card = load_card(EMBEDDED)
        file = card.file("net")
        return _build(weights_folder() / file.name, file.sha256)
    if text.startswith("hub:"):
        return _build(_from_hub(text, sha256), sha256)
    return _build(_own_file(text), sha256)


def encoder_sha256(name: str | Path = EMBEDDED, *, sha256: str | None = None) -> str:
    """The SHA-256 of the file that :func:`load_encoder` reads with the same arguments: 64 hexadecimal digits.

    Nothing is fetched: where ``sha256`` says what the file must be, that is the answer, and loading checks it. A file
    that did not change is read once.

    Raises:
        WeightsError: the file is missing or cannot be read.
        UnknownNameError: neither a file nor a known name.
        UsageError: a hub file without a full commit or SHA-256.
    """
    text = str(name)
    if text == EMBEDDED:
        return load_card(EMBEDDED).file("net").sha256
    if text.startswith("hub:"):
        return _pinned(text, sha256)[1]
    if sha256 is not None:
        return sha256.lower()
    path = _own_file(text)
    try:
        facts = path.stat()
        return _file_sha256(path.absolute(), facts.st_size, facts.st_mtime_ns)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file '{path}'") from error
    except OSError as error:
        raise WeightsError(f"the weights '{path}' cannot be read: {error.strerror or error}") from error


@functools.lru_cache(maxsize=16)
def _file_sha256(path: Path, size: int, changed: int) -> str:
    """``size`` and the time of the last change tell one state of the file from the next."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_file(text: str) -> Path:
    """The path that a user gave, unless it is rather a name."""
    path = Path(text)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        if text in TEACHERS:
            raise WeightsError(f"the weights of {text} do not come with impasto: name their file instead of '{text}'")
        raise UnknownNameError("encoder", text, [EMBEDDED])
    return path


def _build(path: Path, sha256: str | None) -> Teacher:
    state, texts = read_tensors(path, sha256=sha256)
    try:
        if "mobile" in texts:
            return build_mobile(state, texts)
        return build_lens(state, texts) if "convolutions.relu1_1.weight" in state else build_teacher(state)
    except WeightsError as error:
        raise WeightsError(f"'{path}': {error}") from error


def build_lens(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> Lens:
    """A frozen ``lens`` from its tensors and the texts of the file's header, which state the network's sizes.

    Raises:
        WeightsError: sizes that are missing or do not fit the tensors.
    """
    try:
        sizes = json.loads(texts["config"])
        lens = Lens(LensConfig(tuple(sizes["widths"]), tuple(sizes["depths"])))
        lens.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        raise WeightsError(f"these weights are no lens, or do not fit the sizes in their header: {error}") from error
    lens.freeze()
    return lens


def _pinned(text: str, sha256: str | None) -> tuple[re.Match[str], str]:
    """The parts of a hub file's name, and its SHA-256."""
    match = _HUB.fullmatch(text)
    if match is None or sha256 is None:
        raise UsageError(
            f"'{text}' names no pinned file: write hub:OWNER/REPOSITORY@COMMIT/FILE with all 40 digits of the commit, "
            "and give the file's SHA-256"
        )
    return match, sha256.lower()


def _from_hub(text: str, sha256: str | None) -> Path:
    match, _ = _pinned(text, sha256)
    try:
        from huggingface_hub import hf_hub_download  # type: ignore[import-not-found, unused-ignore]
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("a file from the hub", "hub") from error
    try:
        return Path(hf_hub_download(match["repository"], match["file"], revision=match["revision"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise WeightsError(
            f"'{text}' cannot be had from the hub: {error}; download the file and name its path"
        ) from error

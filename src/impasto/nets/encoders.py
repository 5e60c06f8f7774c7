"""Perceptual encoders by name: the embedded ``lens``, or the field's backbones from files that people have.

One interface for all of them (:class:`~impasto.nets.teachers.Teacher`): named layers with strides and channels,
pictures in ``[0, 1]``, preprocessing inside.
"""

from __future__ import annotations

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

__all__ = ["build_lens", "load_encoder"]

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
    path = Path(name)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        if text in TEACHERS:
            raise WeightsError(f"the weights of {text} do not come with impasto: name their file instead of '{text}'")
        raise UnknownNameError("encoder", text, [EMBEDDED])
    return _build(path, sha256)


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


def _from_hub(text: str, sha256: str | None) -> Path:
    match = _HUB.fullmatch(text)
    if match is None or sha256 is None:
        raise UsageError(
            f"'{text}' names no pinned file: write hub:OWNER/REPOSITORY@COMMIT/FILE with all 40 digits of the commit, "
            "and give the file's SHA-256"
        )
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

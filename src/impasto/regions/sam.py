"""Segment Anything (SAM and SAM 2) through ``transformers``: boxes and clicks to masks.

References: Kirillov et al. (2023), "Segment Anything", ICCV; Ravi et al. (2024), "SAM 2: Segment anything in images and
videos", arXiv:2408.00714. Weights are not part of this project: they come from a local folder, or from the hub at a
commit that the user names.

The picture is encoded once (:class:`SamView`) and can then be asked as often as one likes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import FieldError, MissingExtraError, UsageError, WeightsError
from impasto.types import FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["Sam", "SamView", "load_sam"]

MODELS = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""Classes of transformers by the ``model_type`` of a configuration."""

_HUB = re.compile(r"^(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})$")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for both models
_SHARPNESS = 1.0  # logits to a soft edge by the logistic function


@dataclass(frozen=True, eq=False)
class Sam:
    """A loaded model.

    Attributes:
        model: of the class :data:`MODELS` says, in evaluation mode.
        side: of the square that it looks at, in pixels.
        square: True where pictures are stretched to that square (SAM 2), False where they are fitted in from the upper
            left and the rest is filled (SAM).
    """

    model: Any
    side: int
    square: bool


@functools.lru_cache(maxsize=1)
def load_sam(source: str) -> Sam:
    """Load SAM or SAM 2.

    Args:
        source: a folder with ``config.json`` and ``model.safetensors``, or ``OWNER/NAME@COMMIT`` with the 40 digits of
            a commit on the hub; another kind of revision could change under one's hands.

    Raises:
        UsageError: neither a folder nor a pinned name.
        WeightsError: the folder holds something else, or it cannot be loaded or fetched.
        MissingExtraError: transformers or torch is not installed.
    """
    path = Path(source).expanduser()
    pinned = _HUB.match(source)
    if not path.is_dir() and pinned is None:
        raise UsageError(
            f"'{source}' is neither a folder with SAM's weights nor OWNER/NAME@COMMIT with a commit's 40 digits; "
            "without SAM, boxes and clicks are cut out by GrabCut"
        )
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError("Segment Anything", "sam") from error
    where: dict[str, Any] = {"local_files_only": True} if path.is_dir() else {}
    name = str(path)
    if not path.is_dir() and pinned is not None:
        name, where = pinned["name"], {"revision": pinned["commit"]}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **where)
        if config.model_type not in MODELS:
            raise WeightsError(f"'{source}' holds a model of the type '{config.model_type}', not SAM or SAM 2")
        kind = getattr(transformers, MODELS[config.model_type])
        model = kind.from_pretrained(name, use_safetensors=True, dtype=torch.float32, **where)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"SAM cannot be loaded from '{source}': {' '.join(str(error).split())[:300]}") from error
    return sam_from_model(model.eval(), config.model_type != "sam")


def sam_from_model(model: Any, square: bool) -> Sam:
    """A model that is loaded already."""
    vision = model.config.vision_config
    side = vision.image_size if not square else model.config.prompt_encoder_config.image_size
    return Sam(model, int(side), square)


class SamView:
    """A picture as SAM sees it.

    Args:
        sam: the model.
        pixels: ``[H, W, 3]`` uint8.
    """

    def __init__(self, sam: Sam, pixels: NDArray[np.uint8]) -> None:
        import torch

        self._sam = sam
        self._size = pixels.shape[0], pixels.shape[1]
        self._fitted = (sam.side, sam.side) if sam.square else _fitted(self._size, sam.side)
        with torch.inference_mode():
            self._seen = sam.model.get_image_embeddings(_batch(pixels, self._fitted, sam.side))

    def cut(
        self,
        *,
        box: tuple[float, float, float, float] | None = None,
        inside: Sequence[tuple[float, float]] = (),
        outside: Sequence[tuple[float, float]] = (),
        about: str = "",
    ) -> FloatArray:
        """What a box or clicks point to: of the model's proposals the one that it thinks most of.

        Args:
            box: left, top, right, bottom in pixels of the picture.
            inside: clicks ``(x, y)`` on the object.
            outside: clicks on what does not belong to it.
            about: the region's name, for errors.

        Returns:
            ``[H, W]`` in ``[0, 1]``; 0.5 is the model's border.

        Raises:
            FieldError: neither box nor click, or an empty answer.
        """
        import torch

        if box is None and not inside:
            raise FieldError(f"the region '{about}' needs a box or a click on the object")
        asked: dict[str, Any] = {}
        if box is not None:
            asked["input_boxes"] = torch.tensor([[[*self._scaled(box[:2]), *self._scaled(box[2:])]]])  # [1, 1, 4]
        if inside:
            points = [self._scaled(point) for point in (*inside, *outside)]
            asked["input_points"] = torch.tensor([[points]])  # [1, 1, N, 2]
            asked["input_labels"] = torch.tensor([[[1] * len(inside) + [0] * len(outside)]])  # [1, 1, N]
        with torch.inference_mode():
            answer = self._sam.model(image_embeddings=self._seen, multimask_output=True, **asked)
        best = int(answer.iou_scores[0, 0].argmax())
        logits = answer.pred_masks[0, 0, best].float()  # [side / 4, side / 4]
        mask = self._enlarged(logits)
        if float(mask.max()) < 0.5:
            raise FieldError(f"nothing was found in the region '{about}'; move the box or add a click")
        return mask

    def _scaled(self, point: tuple[float, ...]) -> tuple[float, float]:
        return point[0] * self._fitted[1] / self._size[1], point[1] * self._fitted[0] / self._size[0]

    def _enlarged(self, logits: torch.Tensor) -> FloatArray:
        """Logits at the picture's size, as shares: first to the square, of which the filled part is cut off."""
        import torch.nn.functional as functional

        side = self._sam.side
        square = functional.interpolate(logits[None, None], (side, side), mode="bilinear", align_corners=False)
        seen = square[..., : self._fitted[0], : self._fitted[1]]
        full = functional.interpolate(seen, self._size, mode="bilinear", align_corners=False)
        return np.asarray((_SHARPNESS * full[0, 0]).sigmoid().numpy(), np.float32)


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _batch(pixels: NDArray[np.uint8], fitted: tuple[int, int], side: int) -> torch.Tensor:
    """The picture as both models were trained to see it: ``[1, 3, side, side]``, normalised, filled with 0."""
    import torch

    small = np.asarray(Image.fromarray(pixels).resize((fitted[1], fitted[0]), Image.Resampling.BILINEAR), np.float32)
    values = (small / 255 - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    square = np.zeros((side, side, 3), np.float32)
    square[: fitted[0], : fitted[1]] = values
    return torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)[None]))

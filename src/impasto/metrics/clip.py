"""CLIP similarity, with weights that lie in a folder (Radford et al. 2021, arXiv:2103.00020).

The cosine of two embeddings: of a result and its style picture, of a result and its content, or of a result and a text.
CLIP knows what is shown better than how it is painted; read it beside the style distances, not instead of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import MissingExtraError, WeightsError
from impasto.types import FloatArray

if TYPE_CHECKING:
    from transformers import CLIPModel

__all__ = ["ClipEncoder", "clip_similarity", "load_clip"]


def clip_similarity(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Cosine of two embeddings ``[D]``, from -1 to 1; 1 for equal pictures. Symmetric."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.dot(first, second)) / size if size > 0 else 0.0


class ClipEncoder:
    """A CLIP model with its own preprocessing. Made by :func:`load_clip`."""

    def __init__(self, model: CLIPModel, processor: Any, tokenizer: Any) -> None:
        self._model, self._processor, self._tokenizer = model, processor, tokenizer

    def picture(self, pixels: FloatArray) -> NDArray[np.float64]:
        """Embedding ``[D]`` of unit length of a picture ``[H, W, 3]`` in ``[0, 1]``."""
        import torch
        from PIL import Image

        eight_bit = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
        inputs = self._processor(images=Image.fromarray(eight_bit), return_tensors="pt")
        with torch.inference_mode():
            vision = self._model.vision_model(pixel_values=inputs["pixel_values"])
            embedding = self._model.visual_projection(vision.pooler_output)
        return _unit(embedding[0].double().cpu().numpy())

    def text(self, text: str) -> NDArray[np.float64]:
        """Embedding ``[D]`` of unit length of a text, such as ``a woodcut``.

        Raises:
            WeightsError: the folder has no tokenizer.
        """
        import torch

        if self._tokenizer is None:
            raise WeightsError("this folder of CLIP weights has no tokenizer, which texts need")
        inputs = self._tokenizer([text], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            words = self._model.text_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            embedding = self._model.text_projection(words.pooler_output)
        return _unit(embedding[0].double().cpu().numpy())


def load_clip(folder: Path) -> ClipEncoder:
    """A CLIP model from a folder as ``transformers`` saves it; nothing is downloaded.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and, if there is one, ``preprocessor_config.json``.

    Raises:
        WeightsError: no such folder, or no CLIP model in it.
        MissingExtraError: ``transformers`` is not installed.
    """
    try:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
    except ImportError as error:
        raise MissingExtraError("CLIP similarity", "metrics") from error
    if not (folder / "config.json").is_file():
        raise WeightsError(f"'{folder}' is no folder with a CLIP model: it has no config.json")
    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        model.train(False)
        has_own = (folder / "preprocessor_config.json").is_file()
        processor = (
            CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True) if has_own else CLIPImageProcessorPil()
        )
        has_words = any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json"))
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True) if has_words else None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"the CLIP model in '{folder}' cannot be loaded: {error}") from error
    return ClipEncoder(model, processor, tokenizer)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))

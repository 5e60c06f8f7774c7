"""The field of ``brush`` rendered by PyTorch in float64, written from the definition and not from the engine.

Reflection is done by index arithmetic, block means by pooling, and nothing is quantised; only the resampling of the
picture for its own code is shared with the engine, because Lanczos filters differ between libraries.
"""

import numpy as np
import torch
from torch.nn import functional

MARGIN, MULTIPLE, SIDE, GATE, LIMIT = 48, 8, 288, 0.2, 4


def reflected(length, low, high):
    """Indices from ``-low`` to ``length + high - 1``, reflected at the edges: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ..."""
    index = torch.arange(-low, length + high) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def padded(planes):
    """``[..., H, W]`` with a margin on every side, up to the next multiple."""
    height, width = planes.shape[-2:]
    rows = reflected(height, MARGIN, MARGIN + -(height + 2 * MARGIN) % MULTIPLE)
    columns = reflected(width, MARGIN, MARGIN + -(width + 2 * MARGIN) % MULTIPLE)
    return planes[..., rows, :][..., columns]


def own_code(model, content, resize):
    """The code of the content itself, ``[D]``; ``content`` is ``[H, W, 3]`` float32."""
    height, width = content.shape[:2]
    factor = SIDE / min(height, width)
    size = tuple(max(16, round(min(LIMIT * SIDE, side * factor))) for side in (height, width))
    seen = np.clip(resize(content, size), 0, 1)
    return model.encoder(torch.from_numpy(seen).double().permute(2, 0, 1)[None])[0]


@torch.no_grad()
def paint(model, content, vectors, maps, resize):
    """Content ``[H, W, 3]``, codes ``[K, D]``, weights ``[K, H, W]`` to the painting ``[H, W, 3]``, float64.

    ``model`` is a BrushModel in float64.
    """
    height, width = content.shape[:2]
    picture = torch.from_numpy(content).double().permute(2, 0, 1)  # [3, H, W]
    weights = torch.from_numpy(np.asarray(maps)).double()  # [K, H, W]
    total = weights.sum(0)
    weights = torch.cat([weights, (1 - total).clamp(min=0)[None]])  # the rest is the content's own
    codes = torch.cat([torch.from_numpy(np.asarray(vectors)).double(), own_code(model, content, resize)[None]])
    wide = padded(weights)[None]
    painted, _ = model.net(
        padded(picture)[None], codes[None], functional.avg_pool2d(wide, 4), functional.avg_pool2d(wide, 8)
    )
    painted = painted[0, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width].clamp(0, 1)
    gate = (total / GATE).clamp(max=1)
    return (picture + gate * (painted - picture)).permute(1, 2, 0).numpy()

"""The engine ``local`` in PyTorch, straight from the network: what the ONNX engine must equal."""

import numpy as np
import torch

from impasto.engines.local import MARGIN, _grid, _without_edge
from impasto.engines.tiles import gated
from impasto.nets.local import LAYERS, content_statistics
from impasto.ops.tiling import pad_to_multiple


def batch(picture):
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))


def cut(maps, grid):
    """Features at 1/2, 1/4 and 1/8 within a rectangle of the last grid."""
    found = {}
    for name, factor in zip(LAYERS, (4, 2, 1), strict=True):
        rows, columns = (slice(part.start * factor, part.stop * factor) for part in grid)
        found[name] = maps[name][:, :, rows, columns]
    return found


@torch.no_grad()
def paint(encoder, net, content, styles, weights):
    """``content`` ``[H, W, 3]`` in style pictures ``[h, w, 3]`` with weights, each a number or a map ``[H, W]``."""
    padded, inside = pad_to_multiple(content, MARGIN, 8)
    maps = encoder(batch(padded), LAYERS)
    inner = cut(maps, _grid(inside))
    tokens, shares, statistics = [], [], []
    for style, weight in zip(styles, weights, strict=True):
        seen, part = pad_to_multiple(style, MARGIN, 8)
        tokens.append(net.tokens(cut(encoder(batch(seen), LAYERS), _without_edge(_grid(part)))))
        if np.ndim(weight) == 0:
            shares.append(torch.full((1, 1, 1, 1), float(weight)))
            statistics.append(content_statistics(inner))
            continue
        around, _ = pad_to_multiple(np.asarray(weight, np.float32)[..., None], MARGIN, 8)
        share = batch(around)
        rows, columns = (slice(8 * one.start, 8 * one.stop) for one in _grid(inside))
        shares.append(share)
        statistics.append(content_statistics(inner, share[:, :, rows, columns]))
    painted = net.decoder(*net.blended(maps, tokens, shares, statistics))
    result = np.clip(painted[0].permute(1, 2, 0).numpy()[inside], 0, 1)
    return gated(content, result, np.asarray(sum(np.asarray(weight, np.float32) for weight in weights), np.float32))

"""Attention of a picture's places to style tokens, with a style field inside it.

Cross-attention as in Rombach et al. 2022 (arXiv:2112.10752, eq. 6 and below): tokens ``T_k`` of style ``k`` are
projected to keys and values, places ask with queries ``Q``,

    A_k = softmax(Q K_k' / sqrt(d)) V_k,        K_k = T_k W_K,  V_k = T_k W_V

and a field of shares ``w_k(place)`` adds up what they answer, the content's own tokens taking what is left to 1:

    A = sum_k w_k A_k + (1 - sum_k w_k) A_content

This is one softmax over all tokens in which each style's attention has exactly its weight (see
:mod:`impasto.nets.local`, where the same is derived); a share of 0 leaves nothing of a style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.losses.guidance import area_weight
from impasto.nets.prior import Colours

__all__ = ["ChannelNorm", "StyleCodes", "StyleShare", "StyledAttention", "complete", "shared"]


@dataclass(frozen=True, eq=False)
class StyleCodes:
    """What the diffusion network keeps of a style.

    Attributes:
        tokens: of its places at several scales, ``[B, N, D]``.
        vector: of its channel statistics, ``[B, V]``.
        colours: of the style; the network does not see them, the guess that it starts from does.
    """

    tokens: Tensor
    vector: Tensor
    colours: Colours | None = None


@dataclass(frozen=True, eq=False)
class StyleShare:
    """A style and how much of it each place takes.

    Attributes:
        codes: of the style.
        weight: ``[B or 1, 1, H, W]`` at any size, or ``[1, 1, 1, 1]``; not negative.
    """

    codes: StyleCodes
    weight: Tensor


def complete(shares: Sequence[StyleShare], own: StyleCodes) -> list[StyleShare]:
    """The shares, and the content's own codes with what is left to 1; what weighs nothing is left out."""
    used = [share for share in shares if float(share.weight.max()) > 0]
    if not used:
        return [StyleShare(own, own.tokens.new_ones(1, 1, 1, 1))]
    rest = torch.ones_like(used[0].weight)
    for share in used:
        rest = rest - share.weight
    rest = rest.clamp_min(0)
    return [*used, StyleShare(own, rest)] if float(rest.max()) > 1e-6 else used


def shared(shares: Sequence[StyleShare], parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """``sum_k w_k part_k``, for parts ``[B, C, h, w]`` or ``[B, C, 1, 1]`` on a grid of ``size`` (height, width)."""
    if len(shares) == 1 and shares[0].weight.numel() == 1 and float(shares[0].weight) == 1:
        return parts[0]
    found: Tensor | None = None
    for share, part in zip(shares, parts, strict=True):
        weight = share.weight if share.weight.shape[2:] == (1, 1) else area_weight(share.weight, size)
        found = weight * part if found is None else found + weight * part
    assert found is not None  # a field is never empty: the content's own codes are part of it
    return found


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each place: ``[B, C, H, W]``; tiles see what the whole sees."""

    def __init__(self, width: int, *, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5, elementwise_affine=affine)

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        found: Tensor = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return found


class StyledAttention(nn.Module):
    """Multi-head attention from places to the tokens of a style field, with a residual; it starts as the identity.

    Args:
        width: channels of the places.
        tokens: length of a token.
        heads: how many; divides ``width``.
    """

    def __init__(self, width: int, tokens: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(width)
        self.query = nn.Conv2d(width, width, 1, bias=False)
        self.key = nn.Linear(tokens, width, bias=False)
        self.value = nn.Linear(tokens, width)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, shares: Sequence[StyleShare]) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        size = (features.shape[2], features.shape[3])
        queries = self._split(self.query(self.norm(features)).flatten(2).transpose(1, 2))  # [B, heads, H W, d]
        answers = [self.answer(queries, share.codes.tokens, size) for share in shares]
        found: Tensor = features + self.out(shared(shares, answers, size))
        return found

    def answer(self, queries: Tensor, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """``A_k`` on the grid of the places, ``[B, C, H, W]``."""
        keys, values = self._split(self.key(tokens)), self._split(self.value(tokens))
        keys, values = (part.expand(len(queries), -1, -1, -1) for part in (keys, values))
        found = functional.scaled_dot_product_attention(queries, keys, values)
        return found.transpose(2, 3).reshape(len(queries), -1, *size)

    def _split(self, rows: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, heads, N, C / heads]``."""
        return rows.reshape(rows.shape[0], rows.shape[1], self.heads, -1).transpose(1, 2)

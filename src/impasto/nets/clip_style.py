"""CLIP in the place of a style picture: an embedding, of a picture or of a text, becomes style codes.

CLIP (Radford et al. 2021, arXiv:2103.00020) puts pictures and texts into one space, so an adapter that was fitted on
pictures reads texts too, as IP-Adapter (Ye et al. 2023, arXiv:2308.06721) does the other way round. Here it is linear
and fitted in closed form (ridge regression): with embeddings ``e`` of unit length and codes ``c`` of the same pictures,
colours included, about their means,

    W = C' E (E' E + n r I)^-1,        codes(e) = c_mean + W (e - e_mean)

Differs from IP-Adapter: nothing is trained by gradients; a code has few tokens: those of the whole and of 4x4 cells.
Texts lie apart from pictures in CLIP's space (Liang et al. 2022, arXiv:2203.02053); give ``center`` the mean embedding
of some texts to read them about their own mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from impasto.errors import UsageError
from impasto.nets.hints import CELLS
from impasto.nets.prior import Colours
from impasto.nets.styled_attention import StyleCodes

__all__ = ["ClipStyle", "fit_clip_style"]

KEPT = CELLS[0] ** 2 + CELLS[1] ** 2  # tokens
COLOURS = 12  # mean, and root of the covariance


class ClipStyle(nn.Module):
    """Embeddings ``[B, D]`` to style codes with 17 tokens.

    Args:
        embedding: length of an embedding.
        tokens: length of a token and of the vector.
    """

    mean: Tensor

    def __init__(self, embedding: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.register_buffer("mean", torch.zeros(embedding))
        self.linear = nn.Linear(embedding, (KEPT + 1) * tokens + COLOURS)

    def forward(self, embedding: Tensor, center: Tensor | None = None) -> StyleCodes:
        """Codes of embeddings ``[B, D]``, which are scaled to unit length first.

        Args:
            embedding: of pictures or texts.
            center: mean of unit embeddings of their kind, ``[D]``; by default that of the pictures of the fit.

        Raises:
            UsageError: embeddings of another length.
        """
        if embedding.ndim != 2 or embedding.shape[1] != self.linear.in_features:
            raise UsageError(
                f"this adapter reads embeddings [B, {self.linear.in_features}], not {list(embedding.shape)}"
            )
        unit = nn.functional.normalize(embedding, dim=1)
        found = self.linear(unit - (self.mean if center is None else center))
        rows = found[:, :-COLOURS].reshape(len(found), KEPT + 1, self.tokens)
        colours = found[:, -COLOURS:].reshape(len(found), 4, 3)
        return StyleCodes(rows[:, 1:], rows[:, 0], Colours(colours[:, 0], colours[:, 1:]))


@torch.no_grad()
def fit_clip_style(embeddings: Tensor, codes: StyleCodes, *, ridge: float = 1e-3) -> ClipStyle:
    """The adapter that maps embeddings of pictures to the codes of the same pictures best.

    Args:
        embeddings: ``[N, D]``.
        codes: of all N pictures; of their tokens the coarse 17 are used.
        ridge: ``r``, against overfitting.

    Raises:
        UsageError: not as many codes as embeddings, or fewer than two.
    """
    count = len(embeddings)
    if count < 2 or len(codes.tokens) != count or codes.tokens.shape[1] < KEPT or codes.colours is None:
        raise UsageError(
            f"a fit needs two pictures or more, with codes and colours of each, not {count} and {len(codes.tokens)}"
        )
    unit = nn.functional.normalize(embeddings.double(), dim=1)
    colours = torch.cat([codes.colours.mean[:, None], codes.colours.root], dim=1).flatten(1)
    rows = torch.cat([codes.vector[:, None], codes.tokens[:, :KEPT]], dim=1).flatten(1)
    goals = torch.cat([rows, colours], dim=1).double()  # [N, 18 D + 12]
    mean, center = unit.mean(0), goals.mean(0)
    rows = unit - mean
    system = rows.T @ rows + count * ridge * torch.eye(rows.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(system, rows.T @ (goals - center)).T  # [18 D + 12, E]
    adapter = ClipStyle(rows.shape[1], codes.vector.shape[1])
    adapter.mean.copy_(mean)
    adapter.linear.weight.copy_(weight)
    adapter.linear.bias.copy_(center)
    return adapter

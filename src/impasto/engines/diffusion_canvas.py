"""A picture of any size for networks that look a bounded way: hints, latents and answers, tile by tile.

Every network of ``diffusion`` sees only so far, and what they share over the picture (statistics, noise, style tokens)
is computed once. A tile with its surroundings is therefore computed exactly like the same place of the whole: tiles
are a matter of memory, they have no seams that would have to be blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from impasto.field import StyleCode
from impasto.nets.autoencoder import FACTOR, Autoencoder
from impasto.nets.diffusion import REACH, EncodedHints, StyleDiffusion
from impasto.nets.hints import STYLE_LAYERS, ContentHints, HintStatistics, content_hints
from impasto.nets.prior import Colours, coarse, recoloured
from impasto.nets.styled_attention import StyleCodes, StyleShare
from impasto.nets.teachers import Teacher
from impasto.ops.tiling import Tile, plan_tiles

__all__ = ["MARGIN", "MULTIPLE", "Canvas", "Networks", "codes_of"]

MULTIPLE = 2 * FACTOR
"""Sides of what the networks see are multiples of this: two levels below the latents."""
MARGIN = 32
"""Reflected pixels around the picture, cut away again."""
PIXEL_HALO = 80  # encoder, lens and hints look 60 pixels far
DECODER_HALO = 12  # latents; the decoder looks 9 far
PREVIEW = 48  # latents along the longer side of a preview


@dataclass(frozen=True, eq=False)
class Networks:
    """What a rendering needs, on one device.

    Attributes:
        net: the denoiser.
        autoencoder: its latent space.
        encoder: the frozen perceptual encoder.
    """

    net: StyleDiffusion
    autoencoder: Autoencoder
    encoder: Teacher


class Canvas:
    """A padded picture ``[1, 3, H, W]`` in ``[0, 1]``, both sides multiples of 16.

    Args:
        networks: see :class:`Networks`.
        picture: the picture.
        tile: largest side of a tile's core, in pixels; a multiple of 16.
    """

    def __init__(self, networks: Networks, picture: Tensor, tile: int) -> None:
        self.networks = networks
        self.picture = picture
        self.tile = tile
        self.grid = (picture.shape[2] // FACTOR, picture.shape[3] // FACTOR)

    def latents(self) -> Tensor:
        """The picture in latents, ``[1, C, h, w]``."""
        channels = self.networks.autoencoder.config.channels
        found = self.picture.new_empty(1, channels, *self.grid)
        for part in self._pixel_tiles():
            rows, columns = part.outer
            latents = self.networks.autoencoder.encode(self.picture[:, :, rows, columns])
            found[(..., *_coarser(part.core, FACTOR))] = latents[(..., *_coarser(part.inner, FACTOR))]
        return found

    def hints(self, statistics: HintStatistics, light: float = 1.0) -> EncodedHints:
        """Encoded hints of the whole.

        Args:
            statistics: by which the picture is normalised.
            light: factor on luminance and edges.
        """
        fine: Tensor | None = None
        coarse: Tensor | None = None
        for part in self._pixel_tiles():
            rows, columns = part.outer
            picture = self.picture[:, :, rows, columns]
            raw = content_hints(self.networks.encoder(picture, STYLE_LAYERS), picture, statistics)
            found = self.networks.net.hints(ContentHints(raw.deep, raw.middle, light * raw.light))
            if fine is None or coarse is None:
                fine = self.picture.new_empty(1, found.fine.shape[1], *self.grid)
                coarse = self.picture.new_empty(1, found.coarse.shape[1], *(side // 2 for side in self.grid))
            fine[(..., *_coarser(part.core, FACTOR))] = found.fine[(..., *_coarser(part.inner, FACTOR))]
            coarse[(..., *_coarser(part.core, MULTIPLE))] = found.coarse[(..., *_coarser(part.inner, MULTIPLE))]
        assert fine is not None and coarse is not None  # a picture has at least one tile
        return EncodedHints(fine, coarse)

    def guess(self, shares: Sequence[StyleShare], own: Colours) -> Tensor:
        """The coarse picture in the styles' colours, in latents ``[1, C, h, w]``.

        Args:
            shares: styles with all of the weight that there is; one without colours keeps the picture's.
            own: colours of the whole picture.
        """
        found = self.picture.new_empty(1, self.networks.autoencoder.config.channels, *self.grid)
        for part in self._pixel_tiles():
            rows, columns = part.outer
            picture, place = coarse(self.picture[:, :, rows, columns]), _coarser(part.outer, FACTOR)
            mixed = torch.zeros_like(picture)
            for share in shares:
                colours = share.codes.colours
                painted = picture if colours is None else recoloured(picture, own, colours)
                weight = _cut(share, place).weight
                if weight.shape[2:] != (1, 1):
                    weight = functional.interpolate(weight, size=picture.shape[2:], mode="bilinear")
                mixed += weight * painted
            latents = self.networks.autoencoder.encode(mixed)
            found[(..., *_coarser(part.core, FACTOR))] = latents[(..., *_coarser(part.inner, FACTOR))]
        return found

    def denoise(
        self, noisy: Tensor, t: int, guess: Tensor, hints: EncodedHints, shares: Sequence[StyleShare]
    ) -> Tensor:
        """``v`` of the whole, for latents ``[1, C, h, w]``."""
        found = torch.empty_like(noisy)
        step = torch.full((1,), t, device=noisy.device)
        for part in plan_tiles(*self.grid, tile=self.tile // FACTOR, halo=REACH, multiple=2):
            outer, half = part.outer, _coarser(part.outer, 2)
            local = EncodedHints(hints.fine[(..., *outer)], hints.coarse[(..., *half)])
            cut = [_cut(share, outer) for share in shares]
            answer = self.networks.net.denoise(noisy[(..., *outer)], step, guess[(..., *outer)], local, cut)
            found[(..., *part.core)] = answer[(..., *part.inner)]
        return found

    def decode(self, latents: Tensor, sink: Callable[[tuple[slice, slice], Tensor], None]) -> None:
        """Hand over the decoded picture, tile by tile: where it lies, and its pixels ``[3, h, w]``."""
        for part in plan_tiles(*self.grid, tile=self.tile // FACTOR, halo=DECODER_HALO, multiple=2):
            decoded = self.networks.autoencoder.decode(latents[(..., *part.outer)])
            sink(_finer(part.core), decoded[(0, slice(None), *_finer(part.inner))])

    def preview(self, latents: Tensor) -> Tensor:
        """A small picture ``[3, h, w]`` of latents ``[1, C, h, w]``."""
        step = max(1, -(-max(self.grid) // PREVIEW))
        small = functional.avg_pool2d(latents, step, ceil_mode=True) if step > 1 else latents
        decoded: Tensor = self.networks.autoencoder.decode(small)
        return decoded[0].clamp(0, 1)

    def _pixel_tiles(self) -> Iterator[Tile]:
        height, width = self.picture.shape[2:]
        return plan_tiles(height, width, tile=self.tile, halo=PIXEL_HALO, multiple=MULTIPLE)


def _cut(share: StyleShare, place: tuple[slice, slice]) -> StyleShare:
    if share.weight.shape[2:] == (1, 1):
        return share
    return StyleShare(share.codes, share.weight[(..., *place)])


def _coarser(place: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    rows, columns = (slice(part.start // factor, part.stop // factor) for part in place)
    return rows, columns


def _finer(place: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(part.start * FACTOR, part.stop * FACTOR) for part in place)
    return rows, columns


def codes_of(code: StyleCode, device: torch.device) -> StyleCodes:
    """What the network keeps of a style, from what its file keeps."""
    tokens, vector, colours = (
        torch.from_numpy(np.array(part, np.float32))[None].to(device)
        for part in (code.parts["tokens"], code.vector, code.parts["colours"])
    )
    return StyleCodes(tokens, vector, Colours(colours[:, 0], colours[:, 1:]))

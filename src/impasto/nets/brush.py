"""The network behind the ``brush`` engine: arbitrary style in one feed-forward pass.

Two parts:

* :class:`StyleEncoder` turns a picture into a **style code**, a vector of :attr:`BrushConfig.code` numbers of
  fixed length (root mean square 1), so that codes can be averaged and slerped.
* :class:`BrushNet` repaints a photograph. Every convolution is followed by an instance normalisation whose gain and
  bias are linear in the style code (conditional instance normalisation, Dumoulin et al. 2017, arXiv:1610.07629;
  driven by an encoder as in Ghiasi et al. 2017, arXiv:1705.06830). Because they are linear, a *field* of ``K`` codes
  with ``K`` weight maps modulates the features in place: each position gets the weighted sum of the codes' gains.

A code may end with **reserved** numbers, one for each preset. The encoder leaves them 0; a preset sets its own, and so
has gains and biases of its own on top of those that the encoder asks for, as each style of Dumoulin et al. has.

Shape of the computation: pixel-unshuffle by 4, one convolution at 1/4, residual blocks at 1/8, a sub-pixel step back
to 1/4 with a modulated skip, residual blocks there, pixel-shuffle by 4. No layer works at full resolution.

The normalisation statistics are explicit: :meth:`BrushNet.forward` returns those it used and accepts others, so that a
tile of a very large picture is normalised by the whole picture (measure once, render tiles).

Differs from the papers: gains and biases come from one linear map of the code, without a pretrained classifier
as the style network; the content's own code stands for "no style", which makes strength a weight of the field.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = [
    "MARGIN",
    "RESERVED_VALUE",
    "BrushConfig",
    "BrushModel",
    "BrushNet",
    "StyleEncoder",
    "level",
    "spread_codes",
    "widened",
]

EPSILON = 1e-5
MARGIN = 32
"""Reflected pixels around a picture, so that the zero padding of convolutions stays out of sight; a multiple of 8."""

RESERVED_VALUE = 4.0
"""What a preset sets its reserved number to: its own gains move four times as far in a step as by a weight of 1."""


@dataclass(frozen=True)
class BrushConfig:
    """Sizes of the network.

    Attributes:
        code: numbers that the encoder gives.
        reserved: numbers behind them, one for each preset; see the module's text.
        scale: by what the encoder's numbers are multiplied before the map to gains and biases. Adam moves a gain by the
            sum of all their sizes in a step: with codes that are spread (:func:`spread_codes`) 0.1 is about right.
        quarter: channels at 1/4 resolution.
        eighth: channels at 1/8 resolution.
        blocks_eighth: residual blocks at 1/8 resolution.
        blocks_quarter: residual blocks at 1/4 resolution, after the sub-pixel step.
        encoder: channels of the four stages of the style encoder.
    """

    code: int = 256
    reserved: int = 0
    scale: float = 1.0
    quarter: int = 48
    eighth: int = 128
    blocks_eighth: int = 3
    blocks_quarter: int = 1
    encoder: tuple[int, int, int, int] = (32, 64, 128, 192)

    @property
    def length(self) -> int:
        """Of a style code."""
        return self.code + self.reserved


class StyleEncoder(nn.Module):
    """A picture ``[B, 3, H, W]`` in ``[0, 1]`` to style codes ``[B, length]``: root mean square 1, then reserved zeros.

    Means and standard deviations of every stage are pooled over the picture, so any size (16 px and more) works and
    the code holds statistics, not places. There is no normalisation inside: it would remove what is to be measured.
    """

    def __init__(self, config: BrushConfig) -> None:
        super().__init__()
        self.reserved = config.reserved
        first, second, third, fourth = config.encoder
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, first, 5, stride=2, padding=2), nn.ReLU()),
                nn.Sequential(
                    nn.Conv2d(first, second, 3, stride=2, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(second, second, 3, padding=1),
                    nn.ReLU(),
                ),
                nn.Sequential(
                    nn.Conv2d(second, third, 3, stride=2, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(third, third, 3, padding=1),
                    nn.ReLU(),
                ),
                nn.Sequential(nn.Conv2d(third, fourth, 3, stride=2, padding=1), nn.ReLU()),
            ]
        )
        pooled = 2 * (3 + first + second + third + fourth)
        self.head = nn.Sequential(nn.Linear(pooled, 512), nn.SiLU(), nn.Linear(512, config.code))

    def forward(self, picture: Tensor) -> Tensor:
        """Style codes ``[B, length]`` of pictures ``[B, 3, H, W]``."""
        code = self.raw(picture)
        code = code * torch.rsqrt(code.square().mean(1, keepdim=True) + 1e-8)
        return functional.pad(code, (0, self.reserved)) if self.reserved else code

    def raw(self, picture: Tensor) -> Tensor:
        """Codes before they are scaled, ``[B, code]``."""
        features = picture * 2 - 1
        pooled = [*moments(features)]
        for stage in self.stages:
            features = stage(features)
            pooled += moments(features)
        code: Tensor = self.head(torch.cat([p.flatten(1) for p in pooled], dim=1))
        return code


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the picture, each ``[B, C, 1, 1]``."""
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().mean((2, 3), keepdim=True)
    return mean, torch.sqrt(variance + EPSILON)


class Modulation:
    """What one forward pass knows about its normalisations: the field's gains and biases, and the statistics.

    Layers take their slices in order, so the flat vectors ``[.., S]`` (``S`` = all normalised channels) need no names.
    """

    def __init__(
        self, affine: Tensor, weights: dict[int, Tensor], statistics: Tensor | None, given: Tensor | None
    ) -> None:
        self.affine = affine  # [B, 2S, K]
        self.weights = weights  # {scale: [B, K, h, w]}
        self.statistics = statistics
        self.given = given
        self.used: list[Tensor] = []
        self.position = 0

    def __call__(self, features: Tensor, scale: int) -> Tensor:
        """Instance normalisation with the field's gain and bias at 1/``scale`` resolution."""
        begin, end = self.position, self.position + features.shape[1]
        self.position = end
        if features.requires_grad and self.statistics is None and self.weights[scale].shape[2:] == (1, 1):
            half = self.affine.shape[1] // 2
            gain, bias = (self._over_field(at + begin, at + end, scale) for at in (0, half))
            modulated, statistics = _Normalised.apply(features, gain, bias)  # type: ignore[no-untyped-call]
            self.used.append(statistics)
            return typing.cast("Tensor", modulated)
        mean = features.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        variance = (features - mean).square().mean((2, 3), keepdim=True)
        if self.statistics is not None and self.given is not None:
            known = self.statistics[:, :, begin:end, None, None]
            mean = mean + self.given * (known[:, 0] - mean)
            variance = variance + self.given * (known[:, 1] - variance)
        self.used.append(torch.cat([mean, variance], dim=2).squeeze(3))  # [B, C, 2]
        half = self.affine.shape[1] // 2
        gain = self._over_field(begin, end, scale) * torch.rsqrt(variance + EPSILON)
        bias = self._over_field(half + begin, half + end, scale)
        return features * gain + (bias - mean * gain)

    def _over_field(self, begin: int, end: int, scale: int) -> Tensor:
        """Sum over k of w_k(x, y) times the affine parameter of code k: ``[B, C, h, w]``, 1x1 for constant weights."""
        maps = self.weights[scale]
        batch, _, height, width = maps.shape
        summed = torch.matmul(self.affine[:, begin:end], maps.flatten(2))  # [B, C, K] @ [B, K, h*w]
        return summed.reshape(batch, end - begin, height, width)


class _Normalised(torch.autograd.Function):
    """Instance normalisation, a gain and a bias, with a backward pass of a few passes over the maps.

    What :class:`Modulation` does for a field without maps, in fewer passes than automatic differentiation makes, which
    is a tenth of a training step on a CPU. Maps stay in the precision that they have; so do sums, which are added up in
    float32.
    """

    @staticmethod
    def forward(ctx: typing.Any, features: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, H, W]`` with gain and bias ``[B, C, 1, 1]``; also means and variances ``[B, C, 2]``."""
        if features.dtype == torch.float16:  # whose squares overflow
            features = features.float()
        sums, count = torch.promote_types(features.dtype, torch.float32), features.shape[2] * features.shape[3]
        mean = features.sum((2, 3), keepdim=True).to(sums) / count
        centred = features - mean.to(features.dtype)
        variance = (centred * centred).sum((2, 3), keepdim=True).to(sums) / count
        root = torch.rsqrt(variance + EPSILON)
        scale = gain.to(sums) * root
        ctx.save_for_backward(centred, root, scale)
        ctx.kinds = (gain.dtype, bias.dtype)
        modulated = torch.addcmul(bias.to(features.dtype), centred, scale.to(features.dtype))
        statistics = torch.cat([mean, variance], dim=2).squeeze(3)
        ctx.mark_non_differentiable(statistics)
        return modulated, statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: typing.Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the features, the gain and the bias (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3)."""
        centred, root, scale = ctx.saved_tensors
        gradient, kind = gradients[0], centred.dtype
        count = centred.shape[2] * centred.shape[3]
        shift = gradient.sum((2, 3), keepdim=True).to(root.dtype)
        along = (gradient * centred).sum((2, 3), keepdim=True).to(root.dtype)
        constant, slope = -scale * shift / count, -scale * root.square() * along / count
        found = torch.addcmul(constant.to(kind), gradient, scale.to(kind)).addcmul_(centred, slope.to(kind))
        return found, (along * root).to(ctx.kinds[0]), shift.to(ctx.kinds[1])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each normalised and modulated, and a skip."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, modulate: Modulation) -> Tensor:
        hidden = torch.relu(modulate(self.first(features), self.scale))
        return features + modulate(self.second(hidden), self.scale)


class BrushNet(nn.Module):
    """Photograph and style field to picture.

    Height and width must be multiples of 8 (the engine pads). :attr:`halo` is how far, in pixels, one output pixel
    looks, when the statistics are given.
    """

    scales: Tensor

    def __init__(self, config: BrushConfig) -> None:
        super().__init__()
        self.config = config
        quarter, eighth = config.quarter, config.eighth
        self.stem = nn.Conv2d(48, quarter, 3, padding=1)
        self.down = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(ResidualBlock(eighth, 8) for _ in range(config.blocks_eighth))
        self.up = nn.Conv2d(eighth, 4 * quarter, 1)
        self.fine = nn.ModuleList(ResidualBlock(quarter, 4) for _ in range(config.blocks_quarter))
        self.paint = nn.Conv2d(quarter, 48, 3, padding=1)
        # Normalised channels in the order of the forward pass.
        self.channels = (
            quarter
            + eighth
            + 2 * eighth * config.blocks_eighth
            + 2 * quarter  # the skip and the way up
            + 2 * quarter * config.blocks_quarter
        )
        self.affine = nn.Linear(config.length, 2 * self.channels)
        scales = torch.cat([torch.full((config.code,), config.scale), torch.ones(config.reserved)])
        self.register_buffer("scales", scales.half().float(), persistent=False)  # as graphs store it
        self.reset()

    @property
    def halo(self) -> int:
        """Receptive radius in pixels, rounded up to a multiple of 8."""
        quarter_steps = 3 + 2 * self.config.blocks_quarter  # stem, down, paint and the fine blocks
        eighth_steps = 2 * self.config.blocks_eighth
        return -(-(4 * quarter_steps + 8 * eighth_steps + 8) // 8) * 8

    def reset(self) -> None:
        """He initialisation; the sub-pixel layers start as nearest-neighbour upsampling (ICNR, arXiv:1707.02937)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer, factor in ((self.up, 2), (self.paint, 4)):
            base = layer.weight.data[:: factor * factor].clone()
            layer.weight.data.copy_(base.repeat_interleave(factor * factor, dim=0))
        self.paint.weight.data.mul_(0.1)
        nn.init.normal_(self.affine.weight, std=0.3 / self.config.code**0.5)
        with torch.no_grad():
            self.affine.weight[:, self.config.code :] = 0.0
            self.affine.bias[: self.channels] = 1.0
            self.affine.bias[self.channels :] = 0.0

    def forward(
        self,
        picture: Tensor,
        codes: Tensor,
        weights_quarter: Tensor,
        weights_eighth: Tensor,
        statistics: Tensor | None = None,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Paint.

        Args:
            picture: ``[B, 3, H, W]`` in ``[0, 1]``, ``H`` and ``W`` multiples of 8.
            codes: ``[B, K, length]``, the last one by convention the content's own.
            weights_quarter: ``[B, K, H/4, W/4]`` or ``[B, K, 1, 1]``, the field's weights, summing to 1 over ``K``.
            weights_eighth: the same at 1/8.
            statistics: ``[B, 2, S]``, means and variances measured on a whole picture, used where ``given`` is 1.
            given: scalar 0 or 1.

        Returns:
            The painted picture ``[B, 3, H, W]`` (unbounded) and the statistics used, ``[B, 2, S]``, through which
            gradients flow only where the weights are maps.
        """
        affine = self.affine(codes * self.scales).transpose(1, 2)  # [B, 2S, K]
        modulate = Modulation(affine, {4: weights_quarter, 8: weights_eighth}, statistics, given)
        pixels = functional.pixel_unshuffle(picture * 2 - 1, 4)  # [B, 48, H/4, W/4]
        quarter = torch.relu(modulate(self.stem(pixels), 4))
        features = torch.relu(modulate(self.down(quarter), 8))
        for block in self.middle:
            features = block(features, modulate)
        raised = functional.pixel_shuffle(self.up(features), 2)  # [B, quarter, H/4, W/4]
        features = torch.relu(modulate(raised, 4) + modulate(quarter, 4))
        for block in self.fine:
            features = block(features, modulate)
        painted = functional.pixel_shuffle(self.paint(features), 4) * 0.5 + 0.5
        return painted, torch.cat(modulate.used, dim=1).transpose(1, 2)


def widened(state: dict[str, Tensor], source: BrushConfig, target: BrushConfig) -> dict[str, Tensor]:
    """Tensors of a model as those of one with more reserved numbers or another scale, which paints the same.

    Raises:
        ValueError: the sizes differ otherwise, or there are fewer.
    """
    if replace(source, reserved=target.reserved, scale=target.scale) != target:
        raise ValueError(f"it is a network of other sizes: {source}")
    if target.reserved < source.reserved:
        raise ValueError(f"it has {source.reserved} reserved numbers, of which none can be taken away")
    weight = functional.pad(state["net.affine.weight"], (0, target.reserved - source.reserved))
    weight[:, : source.code] *= source.scale / target.scale
    return state | {"net.affine.weight": weight}


@torch.no_grad()
def level(net: BrushNet) -> None:
    """Make the last convolution answer constant features with one colour, in place; what is finer than 3x3 stays.

    Each of its 16 outputs for a colour becomes a pixel of a 4x4 block. Where these answer flat features differently, a
    clear sky shows a grid of that size. What they differ by is spread over the 3x3 taps, so that only the local mean
    of the features is answered alike.
    """
    weight, bias = net.paint.weight, net.paint.bias
    taps = weight.shape[2] * weight.shape[3]
    flat = weight.sum((2, 3)).view(3, 16, -1)  # [colour, pixel of the block, C]
    weight.add_(((flat.mean(1, keepdim=True) - flat) / taps).view(48, -1)[:, :, None, None])
    if bias is not None:
        bias.copy_(bias.view(3, 16).mean(1, keepdim=True).expand(3, 16).reshape(48))


@torch.no_grad()
def spread_codes(model: BrushModel, pictures: Sequence[Tensor]) -> None:
    """Make the codes of pictures point in all directions, in place; what is painted stays nearly the same.

    Without it all codes are nearly alike: a network that is trained from random weights gives every picture one large
    common part, in which its style is a few hundredths, and steps of the optimiser move what is common. Here the
    encoder's last layer is centred and scaled by the pictures, as in the data-dependent initialisation of Salimans &
    Kingma 2016 (arXiv:1602.07868), and the map of gains and biases with it. Only the length of a code's own part is
    lost, as codes have root mean square 1.

    Args:
        model: brush.
        pictures: ``[N, 3, H, W]`` each, in ``[0, 1]``; some hundreds in all, of photographs and artworks.
    """
    config, affine, head = model.config, model.net.affine, typing.cast("nn.Linear", model.encoder.head[-1])
    raw = torch.cat([model.encoder.raw(part) for part in pictures])  # [N, code]
    size = raw.square().mean(1, keepdim=True).sqrt()
    codes = raw / size
    mean, deviation = codes.mean(0), codes.std(0)
    deviation = deviation.clamp_min(float(deviation.median()) / 10 + 1e-6)
    scale = 1 / (deviation * size.mean())
    head.weight.mul_(scale[:, None])
    head.bias.mul_(scale).sub_(mean / deviation)
    length = ((raw * scale) - mean / deviation).square().mean(1).sqrt().mean()
    own = affine.weight[:, : config.code]
    affine.bias.add_(own @ mean * config.scale)
    own.mul_(deviation * length)


class BrushModel(nn.Module):
    """Encoder and painter together: what is trained and saved as one file.

    Attributes:
        checkpointing: compute the activations again in the backward pass instead of keeping them. It stands here and
            not in the training, because a distributed wrapper around the model must not see the second computation.
    """

    def __init__(self, config: BrushConfig | None = None) -> None:
        super().__init__()
        self.checkpointing = False
        self.config = config or BrushConfig()
        self.encoder = StyleEncoder(self.config)
        self.net = BrushNet(self.config)

    def forward(self, content: Tensor, style: Tensor, style_index: Tensor | None = None) -> Tensor:
        """Repaint ``content`` ``[B, 3, H, W]`` fully in the style of ``style`` ``[B, 3, h, w]``; for training.

        Args:
            content: photographs.
            style: pictures of their styles.
            style_index: which reserved number each style sets, ``[B]``, -1 for none.
        """
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._paint, content, style, style_index, use_reentrant=False)
            return recomputed
        return self._paint(content, style, style_index)

    def _paint(self, content: Tensor, style: Tensor, style_index: Tensor | None) -> Tensor:
        height, width = content.shape[2:]
        margin = min(MARGIN, (min(height, width) - 1) // 8 * 8)  # a reflection is shorter than what it reflects
        padded = functional.pad(content, (margin,) * 4, mode="reflect")
        codes = self.encoder(style)
        if style_index is not None and self.config.reserved:
            places = torch.arange(self.config.reserved, device=codes.device)
            own = RESERVED_VALUE * (places == style_index[:, None])  # [B, reserved]
            codes = torch.cat([codes[:, : self.config.code], own.to(codes)], dim=1)
        painted: Tensor = self.net(padded, *self.constant_field(codes))[0]
        return painted[:, :, margin : margin + height, margin : margin + width]

    @staticmethod
    def constant_field(code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One code ``[B, length]`` everywhere, as the field arguments of :class:`BrushNet`."""
        ones = code.new_ones(code.shape[0], 1, 1, 1)
        return code[:, None], ones, ones

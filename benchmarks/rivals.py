"""Rivals, rebuilt from their papers with random weights: the time of a pass does not depend on what was learned.

Nothing here is copied from the authors' code. Where a paper leaves a choice open, or where it is not known how the
authors chose, the cheaper reading is taken, so that a doubt speaks for the rival. Both networks run in eager PyTorch,
in evaluation mode, without gradients; of the memory formats (and of Johnson's two ways to enlarge) the fastest on this
machine is the one that is compared.
"""

from __future__ import annotations

import copy
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["JohnsonNet", "MicroAst", "Rival", "StyleSignal", "fastest_johnson", "fastest_microast", "onnx_graph"]

EPSILON = 1e-5


# -- Johnson et al. 2016 ---------------------------------------------------------------------------------------------


def same_conv(channels: int, filters: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution whose padding reflects the picture and keeps its size (over the stride)."""
    return nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, padding_mode="reflect", groups=groups)


class JohnsonBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation and a skip, no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            same_conv(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            same_conv(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, h, w]`` to the same."""
        out: Tensor = features + self.body(features)
        return out


class JohnsonNet(nn.Module):
    """The image transformation network of Johnson et al. 2016 (arXiv:1603.08155, supplement, table 1).

    Known: 9x9 to 32, 3x3 stride 2 to 64, 3x3 stride 2 to 128, five residual blocks of 128, two 3x3 convolutions of
    stride 1/2 to 64 and 32, 9x9 to 3, scaled tanh.

    Differs from the paper: instance normalisation for batch normalisation (Ulyanov et al. 2016, arXiv:1607.08022), as
    everybody uses it today; reflection in each layer for one border of 40 pixels and residual blocks without padding
    (which would cost a third more at 512 x 512). ``upsampling`` is either the paper's transposed convolution
    (``fractional``) or nearest-neighbour enlargement followed by a convolution (``resize``), which later
    implementations use against checkerboards.
    """

    def __init__(self, *, upsampling: str = "fractional") -> None:
        super().__init__()
        self.down = nn.Sequential(
            *self._normalised(same_conv(3, 32, 9)),
            *self._normalised(same_conv(32, 64, 3, stride=2)),
            *self._normalised(same_conv(64, 128, 3, stride=2)),
        )
        self.blocks = nn.Sequential(*(JohnsonBlock(128) for _ in range(5)))
        self.up = nn.Sequential(
            *self._normalised(*enlarging(128, 64, upsampling)), *self._normalised(*enlarging(64, 32, upsampling))
        )
        self.last = same_conv(32, 3, 9)

    @staticmethod
    def _normalised(*layers: nn.Module) -> tuple[nn.Module, ...]:
        filters = layers[-1].out_channels
        return *layers, nn.InstanceNorm2d(filters, affine=True), nn.ReLU()

    def forward(self, picture: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, 3, H, W]`` in ``[0, 1]``; H and W multiples of 4."""
        out: Tensor = self.last(self.up(self.blocks(self.down(picture))))
        return torch.tanh(out) * 0.5 + 0.5


def enlarging(channels: int, filters: int, upsampling: str) -> tuple[nn.Module, ...]:
    """Twice the size, 3x3, in one of two ways.

    Raises:
        ValueError: another way.
    """
    if upsampling == "fractional":
        return (nn.ConvTranspose2d(channels, filters, 3, stride=2, padding=1, output_padding=1),)
    if upsampling == "resize":
        return nn.Upsample(scale_factor=2, mode="nearest"), same_conv(channels, filters, 3)
    raise ValueError(f"upsampling must be 'fractional' or 'resize', not '{upsampling}'")


# -- MicroAST, Wang et al. 2023 --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StyleSignal:
    """What MicroAST keeps of a style at one of its two levels, each ``[1, C, 1, 1]``.

    Attributes:
        mean: of the style's features, for the modulation of the content's.
        deviation: of the style's features.
        filter_gain: by which the decoder's filters are multiplied, one number for each filter.
        filter_bias: which is added to their biases.
    """

    mean: Tensor
    deviation: Tensor
    filter_gain: Tensor
    filter_bias: Tensor


class MicroResidual(nn.Module):
    """Two 3x3 convolutions and a skip, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = same_conv(channels, channels, 3)
        self.second = same_conv(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, h, w]`` to the same."""
        out: Tensor = features + self.second(torch.relu(self.first(features)))
        return out


class MicroEncoder(nn.Module):
    """9x9 to 16 channels, two strided separable convolutions to 32 and 64, two residual blocks: the features."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            same_conv(3, 16, 9),
            nn.ReLU(),
            *separable(16, 32, stride=2),
            *separable(32, 64, stride=2),
        )
        self.first = MicroResidual(64)
        self.second = MicroResidual(64)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 3, H, W]`` to the features after each residual block, ``[B, 64, H/4, W/4]``."""
        first = self.first(self.down(picture))
        return first, self.second(first)


def separable(channels: int, filters: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    """A 3x3 convolution within groups, then a 1x1 convolution across them."""
    groups = min(channels, filters)
    return (
        same_conv(channels, filters, 3, stride=stride, groups=groups),
        nn.ReLU(),
        nn.Conv2d(filters, filters, 1),
        nn.ReLU(),
    )


class DualModulation(nn.Module):
    """A residual block whose features take the style's moments and whose filters take its gains and biases.

    The filters are multiplied before the convolution (``C * C * 9`` numbers) and not the features after it: both are
    the same in mathematics, and this is the cheaper one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = same_conv(channels, channels, 3)
        self.second = same_conv(channels, channels, 3)

    def forward(self, features: Tensor, style: StyleSignal) -> Tensor:
        """``[B, C, h, w]`` to the same."""
        variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True, correction=0)
        gain = style.deviation * torch.rsqrt(variance + EPSILON)
        modulated = features * gain + (style.mean - mean * gain)  # adaptive instance normalisation
        hidden = torch.relu(self._filtered(self.first, modulated, style))
        return modulated + self._filtered(self.second, hidden, style)

    @staticmethod
    def _filtered(layer: nn.Conv2d, features: Tensor, style: StyleSignal) -> Tensor:
        gain = style.filter_gain.reshape(-1)
        weight = layer.weight * gain[:, None, None, None]
        bias = layer.bias * gain + style.filter_bias.reshape(-1)  # type: ignore[operator]
        return functional.conv2d(functional.pad(features, (1, 1, 1, 1), mode="reflect"), weight, bias)


class MicroAst(nn.Module):
    """MicroAST, Wang et al., AAAI 2023 (arXiv:2211.15313): an arbitrary style at a small network's cost.

    Known from the paper's abstract: two micro encoders (content, style) and a micro decoder, no VGG in use; a modulator
    turns the style's features into signals that modulate both the features and the filters of the decoder; 4096 x 2160
    in about 0.5 s on an RTX 2080. Known from descriptions of it: 0.47 million parameters in total, standard
    convolutions at the ends, strided depthwise-separable ones and residual blocks between them, two levels of signals.

    Assumed, because the authors' code was not used: 9x9 for the first and last convolution; 16, 32 and 64 channels; two
    residual blocks at 1/4 in each encoder and two modulated ones in the decoder; depthwise 3x3 convolutions followed by
    a mean as the modulator; a decoder of nearest-neighbour enlargements with separable convolutions; reflection as
    padding; ReLU; content features decoded from the deepest level only. With these choices the network has 471,987
    parameters: the published number, which speaks for the channels and the count of blocks, not for each detail.

    The pass that is timed is :meth:`forward`: content encoder and decoder, the style being encoded once by
    :meth:`encode_style`, as :class:`impasto.field.StyleCode` is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.content_encoder = MicroEncoder()
        self.style_encoder = MicroEncoder()
        self.gains = nn.ModuleList(same_conv(64, 64, 3, groups=64) for _ in range(2))
        self.biases = nn.ModuleList(same_conv(64, 64, 3, groups=64) for _ in range(2))
        self.blocks = nn.ModuleList(DualModulation(64) for _ in range(2))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            *separable(64, 32),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *separable(32, 16),
            same_conv(16, 3, 9),
        )

    def encode_style(self, picture: Tensor) -> tuple[StyleSignal, ...]:
        """Signals of a style picture ``[1, 3, H, W]``, the deepest level first, which is the order of the decoder."""
        signals = []
        for index, features in reversed(list(enumerate(self.style_encoder(picture)))):
            variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True, correction=0)
            gain = self.gains[index](features).mean((2, 3), keepdim=True)
            bias = self.biases[index](features).mean((2, 3), keepdim=True)
            signals.append(StyleSignal(mean, torch.sqrt(variance + EPSILON), gain, bias))
        return tuple(signals)

    def forward(self, picture: Tensor, style: tuple[StyleSignal, ...]) -> Tensor:
        """``[B, 3, H, W]`` in the style of the signals; H and W multiples of 4."""
        features = self.content_encoder(picture)[1]
        for block, signal in zip(self.blocks, style, strict=True):
            features = block(features, signal)
        painted: Tensor = self.up(features)
        return painted


class StyledMicroAst(nn.Module):
    """MicroAST with one style kept: a picture in, a picture out."""

    def __init__(self, net: MicroAst, style: tuple[StyleSignal, ...]) -> None:
        super().__init__()
        self.net = net
        self.style = style

    def forward(self, picture: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, 3, H, W]``."""
        painted: Tensor = self.net(picture, self.style)
        return painted


# -- in use ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """A rival that is ready to run.

    Attributes:
        form: which of the ways to run it was the fastest.
        parameters: their number in the whole network.
        net: the module, one picture in and one out.
        call: one pass on the picture it was made for.
    """

    form: str
    parameters: int
    net: nn.Module
    call: Callable[[], Tensor]


def fastest_johnson(picture: Tensor) -> Rival:
    """Johnson's network in the fastest of its forms for ``picture`` ``[1, 3, H, W]``."""
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {way: JohnsonNet(upsampling=way) for way in ("fractional", "resize")}
    return _fastest(nets, picture)


def fastest_microast(picture: Tensor) -> Rival:
    """MicroAST with an encoded style in the faster memory format for ``picture`` ``[1, 3, H, W]``."""
    torch.manual_seed(0)
    net = MicroAst().eval()
    with torch.no_grad():
        style = net.encode_style(torch.rand(1, 3, 256, 256))
    return _fastest({"": StyledMicroAst(net, style)}, picture)


def _fastest(nets: dict[str, nn.Module], picture: Tensor) -> Rival:
    """Try each network in both memory formats and keep the fastest."""
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    best: tuple[float, str, nn.Module] | None = None
    for way, net in nets.items():
        for name, memory_format in formats.items():
            call = _pass(net, picture, memory_format)
            seconds = _shortest(call)
            if best is None or seconds < best[0]:
                best = seconds, f"{way} {name}".strip(), net
    if best is None:
        raise ValueError("there is no network to try")
    _, form, net = best
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Rival(form, parameters, net, _pass(net, picture, formats[form.split()[-1]]))


def _pass(net: nn.Module, picture: Tensor, memory_format: torch.memory_format) -> Callable[[], Tensor]:
    net.eval().to(memory_format=memory_format)  # type: ignore[call-overload]
    laid_out = picture.contiguous(memory_format=memory_format)

    def call() -> Tensor:
        with torch.no_grad():
            painted: Tensor = net(laid_out)
        return painted

    return call


def _shortest(call: Callable[[], Tensor], repeats: int = 3) -> float:
    """The shortest of a few passes, after a warm-up."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


def onnx_graph(net: nn.Module, picture: Tensor) -> bytes:
    """The network as an ONNX graph of the picture's size, to see what its runtime alone is worth; needs ``onnx``."""
    buffer = io.BytesIO()
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracing exporter is announced as deprecated
        torch.onnx.export(
            plain, (picture.contiguous(),), buffer, dynamo=False, opset_version=17, input_names=["picture"]
        )  # fmt: skip
    return buffer.getvalue()

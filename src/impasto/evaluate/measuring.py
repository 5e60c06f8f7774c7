"""The metrics of one result. What they need of a content or a style is computed once and kept.

Encoders, LPIPS and CLIP are loaded only where a metric asks for them: SSIM is measured without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from impasto.errors import MissingExtraError, UsageError
from impasto.evaluate.measures import METRICS, PLAIN_METRICS
from impasto.image.color import luminance, resize
from impasto.metrics.distribution import art_score, frechet_distance
from impasto.metrics.structural import ms_ssim, ssim
from impasto.stylizer import file_stamp, fingerprint
from impasto.types import FloatArray

if TYPE_CHECKING:
    from impasto.metrics.clip import ClipEncoder
    from impasto.metrics.features import StyleSummary
    from impasto.metrics.leak import LeakTarget
    from impasto.metrics.lpips import Lpips
    from impasto.nets.teachers import Teacher

__all__ = ["Measurement", "Measurer", "MetricFiles", "load_measurer"]

EDITION = 1  # of these metrics' definitions; values of another edition are measured anew
CFSD_LAYER = "relu3_1"


@dataclass(frozen=True)
class MetricFiles:
    """Networks that metrics need: an encoder's name or file, and what only its owner has."""

    encoder: str = "lens"
    lpips_backbone: Path | None = None
    lpips_heads: Path | None = None
    clip: Path | None = None


@dataclass(frozen=True)
class Measurement:
    """What was measured of one result.

    Attributes:
        values: by the metric's full name; None where it does not apply.
        vector: the result's moments ``[D]`` for metrics of sets, or None.
        style_vector: the style's.
    """

    values: dict[str, float | None]
    vector: NDArray[np.float64] | None = None
    style_vector: NDArray[np.float64] | None = None


def load_measurer(metrics: tuple[str, ...], files: MetricFiles) -> Measurer:
    """Load what the metrics need.

    Args:
        metrics: names as :func:`~impasto.evaluate.measures.check_metrics` gives them.
        files: where the networks are.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        UsageError: a metric without its files, or ``cfsd`` over another encoder than VGG-19.
        WeightsError: weights that cannot be loaded.
    """
    over = {METRICS[name].over for name in metrics}
    network, lpips, clip = None, None, None
    try:
        if "encoder" in over:
            from impasto.nets.encoders import load_encoder

            network = load_encoder(files.encoder)
        if "lpips" in over:
            from impasto.metrics.lpips import load_lpips

            if files.lpips_backbone is None or files.lpips_heads is None:
                raise UsageError("the metric lpips needs --lpips-backbone and --lpips-heads; see docs/metrics.md")
            lpips = load_lpips(files.lpips_backbone, files.lpips_heads)
    except ImportError as error:
        heavy = ", ".join(name for name in metrics if name not in PLAIN_METRICS)
        raise MissingExtraError(
            f"the metrics {heavy} (without it: --metrics {','.join(PLAIN_METRICS)})", "torch"
        ) from error
    if "clip" in over:
        from impasto.metrics.clip import load_clip

        if files.clip is None:
            raise UsageError("the metrics clip-content and clip-style need --clip, a folder with CLIP weights")
        clip = load_clip(files.clip)
    stamps = [file_stamp(files.lpips_heads or Path()), file_stamp((files.clip or Path()) / "model.safetensors")]
    return Measurer(metrics, network=network, lpips=lpips, clip=clip, stamps=stamps)


Loaded = TypeVar("Loaded")


def needed(loaded: Loaded | None) -> Loaded:
    """What :func:`load_measurer` loads for every metric that asks for it.

    Raises:
        UsageError: it was not loaded.
    """
    if loaded is None:
        raise UsageError("a network that this metric needs was not loaded")
    return loaded


class View:
    """A picture as the metrics see it: everything is computed when it is first asked for, and kept."""

    def __init__(self, pixels: FloatArray, measurer: Measurer) -> None:
        self.pixels = pixels
        self.measurer = measurer

    @cached_property
    def luma(self) -> FloatArray:
        """``[H, W]``."""
        return luminance(self.pixels)

    @cached_property
    def features(self) -> dict[str, Any]:
        """Feature maps of all layers that any metric compares, from one pass."""
        from impasto.metrics.features import look

        return look(needed(self.measurer.network), self.pixels, self.measurer.layers)

    def at(self, layers: tuple[str, ...]) -> dict[str, Any]:
        """Feature maps of some layers."""
        return {layer: self.features[layer] for layer in layers}

    @cached_property
    def summary(self) -> StyleSummary:
        """Gram matrices and moments."""
        from impasto.metrics.features import summarise_style

        return summarise_style(self.at(self.measurer.style_layers))

    @cached_property
    def vector(self) -> NDArray[np.float64]:
        """Means and deviations of the channels of all style layers, one after the other: ``[D]``."""
        moments = self.summary.moments
        parts = [moments[layer].double().cpu().numpy().ravel() for layer in self.measurer.style_layers]
        return np.asarray(np.concatenate(parts))

    @cached_property
    def lpips(self) -> dict[str, Any]:
        """Feature maps of the LPIPS backbone."""
        from impasto.metrics.features import look

        measure = needed(self.measurer.lpips)
        return look(measure.network, self.pixels, measure.layers)

    @cached_property
    def clip(self) -> NDArray[np.float64]:
        """CLIP embedding."""
        return needed(self.measurer.clip).picture(self.pixels)


class StyleView(View):
    """A style picture: small things are kept, feature maps are dropped at once, so that all styles fit into memory."""

    def __init__(self, pixels: FloatArray, measurer: Measurer) -> None:
        super().__init__(pixels, measurer)
        asked = set(measurer.metrics)
        if asked & {"gram", "moments"}:
            _ = self.summary
        if "frechet" in asked:
            _ = self.vector
        if "leak" in asked:
            _ = self.target
        self.__dict__.pop("features", None)

    @cached_property
    def target(self) -> LeakTarget:
        """What finds its places in results."""
        from impasto.metrics.features import look
        from impasto.metrics.leak import SCALES, leak_target

        network, layer = needed(self.measurer.network), self.measurer.leak_layer
        height, width = self.pixels.shape[:2]
        maps = []
        for scale in SCALES:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            maps.append(look(network, np.clip(resize(self.pixels, size), 0, 1), [layer])[layer])
        return leak_target(maps)


class Measurer:
    """All metrics of an evaluation over its networks. Made by :func:`load_measurer`.

    Attributes:
        metrics: names.
        network: the encoder, or None.
        names: by metric, the name that carries the network's: ``gram`` is ``gram-lens``.
    """

    def __init__(
        self,
        metrics: tuple[str, ...],
        *,
        network: Teacher | None = None,
        lpips: Lpips | None = None,
        clip: ClipEncoder | None = None,
        stamps: list[Any] | None = None,
    ) -> None:
        self.metrics, self.network, self.lpips, self.clip = metrics, network, lpips, clip
        self.style_layers: tuple[str, ...] = ()
        self.content_layers: tuple[str, ...] = ()
        self.leak_layer = ""
        identity = "none"
        if network is not None:
            identity = self._choose_layers(network)
        self.identity = fingerprint(EDITION, identity, stamps)
        self.encoder = None if network is None else {"name": network.spec.name, "weights": identity}
        self.names = {name: self._full_name(name) for name in metrics}

    def _choose_layers(self, network: Teacher) -> str:
        from impasto.metrics.features import network_identity
        from impasto.metrics.leak import leak_layer

        spec = network.spec
        if "cfsd" in self.metrics and spec.name != "vgg19":
            raise UsageError(
                f"cfsd is defined over VGG-19, not over {spec.name}; give VGG-19's file, or take 'structure'"
            )
        self.style_layers, self.content_layers = spec.style_layers, spec.content_layers
        self.leak_layer = leak_layer(network)
        return network_identity(network)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Of the encoder, all that any metric asks for."""
        uses = {
            "content": self.content_layers,
            "perceptual": self.style_layers,
            "structure": (self.leak_layer,),
            "cfsd": (CFSD_LAYER,),
            "gram": self.style_layers,
            "moments": self.style_layers,
            "leak": (self.leak_layer,),
            "frechet": self.style_layers,
        }
        wanted = {layer for name in self.metrics for layer in uses.get(name, ())}
        return () if self.network is None else tuple(layer for layer in self.network.spec.layers if layer in wanted)

    def _full_name(self, name: str) -> str:
        if METRICS[name].over == "encoder" and self.network is not None:
            return f"{name}-{self.network.spec.name}"
        return self.lpips.name if name == "lpips" and self.lpips is not None else name

    def content(self, pixels: FloatArray) -> View:
        """A content, ready to be compared with several results."""
        return View(pixels, self)

    def style(self, pixels: FloatArray) -> StyleView:
        """A style, ready to be compared with several results."""
        return StyleView(pixels, self)

    def measure(self, result: FloatArray, content: View | None, style: StyleView | None) -> Measurement:
        """All metrics of pairs for one result.

        Args:
            result: ``[H, W, 3]`` in ``[0, 1]``, of the content's size.
            content: None where there is no content to compare with.
            style: None where there is no picture of the style.

        Raises:
            UsageError: too small for a metric, or of another size than the content.
        """
        view = View(result, self)
        values: dict[str, float | None] = {}
        for name, full in self.names.items():
            if name in _AGAINST_CONTENT:
                values[full] = None if content is None else _AGAINST_CONTENT[name](view, content)
            elif name in _AGAINST_STYLE:
                values[full] = None if style is None else _AGAINST_STYLE[name](view, style)
            elif name == "leak":
                values[full] = None if content is None or style is None else _leak(view, content, style)
        if "frechet" not in self.metrics:
            return Measurement(values)
        return Measurement(values, view.vector, None if style is None else style.vector)

    def measure_set(self, measurements: list[Measurement], styles: list[str]) -> dict[str, float | None]:
        """The metrics of one row's results as a whole.

        Args:
            measurements: of its results.
            styles: the style of each, by name; each style counts once among the styles.
        """
        asked = [name for name in self.metrics if METRICS[name].against == "set"]
        values: dict[str, float | None] = {self.names[name]: None for name in asked}
        found = [one.vector for one in measurements if one.vector is not None]
        each = {name: one.style_vector for name, one in zip(styles, measurements, strict=True)}
        wanted = [vector for vector in each.values() if vector is not None]
        if not asked or len(found) < 2 or len(wanted) < 2:
            return values
        distance = self._frechet(np.stack(found), np.stack(wanted))
        if distance is None:
            return values
        values[self.names["frechet"]] = distance
        if "artfrechet" in asked:
            perceptual = [one.values.get(self.names["perceptual"]) for one in measurements]
            known = [value for value in perceptual if value is not None]
            if known:
                values[self.names["artfrechet"]] = art_score(float(np.mean(known)), distance)
        return values

    def _frechet(self, found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float | None:
        """Fréchet distance over the trace of the styles' covariance, in percent, averaged over the layers.

        None where the styles do not differ from each other.
        """
        lengths = [2 * needed(self.network).spec.layers[layer][1] for layer in self.style_layers]
        ends = np.cumsum(lengths)[:-1]
        shares = []
        for own, style in zip(np.split(found, ends, axis=1), np.split(wanted, ends, axis=1), strict=True):
            spread = float(np.var(style, axis=0, ddof=1).sum())  # tr S
            if not spread > 0:
                return None
            shares.append(100 * frechet_distance(own, style) / spread)
        return float(np.mean(shares))


def _content(result: View, content: View) -> float:
    from impasto.metrics.features import content_distance

    layers = result.measurer.content_layers
    return content_distance(result.at(layers), content.at(layers))


def _perceptual(result: View, content: View) -> float:
    from impasto.metrics.features import perceptual_distance

    layers = result.measurer.style_layers
    return perceptual_distance(result.at(layers), content.at(layers))


def _structure(result: View, content: View) -> float:
    from impasto.metrics.features import structure_distance

    layer = result.measurer.leak_layer
    return structure_distance(result.features[layer], content.features[layer])


def _cfsd(result: View, content: View) -> float:
    from impasto.metrics.features import cfsd

    return cfsd(result.features[CFSD_LAYER], content.features[CFSD_LAYER])


def _gram(result: View, style: StyleView) -> float:
    from impasto.metrics.features import gram_distance

    return gram_distance(result.summary, style.summary)


def _moments(result: View, style: StyleView) -> float:
    from impasto.metrics.features import moment_distance

    return moment_distance(result.summary, style.summary)


def _leak(result: View, content: View, style: StyleView) -> float:
    from impasto.metrics.leak import content_leak

    layer = result.measurer.leak_layer
    return content_leak(result.features[layer], content.features[layer], style.target).score


def _lpips(result: View, content: View) -> float:
    return needed(result.measurer.lpips).distance(result.lpips, content.lpips)


def _clip(result: View, other: View) -> float:
    from impasto.metrics.clip import clip_similarity

    return clip_similarity(result.clip, other.clip)


_AGAINST_CONTENT: dict[str, Callable[[View, View], float]] = {
    "ssim": lambda result, content: ssim(result.luma, content.luma),
    "ms-ssim": lambda result, content: ms_ssim(result.luma, content.luma),
    "content": _content,
    "perceptual": _perceptual,
    "structure": _structure,
    "cfsd": _cfsd,
    "lpips": _lpips,
    "clip-content": _clip,
}
_AGAINST_STYLE: dict[str, Callable[[View, StyleView], float]] = {
    "gram": _gram,
    "moments": _moments,
    "clip-style": _clip,
}

"""Attention of a UNet that sees the style field: processors for diffusers' attention layers.

A step of the sampler asks the network several times: about the photograph and each style at the same noise level,
while layers *listen* and keep queries, keys and values; then about the painting, while they *speak*. What a layer says
at position ``p`` is a mix over the field's maps, seen at the layer's own resolution:

    out(p) = sum_k w_k(p) Attn_k(p) + (1 - sum_k w_k(p)) Attn(q(p), K_content, V_content)

so that a style whose weight is 0 at a position has no say there. ``Attn_k`` is the method's:

* StyleID (Chung, Hyun & Heo 2024, arXiv:2312.09008, eq. 5-7):
  ``Attn(tau q~, K_k, V_k)`` with ``q~ = gamma q_content + (1 - gamma) q``;
* StyleAligned (Hertz et al. 2024, arXiv:2312.02133, eq. 3-4):
  ``Attn(AdaIN(q, q_k), [K_k; AdaIN(K, K_k)], [V_k; V])``.

Differs from the papers: features are computed anew at every step from the inverted latents rather than kept from the
inversion (the same numbers to first order, and no gigabytes); ``gamma`` and ``tau`` go with the styles' share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import UsageError

__all__ = ["Heard", "ImagePrompt", "Stage", "StyledAttention", "adain", "on_stage", "self_attention_layers"]

CONTENT = -1  # the photograph among the pictures that layers listen to; styles are 0, 1, ...


@dataclass(frozen=True, eq=False)
class Heard:
    """What a layer keeps of a picture: ``[1, heads, N, d]`` each."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(eq=False)
class Stage:
    """What all layers of a network share while one picture is painted.

    Attributes:
        method: ``styleid`` or ``stylealigned``.
        maps: weight of each style over the latents, ``[K, H, W]``, at most 1 together.
        gamma: query preservation.
        tau: temperature.
        pieces: queries are answered in so many parts, against running out of memory.
        listening: the picture that is heard, None while the painting speaks.
        active: False lets every layer be itself.
        heard: by picture and layer.
    """

    method: str
    maps: Tensor
    gamma: float = 0.75
    tau: float = 1.5
    pieces: int = 1
    listening: int | None = None
    active: bool = False
    heard: dict[tuple[int, str], Heard] = field(default_factory=dict)
    _shares: dict[int, Tensor] = field(default_factory=dict)

    def shares(self, tokens: int) -> Tensor:
        """The maps at a layer of ``tokens`` positions: ``[K, N, 1]``, in its order.

        Raises:
            UsageError: the layer's grid is no whole fraction of the latents'.
        """
        if tokens not in self._shares:
            height, width = self.maps.shape[1:]
            factor = round((height * width / tokens) ** 0.5)
            if height % factor or width % factor or (height // factor) * (width // factor) != tokens:
                raise UsageError(f"a layer with {tokens} positions is no reduction of latents of {height} x {width}")
            means = functional.avg_pool2d(self.maps[None], factor)[0]  # [K, h, w]
            self._shares[tokens] = means.reshape(len(means), tokens, 1)
        return self._shares[tokens]

    @contextmanager
    def hear(self, picture: int) -> Iterator[None]:
        """Layers keep what they see of a picture: :data:`CONTENT`, or a style's number."""
        self.active, self.listening = True, picture
        try:
            yield
        finally:
            self.active, self.listening = False, None

    @contextmanager
    def speak(self) -> Iterator[None]:
        """Layers answer for the painting; what they had heard is forgotten afterwards."""
        self.active = True
        try:
            yield
        finally:
            self.active = False
            self.heard.clear()


class StyledAttention:
    """Self attention of one layer.

    Args:
        name: of the layer.
        stage: what it shares with the others.
        plain: the processor that was there before.
    """

    def __init__(self, name: str, stage: Stage, plain: Any) -> None:
        self.name, self.stage, self.plain = name, stage, plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``; the names are diffusers'."""
        stage = self.stage
        if not stage.active:
            answer: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return answer
        q, k, v = (_split(to(hidden_states), attn) for to in (attn.to_q, attn.to_k, attn.to_v))
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        if stage.listening is not None:
            stage.heard[stage.listening, self.name] = Heard(q, k, v)
            return _project(_attend(q, k, v, stage.pieces), attn)
        return _project(self._mixed(q, k, v), attn)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The mix over the field, ``[B, heads, N, d]``."""
        stage = self.stage
        shares = stage.shares(q.shape[2]).to(q)  # [K, N, 1]
        rest = (1 - shares.sum(0)).clamp(min=0)
        content = stage.heard.get((CONTENT, self.name))
        mixed = torch.zeros_like(q)
        if bool((rest > 0).any()):
            own = (k, v) if content is None else (content.key, content.value)
            mixed = rest * _attend(q, *own, stage.pieces)
        for index, share in enumerate(shares):
            style = stage.heard.get((index, self.name))
            if style is not None:
                mixed = mixed + share * self._styled(q, k, v, style, content)
        return mixed

    def _styled(self, q: Tensor, k: Tensor, v: Tensor, style: Heard, content: Heard | None) -> Tensor:
        stage = self.stage
        if stage.method == "styleid":
            if content is not None:
                q = stage.gamma * content.query + (1 - stage.gamma) * q  # eq. 6
            return _attend(stage.tau * q, style.key, style.value, stage.pieces)  # eq. 7
        keys = torch.cat([style.key.expand(len(k), -1, -1, -1), adain(k, style.key)], dim=2)
        values = torch.cat([style.value.expand(len(v), -1, -1, -1), v], dim=2)
        return _attend(adain(q, style.query), keys, values, stage.pieces)


class ImagePrompt:
    """Cross attention of one layer with an IP-Adapter (Ye et al. 2023, arXiv:2308.06721), several pictures, and maps.

        out(p) = Attn(q, K_text, V_text) + scale sum_k w_k(p) Attn(q, K'_k, V'_k)

    Differs from diffusers' own masks: they are seen at the layer's resolution by area, as the styles' maps in self
    attention are. While the painting does not speak, the text is alone.

    Args:
        stage: whose maps weigh the pictures.
        adapter: diffusers' processor with the adapter's weights for this layer.
        scale: of the image prompt; 0 leaves the text alone.
    """

    def __init__(self, stage: Stage, adapter: Any, scale: float) -> None:
        self.stage, self.adapter, self.scale = stage, adapter, scale

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, list[Tensor]],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``; the condition is the text ``[B, L, D]`` and the images ``[B, K, M, D]``."""
        text, (images,) = encoder_hidden_states
        q = _split(attn.to_q(hidden_states), attn)
        out = _attend(q, _split(attn.to_k(text), attn), _split(attn.to_v(text), attn), self.stage.pieces)
        if self.scale and self.stage.active:
            for share, image in zip(self.stage.shares(q.shape[2]).to(q), images.unbind(1), strict=True):
                k, v = (_split(to[0](image), attn) for to in (self.adapter.to_k_ip, self.adapter.to_v_ip))
                out = out + self.scale * share * _attend(q, k, v, self.stage.pieces)
        return _project(out, attn)


def adain(x: Tensor, like: Tensor) -> Tensor:
    """``x`` ``[B, heads, N, d]`` with the mean and deviation of ``like`` over the positions, for each channel."""
    mean, deviation = x.mean(2, keepdim=True), x.std(2, keepdim=True, correction=0)
    return (x - mean) / (deviation + 1e-5) * like.std(2, keepdim=True, correction=0) + like.mean(2, keepdim=True)


def self_attention_layers(unet: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """A UNet's self-attention layers whose names begin with one of ``wanted``; all of them where it is empty.

    Raises:
        UsageError: a beginning that fits no layer.
    """
    layers = {name: layer for name, layer in unet.named_modules() if name.endswith(".attn1")}
    layers = {name: layer for name, layer in layers.items() if not layer.is_cross_attention}
    for beginning in wanted:
        if not any(name.startswith(beginning) for name in layers):
            raise UsageError(f"no self-attention layer's name begins with '{beginning}'; there are {', '.join(layers)}")
    return {name: layer for name, layer in layers.items() if not wanted or name.startswith(tuple(wanted))}


@contextmanager
def on_stage(layers: Mapping[str, Any], processors: Mapping[str, Any]) -> Iterator[None]:
    """Put processors into layers, and the old ones back afterwards."""
    before = {name: layer.processor for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.set_processor(processors[name])
        yield
    finally:
        for name, layer in layers.items():
            layer.set_processor(before[name])


def _split(tokens: Tensor, attn: Any) -> Tensor:
    """``[B, N, heads * d]`` to ``[B, heads, N, d]``."""
    return tokens.reshape(*tokens.shape[:2], attn.heads, -1).transpose(1, 2)


def _project(heads: Tensor, attn: Any) -> Tensor:
    """``[B, heads, N, d]`` to the layer's output ``[B, N, C]``; dropout is off."""
    result: Tensor = attn.to_out[0](heads.transpose(1, 2).flatten(2)) / attn.rescale_output_factor
    return result


def _attend(q: Tensor, k: Tensor, v: Tensor, pieces: int) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v``, the queries in ``pieces`` parts; keys of one picture serve the whole batch."""
    k, v = (one.expand(len(q), -1, -1, -1) for one in (k, v))
    parts = [functional.scaled_dot_product_attention(part, k, v) for part in q.chunk(pieces, dim=2)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

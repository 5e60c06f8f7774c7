"""An engine for tests: the content with grain in the style's mean colour; it uses chance, and cannot paint black."""

import numpy as np

from impasto.engines.base import RenderEstimate, RenderProgress
from impasto.errors import ImpastoError
from impasto.field import StyleCode

PAINTED = []


class Noisy:
    name = "noisy"
    identity = "0123456789ab"

    def encode(self, style, *, name, config):
        return StyleCode(style.mean((0, 1)).astype(np.float32), self.name, self.identity, name)

    def presets(self):
        return {}

    def estimate(self, size, field, config):
        return RenderEstimate(0.0, 0)

    def render(self, content, field, config, on_progress=None):
        if content.max() < 0.1:
            raise ImpastoError("black cannot be painted")
        if on_progress is not None:
            on_progress(RenderProgress(0.5))
        PAINTED.append(config.seed)
        grain = np.random.default_rng(config.seed).normal(0, 0.2, content.shape[:2])[..., None]
        color = np.asarray(field.layers[0].code.vector)
        return np.clip(0.5 * content + 0.5 * (color + grain), 0, 1).astype(np.float32)


def load():
    return Noisy()

"""Weights files and their cards."""

from impasto.weights.cards import Card, WeightsFile, load_card, read_weights, weights_folder

__all__ = ["Card", "WeightsFile", "load_card", "read_weights", "weights_folder"]

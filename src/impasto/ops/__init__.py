"""Pure functions on arrays: padding, tiling, quantisation."""

"""Speed and memory of impasto, measured against rivals in the same run; see ``docs/benchmarks.md``."""

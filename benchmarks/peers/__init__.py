"""Ours against what a user would pick instead: ``python -m gmrt.benchmarks.peers`` (docs/benchmarks.md)."""

"""Ranges of activations and codes of weights: what an export needs to know to leave floats."""

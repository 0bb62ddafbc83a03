"""Checkpoint to bundle: graphs constructed from weights, quantised, proved equal, published whole."""

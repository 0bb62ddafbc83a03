"""Scoring a checkpoint or a bundle on labelled sets: ``gmrt eval MODEL DATASET...``.

`evaluate.run` is the way in. Nothing is imported here, so that pure scoring (`scores`, `geometry`, `tiles`) needs
neither a model nor torch.
"""

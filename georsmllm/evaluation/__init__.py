"""Scoring a checkpoint or a bundle on a labelled set: ``gmrt eval MODEL DATASET``."""

from gmrt.georsmllm.evaluation.evaluate import format_table, run

__all__ = ["format_table", "run"]

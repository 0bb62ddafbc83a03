"""The work that both sides do: sizes, and the question."""

from __future__ import annotations

PROMPT, NEW, TILES, CAPTION = 256, 64, 64, 24
REPEATS = 3
SIDE = 512  # pixels
# 32 tokens of SmolLM2's tokenizer.
QUESTION = (
    "how many of the buildings beside the river have a red roof and stand near trees, "
    "and how many of the cars on the road before them are all white?"
)

"""The same pixels give the same answer, whatever they are stored as: the shipped model, from file to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import gmrt

Write = Callable[..., Path]


def test_the_same_pixels_give_the_same_answer_token_for_token(write: Write, convert: Write) -> None:
    """Guards against a COG that answers from its overviews, and a format whose mask or decoder moves a pixel."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(40, 220, (3, 20, 30)), np.ones((1, 20, 20))) + rng.integers(0, 20, (3, 400, 600))
    source = write("a.tif", smooth.astype(np.uint8))
    copies = [
        convert(source, "a.png", "PNG"),
        convert(source, "cog.tif", "COG", BLOCKSIZE="128", OVERVIEW_RESAMPLING="NEAREST", OVERVIEW_COUNT="2"),
        convert(source, "a.vrt", "VRT"),
    ]
    model = gmrt.load()
    for prompt in ("describe", "locate the houses"):
        expected = model.look(source).ask(prompt)
        for copy in copies:
            answer = model.look(copy).ask(prompt)
            assert (answer.text, answer.points, answer.confidence) == (
                expected.text,
                expected.points,
                expected.confidence,
            ), f"{copy.name}: {prompt}"
            assert answer.tokens["generated"] == expected.tokens["generated"]

"""The confidence of an answer: the model's own certainty, put right by the bundle's table."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricate import reseal

from gmrt.runtime.confidence import apply_knots
from gmrt.runtime.errors import BundleError
from gmrt.runtime.model import load
from gmrt.runtime.scene import Scene


def test_knots_are_joined_by_lines_and_flat_outside() -> None:
    """Guards against a table that is extrapolated to promises below 0 or above 1."""
    knots = ((0.2, 0.1), (0.6, 0.5), (0.9, 0.8))
    assert [apply_knots(c, knots) for c in (0.0, 0.2, 0.4, 0.9, 1.0)] == pytest.approx([0.1, 0.1, 0.3, 0.8, 0.8])


def test_an_answer_has_the_confidence_of_the_table(altered: Path, scenes: list[Scene]) -> None:
    """Guards against a table that is read and not applied."""
    plain = load(altered).look(scenes[0]).ask("describe", max_tokens=4).confidence
    knots = [[0.0, 0.25], [1.0, 0.75]]
    reseal(altered, confidence=knots)
    said = load(altered).look(scenes[0]).ask("describe", max_tokens=4).confidence
    assert said == pytest.approx(0.25 + 0.5 * plain, abs=1e-4)


def test_a_wrong_table_is_refused(altered: Path) -> None:
    """Guards against a bundle that is loaded with a table that turns sure answers into unsure ones."""
    reseal(altered, confidence=[[0.1, 0.9], [0.9, 0.1]])
    with pytest.raises(BundleError, match="shares must not fall"):
        load(altered)

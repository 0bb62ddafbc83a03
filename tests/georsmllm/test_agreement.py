"""The captions of an image that agree with each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmrt.georsmllm.agreement import most_agreed
from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.sources import check_source, read_source

HARBOUR = (
    "something else entirely is written here",
    "many boats are docked at the piers of a harbour",
    "many boats are docked at the piers of the harbour",
    "lots of boats are docked at the piers",
)
FIELD = ("a green field", "a meadow with a track")
OTHERS = [(f"thing {i} here", f"thing {i} there", f"other {i} thing") for i in range(10)]
"""Words weigh by how rare they are, so agreement needs a set of some size."""


def test_the_caption_that_nobody_shares_goes_first() -> None:
    """Guards against agreement measured against all captions, the judged one included, or sorted the wrong way."""
    kept = most_agreed([HARBOUR, FIELD, *OTHERS], 2)
    assert set(kept[0]) == set(HARBOUR[1:3])
    assert most_agreed([HARBOUR, FIELD, *OTHERS], 4)[0][-1] == HARBOUR[0]


def test_one_or_two_captions_are_kept_as_they_are() -> None:
    """Guards against two captions, which agree with each other alike, being put in another order, or lost."""
    assert most_agreed([FIELD, FIELD[:1], ()], 2) == [FIELD, FIELD[:1], ()]


def test_a_caption_written_twice_is_two_people_who_agree() -> None:
    """Guards against captions found by their text, so that a sentence that stands twice takes one score."""
    captions = ("a red roof", "a ship", "a red roof")
    assert most_agreed([captions, FIELD, *OTHERS], 2)[0] == ("a red roof", "a red roof")


def test_a_source_keeps_its_agreed_captions(parquet: Callable[..., Path]) -> None:
    """Guards against the field being read and not obeyed, or changing anything but captions."""
    rows: list[dict[str, Any]] = [{"class": "harbor", "captions": list(c), "qa": []} for c in (HARBOUR, FIELD)]
    path = parquet("set", rows)
    whole, few = (read_source({"path": path, "agreed": agreed}) for agreed in (0, 2))
    assert [len(example.captions) for example in whole] == [4, 2]
    assert [len(example.captions) for example in few] == [2, 2]
    assert [example.image for example in few] == [example.image for example in whole]
    for wrong in (-1, True, "2"):
        with pytest.raises(DatasetError, match="how many captions to keep"):
            check_source({"path": path, "agreed": wrong})

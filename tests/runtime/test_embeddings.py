"""The token table gives the numbers that were stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricate import Fabricated, small

from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.embeddings import TokenTable, open_table
from gmrt.runtime.errors import BundleError


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_lookup_gives_what_was_stored(fabricate: object, dtype: str) -> None:
    """Guards against a scale on the wrong axis, and a one-token path that differs from the many-token one."""
    made: Fabricated = fabricate(small(table=dtype))  # type: ignore[operator]
    table = open_bundle(made.path).table
    ids = np.array([0, 5, 5, len(made.table) - 1])
    rows = table.lookup(ids)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, made.table[ids])
    out = np.full(made.shape.hidden, np.nan, np.float32)
    table.lookup_into(5, out)
    np.testing.assert_array_equal(out, rows[1])


def test_id_outside_is_an_error() -> None:
    """Guards against numpy's negative indices handing out the last row for a token that does not exist."""
    table = TokenTable(np.zeros((4, 2), np.float32))
    with pytest.raises(IndexError):
        table.lookup(np.array([4]))


def test_int8_table_needs_a_scale(tmp_path: Path) -> None:
    """Guards against embeddings of ±127 from a table whose scale was forgotten."""
    np.save(tmp_path / "t.npy", np.zeros((4, 2), np.int8))
    with pytest.raises(BundleError, match="a scale belongs to an int8 table"):
        open_table(tmp_path / "t.npy", None, vocab_size=4, hidden_size=2)

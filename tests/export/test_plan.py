"""The planner: a pure function over the table of a scan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.export.plan import Bounds, plan
from gmrt.export.sensitivity import FLOAT, INT4, INT8, Choice, LayerScan
from gmrt.runtime.errors import GmrtError

TABLE = (
    LayerScan("vision", "stem", (Choice(FLOAT, 400, 1.0, 0.0), Choice(INT8, 100, 0.9, 0.5))),
    LayerScan("decoder", "fc", (Choice(FLOAT, 4000, 1.0, 0.0), Choice(INT8, 1000, 0.999, 0.01))),
    LayerScan(
        "decoder", "head", (Choice(FLOAT, 800, 1.0, 0.0), Choice(INT8, 200, 0.998, 0.01), Choice(INT4, 100, 0.95, 0.1))
    ),
)


def test_without_a_bound_everything_is_at_its_least() -> None:
    """Guards against a scan that changes the export by being made."""
    made = plan(TABLE, 50)
    assert dict(made.layers) == {"stem": INT8, "fc": INT8, "head": INT4}
    assert made.bytes == 50 + 100 + 1000 + 100
    assert made.floats == ()


def test_an_accuracy_bound_spends_bytes_where_they_help_most() -> None:
    """Guards against a planner that raises layers in their order, or by whole layers: the head goes first."""
    assert dict(plan(TABLE, 0, min_cosine=0.89).layers) == {"stem": INT8, "fc": INT8, "head": INT8}
    made = plan(TABLE, 0, min_cosine=0.94)
    assert dict(made.layers) == {"stem": FLOAT, "fc": INT8, "head": INT8}
    assert made.floats == ("stem",)
    assert plan(TABLE, 0, min_cosine=1.0).cosine == 1


def test_a_size_bound_takes_from_where_it_hurts_least() -> None:
    """Guards against a planner that narrows layers in their order: the large one that loses nothing goes first."""
    made = plan(TABLE, 0, max_bytes=2200)
    assert dict(made.layers) == {"stem": FLOAT, "fc": INT8, "head": FLOAT}
    assert dict(plan(TABLE, 0, max_bytes=1700).layers) == {"stem": FLOAT, "fc": INT8, "head": INT8}


def test_bounds_that_cannot_be_met_are_refused() -> None:
    """Guards against a plan that ignores what it was asked for."""
    with pytest.raises(GmrtError, match="smaller than 1200 bytes"):
        plan(TABLE, 0, max_bytes=1000)
    with pytest.raises(GmrtError, match=r"below 0\.99"):
        plan(TABLE, 0, max_bytes=1250, min_cosine=0.99)


def test_bytes_of_the_rest_follow_from_the_smallest_bundle() -> None:
    """Guards against a bound on the layers alone: 10 MiB are asked of the whole bundle."""
    assert Bounds(max_bytes=3000).plan(TABLE, 1700).bytes <= 3000
    with pytest.raises(GmrtError, match="smaller than 1700"):
        Bounds(max_bytes=1600).plan(TABLE, 1700)


COSINES = st.floats(0.5, 1.0)


@given(
    st.lists(st.tuples(st.integers(4, 10**6), COSINES, COSINES), min_size=1, max_size=12),
    st.floats(0.0, 1.0),
    st.floats(0.5, 1.0),
)
def test_any_plan_meets_its_bound(layers: list[tuple[int, float, float]], size: float, cosine: float) -> None:
    """Guards against a walk that stops a layer too early, whatever the table."""
    table = [
        LayerScan(
            "decoder",
            f"l{i}",
            (
                Choice(FLOAT, count, 1.0, 0.0),
                Choice(INT8, count // 4, max(a, b), 0.0),
                Choice(INT4, count // 8, min(a, b), 0.0),
            ),
        )
        for i, (count, a, b) in enumerate(layers)
    ]
    smallest, largest = plan(table, 0).bytes, sum(scan.choices[0].bytes for scan in table)
    bound = int(smallest + size * (largest - smallest))
    assert plan(table, 0, max_bytes=bound).bytes <= bound
    assert plan(table, 0, min_cosine=cosine).cosine >= cosine

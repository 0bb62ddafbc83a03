"""Measuring a graph on images."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gmrt.calibration.measure import PIXELS, measure
from gmrt.export.graph import GraphBuilder
from gmrt.runtime.errors import GmrtError


def doubled() -> ir.Model:
    """Pixels [1, 3, 4, 4] → "twice" = 2 · pixels → "out" = twice + twice."""
    graph = GraphBuilder()
    pixels = graph.input(PIXELS, "float32", ("batch", 3, 4, 4))
    twice = graph.op("Mul", "twice", pixels, graph.constant("two", np.array(2.0, np.float32)))
    out = graph.op("Add", "sum", twice, twice)
    return graph.model("doubled", [pixels], [graph.output(out, "out", "float32", ("batch", 3, 4, 4))])


def test_record_says_what_was_seen() -> None:
    """Guards against ranges of another tensor, and against a record that cannot be told from another set's."""
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1, 1, (3, 4, 4)).astype(np.float32) for _ in range(5)]
    model = doubled()
    record = measure(model, {PIXELS: 1, "twice": None}, images, source="s", seed=1, checkpoint="c")
    assert record.samples == 5
    assert (record.source, record.seed, record.checkpoint) == ("s", 1, "c")
    twice = 2 * np.stack(images)
    assert record.tensors["twice"].lo == pytest.approx(twice.min(), rel=0.05)
    assert record.tensors["twice"].hi == pytest.approx(twice.max(), rel=0.05)
    np.testing.assert_allclose(record.tensors[PIXELS].mean, np.stack(images).mean(axis=(0, 2, 3)), rtol=1e-3)
    other = measure(model, {"twice": None}, images[::-1], source="s", seed=1, checkpoint="c")
    assert other.data_hash != record.data_hash
    assert [value.name for value in model.graph.outputs] == ["out"]  # the graph that is exported stays as it was


def test_broken_activations_are_named() -> None:
    """Guards against a calibration that swallows an overflow of the checkpoint."""
    image = np.full((3, 4, 4), 3e38, np.float32)
    with pytest.raises(GmrtError, match="not finite in twice"):
        measure(doubled(), {"twice": None}, [image], source="s", seed=0, checkpoint="c")

"""The calibration record on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gmrt.calibration.record import DecoderStats, InputStats, Record, TensorRange, load_record, product_name
from gmrt.runtime.errors import GmrtError

RECORD = Record(
    method="m",
    source="a folder",
    seed=3,
    samples=12,
    data_hash="aa",
    checkpoint="bb",
    tensors={"tower.stem": TensorRange(0.0, 6.0, (0.5, 1.25)), "x": TensorRange(-1.5, 2.0)},
    sensors={"colour uint8": 12},
    strangeness=0.3,
)
SHIPPED = Path(__file__).parents[2] / "models" / "georsmllm-nano" / "calibration.json"


def with_decoder(vector: np.ndarray) -> Record:
    """A record of a decoder of one layer whose statistics are all ``vector``."""
    inputs = {"layers.0.mlp.gate_proj_up_proj": InputStats(vector, vector / 3)}
    cache = ((vector.reshape(1, -1), vector.reshape(1, -1) / 2),)
    return replace(RECORD, decoder=DecoderStats("words", 2, 70, "cc", inputs, cache))


def test_saved_record_is_read_back_whole(tmp_path: Path) -> None:
    """Guards against a field that is written and not read; one tensor stands on each line, for people."""
    path = tmp_path / "calibration.json"
    RECORD.save(path)
    assert load_record(path) == RECORD
    lines = path.read_text().splitlines()
    assert sum('"tower.stem"' in line and '"mean"' in line for line in lines) == 1


@given(hnp.arrays(np.float32, st.integers(1, 90), elements=st.floats(0, 1e6, width=32)))
@settings(max_examples=25, deadline=None)
def test_vectors_are_kept_to_a_thousandth_of_what_they_are(tmp_path_factory: object, vector: np.ndarray) -> None:
    """Guards against shares that underflow or take another order, and a file that changes when it is saved again."""
    path = tmp_path_factory.getbasetemp() / "record.json"  # type: ignore[attr-defined]
    with_decoder(vector).save(path)
    read = load_record(path)
    assert read.decoder is not None
    found = read.channels("model.layers.0.mlp.up_proj")
    near = {"rtol": 1e-3, "atol": 1e-7 * float(vector.max())}
    np.testing.assert_allclose(found.absmax, vector, **near)
    np.testing.assert_allclose(found.absmean, vector / 3, **near)
    key, value = read.kv(0)
    assert (key.shape, value.shape) == ((1, vector.size),) * 2
    np.testing.assert_allclose(key[0], vector, **near)
    np.testing.assert_allclose(value[0], vector / 2, **near)
    text = path.read_text()
    read.save(path)
    assert path.read_text() == text


def test_the_bundle_keeps_where_the_decoder_was_measured() -> None:
    """Guards against a manifest without the origin, or with half a megabyte of vectors."""
    summary = with_decoder(np.ones(4, np.float32)).summary()
    assert summary["decoder"] == {"source": "words", "samples": 2, "positions": 70, "data_hash": "cc"}
    assert (summary["sensors"], summary["strangeness"]) == ({"colour uint8": 12}, 0.3)
    assert len(json.dumps(summary)) < 500


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("layers.3.self_attn.v_proj", "layers.3.self_attn.q_proj_k_proj_v_proj"),
        ("model.layers.0.mlp.gate_proj", "layers.0.mlp.gate_proj_up_proj"),
        ("layers.0.mlp.gate_proj_up_proj", "layers.0.mlp.gate_proj_up_proj"),
        ("layers.0.mlp.down_proj", "layers.0.mlp.down_proj"),
        ("lm_head", "lm_head"),
    ],
)
def test_a_layer_finds_the_statistics_of_its_product(name: str, product: str) -> None:
    """Guards against a builder that finds no statistics because q, k and v are one product."""
    assert product_name(name) == product


def test_what_was_not_measured_is_said() -> None:
    """Guards against a traceback, or zeros, where a record has no statistics of a decoder or of a layer."""
    with pytest.raises(GmrtError, match="nothing of the decoder"):
        RECORD.channels("lm_head")
    record = with_decoder(np.ones(4, np.float32))
    with pytest.raises(GmrtError, match=r"layers\.9\.mlp\.up_proj"):
        record.channels("layers.9.mlp.up_proj")
    with pytest.raises(GmrtError, match="layer 1"):
        record.kv(1)


def test_the_record_of_the_shipped_checkpoint_is_read() -> None:
    """Guards against a release that cannot read what version 1 wrote."""
    record = load_record(SHIPPED)
    assert (record.samples, record.sensors, record.strangeness, record.decoder) == (64, {}, None, None)
    assert record.tensors["tower.blocks.0.depthwise"].hi == 6.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 3}',
        '{"version": 1, "tensors": 3}',
        '"max"|"least"',
        '"shape": [1, 4]|"shape": [5]',
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """Guards against a traceback for a file that is JSON of another kind, or a record that somebody cut."""
    path = tmp_path / "calibration.json"
    old, _, new = text.partition("|")
    if new:
        with_decoder(np.ones(4, np.float32)).save(path)
        assert old in path.read_text()
        text = path.read_text().replace(old, new)
    path.write_text(text)
    with pytest.raises(GmrtError, match="calibrate again"):
        load_record(path)
    with pytest.raises(GmrtError, match="calibrate again"):
        load_record(tmp_path / "missing.json")

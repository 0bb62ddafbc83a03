"""The integer tower: how near it stays, and that it is really integer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from gmrt.calibration.images import open_images
from gmrt.calibration.measure import measure
from gmrt.calibration.record import Record, TensorRange
from gmrt.export.quantize import observed_tensors, quantise_tower
from gmrt.export.tower import build_tower
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import build
from gmrt.runtime.backends.machine import int8_products_saturate
from gmrt.runtime.errors import GmrtError

RANGE = (-1.0, 1.0)


class Calibrated(NamedTuple):
    """A float tower, its record, its integer form, and images [4, 3, H, W] that it was not measured on."""

    kind: str
    graph: ir.Model
    record: Record
    integer: bytes
    images: np.ndarray


@pytest.fixture(scope="module", params=["lite", "siglip"])
def calibrated(request: pytest.FixtureRequest, pictures: Path) -> Calibrated:
    """A tower measured on eight scenes."""
    if request.param == "lite":
        model = GeoRSMLLMForConditionalGeneration.from_pretrained(request.getfixturevalue("nano"), dtype=torch.float32)
    else:
        model = build("tiny-llama")[0]
    images = np.stack(list(open_images(pictures, model.config.image_spec).pixels(model.config.image_spec)))
    graph = build_tower(model.config, {name: value.numpy() for name, value in model.eval().state_dict().items()})
    record = measure(graph, observed_tensors(graph), images[:8], source="", seed=0, checkpoint="")
    integer = quantise_tower(graph, record, RANGE).SerializeToString()
    return Calibrated(request.param, graph, record, integer, images[8:])


def embed(model: bytes, pixels: np.ndarray, optimised: Path | None = None) -> np.ndarray:
    """Image embeddings as the runtime's session computes them."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if int8_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["image_embeds"], {"pixels": pixels})[0]


def test_integer_tower_is_near_the_float_one(calibrated: Calibrated) -> None:
    """Guards against a scale, an axis or a zero point of the wrong tensor."""
    truth = embed(ir.to_proto(calibrated.graph).SerializeToString(), calibrated.images)
    got = embed(calibrated.integer, calibrated.images)
    cosine = (got * truth).sum() / np.linalg.norm(got) / np.linalg.norm(truth)
    assert cosine > 0.99
    assert np.linalg.norm(got) / np.linalg.norm(truth) == pytest.approx(1, abs=0.03)


def test_products_run_in_integer_kernels(calibrated: Calibrated, tmp_path: Path) -> None:
    """Guards against "INT8" that onnxruntime folds back to float: counted in the graph that it really runs."""
    file = tmp_path / "optimised.onnx"
    embed(calibrated.integer, calibrated.images[:1], file)
    ops = Counter(node.op_type for node in onnx.load(file).graph.node)
    if calibrated.kind == "lite":
        # All 49 convolutions of the tower, three of its neck and twelve of its pyramid but the two that open it.
        assert (ops["QLinearConv"] + ops["Conv"], ops["Conv"], ops["Clip"]) == (64, 2, 0)
        assert ops["QLinearAdd"] >= 14
        assert ops["MatMulIntegerToFloat"] == 2
    else:
        assert ops["QLinearConv"] + ops["ConvInteger"] == 1
        assert ops["MatMulIntegerToFloat"] == 2 * 4 + 2
        assert ops["MatMul"] + ops["FusedMatMul"] == 2 * 2  # scores and mixing of each layer


def test_corrected_biases_keep_the_mean(calibrated: Calibrated) -> None:
    """Guards against a correction of the wrong sign or channel: without the means the embeddings drift further."""
    if calibrated.kind != "lite":
        pytest.skip("the drift adds up only where many convolutions follow each other")
    tensors = {n: TensorRange(t.lo, t.hi, (0.0,) * len(t.mean)) for n, t in calibrated.record.tensors.items()}
    blind = quantise_tower(calibrated.graph, replace(calibrated.record, tensors=tensors), RANGE)
    truth = embed(ir.to_proto(calibrated.graph).SerializeToString(), calibrated.images)

    def error(model: bytes) -> float:
        return float(np.linalg.norm(embed(model, calibrated.images) - truth) / np.linalg.norm(truth))

    assert error(calibrated.integer) < 0.9 * error(blind.SerializeToString())


def test_kernels_without_vnni_are_exact(calibrated: Calibrated) -> None:
    """Guards against sums that pass 16 bits: unsigned weights, which cannot, give the same bits (trivial with VNNI)."""
    found = []
    for precise in ("0", "1"):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", precise)
        session = ort.InferenceSession(calibrated.integer, options, providers=["CPUExecutionProvider"])
        found.append(session.run(None, {"pixels": calibrated.images}))
    for plain, exact in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, exact)


def test_record_of_another_model_is_refused(calibrated: Calibrated) -> None:
    """Guards against ranges that are silently made up for a tensor that was not measured."""
    graph, record = calibrated.graph, calibrated.record
    lost = "connector.gelu"
    tensors = {name: value for name, value in record.tensors.items() if name != lost}
    with pytest.raises(GmrtError, match=r"no range for connector\.gelu"):
        quantise_tower(graph, replace(record, tensors=tensors), RANGE)


def test_names_are_those_of_the_checkpoint(calibrated: Calibrated) -> None:
    """Guards against records that only the PyTorch release that wrote them can read: no numbered names."""
    names = set(observed_tensors(calibrated.graph))
    assert all(name in ("pixels", "image_places") or name.startswith(("tower.", "connector.")) for name in names)
    first = {"lite": "tower.blocks.0.depthwise", "siglip": "tower.siglip.encoder.layers.0.layer_norm1"}[calibrated.kind]
    assert first in names

"""The constructed tower against the PyTorch one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from gmrt.export.tower import build_tower
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import PRESETS, build
from gmrt.runtime.errors import CheckpointError


def run(graph: ir.Model, pixels: np.ndarray) -> list[np.ndarray]:
    """Image embeddings of a float tower, and its places where it has a pyramid."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})


@pytest.fixture(scope="module", params=["lite", "siglip"])
def model(request: pytest.FixtureRequest, lite: Any) -> GeoRSMLLMForConditionalGeneration:
    """A random model with norms and biases that are not at their defaults."""
    made = lite if request.param == "lite" else build("tiny-llama")[0]
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.7, 1.3)
            elif name.endswith("bias"):
                parameter.normal_(std=0.2)
    return made


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 3e-2)])
def test_tower_is_the_models(
    model: GeoRSMLLMForConditionalGeneration, dtype: str, tolerance: float, fused: bool
) -> None:
    """Guards against a wrong padding, fold, shuffle, scale, head order or activation; for one image and for three."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    graph = build_tower(model.config, weights, dtype, fused=fused)
    spec = model.config.image_spec
    for batch in (1, 3):
        pixels = torch.randn(batch, 3, spec.height, spec.width)
        with torch.no_grad():
            truth = [part.numpy() for part in model.see(pixels) if part is not None]
        got = run(graph, pixels.numpy())
        assert got[0].shape == (batch, spec.tokens, model.config.text_config.hidden_size)
        for ours, theirs in zip(got, truth, strict=True):
            assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < tolerance


def test_only_a_fused_tower_has_operators_of_onnxruntime(model: GeoRSMLLMForConditionalGeneration) -> None:
    """Guards against a contrib operator in a graph for TensorRT, and a fused tower that is the plain one."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    plain, fused = (build_tower(model.config, weights, fused=f) for f in (False, True))
    assert not any(node.domain for node in plain.graph)
    kinds = {node.op_type for node in fused.graph if node.domain}
    transformer = model.config.vision_config.model_type == "siglip_vision_model"
    assert kinds == ({"FastGelu", "MultiHeadAttention"} if transformer else {"FastGelu"})


def test_a_tensor_that_is_missing_is_named(model: GeoRSMLLMForConditionalGeneration) -> None:
    """Guards against a KeyError where a checkpoint does not fit its configuration."""
    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "connector.fc1.bias"}
    with pytest.raises(CheckpointError, match=r"connector\.fc1\.bias"):
        build_tower(model.config, weights)


def test_an_unknown_tower_is_refused_by_name() -> None:
    """Guards against a guess where a tower has another structure."""
    config = build("tiny-llama")[0].config
    config.vision_config.model_type = "clip_vision_model"
    with pytest.raises(CheckpointError, match="clip_vision_model"):
        build_tower(config, {})


def test_presets_have_towers_that_are_covered_here() -> None:
    """Guards against a preset whose tower nothing above has tried."""
    kinds = {preset["vision_config"]["model_type"] for preset in PRESETS.values()}
    assert kinds == {"efficientnet_lite", "siglip_vision_model"}

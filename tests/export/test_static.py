"""Static W8A8: known answers of its layers, and smoothing that changes no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from gmrt.calibration.decoder import Sample, measure_decoder
from gmrt.calibration.record import Record, TensorRange
from gmrt.export.decoder import DecoderSpec, build_decoder, rope_tables
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import float_linear
from gmrt.export.smooth import DOWN, GATE_UP, HEAD, O_PROJ, QKV, smooth, smooth_head
from gmrt.export.static import StaticLayers, quantise_weight
from gmrt.export.w8a8 import ROUGH, decoder_ranges, input_absmax, residual_errors, search_smoothing, static_decoder
from gmrt.runtime.errors import GmrtError

RNG = np.random.default_rng(0)


def run(graph: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first output, on kernels that do not saturate."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def rounded(x: np.ndarray, top: float) -> np.ndarray:
    """Values through symmetric codes."""
    step = np.float32(top / 127)
    return np.clip(np.rint(x / step), -128, 127) * step


def test_linear_is_the_known_answer() -> None:
    """Guards against a scale on the wrong axis, codes that wrap round, and a bias that is lost or quantised."""
    x = RNG.normal(size=(3, 8)).astype(np.float32) * 2
    weight = (RNG.normal(size=(5, 8)) * RNG.uniform(0.1, 10, (5, 1))).astype(np.float32)
    bias, mean = RNG.normal(size=5).astype(np.float32), RNG.normal(size=8)
    codes, scale = quantise_weight(weight)
    assert (codes.dtype, int(np.abs(codes).max())) == (np.int8, 127)
    kept = codes * scale[:, None]
    for means, shift in (((), 0), (tuple(mean), (weight - kept) @ mean)):
        graph, layers = GraphBuilder(), StaticLayers({"x": TensorRange(-3, 2, means)})
        value = graph.input("x", "float32", ("n", 8))
        y = layers.linear(graph, "layer", value, weight, bias)
        found = run(graph.model("g", [value], [graph.output(y, "y", "float32", ("n", 5))]), {"x": x})
        np.testing.assert_allclose(found, rounded(x, 3) @ kept.T + bias + shift, rtol=1e-4, atol=1e-4)


def test_grouped_convolution_is_the_known_answer() -> None:
    """Guards against means that are taken from another group, and against a weight scaled along its inputs."""
    x = np.abs(RNG.normal(size=(1, 4, 6, 6))).astype(np.float32)
    weight, bias = RNG.normal(size=(6, 2, 3, 3)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    mean = RNG.uniform(size=4)
    graph, layers = GraphBuilder(), StaticLayers({"x": TensorRange(0, 3, tuple(mean))})
    value = graph.input("x", "float32", (1, 4, 6, 6))
    y = layers.convolution(graph, "layer", value, weight, bias, {"kernel_shape": [3, 3], "group": 2})
    found = run(graph.model("g", [value], [graph.output(y, "y", "float32", (1, 6, 4, 4))]), {"x": x})
    codes, scale = quantise_weight(weight)
    kept = codes * scale[:, None, None, None]
    lost = (weight - kept).sum(axis=(2, 3))
    shift = np.concatenate([lost[:3] @ mean[:2], lost[3:] @ mean[2:]])
    truth = torch.nn.functional.conv2d(
        torch.from_numpy(rounded(x, 3)),
        torch.from_numpy(kept),
        torch.from_numpy((bias + shift).astype(np.float32)),
        groups=2,
    )
    np.testing.assert_allclose(found, truth.numpy(), rtol=1e-4, atol=1e-4)


def test_readers_share_one_pair() -> None:
    """Guards against a residual sum that reads floats beside a product that reads codes: an engine cannot fuse them."""
    graph, layers = GraphBuilder(), StaticLayers({"x": TensorRange(-1, 1)})
    value = graph.input("x", "float32", ("n", 4))
    assert layers.shared(graph, value) is layers.shared(graph, value)
    layers.linear(graph, "a", value, np.eye(4, dtype=np.float32), None)
    model = graph.model("g", [value], [])
    assert [node.op_type for node in model.graph].count("QuantizeLinear") == 1
    with pytest.raises(GmrtError, match="no range for other"):
        layers.shared(graph, graph.input("other", "float32", ("n", 4)))


@pytest.fixture(scope="module")
def model() -> Any:
    """A random decoder with biases on q, k and v, and outliers in two channels of each norm."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    made = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
                parameter[:2] *= 40
            elif parameter.ndim > 1:
                parameter.normal_(std=0.15)
                if name.endswith(
                    ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
                ):
                    parameter[:, :2] /= 40
            else:
                parameter.normal_(std=0.1)
    return made


def seen_by(decoder: Any, embeds: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Largest magnitudes of the products' inputs, from a calibration record of nothing else."""
    samples = [Sample(tuple(range(len(sequence))), torch.from_numpy(sequence)[None]) for sequence in embeds]
    record = Record("", "", 0, 0, "", "", {}, decoder=measure_decoder(decoder, samples, "noise"))
    return input_absmax(record, len(decoder.model.layers))


@pytest.fixture(scope="module")
def parts(model: Any) -> tuple[DecoderSpec, dict[str, np.ndarray], Any, dict[str, np.ndarray], list[np.ndarray]]:
    """Geometry, weights, rotary tables, the largest inputs, and sequences."""
    spec, rotary = DecoderSpec.from_config(model.config), model.model.rotary_emb
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    embeds = [RNG.normal(size=(20, 64)).astype(np.float32) for _ in range(4)]
    rope = rope_tables(rotary.inv_freq.numpy(), 1.0, spec.max_length)
    return spec, weights, rope, seen_by(model, embeds), embeds


def test_absmax_is_of_every_product(parts: Any) -> None:
    """Guards against a product without a range, found out when the graph is built."""
    spec, _, _, absmax, _ = parts
    assert set(absmax) == {f"layers.{i}.{name}" for i in range(3) for name in (QKV, O_PROJ, GATE_UP, DOWN)}
    assert absmax[f"layers.0.{DOWN}"].shape == (96,)
    assert set(decoder_ranges(absmax, spec.layers)) >= {"layers.0.attention", "layers.2.mixed_at", "layers.1.mlp.gated"}


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_smoothing_changes_no_model(model: Any, parts: Any, alpha: float) -> None:
    """Guards against a scale that is folded into one side only, and statistics that no longer fit the weights."""
    spec, weights, _, absmax, embeds = parts
    made, seen = smooth(weights, absmax, spec.layers, alpha)
    other = Qwen2ForCausalLM(model.config).eval()
    other.load_state_dict({name: torch.from_numpy(array) for name, array in made.items()})
    with torch.no_grad():
        one, two = (m(inputs_embeds=torch.from_numpy(embeds[0])[None]).logits.numpy() for m in (model, other))
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-3 * np.abs(one).max())
    measured = seen_by(other, embeds)
    for name, array in seen.items():
        np.testing.assert_allclose(measured[name], array, rtol=1e-2, atol=1e-5)
    assert np.array_equal(weights["model.layers.0.mlp.up_proj.weight"], parts[1]["model.layers.0.mlp.up_proj.weight"])
    # What was uneven is less so.
    uneven = [x[f"layers.1.{GATE_UP}"] for x in (absmax, seen)]
    assert np.max(uneven[1]) / np.median(uneven[1]) < 0.5 * np.max(uneven[0]) / np.median(uneven[0])


def test_a_smoothed_head_says_the_same(model: Any, parts: Any) -> None:
    """Guards against a head whose input is not divided by what its weights were multiplied with, tied or not.

    The hidden state that goes out with the logits must stay as it was: other heads read it.
    """
    spec, weights, rope, _, embeds = parts
    samples = [Sample(tuple(range(len(sequence))), torch.from_numpy(sequence)[None]) for sequence in embeds]
    absmax = measure_decoder(model, samples, "noise").inputs[HEAD].absmax
    plain = float_linear("float32")
    tied = {name: array for name, array in weights.items() if name != "lm_head.weight"}
    for given in (weights, tied):
        made = smooth_head(given, {HEAD: absmax}, 0.5)
        assert not np.array_equal(made["lm_head.weight"], weights["lm_head.weight"])
        one, two = (
            run_decoder(build_decoder(spec, each, rope, linear=plain, head=plain), spec, embeds[0])
            for each in (given, made)
        )
        for name in ("logits", "last_hidden"):
            np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-4 * np.abs(one[name]).max())


def run_decoder(graph: ir.Model, spec: DecoderSpec, embeds: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and hidden state of the last position, in the onnxruntime dialect."""
    length = len(embeds)
    past = np.zeros((1, spec.kv_heads, length, spec.head_dim), np.float32)
    feeds = {
        "inputs_embeds": embeds[None],
        "seqlens_k": np.array([length - 1], np.int32),
        "total_length": np.array([length], np.int32),
        "logits_at": np.array([[length - 1]], np.int64),
        **{f"past_{kind}.{i}": past for i in range(spec.layers) for kind in ("key", "value")},
    }
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(("logits", "last_hidden"), session.run(["logits", "last_hidden"], feeds), strict=True))


def test_search_finds_that_smoothing_helps(model: Any, parts: Any) -> None:
    """Guards against a search that keeps the first, or that compares with something else than the float decoder."""
    spec, weights, rope, absmax, embeds = parts
    graph, found = search_smoothing(spec, model, weights, rope, absmax, embeds)
    assert found.alpha is not None
    assert found.tried[found.alpha] == min(found.tried.values()) == found.divergence
    assert found.tried[found.alpha] < 0.5 * found.tried[None]
    assert found.to_dict()["tried"][0]["alpha"] is None
    assert (dict(found.floats), integer_products(graph)) == ({}, 4 * spec.layers)


def test_what_one_scale_cannot_serve_stays_float(model: Any, parts: Any) -> None:
    """Guards against a rule by name, and one that sees the outlier and leaves the product integer all the same."""
    spec, weights, rope, absmax, embeds = parts
    name = f"layers.1.{DOWN}"
    spiked = {**absmax, name: absmax[name].copy()}
    spiked[name][7] *= 1e6  # one position in thousands
    graph, found = search_smoothing(spec, model, weights, rope, spiked, embeds)
    assert set(found.floats) == {name}
    assert found.floats[name] > ROUGH
    assert integer_products(graph) == 4 * spec.layers - 1
    assert found.divergence < found.tried[found.alpha]
    assert found.to_dict()["float"].keys() == {name}


def test_residual_errors_are_the_known_answer(model: Any, parts: Any) -> None:
    """Guards against an error of other weights than the graph has, and one that is of another layer."""
    spec, weights, _, absmax, embeds = parts
    made, seen = smooth(weights, absmax, spec.layers, 0.5)
    found = residual_errors(model, embeds[:1], made, seen, absmax)
    assert set(found) == {f"layers.{i}.{product}" for i in range(spec.layers) for product in (O_PROJ, DOWN)}
    kept: dict[str, np.ndarray] = {}
    layer = model.model.layers[1]  # behind the last one the norm of the model would stand in hidden states
    handle = layer.self_attn.o_proj.register_forward_pre_hook(lambda _m, args: kept.update(x=args[0][0].numpy()))
    with torch.no_grad():
        out = model(inputs_embeds=torch.from_numpy(embeds[0])[None], output_hidden_states=True)
    handle.remove()
    name, weight = f"layers.1.{O_PROJ}", weights["model.layers.1.self_attn.o_proj.weight"]
    codes, scale = quantise_weight(weight)
    ours = rounded(kept["x"], float(absmax[name].max())) @ (codes * scale[:, None]).T
    error = np.linalg.norm(ours - kept["x"] @ weight.T, axis=1)
    share = error / np.linalg.norm(out.hidden_states[2][0].numpy(), axis=1)
    assert found[name] == pytest.approx(float(np.median(share)), rel=1e-3)


def integer_products(graph: ir.Model) -> int:
    """How many products read codes on both sides."""
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    return sum(all(v is not None and "quantised" in str(v.name) for v in n.inputs) for n in products)


def test_every_product_of_the_decoder_is_integer(parts: Any) -> None:
    """Guards against a layer that stays float without a word: all but the head and attention's own products."""
    spec, weights, rope, absmax, _ = parts
    model = static_decoder(spec, weights, rope, absmax, 0.5)
    graph = model.graph
    assert integer_products(model) == 4 * spec.layers
    assert sum(node.op_type == "MatMul" for node in graph) == 8 * spec.layers + 1
    zeros = [v.const_value.numpy() for name, v in graph.initializers.items() if name.endswith("zero") and v.const_value]
    assert zeros
    assert not any(zero.any() for zero in zeros)

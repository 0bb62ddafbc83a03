"""The constructed decoder against transformers' own, in both dialects, for every kind of model that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from gmrt.export.decoder import CacheScales, DecoderSpec, build_decoder, read_cache_scales, rope_tables
from gmrt.export.graph import IR_VERSION, OPSET, GraphBuilder
from gmrt.export.linear import HEAD_ROWS, float_linear
from gmrt.export.precision import RECIPES, STANDARD
from gmrt.export.standard import build_standard_decoder
from gmrt.runtime.backends.int8_cache import int8_cache_works
from gmrt.runtime.backends.standard import places
from gmrt.runtime.errors import CheckpointError

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 80,  # not a multiple of the block of 64
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
MODELS = {
    "llama-tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama-biases": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, tie_word_embeddings=False, attention_bias=True, mlp_bias=True)
    ),
    "llama-scaled": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False, rope_parameters=LINEAR)),
}
STANDARD_PREFIX = "standard-"
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.06, "int4": 0.5, "standard-fp32": 1e-5, "standard-fp16": 5e-3}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    """A random model in which no bias is zero and no norm is one."""
    torch.manual_seed(0)
    made = MODELS[request.param]().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif "norm" in name:
                parameter.normal_(1, 0.2)
            else:
                parameter.normal_(std=0.1)
    return made


def build(model: Any, precision: str, scales: CacheScales | None = None, **changes: np.ndarray) -> ir.Model:
    """The graph of a transformers model; ``changes`` replace weights, ``scales`` ask for a cache of 8 bits."""
    spec, rotary = DecoderSpec.from_config(model.config), model.model.rotary_emb
    weights = {name: value.numpy() for name, value in model.state_dict().items()} | changes
    rope = rope_tables(rotary.inv_freq.numpy(), rotary.attention_scaling, spec.max_length)
    if precision.startswith(STANDARD_PREFIX):
        recipe = STANDARD[precision.removeprefix(STANDARD_PREFIX)]
        return build_standard_decoder(
            spec, weights, rope, linear=recipe.linear, head=recipe.head, product=recipe.activations
        )
    recipe = RECIPES[precision]
    return build_decoder(
        spec,
        weights,
        rope,
        linear=recipe.linear,
        head=recipe.head,
        dtype=recipe.activations,
        cache_scales=scales,
    )


class Session:
    """The graph on onnxruntime with one cache, fed in chunks."""

    def __init__(self, graph: ir.Model, capacity: int = 32) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        data = ir.to_proto(graph).SerializeToString()
        self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        past = [i for i in self.session.get_inputs() if i.name.startswith(("past_key", "past_value"))]
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
        self.cache = {i.name: np.zeros((1, i.shape[1], capacity, i.shape[3]), dtypes[i.type]) for i in past}
        self.length = 0

    def run(self, embeds: np.ndarray, logits_at: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Append embeds [S, D]; returns logits and last hidden states at positions of this chunk."""
        before, steps = self.length, len(embeds)
        self.length += steps
        feeds = {"inputs_embeds": embeds[None], "logits_at": np.array([logits_at], np.int64)}
        if any(value.name == "new_mask" for value in self.session.get_inputs()):
            return self._run_standard(feeds, before, steps)
        feeds |= {
            "seqlens_k": np.array([self.length - 1], np.int32),
            "total_length": np.array([self.length], np.int32),
        }
        presents = [name.replace("past", "present") for name in self.cache]
        logits, hidden, *cache = self.session.run(["logits", "last_hidden", *presents], feeds | self.cache)
        self.cache = dict(zip(self.cache, cache, strict=True))
        return logits[0], hidden[0]

    def _run_standard(self, feeds: dict[str, np.ndarray], before: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The other dialect returns new rows, which the host writes."""
        capacity = next(iter(self.cache.values())).shape[2]
        feeds |= places(np.array([before], np.int32), steps, capacity)
        logits, hidden, rows = self.session.run(["logits", "last_hidden", "new_rows"], feeds | self.cache)
        for name, buffer in self.cache.items():
            layer, kind = int(name.rpartition(".")[2]), int(name.startswith("past_value"))
            buffer[:, :, before : before + steps] = rows[layer, kind]
        return logits[0], hidden[0]


def relative(got: np.ndarray, truth: np.ndarray) -> float:
    """Size of the difference over the size of the truth."""
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("precision", TOLERANCE)
def test_chunks_through_the_cache_are_the_model(model: Any, precision: str) -> None:
    """Guards against a wrong rotary table, head order, bias, norm or cache position: prefill, continuation, step."""
    embeds = torch.randn(1, 19, SIZES["hidden_size"])
    with torch.no_grad():
        truth = model(inputs_embeds=embeds, output_hidden_states=True)
    session = Session(build(model, precision))
    parts = [session.run(embeds[0, a:b].numpy(), list(range(b - a))) for a, b in ((0, 8), (8, 16), (16, 17), (17, 19))]
    logits, hidden = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert relative(logits, truth.logits[0].numpy()) < TOLERANCE[precision]
    assert relative(hidden, truth.hidden_states[-1][0].numpy()) < TOLERANCE[precision]


@pytest.mark.skipif(not int8_cache_works(), reason="this onnxruntime has no right cache of 8 bits")
def test_a_cache_of_8_bits_holds_the_codes_of_rotated_keys(model: Any, tmp_path: Path) -> None:
    """Guards against scales of another layer, head or part, or of keys before their rotation; through all chunks."""
    embeds = torch.randn(1, 19, SIZES["hidden_size"])
    with torch.no_grad():
        truth = model(inputs_embeds=embeds, use_cache=True)
    layers = truth.past_key_values.layers
    scales = [tuple(part[0].abs().amax(1).numpy() / 127 for part in (layer.keys, layer.values)) for layer in layers]
    graph = build(model, "fp32", scales)
    session = Session(graph)
    parts = [
        session.run(embeds[0, a:b].numpy(), list(range(b - a)))[0] for a, b in ((0, 8), (8, 16), (16, 17), (17, 19))
    ]
    assert relative(np.concatenate(parts), truth.logits[0].numpy()) < 0.03
    ir.save(graph, tmp_path / "decoder.onnx")
    found = read_cache_scales(tmp_path / "decoder.onnx")
    for number, layer in enumerate(layers):
        for part, exact in (("key", layer.keys), ("value", layer.values)):
            codes = session.cache[f"past_{part}.{number}"]
            assert codes.dtype == np.int8
            back = codes[0, :, :19] * found[f"{part}.{number}"]
            assert relative(back, exact[0].numpy()) < 0.03


@pytest.mark.parametrize("precision", ["fp32", "standard-fp32"])
def test_positions_that_are_asked_for_are_the_same_rows(model: Any, precision: str) -> None:
    """Guards against a gather that mixes rows up: any choice and order of positions, in a continuation, and none."""
    embeds = np.random.default_rng(0).standard_normal((12, SIZES["hidden_size"])).astype(np.float32)
    graph = build(model, precision)
    whole, _ = Session(graph).run(embeds, list(range(12)))
    session = Session(graph)
    some, _ = session.run(embeds[:7], [6, 0, 3])
    np.testing.assert_allclose(some, whole[[6, 0, 3]], atol=1e-5)
    none, _ = session.run(embeds[7:11], [])
    assert none.shape == (0, SIZES["vocab_size"])
    last, _ = session.run(embeds[11:], [0])
    np.testing.assert_allclose(last[0], whole[11], atol=1e-5)


@pytest.mark.parametrize("most", [32, 33, 95, 96])
@pytest.mark.parametrize("types", [("float32", None), ("float16", "float32")])
def test_a_split_head_says_the_same(model: Any, most: int, types: tuple[str, str | None]) -> None:
    """Guards against words that are left out, twice, or at another place where a large vocabulary is split."""
    spec, rotary = DecoderSpec.from_config(model.config), model.model.rotary_emb
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    rope = rope_tables(rotary.inv_freq.numpy(), rotary.attention_scaling, spec.max_length)
    embeds = np.random.default_rng(0).standard_normal((12, SIZES["hidden_size"])).astype(np.float32)
    plain = float_linear("float32")
    found = []
    for limit in (None, most):
        graph = build_standard_decoder(spec, weights, rope, linear=plain, head=float_linear(*types, most=limit))
        parts = [node for node in graph.graph if node.op_type == "MatMul" and node.name.startswith("lm_head")]
        assert len(parts) == (1 if limit is None else -(-SIZES["vocab_size"] // limit))
        assert max(part.inputs[1].shape[1] for part in parts) <= (limit or SIZES["vocab_size"])
        found.append(Session(graph).run(embeds, list(range(12)))[0])
    exact = types[0] == "float32"
    # Joined parts are rounded to half, where a CPU leaves the cast behind a single product out.
    np.testing.assert_allclose(found[0], found[1], rtol=0 if exact else 1e-3, atol=1e-5 if exact else 1e-3)
    assert not exact or (found[0].argmax(-1) == found[1].argmax(-1)).all()


def test_the_head_of_a_large_vocabulary_is_split_for_tensorrt() -> None:
    """Guards against one product of 150 000 words, for which an Orin Nano has no scratch memory."""
    for recipe in STANDARD.values():
        graph = GraphBuilder()
        x = graph.input("norm", "float32", (1, 1, 2))
        logits = recipe.head(graph, "lm_head", x, np.zeros((151_936, 2), np.float32), None)
        made = graph.model("head", [x], [graph.output(logits, "logits", "float32", (1, 1, 151_936))])
        parts = [node.inputs[1].shape for node in made.graph if node.op_type == "MatMul"]
        assert [shape[1] for shape in parts] == [HEAD_ROWS] * 4 + [151_936 - 4 * HEAD_ROWS]


def test_graph_keeps_to_old_readers(model: Any) -> None:
    """Guards against an opset that onnxruntime on a Jetson or TensorRT does not read."""
    graph = build(model, "int8")
    assert graph.ir_version == IR_VERSION <= 9
    assert graph.opset_imports[""] == OPSET <= 19
    layers = SIZES["num_hidden_layers"]
    products = [node for node in graph.graph if node.op_type == "MatMulNBits"]
    assert len(products) == 4 * layers + 1
    assert all(node.attributes["accuracy_level"].as_int() == 4 for node in products)
    assert not [node for node in graph.graph if node.op_type == "MatMul"]


def test_missing_and_misshapen_tensors_are_named(model: Any) -> None:
    """Guards against a graph that is built from the wrong weights without a word."""
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        build(model, "fp32", **{"model.layers.1.mlp.down_proj.weight": np.zeros((3, 4), np.float32)})
    spec = DecoderSpec.from_config(model.config)
    with pytest.raises(CheckpointError, match=r"no tensor 'model\.layers\.0\.input_layernorm\.weight'"):
        build_decoder(
            spec,
            {},
            rope_tables(np.ones(8, np.float32), 1.0, 8),
            linear=RECIPES["fp32"].linear,
            head=RECIPES["fp32"].head,
        )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "dynamic"),
        ({"use_sliding_window": True}, "sliding window"),
    ],
)
def test_what_the_graph_cannot_express_is_refused_by_name(changes: dict[str, Any], word: str) -> None:
    """Guards against an export that leaves a feature of the checkpoint out."""
    config = LlamaConfig(**SIZES)
    for name, value in changes.items():
        object.__setattr__(config, name, value)
    with pytest.raises(CheckpointError, match=word):
        DecoderSpec.from_config(config)

"""A whole bundle made by hand, without torch, for tests of the runtime.

A small GroupQueryAttention decoder with random weights, a tower of one convolution and a trained byte-level tokenizer:
it answers nonsense, but every file is real, so the runtime runs as in the field.

`reference_logits` is the same decoder in plain numpy with a cache that grows by concatenation: the known answer for
everything that the shared buffers of `gmrt.runtime.cache` have to get right.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from gmrt.runtime.image import ImageSpec
from gmrt.runtime.locator import shapes_of
from gmrt.runtime.manifest import (
    COORDINATES,
    CacheGeometry,
    EmbeddingsSpec,
    FileEntry,
    GraphSpec,
    HeadsSpec,
    Manifest,
    TensorSpec,
    bundle_id,
)
from gmrt.runtime.points import TAGS
from gmrt.runtime.profiles import Profile, buckets_for, decoder_profiles, fixed_profile
from gmrt.runtime.prompt import PromptLayout
from gmrt.runtime.scalar import VALUE, Measure

Floats = npt.NDArray[np.float32]

CONTROL = ("<pad>", "<eos>", "<user>", "<assistant>", "<image>")
TEMPLATE = (
    "{%- for message in messages -%}<user>{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<image>{%- else -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)
CORPUS = (
    "describe the scene",
    "a harbour with many boats, and a residential area beside the river",
    "is there a forest? yes, there are trees; no, there is bare soil",
    "agricultural fields, airplane, baseball diamond, dense residential, storage tanks",
    "how many ships are there? twelve — naïve café, 船 船舶",
)


PLACES = 12
"""Numbers that a fabricated tower tells a locator of every place."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a fabricated model; the default is as small as the kernels allow."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    hidden: int = 64
    mlp: int = 96
    max_length: int = 256
    side: int = 32
    patch: int = 8
    cache_dtype: str = "float32"
    table: str = "int8"
    max_images: int = 2
    weights: str = "float32"
    extra: dict[str, Any] = field(default_factory=dict)
    measures: tuple[Measure, ...] = ()
    locator: bool = False
    standard: bool = False

    @property
    def image_tokens(self) -> int:
        """Embeddings per image."""
        return (self.side // self.patch) ** 2


def make_tokenizer(extra: tuple[str, ...] = ()) -> Tokenizer:
    """A byte-level BPE with the control tokens, the location tags and ``extra`` tokens, trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in (*TAGS, *extra)])
    return tokenizer


def make_metaspace_tokenizer() -> Tokenizer:
    """A BPE of the other family: spaces as ▁ before every word, characters outside the vocabulary as bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789▁.,;:?!-"),
        show_progress=False,
    )
    tokenizer.train_from_iterator([line for line in CORPUS if line.isascii()], trainer)
    # A trainer marks all it is given as special; bytes are ordinary tokens.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in CONTROL]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


def make_weights(shape: Shape, vocab: int, seed: int = 0) -> dict[str, Floats]:
    """Random weights by name; large enough that the answer depends on the prompt and on the cache."""
    rng = np.random.default_rng(seed)

    def dense(rows: int, columns: int) -> Floats:
        return (rng.normal(size=(rows, columns)) * 1.5 / np.sqrt(rows)).astype(np.float32)

    weights: dict[str, Floats] = {"head": dense(shape.hidden, vocab), "norm": np.ones(shape.hidden, np.float32)}
    for layer in range(shape.layers):
        weights |= {
            f"{layer}.norm1": rng.uniform(0.5, 1.5, shape.hidden).astype(np.float32),
            f"{layer}.norm2": rng.uniform(0.5, 1.5, shape.hidden).astype(np.float32),
            f"{layer}.q": dense(shape.hidden, shape.heads * shape.head_dim),
            f"{layer}.k": dense(shape.hidden, shape.kv_heads * shape.head_dim),
            f"{layer}.v": dense(shape.hidden, shape.kv_heads * shape.head_dim),
            f"{layer}.o": dense(shape.heads * shape.head_dim, shape.hidden),
            f"{layer}.up": dense(shape.hidden, shape.mlp),
            f"{layer}.down": dense(shape.mlp, shape.hidden),
        }
    angles = np.outer(np.arange(shape.max_length), 10000.0 ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim))
    return weights | {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def make_decoder(shape: Shape, weights: dict[str, Floats]) -> onnx.ModelProto:
    """The decoder in the bundle's ``onnxruntime`` dialect (GroupQueryAttention, shared past and present)."""
    half = shape.weights == "float16"
    work = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    cache = TensorProto.FLOAT16 if shape.cache_dtype == "float16" else TensorProto.FLOAT
    nodes: list[onnx.NodeProto] = []

    def add(op: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, list(outputs), domain=domain, **attributes))
        return outputs[0]

    hidden = "inputs_embeds"
    if half:
        hidden = add("Cast", [hidden], "embeds_half", to=work)
    for i in range(shape.layers):
        normed = add("SimplifiedLayerNormalization", [hidden, f"{i}.norm1"], f"{i}.n1", epsilon=1e-6)
        q, k, v = (add("MatMul", [normed, f"{i}.{n}"], f"{i}.{n}_rows") for n in "qkv")
        past = [f"past_key.{i}", f"past_value.{i}"]
        attended = add(
            "GroupQueryAttention",
            [q, k, v, *past, "seqlens_k", "total_length", "cos", "sin"],
            f"{i}.attended",
            f"present_key.{i}",
            f"present_value.{i}",
            domain="com.microsoft",
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
        )
        hidden = add("Add", [hidden, add("MatMul", [attended, f"{i}.o"], f"{i}.o_rows")], f"{i}.h1")
        normed = add("SimplifiedLayerNormalization", [hidden, f"{i}.norm2"], f"{i}.n2", epsilon=1e-6)
        wide = add("Tanh", [add("MatMul", [normed, f"{i}.up"], f"{i}.up_rows")], f"{i}.act")
        hidden = add("Add", [hidden, add("MatMul", [wide, f"{i}.down"], f"{i}.down_rows")], f"{i}.h2")
    normed = add("SimplifiedLayerNormalization", [hidden, "norm"], "normed", epsilon=1e-6)
    add("Unsqueeze", ["logits_at", "last_axis"], "logits_index")
    wanted = add("GatherND", [normed, "logits_index"], "wanted" if half else "last_hidden", batch_dims=1)
    add("MatMul", [wanted, "head"], "logits_half" if half else "logits")
    if half:
        add("Cast", ["wanted"], "last_hidden", to=TensorProto.FLOAT)
        add("Cast", ["logits_half"], "logits", to=TensorProto.FLOAT)

    value = helper.make_tensor_value_info
    rows: list[int | str] = ["batch", shape.kv_heads, "capacity", shape.head_dim]
    names = [f"{kind}.{i}" for i in range(shape.layers) for kind in ("key", "value")]
    inputs = [
        value("inputs_embeds", TensorProto.FLOAT, ["batch", "seq", shape.hidden]),
        value("seqlens_k", TensorProto.INT32, ["batch"]),
        value("total_length", TensorProto.INT32, [1]),
        value("logits_at", TensorProto.INT64, ["batch", "n"]),
        *(value(f"past_{name}", cache, rows) for name in names),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, ["batch", "n", weights["head"].shape[1]]),
        value("last_hidden", TensorProto.FLOAT, ["batch", "n", shape.hidden]),
        *(value(f"present_{name}", cache, rows) for name in names),
    ]
    dtype = np.float16 if half else np.float32
    initializers = [numpy_helper.from_array(array.astype(dtype), name) for name, array in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([-1], np.int64), "last_axis"))
    return model_of(helper.make_graph(nodes, "decoder", inputs, outputs, initializers))


def make_vision(shape: Shape, seed: int = 1) -> onnx.ModelProto:
    """A tower of one convolution: each patch of the image becomes one embedding; of another one, for a locator."""
    kernel = np.random.default_rng(seed).normal(size=(shape.hidden, 3, shape.patch, shape.patch)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["map"], strides=[shape.patch] * 2),
        helper.make_node("Reshape", ["map", "flat"], ["channels"]),
        helper.make_node("Transpose", ["channels"], ["image_embeds"], perm=[0, 2, 1]),
    ]
    axes: list[int | str] = ["batch", 3, shape.side, shape.side]
    outputs = [
        helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", shape.image_tokens, shape.hidden])
    ]
    constants = [
        numpy_helper.from_array(kernel / shape.patch, "kernel"),
        numpy_helper.from_array(np.array([0, shape.hidden, -1], np.int64), "flat"),
    ]
    if shape.locator:
        finer = np.random.default_rng(seed + 1).normal(size=(PLACES, 3, 2, 2)).astype(np.float32)
        nodes.append(helper.make_node("Conv", ["pixels", "finer"], ["image_places"], strides=[2, 2]))
        grid = ["batch", PLACES, shape.side // 2, shape.side // 2]
        outputs.append(helper.make_tensor_value_info("image_places", TensorProto.FLOAT, grid))
        constants.append(numpy_helper.from_array(finer, "finer"))
    graph = helper.make_graph(
        nodes, "vision", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, axes)], outputs, constants
    )
    return model_of(graph)


def heads_weight(shape: Shape) -> Floats:
    """What the fabricated regression head multiplies the last hidden state with, [D, K]."""
    return np.random.default_rng(9).normal(size=(shape.hidden, len(shape.measures))).astype(np.float32)


def make_heads(shape: Shape) -> onnx.ModelProto:
    """A regression head with random weights."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["last_hidden", "weight"], ["values"])],
        "heads",
        [helper.make_tensor_value_info("last_hidden", TensorProto.FLOAT, ["n", shape.hidden])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", len(shape.measures)])],
        [numpy_helper.from_array(heads_weight(shape), "weight")],
    )
    return model_of(graph)


def model_of(graph: onnx.GraphProto, opset: int = 17) -> onnx.ModelProto:
    """Close a graph."""
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def reference_logits(
    shape: Shape, weights: dict[str, Floats], embeds: Floats, past: list[tuple[Floats, Floats]] | None = None
) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """Run the decoder in numpy over embeds [S, D]; returns logits [S, V] and the cache, grown by concatenation."""
    length = 0 if past is None else past[0][0].shape[1]
    steps, dim = len(embeds), shape.head_dim
    present: list[tuple[Floats, Floats]] = []
    cos, sin = weights["cos"][length : length + steps], weights["sin"][length : length + steps]

    def norm(x: Floats, scale: Floats) -> Floats:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale

    def heads(x: Floats, count: int) -> Floats:
        return x.reshape(steps, count, dim).transpose(1, 0, 2)

    def rotate(x: Floats) -> Floats:
        left, right = x[..., : dim // 2], x[..., dim // 2 :]
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)

    mask = np.triu(np.full((steps, length + steps), -np.inf, np.float32), k=length + 1)
    x = embeds
    for i in range(shape.layers):
        rows = norm(x, weights[f"{i}.norm1"])
        query = rotate(heads(rows @ weights[f"{i}.q"], shape.heads))
        key, value = (
            rotate(heads(rows @ weights[f"{i}.k"], shape.kv_heads)),
            heads(rows @ weights[f"{i}.v"], shape.kv_heads),
        )
        if past is not None:
            key, value = np.concatenate([past[i][0], key], axis=1), np.concatenate([past[i][1], value], axis=1)
        present.append((key, value))
        group = shape.heads // shape.kv_heads
        scores = query @ np.repeat(key, group, axis=0).transpose(0, 2, 1) / np.sqrt(np.float32(dim)) + mask
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        attended = (weight / weight.sum(-1, keepdims=True)) @ np.repeat(value, group, axis=0)
        x = x + attended.transpose(1, 0, 2).reshape(steps, -1) @ weights[f"{i}.o"]
        x = x + np.tanh(norm(x, weights[f"{i}.norm2"]) @ weights[f"{i}.up"]) @ weights[f"{i}.down"]
    return norm(x, weights["norm"]) @ weights["head"], present


@dataclass(frozen=True)
class Fabricated:
    """A bundle on disk and what it was made from: weights and the exact float table [V, D]."""

    path: Path
    shape: Shape
    weights: dict[str, Floats]
    table: Floats


def make_bundle(
    directory: Path, shape: Shape | None = None, *, eos: tuple[int, ...] = (1,), seed: int = 0
) -> Fabricated:
    """Write a complete bundle into ``directory`` (created) and return it."""
    shape = shape or Shape()
    directory.mkdir(parents=True)
    tokenizer = make_tokenizer((VALUE,) if shape.measures else ())
    vocab = tokenizer.get_vocab_size()
    weights = make_weights(shape, vocab, seed)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    if shape.standard:
        from fabricate_standard import make_standard_decoder

        decoder = make_standard_decoder(shape, weights)
    else:
        decoder = make_decoder(shape, weights)
    vision = make_vision(shape)
    onnx.save(decoder, str(directory / "decoder.onnx"))
    onnx.save(vision, str(directory / "vision.onnx"))
    heads = make_heads(shape) if shape.measures else None
    if heads is not None:
        onnx.save(heads, str(directory / "heads.onnx"))
    if shape.locator:
        np.savez(directory / "locator.npz", **make_locator(shape.hidden, PLACES, seed))
    table = _write_table(directory, shape, vocab, seed)
    files = hash_files(directory)
    manifest = Manifest(
        schema_version="1.0",
        id=bundle_id(files),
        name="fabricated",
        created="2026-01-01T00:00:00Z",
        precision="fp16" if shape.weights == "float16" else "fp32",
        target="tensorrt" if shape.standard else "cpu",
        min_onnxruntime="1.20.0",
        files=files,
        vision=_graph_spec("vision.onnx", vision),
        decoder=_graph_spec("decoder.onnx", decoder),
        heads=None if heads is None else HeadsSpec(**vars(_graph_spec("heads.onnx", heads)), measures=shape.measures),
        embeddings=EmbeddingsSpec(
            file="embeddings.npy",
            scale="embeddings_scale.npy" if shape.table == "int8" else None,
            precision=shape.table,
        ),
        tokenizer="tokenizer.json",
        template="chat_template.jinja",
        cache=CacheGeometry(shape.layers, shape.kv_heads, shape.head_dim, shape.cache_dtype, shape.max_length),
        hidden_size=shape.hidden,
        vocab_size=vocab,
        image=ImageSpec(shape.side, shape.side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), shape.image_tokens),
        prompt=PromptLayout("<image>", CONTROL.index("<image>"), eos, shape.max_images),
        coordinates=dict(COORDINATES),
        calibration=None,
        parity={"gate": "none: fabricated for tests"},
        provenance={"checkpoint": "0" * 64, "licence": "Apache-2.0"},
        locator="locator.npz" if shape.locator else None,
        profiles=_profiles(shape) if shape.standard else (),
    )
    (directory / "bundle.json").write_text(json.dumps(manifest.to_dict(), indent=2), encoding="utf-8")
    return Fabricated(directory, shape, weights, table)


def _profiles(shape: Shape) -> tuple[Profile, ...]:
    decoders = decoder_profiles(
        buckets_for(shape.max_length),
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden=shape.hidden,
    )
    return (fixed_profile("vision", "vision", {"pixels": (1, 3, shape.side, shape.side)}), *decoders)


def make_locator(width: int, places: int, seed: int = 0) -> dict[str, npt.NDArray[np.float16]]:
    """Random weights of a locator that finds something in most images."""
    rng = np.random.default_rng(seed + 3)
    weights = {name: 0.2 * rng.normal(size=size) for name, size in shapes_of(width, places).items()}
    return {name: array.astype(np.float16) for name, array in weights.items()}


def _write_table(directory: Path, shape: Shape, vocab: int, seed: int) -> Floats:
    exact = np.random.default_rng(seed + 7).normal(size=(vocab, shape.hidden)).astype(np.float32)
    if shape.table != "int8":
        stored = exact.astype(shape.table)
        np.save(directory / "embeddings.npy", stored)
        return stored.astype(np.float32)
    scale = np.abs(exact).max(axis=1) / np.float32(127)
    whole = np.rint(exact / scale[:, None]).astype(np.int8)
    np.save(directory / "embeddings.npy", whole)
    np.save(directory / "embeddings_scale.npy", scale)
    return whole.astype(np.float32) * scale[:, None]


def _graph_spec(file: str, model: onnx.ModelProto) -> GraphSpec:
    def specs(values: Any) -> dict[str, TensorSpec]:
        found = {}
        for value in values:
            tensor = value.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
            axes = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
            found[value.name] = TensorSpec(dtype, axes)
        return found

    return GraphSpec(file, "float, fabricated", specs(model.graph.input), specs(model.graph.output))


def hash_files(directory: Path) -> dict[str, FileEntry]:
    """The manifest's ``files`` of a directory: every file but bundle.json."""
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != "bundle.json")
    return {
        p.relative_to(directory).as_posix(): FileEntry(hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size)
        for p in paths
    }


def reseal(directory: Path, **changes: Any) -> None:
    """Rewrite bundle.json so that it matches the files again, with top-level keys replaced by ``changes``."""
    path = directory / "bundle.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    files = hash_files(directory)
    data["files"] = {name: entry.to_dict() for name, entry in files.items()}
    data["id"] = bundle_id(files)
    path.write_text(json.dumps(data | changes), encoding="utf-8")


def small(**changes: Any) -> Shape:
    """The default shape with some sizes changed."""
    return replace(Shape(), **changes)

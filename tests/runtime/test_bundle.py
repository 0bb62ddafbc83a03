"""A bundle is untrusted input: everything that is not as the manifest promises is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from fabricate import Fabricated, reseal

from gmrt.runtime.bundle import open_bundle, verify
from gmrt.runtime.errors import BundleError, BundleNotFoundError


def refused(bundle: Path, kind: type[Exception] = BundleError) -> str:
    """Open a bundle that must be refused; returns the one sentence."""
    with pytest.raises(kind) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_opens(fabricated: Fabricated) -> None:
    """Guards against a reader that refuses everything."""
    bundle = open_bundle(str(fabricated.path))
    assert bundle.manifest.id == json.loads((fabricated.path / "bundle.json").read_text())["id"]
    assert bundle.table.vocab_size == bundle.tokenizer.get_vocab_size()


def test_one_byte_changed(altered: Path) -> None:
    """Guards against running weights that somebody altered: the size is right, the content is not."""
    file = altered / "decoder.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "decoder.onnx: sha256 differs" in refused(altered)


def test_longer_file_is_not_even_read(altered: Path) -> None:
    """Guards against hashing or parsing more than the manifest states."""
    with (altered / "vision.onnx").open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading it would take minutes
    assert "instead of" in refused(altered)


def test_missing_parts(altered: Path, tmp_path: Path) -> None:
    """Guards against a traceback for the commonest mistake, a wrong or half-copied directory."""
    (altered / "tokenizer.json").unlink()
    assert "tokenizer.json: this file of the bundle is missing" in refused(altered, BundleNotFoundError)
    assert "bundle.json: this file of the bundle is missing" in refused(tmp_path, BundleNotFoundError)
    assert "no bundle there" in refused(tmp_path / "nowhere", FileNotFoundError)


def test_files_beside_the_manifest_are_nobodys_business(altered: Path) -> None:
    """Guards against refusing a bundle because an engine was built beside it."""
    (altered / "engines" / "orin").mkdir(parents=True)
    (altered / "engines" / "orin" / "decoder.engine").write_bytes(b"x")
    (altered / "README.md").write_text("hello")
    assert open_bundle(altered)


@pytest.mark.parametrize("name", ["decoder.onnx", "bundle.json"])
def test_link_that_leaves(altered: Path, tmp_path: Path, name: str) -> None:
    """Guards against a bundle that points at a file of the user's, even one of the right content."""
    (altered / name).rename(tmp_path / name)
    (altered / name).symlink_to(tmp_path / name)
    assert "a link that leaves the bundle" in refused(altered)


def test_link_that_stays(altered: Path) -> None:
    """Guards against refusing a harmless layout: a link from one file of the bundle to another place in it."""
    (altered / "blobs").mkdir()
    (altered / "decoder.onnx").rename(altered / "blobs" / "d")
    (altered / "decoder.onnx").symlink_to("blobs/d")
    assert open_bundle(altered)


def test_pipe_does_not_block(altered: Path) -> None:
    """Guards against opening a FIFO, which waits for ever."""
    (altered / "decoder.onnx").unlink()
    os.mkfifo(altered / "decoder.onnx")
    assert "not a regular file" in refused(altered)


@pytest.mark.parametrize("location", ["../../secret.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "unlisted.bin"])
def test_external_data_outside(altered: Path, location: str) -> None:
    """Guards against onnxruntime reading a file, or an address, that a bundle names as a tensor's data."""
    model = onnx.load(altered / "decoder.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (altered / "decoder.onnx").write_bytes(model.SerializeToString())
    reseal(altered)
    assert "its external data" in refused(altered)


def test_external_data_inside(altered: Path) -> None:
    """Guards against refusing the large bundles, whose weights lie beside their graph, listed and hashed."""
    onnx.save(
        onnx.load(altered / "decoder.onnx"),
        altered / "decoder.onnx",
        save_as_external_data=True,
        location="decoder.onnx.data",
        size_threshold=0,
    )
    reseal(altered)
    assert "decoder.onnx.data" in verify(altered).files
    assert open_bundle(altered)


def test_manifest_that_is_no_json(altered: Path) -> None:
    """Guards against a JSONDecodeError, and a RecursionError from a million brackets."""
    (altered / "bundle.json").write_text("{")
    assert "not readable as JSON" in refused(altered)
    (altered / "bundle.json").write_text("[" * 1_000_000)
    assert "bundle.json" in refused(altered)
    (altered / "bundle.json").write_bytes(b"\xff\xfe\x00")
    assert "not readable as JSON" in refused(altered)


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Name the command."""
        return os.mkdir, ("exploded",)


def test_table_cannot_run_code(altered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards against np.load unpickling whatever a bundle calls an array."""
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), b"", b"\x93NUMPY\x01\x00garbage"):
        (altered / "embeddings.npy").write_bytes(content)
        reseal(altered)
        assert "not a .npy array" in refused(altered)
    np.save(altered / "embeddings.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    reseal(altered)
    assert "not a .npy array" in refused(altered)
    assert not (tmp_path / "exploded").exists()


def test_table_of_another_size(altered: Path) -> None:
    """Guards against an out-of-bounds lookup, or a silent broadcast, deep in generation."""
    np.save(altered / "embeddings.npy", np.zeros((3, 64), np.int8))
    reseal(altered)
    assert "embeddings.npy: expected" in refused(altered)


def test_scale_of_another_kind(altered: Path) -> None:
    """Guards against a float64 or short scale that numpy would broadcast."""
    np.save(altered / "embeddings_scale.npy", np.ones(5, np.float32))
    reseal(altered)
    assert "embeddings_scale.npy: expected float32" in refused(altered)


def test_template_and_tokenizer_that_are_none(altered: Path) -> None:
    """Guards against the foreign exceptions of jinja2 and tokenizers."""
    (altered / "chat_template.jinja").write_text("{% for %}")
    reseal(altered)
    assert "chat_template.jinja: not a valid template" in refused(altered)
    (altered / "chat_template.jinja").write_bytes(b"\xff\xff")
    reseal(altered)
    assert "chat_template.jinja: not UTF-8" in refused(altered)
    (altered / "tokenizer.json").write_text("{}")
    reseal(altered)
    assert "tokenizer.json: not a tokenizer" in refused(altered)


def test_tokenizer_larger_than_the_table(altered: Path) -> None:
    """Guards against token ids that have no embedding."""
    file = altered / "tokenizer.json"
    data = json.loads(file.read_text())
    top = max(token["id"] for token in data["added_tokens"])
    data["added_tokens"].append(data["added_tokens"][-1] | {"id": top + 1, "content": "<more>"})
    file.write_text(json.dumps(data))
    reseal(altered)
    assert "tokens and a table of" in refused(altered)

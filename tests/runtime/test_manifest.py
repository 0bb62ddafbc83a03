"""The manifest's reader trusts nothing, and reads what the exporter writes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from fabricate import Fabricated

from gmrt.runtime.errors import BundleError
from gmrt.runtime.manifest import FileEntry, bundle_id, read_manifest


@pytest.fixture
def data(fabricated: Fabricated) -> dict[str, Any]:
    """A good manifest as an object, to be spoilt."""
    loaded: dict[str, Any] = json.loads((fabricated.path / "bundle.json").read_text())
    return loaded


def test_written_is_read_back(data: dict[str, Any]) -> None:
    """Guards against a field that is written and not read, or the other way round."""
    manifest = read_manifest(data)
    assert manifest.to_dict() == data
    assert manifest.cache.bytes_per_token == 2 * 2 * 2 * 16 * 4


def test_later_minor_version_is_read(data: dict[str, Any]) -> None:
    """Guards against refusing 1.7, which only adds keys."""
    data |= {"schema_version": "1.7", "something_new": {"a": 1}}
    assert read_manifest(data).schema_version == "1.7"


def test_id_names_the_content() -> None:
    """Guards against an id that depends on the order of files or misses a changed one."""
    files = {"b": FileEntry("2" * 64, 2), "a": FileEntry("1" * 64, 1)}
    assert bundle_id(files) == bundle_id(dict(reversed(files.items())))
    assert bundle_id(files) != bundle_id(files | {"a": FileEntry("3" * 64, 1)})
    assert bundle_id(files) != bundle_id({"b": files["a"], "a": files["b"]})
    assert len(bundle_id(files)) == 16


SPOILT: list[tuple[str, Any, str]] = [
    ("schema_version", "2.0", "schema version '2.0'"),
    ("schema_version", "10.0", "schema version '10.0'"),
    ("schema_version", 1, "schema_version must be a string"),
    ("precision", "int2", "precision must be one of"),
    ("target", "tpu", "target must be one of"),
    ("min_onnxruntime", "latest", "min_onnxruntime must be a version"),
    ("hidden_size", "64", "hidden_size must be a whole number"),
    ("hidden_size", True, "hidden_size must be a whole number"),
    ("vocab_size", 1 << 30, "vocab_size must be from 1"),
    ("vocab_size", 3, "names token 4"),
    ("files", [], "files must be an object"),
    ("files.decoder.onnx.sha256", "XYZ", "sha256"),
    ("files.decoder.onnx.bytes", -1, "sha256 in lower-case hex and a size"),
    ("cache.layers", 0, "layers must be from 1"),
    ("cache.max_length", 1 << 40, "max_length must be from 1"),
    ("cache.dtype", "float8", "dtype must be one of"),
    ("components.decoder.file", "other.onnx", "other.onnx is used but has no entry"),
    ("components.vision.inputs", None, "inputs must be an object"),
    ("components.vision.inputs", {"pixels": {"dtype": "float32", "axes": [None]}}, "axes must be sizes and names"),
    ("components.embeddings.scale", "../scale.npy", "not a plain path"),
    ("coordinates.grid", 100, "coordinates.grid is 100"),
    ("coordinates.origin", "bottom-left", "coordinates.origin"),
    ("image.height", 0, "image specification is out of range"),
    ("image.mean", [1], "image specification is not readable"),
    ("prompt.eos_token_ids", [], "needs an end token"),
    ("prompt.max_images", 0, "needs an end token and at least one image"),
    ("id", "0" * 16, "does not fit the files"),
]


@pytest.mark.parametrize(("path", "value", "message"), SPOILT, ids=[f"{p}={v!r}"[:40] for p, v, _ in SPOILT])
def test_spoilt_value_is_refused(data: dict[str, Any], path: str, value: object, message: str) -> None:
    """Guards against a bad manifest that is found out layers later as a KeyError or a shape mismatch."""
    with pytest.raises(BundleError, match=r"bundle\.json") as caught:
        read_manifest(spoil(data, path, value))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def spoil(data: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Replace one value; ``decoder.onnx`` and its like are one key."""
    spoilt = copy.deepcopy(data)
    *parents, last = path.replace(".onnx", "\0").split(".")
    place = spoilt
    for key in parents:
        place = place[key.replace("\0", ".onnx")]
    place[last.replace("\0", ".onnx")] = value
    return spoilt


@pytest.mark.parametrize("key", ["schema_version", "files", "components", "cache", "image", "prompt", "parity", "id"])
def test_missing_field_is_named(data: dict[str, Any], key: str) -> None:
    """Guards against a KeyError in the user's face, and against a default that hides a truncated manifest."""
    del data[key]
    with pytest.raises(BundleError, match=f"bundle.json: {key} is missing"):
        read_manifest(data)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a\\b", "C:x", "a\nb", "a/", "..", "nul\0"]
)
def test_path_that_could_leave_is_refused(data: dict[str, Any], name: str) -> None:
    """Guards against reading a file of the user's through a bundle."""
    data["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    with pytest.raises(BundleError, match="not a plain path inside the bundle"):
        read_manifest(data)


@pytest.mark.parametrize("top", [None, [], "text", 3])
def test_other_json_is_refused(top: object) -> None:
    """Guards against an AttributeError for valid JSON that is no object."""
    with pytest.raises(BundleError, match="expected an object"):
        read_manifest(top)

"""External data is found wherever ONNX allows a tensor, in files that the onnx package wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gmrt.runtime.errors import BundleError
from gmrt.runtime.onnx_scan import external_locations


def external(location: str, name: str = "w") -> TensorProto:
    """A tensor whose data lies in another file."""
    tensor = TensorProto(name=name, dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="64")
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph(*nodes: onnx.NodeProto, initializers: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    """A graph without inputs."""
    return helper.make_graph(list(nodes), "g", [], [], list(initializers))


def scan(tmp_path: Path, model: onnx.ModelProto) -> frozenset[str]:
    """Write a model and scan it."""
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return external_locations(tmp_path / "m.onnx")


def branch(location: str) -> onnx.GraphProto:
    """A nested graph with external data."""
    return graph(initializers=(external(location),))


def test_model_without_any(tmp_path: Path) -> None:
    """Guards against mistaking an ordinary tensor, or one that is called location, for a file."""
    weights = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "location")
    note = helper.make_node("Identity", ["location"], ["y"], name="location/value")
    assert scan(tmp_path, helper.make_model(graph(note, initializers=(weights,)))) == frozenset()


def test_initializers(tmp_path: Path) -> None:
    """Guards against missing the plain case, and against keeping only one of several."""
    model = helper.make_model(graph(initializers=(external("a.bin"), external("../b.bin"), external("a.bin"))))
    assert scan(tmp_path, model) == {"a.bin", "../b.bin"}


def test_nested_places(tmp_path: Path) -> None:
    """Guards against a hiding place: attributes, branches within branches, sparse tensors, functions, training."""
    inner = helper.make_node("If", ["c"], ["y"], then_branch=branch("then"), else_branch=branch("else"))
    outer = helper.make_node("Loop", ["n", "c"], ["y"], body=graph(inner))
    constant = helper.make_node("Constant", [], ["k"], value=external("constant"))
    listed = helper.make_node("Custom", [], ["l"], domain="x")
    listed.attribute.append(helper.make_attribute("tensors", [external("listed 1"), external("listed 2")]))
    listed.attribute.append(helper.make_attribute("graphs", [branch("graphs")]))
    sparse = onnx.SparseTensorProto(values=external("values"), indices=external("indices"), dims=[4])
    listed.attribute.append(helper.make_attribute("sparse", sparse))
    others = onnx.SparseTensorProto(values=external("more values"), indices=external("more indices"), dims=[4])
    listed.attribute.append(helper.make_attribute("many", [others]))
    top = graph(outer, constant, listed)
    top.sparse_initializer.append(
        onnx.SparseTensorProto(values=external("sparse"), indices=external("where"), dims=[4])
    )
    model = helper.make_model(top)
    function = model.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["k"], value=external("function")))
    function.attribute_proto.append(helper.make_attribute("default", external("function default")))
    model.training_info.add(initialization=branch("initialization"), algorithm=branch("algorithm"))
    assert scan(tmp_path, model) == {
        *("then", "else", "constant", "listed 1", "listed 2", "graphs", "values", "indices", "sparse", "where"),
        *("more values", "more indices"),
        *("function", "function default", "initialization", "algorithm"),
    }


def test_repeated_value_is_reported_whole(tmp_path: Path) -> None:
    """Guards against two values in one entry, of which one reader takes the first and another the last."""
    entry = onnx.StringStringEntryProto(key="location", value="good").SerializeToString()
    entry += onnx.StringStringEntryProto(value="../bad").SerializeToString()
    tensor = TensorProto(data_location=TensorProto.EXTERNAL).SerializeToString()
    tensor += bytes([13 << 3 | 2, len(entry)]) + entry
    body = bytes([5 << 3 | 2, len(tensor)]) + tensor
    (tmp_path / "m.onnx").write_bytes(bytes([7 << 3 | 2, len(body)]) + body)
    assert external_locations(tmp_path / "m.onnx") == {"good", "../bad"}


def test_real_file_with_external_data(tmp_path: Path) -> None:
    """Guards against a scan that fits our idea of the format and not the onnx package's."""
    weights = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    model = helper.make_model(graph(helper.make_node("Identity", ["w"], ["y"]), initializers=(weights,)))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert external_locations(tmp_path / "m.onnx") == {"m.onnx.data"}


def test_damaged_files(tmp_path: Path) -> None:
    """Guards against an endless loop or an IndexError on a truncated, empty or foreign file."""
    whole = helper.make_model(graph(initializers=(external("a.bin"),))).SerializeToString()
    file = tmp_path / "m.onnx"
    for content in (whole[:-3], b"location" * 3, b"\xff" * 20 + b"location", b"\x0b location", b""):
        file.write_bytes(content)
        with pytest.raises(BundleError, match=r"m\.onnx"):
            external_locations(file)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    """Guards against a RecursionError from a model that nests graphs thousands deep."""
    body = branch("deep").SerializeToString()
    for field in (6, 5, 1) * 50:  # Attribute.g in Node.attribute in Graph.node
        body = bytes([field << 3 | 2]) + varint(len(body)) + body
    (tmp_path / "m.onnx").write_bytes(bytes([7 << 3 | 2]) + varint(len(body)) + body)
    with pytest.raises(BundleError, match="nested deeper"):
        external_locations(tmp_path / "m.onnx")


def varint(value: int) -> bytes:
    """Write a base-128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(content=st.binary(max_size=200))
def test_any_bytes_end_in_an_answer_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Guards against any other exception, whatever the bytes."""
    file = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    file.write_bytes(content + b"location")
    try:
        found = external_locations(file)
    except BundleError:
        return
    assert isinstance(found, frozenset)

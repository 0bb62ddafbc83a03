"""One-node ONNX models in protobuf's wire format, for probes: the runtime has no onnx package to write them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""TensorProto.DataType."""

OPSET, IR_VERSION = 13, 8

# (name, element type, shape; None is a free axis)
Tensor = tuple[str, int, Sequence[int | None]]


def one_node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    given: Sequence[Tensor],
    made: Sequence[Tensor],
    attributes: Mapping[str, int | str] | None = None,
    domain: str = "",
) -> bytes:
    """A model of one node; ``inputs`` may hold empty names, ``given`` and ``made`` say what the others are."""
    node = _nest(
        1,
        *(_nest(1, name.encode()) for name in inputs),
        *(_nest(2, name.encode()) for name in outputs),
        _nest(4, op_type.encode()),
        *(_attribute(name, value) for name, value in (attributes or {}).items()),
        *([_nest(7, domain.encode())] if domain else []),
    )
    graph = _nest(7, node, _nest(2, b"probe"), *(_info(11, t) for t in given), *(_info(12, t) for t in made))
    imports = [_nest(8, _number(2, OPSET))]
    if domain:
        imports.append(_nest(8, _nest(1, domain.encode()), _number(2, 1)))
    return _number(1, IR_VERSION) + graph + b"".join(imports)


def _attribute(name: str, value: int | str) -> bytes:
    kind, body = (2, _number(3, value)) if isinstance(value, int) else (3, _nest(4, value.encode()))
    return _nest(5, _nest(1, name.encode()), body, _number(20, kind))


def _info(field: int, tensor: Tensor) -> bytes:
    name, dtype, shape = tensor
    dims = [_nest(1, _nest(2, b"free") if size is None else _number(1, size)) for size in shape]
    return _nest(field, _nest(1, name.encode()), _nest(2, _nest(1, _number(1, dtype), _nest(2, *dims))))


def _nest(field: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])

"""Measure a graph's activations: images through the float graph in onnxruntime, an observer on every tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.observe import Observer
from gmrt.calibration.record import Record, TensorRange
from gmrt.runtime.errors import GmrtError

FloatArray = npt.NDArray[np.float32]

METHOD = "asymmetric 8-bit range of least mean square error, 2048-bin streaming histogram"

PIXELS = "pixels"

_DIGITS = 5


def measure(
    model: ir.Model,
    channel_axes: Mapping[str, int | None],
    pixels: Iterable[FloatArray],
    *,
    source: str,
    seed: int,
    checkpoint: str,
) -> Record:
    """Run images [3, H, W] one by one through ``model`` and record the ranges of its tensors ``channel_axes``.

    ``channel_axes`` (`PIXELS`, the graph's input, may be one) gives for each tensor the axis whose means are recorded,
    or None. Memory holds one image's tensors and one histogram a tensor, however many images there are. Raises
    `GmrtError` when a value is not finite.
    """
    names = [name for name in channel_axes if name != PIXELS]
    session = _observed_session(model, names)
    observers = {name: Observer(axis) for name, axis in channel_axes.items()}
    digest, samples = hashlib.sha256(), 0
    for image in pixels:
        digest.update(np.ascontiguousarray(image).data)
        samples += 1
        feeds = {PIXELS: image[None]}
        values = feeds | dict(zip(names, session.run(names, feeds), strict=True))
        for name, observer in observers.items():
            try:
                observer.add(values[name])
            except ValueError as error:
                raise GmrtError(f"calibration: {error} in {name} of the float tower: check the checkpoint") from None
    return Record(
        method=METHOD,
        source=source,
        seed=seed,
        samples=samples,
        data_hash=digest.hexdigest(),
        checkpoint=checkpoint,
        tensors={name: _range(observer) for name, observer in observers.items()},
    )


def _range(observer: Observer) -> TensorRange:
    low, high = observer.range()
    mean = () if observer.mean is None else tuple(_rounded(v) for v in observer.mean)
    return TensorRange(_rounded(low), _rounded(high), mean)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _observed_session(model: ir.Model, names: list[str]) -> Any:
    import onnxruntime as ort

    observed = model.clone()
    values = {value.name: value for node in observed.graph for value in node.outputs}
    observed.graph.outputs.clear()
    for name in names:
        values[name].dtype = ir.DataType.FLOAT
        observed.graph.outputs.append(values[name])
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(ir.to_proto(observed).SerializeToString(), options, providers=["CPUExecutionProvider"])

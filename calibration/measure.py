"""Measure a graph's activations: images through the float graph in onnxruntime, statistics of every tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.observe import Channels, Histogram, Method, choose_range, observe, observe_channels
from gmrt.calibration.record import Record, TensorRange
from gmrt.runtime.errors import GmrtError

FloatArray = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[Any]]

METHOD: Method = "mse"
"""How ranges are chosen: the best of four for the tower of georsmllm-nano (docs/calibration.md)."""

PIXELS = "pixels"

_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Observed:
    """What a tensor held: a histogram of all values, and its channels along the axis that was asked for, or None."""

    histogram: Histogram
    channels: Channels | None = None


def observe_graph(
    model: ir.Model, channel_axes: Mapping[str, int | None], feeds: Iterable[Feeds]
) -> dict[str, Observed]:
    """Run a float graph on ``feeds``, one after another, and observe the tensors ``channel_axes``, inputs among them.

    ``channel_axes`` gives for each tensor the axis whose channels are told apart, or None. Memory holds the tensors of
    one run and one histogram a tensor, however many runs there are. Raises `GmrtError`, with the tensor's name, when a
    value is not finite, and when there is nothing to run.
    """
    inputs = {str(value.name) for value in model.graph.inputs}
    names = [name for name in channel_axes if name not in inputs]
    session = _observed_session(model, names)
    found = {name: Observed(Histogram()) for name in channel_axes}
    runs = 0
    for feed in feeds:
        values = dict(feed) | dict(zip(names, session.run(names, dict(feed)), strict=True))
        runs += 1
        for name, axis in channel_axes.items():
            before = found[name]
            try:
                histogram = observe(before.histogram, values[name])
            except ValueError as error:
                raise GmrtError(
                    f"calibration: {error} in {name} of the float {model.graph.name}: check the checkpoint"
                ) from None
            channels = None if axis is None else observe_channels(before.channels, values[name], axis)
            found[name] = Observed(histogram, channels)
    if not runs:
        raise GmrtError(f"there is nothing to measure the {model.graph.name} on: give it images")
    return found


def measure(
    model: ir.Model,
    channel_axes: Mapping[str, int | None],
    pixels: Iterable[FloatArray],
    *,
    source: str,
    seed: int,
    checkpoint: str,
    method: Method = METHOD,
    sensors: Mapping[str, int] | None = None,
) -> Record:
    """Run images [3, H, W] one by one through a tower and record the ranges of its tensors ``channel_axes``.

    `PIXELS`, the graph's input, may be one of them. Raises `GmrtError` as `observe_graph` does.
    """
    digest, samples = hashlib.sha256(), [0]

    def feeds() -> Iterator[Feeds]:
        for image in pixels:
            digest.update(np.ascontiguousarray(image).data)
            samples[0] += 1
            yield {PIXELS: image[None]}

    found = observe_graph(model, channel_axes, feeds())
    return Record(
        method=f"{method}, asymmetric 8-bit range",
        source=source,
        seed=seed,
        samples=samples[0],
        data_hash=digest.hexdigest(),
        checkpoint=checkpoint,
        tensors={name: _range(observed, method) for name, observed in found.items()},
        sensors=dict(sensors or {}),
    )


def _range(observed: Observed, method: Method) -> TensorRange:
    low, high = choose_range(observed.histogram, method)
    mean = () if observed.channels is None else tuple(_rounded(v) for v in observed.channels.mean)
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

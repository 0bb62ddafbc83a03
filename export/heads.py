"""The regression head as an ONNX graph: the last hidden state in, numbers in their own units out.

The head learns in standard deviations from a mean; both are folded into its weights, so that a bundle needs to know
neither. It is written in float32 at every precision: it has as many weights as one word of the token table each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gmrt.export.decoder import Weights
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import float_linear
from gmrt.runtime.errors import CheckpointError


def build_heads(weights: Weights, measures: Sequence[Mapping[str, Any]], hidden: int) -> ir.Model:
    """Construct last_hidden float32 [n, D] → values float32 [n, K] from ``weight`` [K, D] and ``bias`` [K].

    Raises `CheckpointError` when the head has another shape than the configuration says.
    """
    shapes = {"weight": (len(measures), hidden), "bias": (len(measures),)}
    for name, shape in shapes.items():
        if name not in weights or weights[name].shape != shape:
            raise CheckpointError(f"the checkpoint's regression.{name} is not {list(shape)}, as its measures say")
    mean, std = (np.array([measure[key] for measure in measures], np.float32) for key in ("mean", "std"))
    graph = GraphBuilder()
    last_hidden = graph.input("last_hidden", "float32", ("n", hidden))
    write = float_linear("float32")
    values = write(graph, "regression", last_hidden, weights["weight"] * std[:, None], weights["bias"] * std + mean)
    return graph.model("heads", [last_hidden], [graph.output(values, "values", "float32", ("n", len(measures)))])

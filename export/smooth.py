"""SmoothQuant (Xiao et al., arXiv 2211.10438) on a decoder's weights: outliers go from activations into weights.

A tensor quantised with one scale loses its small channels where a few are a hundred times larger. Dividing channel j of
the input of a product by s[j], and multiplying column j of the weight by it, changes no result:

    s[j] = max |X[:, j]| ** alpha / max |W[:, j]| ** (1 - alpha)

The division costs nothing, because it goes into what makes X: the norm before q, k, v and before gate and up, and the
rows of up before down (silu(gate) · up is linear in up). What o_proj reads is left as it is: folded into v it would
change the cache, which means the same in every bundle of a checkpoint. The head's scale is a vector of its own in the
graph (`HEAD_SCALE`), because other heads read what the last norm makes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gmrt.export.decoder import EMBEDDINGS, HEAD_SCALE, HEAD_WEIGHT, FloatArray, Weights

QKV, GATE_UP = "self_attn.q_proj_k_proj_v_proj", "mlp.gate_proj_up_proj"
O_PROJ, DOWN = "self_attn.o_proj", "mlp.down_proj"
HEAD = "lm_head"

_LEAST = 1e-5


def smooth(
    weights: Weights, absmax: Mapping[str, FloatArray], layers: int, alpha: float
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Move the outliers of a decoder's activations into its weights; the model is the same.

    ``absmax`` [K] is the largest magnitude of each input channel, by the product's name ("layers.0.mlp.down_proj").
    Returns the weights, and what ``absmax`` is with them.
    """
    made, seen = {name: np.array(array, np.float32) for name, array in weights.items()}, dict(absmax)
    for i in range(layers):
        stem, layer = f"model.layers.{i}", f"layers.{i}"
        moves = {
            # down first: it rescales rows of up, whose columns are weighed next.
            DOWN: (("mlp.down_proj",), "mlp.up_proj"),
            GATE_UP: (("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
            QKV: (tuple(f"self_attn.{part}_proj" for part in "qkv"), "input_layernorm"),
        }
        for product, (readers, maker) in moves.items():
            name = f"{layer}.{product}"
            scale = _scale(made, [f"{stem}.{reader}.weight" for reader in readers], seen[name], alpha)
            seen[name] = seen[name] / scale
            for reader in readers:
                made[f"{stem}.{reader}.weight"] *= scale
            for part in ("weight", "bias"):
                if f"{stem}.{maker}.{part}" in made:
                    array = made[f"{stem}.{maker}.{part}"]
                    array /= scale if array.ndim == 1 else scale[:, None]
    return made, seen


def smooth_head(weights: Weights, absmax: Mapping[str, FloatArray], alpha: float) -> dict[str, FloatArray]:
    """Move the outliers of what the head reads into its weights; `HEAD_SCALE` [D] multiplies its input."""
    table = HEAD_WEIGHT if HEAD_WEIGHT in weights else EMBEDDINGS
    scale = _scale(weights, [table], absmax[HEAD], alpha)
    return dict(weights) | {HEAD_WEIGHT: weights[table] * scale, HEAD_SCALE: 1 / scale}


def _scale(made: Weights, readers: list[str], absmax: FloatArray, alpha: float) -> FloatArray:
    columns = np.max([np.abs(made[name]).max(axis=0) for name in readers], axis=0)
    scale = np.maximum(absmax, _LEAST) ** alpha / np.maximum(columns, _LEAST) ** (1 - alpha)
    # A channel that is never used would be divided by next to nothing.
    return np.clip(scale, 1e-4, 1e4).astype(np.float32)

"""The calibration record: what was measured, on what, and how; small enough to read and to keep beside a checkpoint.

Version 2 adds the decoder's statistics and the sensors; records of version 1 are read as records without them.
A vector per channel is written as its largest value, in the clear, and the base64 of its little-endian float16 shares
of that value, which are good to 0.05 %.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import GmrtError

FloatArray = npt.NDArray[np.float32]

RECORD_NAME = "calibration.json"
VERSION = 2
_READABLE = (1, 2)

_ATTENTION, _GATED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


@dataclass(frozen=True)
class TensorRange:
    """Range of one activation; ``mean`` per channel where a layer reads it, to make up for its weights' rounding."""

    lo: float
    hi: float
    mean: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class InputStats:
    """Of every channel that a linear layer reads: largest and mean magnitude, float32 [K]."""

    absmax: FloatArray
    absmean: FloatArray


@dataclass(frozen=True, eq=False)
class DecoderStats:
    """What went through a decoder.

    ``inputs`` by the name of the product that reads them (see `product_name`); ``cache`` the largest magnitude of every
    layer's keys, rotated as the cache holds them, and values, float32 [kv_heads, head_dim] each; over ``positions``
    tokens of ``samples`` sequences about ``source``, whose ids have the sha256 ``data_hash``.
    """

    source: str
    samples: int
    positions: int
    data_hash: str
    inputs: Mapping[str, InputStats]
    cache: tuple[tuple[FloatArray, FloatArray], ...]


@dataclass(frozen=True)
class Record:
    """Ranges by tensor name, and their origin.

    ``checkpoint`` is the sha256 of the weights that were observed, ``data_hash`` that of the images, ``source`` where
    they came from in words, ``sensors`` how many of which kind, ``samples`` their number, ``seed`` what drew them,
    ``strangeness`` how unlike those of training they are (`gmrt.calibration.suited`), None where nothing could tell.
    """

    method: str
    source: str
    seed: int
    samples: int
    data_hash: str
    checkpoint: str
    tensors: Mapping[str, TensorRange]
    sensors: Mapping[str, int] = field(default_factory=dict)
    strangeness: float | None = None
    decoder: DecoderStats | None = None

    def channels(self, name: str) -> InputStats:
        """Statistics of the input of a decoder's linear layer, by the name of the layer or of its product.

        Raises `GmrtError` when the record has none.
        """
        found = self._stats().inputs.get(product_name(name))
        if found is None:
            raise GmrtError(
                f"the calibration record has no statistics of {name}: it is of another model, measure again"
            )
        return found

    def kv(self, layer: int) -> tuple[FloatArray, FloatArray]:
        """Largest magnitudes of a layer's keys, after their rotation, and values: float32 [kv_heads, head_dim] each.

        Raises `GmrtError` when the record has none.
        """
        cache = self._stats().cache
        if not 0 <= layer < len(cache):
            raise GmrtError(
                f"the calibration record has {len(cache)} layers, not layer {layer}: it is of another model"
            )
        return cache[layer]

    def _stats(self) -> DecoderStats:
        if self.decoder is None:
            raise GmrtError("the calibration record says nothing of the decoder: calibrate again with images")
        return self.decoder

    def summary(self) -> dict[str, Any]:
        """Everything but the tensors; of the decoder what it was measured on."""
        told: dict[str, Any] = {
            "version": VERSION,
            "method": self.method,
            "source": self.source,
            "seed": self.seed,
            "samples": self.samples,
            "sensors": dict(self.sensors),
            "strangeness": self.strangeness,
            "data_hash": self.data_hash,
            "checkpoint": self.checkpoint,
        }
        if self.decoder is not None:
            told["decoder"] = _origin(self.decoder)
        return told

    def ranges(self) -> dict[str, dict[str, float]]:
        """Ranges as JSON values, without the means."""
        return {name: {"lo": t.lo, "hi": t.hi} for name, t in self.tensors.items()}

    def save(self, path: Path | str) -> None:
        """Write as JSON, one tensor a line."""
        head = {key: value for key, value in self.summary().items() if key != "decoder"}
        parts = [json.dumps(head, indent=2)[:-2]]
        if self.decoder is not None:
            origin = json.dumps(_origin(self.decoder))[1:-1]
            inputs = _lines(
                {n: _pair("absmax", s.absmax, "absmean", s.absmean) for n, s in self.decoder.inputs.items()}
            )
            cache = _lines({str(i): _pair("key", k, "value", v) for i, (k, v) in enumerate(self.decoder.cache)})
            parts.append(f'  "decoder": {{{origin},\n  "inputs": {inputs},\n  "cache": {cache}}}')
        tensors = {
            n: {"lo": t.lo, "hi": t.hi} | ({"mean": list(t.mean)} if t.mean else {}) for n, t in self.tensors.items()
        }
        parts.append(f'  "tensors": {_lines(tensors)}')
        Path(path).write_text(",\n".join(parts) + "\n}\n", encoding="utf-8")


def product_name(name: str) -> str:
    """Name of the product that computes a decoder's linear layer, as `gmrt.export.decoder` writes it.

    q, k and v are one product, gate and up are one: ``model.layers.0.mlp.up_proj`` →
    ``layers.0.mlp.gate_proj_up_proj``. A name of a product stays as it is.
    """
    stem, _, last = name.removeprefix("model.").rpartition(".")
    parts = next((parts for parts in (_ATTENTION, _GATED) if last in parts), (last,))
    return f"{stem}.{'_'.join(parts)}" if stem else last


def _origin(stats: DecoderStats) -> dict[str, Any]:
    return {name: getattr(stats, name) for name in ("source", "samples", "positions", "data_hash")}


def _lines(entries: Mapping[str, Any]) -> str:
    inner = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    return f"{{\n{inner}\n  }}"


def _pair(first: str, one: FloatArray, second: str, other: FloatArray) -> dict[str, Any]:
    return {"shape": list(one.shape), first: _pack(one), second: _pack(other)}


def as_stored(values: FloatArray) -> FloatArray:
    """Return values as a record gives them back, so that a record just made and one read export the same bundle."""
    return _unpack(_pair("of", values, "", values), "of")


def _pack(values: FloatArray) -> dict[str, Any]:
    # Three digits more than float16 has, so that a record read and saved again says the same.
    top = float(f"{float(values.max(initial=0.0)):.8g}") or 1.0
    shares = (values.astype(np.float64) / top).astype("<f2")
    return {"max": top, "shares": base64.b64encode(shares.tobytes()).decode("ascii")}


def _unpack(entry: Mapping[str, Any], key: str) -> FloatArray:
    shares = np.frombuffer(base64.b64decode(entry[key]["shares"], validate=True), "<f2").reshape(entry["shape"])
    values = (shares.astype(np.float64) * float(entry[key]["max"])).astype(np.float32)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{key} holds what cannot be a magnitude")
    return values


def load_record(path: Path | str) -> Record:
    """Read a record; raise `GmrtError` when the file is missing or is not one."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] not in _READABLE:
            known = " or ".join(map(str, _READABLE))
            raise GmrtError(f"{path}: calibration record version {data['version']} is not {known}: calibrate again")
        return Record(
            method=str(data["method"]),
            source=str(data["source"]),
            seed=int(data["seed"]),
            samples=int(data["samples"]),
            data_hash=str(data["data_hash"]),
            checkpoint=str(data["checkpoint"]),
            tensors={
                str(name): TensorRange(float(t["lo"]), float(t["hi"]), tuple(float(v) for v in t.get("mean", ())))
                for name, t in data["tensors"].items()
            },
            sensors={str(name): int(count) for name, count in data.get("sensors", {}).items()},
            strangeness=None if data.get("strangeness") is None else float(data["strangeness"]),
            decoder=_read_decoder(data["decoder"]) if "decoder" in data else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GmrtError(f"{path}: not a readable calibration record ({error!r}): calibrate again") from None


def _read_decoder(data: Mapping[str, Any]) -> DecoderStats:
    inputs = {str(n): InputStats(_unpack(e, "absmax"), _unpack(e, "absmean")) for n, e in data["inputs"].items()}
    cache = tuple((_unpack(e, "key"), _unpack(e, "value")) for e in data["cache"].values())
    return DecoderStats(
        str(data["source"]), int(data["samples"]), int(data["positions"]), str(data["data_hash"]), inputs, cache
    )

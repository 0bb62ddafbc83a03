"""The calibration record: what was measured, on what, and how; small enough to read and to keep beside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmrt.runtime.errors import GmrtError

RECORD_NAME = "calibration.json"
VERSION = 1


@dataclass(frozen=True)
class TensorRange:
    """Range of one activation; ``mean`` per channel where a layer reads it, to make up for its weights' rounding."""

    lo: float
    hi: float
    mean: tuple[float, ...] = ()


@dataclass(frozen=True)
class Record:
    """Ranges by tensor name, and their origin.

    ``checkpoint`` is the sha256 of the weights that were observed, ``data_hash`` that of the images, ``source`` where
    they came from in words, ``samples`` their number, ``seed`` what drew them.
    """

    method: str
    source: str
    seed: int
    samples: int
    data_hash: str
    checkpoint: str
    tensors: Mapping[str, TensorRange]

    def summary(self) -> dict[str, Any]:
        """Everything but the tensors."""
        return {
            "version": VERSION,
            "method": self.method,
            "source": self.source,
            "seed": self.seed,
            "samples": self.samples,
            "data_hash": self.data_hash,
            "checkpoint": self.checkpoint,
        }

    def ranges(self) -> dict[str, dict[str, float]]:
        """Ranges as JSON values, without the means."""
        return {name: {"lo": t.lo, "hi": t.hi} for name, t in self.tensors.items()}

    def save(self, path: Path | str) -> None:
        """Write as JSON, one tensor a line."""
        lines = []
        for name, tensor in self.tensors.items():
            entry: dict[str, Any] = {"lo": tensor.lo, "hi": tensor.hi}
            if tensor.mean:
                entry["mean"] = list(tensor.mean)
            lines.append(f"    {json.dumps(name)}: {json.dumps(entry)}")
        head = json.dumps(self.summary(), indent=2)[:-2]
        Path(path).write_text(f'{head},\n  "tensors": {{\n' + ",\n".join(lines) + "\n  }\n}\n", encoding="utf-8")


def load_record(path: Path | str) -> Record:
    """Read a record; raise `GmrtError` when the file is missing or is not one."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise GmrtError(f"{path}: calibration record version {data['version']} is not {VERSION}: calibrate again")
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
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GmrtError(f"{path}: not a readable calibration record ({error!r}): calibrate again") from None

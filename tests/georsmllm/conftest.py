"""What several tests of the training package need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmrt.runtime.raster import encode_png


def png(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A small noisy picture."""
    return encode_png(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as parquet, each with an image of its own."""

    def put(name: str, rows: list[dict[str, Any]]) -> Path:
        images = [{"image": {"bytes": png(i), "path": f"{name}-{i}.png"}} for i in range(len(rows))]
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist([image | row for image, row in zip(images, rows, strict=True)]), path)
        return path

    return put

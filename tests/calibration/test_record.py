"""The calibration record on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmrt.calibration.record import Record, TensorRange, load_record
from gmrt.runtime.errors import GmrtError

RECORD = Record(
    method="m",
    source="a folder",
    seed=3,
    samples=12,
    data_hash="aa",
    checkpoint="bb",
    tensors={"tower.stem": TensorRange(0.0, 6.0, (0.5, 1.25)), "x": TensorRange(-1.5, 2.0)},
)


def test_saved_record_is_read_back_whole(tmp_path: Path) -> None:
    """Guards against a field that is written and not read; one tensor stands on each line, for people."""
    path = tmp_path / "calibration.json"
    RECORD.save(path)
    assert load_record(path) == RECORD
    lines = path.read_text().splitlines()
    assert sum('"tower.stem"' in line and '"mean"' in line for line in lines) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 2}', '{"version": 1, "tensors": 3}'])
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """Guards against a traceback for a file that is JSON of another kind."""
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(GmrtError, match="calibrate again"):
        load_record(path)
    with pytest.raises(GmrtError, match="calibrate again"):
        load_record(tmp_path / "missing.json")

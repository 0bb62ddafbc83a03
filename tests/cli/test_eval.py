"""``gmrt eval`` from files to the table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="session")
def dataset(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four generated scenes with a class, captions, questions and a box each."""
    rows = [
        {
            "image": {"bytes": file.read_bytes(), "path": file.name},
            "class": file.name.split("-")[0],
            "captions": ["there is a road", "a road beside tanks"],
            "qa": [{"question": "is there a road?", "answer": "yes"}],
            "objects": [{"label": "car", "bbox": [8.0, 8.0, 24.0, 24.0]}],
        }
        for file in sorted(pictures.iterdir())[:4]
    ]
    path = tmp_path_factory.mktemp("sets") / "four.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def model(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint that scores may be written beside."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "model")


def test_a_checkpoint_is_scored_and_the_scores_are_kept(gmrt: Callable, model: Path, dataset: Path) -> None:
    """Guards against a table that is printed and lost, and against stdout that is more than the table."""
    run = gmrt("eval", model, dataset, "--slice", "0:2", "--tiles", "48", "--wordings", "2")
    assert run.status == 0, run.err
    assert run.out.startswith("model (checkpoint) on four-0-to-2, 2 images\n")
    kept = json.loads((model / "eval" / "four-0-to-2.json").read_text())
    assert kept["images"] == 2
    assert "answers" not in kept
    for task in ("caption", "class", "qa", "question only", "detect", "refer", "wordings", "confidence"):
        assert task in kept["scores"], task
        assert f"\n{task} " in run.out


def test_a_bundle_says_what_its_checkpoint_says(
    gmrt: Callable, model: Path, tiny_bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    """Guards against another decoding or guard in the reference than in the field."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    run = gmrt("eval", model, dataset, "--slice", "-2:", "--against", bundle, "--format", "json")
    assert run.status == 0, run.err
    (result,) = run.records
    assert result["images"] == 2
    for task in ("caption", "class", "qa", "detect", "location"):
        for name, numbers in result["scores"][task].items():
            assert numbers["difference"]["value"] == pytest.approx(0, abs=1e-6), name
    (alone,) = gmrt("eval", bundle, dataset, "--slice", "-2:", "--format", "json").records
    assert [a["given"] for a in alone["answers"]] == [a["given"] for a in result["answers"]]


@pytest.mark.parametrize(
    ("words", "clue"),
    [(("--slice", "first"), "first"), (("--slice", "9:"), "score against"), (("--reader", "dior"), "Annotations")],
)
def test_bad_requests_are_one_sentence(
    gmrt: Callable, model: Path, dataset: Path, words: tuple[str, ...], clue: str
) -> None:
    """Guards against a traceback, and against a model that is loaded before the data is looked at."""
    run = gmrt("eval", model, dataset, *words)
    assert (run.status, run.out) == (2, "")
    assert clue in run.err
    assert len(run.err.splitlines()) == 1
    assert not (model / "eval").exists()


def test_a_directory_that_is_no_model_is_refused(gmrt: Callable, dataset: Path, tmp_path: Path) -> None:
    """Guards against a guess at what a directory might be."""
    run = gmrt("eval", tmp_path, dataset)
    assert run.status == 2
    assert "neither a bundle" in run.err

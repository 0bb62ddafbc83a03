"""Several processes: two on the CPU, as ``accelerate launch`` starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training import stage, write_recipe


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """Guards against processes that wait for each other for ever, overwrite each other's files, or drift apart."""
    scenes = {"generate": {"kind": "scenes", "count": 4, "size": 64}}
    recipe = write_recipe(
        tmp_path,
        "run",
        stage("align", sources={"made": 1}, branches={"caption": 2, "request": 2}, images=8, batch=2),
        stage("all", sources={"made": 1}, train=["tower", "connector", "decoder"], images=8, batch=2),
        sources={"made": scenes},
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        str(port),
    ]
    done = subprocess.run(
        [*launch, "-m", "gmrt", "train", str(recipe)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == str(tmp_path / "run" / "checkpoint")
    assert done.stderr.count("tower features 4/4") == 1
    assert done.stderr.count("made.parquet: 4/4") == 1
    assert "align: step 2/2" in done.stderr  # eight images, two processes, two rows each
    weights = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())

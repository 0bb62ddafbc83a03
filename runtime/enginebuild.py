"""Build one TensorRT engine; a process of its own, because a builder keeps its memory and may be killed for want of it.

    python -m gmrt.runtime.enginebuild < job.json

The job is a JSON object, as `gmrt.runtime.engines` writes it. Progress goes to stdout, a JSON object a line. Exit
status 0 means that the engine lies, whole and on the storage, where the job said.

Only names that TensorRT 10.3 to 10.16 have and 11 keeps are used; tests/runtime/test_engines.py compares them with
NVIDIA's list of what 11 removed. The network is strongly typed: precisions are those of the graph.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tensorrt as trt


class Progress(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]
    """Tells how far the outermost phase is."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)
        self._outermost: str | None = None
        self._steps = 1

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Remember the outermost phase."""
        if parent_phase is None:
            self._outermost, self._steps = phase_name, num_steps
            self._say(0)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Report a step of it; never asks to stop."""
        if phase_name == self._outermost:
            self._say(step + 1)
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Report its end."""
        if phase_name == self._outermost:
            self._say(self._steps)

    def _say(self, done: int) -> None:
        sys.stdout.write(json.dumps({"phase": self._outermost, "done": done, "total": self._steps}) + "\n")
        sys.stdout.flush()


def build(job: dict[str, Any]) -> None:
    """Build the engine of a job; raises RuntimeError with TensorRT's own words when it cannot."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(job["onnx"]):
        raise RuntimeError("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace"])
    monitor = Progress()
    config.progress_monitor = monitor
    for shapes in job["profiles"]:
        profile = builder.create_optimization_profile()
        for name, (least, usual, largest) in shapes.items():
            profile.set_shape(name, trt.Dims(least), trt.Dims(usual), trt.Dims(largest))
        if config.add_optimization_profile(profile) < 0:
            raise RuntimeError(f"TensorRT refused the shapes {shapes}")
    timings = Path(job["timing_cache"])
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT found no engine; its messages stand above")
    _write(Path(job["plan"]), plan)
    _write(timings, config.get_timing_cache().serialize())


def _write(path: Path, data: Any) -> None:
    """Write bytes whole or not at all."""
    part = path.with_name(f"{path.name}.partial")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


if __name__ == "__main__":
    try:
        build(json.load(sys.stdin))
    except RuntimeError as error:
        sys.exit(str(error))

"""PyTorch on the CPU, through transformers; other peers' setups convert their models in this environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmrt.benchmarks.peers import models
from gmrt.benchmarks.peers.run import figures_of
from gmrt.benchmarks.peers.work import NEW, PROMPT, REPEATS


@dataclass(frozen=True)
class PyTorch:
    """Its python and its model."""

    python: Path
    checkpoint: Path

    def decode(self, dtype: str, threads: int) -> dict[str, float]:
        """Seconds of a prompt, and of each token behind it, in ``bfloat16`` or ``float32``."""
        return figures_of(self.python, "run_torch.py", self.checkpoint, dtype, PROMPT, NEW, REPEATS, threads)

    def tower(self, dtype: str, threads: int) -> dict[str, float]:
        """Seconds of tower and connector."""
        return figures_of(self.python, "run_torch_tower.py", dtype, REPEATS, threads)


def setup(folder: Path) -> PyTorch:
    """Install it, and unpack SmolLM2."""
    return PyTorch(models.torch_python(folder), models.checkpoint(folder))

"""ONNX Runtime GenAI, its model made by its own builder: int4 with 8-bit activations, as ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmrt.benchmarks.peers import models
from gmrt.benchmarks.peers.run import figures_of
from gmrt.benchmarks.peers.steps import call, environment, once
from gmrt.benchmarks.peers.work import NEW, PROMPT, REPEATS

PACKAGES = ("onnxruntime-genai==0.18.0", "onnxruntime", "onnx-ir")  # the builder uses the last two undeclared


@dataclass(frozen=True)
class GenAI:
    """Its python and its model."""

    python: Path
    int4: Path

    def decode(self, threads: int) -> dict[str, float]:
        """Seconds of a prompt with its first token, and of each token behind it."""
        return figures_of(self.python, "run_genai.py", self.int4, PROMPT, NEW, REPEATS, threads)


def setup(folder: Path) -> GenAI:
    """Install it, and build the model from SmolLM2 as transformers saves it."""
    python = environment(folder / "genai", *PACKAGES, beside=models.torch_python(folder))

    def build(partial: Path) -> None:
        call(
            *(python, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", partial),
            *("-p", "int4", "-e", "cpu", "-c", folder / "genai-cache", "--extra_options", "int4_accuracy_level=4"),
            env=models.OFFLINE,
        )

    product = folder / "genai-int4"
    if not product.exists():
        checkpoint = models.checkpoint(folder)
    return GenAI(python, once(product, "SmolLM2 as ONNX Runtime GenAI has it, int4", build))

"""OpenVINO: the tower by its own session, the decoder by OpenVINO GenAI.

Neither needs optimum-intel, which brings torchvision and a CUDA torch along: the tower is converted from PyTorch, and
OpenVINO GenAI reads the GGUFs that llama.cpp's setup makes, so that both run the same quantised weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmrt.benchmarks.peers import models
from gmrt.benchmarks.peers.run import figures_of
from gmrt.benchmarks.peers.steps import INSIDE, call, environment, once
from gmrt.benchmarks.peers.work import NEW, PROMPT, REPEATS, SIDE

PACKAGES = ("openvino==2026.4.1", "openvino-genai==2026.4.1.0", "nncf==3.4.0")


@dataclass(frozen=True)
class OpenVINO:
    """Its python and its towers."""

    python: Path
    tower: Path
    tower_int8: Path

    def encode(self, model: Path, threads: int) -> dict[str, float]:
        """Seconds of a tower; in bfloat16 where the processor computes in it, and in float32 elsewhere."""
        return figures_of(self.python, "run_openvino_tower.py", model, SIDE, REPEATS, threads)

    def decode(self, gguf: Path, threads: int) -> dict[str, float]:
        """Seconds of a prompt with its first token, and of each token behind it."""
        return figures_of(self.python, "run_openvino.py", gguf, PROMPT, NEW, REPEATS, threads)

    def float_name(self) -> str:
        """What its floating-point tower computes in on this machine."""
        bf16 = figures_of(self.python, "run_openvino_tower.py")["bf16"]
        return "bf16" if bf16 else "f32, no bf16 on this processor"


def setup(folder: Path) -> OpenVINO:
    """Install it, convert the tower, and quantise it with NNCF's post-training quantisation."""
    python = environment(folder / "openvino", *PACKAGES, beside=models.torch_python(folder))

    def convert(partial: Path) -> None:
        call(python, INSIDE / "make_openvino.py", partial, env=models.OFFLINE)

    towers = once(folder / "openvino-towers", "the tower as OpenVINO has it, and as int8", convert)
    return OpenVINO(python, towers / "tower.xml", towers / "tower-int8.xml")

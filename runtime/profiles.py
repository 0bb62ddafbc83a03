"""Optimisation profiles of a bundle for TensorRT: the shapes that an engine is built for, by name.

An engine is fast for the shapes it was built for and refuses others. A profile gives each input of one graph its least,
its usual and its largest shape. Of the decoder there are two for each capacity of the cache: ``prefill-256`` takes up
to a chunk of new tokens, ``decode-256`` takes one and has no free size at all, so that it can be captured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmrt.runtime.fields import read_choice, read_field, read_object, read_text, refusal

BUCKETS = (256, 512, 1024)
CHUNK = 256
ASKED = 32
"""Positions whose logits one run can return: one when answering, an answer's tokens when verifying."""

_COMPONENTS = ("vision", "decoder", "heads")
_KINDS = ("key", "value")
_MAX_PROFILES, _MAX_AXES, _MAX_SIZE = 64, 8, 1 << 20

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Shapes of a graph's inputs by name, each ``(least, usual, largest)``; ``component`` names the graph."""

    name: str
    component: str
    shapes: Mapping[str, tuple[Shape, Shape, Shape]]

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        shapes = {name: [list(shape) for shape in trio] for name, trio in self.shapes.items()}
        return {"name": self.name, "component": self.component, "shapes": shapes}


def buckets_for(max_length: int) -> tuple[int, ...]:
    """The capacities of a decoder whose positions end at ``max_length``."""
    return (
        *(bucket for bucket in BUCKETS if bucket < max_length),
        *([max_length] if max_length <= BUCKETS[-1] else []),
    )


def capacities(profiles: Sequence[Profile]) -> tuple[int, ...]:
    """The capacities that profiles of a decoder allow, in ascending order."""
    return tuple(sorted({trio[2][2] for p in profiles for name, trio in p.shapes.items() if name == "past_key.0"}))


def chunk_size(profiles: Sequence[Profile]) -> int:
    """The most new tokens that every capacity takes at once."""
    longest: dict[int, int] = {}
    for profile in profiles:
        if "past_key.0" in profile.shapes:
            capacity = profile.shapes["past_key.0"][2][2]
            longest[capacity] = max(longest.get(capacity, 0), profile.shapes["inputs_embeds"][2][1])
    return min(longest.values(), default=0)


def asked_size(profiles: Sequence[Profile]) -> int:
    """The most positions whose logits one prefill returns, at every capacity; `ASKED` where no profile says it."""
    sizes = [p.shapes["logits_at"][2][1] for p in profiles if "logits_at" in p.shapes and p.name.startswith("prefill")]
    return min(sizes, default=ASKED)


def decoder_profiles(
    buckets: Sequence[int], *, layers: int, kv_heads: int, head_dim: int, hidden: int
) -> list[Profile]:
    """Profiles of a decoder of the ``standard`` dialect, batch 1: prefill and decode for each capacity."""

    def shapes(capacity: int, steps: int, asked: int) -> dict[str, Shape]:
        cache = {f"past_{kind}.{i}": (1, kv_heads, capacity, head_dim) for i in range(layers) for kind in _KINDS}
        return {
            "inputs_embeds": (1, steps, hidden),
            "positions": (1, steps),
            "past_mask": (1, 1, 1, capacity),
            "new_mask": (1, 1, steps, steps),
            "logits_at": (1, asked),
            **cache,
        }

    profiles = []
    for capacity in buckets:
        chunk = min(CHUNK, capacity)
        steps = {"prefill": ((1, 1), (max(1, chunk // 4), 1), (chunk, min(ASKED, chunk))), "decode": ((1, 1),) * 3}
        for kind, trio in steps.items():
            least, usual, largest = (shapes(capacity, *sizes) for sizes in trio)
            joined = {name: (least[name], usual[name], largest[name]) for name in least}
            profiles.append(Profile(f"{kind}-{capacity}", "decoder", joined))
    return profiles


def fixed_profile(name: str, component: str, shapes: Mapping[str, Shape]) -> Profile:
    """A profile of one shape."""
    return Profile(name, component, {key: (shape, shape, shape) for key, shape in shapes.items()})


def read_profiles(data: Mapping[str, Any]) -> tuple[Profile, ...]:
    """Read the manifest's ``profiles``, none where there are none; raises `BundleError` for what is not well-formed."""
    entries = read_field(data, "profiles", list, "a list") if "profiles" in data else []
    if len(entries) > _MAX_PROFILES or not all(isinstance(entry, dict) for entry in entries):
        raise refusal("profiles", f"at most {_MAX_PROFILES} objects", entries)
    profiles = tuple(
        Profile(
            name=read_text(entry, "name"),
            component=read_choice(entry, "component", _COMPONENTS),
            shapes={name: _trio(name, trio) for name, trio in read_object(entry, "shapes").items()},
        )
        for entry in entries
    )
    if len({profile.name for profile in profiles}) < len(profiles):
        raise refusal("profiles", "different names", [profile.name for profile in profiles])
    return profiles


def _trio(name: str, data: object) -> tuple[Shape, Shape, Shape]:
    where = f"profiles: {name}"
    if not isinstance(data, list) or len(data) != 3:
        raise refusal(where, "a least, a usual and a largest shape", data)
    for shape in data:
        sizes = isinstance(shape, list) and 0 < len(shape) <= _MAX_AXES
        if not sizes or not all(type(axis) is int and 0 < axis <= _MAX_SIZE for axis in shape):
            raise refusal(where, f"1 to {_MAX_AXES} sizes from 1 to {_MAX_SIZE}", shape)
    least, usual, largest = (tuple(shape) for shape in data)
    if not len(least) == len(usual) == len(largest) or any(
        not a <= b <= c for a, b, c in zip(least, usual, largest, strict=True)
    ):
        raise refusal(where, "sizes that do not fall", data)
    return least, usual, largest

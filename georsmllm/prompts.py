"""How people word the requests that the model is trained on. The first wording of each task is the canonical one."""

from __future__ import annotations

import numpy as np

CAPTION = (
    "describe",
    "describe the image",
    "describe this image",
    "describe this scene in one sentence",
    "what is in this image?",
    "what do you see?",
    "what does this image show?",
    "give a short description of the image",
    "caption",
    "caption this image",
    "write a caption for this aerial image",
    "please describe what can be seen",
    "tell me what is in the picture",
    "summarise the scene",
)
CLASS = (
    "what is the land use class of this image?",
    "what is the land use?",
    "what is the land cover?",
    "what kind of scene is this?",
    "what type of place is this?",
    "classify this image",
    "classify the scene",
    "which class does this image belong to?",
    "which category is this?",
    "name the scene class",
    "what is the scene class?",
    "land use",
)
IS_CLASS = (
    "is this a {}?",
    "is this {}?",
    "does this image show {}?",
    "is the land use {}?",
    "does the image belong to the class {}?",
)

IMPERATIVES = frozenset(
    {
        *("caption", "classify", "compare", "count", "describe", "detect", "draw", "estimate", "find", "fit", "give"),
        *("locate", "mark", "measure", "name", "outline", "point", "predict", "put", "segment", "show", "summarise"),
        *("tell", "trace", "work", "write"),
    }
)
"""Verbs that requests begin with: one of the openings may stand before them."""
OPENINGS = ("please", "can you", "could you", "can you please")


def reword(text: str, rng: np.random.Generator) -> str:
    """The same request without its "?" or with a stop, or asked politely where it begins with a verb."""
    bare = text.rstrip(" .?!")
    first, *rest = bare.split(" ")
    if first.lower() in IMPERATIVES and rest and rng.random() < 0.6:
        opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
        ending = "" if rng.random() < 0.5 else "." if opening == "please" else "?"
        return f"{opening} {first.lower()} {' '.join(rest)}{ending}"
    return bare if text.rstrip() != bare else f"{bare}."

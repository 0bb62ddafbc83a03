"""The words that conditions are made of: adjectives and their kinds, spelling, singular and plural, and the lexer.

Categories are open: whatever is not a word of the grammar belongs to a noun. Adjectives are a closed table, because the
first word of "storage tank" must not be taken for one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gmrt.runtime.errors import GmrtError


class ConditionError(GmrtError, ValueError):
    """A condition that is not well-formed: a word that the grammar cannot say, or parts that do not belong together."""


class ParseError(ConditionError):
    """A request that is not understood; the message names the words."""


COLOURS = (
    *("white", "grey", "black", "red", "orange", "yellow", "green", "blue", "brown", "beige", "silver", "pink"),
    *("purple", "turquoise", "cyan"),
)
ADJECTIVES: dict[str, tuple[str, str]] = {
    **{word: ("colour", word) for word in COLOURS},
    **{word: ("tone", word) for word in ("dark", "bright", "hot", "cold", "warm", "cool")},
    **{word: ("size", word) for word in ("large", "medium", "small", "tiny", "huge")},
    **{word: ("orientation", word) for word in ("horizontal", "vertical", "diagonal")},
    "long": ("length", "long"),
    **{word: ("width", word) for word in ("wide", "narrow")},
    **{
        word: ("shape", word)
        for word in (
            *("round", "square", "rectangular", "oval", "triangular", "hexagonal", "irregular", "elongated"),
            *("straight", "curved", "l-shaped", "t-shaped", "u-shaped", "h-shaped", "cross-shaped"),
        )
    },
    **{
        word: ("state", word)
        for word in (
            *("parked", "moving", "moored", "docked", "empty", "full", "flooded", "burnt", "damaged", "destroyed"),
            *("intact", "abandoned", "new", "old", "bare", "ploughed", "harvested", "irrigated"),
        )
    },
    **{f"{word}-roofed": ("roof", word) for word in (*COLOURS, "dark", "flat", "gabled", "hipped")},
}
"""Adjective → (kind, value). An attribute that is not here is said as "whose KIND is VALUE"."""

ADJECTIVE_OF = {attribute: word for word, attribute in ADJECTIVES.items()}
SPELLINGS = {
    "gray": "grey",
    "color": "colour",
    "big": "large",
    "medium-sized": "medium",
    "circular": "round",
    "burned": "burnt",
}
"""Other ways of saying the same; the right one is what conditions and labels are compared in."""

COMPOUNDS = ("large vehicle", "small vehicle", "bare land", "bare soil", "hot spring", "medium residential area")
"""Names of things that begin with a word of the table of adjectives (the vehicles are DOTA's)."""

IRREGULAR = {
    **{word: word for word in ("aircraft", "spacecraft", "hovercraft", "watercraft", "sheep", "series", "species")},
    "person": "people",
    "man": "men",
    "woman": "women",
    "leaf": "leaves",
    "wharf": "wharves",
    "shelf": "shelves",
    "bus": "buses",
    "gas": "gases",
    "canvas": "canvases",
    "lens": "lenses",
    "campus": "campuses",
    "axis": "axes",
    "taxi": "taxis",
}
MASS = frozenset(
    {
        *("water", "vegetation", "grass", "farmland", "cropland", "grassland", "woodland", "wetland", "land", "soil"),
        *("sand", "snow", "ice", "asphalt", "concrete", "gravel", "rubble", "debris", "smoke", "chaparral", "barren"),
        *("agriculture", "infrastructure", "shrubland", "scrub", "pavement"),
    }
)
"""Stuff: it has no plural and no article."""

_SINGULAR = {plural: word for word, plural in IRREGULAR.items()}


def plural(noun: str) -> str:
    """Plural of a noun phrase in the singular, by its last word."""
    head, space, word = noun.rpartition(" ")
    if word in MASS:
        return noun
    if word in IRREGULAR:
        ending = IRREGULAR[word]
    elif re.search(r"(s|x|ch|sh)$", word):
        ending = word + "es"
    elif re.search(r"[^aeiou]y$", word):
        ending = word[:-1] + "ies"
    else:
        ending = word + "s"
    return head + space + ending


def singular(noun: str) -> str:
    """Singular of a noun phrase in either number, by its last word; what is singular already stays as it is."""
    head, space, word = noun.rpartition(" ")
    if word in IRREGULAR or word in MASS:
        return noun
    if word in _SINGULAR:
        ending = _SINGULAR[word]
    elif not word.endswith("s") or re.search(r"(ss|us|is)$", word):
        ending = word
    elif re.search(r"[^aeiou]ies$", word) and len(word) > 4:
        ending = word[:-3] + "y"
    elif re.search(r"(ss|x|ch|sh)es$", word):
        ending = word[:-2]
    else:
        ending = word[:-1]
    return head + space + ending


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """A noun, a kind or a value in the form in which they are compared: lower case, one spelling, one space."""
    text = " ".join(text.lower().replace("_", " ").split())
    return SPELLINGS.get(text) or " ".join(SPELLINGS.get(word, word) for word in text.split(" "))


class Token(NamedTuple):
    """One unit of a request: what it is, its canonical value, and the words as they stand in the text."""

    kind: str
    value: str
    words: str


PLACES = {
    **{word: f"on the {word}" for word in ("left", "right")},
    **{word: f"at the {word}" for word in ("top", "bottom")},
    "centre": "in the centre",
    "corner": "in a corner",
    **{f"{y} {x}": f"at the {y} {x}" for y in ("top", "bottom") for x in ("left", "right")},
}
"""Place in the image → how it is said."""
RANKS = ("largest", "smallest", "leftmost", "rightmost", "topmost", "bottommost")

_IMAGE = r"(?:the|this) (?:image|picture|scene|photo|view)"
_PLACE = (
    r"(?:on|at|in|to|near) (?:the |a )?"
    r"(?:(?:top|upper|bottom|lower)[ -](?:left|right)|left|right|top|upper|bottom|lower|centre|center|middle|corner)"
    rf"(?:[ -]hand)?(?: (?:side|part|area|corner|edge))?(?: of {_IMAGE})?"
)
_PATTERNS = (
    ("compound", "|".join(f"{word}s?" for word in COMPOUNDS)),
    ("beside", rf"(?:(?:to|on|at) the )?(?:left|right)(?:-hand side| hand side| side)? of(?! {_IMAGE})"),
    ("place", _PLACE),
    (
        "relation",
        r"next to|beside|alongside|adjacent to|close to|near|above|below|inside|within|covered by|under|in|on|at",
    ),
    ("compare", r"(?:larger|bigger|smaller) than"),
    ("clause", r"(?:that|which|who) (?:is|are|lie|lies|stand|stands)"),
    ("whose", r"whose"),
    ("be", r"is|are"),
    ("rank", r"largest|biggest|smallest|leftmost|rightmost|topmost|uppermost|bottommost|lowermost|lowest"),
    ("except", r"except for|except|but not|but"),
    ("not", r"not"),
    ("and", r"and"),
    ("or", r"or"),
    ("the", r"the|all|every|each|any"),
    ("a", r"an|a"),
    ("one", r"ones|one|objects|object|things|thing"),
    ("word", r"[a-z0-9]+(?:['&/.-]+[a-z0-9]+)*"),
)
_LEXER = re.compile(
    "|".join(f"(?P<{kind}>(?<![\\w-])(?:{pattern})(?![\\w-]))" for kind, pattern in _PATTERNS)
    + r"|(?P<open>\()|(?P<close>\))|(?P<comma>,)|(?P<unknown>\S)"
)
_SAME = {"biggest": "largest", "uppermost": "topmost", "lowermost": "bottommost", "lowest": "bottommost"} | {
    "bigger than": "larger than",
    **dict.fromkeys(("within", "covered by", "in", "on", "at", "under"), "inside"),
    **dict.fromkeys(("beside", "alongside", "adjacent to", "close to", "near"), "next to"),
}


def tokens(text: str) -> list[Token]:
    """Cut a request into tokens; raises `ParseError` at a character that no request holds."""
    text = plain(text.replace("’", "'")).rstrip(" .?!")
    found = []
    for match in _LEXER.finditer(text):
        kind, words = str(match.lastgroup), match.group()
        if kind == "unknown":
            raise ParseError(f"{words!r} is not understood in {text!r}")
        found.append(_token(kind, words))
    return found


def _token(kind: str, words: str) -> Token:
    if kind == "beside":
        return Token("relation", "left of" if "left" in words else "right of", words)
    if kind == "place":
        return Token("place", _place(words), words)
    if kind == "compound":
        return Token("word", words, words)
    if kind == "word" and words in ADJECTIVES:
        return Token("adjective", words, words)
    return Token(kind, _SAME.get(words, words), words)


def _place(words: str) -> str:
    found = re.findall(r"top|upper|bottom|lower|left|right|centre|center|middle|corner", words.replace("hand", ""))
    names = [{"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}.get(w, w) for w in found]
    return " ".join(names[:2]) if len(names) > 1 and names[1] in ("left", "right") else names[0]


_READ_OTHERWISE = "it is empty, or holds a word that the grammar reads as something else; use another name"


@lru_cache(maxsize=4096)
def check_noun(noun: str) -> None:
    """Raise `ConditionError` when a category's name holds words that the grammar reads as something else."""
    found = tokens(noun)
    if not found or found[0].kind != "word" or any(t.kind not in ("word", "adjective") for t in found):
        raise ConditionError(f"{noun!r} cannot name a category: {_READ_OTHERWISE}")


@lru_cache(maxsize=4096)
def check_value(words: str) -> None:
    """Raise `ConditionError` when an attribute's kind or value holds words that the grammar reads as something else."""
    found = tokens(words)
    if not found or any(t.kind not in ("word", "adjective") for t in found):
        raise ConditionError(f"{words!r} cannot be an attribute: {_READ_OTHERWISE}")

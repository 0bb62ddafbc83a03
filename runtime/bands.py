"""Which bands of a raster become red, green and blue, and on whose word.

The word of, in this order: the caller (``--bands``), the bands' names, their colour interpretation, the name of a
product whose band order is published. Names come before the colour interpretation because GDAL gives the latter to
any three or four bytes per pixel that somebody saves, whatever is in them. Where nobody has said, the question is put
to the caller: a wrong band order looks plausible and goes unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmrt.runtime.errors import SceneError

RGB = ("red", "green", "blue")
_ROLES = (*RGB, "nir")
_LETTERS = {"r": "red", "g": "green", "b": "blue"}
# Sentinel-2's names (HLS keeps them); "B4" without the zero is red on Landsat 8 and near infrared on Landsat 5.
_NUMBERED = {"b02": "blue", "b03": "green", "b04": "red"}
# "red edge", "coastal blue", PlanetScope's "green_i": bands of their own, not the colour that they mention.
_QUALIFIERS = frozenset({"edge", "coastal", "i", "ii", "ratio", "index", "mask"})


@dataclass(frozen=True)
class Product:
    """A product known by its file name: ``pattern`` on the name's stem, the published order of its bands, and why."""

    pattern: re.Pattern[str]
    order: tuple[str, ...]
    words: str


_PRODUCTS = (
    # USDA: four-band NAIP is red, green, blue, near infrared; m_<quad>_<quarter>_<zone>_… are its own file names.
    Product(
        re.compile(r"(^|[^a-z])naip([^a-z]|$)|^m_\d{7}_(ne|nw|se|sw)_\d{1,2}_"),
        _ROLES,
        "NAIP's band order (known from the file name)",
    ),
    Product(re.compile(r"(^|[^a-z])(rgbn|rgbnir|rgbi)([^a-z]|$)"), _ROLES, "the order that the file name states"),
    Product(re.compile(r"(^|[^a-z])rgb([^a-z]|$)"), RGB, "the order that the file name states"),
)


@dataclass(frozen=True)
class Band:
    """What a file says of one band: ``index`` from 1, its colour interpretation in GDAL's words, its description."""

    index: int
    colour: str = "undefined"
    description: str | None = None

    def __str__(self) -> str:
        """Show the band as the caller would choose it."""
        name = self.description or ("" if self.colour in {"undefined", "gray"} else self.colour)
        return f"{self.index} {name[:40]!r}" if name else str(self.index)


@dataclass(frozen=True)
class Choice:
    """The bands to draw: one index (grey) or three (red, green, blue), counted from 1, with their names.

    ``composite`` says in words what the picture is and on whose word.
    """

    indexes: tuple[int, ...]
    names: tuple[str, ...]
    composite: str


def choose(
    bands: Sequence[Band], *, asked: str | Sequence[int | str] | None = None, stem: str = "", source: str = "the image"
) -> Choice:
    """Choose the bands to draw.

    ``asked`` is the caller's choice: ``"4,3,2"``, ``"red,green,blue"``, ``"red=4,green=3,blue=2"``, one band for grey,
    or the same as a sequence. ``stem`` is the file's name without folder and suffix, ``source`` what messages call it.

    Raises `SceneError` when the caller's choice does not fit the file, or when nobody has said which bands are which.
    """
    named = _by_name(bands)
    # What contradicts a name is no hint: GDAL assumes red, green, blue at saving, and files are renamed.
    tagged = _agreeing(_by_colour(bands), named)
    product, ordered = _by_product(bands, stem)
    ordered = _agreeing(ordered, named)
    known = {**ordered, **tagged, **named}
    if asked is not None:
        return _asked(bands, asked, known, source)
    data = [band.index for band in bands if band.colour != "alpha"]
    if len(data) == 1:
        return _choice(bands, data, known, "grey")
    for roles, words in (
        (named, "true colour, by the names of the bands"),
        (tagged, "red, green and blue, by the colour interpretation"),
        (ordered, f"true colour, by {product}"),
    ):
        if all(role in roles for role in RGB):
            return _choice(bands, [roles[role] for role in RGB], roles, words)
    advice = "one of them with --bands 1" if len(bands) == 2 else "them in that order, for example with --bands 3,2,1"
    raise SceneError(
        f"{source}: has {len(bands)} bands ({_listing(bands)}) and does not say which are red, green and blue: "
        f"choose {advice}"
    )


def _choice(bands: Sequence[Band], indexes: Sequence[int], known: Mapping[str, int], words: str) -> Choice:
    meaning = {index: role for role, index in known.items()}
    names = tuple(bands[i - 1].description or meaning.get(i) or f"band {i}" for i in indexes)
    return Choice(tuple(indexes), names, words)


def _listing(bands: Sequence[Band]) -> str:
    shown = ", ".join(str(band) for band in bands[:16])
    return f"{shown}, …" if len(bands) > 16 else shown


def _role(description: str | None) -> str | None:
    words: list[str] = re.findall(r"[a-z]+|\d+", (description or "").lower())
    roles = {word for word in words if word in _ROLES}
    if len(roles) == 1 and not _QUALIFIERS & set(words):
        return roles.pop()
    alone = (description or "").strip().lower()
    return _LETTERS.get(alone) or _NUMBERED.get(alone)


def _unique(pairs: Sequence[tuple[str | None, int]]) -> dict[str, int]:
    """Keep the roles that exactly one band claims."""
    claims: dict[str, list[int]] = {}
    for role, index in pairs:
        if role is not None:
            claims.setdefault(role, []).append(index)
    return {role: indexes[0] for role, indexes in claims.items() if len(indexes) == 1}


def _by_name(bands: Sequence[Band]) -> dict[str, int]:
    exact = _unique([((band.description or "").strip().lower(), band.index) for band in bands])
    plain = {role: exact[role] for role in _ROLES if role in exact}
    return {**_unique([(_role(band.description), band.index) for band in bands]), **plain}


def _by_colour(bands: Sequence[Band]) -> dict[str, int]:
    return _unique([(band.colour if band.colour in _ROLES else None, band.index) for band in bands])


def _agreeing(hint: dict[str, int], named: Mapping[str, int]) -> dict[str, int]:
    """Return the hint, or nothing when it gives another role to a named band or another band to a named role."""
    meaning = {index: role for role, index in named.items()}
    agrees = all(meaning.get(index, role) == role and named.get(role, index) == index for role, index in hint.items())
    return hint if agrees else {}


def _by_product(bands: Sequence[Band], stem: str) -> tuple[str, dict[str, int]]:
    for product in _PRODUCTS:
        if len(bands) == len(product.order) and product.pattern.search(stem.lower()):
            return product.words, {role: index for index, role in enumerate(product.order, 1)}
    return "", {}


def _asked(bands: Sequence[Band], asked: str | Sequence[int | str], known: Mapping[str, int], source: str) -> Choice:
    words = asked.split(",") if isinstance(asked, str) else [str(word) for word in asked]
    pairs = [[part.strip() for part in word.split("=", 1)] for word in words]
    if any(len(pair) == 2 for pair in pairs):
        chosen = {pair[0].lower(): pair[-1] for pair in pairs}
        if any(len(pair) == 1 for pair in pairs) or len(pairs) != 3 or set(chosen) != set(RGB):
            raise SceneError(f"--bands {','.join(words)}: write it as red=4,green=3,blue=2, each of the three once")
        tokens = [chosen[role] for role in RGB]
    else:
        tokens = [pair[0] for pair in pairs]
    if len(tokens) not in (1, 3):
        raise SceneError(f"--bands {','.join(words)}: name three bands (red, green, blue) or one (grey)")
    indexes = [_resolve(bands, token, known, source) for token in tokens]
    shown = ", ".join(map(str, indexes))
    composite = f"band {shown}, in grey" if len(indexes) == 1 else f"bands {shown} as red, green, blue"
    return _choice(bands, indexes, known, f"{composite}, as asked")


def _resolve(bands: Sequence[Band], token: str, known: Mapping[str, int], source: str) -> int:
    """Find the band that a number, a description or a colour names."""
    if token.isdecimal():
        if 1 <= int(token) <= len(bands):
            return int(token)
    else:
        same = [band.index for band in bands if (band.description or "").strip().lower() == token.lower()]
        if len(same) == 1:
            return same[0]
        if not same and token.lower() in known:
            return known[token.lower()]
    raise SceneError(f"{source}: has no single band {token!r}: its bands are {_listing(bands)}")

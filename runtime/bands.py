"""Which bands of a raster are drawn, as what, and on whose word.

The word of, in this order: the caller (``--bands``), the bands' names, their wavelengths, their colour interpretation,
the name of a product whose band order is published. Names come before the colour interpretation because GDAL gives the
latter to any three or four bytes per pixel that somebody saves, whatever is in them. Where nobody has said, the
question is put to the caller: a wrong band order looks plausible and goes unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gmrt.runtime.errors import SceneError
from gmrt.runtime.sensors import POLARISATIONS, band_table, roles_by_wavelength

Drawing = Literal["colour", "grey", "echo", "sar", "ndvi"]

RGB = ("red", "green", "blue")
_RGBN = (*RGB, "nir")
_ROLES = (*_RGBN, "coastal", "rededge", "nir08", "nir09", "swir16", "swir22", "lwir", "pan", *POLARISATIONS)
_LETTERS = {"r": "red", "g": "green", "b": "blue"}
_ALIASES = {"swir1": "swir16", "swir2": "swir22", "nir1": "nir", "nir2": "nir09", "tir": "lwir", "thermal": "lwir"}
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
        _RGBN,
        "NAIP's band order (known from the file name)",
    ),
    # Planet: four bands are blue, green, red, near infrared; eight are those of SuperDove.
    Product(
        re.compile(r"_3b_analyticms|_analyticms_sr"),
        ("blue", "green", "red", "nir"),
        "PlanetScope's band order (known from the file name)",
    ),
    Product(
        re.compile(r"_analyticms(_sr)?_8b|_analyticms_8b_sr"),
        ("coastal", "blue", "green i", "green", "yellow", "red", "rededge", "nir"),
        "PlanetScope's band order (known from the file name)",
    ),
    # Maxar: the eight bands of WorldView-2 and -3, and four of any of the fleet, in the order of their wavelengths.
    Product(
        re.compile(r"(^|[^a-z])(wv0?[23]|worldview[ _-]?[23])([^0-9]|$)|-[mp]\d[abd]s[-_]"),
        ("coastal", "blue", "green", "yellow", "red", "rededge", "nir", "nir09"),
        "WorldView's band order (known from the file name)",
    ),
    Product(
        re.compile(r"(^|[^a-z])(wv0?[234]|worldview[ _-]?[234]|ge0?1|qb0?2)([^0-9]|$)|-m\d[abd]s[-_]"),
        ("blue", "green", "red", "nir"),
        "WorldView's band order (known from the file name)",
    ),
    Product(re.compile(r"(^|[^a-z])(rgbn|rgbnir|rgbi)([^a-z]|$)"), _RGBN, "the order that the file name states"),
    Product(re.compile(r"(^|[^a-z])rgb([^a-z]|$)"), RGB, "the order that the file name states"),
)


@dataclass(frozen=True)
class Recipe:
    """A composite: how it is drawn, from which roles (for each, those that serve, the best first), and its name."""

    drawing: Drawing
    roles: tuple[tuple[str, ...], ...]
    words: str


_NIR = ("nir", "nir08")
COMPOSITES: Mapping[str, Recipe] = {
    "true-color": Recipe("colour", (("red",), ("green",), ("blue",)), "true colour"),
    "false-color": Recipe("colour", (_NIR, ("red",), ("green",)), "false colour (near infrared, red, green)"),
    "swir": Recipe(
        "colour", (("swir22", "swir16"), _NIR, ("red",)), "short-wave infrared (short-wave, near infrared, red)"
    ),
    "ndvi": Recipe("ndvi", (_NIR, ("red",)), "vegetation index (NDVI), brown to green"),
    "sar": Recipe("sar", (("vv", "hh"), ("vh", "hv")), "radar pseudo-colour (co-polarised, cross-polarised, ratio)"),
}
"""What ``--composite`` takes."""


@dataclass(frozen=True)
class Band:
    """What a file says of one band.

    ``index`` from 1, its colour interpretation in GDAL's words, its description, the centre in nanometres, and its role
    (`gmrt.runtime.sensors`) where the product's own metadata give one.
    """

    index: int
    colour: str = "undefined"
    description: str | None = None
    wavelength: float | None = None
    role: str | None = None

    def __str__(self) -> str:
        """Show the band as the caller would choose it."""
        name = self.description or ("" if self.colour in {"undefined", "gray"} else self.colour)
        return f"{self.index} {name[:40]!r}" if name else str(self.index)


@dataclass(frozen=True)
class Choice:
    """The bands to draw, counted from 1, with their names, and how.

    ``drawing`` is "colour" (three bands), "grey" or "echo" (one, the latter of a radar), "sar" or "ndvi" (two).
    ``composite`` says in words what the picture is and on whose word; ``name`` is what ``--composite`` calls it, or
    "grey" or "bands". ``wavelengths`` are centres in nanometres, None where nobody says.
    """

    indexes: tuple[int, ...]
    names: tuple[str, ...]
    composite: str
    name: str = "bands"
    drawing: Drawing = "colour"
    wavelengths: tuple[float | None, ...] = ()


def choose(
    bands: Sequence[Band],
    *,
    asked: str | Sequence[int | str] | None = None,
    composite: str | None = None,
    stem: str = "",
    source: str = "the image",
) -> Choice:
    """Choose the bands to draw.

    ``asked`` is the caller's choice: ``"4,3,2"``, ``"red,green,blue"``, ``"red=4,green=3,blue=2"``, one band for grey,
    or the same as a sequence; with a ``composite`` of `COMPOSITES`, or with other names than red, green and blue, it
    says which band is which, as in ``"red=1,nir=4"``. Without either the bands are drawn as true colour, or as radar or
    false colour where that is all there is. ``stem`` is the file's name without folder and suffix, ``source`` what
    messages call it.

    Raises `SceneError` when the caller's choice does not fit the file, or when nobody has said which bands are which.
    """
    if composite is not None and composite not in COMPOSITES:
        raise SceneError(f"--composite {composite}: there is none of this name; choose one of {', '.join(COMPOSITES)}")
    bands = _with_sensor(bands, stem)
    named = _by_name(bands)
    # What contradicts a name is no hint: GDAL assumes red, green, blue at saving, and files are renamed.
    placed = roles_by_wavelength({band.index: band.wavelength for band in bands if band.wavelength is not None})
    placed = _agreeing(placed, named)
    tagged = _agreeing(_by_colour(bands), named)
    product, ordered = _by_product(bands, stem)
    ordered = _agreeing(ordered, named)
    known = {**ordered, **tagged, **placed, **named}
    if asked is not None:
        assigned = _assigned(bands, asked, known, source)
        if assigned is None or (composite is None and set(assigned) == set(RGB)):
            if composite is not None:
                raise SceneError(f"--composite {composite}: write --bands as red=4,nir=8, to say which band is which")
            return _asked(bands, asked, known, source)
        if composite is None:  # what is drawn must follow from the caller's words alone
            known, named, placed, tagged, ordered = assigned, assigned, {}, {}, {}
        else:
            known = {**{role: at for role, at in known.items() if at not in assigned.values()}, **assigned}
    if composite is not None:
        return _composite(bands, known, composite, source)
    data = [band.index for band in bands if band.colour != "alpha"]
    if len(data) == 1:
        return _choice(bands, data, known, "grey", "grey", _grey(data[0], known))
    for roles, words in (
        (named, "true colour, by the names of the bands"),
        (tagged, "red, green and blue, by the colour interpretation"),
        ({**placed, **named}, "true colour, by the wavelengths of the bands"),
        (ordered, f"true colour, by {product}"),
    ):
        if all(role in roles for role in RGB):
            return _choice(bands, [roles[role] for role in RGB], roles, words, "true-color")
    for name in ("sar", "false-color"):
        indexes = _filled({**placed, **named}, COMPOSITES[name])
        if indexes is not None:
            recipe = COMPOSITES[name]
            words = f"{recipe.words}, because it has no red, green and blue"
            return _choice(bands, indexes, known, words, name, recipe.drawing)
    raise SceneError(_question(bands, source))


def _with_sensor(bands: Sequence[Band], stem: str) -> list[Band]:
    """Bands whose names are a sensor's numbers, with their roles and wavelengths."""
    _, table = band_table([band.description or "" for band in bands], stem)
    found = []
    for band in bands:
        one = table.get(band.description or "")
        if one is None or band.role is not None:
            found.append(band)
        else:
            wavelength = band.wavelength or one.wavelength
            found.append(Band(band.index, band.colour, band.description, wavelength, one.role))
    return found


def _question(bands: Sequence[Band], source: str) -> str:
    if len(bands) == 2:
        advice = "one of them with --bands 1"
    else:
        advice = "them in that order, for example with --bands 3,2,1, or say which is which with --bands red=3,nir=4,…"
    return (
        f"{source}: has {len(bands)} bands ({_listing(bands)}) and does not say which are red, green and blue: "
        f"choose {advice}"
    )


def _filled(known: Mapping[str, int], recipe: Recipe) -> list[int] | None:
    """The bands that a recipe takes, None where one is missing."""
    indexes = [next((known[role] for role in roles if role in known), 0) for roles in recipe.roles]
    return indexes if all(indexes) else None


def _composite(bands: Sequence[Band], known: Mapping[str, int], name: str, source: str) -> Choice:
    recipe = COMPOSITES[name]
    indexes = _filled(known, recipe)
    if indexes is None:
        missing = [roles[0] for roles in recipe.roles if not set(roles) & set(known)]
        named = ",".join(f"{role}=…" for role in missing)
        raise SceneError(
            f"{source}: --composite {name} needs {' and '.join(missing)}, and its bands are {_listing(bands)}: "
            f"say which they are with --bands {named}, or choose another composite"
        )
    return _choice(bands, indexes, known, f"{recipe.words}, as asked", name, recipe.drawing)


def _choice(
    bands: Sequence[Band],
    indexes: Sequence[int],
    known: Mapping[str, int],
    words: str,
    name: str = "bands",
    drawing: Drawing = "colour",
) -> Choice:
    meaning = {index: role for role, index in known.items()}
    names = tuple(bands[i - 1].description or meaning.get(i) or f"band {i}" for i in indexes)
    wavelengths = tuple(bands[i - 1].wavelength for i in indexes)
    return Choice(tuple(indexes), names, words, name, drawing, wavelengths)


def _grey(index: int, known: Mapping[str, int]) -> Drawing:
    return "echo" if any(known.get(role) == index for role in POLARISATIONS) else "grey"


def _listing(bands: Sequence[Band]) -> str:
    shown = ", ".join(str(band) for band in bands[:16])
    return f"{shown}, …" if len(bands) > 16 else shown


def _role(description: str | None) -> str | None:
    alone = (description or "").strip().lower()
    squeezed = re.sub(r"[^a-z0-9]", "", alone)
    if squeezed in _ALIASES or squeezed in _ROLES:
        return _ALIASES.get(squeezed, squeezed)
    words: list[str] = re.findall(r"[a-z]+|\d+", alone)
    roles = {word for word in words if word in (*_RGBN, *POLARISATIONS)}
    if len(roles) == 1 and not _QUALIFIERS & set(words):
        return roles.pop()
    return _LETTERS.get(alone)


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
    return {**_unique([(band.role or _role(band.description), band.index) for band in bands]), **plain}


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


def _words(asked: str | Sequence[int | str]) -> list[str]:
    return asked.split(",") if isinstance(asked, str) else [str(word) for word in asked]


def _assigned(
    bands: Sequence[Band], asked: str | Sequence[int | str], known: Mapping[str, int], source: str
) -> dict[str, int] | None:
    """Which band the caller says is which (``red=4,nir=8``); None for a list of bands to draw."""
    words = _words(asked)
    pairs = [[part.strip() for part in word.split("=", 1)] for word in words]
    if not any(len(pair) == 2 for pair in pairs):
        return None
    names = [pair[0].lower() for pair in pairs]
    if any(len(pair) == 1 for pair in pairs) or len(set(names)) < len(names) or not set(names) <= set(_ROLES):
        raise SceneError(
            f"--bands {','.join(words)}: write it as red=4,green=3,blue=2, each once, of {', '.join(_ROLES)}"
        )
    return {name: _resolve(bands, pair[1], known, source) for name, pair in zip(names, pairs, strict=True)}


def _asked(bands: Sequence[Band], asked: str | Sequence[int | str], known: Mapping[str, int], source: str) -> Choice:
    assigned = _assigned(bands, asked, known, source)
    tokens = _words(asked)
    if assigned is not None:
        indexes = [assigned[role] for role in RGB]
    elif len(tokens) in (1, 3):
        indexes = [_resolve(bands, token.strip(), known, source) for token in tokens]
    else:
        raise SceneError(f"--bands {','.join(tokens)}: name three bands (red, green, blue) or one (grey)")
    shown = ", ".join(map(str, indexes))
    if len(indexes) == 1:
        words = f"band {shown}, in grey, as asked"
        return _choice(bands, indexes, known, words, "grey", _grey(indexes[0], known))
    return _choice(bands, indexes, known, f"bands {shown} as red, green, blue, as asked")


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

"""What is published about sensors: the names, the roles and the wavelengths of their bands, and how values are stored.

A *role* is what a band is for, in the words of STAC's electro-optical extension (``common_name``: red, nir, swir16, …);
a radar band's role is its polarisation. Wavelengths are centres in nanometres.

Sources: Sentinel-2 MSI, ESA's SentiWiki (S2 products); Landsat 8/9 OLI/TIRS, Landsat 4-7 TM/ETM+, USGS (LSDS-1618,
LSDS-1619); the ranges of roles, the STAC electro-optical extension 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

POLARISATIONS = ("vv", "vh", "hh", "hv")


@dataclass(frozen=True)
class SensorBand:
    """One band of a sensor: its ``role``, None for one that no composite draws, and the centre in nanometres."""

    role: str | None
    wavelength: float


SENTINEL_2: Mapping[str, SensorBand] = {
    "B01": SensorBand("coastal", 443),
    "B02": SensorBand("blue", 490),
    "B03": SensorBand("green", 560),
    "B04": SensorBand("red", 665),
    "B05": SensorBand("rededge", 705),
    "B06": SensorBand(None, 740),
    "B07": SensorBand(None, 783),
    "B08": SensorBand("nir", 842),
    "B8A": SensorBand("nir08", 865),
    "B09": SensorBand("nir09", 945),
    "B10": SensorBand("cirrus", 1375),
    "B11": SensorBand("swir16", 1610),
    "B12": SensorBand("swir22", 2190),
}
LANDSAT_8: Mapping[str, SensorBand] = {
    "B1": SensorBand("coastal", 443),
    "B2": SensorBand("blue", 482),
    "B3": SensorBand("green", 561),
    "B4": SensorBand("red", 655),
    "B5": SensorBand("nir", 865),
    "B6": SensorBand("swir16", 1609),
    "B7": SensorBand("swir22", 2201),
    "B8": SensorBand("pan", 590),
    "B9": SensorBand("cirrus", 1373),
    "B10": SensorBand("lwir", 10895),
    "B11": SensorBand(None, 12005),
}
LANDSAT_5: Mapping[str, SensorBand] = {
    "B1": SensorBand("blue", 485),
    "B2": SensorBand("green", 560),
    "B3": SensorBand("red", 660),
    "B4": SensorBand("nir", 830),
    "B5": SensorBand("swir16", 1650),
    "B6": SensorBand("lwir", 11450),
    "B7": SensorBand("swir22", 2215),
    "B8": SensorBand("pan", 710),
}

# Where a band may lie to have a role, and the place it is best at: of a hyperspectral cube the nearest band is taken.
_RANGES: Mapping[str, tuple[float, float, float]] = {
    "coastal": (400, 450, 443),
    "blue": (450, 515, 490),
    "green": (515, 595, 560),
    "red": (600, 690, 665),
    "rededge": (690, 735, 705),
    "nir": (750, 950, 842),
    "swir16": (1500, 1750, 1610),
    "swir22": (2050, 2400, 2200),
    "lwir": (8000, 14000, 10900),
}

_COMMON = "red|green|blue|nir|nir08|nir09|swir16|swir22|coastal|rededge|lwir|pan"
BAND_FILE = re.compile(
    rf"(?:(?P<prefix>.+?)[-_.])?(?P<band>B\d{{1,2}}A?|S[RT]_B\d{{1,2}}|VV|VH|HH|HV|{_COMMON})(?:_(?P<metres>\d\d)m)?",
    re.IGNORECASE,
)
"""A file's stem that ends in the name of its band: groups prefix, band, and metres where Sentinel-2's say them."""

_OLI = re.compile(r"(^|[^a-z0-9])(l[co]0?[89]|l[89]|landsat[ _-]?[89])([^0-9a-z]|$)|hls[._]l30")
_TM = re.compile(r"(^|[^a-z0-9])(l[tem]0?[4-7]|l[4-7]|landsat[ _-]?[4-7])([^0-9a-z]|$)")
_MSI = re.compile(r"(^|[^a-z0-9])(s2[abcd]?|sentinel[ _-]?2[abcd]?|hls\.s30)([^0-9a-z]|$)")
_DATE = re.compile(r"(?:^|_)(20\d\d[01]\d[0-3]\d)(?:T\d{6})?(?:_|$)")
_BASELINE = re.compile(r"_N(\d{4})_")


def plain_name(name: str) -> str:
    """``"SR_B4"``, ``"ST_B10"`` and ``"b4"`` as ``"B4"`` and ``"B10"``: the band's own name in a product."""
    return re.sub(r"^(SR|ST)_", "", name.strip().upper())


def band_table(names: Iterable[str], hint: str = "") -> tuple[str, Mapping[str, SensorBand]]:
    """The sensor whose numbered bands these are, and its table under the names given; ``("", {})`` where it is open.

    ``hint`` is the name of the file or the folder. "B04" with its zero is Sentinel-2's (HLS keeps it); "B4" is red on
    Landsat 8 and near infrared on Landsat 5, and only a hint or a band that one sensor alone has can tell.
    """
    given = [name for name in names if name]
    plain = {name: plain_name(name) for name in given}
    present = set(plain.values())
    hint = hint.lower()
    if _OLI.search(hint):
        sensor, table = "Landsat 8/9", LANDSAT_8
    elif _TM.search(hint):
        sensor, table = "Landsat 4-7", LANDSAT_5
    elif _MSI.search(hint) or present & {"B01", "B02", "B03", "B04", "B08", "B8A", "B12"}:
        sensor, table = "Sentinel-2", SENTINEL_2
    elif present & {"B10", "B11"} or any(name.upper() == "SR_B6" for name in given):
        sensor, table = "Landsat 8/9", LANDSAT_8
    else:
        return "", {}
    width = 3 if sensor == "Sentinel-2" else 0
    found = {name: table[key] for name in given if (key := _numbered(plain[name], width)) in table}
    return (sensor, found) if found else ("", {})


def _numbered(name: str, width: int) -> str:
    """``B4`` as ``B04`` for a sensor that pads, and the other way round."""
    found = re.fullmatch(r"B0*(\d{1,2})(A?)", name)
    if found is None:
        return name
    number, letter = found.groups()
    return f"B{number}{letter}" if letter or not width else f"B{number:0>2}"


def roles_by_wavelength(wavelengths: Mapping[int, float]) -> dict[str, int]:
    """Which band (by its index) is best for each role, of bands with known centres in nanometres."""
    roles = {}
    for role, (low, high, best) in _RANGES.items():
        inside = {index: abs(centre - best) for index, centre in wavelengths.items() if low <= centre < high}
        if inside:
            roles[role] = min(inside, key=inside.__getitem__)
    return roles


def sentinel_2_offset(name: str) -> float | None:
    """What is to be added to Sentinel-2's stored numbers, by the product's name; None where the name does not say.

    Processing baseline 04.00, from 25 January 2022, stores reflectance × 10000 + 1000; older products that were
    processed again carry a later baseline in their names.
    """
    if found := _BASELINE.search(name):
        return -1000.0 if int(found.group(1)) >= 400 else 0.0
    found = _DATE.search(name)
    return 0.0 if found and found.group(1) < "20220125" else None

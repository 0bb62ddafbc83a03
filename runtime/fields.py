"""Fields of ``bundle.json``, which anyone may have written: as they must be, or a `BundleError` that names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from gmrt.runtime.errors import BundleError

MANIFEST_NAME = "bundle.json"

_VERSION = re.compile(r"\d+(\.\d+)*")

T = TypeVar("T")


def refusal(key: str, wanted: str, value: object) -> BundleError:
    """What to raise for a field that is not as it must be."""
    shown = repr(value)
    return BundleError(f"{MANIFEST_NAME}: {key} must be {wanted}, got {shown[:80]}: export the bundle again")


def read_field(data: Mapping[str, Any], key: str, kind: type[T], wanted: str) -> T:
    """A field of a kind, called ``wanted`` where it is of another; True and False are no numbers."""
    if key not in data:
        raise BundleError(f"{MANIFEST_NAME}: {key} is missing: export the bundle again")
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise refusal(key, wanted, value)
    return value


def read_text(data: Mapping[str, Any], key: str) -> str:
    """A string."""
    return read_field(data, key, str, "a string")


def read_object(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object."""
    return read_field(data, key, dict, "an object")


def read_whole(data: Mapping[str, Any], key: str, limit: int) -> int:
    """A whole number from 1 to ``limit``."""
    value = read_field(data, key, int, "a whole number")
    if not 0 < value <= limit:
        raise refusal(key, f"from 1 to {limit}", value)
    return value


def read_number(key: str, value: object, limit: float) -> float:
    """A value already read, as a number above 0 and up to ``limit``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limit:
        raise refusal(key, f"a number above 0, at most {limit:g}", value)
    return float(value)


def read_choice(data: Mapping[str, Any], key: str, options: tuple[str, ...]) -> str:
    """One of ``options``."""
    value = read_text(data, key)
    if value not in options:
        raise refusal(key, f"one of {', '.join(options)}", value)
    return value


def read_version(data: Mapping[str, Any], key: str) -> str:
    """A version: numbers with dots."""
    value = read_text(data, key)
    if not _VERSION.fullmatch(value):
        raise refusal(key, "a version such as 1.22.0", value)
    return value


def read_path(name: object, where: str) -> str:
    """Return ``name`` when it is a plain relative path of forward slashes that stays inside the bundle."""
    plain = isinstance(name, str) and bool(name) and not re.search(r"[\\:\x00-\x1f]", name)
    path = PurePosixPath(str(name))
    if not plain or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise BundleError(
            f"{MANIFEST_NAME}: {where} names {str(name)[:80]!r}, which is not a plain path inside the bundle: "
            "do not use this bundle unless you know who made it"
        )
    return str(name)

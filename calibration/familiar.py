"""Fit the profiles by which a model tells images that are unlike its own (`gmrt.runtime.familiar`).

The thresholds come from images that the centres have not seen: four times a quarter is left out, scored by a profile of
the rest, and a quantile of all these scores is the threshold of a profile of everything. Images that follow one another
in a set often show one place (tiles of a raster, UC Merced), so they are left out in blocks. Each set has profiles of
its own, because what is usual for one (the grey blur of a thermal image) would be a licence for noise in another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import GmrtError
from gmrt.runtime.familiar import (
    PIXEL_FEATURES,
    Familiarity,
    Profile,
    describe_embeddings,
    describe_pixels,
    open_profiles,
    pack_profiles,
)
from gmrt.runtime.manifest import FamiliarSpec, ProfileSpec

FloatArray = npt.NDArray[np.float32]
Encode = Callable[[FloatArray], FloatArray]

PROFILE_NAME = "familiar.json"
ARRAY_NAMES = {"embeddings": "familiar_embeddings.npy", "pixels": "familiar_pixels.npy"}
VERSION = 1
MINIMUM = 48
"""Fewer images do not tell what is usual, and no profile is made of them."""

QUANTILE = 0.995
_CENTRES = 8
_AXES = {"embeddings": 24, "pixels": PIXEL_FEATURES}
_FOLDS, _BLOCK = 4, 10
_ROUNDS = 20
_SHRINK = 0.2
_SMALLEST = 1e-3


@dataclass(frozen=True)
class Described:
    """A set of images in its order: what the tower saw, ``embeddings`` [n, D], and ``pixels`` [n, PIXEL_FEATURES]."""

    source: str
    embeddings: FloatArray
    pixels: FloatArray


@dataclass(frozen=True)
class Fitted:
    """Fitted profiles of the ``sets`` that are named, and the ``quantile`` that their thresholds are of.

    ``images`` counts the images, ``checkpoint`` is the sha256 of the weights whose embeddings were described.
    """

    familiarity: Familiarity
    sets: tuple[str, ...]
    quantile: float
    images: int
    checkpoint: str

    def save_arrays(self, folder: Path | str) -> FamiliarSpec:
        """Write the profiles into a folder; returns what a manifest says of them."""
        specs = {}
        for what, name in ARRAY_NAMES.items():
            profiles: tuple[Profile, ...] = getattr(self.familiarity, what)
            np.save(Path(folder) / name, pack_profiles(profiles))
            specs[what] = ProfileSpec(name, len(profiles[0].axes), tuple(p.threshold for p in profiles))
        return FamiliarSpec(**specs, sets=self.sets, quantile=self.quantile, images=self.images)

    def save(self, folder: Path | str) -> None:
        """Write profiles and ``familiar.json`` beside the checkpoint in ``folder``."""
        facts = {"version": VERSION, "checkpoint": self.checkpoint, **self.save_arrays(folder).to_dict()}
        (Path(folder) / PROFILE_NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_fitted(folder: Path | str, hidden_size: int) -> Fitted:
    """Read the profiles beside a checkpoint of ``hidden_size``; raise `GmrtError` when they are missing or no such."""
    file = Path(folder) / PROFILE_NAME
    try:
        facts = _read_facts(file)
        sizes = {"embeddings": hidden_size, "pixels": PIXEL_FEATURES}
        profiles = {
            what: open_profiles(
                file.with_name(name),
                features=sizes[what],
                axes=int(facts[what]["axes"]),
                thresholds=[float(t) for t in facts[what]["thresholds"]],
            )
            for what, name in ARRAY_NAMES.items()
        }
        return Fitted(
            familiarity=Familiarity(**profiles),
            sets=tuple(str(name) for name in facts["sets"]),
            quantile=float(facts["quantile"]),
            images=int(facts["images"]),
            checkpoint=str(facts["checkpoint"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GmrtError(f"{file}: not readable profiles of images ({error}): fit them again") from None


def _read_facts(file: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if facts["version"] != VERSION:
        raise ValueError(f"version {facts['version']} is not {VERSION}")
    return facts


def describe_images(source: str, encode: Encode, pixels: Iterable[FloatArray]) -> Described:
    """Describe images [3, H, W] by themselves and by what ``encode``, [1, 3, H, W] to [1, T, D], makes of them."""
    pairs = [(describe_embeddings(encode(image[None])[0]), describe_pixels(image)) for image in pixels]
    return Described(source, np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs]))


def fit_familiarity(sets: Sequence[Described], *, checkpoint: str, quantile: float = QUANTILE, seed: int = 0) -> Fitted:
    """Fit profiles and thresholds to one or more sets of images.

    Raises `GmrtError` when a set has fewer than `MINIMUM` images, or a number that is not finite.
    """
    for one in sets:
        if len(one.pixels) < MINIMUM:
            raise GmrtError(
                f"{one.source}: {len(one.pixels)} images, and a profile of what is usual needs {MINIMUM} or more"
            )
    profiles = Familiarity(
        embeddings=tuple(fit_profile(one.embeddings, _AXES["embeddings"], quantile, seed) for one in sets),
        pixels=tuple(fit_profile(one.pixels, _AXES["pixels"], quantile, seed) for one in sets),
    )
    images = sum(len(one.pixels) for one in sets)
    return Fitted(profiles, tuple(one.source for one in sets), quantile, images, checkpoint)


def fit_profile(descriptions: FloatArray, axes: int, quantile: float = QUANTILE, seed: int = 0) -> Profile:
    """Fit a profile with up to ``axes`` axes to the descriptions [n, F] of a set, in the order of its images.

    Raises `GmrtError` when a number is not finite.
    """
    if not np.isfinite(descriptions).all():
        raise GmrtError("a description of a calibration image is not finite: check the checkpoint")
    count = len(descriptions)
    # Small sets have small blocks, so that every fold has several.
    fold = np.arange(count) // max(1, min(_BLOCK, count // (2 * _FOLDS))) % _FOLDS
    scores = [_fit(descriptions[fold != out], axes, seed).score(descriptions[fold == out]) for out in range(_FOLDS)]
    threshold = float(np.quantile(np.concatenate(scores), quantile))
    return replace(_fit(descriptions, axes, seed), threshold=threshold)


def _fit(descriptions: FloatArray, axes: int, seed: int) -> Profile:
    """One profile of descriptions [n, F], with the precision that it is stored in."""
    values = descriptions.astype(np.float64)
    count, features = values.shape
    mean, spread = values.mean(axis=0), values.std(axis=0)
    # A feature that never moved among the images must not make a stranger of every image in which it does a little.
    deviation = np.maximum(spread, max(0.1 * float(spread.mean()), _SMALLEST))
    standard = (values - mean) / deviation
    owner = _cluster(standard, _CENTRES, np.random.default_rng(seed))
    centres = np.stack([standard[owner == c].mean(axis=0) for c in np.unique(owner)])
    within = standard - centres[np.unique(owner, return_inverse=True)[1]]
    variances, directions = np.linalg.eigh(within.T @ within / max(1, count - len(centres)))
    shrink = max(_SHRINK, features / (features + count))  # the fewer images, the rounder
    variances = (1 - shrink) * np.maximum(variances, 0) + shrink * variances.mean() + _SMALLEST
    kept = min(axes, features)
    rest = float(variances[:-kept].mean()) if kept < features else 1.0
    # A set with fewer centres repeats one: the profiles of all sets are of one size.
    centres = centres[np.arange(_CENTRES) % len(centres)]
    fields = (mean, deviation, directions.T[-kept:], variances[-kept:], centres)
    profile = Profile(*(field.astype(np.float32) for field in fields), rest=rest, threshold=1.0)
    return Profile.from_array(profile.to_array(), kept, threshold=1.0)


def _cluster(points: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The cluster of each of points [n, F]: k-means from far-apart seeds (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [points[rng.integers(len(points))]]
    nearest = np.square(points - chosen[0]).sum(axis=1)
    while len(chosen) < count and nearest.sum() > 0:
        chosen.append(points[rng.choice(len(points), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, np.square(points - chosen[-1]).sum(axis=1))
    centres = np.stack(chosen)
    owner = np.zeros(len(points), np.int64)
    for _ in range(_ROUNDS):
        owner = (np.square(centres).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)
        centres = np.stack(
            [points[owner == c].mean(axis=0) if (owner == c).any() else m for c, m in enumerate(centres)]
        )
    return owner

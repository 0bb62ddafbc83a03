"""Is an image like those that the model was calibrated on? Two distances: of what the tower saw, and of the picture.

An image is described twice: by the mean of its embeddings over its tokens, and by 58 statistics of the tower's input
(brightness, colour, differences between neighbours at five scales). A tower that was taught a few classes answers noise
and pages with one of them, so its embeddings alone miss much; the statistics alone know nothing of what is shown.

Images come in sets (aerial, satellite, thermal, ...), and each set has a profile of its own: a few centres found by
k-means, and one shrunk covariance around them. The score is the squared Mahalanobis distance to the nearest centre (Lee
et al. 2018, arXiv:1807.03888, who have a centre per class). Along its first axes the covariance has variances of their
own, and one variance in all other directions, which a few hundred images cannot tell apart. (The distance to the k-th
nearest image, Sun et al. 2022, arXiv:2204.06507, did no better here and needs every image in the bundle.)

An image is familiar when there is a set in which both of its scores are within their thresholds, high quantiles of the
scores of images that the profile was not fitted on. What this notices is another kind of picture: noise, a face, a
page. A place that the model was never taught, seen in the usual way, passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray

MAX_BYTES = 1 << 20
WARNING = "this image is unlike anything that the model was calibrated on: do not rely on the answer"

_SCALES = 5
_SMALLEST_SIDE = 6
_STACKED = 3
_STRUCTURE = 7
PIXEL_FEATURES = 3 + 3 + 7 + _SCALES * (_STRUCTURE + 2)


@dataclass(frozen=True)
class Profile:
    """What one description of F features is for calibration images, and the ``threshold`` of its score.

    ``mean`` and ``deviation`` [F] standardise a description; ``centres`` [K, F] lie in that space; ``axes`` [R, F] are
    orthonormal, ``variances`` [R] those of images around their centre along them, and ``rest`` the variance in every
    direction that no axis covers.
    """

    mean: FloatArray
    deviation: FloatArray
    axes: FloatArray
    variances: FloatArray
    centres: FloatArray
    rest: float
    threshold: float

    def score(self, descriptions: FloatArray) -> FloatArray:
        """How unlike the calibration images are images described by [N, F]: [N], about 1 for one of them."""
        standard = (descriptions - self.mean) / self.deviation
        features = standard.shape[1]
        apart = standard[:, None] - self.centres
        along = np.square(apart @ self.axes.T)
        distance = (along / self.variances).sum(axis=2)
        if len(self.axes) < features:
            distance += np.maximum(np.square(apart).sum(axis=2) - along.sum(axis=2), 0) / np.float32(self.rest)
        score: FloatArray = distance.min(axis=1) / np.float32(features)
        return score

    def to_array(self) -> npt.NDArray[np.float16]:
        """Pack into float16 [2 + R + K, F + 1], a set's part of ``familiar_*.npy``.

        Rows: the mean; the deviation; the axes; the centres. The last column holds ``rest`` in the second row, the
        variances beside the axes, and zeros.
        """
        features, count = len(self.mean), len(self.axes)
        packed = np.zeros((2 + count + len(self.centres), features + 1), np.float32)
        packed[0, :-1], packed[1, :-1], packed[1, -1] = self.mean, self.deviation, self.rest
        packed[2 : 2 + count, :-1], packed[2 : 2 + count, -1] = self.axes, self.variances
        packed[2 + count :, :-1] = self.centres
        return packed.astype(np.float16)

    @classmethod
    def from_array(cls, packed: npt.NDArray[np.float16], axes: int, threshold: float) -> Profile:
        """Read what `to_array` packed; raise ValueError when it cannot be a profile of so many ``axes``."""
        rows = packed.astype(np.float32)
        if rows.ndim != 2 or not 1 <= axes <= len(rows) - 3 or rows.shape[1] <= axes or not np.isfinite(rows).all():
            raise ValueError(f"{packed.dtype} {list(packed.shape)} cannot hold {axes} axes and a centre, all finite")
        along, variances = rows[2 : 2 + axes, :-1], rows[2 : 2 + axes, -1]
        if not (rows[1] > 0).all() or not (variances > 0).all():
            raise ValueError("a deviation or a variance is not above zero")
        return cls(rows[0, :-1], rows[1, :-1], along, variances, rows[2 + axes :, :-1], float(rows[1, -1]), threshold)


@dataclass(frozen=True)
class Familiarity:
    """For each set of calibration images a profile of its ``embeddings`` and one of its ``pixels``."""

    embeddings: tuple[Profile, ...]
    pixels: tuple[Profile, ...]

    def strangeness(self, embeds: FloatArray, pixels: FloatArray) -> float:
        """How unlike an image is, by its embeddings [T, D] and the tower's input [3, H, W]; unfamiliar above 1."""
        seen, picture = describe_embeddings(embeds)[None], describe_pixels(pixels)[None]
        of_sets = (
            max(float(profile.score(seen)[0]) / profile.threshold, float(other.score(picture)[0]) / other.threshold)
            for profile, other in zip(self.embeddings, self.pixels, strict=True)
        )
        return min(of_sets)


def describe_embeddings(embeds: FloatArray) -> FloatArray:
    """What the tower saw, wherever it saw it: the mean over tokens of embeddings [T, D], float32 [D]."""
    mean: FloatArray = embeds.mean(axis=0, dtype=np.float32)
    return mean


def describe_pixels(pixels: FloatArray) -> FloatArray:
    """What the tower's input [3, H, W] looks like as a mere picture: float32 [`PIXEL_FEATURES`].

    Of brightness and of two colour differences the mean, the spread and of brightness seven quantiles; then at five
    scales, each half as fine as the one before, how much neighbours differ, how unevenly these differences are spread
    (flat areas, hard edges, busy and quiet parts), in which direction they run, and how they change in turn.
    """
    brightness: FloatArray = pixels.mean(axis=0, dtype=np.float32)
    planes = [brightness, pixels[0] - pixels[1], pixels[2] - brightness]
    found: list[float] = [float(plane.mean()) for plane in planes]
    found += [_log(float(plane.std()), 0.01) for plane in planes]
    found += np.quantile(brightness[::2, ::2], (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)).tolist()
    for _ in range(_SCALES):
        if min(planes[0].shape) < _SMALLEST_SIDE // 2:  # a tiny input, which has no neighbours of neighbours
            found += [0.0] * (_STRUCTURE + 2)
            continue
        found += _structure(planes[0])
        planes = [_halve(plane) for plane in planes]
        for colour in planes[1:]:
            found.append(_log(float(np.abs(np.diff(colour)).mean() + np.abs(np.diff(colour, axis=0)).mean())))
    return np.array(found, dtype=np.float32)


def _structure(plane: FloatArray) -> list[float]:
    """Seven numbers about the differences between neighbours in [H, W]."""
    across = np.abs(np.diff(plane, axis=1))[:-1]
    along = np.abs(np.diff(plane, axis=0))[:, :-1]
    both = across + along
    mean = float(both.mean())
    local = _halve(_halve(_halve(both)))
    return [
        _log(mean),
        _log(float(np.square(both).mean()) / (mean * mean + 1e-5), 0.1),
        float((both < 0.25 * mean + 1e-3).mean()),
        float((both > 3 * mean + 1e-3).mean()),
        _log(float(local.std()) / (mean + 1e-3), 0.01),
        _log(float(across.mean())) - _log(float(along.mean())),
        _log(float(np.abs(plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2]).mean())),
    ]


def _halve(plane: FloatArray) -> FloatArray:
    """Mean of blocks of 2 × 2; a last odd row or column is left out, and a plane with a side below 6 stays as it is."""
    rows, columns = plane.shape
    if min(rows, columns) < _SMALLEST_SIDE:
        return plane
    even = plane[: rows // 2 * 2, : columns // 2 * 2]
    mean: FloatArray = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)
    return mean


def _log(value: float, floor: float = 0.003) -> float:
    return math.log(value + floor)


def pack_profiles(profiles: Sequence[Profile]) -> npt.NDArray[np.float16]:
    """Stack the profiles of sets, which have as many axes and centres each: [S, 2 + R + K, F + 1]."""
    return np.stack([profile.to_array() for profile in profiles])


def open_profiles(file: Path, *, features: int, axes: int, thresholds: Sequence[float]) -> tuple[Profile, ...]:
    """Read what `pack_profiles` made from a .npy file; raise `BundleError` when it is not that, or of other size."""
    try:
        packed = _read(file, len(thresholds), features + 1)
        return tuple(Profile.from_array(rows, axes, t) for rows, t in zip(packed, thresholds, strict=True))
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BundleError(f"{file.name}: not the profiles of images ({error}): export the bundle again") from None


def _read(file: Path, sets: int, columns: int) -> npt.NDArray[np.float16]:
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    packed = np.load(file, allow_pickle=False)
    if not isinstance(packed, np.ndarray) or packed.dtype != np.float16:
        raise ValueError("expected a float16 array")
    if packed.ndim != _STACKED or packed.shape[::2] != (sets, columns):
        raise ValueError(f"{list(packed.shape)} is not {sets} sets of rows of {columns}")
    return packed

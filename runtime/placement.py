"""Where pixels lie on a map: by an affine, by ground control points, or by rational polynomials.

Pixel coordinates are (column, row) with corners at whole numbers, so that the centre of the first pixel is (0.5, 0.5);
map coordinates are (x, y), the easting or longitude first, in the placement's CRS.

rasterio is imported where it is used: importing it takes longer than the rest of the runtime together.
"""

from __future__ import annotations

import math
import re
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetReader

Points = npt.NDArray[np.float64]
Method = Literal["affine", "ground control points", "rational polynomials"]

_SPHEROID = re.compile(r'SPHEROID\["[^"]*",([\d.]+)')
_WGS84_RADIUS = 6378137.0
_MOST = 400  # control points that a spline is fitted to: its cost grows with their cube


class Transformer(Protocol):
    """What a `Placement` needs of a model: float64 [N, 2] to float64 [N, 2], not finite where it has no answer."""

    def forward(self, points: Points) -> Points:
        """From pixels of the file to the map."""

    def backward(self, points: Points) -> Points:
        """From the map to pixels of the file."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the pixels of an array lie on a map.

    ``crs`` is an authority code or WKT, None for an affine without one; ``method`` says by what the pixels are placed.
    ``transformer`` works on the pixels of the file, and ``origin`` and ``step`` give the array's (column, row) of them:
    file pixel = origin + step * array pixel.
    """

    crs: str | None
    method: Method
    transformer: Transformer
    origin: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)

    def to_map(self, points: npt.ArrayLike) -> Points:
        """Map positions of pixels, both float64 [N, 2]; not finite where the model has no answer.

        Longitudes of control points across the antimeridian are continuous, and may so exceed 180.
        """
        pixels = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        return self.transformer.forward(pixels * self.step + self.origin)

    def to_pixel(self, points: npt.ArrayLike) -> Points:
        """Pixels of map positions, the inverse of `to_map`."""
        places = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        pixels: Points = (self.transformer.backward(places) - self.origin) / self.step
        return pixels

    def window(self, column: float = 0.0, row: float = 0.0, across: float = 1.0, down: float = 1.0) -> Placement:
        """Place an array whose pixel (c, r) is this one's (column + c * across, row + r * down)."""
        (x, y), (dx, dy) = self.origin, self.step
        origin = x + dx * column, y + dy * row
        return Placement(self.crs, self.method, self.transformer, origin, (dx * across, dy * down))

    @property
    def affine(self) -> Affine | None:
        """The affine from the array's pixels to the map, where the placement is one."""
        if not isinstance(self.transformer, _ByAffine):
            return None
        (x, y), (across, down), whole = self.origin, self.step, self.transformer.transform
        a, b, c, d, e, f = whole[:6]
        return type(whole)(a * across, b * down, a * x + b * y + c, d * across, e * down, d * x + e * y + f)


def by_affine(transform: Affine, crs: str | None = None) -> Placement:
    """Placement by an affine that can be inverted."""
    return Placement(crs, "affine", _ByAffine(transform))


def place(dataset: DatasetReader) -> tuple[Placement | None, tuple[str, ...]]:
    """How an open dataset is placed, and a sentence for what is to be known about it; None where nothing places it.

    An affine with a CRS comes first, then ground control points, rational polynomials, and an affine without a CRS.
    Control points are met exactly, by a thin plate spline: for the 210 points of a Sentinel-1 product GDAL's polynomial
    is off by a hundred metres. Rational polynomials are taken at the height of their centre, because there is no
    terrain at hand.
    """
    transform, crs = dataset.transform, dataset.crs
    # Six zeros are GDAL's word for no transform where a file is opened without its overviews.
    nowhere = transform.is_identity or not any(transform[:6])
    odd = not nowhere and (not all(map(math.isfinite, transform[:6])) or transform.determinant == 0)
    note = ("Its georeference cannot be inverted and is not used: positions are in pixels.",) if odd else ()
    if crs and not odd and not nowhere:
        return by_affine(transform, crs.to_string()), ()
    points, points_crs = dataset.gcps
    if len(points) >= 3 and (placed := _by_points(points, points_crs)) is not None:
        return placed, (f"Placed by {len(points)} ground control points.",)
    if points:
        note = (*note, f"Its {len(points)} ground control points do not place it: positions are in pixels.")
    if dataset.rpcs is not None:
        height = dataset.rpcs.height_off
        placed = Placement("EPSG:4326", "rational polynomials", _by_polynomials(dataset.rpcs))
        if np.isfinite(placed.to_map([[dataset.width / 2, dataset.height / 2]])).all():
            return placed, (f"Placed by rational polynomials at a height of {height:g} m, without terrain.",)
        note = (*note, "Its rational polynomials do not place it: positions are in pixels.")
    if odd or nowhere:
        return None, note
    return by_affine(transform, crs.to_string() if crs else None), note


def local_affine(placement: Placement, size: tuple[float, float]) -> Affine:
    """The affine that fits a placement best at the centre of an array of ``size`` = (width, height)."""
    from affine import Affine

    column, row = size[0] / 2, size[1] / 2
    near = [[column, row], [column + 0.5, row], [column - 0.5, row], [column, row + 0.5], [column, row - 0.5]]
    centre, right, left, below, above = placement.to_map(near)
    (a, d), (b, e) = right - left, below - above
    return Affine(a, b, centre[0] - a * column - b * row, d, e, centre[1] - d * column - e * row)


def ground_sample_distance(transform: Affine, crs: Any, size: tuple[int, int]) -> float | None:
    """Metres on the ground per pixel: the side of a square with the area of a pixel at the scene's centre.

    ``crs`` is rasterio's, ``size`` (width, height). Degrees are measured along the parallel and the meridian of the
    centre, on a sphere with the ellipsoid's equatorial radius; a Mercator map, whose scale grows with latitude, is
    divided by cosh(y / radius). None for a CRS of another kind, or when the numbers make no sense.
    """
    wkt = crs.to_wkt()
    radius = _radius(wkt) or _WGS84_RADIUS
    side = math.sqrt(abs(transform.determinant))
    y = transform.d * size[0] / 2 + transform.e * size[1] / 2 + transform.f
    if crs.is_geographic:
        radians = crs.units_factor[1]
        side *= radians * radius * math.sqrt(max(math.cos(y * radians), 0.0))
    elif crs.is_projected:
        metres = crs.linear_units_factor[1]
        side *= metres
        if 'PROJECTION["Mercator' in wkt:
            side /= math.cosh(min(abs(y) * metres / radius, 100.0))
    else:
        return None
    return side if 0 < side < math.inf else None


def pixel_size(placement: Placement, size: tuple[int, int]) -> float | None:
    """`ground_sample_distance` of an array of ``size`` = (width, height); None without a CRS."""
    from rasterio.crs import CRS

    if placement.crs is None:
        return None
    transform = placement.affine or local_affine(placement, size)
    if not all(map(math.isfinite, transform[:6])):
        return None
    return ground_sample_distance(transform, CRS.from_string(placement.crs), size)


def on_earth(crs: str) -> bool:
    """Whether a CRS is one of the Earth, by its ellipsoid's radius: only there longitude and latitude can be WGS 84."""
    from rasterio.crs import CRS

    radius = _radius(CRS.from_string(crs).to_wkt())
    return radius is not None and abs(radius / _WGS84_RADIUS - 1) < 0.02


def _radius(wkt: str) -> float | None:
    found = _SPHEROID.search(wkt)
    return float(found.group(1)) if found else None


class _ByAffine:
    def __init__(self, transform: Affine) -> None:
        self.transform = transform
        a, b, c, d, e, f = transform[:6]
        self._matrix, self._origin = np.array([[a, b], [d, e]]), np.array([c, f])
        self._inverse = np.linalg.inv(self._matrix)

    def forward(self, points: Points) -> Points:
        moved: Points = points @ self._matrix.T + self._origin
        return moved

    def backward(self, points: Points) -> Points:
        moved: Points = (points - self._origin) @ self._inverse.T  # the difference first: it keeps the last digits
        return moved


class _Fitted:
    """One of GDAL's transformers, used by one thread at a time; longitudes are taken round the globe to ``centre``."""

    def __init__(self, transformer: Any, height: float = 0.0, centre: float | None = None) -> None:
        self._transformer = transformer
        self._height = height
        self._centre = centre
        self._lock = threading.Lock()

    def forward(self, points: Points) -> Points:
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a point that fails comes back as infinity
            x, y = self._transformer.xy(points[:, 1], points[:, 0], zs=self._height, offset="ul")
        return np.stack([x, y], axis=1).astype(np.float64)

    def backward(self, points: Points) -> Points:
        places = points.copy()
        if self._centre is not None:
            places[:, 0] += 360.0 * np.round((self._centre - places[:, 0]) / 360.0)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # np.positive is the identity: without a function rasterio would round down.
            rows, columns = self._transformer.rowcol(places[:, 0], places[:, 1], zs=self._height, op=np.positive)
        return self._refined(np.stack([columns, rows], axis=1).astype(np.float64), places)

    def _refined(self, pixels: Points, places: Points) -> Points:
        """Newton's method on `forward`: GDAL fits the way back by itself, and so it is not the inverse of the way."""
        aside, below = np.array([0.5, 0.0]), np.array([0.0, 0.5])
        for _ in range(6):
            here = self.forward(pixels)
            across = self.forward(pixels + aside) - self.forward(pixels - aside)
            down = self.forward(pixels + below) - self.forward(pixels - below)
            with np.errstate(all="ignore"):
                missing = places - here
                area = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
                columns = (missing[:, 0] * down[:, 1] - missing[:, 1] * down[:, 0]) / area
                rows = (across[:, 0] * missing[:, 1] - across[:, 1] * missing[:, 0]) / area
            move = np.stack([columns, rows], axis=1)
            good = np.logical_and.reduce(np.isfinite(move), axis=1)
            if not good.any() or np.abs(move[good]).max() < 1e-6:
                break
            pixels = np.where(good[:, None], pixels + move, pixels)
        return pixels


def _by_points(points: list[Any], crs: Any) -> Placement | None:
    """Placement by three or more of rasterio's control points; None where they lie on a line or make no sense."""
    from rasterio._err import CPLE_BaseError
    from rasterio.control import GroundControlPoint
    from rasterio.errors import RasterioError
    from rasterio.transform import GCPTransformer

    values = np.array([(p.row, p.col, p.x, p.y) for p in points], dtype=np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    values = values[np.linspace(0, len(values) - 1, min(len(values), _MOST)).round().astype(int)]
    spread = values[:, :2] - values[:, :2].mean(axis=0) if len(values) else values
    if len(values) < 3 or np.linalg.matrix_rank(spread) < 2:
        return None
    degrees = bool(crs) and crs.is_geographic
    if degrees and np.ptp(values[:, 2]) > 180:
        values[values[:, 2] < 0, 2] += 360
    kept = [GroundControlPoint(row, column, x, y) for row, column, x, y in values]
    try:
        fitted = _Fitted(GCPTransformer(kept, tps=True), centre=values[:, 2].mean() if degrees else None)
        if not np.isfinite(fitted.forward(values[:, [1, 0]])).all():
            return None
    except (CPLE_BaseError, RasterioError, ValueError):
        return None
    return Placement(crs.to_string() if crs else None, "ground control points", fitted)


def _by_polynomials(rpcs: Any) -> Transformer:
    from rasterio.transform import RPCTransformer

    transformer = RPCTransformer(rpcs, RPC_PIXEL_ERROR_THRESHOLD=0.001)
    return _Fitted(transformer, height=rpcs.height_off, centre=rpcs.long_off)

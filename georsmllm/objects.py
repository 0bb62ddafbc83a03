"""What is known about an image: objects with outlines, and what can be measured over the whole of it.

One form for generated scenes and for every public dataset, so that conditions, tasks and scores are written once.
Positions are in 0…1 of the image's width and height, origin top-left, x before y.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from gmrt.runtime.points import Region, region

FloatArray = npt.NDArray[np.float64]
Outline = Literal["box", "obb", "poly"]


@dataclass(frozen=True)
class SceneObject:
    """One object: its category in words (singular), outline [N, 2] in 0…1, and attributes such as colour or size.

    ``outline`` runs round the object without repeating its first point; ``exact`` says what it stands for: an upright
    box's corners, a rotated box's, or the object's own shape. ``attributes`` are words by kind, for example
    ``{"colour": "white", "size": "large", "shape": "round"}``.
    """

    category: str
    outline: tuple[tuple[float, float], ...]
    exact: Outline = "poly"
    attributes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def points(self) -> FloatArray:
        """The outline as float64 [N, 2]."""
        return np.asarray(self.outline, dtype=np.float64)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Enclosing upright box (x0, y0, x1, y1)."""
        (x0, y0), (x1, y1) = self.points.min(axis=0), self.points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the enclosing box."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """Area of the outline as a share of the image (shoelace formula)."""
        x, y = self.points.T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    def as_region(self, kind: Literal["point", "box", "poly"]) -> Region:
        """The object as a point, a box or a polygon on the codec's grid."""
        if kind == "point":
            return region("point", [self.centre])
        if kind == "box":
            x0, y0, x1, y1 = self.box
            return region("box", [(x0, y0), (x1, y1)])
        return region("poly", self.outline)


@dataclass(frozen=True)
class SceneLabels:
    """Everything known about one image.

    ``scene_class`` in words; ``captions``; ``objects``; ``exhaustive`` names the categories of which *every* instance
    is listed (only those can be counted, or be answered with "none"); ``fractions`` is the share of the image by land
    cover in 0…1; ``measures`` holds scalars for the regression head, such as ``{"built-up fraction": 0.31}``.
    """

    scene_class: str = ""
    captions: tuple[str, ...] = ()
    objects: tuple[SceneObject, ...] = ()
    exhaustive: frozenset[str] = frozenset()
    fractions: dict[str, float] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)

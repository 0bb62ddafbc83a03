"""A scene before it is seen: what lies where, in metres. The same plan can be rendered under many skies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmrt.georsmllm.scenes.item import Item
from gmrt.georsmllm.scenes.materials import Material
from gmrt.georsmllm.scenes.raster import FloatArray, clip, following, frame
from gmrt.georsmllm.scenes.styles import Style

COVERS: dict[str, Material] = {
    "grass": "grass",
    "bare soil": "soil",
    "sand": "sand",
    "crop": "crop",
    "tree": "leaf",
    "water": "water",
    "pavement": "asphalt",
    "building": "roof",
    "solar panel": "panel",
}
"""Land covers and the material that each is made of. Vehicles, vessels and aircraft leave the cover as it is."""
COVER_CODES: dict[str, int] = {name: code for code, name in enumerate(COVERS)}
BUILT_UP = ("pavement", "building", "solar panel")


@dataclass(frozen=True)
class Ground:
    """What lies under everything: a cover, patches of another over a ``share`` of it, and their size in metres."""

    cover: str = "grass"
    patches: str = "bare soil"
    share: float = 0.1
    cell: float = 40.0


@dataclass(frozen=True)
class Plan:
    """A square of ground of ``size`` pixels of ``gsd`` metres and what is on it, in the order of drawing.

    ``edges`` [K, 3] are half-planes a·x + b·y ≤ c in pixels outside of which there is no data; ``lean`` is how far
    (metres per metre of height) high things lean away from the camera; ``texture`` seeds the ground's grain;
    ``facts`` are clauses for the captions, true by construction.
    """

    kind: str
    scene_class: str
    style: Style
    size: int
    gsd: float
    ground: Ground
    items: tuple[Item, ...]
    edges: FloatArray
    lean: tuple[float, float]
    texture: int
    facts: tuple[str, ...] = ()
    uncounted: frozenset[str] = frozenset()

    def visible(self, item: Item) -> FloatArray:
        """The outline that can be seen, in pixels [N, 2]: leaning walls included, cut by the frame and by nodata."""
        return clip(seen(item, self.lean) / self.gsd, self.window)

    @cached_property
    def window(self) -> FloatArray:
        """The half-planes that bound what can be seen: the frame's and the nodata's."""
        return np.concatenate([frame(self.size, self.size), self.edges])


def seen(item: Item, lean: tuple[float, float]) -> FloatArray:
    """The outline of an item together with the walls that show when it leans, in metres."""
    if item.wall is None or lean == (0.0, 0.0):
        return item.outline
    points, shift = item.outline, np.array(lean) * item.height
    ends = following(points)
    if np.dot(points[:, 0], ends[:, 1]) < np.dot(ends[:, 0], points[:, 1]):
        points = points[::-1]
        ends = following(points)
    along = ends - points
    ahead = along[:, 1] * shift[0] - along[:, 0] * shift[1] > 0  # the edge after each point faces forward
    behind = np.concatenate([ahead[-1:], ahead[:-1]])
    both = np.stack([points + shift * behind[:, None], points + shift * ahead[:, None]], axis=1)
    outline: FloatArray = both[np.stack([np.ones(len(points), bool), behind != ahead], axis=1)]
    return outline

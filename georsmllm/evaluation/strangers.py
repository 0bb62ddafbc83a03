"""Pictures of something else entirely, to test whether a model says so: noise, faces, documents, bare patterns.

They are drawn, so there are as many as wanted, and the same for the same seed. Nothing is fitted on them: a flag that
has seen its own test is worth nothing. `flag_shares` is how `gmrt eval` reports the flag (`gmrt.runtime.familiar`): the
share of these pictures that are flagged, by family, beside that of false alarms on images that the model should know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmrt.runtime.image import resize
from gmrt.runtime.model import Model
from gmrt.runtime.scene import Scene, scene_from_array

ByteArray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]

_OVERSAMPLED = 2


def draw_stranger(family: str, seed: int, size: int = 256) -> ByteArray:
    """Draw one picture of a family of `FAMILIES`, uint8 [size, size, 3]; the same for the same arguments.

    Raises KeyError for a family that is not one of them.
    """
    picture = FAMILIES[family](np.random.default_rng((seed, *family.encode())), size)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def strangers(family: str, count: int, seed: int = 0) -> Iterator[Scene]:
    """Yield ``count`` pictures of a family as scenes."""
    return (scene_from_array(draw_stranger(family, seed * 1_000_003 + number)) for number in range(count))


@dataclass(frozen=True)
class Shares:
    """``flagged`` maps each family to the share of its pictures that were flagged, ``strangers`` how many there were.

    ``false_alarms`` is the share of ``known`` images that were flagged and should not have been.
    """

    flagged: dict[str, float]
    strangers: int
    false_alarms: float
    known: int


def flag_shares(model: Model, known: Iterable[Scene], *, count: int = 50, seed: int = 0) -> Shares:
    """Show a model ``count`` strangers of each family, and images that it should know, and count the flags."""
    flagged = {
        family: float(np.mean([model.look(scene).unfamiliar for scene in strangers(family, count, seed)]))
        for family in FAMILIES
    }
    alarms = [model.look(scene).unfamiliar for scene in known]
    return Shares(flagged, count * len(FAMILIES), float(np.mean(alarms)) if alarms else 0.0, len(alarms))


def _noise(rng: np.random.Generator, size: int) -> Plane:
    """Uniform, normal or coloured (1/f to any power) noise, grey or in colour, fine or in blocks of up to 8 pixels."""
    channels = int(rng.choice((1, 3)))
    kind = rng.choice(("uniform", "normal", "coloured"))
    if kind == "coloured":
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
        frequency[0, 0] = 1 / size
        shape = (size, size // 2 + 1, channels)
        spectrum = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        values = np.fft.irfft2(spectrum / frequency[:, :, None] ** rng.uniform(0.25, 2), s=(size, size), axes=(0, 1))
        picture = 128 + rng.uniform(25, 70) * values / values.std()
    else:
        block = int(rng.choice((1, 1, 2, 4, 8)))
        shape = (-(-size // block), -(-size // block), channels)
        values = rng.uniform(0, 255, shape) if kind == "uniform" else rng.normal(128, rng.uniform(20, 80), shape)
        picture = np.kron(values, np.ones((block, block, 1)))[:size, :size]
    return np.broadcast_to(picture, (size, size, 3))


def _face(rng: np.random.Generator, size: int) -> Plane:
    """A head with hair, eyes, brows, nose and mouth before a wall, in the colours of skin or of a drawing."""
    y, x = np.mgrid[0:size, 0:size] / size
    picture = np.empty((size, size, 3))
    picture[:] = rng.uniform(40, 250, 3)
    picture *= 1 + rng.uniform(-0.3, 0.3) * (y - 0.5)[:, :, None]
    drawn = rng.random() < 0.3  # a smiley rather than a portrait
    skin = rng.uniform((200, 170, 30), (255, 230, 110)) if drawn else _SKIN[rng.integers(len(_SKIN))]
    centre_x, centre_y, wide = 0.5 + rng.normal(0, 0.04), 0.5 + rng.normal(0, 0.04), rng.uniform(0.2, 0.36)
    high, tilt = wide * (1.0 if drawn else rng.uniform(1.15, 1.4)), rng.normal(0, 0.12)
    across = ((x - centre_x) * np.cos(tilt) + (y - centre_y) * np.sin(tilt)) / wide
    along = ((y - centre_y) * np.cos(tilt) - (x - centre_x) * np.sin(tilt)) / high

    def oval(u: float, v: float, a: float, b: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = np.square((across - u) / a) + np.square((along - v) / b) < 1
        return inside

    hair = rng.uniform(15, 150) * np.array((1, rng.uniform(0.6, 1), rng.uniform(0.3, 1)))
    if not drawn:
        picture[(np.abs(across) < 0.45) & (along > 0.6)] = skin * 0.85
        picture[oval(0, -0.15, 1.12, rng.uniform(1.02, 1.2))] = hair
    picture[oval(0, 0.05, 1, 1)] = skin
    light = 1 + rng.uniform(-0.2, 0.2) * across + rng.uniform(-0.15, 0.15) * along
    picture = np.where(oval(0, 0.05, 1, 1)[:, :, None], picture * light[:, :, None], picture)
    apart, eye = rng.uniform(0.35, 0.46), rng.uniform(0.12, 0.2)
    iris = rng.uniform(20, 120, 3)
    for side in (-apart, apart):
        picture[oval(side, -0.15, eye, eye * rng.uniform(0.5, 0.8))] = 245
        picture[oval(side, -0.15, eye * 0.5, eye * 0.45)] = iris
        picture[oval(side, -0.15, eye * 0.22, eye * 0.2)] = 10
        picture[oval(side, -0.42, eye * 1.3, 0.045)] = hair * 0.7
    picture[oval(0, 0.18, 0.09, 0.16)] = np.asarray(skin) * 0.82
    smile, lips = rng.uniform(-0.3, 0.5), rng.uniform(0.03, 0.09)
    mouth = (np.abs(across) < 0.4) & (np.abs(along - 0.55 + smile * across**2) < lips)
    picture[mouth] = rng.uniform((120, 30, 30), (210, 90, 100))
    return picture + rng.normal(0, rng.uniform(0, 5), (size, size, 1))


def _document(rng: np.random.Generator, size: int) -> Plane:
    """A page: paragraphs of words of a made-up alphabet in one or two columns, headings, a table, a figure's frame."""
    large = size * _OVERSAMPLED
    page = np.zeros((large, large))
    alphabet = rng.random((26, 7, 5)) < 0.42
    alphabet[:, :, 2] |= rng.random((26, 1)) < 0.5  # stems
    scale = int(rng.integers(1, 4))
    margin, columns = int(large * rng.uniform(0.03, 0.12)), int(rng.integers(1, 3))
    width = (large - margin) // columns - margin // 2
    for column in range(columns):
        left, top = margin + column * (width + margin // 2), margin
        while top < large - margin - 8 * scale:
            part = rng.choice(("paragraph", "paragraph", "heading", "table"))
            height = min(int(rng.integers(5, 22)) * scale * 7, large - margin - top)
            block = page[top : top + height, left : left + width]
            if part == "table":
                _table(block, rng)
                _text(block, alphabet, scale, rng, ragged=0.4, leading=3.0)
            else:
                larger = scale * (2 if part == "heading" else 1)
                block = block[: 10 * larger] if part == "heading" else block
                _text(block, alphabet, larger, rng, ragged=0.95, leading=1.5)
            top += len(block) + 8 * scale
    paper, ink = rng.uniform(215, 255) * np.array((1, 1, rng.uniform(0.88, 1))), rng.uniform(0, 70)
    picture = paper * (1 - page[:, :, None]) + ink * page[:, :, None]
    smooth = resize(picture.astype(np.float32), size, size)
    return smooth + rng.normal(0, rng.uniform(0, 4), (size, size, 1))


def _text(
    block: Plane, alphabet: npt.NDArray[np.bool_], scale: int, rng: np.random.Generator, ragged: float, leading: float
) -> None:
    """Set lines of random words into a block of a page, in place."""
    height, width = 7 * scale, 6 * scale
    for top in range(0, len(block) - height, int(height * leading)):
        end = block.shape[1] * rng.uniform(ragged - 0.05, 1)
        left = 0
        while left + width < end:
            for letter in alphabet[rng.integers(26, size=rng.integers(2, 10))]:
                if left + width >= end:
                    break
                block[top : top + height, left : left + 5 * scale][np.kron(letter, np.ones((scale, scale))) > 0] = 1
                left += width
            left += width


def _table(block: Plane, rng: np.random.Generator) -> None:
    """Rule a block of a page into cells, in place."""
    for axis, cells in ((0, rng.integers(3, 9)), (1, rng.integers(2, 6))):
        for place in np.linspace(0, block.shape[axis] - 2, cells).astype(int):
            block[(slice(place, place + 2), slice(None)) if axis == 0 else (slice(None), slice(place, place + 2))] = 1


def _pattern(rng: np.random.Generator, size: int) -> Plane:
    """A gradient, a checkerboard, stripes or rings in two colours."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    turn, repeats = rng.uniform(0, np.pi), rng.uniform(2, 16)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kind = rng.choice(("gradient", "checkerboard", "stripes", "rings"))
    mix = {
        "gradient": (u + 0.7) / 1.4,
        "checkerboard": (np.floor(u * repeats) + np.floor(v * repeats)) % 2,
        "stripes": np.floor(u * repeats) % 2,
        "rings": 0.5 + 0.5 * np.cos(np.hypot(x, y) * repeats * 2 * np.pi),
    }[str(kind)][:, :, None]
    return rng.uniform(0, 255, 3) * (1 - mix) + rng.uniform(0, 255, 3) * mix


_SKIN = np.array([(255, 219, 190), (236, 188, 150), (198, 140, 100), (141, 90, 60), (85, 55, 40)], dtype=np.float64)

FAMILIES: dict[str, Callable[[np.random.Generator, int], Plane]] = {
    "noise": _noise,
    "faces": _face,
    "documents": _document,
    "patterns": _pattern,
}
"""The families by name, each with what draws one."""

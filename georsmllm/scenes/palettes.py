"""Palettes: what grass, roofs and paint look like in one place of the world, and what each colour word means there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmrt.georsmllm.scenes.materials import Colour


@dataclass(frozen=True)
class Palette:
    """Colours of one place. Ground comes as pairs that mix; ``roofs`` and ``paints`` give the colours words stand for.

    ``paints`` are for vehicles, vessels, aircraft and tanks; ``crops`` for fields.
    """

    name: str
    grass: tuple[Colour, Colour]
    soil: tuple[Colour, Colour]
    sand: tuple[Colour, Colour]
    water: tuple[Colour, Colour]
    canopy: tuple[Colour, ...]
    asphalt: tuple[Colour, ...]
    concrete: tuple[Colour, ...]
    crops: dict[str, Colour]
    roofs: dict[str, Colour]
    paints: dict[str, Colour]

    def colours(self) -> set[Colour]:
        """Every colour in it."""
        pairs = {*self.grass, *self.soil, *self.sand, *self.water, *self.canopy, *self.asphalt, *self.concrete}
        return pairs | set(self.crops.values()) | set(self.roofs.values()) | set(self.paints.values())


def shade(rng: np.random.Generator, colour: Colour, spread: float = 0.05) -> Colour:
    """A colour a little brighter or darker, and a little off in hue."""
    light = 1 + spread * (2 * rng.random() - 1)
    warm = 6 * (rng.random() - 0.5)
    return colour[0] * light + warm, colour[1] * light, colour[2] * light - warm


def times(colour: Colour, factor: float) -> Colour:
    """A colour made darker or brighter."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


TEMPERATE = Palette(
    name="temperate",
    grass=((104, 120, 78), (82, 102, 62)),
    soil=((150, 130, 104), (126, 108, 86)),
    sand=((206, 192, 166), (186, 172, 146)),
    water=((44, 72, 74), (34, 56, 62)),
    canopy=((58, 82, 50), (70, 92, 52), (46, 70, 48)),
    asphalt=((104, 104, 102), (126, 124, 120)),
    concrete=((186, 182, 172), (168, 164, 152)),
    crops={"green": (96, 124, 70), "brown": (136, 112, 86), "yellow": (186, 172, 104)},
    roofs={
        "grey": (138, 138, 140),
        "white": (224, 222, 216),
        "red": (164, 78, 60),
        "brown": (116, 88, 66),
        "blue": (82, 112, 158),
    },
    paints={
        "white": (236, 236, 232),
        "grey": (156, 158, 160),
        "black": (34, 36, 40),
        "red": (172, 42, 38),
        "blue": (44, 78, 150),
        "green": (52, 112, 70),
        "yellow": (214, 178, 54),
    },
)

DRY = Palette(
    name="dry",
    grass=((152, 142, 104), (128, 122, 84)),
    soil=((182, 152, 118), (160, 130, 100)),
    sand=((218, 196, 160), (200, 178, 142)),
    water=((58, 92, 86), (40, 72, 74)),
    canopy=((76, 86, 54), (64, 78, 58), (92, 96, 62)),
    asphalt=((122, 116, 108), (142, 136, 126)),
    concrete=((204, 194, 176), (186, 176, 158)),
    crops={"green": (112, 130, 74), "brown": (158, 126, 92), "yellow": (204, 184, 118)},
    roofs={
        "grey": (152, 148, 142),
        "white": (234, 228, 216),
        "red": (184, 96, 70),
        "brown": (132, 100, 70),
        "blue": (92, 120, 152),
    },
    paints={
        "white": (242, 240, 232),
        "grey": (168, 166, 160),
        "black": (42, 40, 40),
        "red": (184, 54, 42),
        "blue": (52, 88, 146),
        "green": (66, 118, 72),
        "yellow": (224, 184, 66),
    },
)

COASTAL = Palette(
    name="coastal",
    grass=((94, 128, 84), (116, 136, 92)),
    soil=((168, 148, 122), (142, 126, 104)),
    sand=((224, 212, 186), (202, 190, 162)),
    water=((30, 66, 88), (24, 50, 72)),
    canopy=((48, 84, 54), (62, 98, 62), (40, 66, 46)),
    asphalt=((92, 94, 98), (112, 114, 116)),
    concrete=((196, 196, 190), (176, 176, 170)),
    crops={"green": (86, 132, 78), "brown": (128, 104, 82), "yellow": (194, 178, 98)},
    roofs={
        "grey": (128, 132, 138),
        "white": (230, 232, 232),
        "red": (178, 86, 64),
        "brown": (106, 82, 64),
        "blue": (70, 110, 166),
    },
    paints={
        "white": (244, 246, 246),
        "grey": (146, 150, 156),
        "black": (28, 32, 38),
        "red": (164, 36, 42),
        "blue": (36, 70, 160),
        "green": (44, 106, 78),
        "yellow": (220, 190, 48),
    },
)

NORTHERN = Palette(
    name="northern",
    grass=((84, 100, 70), (98, 108, 80)),
    soil=((122, 108, 92), (104, 92, 80)),
    sand=((182, 174, 158), (164, 154, 138)),
    water=((36, 44, 50), (48, 54, 56)),
    canopy=((40, 62, 46), (52, 72, 50), (66, 80, 58)),
    asphalt=((84, 84, 86), (98, 98, 100)),
    concrete=((158, 156, 150), (144, 142, 136)),
    crops={"green": (78, 108, 62), "brown": (114, 94, 76), "yellow": (168, 158, 96)},
    roofs={
        "grey": (112, 114, 118),
        "white": (208, 208, 206),
        "red": (148, 66, 54),
        "brown": (98, 76, 60),
        "blue": (72, 96, 136),
    },
    paints={
        "white": (224, 224, 222),
        "grey": (138, 140, 142),
        "black": (26, 28, 32),
        "red": (156, 40, 36),
        "blue": (40, 64, 132),
        "green": (48, 98, 60),
        "yellow": (202, 166, 48),
    },
)

HIGHLAND = Palette(
    name="highland",
    grass=((126, 132, 88), (108, 108, 74)),
    soil=((140, 114, 88), (164, 136, 108)),
    sand=((196, 180, 152), (176, 160, 134)),
    water=((52, 82, 82), (42, 62, 68)),
    canopy=((54, 72, 56), (72, 84, 58), (60, 74, 44)),
    asphalt=((110, 108, 108), (134, 130, 128)),
    concrete=((178, 172, 164), (194, 188, 180)),
    crops={"green": (104, 116, 66), "brown": (146, 120, 96), "yellow": (178, 166, 112)},
    roofs={
        "grey": (146, 142, 144),
        "white": (218, 214, 210),
        "red": (156, 82, 66),
        "brown": (124, 92, 74),
        "blue": (88, 104, 148),
    },
    paints={
        "white": (230, 228, 224),
        "grey": (162, 160, 158),
        "black": (38, 38, 44),
        "red": (178, 48, 46),
        "blue": (56, 82, 140),
        "green": (58, 104, 66),
        "yellow": (208, 172, 62),
    },
)

TROPICAL = Palette(
    name="tropical",
    grass=((112, 138, 70), (88, 116, 58)),
    soil=((174, 122, 88), (152, 104, 76)),
    sand=((228, 214, 178), (210, 194, 158)),
    water=((46, 98, 96), (32, 74, 84)),
    canopy=((50, 92, 44), (66, 104, 50), (82, 110, 56)),
    asphalt=((96, 98, 96), (118, 118, 114)),
    concrete=((200, 198, 184), (182, 178, 164)),
    crops={"green": (92, 138, 66), "brown": (150, 108, 78), "yellow": (198, 188, 92)},
    roofs={
        "grey": (134, 136, 134),
        "white": (238, 236, 226),
        "red": (188, 88, 58),
        "brown": (120, 84, 58),
        "blue": (78, 124, 172),
    },
    paints={
        "white": (246, 244, 238),
        "grey": (150, 154, 152),
        "black": (32, 34, 34),
        "red": (190, 50, 34),
        "blue": (48, 92, 168),
        "green": (60, 126, 62),
        "yellow": (228, 194, 58),
    },
)

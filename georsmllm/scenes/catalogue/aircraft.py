"""Airplanes seen from above, nose towards +x."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gmrt.georsmllm.scenes.item import Item, Pen
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.shapes import bar, ellipse, mirrored, rectangle


@dataclass(frozen=True)
class Airframe:
    """Proportions of an airplane of length 1 with its nose at +0.5.

    ``span`` is the whole wing span; ``wing`` where the leading edge meets the fuselage; ``chord`` and ``tip`` the
    wing's depth at its root and tip; ``sweep`` how far back the tip's leading edge lies; ``engines`` (x, y) of those
    on the +y side; ``propellers`` whether they are driven by them; ``tail`` span, sweep and chord of the tailplane,
    ``tail_at`` its leading edge; ``waist`` the fuselage's width; ``height`` in lengths.
    """

    span: float
    wing: float
    chord: float
    tip: float
    sweep: float
    tail: tuple[float, float, float]
    tail_at: float
    waist: float
    engines: tuple[tuple[float, float], ...] = ()
    engine: tuple[float, float] = (0.1, 0.035)
    propellers: bool = False
    height: float = 0.12


def airplane(frame: Airframe, rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """An airplane ``size`` metres long."""
    body = shade(rng, palette.paints[colour], 0.04)
    accent = shade(rng, palette.paints[("blue", "red", "grey", "black")[rng.integers(4)]])
    waist, span = frame.waist / 2, frame.span / 2
    tail_span, tail_sweep, tail_chord = frame.tail
    wing_back = frame.wing - frame.chord
    tip_front = frame.wing - frame.sweep
    outline = (
        mirrored(
            [
                (0.5, 0.0),
                (0.47, waist * 0.7),
                (0.40, waist),
                (frame.wing, waist),
                (tip_front, span),
                (tip_front - frame.tip, span),
                (wing_back, waist * 1.2),
                (frame.tail_at, waist * 0.7),
                (frame.tail_at - tail_sweep, tail_span / 2),
                (frame.tail_at - tail_sweep - tail_chord * 0.6, tail_span / 2),
                (frame.tail_at - tail_chord, waist * 0.35),
                (-0.5, 0.0),
            ]
        )
        * size
    )
    fuselage = (
        mirrored([(0.5, 0.0), (0.47, waist * 0.7), (0.4, waist), (-0.18, waist), (-0.42, waist * 0.45), (-0.5, 0.0)])
        * size
    )
    pen = Pen()
    pen.fill(outline, times(body, 0.93), "metal")
    for x, y in frame.engines:
        for side in (-y, y):
            pen.fill(rectangle(*frame.engine, x, side) * size, times(body, 0.62), "metal", level=1)
            if frame.propellers:
                hub = x + frame.engine[0] / 2
                pen.fill(ellipse(0.012, 0.075, hub, side, count=8) * size, (70, 70, 72), "metal", level=3, opacity=0.4)
    pen.fill(fuselage, body, "metal", level=2)
    dark_side = fuselage * np.array([1.0, 0.5]) + np.array([0.0, waist * size * 0.5])
    pen.fill(dark_side, times(body, 0.84), "metal", level=3, opacity=0.8, tilt=(0.0, 0.7))
    pen.fill(bar((-0.5, 0.0), (-0.36, 0.0), 0.018) * size, accent, "metal", level=4)
    pen.fill(rectangle(0.02, frame.waist * 0.6, 0.455) * size, (52, 58, 70), "glass", level=4)
    flap = waist * 1.4 + (span - waist) * 0.5
    for side in (-1.0, 1.0):
        at = (
            (wing_back + 0.012, waist * 1.3 * side),
            (tip_front - frame.tip + (wing_back - tip_front) * 0.4, flap * side),
        )
        pen.fill(bar(*at, 0.006) * size, times(body, 0.7), "metal", level=1)
    if frame.propellers and not frame.engines:
        pen.fill(ellipse(0.012, 0.1, 0.5, count=8) * size, (70, 70, 72), "metal", level=3, opacity=0.4)
    pen.cast(outline, frame.height * size, frame.height * size * 0.4)
    pen.cast(bar((-0.5, 0.0), (-0.38, 0.0), 0.02) * size, frame.height * 1.8 * size)
    return pen.item("airplane", outline, height=frame.height * size, heading=0.0, attributes={"colour": colour})


AIRFRAMES = {
    "twinjet": Airframe(
        span=0.92, wing=0.14, chord=0.21, tip=0.05, sweep=0.27, tail=(0.36, 0.12, 0.12), tail_at=-0.33, waist=0.105,
        engines=((0.09, 0.17),),
    ),
    "quadjet": Airframe(
        span=0.94, wing=0.16, chord=0.24, tip=0.045, sweep=0.33, tail=(0.34, 0.12, 0.13), tail_at=-0.33, waist=0.095,
        engines=((0.08, 0.16), (-0.03, 0.3)), engine=(0.085, 0.03),
    ),
    "propeller": Airframe(
        span=1.3, wing=0.22, chord=0.2, tip=0.14, sweep=0.03, tail=(0.42, 0.03, 0.13), tail_at=-0.35, waist=0.13,
        propellers=True, height=0.2,
    ),
    "delta": Airframe(
        span=0.66, wing=0.18, chord=0.5, tip=0.06, sweep=0.42, tail=(0.34, 0.08, 0.1), tail_at=-0.36, waist=0.11,
        height=0.16,
    ),
    "bizjet": Airframe(
        span=0.88, wing=0.06, chord=0.19, tip=0.07, sweep=0.17, tail=(0.40, 0.1, 0.1), tail_at=-0.4, waist=0.1,
        engines=((-0.22, 0.085),), engine=(0.15, 0.045), height=0.15,
    ),
    "turboprop": Airframe(
        span=1.08, wing=0.1, chord=0.13, tip=0.08, sweep=0.025, tail=(0.36, 0.06, 0.11), tail_at=-0.37, waist=0.1,
        engines=((0.09, 0.17),), engine=(0.16, 0.04), propellers=True, height=0.18,
    ),
}  # fmt: skip

AIRPLANES = {name: partial(airplane, frame) for name, frame in AIRFRAMES.items()}

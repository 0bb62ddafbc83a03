"""Are calibration images such as the checkpoint was trained on? Radar for a model of aerial colour images is not.

The profile beside a checkpoint (`gmrt.runtime.familiar`) gives every image a strangeness, about 0.3 for one like those
of training. A set is judged by the median over 8 or more of its images, and every sensor in it by a median of its own,
so that a wrong sensor does not hide behind a right one.

The limit is 1. Of 5 000 draws of 8 images from the validation sets of UC Merced and of EuroSAT none is above it; 1 % of
them are above 0.35 and 0.45, which a limit for 1 % of false alarms could not be below. What lies between is for places
that the training did not see: NAIP has 0.37, Landsat 0.63. Sentinel-1 has 1.5 to 1.9 (docs/calibration.md).
"""

from __future__ import annotations

import numpy as np

from gmrt.calibration.familiar import Encode
from gmrt.calibration.images import MINIMUM, ImageSet
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.familiar import Familiarity
from gmrt.runtime.image import ImageSpec

LIMIT = 1.0
_LOOKED_AT = 16  # of every sensor


def check_suited(images: ImageSet, spec: ImageSpec, familiarity: Familiarity, encode: Encode) -> float:
    """Return the median strangeness of the strangest sensor of a set, by up to 16 images of each.

    ``encode`` makes embeddings [1, T, D] of pixels [1, 3, H, W]. Sensors with fewer than 8 images are judged together.
    Raises `GmrtError` when the median is above `LIMIT`, and what reading the images raises.
    """
    medians = {}
    for name, part in _parts(images):
        shown = part.spread(_LOOKED_AT)
        scores = [familiarity.strangeness(encode(pixels[None])[0], pixels) for pixels in shown.pixels(spec)]
        medians[name] = float(np.median(scores))
    name, worst = max(medians.items(), key=lambda item: item[1])
    if worst > LIMIT:
        raise GmrtError(
            f"{images.source}: its images ({name}) are unlike those that the checkpoint was trained on: a median "
            f"strangeness of {worst:.2f}, and the limit is {LIMIT:g}; calibrate on images of the sensor that the model "
            "will see, or fit the checkpoint's profile again (docs/calibration.md)"
        )
    return worst


def _parts(images: ImageSet) -> list[tuple[str, ImageSet]]:
    by_sensor = [(name, images.of_sensor(name), count) for name, count in images.sensors.items()]
    parts = [(name, part) for name, part, count in by_sensor if count >= MINIMUM]
    few = [part for _, part, count in by_sensor if count < MINIMUM]
    if few:
        pictures = tuple(picture for part in few for picture in part.pictures)
        parts.append(("of several sensors" if len(few) > 1 else few[0].pictures[0].sensor, ImageSet("", pictures)))
    return parts

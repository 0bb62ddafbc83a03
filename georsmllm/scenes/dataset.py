"""Sets of generated scenes as parquet files: made once by all cores, then read like any other dataset.

A row holds the encoded image (of a pair both), the labels, and the requests that can be made of it with all their
wordings; everything follows from the set's arguments, so a file can be thrown away and made again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.scenes.compose import compose
from gmrt.georsmllm.scenes.look import Sensor
from gmrt.georsmllm.scenes.pairs import ScenePair, generate_pair
from gmrt.georsmllm.scenes.scene import GeneratedScene, generate
from gmrt.georsmllm.scenes.sensors import ByteArray
from gmrt.georsmllm.scenes.styles import STYLES_TEST
from gmrt.georsmllm.tasks import Change, Measure, Request, measures, pair_requests, requests
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import decode_image

Kind = Literal["scenes", "pairs", "composed"]
Split = Literal["train", "test"]
ROUNDS = 2
"""Times that requests are drawn of a scene: about forty in all."""
SENSORS: Mapping[Sensor, float] = {"rgb": 0.82, "thermal": 0.12, "sar": 0.06}
"""Shares of the sensors among plain scenes; pairs and composed scenes are RGB."""
_DRAWN = frozenset({"airplane", "car", "truck", "storage tank", "house", "building", "swimming pool", "ship", "boat"})
ABSENT: Mapping[str, frozenset[str]] = {
    "agricultural": _DRAWN,
    "chaparral": _DRAWN,
    "forest": _DRAWN,
    "beach": _DRAWN - {"boat", "ship", "house", "building"},
    "golfcourse": _DRAWN - {"house", "building", "car"},
    "river": _DRAWN - {"house", "building", "boat", "car"},
    "runway": _DRAWN - {"airplane", "car", "truck", "building"},
    "baseballdiamond": _DRAWN - {"house", "building", "car", "truck"},
}
"""UC Merced classes that serve as backgrounds, and what is not in them: only of that can all instances be known."""
_CHUNK = 64


@dataclass(frozen=True)
class SceneSet:
    """``count`` scenes from ``seed`` on, in the styles of a ``split``.

    ``kind`` is "scenes", "pairs" (without repainted objects, which are neither new nor gone), or "composed", which
    needs ``backgrounds``: a parquet file of UC Merced images of ``gsd`` metres per pixel.
    """

    kind: Kind = "scenes"
    split: Split = "train"
    count: int = 1000
    seed: int = 0
    size: int = 256
    backgrounds: str = ""
    gsd: float = 0.3


def write_set(path: Path, chosen: SceneSet, *, processes: int | None = None) -> Path:
    """Make the set with ``processes`` (all cores by default) and write it to ``path``, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if chosen.kind not in get_args(Kind) or chosen.split not in get_args(Split) or chosen.count < 1:
        raise DatasetError(f"a set of scenes is of kind {', '.join(get_args(Kind))}, split train or test: got {chosen}")
    if chosen.kind == "composed" and not Path(chosen.backgrounds).is_file():
        raise DatasetError(f"composed scenes need backgrounds: there is no parquet file at {chosen.backgrounds!r}")
    schema = _schema()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(path.name + ".partial")
    starts = range(0, chosen.count, _CHUNK)
    # Spawned, because a process that runs PyTorch's threads cannot be forked safely.
    pool_of = partial(ProcessPoolExecutor, processes or os.cpu_count(), mp_context=get_context("spawn"))
    with pool_of() as pool, pq.ParquetWriter(partial_file, schema) as writer:
        for start, rows in zip(starts, pool.map(partial(_rows, chosen), starts), strict=True):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            print(f"\r{path.name}: {min(start + _CHUNK, chosen.count)}/{chosen.count}", end="", file=sys.stderr)
    print(file=sys.stderr)
    partial_file.rename(path)
    return path


def _schema() -> Any:
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = ("labels", "requests", "measures", "kind", "style", "sensor")
    return pa.schema([("image", picture), ("after", picture), *((name, pa.string()) for name in texts)])


def write_examples(path: Path, examples: Sequence[Example]) -> Path:
    """Write labelled images, such as tiles with the requests drawn of them, in the form of a set of scenes.

    Only what `read_set` reads back is kept: images, labels, requests, measures.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_pylist([_row(one) for one in examples], schema=_schema()), partial_file)
    partial_file.rename(path)
    return path


def read_set(path: Path) -> list[Example]:
    """Read a file of `write_set`."""
    import pyarrow.parquet as pq

    return [_example(row) for row in pq.read_table(path).to_pylist()]


def _rows(chosen: SceneSet, start: int) -> list[dict[str, Any]]:
    numbers = range(start, min(start + _CHUNK, chosen.count))
    if chosen.kind == "composed":
        return [_scene_row(scene) for scene in _composed(chosen, numbers)]
    if chosen.kind == "pairs":
        return [_pair_row(chosen, number) for number in numbers]
    return [_scene_row(_plain(chosen, number)) for number in numbers]


def _rng(chosen: SceneSet, number: int) -> np.random.Generator:
    return np.random.default_rng((7, get_args(Kind).index(chosen.kind), chosen.split == "test", chosen.seed, number))


def _style(chosen: SceneSet, number: int) -> Any:
    return STYLES_TEST[number % len(STYLES_TEST)] if chosen.split == "test" else None


def _plain(chosen: SceneSet, number: int) -> GeneratedScene:
    sensor: Sensor = _rng(chosen, number).choice(list(SENSORS), p=list(SENSORS.values()))
    return generate(chosen.seed + number, size=chosen.size, style=_style(chosen, number), sensor=sensor)


def _composed(chosen: SceneSet, numbers: Sequence[int]) -> Iterator[GeneratedScene]:
    import pyarrow.parquet as pq

    table = pq.read_table(chosen.backgrounds, columns=["image", "class"])
    classes = table.column("class").to_pylist()
    usable = [index for index, name in enumerate(classes) if name in ABSENT]
    if not usable:
        raise DatasetError(f"{chosen.backgrounds} has no image of the classes {', '.join(ABSENT)}")
    for number in numbers:
        rng = _rng(chosen, number)
        index = usable[int(rng.integers(len(usable)))]
        background = decode_image(table.column("image")[index].as_py()["bytes"]).rgb
        background = np.ascontiguousarray(np.rot90(background, int(rng.integers(4))))
        seed, absent = chosen.seed + number, ABSENT[classes[index]]
        yield compose(background, seed, gsd=chosen.gsd, style=_style(chosen, number), absent=absent)


def _row(one: Example, shot: GeneratedScene | None = None) -> dict[str, Any]:
    """An example as a row; of a generated one also what it was made of."""
    return {
        "image": {"bytes": one.image, "path": one.name},
        "after": {"bytes": one.after, "path": f"{one.name} after"} if one.after else None,
        "labels": json.dumps(labels_dict(one.labels or SceneLabels())),
        "requests": json.dumps([asdict(request) for request in one.requests]),
        "measures": json.dumps([asdict(measure) for measure in one.measures]),
        "kind": shot.kind if shot else None,
        "style": shot.style if shot else None,
        "sensor": shot.sensor if shot else None,
    }


def _scene_row(scene: GeneratedScene) -> dict[str, Any]:
    rng = np.random.default_rng((8, scene.seed))
    asked = [request for _ in range(ROUNDS) for request in requests(scene.labels, rng)]
    one = Example(
        name=f"{scene.kind}-{scene.seed}.png",
        image=encode_png(shown(scene), level=1),
        requests=tuple(dict.fromkeys(asked)),
        measures=tuple(measures(scene.labels, rng)),
        labels=scene.labels,
    )
    return _row(one, scene)


def _pair_row(chosen: SceneSet, number: int) -> dict[str, Any]:
    pair = _pair(chosen, number)
    before, after = pair.before, pair.after
    rng = np.random.default_rng((9, before.seed))
    names: dict[str, Literal["new", "gone"]] = {"added": "new", "removed": "gone"}
    changes = [Change(names[change.kind], change.object) for change in pair.changes]
    asked = [r for _ in range(ROUNDS) for r in pair_requests(before.labels, after.labels, changes, rng)]
    one = Example(
        name=f"{before.kind}-{before.seed}.png",
        image=encode_png(shown(before), level=1),
        requests=tuple(dict.fromkeys(asked)),
        after=encode_png(shown(after), level=1),
    )
    return _row(one, before)


def _pair(chosen: SceneSet, number: int) -> ScenePair:
    # The seeds of one number stay apart from those of the others, however many tries it takes.
    for attempt in range(100):
        seed = (chosen.seed + number) * 100 + attempt
        pair = generate_pair(seed, size=chosen.size, style=_style(chosen, number))
        if all(change.kind != "changed" for change in pair.changes):
            return pair
    raise DatasetError(f"no pair without repainted objects for number {number}: take another seed")


def shown(scene: GeneratedScene) -> ByteArray:
    """A scene as the RGB picture [H, W, 3] that a model sees: the first three bands, or one band three times."""
    image = scene.image
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def labels_dict(labels: SceneLabels) -> dict[str, Any]:
    """Labels as JSON holds them; outlines to a hundred-thousandth of the picture. `labels_from` is the inverse."""
    fields = asdict(labels)
    for thing in fields["objects"]:
        thing["outline"] = [[round(x, 5), round(y, 5)] for x, y in thing["outline"]]
    return fields | {"exhaustive": sorted(labels.exhaustive)}


def labels_from(fields: Mapping[str, Any]) -> SceneLabels:
    """The inverse of what a row's ``labels`` holds as JSON."""
    objects = tuple(
        SceneObject(one["category"], tuple((x, y) for x, y in one["outline"]), one["exact"], one["attributes"])
        for one in fields["objects"]
    )
    known = {**fields, "objects": objects, "captions": tuple(fields["captions"])}
    return SceneLabels(**known | {"exhaustive": frozenset(fields["exhaustive"])})


def _example(row: Mapping[str, Any]) -> Example:
    labels = labels_from(json.loads(row["labels"]))
    asked = (request | {"wordings": tuple(request["wordings"])} for request in json.loads(row["requests"]))
    return Example(
        name=row["image"]["path"],
        image=row["image"]["bytes"],
        scene_class=labels.scene_class,
        captions=labels.captions,
        requests=tuple(Request(**request) for request in asked),
        measures=tuple(Measure(**measure) for measure in json.loads(row["measures"])),
        after=row["after"]["bytes"] if row["after"] else None,
        labels=labels,
    )


def main() -> None:
    """``python -m gmrt.georsmllm.scenes.dataset OUT.parquet key=value …`` with the fields of `SceneSet`."""
    out, *pairs = sys.argv[1:]
    given: dict[str, Any] = dict(pair.split("=", 1) for pair in pairs)
    numbers = {name: int(given[name]) for name in ("count", "seed", "size") if name in given}
    metres = {"gsd": float(given["gsd"])} if "gsd" in given else {}
    write_set(Path(out), SceneSet(**given | numbers | metres))


if __name__ == "__main__":
    main()

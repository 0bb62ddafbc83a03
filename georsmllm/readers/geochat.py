r"""GeoChat-Instruct: conversations about images, with boxes in the text.

Layout: one JSON list of ``{"id": "…", "image": "…", "conversations": [{"from": "human", "value": "<image>\n[refer]
where is <p>the ship</p> ?"}, {"from": "gpt", "value": "{<16><55><24><63>|<11>}"}, …]}`` and a folder of images. A box
is ``{<x0><y0><x1><y1>|<angle>}`` or without the angle, in 0…100 of the image. Documented at
https://github.com/mbzuai-oryx/GeoChat (``docs/Data.md``, ``geochat_demo.py``), files at
https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct (Kuckreja et al. 2024, arXiv 2311.15826).

The documentation that could be read does not say which way the angle turns. Here, as in the authors’ drawing
(``rotate_bbox`` in ``geochat_demo.py``), the box is turned by so many degrees counter-clockwise, as one sees it, round
its centre. The turns of a conversation become questions of their own. Task "refer" is [refer], "identify" is
[identify], "grounding" is [grounding], "class" is "Classify …".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import Question, question_kind
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.readers.files import Images, image_size, listed, only, read_json
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, as_region, attempt, refer, words
from gmrt.georsmllm.readers.shapes import Size, box, turned_box
from gmrt.runtime.points import Kind, format_regions

_BOX = re.compile(r"\{<(-?[\d.]+)><(-?[\d.]+)><(-?[\d.]+)><(-?[\d.]+)>(?:\|<(-?[\d.]+)>)?\}")
_PHRASE = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_TASK = re.compile(r"\[(refer|identify|grounding)\]")
_FULL: Size = (100.0, 100.0)

Sizer = Callable[[], Size]


def read_geochat(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of a conversations file, given itself or by its folder; the set has no splits."""
    del split
    file = path if path.is_file() else only(path, "GeoChat_Instruct.json", "*.json")
    images = Images(file.parent)
    sizes = lru_cache(maxsize=1 << 18)(image_size)
    for i, entry in enumerate(listed(read_json(file), None, file)):
        image = attempt(file.name, f"entry {i}", partial(_image, entry, images))
        if isinstance(image, BadRecord):
            yield image
            continue
        questions: list[Question] = []
        turns = entry["conversations"]
        for k in range(0, len(turns), 2):
            made = attempt(file.name, f"entry {i}, turn {k}", partial(_turn, turns[k : k + 2], partial(sizes, image)))
            if isinstance(made, BadRecord):
                yield made
            else:
                questions.append(made)
        if questions:
            yield Record(entry["image"], (image,), questions=tuple(questions))


def _image(entry: dict[str, Any], images: Images) -> Path:
    if not isinstance(entry["conversations"], list) or not entry["conversations"]:
        raise UnusableError("'conversations' is no list of turns")
    return images.find(entry["image"])


def _turn(turn: list[dict[str, Any]], size: Sizer) -> Question:
    if [part["from"] for part in turn] != ["human", "gpt"]:
        raise UnusableError("is not a human's request and an answer")
    asked = words(turn[0]["value"].replace("<image>", " "), "the request")
    answer = words(turn[1]["value"], "the answer")
    found = _TASK.search(asked)
    task = found[1] if found else "class" if asked.lower().startswith("classify") else "qa"
    asked = _TASK.sub("", asked).strip()
    phrases = _PHRASE.findall(asked)
    shape: Kind = "obb" if "|" in answer else "box"
    if task == "refer" and phrases and not _BOX.sub("", answer).strip():
        return refer(phrases[0], tuple(_box(match, size) for match in _BOX.finditer(answer)), shape)
    kind = question_kind(asked) if task == "qa" else shape if task == "refer" else ""
    return Question(_in_words(asked, size), _in_words(answer, size), task, kind)


def _in_words(text: str, size: Sizer) -> str:
    """The text without marks of phrases, and with its boxes in the set-of-points codec."""

    def region(match: re.Match[str]) -> str:
        found = _box(match, size)
        return f" {format_regions([as_region(found, 'obb' if match[5] else 'box')])} "

    plain = _BOX.sub(region, _PHRASE.sub(r"\1", text).replace("<delim>", " "))
    if "{<" in plain or "<p>" in plain:
        raise UnusableError(f"holds a box or phrase that cannot be read: {text[:80]!r}")
    return words(plain, "the text")


def _box(match: re.Match[str], size: Sizer) -> SceneObject:
    sides = [float(value) for value in match.groups()[:4]]
    if min(sides) < 0 or max(sides) > 100:
        raise UnusableError(f"the box {match[0]} is not in 0…100")
    return turned_box("", sides, float(match[5]), size(), _FULL) if match[5] else box("", sides, _FULL)

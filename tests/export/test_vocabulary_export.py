"""An export that leaves words out of the head: the same answers, proved, or nothing written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmrt.calibration.images import open_images
from gmrt.calibration.vocabulary import Kept, choose_vocabulary, needed_tokens, said_tokens
from gmrt.export import dialects
from gmrt.export.checkpoint import open_checkpoint
from gmrt.export.pipeline import export_bundle
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import GateError, GmrtError
from gmrt.runtime.model import load
from gmrt.runtime.scene import read_scene
from gmrt.runtime.verify import verify_bundle

Exports = Callable[..., tuple[Path, Any]]


@pytest.fixture(scope="module")
def enough(tiny_checkpoint: Path, pictures: Path) -> int:
    """As many words as this checkpoint needs and says, and a few of the others."""
    source = open_checkpoint(tiny_checkpoint)
    images = open_images(pictures, source.model.config.image_spec)
    must = needed_tokens(source.model, source.processor) | said_tokens(source.model, source.processor, images)
    assert len(must) + 8 < source.decoder.vocab
    return len(must) + 4


@pytest.mark.parametrize(("precision", "target"), [("fp32", "cpu"), ("int8", "cpu"), ("int8", "tensorrt")])
def test_same_answers_from_a_smaller_head(
    precision: str, target: str, enough: int, exports: Exports, tiny_checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    """Guards against a head whose rows are not those of the list, in the graph, the gate or the golden cases."""
    report = export_bundle(
        tiny_checkpoint,
        tmp_path / "bundle",
        precision=precision,  # type: ignore[arg-type]
        target=target,  # type: ignore[arg-type]
        calibration=pictures,
        words=enough,
    )
    assert report.failures == []
    assert report.sayable >= 0.99
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest.logits_size == enough < bundle.manifest.vocab_size
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration["vocabulary"]["kept"] == enough
    found = verify_bundle(tmp_path / "bundle")
    assert found.ok
    assert found.firm
    whole, cut = load(exports("tiny-llama", precision, target)[0]), load(tmp_path / "bundle")
    for picture in sorted(pictures.iterdir())[:4]:
        theirs, ours = (model.look(read_scene(picture)) for model in (whole, cut))
        for question in ("describe", "is this a river?"):
            assert ours.ask(question, max_tokens=16).text == theirs.ask(question, max_tokens=16).text
        assert ours.ask("is this a river?", yes_no=True).text == theirs.ask("is this a river?", yes_no=True).text


def test_a_wrong_list_does_not_pass(
    enough: int, tiny_checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a gate that compares columns with themselves: a list shifted by one word is caught."""
    right = dialects._with_head

    def shifted(source: Any, target: Any, kept: Kept) -> Any:
        return right(source, target, replace(kept, ids=np.roll(kept.ids, 1)))

    monkeypatch.setattr(dialects, "_with_head", shifted)
    with pytest.raises(GateError, match="top-1"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", precision="fp32", calibration=pictures, words=enough)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("words", "said"), [(10, "too small"), (1 << 20, "cannot be made of one of")])
def test_sizes_that_cannot_be_are_refused_at_once(
    words: int, said: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a size that is found to be wrong after minutes of calibration."""
    monkeypatch.setattr("gmrt.export.pipeline.build_tower", None)
    with pytest.raises(GmrtError, match=said):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", precision="int8", words=words)
    assert not (tmp_path / "bundle").exists()


def test_what_is_kept(enough: int, tiny_checkpoint: Path, pictures: Path) -> None:
    """Guards against a list without the bytes or the words of answers, and against one that changes from run to run."""
    source = open_checkpoint(tiny_checkpoint)
    images = open_images(pictures, source.model.config.image_spec)
    one, two = (choose_vocabulary(source.model, source.processor, images, size=enough) for _ in range(2))
    assert (one.ids == two.ids).all()
    assert len(one.ids) == enough
    assert (np.diff(one.ids) > 0).all()
    kept = set(one.ids.tolist())
    assert kept >= needed_tokens(source.model, source.processor)
    assert kept >= said_tokens(source.model, source.processor, images)
    with pytest.raises(GmrtError, match="needed for the answers"):
        choose_vocabulary(source.model, source.processor, images, size=enough - 8)

"""A head for a part of the words: the same answers through shorter rows, and files that lie about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from fabricate import Fabricated, Shape, hash_files, make_bundle
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from tokenizers.pre_tokenizers import ByteLevel

from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.constrain import NUMBERS, YES_NO, Choice, spell
from gmrt.runtime.errors import BundleError, ConstraintError
from gmrt.runtime.generate import Walk
from gmrt.runtime.lexicon import read_lexicon
from gmrt.runtime.manifest import bundle_id
from gmrt.runtime.model import TextEvent, load
from gmrt.runtime.points import NONE
from gmrt.runtime.sampling import greedy, make_sampler
from gmrt.runtime.scene import Scene, scene_from_array
from gmrt.runtime.vocabulary import Vocabulary, open_vocabulary

PROMPTS = ("describe", "is there a river?", "how many boats are there?", "which crops grow here?")


def cut_head(source: Path, target: Path, ids: list[int]) -> Path:
    """Copy a fabricated bundle and leave only the words ``ids`` in its head."""
    shutil.copytree(source, target)
    decoder = onnx.load(target / "decoder.onnx")
    (head,) = (tensor for tensor in decoder.graph.initializer if tensor.name == "head")
    head.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(head)[:, ids]), "head"))
    (logits,) = (value for value in decoder.graph.output if value.name == "logits")
    logits.type.tensor_type.shape.dim[2].dim_value = len(ids)
    onnx.save(decoder, target / "decoder.onnx")
    np.save(target / "vocabulary.npy", np.array(ids, np.int32))
    rewrite(target, len(ids))
    return target


def rewrite(bundle: Path, columns: object) -> None:
    """Make the manifest of a bundle fit its files, and say that its logits have so many columns."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["components"]["decoder"]["outputs"]["logits"]["axes"][-1] = columns
    manifest["components"]["vocabulary"] = {"file": "vocabulary.npy"}
    (bundle / "bundle.json").unlink()
    files = hash_files(bundle)
    manifest["files"] = {name: entry.to_dict() for name, entry in files.items()}
    manifest["id"] = bundle_id(files)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def needed(bundle: Path) -> set[int]:
    """Control tokens, tags, bytes and what closed answers and locations are spelled in."""
    tokenizer = open_bundle(bundle).tokenizer
    spelled = {
        id_ for ids in spell([*YES_NO, *NUMBERS, NONE], prompt="<assistant>", tokenizer=tokenizer) for id_ in ids
    }
    letters = {tokenizer.token_to_id(letter) for letter in ByteLevel.alphabet()}
    return spelled | letters | set(tokenizer.get_added_tokens_decoder()) | read_lexicon(tokenizer).tokens


def spoken_tokens(bundle: Path, scenes: list[Scene]) -> set[int]:
    """The tokens that a bundle answers `PROMPTS` with."""
    model = load(bundle)
    walked: set[int] = set()
    choose = Walk._accept

    def note(walk: Walk, token: int, logprob: float) -> object:
        walked.add(token)
        return choose(walk, token, logprob)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "_accept", note)
        for scene in scenes:
            for prompt in PROMPTS:
                model.look(scene).ask(prompt, max_tokens=24)
    return walked


@pytest.fixture(scope="module")
def pair(fabricated: Fabricated, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and the same with the words of some of its answers and those that are needed."""
    scenes = _scenes()
    kept = sorted(needed(fabricated.path) | spoken_tokens(fabricated.path, scenes))
    assert len(kept) < open_bundle(fabricated.path).manifest.vocab_size - 5
    return fabricated.path, cut_head(fabricated.path, tmp_path_factory.mktemp("cut") / "bundle", kept)


def _scenes() -> list[Scene]:
    return [
        scene_from_array(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)) for seed in range(3)
    ]


def test_same_answers_where_the_words_are_kept(pair: tuple[Path, Path]) -> None:
    """Guards against a column taken for a token: single, streamed and batched answers are those of the whole head."""
    whole, cut = map(load, pair)
    for scene in _scenes():
        ours, theirs = cut.look(scene), whole.look(scene)
        expected = [theirs.ask(prompt, max_tokens=24) for prompt in PROMPTS]
        found = [ours.ask(prompt, max_tokens=24) for prompt in PROMPTS]
        assert [a.text for a in found] == [a.text for a in expected]
        assert [a.tokens["generated"] for a in found] == [a.tokens["generated"] for a in expected]
        # The share of words that are gone goes to the others.
        assert all(a.confidence >= b.confidence - 1e-6 for a, b in zip(found, expected, strict=True))
        assert [a.text for a in ours.ask_many(PROMPTS, max_tokens=24)] == [a.text for a in expected]
        pieces = [event.text for event in ours.stream(PROMPTS[0], max_tokens=24) if isinstance(event, TextEvent)]
        assert "".join(pieces) == expected[0].text
    each = [outcome.answers[0].text for outcome in cut.ask_each(_scenes(), PROMPTS[0], max_tokens=24)]
    assert each == [whole.look(scene).ask(PROMPTS[0], max_tokens=24).text for scene in _scenes()]


def test_constraints_hold_as_with_the_whole_head(pair: tuple[Path, Path]) -> None:
    """Guards against masks over all words that are laid over a row of some."""
    pytest.importorskip("llguidance")
    whole, cut = map(load, pair)
    schema = {"type": "object", "properties": {"count": {"type": "integer"}, "crane": {"type": "boolean"}}}
    schema["required"] = ["count", "crane"]
    for scene in _scenes():
        ours, theirs = cut.look(scene), whole.look(scene)
        for form in ({"yes_no": True}, {"number": True}, {"points": "box", "max_regions": 2, "max_tokens": 64}):
            assert ours.ask("where?", **form).text == theirs.ask("where?", **form).text
        made = json.loads(ours.ask("count", schema=schema, max_tokens=64).text)
        assert made.keys() == {"count", "crane"}


def test_words_that_the_head_lacks_are_refused_as_choices(pair: tuple[Path, Path]) -> None:
    """Guards against a choice that can never be chosen, and nobody is told."""
    bundle = open_bundle(pair[1])
    held = bundle.vocabulary
    assert held is not None
    gone = next(
        text
        for id_ in range(bundle.manifest.vocab_size)
        if not held.holds([id_]) and (text := bundle.tokenizer.decode([id_])).strip().isalpha() and text.isascii()
        if bundle.tokenizer.encode("<assistant>" + text.strip(), add_special_tokens=False).ids[1:] == [id_]
    )
    with pytest.raises(ConstraintError, match="left out of this bundle's head"):
        load(pair[1]).look(_scenes()[0]).ask("which?", choices=["a", gone.strip()])


def test_sampling_draws_kept_words(pair: tuple[Path, Path]) -> None:
    """Guards against a drawn column that is given out as a token."""
    held = Vocabulary(np.array([1, 4, 7]), 9)
    row = np.array([0.0, 1.0, 0.5], np.float32)
    expected = np.log(np.exp(row) / np.exp(row).sum())
    for seed in range(20):
        sampler = make_sampler(temperature=1.0, top_k=0, top_p=1.0, seed=seed)
        walk = Walk(sampler=sampler, constraint=None, eos=frozenset([1]), max_tokens=3, columns=3, vocabulary=held)
        token = walk.choose(row.copy())
        column = held.column(token.id)
        assert column is not None
        assert token.logprob == pytest.approx(expected[column], abs=1e-6)


def test_nothing_that_is_allowed_can_be_said() -> None:
    """Guards against token 0 for an answer whose every continuation was left out of the head."""
    walk = Walk(
        sampler=greedy,
        constraint=Choice(["a", "b"], [[2], [3]], [1]),
        eos=frozenset([1]),
        max_tokens=3,
        columns=3,
        vocabulary=Vocabulary(np.array([1, 4, 7]), 9),
    )
    with pytest.raises(ConstraintError, match="no words"):
        walk.choose(np.zeros(3, np.float32))


@given(st.data())
def test_columns_and_tokens_are_inverse(data: st.DataObject) -> None:
    """Guards against a row that is spread to the wrong places."""
    size = data.draw(st.integers(2, 60))
    ids = np.array(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))), np.int64)
    held = Vocabulary(ids, size)
    row = np.arange(len(ids), dtype=np.float32)
    full = np.zeros(size, np.float32)
    held.spread(row, full)
    for token in range(size):
        column = held.column(token)
        assert (column is None) == (not held.holds([token])) == (full[token] == -np.inf)
        assert column is None or (ids[column] == token and full[token] == row[column])


BAD = {
    "order": np.array([1, 3, 2], np.int32),
    "twice": np.array([1, 2, 2], np.int32),
    "negative": np.array([-1, 1, 2], np.int32),
    "beyond": np.array([1, 2, 9], np.int32),
    "type": np.array([1, 2, 3], np.int64),
    "axes": np.array([[1, 2, 3]], np.int32),
    "count": np.array([1, 2], np.int32),
    "long": np.arange(4000, dtype=np.int32),
    "no end": np.array([2, 3, 4], np.int32),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_such_a_list(name: str, tmp_path: Path) -> None:
    """Guards against a list of words from a stranger that points outside the table or gives two columns one word."""
    np.save(tmp_path / "vocabulary.npy", BAD[name])
    with pytest.raises(BundleError, match=r"vocabulary\.npy"):
        open_vocabulary(tmp_path / "vocabulary.npy", columns=3, size=9, needed=(1,))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    """Guards against code in an array of objects."""
    np.save(tmp_path / "vocabulary.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    with pytest.raises(BundleError, match=r"vocabulary\.npy"):
        open_vocabulary(tmp_path / "vocabulary.npy", columns=3, size=9, needed=(1,))


@pytest.mark.parametrize("columns", ["words", 0, 1 << 20])
def test_a_manifest_that_does_not_say_how_many(columns: object, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against buffers of a size that a stranger chose."""
    bundle = Path(shutil.copytree(pair[1], tmp_path / "bundle"))
    rewrite(bundle, columns)
    with pytest.raises(BundleError, match="logits"):
        open_bundle(bundle)


def test_a_head_of_another_width_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against logits read past their end: the graph has one column less than manifest and list say."""
    bundle = Path(shutil.copytree(pair[1], tmp_path / "bundle"))
    ids = np.load(bundle / "vocabulary.npy")
    more = sorted({*ids.tolist(), next(i for i in range(10_000) if i not in ids)})
    np.save(bundle / "vocabulary.npy", np.array(more, np.int32))
    rewrite(bundle, len(more))
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        load(bundle).look(_scenes()[0]).ask("describe")


def test_standard_dialect(tmp_path: Path) -> None:
    """Guards against a dialect whose buffers still have the width of all words."""
    made = make_bundle(tmp_path / "whole", Shape(standard=True))
    kept = sorted(needed(made.path) | spoken_tokens(made.path, _scenes()))
    cut = load(cut_head(made.path, tmp_path / "cut", kept))
    whole = load(made.path)
    for prompt in PROMPTS:
        ours, theirs = (model.look(_scenes()[0]).ask(prompt, max_tokens=24) for model in (cut, whole))
        assert ours.text == theirs.text

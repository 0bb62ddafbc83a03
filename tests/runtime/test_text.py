"""Streamed text, joined, is the whole text."""

from __future__ import annotations

import pytest
from fabricate import make_metaspace_tokenizer, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.text import Detokenizer, TextStream

BYTES, METASPACE = make_tokenizer(), make_metaspace_tokenizer()
TOKENIZERS = pytest.mark.parametrize("tokenizer", [BYTES, METASPACE], ids=["byte-level", "metaspace"])
WORDS = st.lists(
    st.sampled_from(["a", "harbour", "river.", "naïve", "船舶", "🛰️", "<box>", "12", "999", "x-y", "\n", "  "]),
    max_size=12,
).map(" ".join)
TEXTS = st.one_of(WORDS, st.text(max_size=30))


def detokenize(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, list[str]]:
    """Join the pieces; returns them too."""
    stream = Detokenizer(tokenizer)
    pieces = [stream.push(token) for token in ids]
    return "".join([*pieces, stream.finish()]), pieces


@TOKENIZERS
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_text_survives_streaming(tokenizer: Tokenizer, text: str) -> None:
    """Guards against lost or doubled spaces and broken characters at the seams between tokens."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    joined, pieces = detokenize(tokenizer, ids)
    assert joined == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_tokens_survive_streaming(data: st.DataObject) -> None:
    """Guards against a model that writes half characters: the pieces still add up to the full decode."""
    size = BYTES.get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=25))
    joined, _ = detokenize(BYTES, ids)
    assert joined == BYTES.decode(ids)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_byte_fallback_tokens_never_fail(data: st.DataObject) -> None:
    """Guards against an exception over bytes that are no UTF-8 (byte fallback decodes a run of bytes as a whole)."""
    size = METASPACE.get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=25))
    detokenize(METASPACE, ids)


@TOKENIZERS
def test_text_comes_as_soon_as_it_is_certain(tokenizer: Tokenizer) -> None:
    """Guards against a stream that holds everything back until the end."""
    text = "a harbour with many boats"
    _, pieces = detokenize(tokenizer, tokenizer.encode(text, add_special_tokens=False).ids)
    assert "".join(pieces) == text
    assert sum(map(bool, pieces)) >= 5


def stream(tokenizer: Tokenizer, text: str, stop: str | list[str]) -> tuple[str, list[str], bool]:
    """Stream a text with stop strings; returns it joined, its pieces, and whether it was stopped."""
    running = TextStream(tokenizer, stop)
    pieces = []
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        pieces.append(running.push(token))
        if running.stopped:
            break
    return "".join([*pieces, running.finish()]), pieces, running.stopped


def test_special_tokens_are_not_text() -> None:
    """Guards against <eos> in an answer, and against a space lost behind a token that is left out."""
    ids = METASPACE.encode("a river", add_special_tokens=False).ids
    joined, _ = detokenize(METASPACE, [ids[0], METASPACE.token_to_id("<eos>"), *ids[1:]])
    assert joined == "a river"


@TOKENIZERS
@settings(max_examples=60, deadline=None)
@given(text=WORDS, stop=st.sampled_from(["river", "bo", " a", "\n", "ab", "999 x", "船舶 a", "  "]))
def test_stop_string_cuts_where_it_begins(tokenizer: Tokenizer, text: str, stop: str) -> None:
    """Guards against showing the beginning of a stop string, missing one that spans tokens, or cutting too much."""
    whole = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
    joined, _, stopped = stream(tokenizer, text, stop)
    assert stopped == (stop in whole)
    assert joined == whole.split(stop)[0].strip()


def test_false_alarm_is_given_out() -> None:
    """Guards against swallowing text that only began like a stop string, also at the very end."""
    assert stream(BYTES, "a river runs", "riverside")[0] == "a river runs"
    assert stream(BYTES, "a river", "riverside")[0] == "a river"
    assert stream(BYTES, "aab", "ab")[0] == "a"


def test_several_stop_strings() -> None:
    """Guards against looking for the first one only."""
    assert stream(BYTES, "one two three", ["three", "two"])[0] == "one"


def test_white_space_at_the_ends_is_left_out() -> None:
    """Guards against answers that begin with a space or end in blank lines, in the stream too."""
    joined, pieces, _ = stream(BYTES, "  \n a  river \n\n", [])
    assert joined == "a  river"
    assert "".join(pieces) == joined


@pytest.mark.parametrize("stop", ["", ["x", ""]])
def test_empty_stop_string(stop: str | list[str]) -> None:
    """Guards against an answer that always ends before it begins."""
    with pytest.raises(ConstraintError, match="must not be empty"):
        TextStream(BYTES, stop)

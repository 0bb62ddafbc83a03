"""Answers in the form of a JSON schema: what is refused, what comes out, and that half a structure is none."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from fabricate import make_metaspace_tokenizer
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from gmrt.runtime.errors import ConstraintError, TruncatedError
from gmrt.runtime.model import Finished, Model, TextEvent, View
from gmrt.runtime.scene import Scene
from gmrt.runtime.schema import MAX_ITEMS, MAX_LENGTH, MAX_NUMBER, JsonText, SchemaGuard, bounded, read_spelling

LAND = {
    "title": "land",
    "type": "object",
    "properties": {"kind": {"enum": ["urban", "Größe 12"]}, "cars": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "cars"],
}
NAMES = ("a", "count 12", "Größe", 'q"\\')


def conforms(value: Any, schema: dict[str, Any]) -> bool:  # noqa: PLR0911 - one for each type
    """Whether a value is one of ``schema``, which `bounded` has completed; the part of JSON Schema that is allowed."""
    if "anyOf" in schema:
        return any(conforms(value, each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return any(type(value) is type(each) and value == each for each in schema.get("enum", [schema.get("const")]))
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null", float: "number"}
    kind = "number" if type(value) is int and "integer" not in types else kinds.get(type(value), "integer")
    if kind not in types:  # before its bounds are looked for, which another type has not
        return False
    if kind == "object":
        within, required = schema["properties"], set(schema["required"])
        return required <= value.keys() and all(conforms(value[k], within[k]) for k in value)
    if kind == "array":
        enough = schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
        return enough and all(conforms(item, schema["items"]) for item in value)
    if kind == "string":
        return bool(schema.get("minLength", 0) <= len(value) <= schema["maxLength"])
    return kind in ("boolean", "null") or bool(schema["minimum"] <= value <= schema["maximum"])


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of all that is allowed."""
    small = st.integers(0, 3)
    bounds = st.tuples(st.integers(-1200, 1200), st.integers(0, 400))
    leaves = st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"]}, {"type": "number"}]),
        st.lists(st.one_of(st.sampled_from(NAMES), st.integers(-9, 9), st.none()), min_size=1, max_size=3).map(
            lambda values: {"enum": values}
        ),
        st.sampled_from([*NAMES, 1, None, [1, {"a": True}]]).map(lambda value: {"const": value}),
        st.builds(
            lambda kind, pair: {"type": kind, "minimum": pair[0] / 8, "maximum": pair[0] / 8 + 1 + pair[1]},
            st.sampled_from(["integer", "number"]),
            bounds,
        ),
        st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, small, small),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
                inner,
                small.map(lambda n: n % 2),
                small.map(lambda n: n % 2),
            ),
            st.builds(
                lambda within, some: {"type": "object", "properties": within, "required": [*within][:some]},
                st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
                small,
            ),
            st.lists(inner, min_size=1, max_size=2).map(lambda each: {"anyOf": each}),
        ),
        max_leaves=5,
    )


@pytest.fixture
def view(model: Model, scenes: list[Scene]) -> View:
    """A view of the fabricated bundle, where schemas can be held to."""
    pytest.importorskip("llguidance")
    return model.look(scenes[0])


@given(schema=schemas(), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_answer_conforms_and_is_compact(view: View, schema: dict[str, Any], seed: int) -> None:
    """Guards against an answer that does not parse or conform, optional white space, and numbers without an end."""
    try:
        text = view.ask("describe", schema=schema, temperature=1.0, seed=seed).text
    except TruncatedError:
        reject()  # a random model may use all its room, rarely
    value = json.loads(text)
    assert conforms(value, bounded(schema))
    assert re.sub(r'"(\\.|[^"\\])*"', '""', text).split() == [re.sub(r'"(\\.|[^"\\])*"', '""', text)]
    assert not re.search(r"\d[eE]|\.\d{7}", text)


def test_alone_streamed_and_batched_answers_are_the_same(model: Model, view: View, scenes: list[Scene]) -> None:
    """Guards against a state that is shared between rows, and against a stream that differs from its result."""
    alone = view.ask("describe", schema=LAND)
    assert alone.finish_reason == "stop"
    assert json.loads(alone.text).keys() == {"kind", "cars"}
    *pieces, last = view.stream("describe", schema=LAND)
    assert isinstance(last, Finished)
    assert last.answer.text == "".join(p.text for p in pieces if isinstance(p, TextEvent)) == alone.text
    assert [answer.text for answer in view.ask_many(["describe"] * 3, schema=LAND)] == [alone.text] * 3
    (first, *_) = [outcome.answers[0].text for outcome in model.ask_each(scenes, "describe", schema=LAND)]
    assert first == alone.text


def test_half_a_structure_is_an_error(model: Model, view: View, scenes: list[Scene]) -> None:
    """Guards against a truncated structure as a result, and against one that ends a run over many images."""
    with pytest.raises(TruncatedError, match=r"cut off after 5 tokens.*max_tokens") as raised:
        view.ask("describe", schema=LAND, max_tokens=5)
    assert raised.value.exit_code == 1
    with pytest.raises(TruncatedError):
        list(view.stream("describe", schema=LAND, max_tokens=5))
    with pytest.raises(TruncatedError):
        view.ask_many(["describe", "count"], schema=LAND, max_tokens=5)
    outcomes = list(model.ask_each(scenes, ["describe", "count"], schema=LAND, max_tokens=5))
    assert [type(outcome.error) for outcome in outcomes] == [TruncatedError] * 3
    assert json.loads(view.ask("describe", schema=LAND).text)


REFUSED: list[tuple[Any, str]] = [
    ({"type": "string", "pattern": "a"}, "'pattern' at # is not supported"),
    ({"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#"}}}}, "#/properties/a/items"),
    ({"type": "object", "additionalProperties": True}, "#/additionalProperties can only be false"),
    ({"type": "object", "properties": {}, "required": ["a"]}, "#/required"),
    ({"type": "integer", "maxLength": 3}, "'maxLength' at # is not supported of type integer"),
    ({"enum": ["a"], "maxLength": 3}, "beside enum"),
    ({"enum": []}, "#/enum must be a list"),
    ({"enum": [1], "const": 1}, "both enum and const"),
    ({"type": "date"}, '#/type is "date"'),
    ({"type": "array"}, "has no items"),
    ({"type": "array", "items": {"type": "null"}, "maxItems": 10**9}, "#/maxItems must be a whole number"),
    ({"type": "number", "minimum": "0"}, "#/minimum must be a number"),
    ({"properties": {}}, "# has no type"),
    ({}, "# has no type"),
    (True, "must be an object"),
    ({"const": float("nan")}, "not JSON"),
]


@pytest.mark.parametrize(("schema", "message"), REFUSED)
def test_what_cannot_be_enforced_is_refused(schema: Any, message: str) -> None:
    """Guards against a keyword that is passed over in silence, and a refusal that does not say where it stands."""
    with pytest.raises(ConstraintError, match=re.escape(message)):
        bounded(schema)


def test_depth_is_limited() -> None:
    """Guards against a schema that ends in a RecursionError."""
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(200):
        schema = {"anyOf": [schema]}
    with pytest.raises(ConstraintError, match="make it flatter"):
        bounded(schema)


def test_what_has_no_end_is_given_one() -> None:
    """Guards against a default bound that replaces what the schema says, or that contradicts it."""
    assert bounded({"type": "string"})["maxLength"] == MAX_LENGTH
    assert bounded({"type": "string", "minLength": 500})["maxLength"] == 500
    assert bounded({"type": "array", "items": {"type": "string", "maxLength": 2}}) == {
        "type": "array",
        "items": {"type": "string", "maxLength": 2},
        "maxItems": MAX_ITEMS,
    }
    assert bounded({"type": "integer", "minimum": 1}) == {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER}


def test_what_nothing_can_satisfy_is_refused(view: View) -> None:
    """Guards against a schema without an answer that runs until max_tokens."""
    with pytest.raises(ConstraintError, match="the schema cannot be used"):
        view.ask("describe", schema={"type": "integer", "minimum": 3, "maximum": 2})


@pytest.mark.parametrize("other", [{"yes_no": True}, {"points": "box"}, {"number": True}, {"choices": ["a"]}])
def test_a_schema_excludes_other_forms(view: View, other: dict[str, Any]) -> None:
    """Guards against one of two forms winning in silence."""
    with pytest.raises(ConstraintError, match="exclude each other"):
        view.ask("describe", schema=LAND, **other)
    with pytest.raises(ConstraintError, match="ends by itself"):
        view.ask("describe", schema=LAND, stop=".")


def test_a_tokenizer_that_alters_text_does_not_alter_the_form() -> None:
    """Guards against what is certain being spelled by way of a tokenizer that puts spaces before words."""
    pytest.importorskip("llguidance")
    tokenizer = make_metaspace_tokenizer()
    spelling = read_spelling(tokenizer, (1,))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guard, text, out = SchemaGuard(spelling, LAND, (1,)), JsonText(spelling), ""
        while not guard.finished:
            row = rng.normal(size=len(spelling.tokens) + 5).astype(np.float32)
            guard(row)
            token = int(row.argmax())
            assert token not in spelling.added
            guard.accept(token)
            out += text.push(token)
        assert conforms(json.loads(out), bounded(LAND)), out

"""Answers in the form of a JSON schema: compact, bounded, and whole or an error.

A schema is first walked against a short list of keywords, because one that is not enforced must not be passed over,
and completed with bounds, because a small model may repeat itself for ever where a string or a number has no end. Then
llguidance says after every token which may come next. It works on the bytes of tokens, so neither what a tokenizer
does to text on its way in nor what its decoder does on the way out can alter the form.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from gmrt.runtime.errors import ConstraintError, MissingExtraError, TruncatedError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLTokenizer

MAX_LENGTH = 64
"""Characters of a string whose schema does not say."""
MAX_ITEMS = 16
"""Items of an array whose schema does not say."""
MAX_NUMBER = 999_999_999
"""Largest magnitude of a number whose schema does not say."""
STEP = 0.000001
"""What every ``number`` is a multiple of: six decimals, or it would have no end."""

_LIMIT = 1000  # of lengths and items: no answer has room for more, and a grammar that counts further is slow to build
_DEPTH = 16  # schemas within schemas
_NOTES = {"title", "description", "$schema"}  # say what a schema is for, and nothing about what an answer may be
_RANGE = {"minimum", "maximum"}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": _RANGE,
    "number": _RANGE,
    "boolean": set[str](),
    "null": set[str](),
}


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``schema`` with a bound wherever an answer could grow without one.

    Raises `ConstraintError` for what is not JSON, for a keyword that is not on the list, which it names and places as a
    JSON pointer, and for a value that the keyword cannot have.
    """
    try:
        plain = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConstraintError(f"the schema is not JSON ({error}): use texts, numbers, lists and objects") from None
    return _bounded(plain, "#", 0)


def _bounded(schema: Any, at: str, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _refusal(at, f"must be an object, got {json.dumps(schema)[:40]}")
    if depth > _DEPTH:
        raise _refusal(at[:80], f"lies more than {_DEPTH} schemas deep: make it flatter")
    given = {keyword: value for keyword, value in schema.items() if keyword not in _NOTES}
    types = _types(given, at)
    closed = [keyword for keyword in ("anyOf", "enum", "const") if keyword in given]
    if len(closed) > 1:
        raise _refusal(at, f"has both {closed[0]} and {closed[1]}: give one of them")
    if closed:
        (form,) = closed
        _check_keywords(given, {form} if form == "anyOf" else {form, "type"}, at, f" beside {form}")
    elif not types:
        _check_keywords(given, set().union(*_KEYWORDS.values()), at, "")
        raise _refusal(at, f"has no type: give one of {', '.join(_KEYWORDS)}, or enum, const or anyOf")
    if "const" in given:
        return given
    if closed:
        values = given[form]
        if not isinstance(values, list) or not values:
            raise _refusal(f"{at}/{form}", "must be a list with something in it")
        if form == "anyOf":
            return {form: [_bounded(value, f"{at}/{form}/{i}", depth + 1) for i, value in enumerate(values)]}
        return given
    _check_keywords(given, {"type"}.union(*(_KEYWORDS[type_] for type_ in types)), at, f" of type {' or '.join(types)}")
    return given | _bounds(given, types, at, depth)


def _types(given: dict[str, Any], at: str) -> list[str]:
    types = given.get("type", [])
    types = [types] if isinstance(types, str) else types
    if not isinstance(types, list) or ("type" in given and not types):
        raise _refusal(f"{at}/type", f"must be one of {', '.join(_KEYWORDS)}")
    for type_ in types:
        if type_ not in _KEYWORDS:
            raise _refusal(f"{at}/type", f"is {json.dumps(type_)[:40]}, and must be one of {', '.join(_KEYWORDS)}")
    return types


def _check_keywords(given: dict[str, Any], known: set[str], at: str, where: str) -> None:
    for keyword in given:
        if keyword not in known:
            raise ConstraintError(
                f"the schema's keyword {keyword!r} at {at} is not supported{where}: an answer could not be held to it, "
                "so leave it out"
            )


def _bounds(given: dict[str, Any], types: Sequence[str], at: str, depth: int) -> dict[str, Any]:
    """What completes a schema of these types."""
    added: dict[str, Any] = {}
    if "object" in types:
        added |= _object(given, at, depth)
    if "array" in types:
        if "items" not in given:
            raise _refusal(at, "has no items: say what the array holds")
        added["items"] = _bounded(given["items"], f"{at}/items", depth + 1)
        added["maxItems"] = _most(given, "minItems", "maxItems", MAX_ITEMS, at)
    if "string" in types:
        added["maxLength"] = _most(given, "minLength", "maxLength", MAX_LENGTH, at)
    if {"integer", "number"} & set(types):
        for keyword, default in (("minimum", -MAX_NUMBER), ("maximum", MAX_NUMBER)):
            value = given.get(keyword, default)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise _refusal(f"{at}/{keyword}", f"must be a number, got {json.dumps(value)[:40]}")
            added[keyword] = value
    if "number" in types:
        added["multipleOf"] = STEP
    return added


def _object(given: dict[str, Any], at: str, depth: int) -> dict[str, Any]:
    properties, required = given.get("properties", {}), given.get("required", [])
    if not isinstance(properties, dict):
        raise _refusal(f"{at}/properties", "must be an object")
    if given.get("additionalProperties", False) is not False:
        raise _refusal(f"{at}/additionalProperties", "can only be false: name every property")
    if not isinstance(required, list) or any(name not in properties for name in map(str, required)):
        raise _refusal(f"{at}/required", "must be a list of names that are in properties")
    within = {name: _bounded(value, f"{at}/properties/{name}", depth + 1) for name, value in properties.items()}
    return {"properties": within, "required": required, "additionalProperties": False}


def _most(given: dict[str, Any], least: str, most: str, default: int, at: str) -> int:
    for keyword in (least, most):
        value = given.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LIMIT:
            raise _refusal(f"{at}/{keyword}", f"must be a whole number from 0 to {_LIMIT}")
    return int(given.get(most, max(default, given.get(least, 0))))


def _refusal(at: str, why: str) -> ConstraintError:
    return ConstraintError(f"the schema at {at} {why}")


@dataclass(frozen=True)
class Spelling:
    """What llguidance knows of one tokenizer; ``tokens`` are the bytes of each, ``added`` the ids that are no text."""

    tokenizer: LLTokenizer
    tokens: tuple[bytes, ...]
    added: frozenset[int]


def read_spelling(tokenizer: Tokenizer, eos: Sequence[int], vocabulary: Vocabulary | None = None) -> Spelling:
    """Read the bytes of a tokenizer's tokens, of those in ``vocabulary`` where one is given; takes about 0.2 s.

    Raises `MissingExtraError` without llguidance, `ConstraintError` for a tokenizer that it cannot read.
    """
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ModuleNotFoundError:
        raise MissingExtraError(
            "a schema needs llguidance, which is not installed: "
            "run pip install -c constraints.txt '.[schema]' in a checkout of gmrt"
        ) from None
    added = frozenset(tokenizer.get_added_tokens_decoder())
    try:
        read = LLTokenizer(tokenizer.to_str(), eos_token=list(eos), slices=[])
        tokens = tuple(read.decode_bytes([id_]) for id_ in range(read.vocab_size))
        special = sorted(added | set(eos))
        if vocabulary is not None:  # a token that spells nothing is never asked for
            tokens = tuple(spelled if vocabulary.holds([id_]) else b"" for id_, spelled in enumerate(tokens))
            read = LLTokenizer(TokenizerWrapper(_Greedy(eos[0], tokens, special, read)), eos_token=list(eos), slices=[])
        # Its own way to tokenise what is certain runs the normaliser, which may alter it (lower case, a space before
        # a number); the longest tokens that spell the bytes alter nothing.
        greedy = _Greedy(eos[0], tokens, special, read)
        return Spelling(LLTokenizer(TokenizerWrapper(greedy), eos_token=list(eos), slices=[]), tokens, added)
    except ValueError as error:
        raise ConstraintError(
            f"this model cannot be held to a schema, because its tokenizer cannot be read ({str(error)[:200]})"
        ) from None


class _Greedy:
    """A tokenizer as llguidance takes one: bytes become the longest tokens that spell them."""

    bos_token_id = None

    def __init__(self, eos: int, tokens: Sequence[bytes], special: list[int], read: LLTokenizer) -> None:
        self.eos_token_id, self.tokens, self.special_token_ids = eos, tokens, special
        self._read = read

    def __call__(self, text: bytes | str) -> list[int]:
        return list(self._read.greedy_tokenize(text if isinstance(text, str) else text.decode()))


class SchemaGuard:
    """Holds an answer to a schema, as a `gmrt.runtime.constrain.Constraint`. Make one with `hold`.

    It is finished when the answer is whole and nothing can follow, or an end token came where it was whole.
    """

    cut = False

    def __init__(self, spelling: Spelling, schema: Mapping[str, Any], eos: Sequence[int]) -> None:
        from llguidance import LLMatcher

        grammar = partial(LLMatcher.grammar_from_json_schema, overrides={"whitespace_flexible": False})
        try:
            self._matcher = LLMatcher(spelling.tokenizer, grammar(json.dumps(bounded(schema))), log_level=0)
        except ValueError as error:
            raise ConstraintError(f"the schema cannot be used ({str(error)[:200]})") from None
        self._check("the schema cannot be used")
        # The form of an answer is all in its bytes; a tag in a string would open what is not there.
        self._barred = np.array(sorted(spelling.added - set(eos)), np.int64)
        self._count = len(spelling.tokens)

    @property
    def finished(self) -> bool:
        """Whether the answer is whole and has ended."""
        return bool(self._matcher.is_stopped())

    @property
    def forced(self) -> int | None:
        """The one token that may come next: the longest one, where several spell the beginning of what is certain."""
        certain = () if self.finished else self._matcher.compute_ff_tokens()
        return int(certain[0]) if certain else None

    def __call__(self, row: FloatArray) -> None:
        """Leave the logits of tokens that lead on to an answer of the schema.

        Raises `ConstraintError` when there is none.
        """
        forced = self.forced
        if forced is not None:
            kept = row[forced]
            row.fill(-np.inf)
            row[forced] = kept
            return
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=self._count, bitorder="little").view(bool)
        row[: self._count][~allowed] = -np.inf
        row[self._count :] = -np.inf
        row[self._barred] = -np.inf
        self._check("the answer cannot be held to the schema")
        if not np.isfinite(row).any():
            raise ConstraintError("this model has no tokens for what the schema asks: use plainer names and values")

    def accept(self, token: int) -> None:
        """Move on over ``token``, which `__call__` has allowed."""
        self._matcher.consume_token(token)
        self._check("the answer cannot be held to the schema")

    def check_whole(self, tokens: int) -> None:
        """Raise `TruncatedError` for an answer that has ended after so many tokens and is not whole."""
        if not self.finished:
            raise TruncatedError(
                f"the answer was cut off after {tokens} tokens, before the structure was whole: raise max_tokens, "
                "or give strings and arrays a smaller maxLength and maxItems"
            )

    def _check(self, what: str) -> None:
        if self._matcher.is_error():
            raise ConstraintError(f"{what}: {_sentence(self._matcher.get_error())}")


def _sentence(error: str) -> str:
    return error.strip().partition("\n")[0][:200]


class JsonText:
    """The text of an answer that is held to a schema: the bytes of its tokens, as `gmrt.runtime.text.TextStream`."""

    stopped = False

    def __init__(self, spelling: Spelling) -> None:
        self._tokens = spelling.tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Add a token; returns the characters that are complete."""
        return self._decoder.decode(self._tokens[token])

    def finish(self) -> str:
        """Return nothing: an answer that is whole has no half characters."""
        return ""

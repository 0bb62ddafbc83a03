"""Requests in English to conditions, by recursive descent; the grammar stands in ``docs/conditions.md``.

Each method of the parser is one rule of the grammar and bears its name.
"""

from __future__ import annotations

from typing import cast

from gmrt.georsmllm.conditions.tree import (
    And,
    Attribute,
    Category,
    Condition,
    Extent,
    Link,
    Not,
    Or,
    Place,
    Position,
    Relation,
    Size,
    normalise,
)
from gmrt.georsmllm.conditions.words import ADJECTIVES, ParseError, Token, singular, tokens

LONGEST = 200
"""Words of a request; nobody says more, and every nesting costs the parser's stack."""
_MODIFIERS = ("rank", "adjective")
_ARTICLES = ("the", "a")


def parse_condition(text: str) -> Condition:
    """Read a request such as "the white tanks on the left, but not the largest one"; the result is normalised.

    Raises `ParseError`, which names the words that were not understood.
    """
    parser = _Parser(text)
    condition = parser.phrase()
    parser.expect_end()
    return normalise(condition)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [*tokens(text), Token("end", "", "")]
        self.at = 0
        if len(self.tokens) > LONGEST:
            raise ParseError(f"a request of {len(self.tokens) - 1} words is too long: say it in fewer than {LONGEST}")

    def peek(self, *kinds: str) -> bool:
        """Whether the next tokens are of these kinds; a kind may name several, as in "the|a"."""
        following = self.tokens[self.at : self.at + len(kinds)]
        return len(following) == len(kinds) and all(
            t.kind in k.split("|") for t, k in zip(following, kinds, strict=True)
        )

    def take(self, *kinds: str) -> Token | None:
        """The next token when these kinds follow, past all of them; None otherwise."""
        if not self.peek(*kinds):
            return None
        token = self.tokens[self.at]
        self.at += len(kinds)
        return token

    def fail(self, wanted: str) -> ParseError:
        rest = " ".join(token.words for token in self.tokens[self.at : -1])
        if rest:
            return ParseError(f"{rest!r} is not understood in {self.text!r}: expected {wanted}")
        before = self.tokens[self.at - 1].words if self.at else ""
        return ParseError(f"nothing follows {before!r} in {self.text!r}: expected {wanted}")

    def expect_end(self) -> None:
        if not self.peek("end"):
            raise self.fail("the end, 'and', 'or', or what the things are like")

    def expect(self, kind: str, wanted: str) -> Token:
        token = self.take(kind)
        if token is None:
            raise self.fail(wanted)
        return token

    def phrase(self) -> Condition:
        """Rule ``phrase = thing { ( "," | [","] ( "and" | "or" ) ) thing }``."""
        things = [self.thing()]
        while not self.peek("comma", "and", "not") and (self.take("comma", "and|or") or self.take("comma|and|or")):
            things.append(self.thing())
        return Or(tuple(things))

    def thing(self) -> Condition:
        """Rule ``thing = other { "and" posts } exclusions``."""
        parts = [self.other()]
        while self.peek("and", "place|relation|compare"):
            self.at += 1
            parts += self.posts()
        return And((*parts, *self.exclusions()))

    def closed(self, condition: Condition) -> Condition:
        self.expect("close", "')'")
        return condition

    def exclusions(self) -> list[Condition]:
        """Rule ``exclusions = { ( [","] "but not" | "," "not" ) excluded }``; after the first also "," "and not"."""
        left_out: list[Condition] = []
        leads = [("except",), ("comma", "except|not")]
        while any(self.take(*lead) for lead in leads):
            left_out.append(Not(self.excluded()))
            leads = [*leads[:2], ("comma", "and", "not")]
        return left_out

    def excluded(self) -> Condition:
        """Rule ``excluded = phrase | unary``: "the white ones" or "on the left"."""
        ahead = self.at
        while self.tokens[ahead].kind in _MODIFIERS:
            ahead += 1
        names = self.tokens[ahead].kind in ("word", "one", "open", *_ARTICLES)
        return self.phrase() if names else self.unary()

    def noun(self) -> Condition:
        """Rule ``noun = [article] modifiers ( category | "one" )``."""
        self.take("|".join(_ARTICLES))
        parts = self.modifiers()
        if not self.take("one"):
            parts.append(self.category())
        return And(tuple(parts))

    def modifiers(self) -> list[Condition]:
        """Rule ``modifiers = { rank | adjective }``."""
        parts: list[Condition] = []
        while token := self.take("rank|adjective"):
            parts.append(_rank(token.value) if token.kind == "rank" else Attribute(*ADJECTIVES[token.value]))
        return parts

    def category(self) -> Category:
        """Rule ``category = word { word | adjective }``."""
        words = [self.expect("word", "a noun, such as 'ships'").value]
        while token := self.take("word|adjective"):
            words.append(token.value)
        return Category(singular(" ".join(words)))

    def posts(self) -> list[Condition]:
        """Rule ``posts = { place | relation }``."""
        parts: list[Condition] = []
        while True:
            if token := self.take("place"):
                parts.append(Position(cast("Place", token.value)))
            elif self.peek("relation|compare"):
                parts.append(self.relation())
            else:
                return parts

    def relation(self) -> Condition:
        """Rule ``relation = link other { "or" article other } { "and" "a" other }``; "and a" repeats the link."""
        token = self.tokens[self.at]
        self.at += 1
        others = [self.other()]
        while self.peek("or", "the|a"):
            self.at += 1
            others.append(self.other())
        related = [_related(token, Or(tuple(others)))]
        while self.peek("and", "a"):
            self.at += 1
            related.append(_related(token, self.other()))
        return And(tuple(related))

    def other(self) -> Condition:
        """Rule ``other = "(" phrase ")" | noun posts [ ( "that are" | "whose" … ) predicate ]``."""
        if self.take("open"):
            return self.closed(self.phrase())
        parts = [self.noun(), *self.posts()]
        if self.take("clause") or self.peek("whose"):
            parts.append(self.predicate())
        return And(tuple(parts))

    def predicate(self) -> Condition:
        """Rule ``predicate = both { "or" both }``; "or the" and "and the" begin another thing instead."""
        parts = [self.both()]
        while self.peek("or") and not self.peek("or", "the"):
            self.at += 1
            parts.append(self.both())
        return Or(tuple(parts))

    def both(self) -> Condition:
        """Rule ``both = unary { "and" unary }``."""
        parts = [self.unary()]
        while self.peek("and") and not self.peek("and", "the"):
            self.at += 1
            parts.append(self.unary())
        return And(tuple(parts))

    def unary(self) -> Condition:
        """Rule ``unary = "not" unary | "(" predicate ")" | place | relation | "whose" attribute | like``."""
        if self.take("not"):
            return Not(self.unary())
        self.take("clause")  # "that are white and that are on the left"
        if self.take("open"):
            return self.closed(self.predicate())
        if token := self.take("place"):
            return Position(cast("Place", token.value))
        if self.peek("relation|compare"):
            return self.relation()
        if self.take("whose"):
            return self.attribute()
        return self.like()

    def attribute(self) -> Attribute:
        """Rule ``attribute = value "is" value``: "roof is flat"."""
        kind = self.value("what it has, such as 'roof'")
        self.expect("be", "'is'")
        return Attribute(kind, self.value("a value, such as 'flat'"))

    def value(self, wanted: str) -> str:
        """Rule ``value = ( word | adjective ) { word | adjective }``."""
        words = []
        while token := self.take("word|adjective"):
            words.append(token.value)
        if not words:
            raise self.fail(wanted)
        return " ".join(words)

    def like(self) -> Condition:
        """Rule ``like = modifiers | [article] modifiers ( category | "one" )``: "white", "the largest one"."""
        article = self.take("|".join(_ARTICLES))
        parts = self.modifiers()
        if self.peek("word"):
            parts.append(self.category())
        elif not self.take("one") and (article or not parts):
            raise self.fail("a noun, an adjective, a place or a relation")
        return And(tuple(parts))


def _rank(word: str) -> Condition:
    return Position(cast("Place", word)) if word.endswith("most") else Size(cast("Extent", word))


def _related(token: Token, other: Condition) -> Condition:
    if token.kind == "compare":
        return Size(cast("Extent", token.value.removesuffix(" than")), other)
    return Relation(cast("Link", token.value), other)

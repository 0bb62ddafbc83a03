"""Conditions in natural English: the inverse of `grammar.parse_condition`.

What people say often comes out as they would say it; what hardly anybody says gets parentheses, so that every condition
can be said and is read back as it was meant.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeGuard

from gmrt.georsmllm.conditions.tree import (
    ANYTHING,
    And,
    Attribute,
    Category,
    Condition,
    Not,
    Or,
    Position,
    Relation,
    Size,
    is_rank,
    normalise,
)
from gmrt.georsmllm.conditions.words import ADJECTIVE_OF, MASS, PLACES, plural

_ARTICLES = ("a ", "an ", "the ", "every ")
Article: TypeAlias = Literal["the", "all", "every", "a", ""]


def format_condition(condition: Condition, *, many: bool = True, article: Article = "the") -> str:
    """Say a condition: "the white storage tanks on the left that are next to a building, but not the largest one".

    ``many`` chooses the plural; what holds a superlative is singular anyway, and never "a". `parse_condition` reads any
    of these forms back as ``normalise(condition)``.
    """
    return _phrase(normalise(condition), many, article, "object")


def _phrase(condition: Condition, many: bool, article: Article, pronoun: str) -> str:
    if not isinstance(condition, Or):
        return _thing(condition, many, article, pronoun)
    said = [(_thing(part, many, article, pronoun), _is_plain(part)) for part in condition.parts]
    *first, last = [text if is_plain else f"({text})" for text, is_plain in said]
    return f"{', '.join(first)} and {last}"


def _thing(condition: Condition, many: bool, article: Article, pronoun: str) -> str:
    parts = _parts(condition)
    ranked = any(map(is_rank, parts))
    many = many and not ranked
    text = _noun(parts, many, "the" if ranked and article else article, pronoun)
    places = [PLACES[part.place] for part in parts if _is_place(part)]
    clause = _clause(parts, many, bare=not places)
    left_out = [_phrase(part.part, True, "the", "one") for part in parts if _is_exclusion(part)]
    nested = [any(map(_is_exclusion, _parts(part.part))) for part in parts if _is_exclusion(part)]
    for number, (words, wrap) in enumerate(zip(left_out, nested, strict=True)):
        clause += f", {'and' if number else 'but'} not {f'({words})' if wrap else words}"
    return " ".join([text, *places]) + clause


def _noun(parts: tuple[Condition, ...], many: bool, article: Article, pronoun: str) -> str:
    names = [part.name for part in parts if isinstance(part, Category)]
    name = names[0] if names else pronoun
    words = [*_modifiers(parts), plural(name) if many else name]
    text = " ".join(words)
    if article == "a":
        return text if many or name.rpartition(" ")[2] in MASS else f"{_a(text)} {text}"
    return f"{article} {text}".strip()


def _a(text: str) -> str:
    vowel = text[0] in "aeio" or (text[0] == "u" and not text.startswith(("u-", "uni", "use")))
    return "an" if vowel or text.startswith(("l-", "h-")) else "a"


def _modifiers(parts: tuple[Condition, ...]) -> list[str]:
    """Superlatives and adjectives, as they stand before a noun."""
    ranks = [_rank_word(part) for part in parts if is_rank(part)]
    return ranks + [ADJECTIVE_OF[part.kind, part.value] for part in parts if _is_adjective(part)]


def _clause(parts: tuple[Condition, ...], many: bool, *, bare: bool) -> str:
    """What follows noun and places: "next to a building" alone, otherwise "that are …" and "whose …"."""
    others = [_like((part,), many) for part in [p for p in parts if isinstance(p, Category)][1:]]
    negations = [_unary(part, many) for part in parts if isinstance(part, Not) and not _is_exclusion(part)]
    choices = [part for part in parts if isinstance(part, Or)]
    relations = [_unary(part, many) for part in parts if _is_relation(part)]
    owned = [_unary(part, many) for part in parts if _is_owned(part)]
    if relations and bare and not (others or negations or choices or owned or relations[1:]):
        return f" {relations[0]}"
    alone = len(choices) == 1 and not (others or negations or relations or owned)
    said = [*others, *(_predicate(c, many) if alone else _unary(c, many) for c in choices), *relations, *negations]
    text = f" that {'are' if many else 'is'} {' and '.join(said)}" if said else ""
    return text + (" and " if said and owned else " " if owned else "") + " and ".join(owned)


def _predicate(condition: Or, many: bool) -> str:
    """Alternatives in an order in which none reads on into the next."""
    return " or ".join(_unary(part, many) for part in sorted(condition.parts, key=_turn))


def _both(parts: tuple[Condition, ...], many: bool) -> str:
    first = [part for part in parts if isinstance(part, Category)][:1]
    head = [part for part in parts if is_rank(part) or _is_adjective(part)]
    rest = sorted((part for part in parts if part not in [*first, *head]), key=_turn)
    like = [_like((*head, *first), many)] if first or head else []
    return " and ".join([*like, *(_unary(part, many) for part in rest)])


def _unary(condition: Condition, many: bool) -> str:
    """A condition as one part of "that are …"."""
    if _is_like(condition):
        return _like(_parts(condition), many)
    if isinstance(condition, Attribute):
        return f"whose {condition.kind} is {condition.value}"
    if isinstance(condition, Position):
        return PLACES[condition.place]
    if isinstance(condition, (Relation, Size)):
        return _relation(condition)
    if isinstance(condition, Not):
        return f"not {_unary(condition.part, many)}"
    return f"({_predicate(condition, many) if isinstance(condition, Or) else _both(_parts(condition), many)})"


def _relation(condition: Relation | Size) -> str:
    if isinstance(condition, Relation):
        return f"{condition.link} {_other(condition.other, 'a')}"
    return f"{condition.extent} than {_other(condition.than or ANYTHING, 'every')}"


def _like(parts: tuple[Condition, ...], many: bool) -> str:
    """Superlatives, adjectives and at most one category: "white", "largest", "white ships", "a white ship"."""
    if any(isinstance(part, Category) for part in parts) or not parts:
        return _noun(parts, many, "" if any(map(is_rank, parts)) else "a", "one")
    return " ".join(_modifiers(parts))


def _other(condition: Condition, article: Literal["a", "every"]) -> str:
    alternatives = condition.parts if isinstance(condition, Or) else (condition,)
    said = [_thing(part, False, article, "object") for part in alternatives]
    if all(map(_is_plain, alternatives)) and all(text.startswith(_ARTICLES) for text in said[1:]):
        return " or ".join(said)
    return f"({_phrase(condition, False, article, 'object')})"


def _parts(condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, And) else (condition,)


def _rank_word(condition: Size | Position) -> str:
    return condition.extent if isinstance(condition, Size) else condition.place


def _is_place(condition: Condition) -> TypeGuard[Position]:
    return isinstance(condition, Position) and not is_rank(condition)


def _is_relation(condition: Condition) -> TypeGuard[Relation | Size]:
    return isinstance(condition, Relation) or (isinstance(condition, Size) and condition.than is not None)


def _is_adjective(condition: Condition) -> TypeGuard[Attribute]:
    return isinstance(condition, Attribute) and (condition.kind, condition.value) in ADJECTIVE_OF


def _is_owned(condition: Condition) -> TypeGuard[Attribute]:
    """Said as "whose roof is flat"."""
    return isinstance(condition, Attribute) and not _is_adjective(condition)


def _is_exclusion(condition: Condition) -> TypeGuard[Not]:
    """Said as ", but not the largest one"; simpler negations are said as "that are not white"."""
    if not isinstance(condition, Not):
        return False
    part = condition.part
    return is_rank(part) or not (isinstance(part, Attribute) or _is_place(part) or _is_relation(part))


def _is_like(condition: Condition) -> bool:
    parts = _parts(condition)
    fits = all(isinstance(part, Category) or is_rank(part) or _is_adjective(part) for part in parts)
    return fits and sum(isinstance(part, Category) for part in parts) <= 1


def _is_plain(condition: Condition) -> bool:
    """Said without a clause, so that nothing that follows can be taken for a part of it."""
    parts = _parts(condition)
    return _is_like(And(tuple(part for part in parts if not _is_place(part))))


def _turn(condition: Condition) -> int:
    """Where a part stands among others: an article after a relation would read on ("next to a pier or a dock")."""
    return 0 if _is_like(condition) else 2 if _is_relation(condition) else 3 if isinstance(condition, Not) else 1

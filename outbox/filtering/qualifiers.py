"""What can be looked for in the rows of a model, as data, and what of a filter becomes of it.

Each app declares the qualifiers of its models when it starts, and what it knows about those of
others: the relay the state of messages. Whoever has a filter's text asks select().
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from functools import reduce
from operator import or_
from typing import Any

from django.db import router
from django.db.models import Model, Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from outbox.exceptions import UnusableFilter
from outbox.filtering import grammar
from outbox.filtering.grammar import Term


class Reach(Enum):
    """How the rows are found that a condition selects."""

    FEW = "few"
    """By an index, and they are so few that all of them can be looked at."""
    PART = "part"
    """By an index, in the order of the primary key."""
    ROWS = "rows"
    """By none: a bounded part of the table is compared row by row, and the list says which."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a row must fulfil, and how such rows are found."""

    q: Q
    reach: Reach = Reach.ROWS


Meaning = Callable[[str, str], Condition]
"""Returns the condition for a value, given the alias of the database that is read.

Raises UnusableFilter, without a place, if it is no value.
"""

Sight = Callable[[QuerySet[Any]], QuerySet[Any] | None]
"""Returns those rows that somebody may know of; None if he may view none of their model."""

Across = Callable[[str, str, QuerySet[Any]], Condition]
"""As a Meaning; its third argument are the rows of another model that may be known of."""


def _nothing() -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualifier:
    """Something that can be looked for: `name:example`.

    `index` says which index finds it, "" if none does. `known` returns values to suggest. With
    `refused`, which says why, it cannot be looked for at all: whoever tries is told.

    What rows of another model say is selected by `across` and not by `condition`, from those rows
    of the model `of` that one may know of: else it would tell of the others.
    """

    name: str
    meaning: str | Promise
    example: str = ""
    condition: Meaning | None = None
    across: Across | None = None
    of: type[Model] | None = None
    index: str = ""
    known: Callable[[], Iterable[str]] = _nothing
    negatable: bool = True
    refused: str | Promise = ""


Words = Callable[[str, str], Sequence[Q]]
"""Returns the conditions of which one must hold for a text by itself; an index finds each."""


@dataclass(slots=True)
class Declared:
    """What can be looked for in the rows of a model."""

    qualifiers: dict[str, Qualifier] = field(default_factory=dict)
    words: Words | None = None
    words_meaning: str | Promise = ""


_declared: dict[type[Model], Declared] = {}


def register(
    model: type[Model],
    *qualifiers: Qualifier,
    words: Words | None = None,
    words_meaning: str | Promise = "",
) -> None:
    """Declare what can be looked for in the rows of a model; of one name the last counts.

    `words` is what a text without a qualifier means, `words_meaning` says so.
    """
    found = _declared.setdefault(model, Declared())
    found.qualifiers |= {each.name: each for each in qualifiers}
    if words is not None:
        found.words, found.words_meaning = words, words_meaning


def declared(model: type[Model]) -> Declared:
    """Return what can be looked for in the rows of a model; nothing if nobody has said so."""
    return _declared.get(model, Declared())


def models() -> Sequence[type[Model]]:
    """Return the models whose rows can be looked for."""
    return tuple(_declared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a filter selects, by how it is found. An empty one selects everything."""

    terms: Sequence[Term] = ()
    words: Sequence[Q] | None = None
    few: Sequence[Q] = ()
    part: Sequence[Q] = ()
    rows: Sequence[Q] = ()

    @property
    def alternatives(self) -> list[Q]:
        """Conditions of which one must hold, each found by an index; none if that says nothing."""
        if self.words is None and not self.few:
            return []
        found = list(self.words) if self.words is not None else [Q()]
        return [reduce(Q.__and__, self.few, each) for each in found or [Q(pk__in=())]]

    def narrow(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those rows that fulfil what an index finds in the order of the primary key."""
        return queryset.filter(*self.part)

    def of(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return all those rows that are selected, however long it takes to find them."""
        return self.narrow(queryset).filter(reduce(or_, self.alternatives, Q()), *self.rows)


def _all(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows


def select(model: type[Model], text: str, using: str, *, sight: Sight = _all) -> Selection:
    """Return what the text of a filter selects of a model's rows; raise UnusableFilter.

    `sight` says which rows of other models the filter may tell of.
    """
    terms = grammar.parse(text)
    words = None
    found: dict[Reach, list[Q]] = {reach: [] for reach in Reach}
    for term in terms:
        try:
            if term.name:
                condition = _condition(declared(model), term, using, sight)
                found[condition.reach].append(condition.q)
            elif words is None:
                words = _words(declared(model), term, using)
            else:
                raise UnusableFilter(
                    _("One text can be looked for at once; one that has blanks goes into quotes.")
                )
        except UnusableFilter as exc:
            exc.start, exc.end = term.start, term.end
            raise
    few, part, rows = (found[each] for each in (Reach.FEW, Reach.PART, Reach.ROWS))
    return Selection(terms=terms, words=words, few=few, part=part, rows=rows)


def offered(model: type[Model], sight: Sight = _all) -> Iterator[Qualifier]:
    """Yield what somebody may look for in the rows of a model, and what nobody can."""
    for each in declared(model).qualifiers.values():
        if each.of is None or sight(each.of._default_manager.all()) is not None:
            yield each


def suggestions(model: type[Model], most: int = 200, *, sight: Sight = _all) -> Iterator[str]:
    """Yield beginnings of filters: every known value with its qualifier, or an example."""
    count = 0
    for each in offered(model, sight):
        if each.refused:
            continue
        for value in list(each.known()) or [each.example]:
            if count == most:
                return
            count += 1
            yield grammar.term(each.name, value)


def _condition(found: Declared, term: Term, using: str, sight: Sight) -> Condition:
    qualifier = found.qualifiers.get(term.name)
    if qualifier is None:
        raise _unknown(found, term)
    meaning = _meaning(qualifier, sight)
    if not term.value:
        text = _("“%(name)s:” needs a value, such as %(example)s.")
        example = grammar.term(term.name, qualifier.example)
        raise UnusableFilter(
            text % {"name": term.name, "example": example}, possible=list(qualifier.known())
        )
    if not term.negated:
        return meaning(term.value, using)
    if not qualifier.negatable:
        raise UnusableFilter(
            _("“%(name)s:” cannot be negated: no index finds all others.") % {"name": term.name}
        )
    return Condition(~meaning(term.value, using).q)


def _meaning(qualifier: Qualifier, sight: Sight) -> Meaning:
    """Return what makes the condition, for somebody who may know of some rows; raise if nothing."""
    why = qualifier.refused
    across = qualifier.across
    if across is not None and qualifier.of is not None and not why:
        using = router.db_for_read(qualifier.of)
        rows = sight(qualifier.of._default_manager.using(using).all())
        if rows is not None:
            return lambda value, using: across(value, using, rows)
        why = _("it takes the permission to view %(nouns)s") % {
            "nouns": qualifier.of._meta.verbose_name_plural
        }
    elif qualifier.condition is not None and not why:
        return qualifier.condition
    raise UnusableFilter(
        _("“%(name)s:” cannot be looked for: %(why)s") % {"name": qualifier.name, "why": why}
    )


def _words(found: Declared, term: Term, using: str) -> Sequence[Q]:
    if found.words is None:
        names = [each.name for each in found.qualifiers.values() if not each.refused]
        raise UnusableFilter(
            _("A text needs a qualifier here."), possible=[f"{name}:" for name in names]
        )
    return found.words(term.value, using)


def _unknown(found: Declared, term: Term) -> UnusableFilter:
    names = [each.name for each in found.qualifiers.values() if not each.refused]
    text = _("There is no qualifier “%(name)s:”.") % {"name": term.name}
    if close := get_close_matches(term.name, names, 1):
        text = _("%(text)s Is “%(close)s:” meant?") % {"text": text, "close": close[0]}
    if found.words is not None:
        text = _("%(text)s To look for the text itself, put it in quotes.") % {"text": text}
    return UnusableFilter(text, possible=[f"{name}:" for name in names])

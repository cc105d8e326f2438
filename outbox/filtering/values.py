"""What the values of qualifiers may look like, and the conditions that they become."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from django.db import connections
from django.db.models import Q
from django.db.models.lookups import IContains
from django.utils.translation import gettext as _

from outbox.database import instants
from outbox.exceptions import UnusableFilter
from outbox.filtering.matching import Matches
from outbox.filtering.qualifiers import Condition, Meaning, Reach
from outbox.filtering.shown import AsShown
from outbox.message.patterns import as_regex, is_pattern, selects_many

OPEN = "open"
"""The value that stands for all states that are not over."""

MANY = 5
"""Places of a pattern that any number of words may stand in; more take long to compare."""

_LENGTH = re.compile(r"([<>])=?\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([a-z]+)", re.IGNORECASE)
_NUMBER = re.compile(r"([<>]=?)?([0-9]{1,18})")
_SECONDS = {
    **dict.fromkeys(("s", "sec"), 1),
    **dict.fromkeys(("m", "min"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400),
}
_LOOKUPS = {None: "exact", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}

Side = Literal["older", "younger"]


def equals(column: str, reach: Reach = Reach.ROWS) -> Meaning:
    """A text that a column has, exactly."""
    return lambda value, using: Condition(Q(**{column: value}), reach)


def is_uuid(column: str, reach: Reach = Reach.FEW) -> Meaning:
    """An id that a column has."""

    def condition(value: str, using: str) -> Condition:
        try:
            return Condition(Q(**{column: UUID(value)}), reach)
        except ValueError:
            raise UnusableFilter(
                _("“%(value)s” is no id, which has 32 hexadecimal digits.") % {"value": value}
            ) from None

    return condition


def contains(column: str) -> Meaning:
    """A text that is somewhere in a column, in upper or lower case."""
    return lambda value, using: Condition(Q(**{f"{column}__icontains": value}))


def said(column: str) -> Meaning:
    """A text that is somewhere in an error as it is shown: nothing of what is masked in it."""
    return lambda value, using: Condition(Q(IContains(AsShown(column), value)))


def pattern(column: str) -> Meaning:
    """An event type, or a pattern with `*` for one word and `#` for any number of them."""
    return lambda value, using: Condition(like(column, value, using))


def like(column: str, value: str, using: str) -> Q:
    """Return the condition that a column has a name, or one that a pattern selects."""
    if not selects_many(value):
        return Q(**{column: value})
    if not is_pattern(value) or value.count("#") > MANY:
        raise UnusableFilter(
            _("In “%(value)s” a * stands for one whole word between dots, a # for any number.")
            % {"value": value},
            possible=["shop.*.placed", "shop.#"],
        )
    if connections[using].vendor == "sqlite":
        return Q(Matches(column, value))
    return Q(**{f"{column}__regex": as_regex(value)})


def one_of(
    column: str,
    known: Callable[[], Iterable[str]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    reach: Callable[[Sequence[str]], Reach] = lambda values: Reach.ROWS,
) -> Meaning:
    """One of the known values, or several with commas; `groups` are names for some of them.

    `reach` says how rows with these values are found.
    """

    def condition(value: str, using: str) -> Condition:
        values = chosen(value, [*known(), *(groups or ())])
        wanted = [each for name in values for each in (groups or {}).get(name, [name])]
        return Condition(Q(**{f"{column}__in": wanted}), reach(wanted))

    return condition


def chosen(value: str, known: Iterable[str]) -> list[str]:
    """Return values that are given with commas; raise UnusableFilter if one is not known."""
    possible = list(dict.fromkeys(known))
    found = [each.strip().lower() for each in value.split(",")]
    for each in found:
        if each not in possible:
            raise UnusableFilter(
                _("There is no “%(value)s” here.") % {"value": each}, possible=possible
            )
    return list(dict.fromkeys(found))


def age(column: str) -> Meaning:
    """How long ago the time in a column is: `>1h` for longer, `<1h` for not as long."""

    def condition(value: str, using: str) -> Condition:
        side, moment = moment_of(value)
        return Condition(Q(**{f"{column}__{'lt' if side == 'older' else 'gte'}": moment}))

    return condition


def until(column: str) -> Meaning:
    """How long it is until the time in a column: `<1h` for less, `>1h` for longer."""

    def condition(value: str, using: str) -> Condition:
        side, length = length_of(value)
        moment = _shifted(length)
        return Condition(Q(**{f"{column}__{'gt' if side == 'older' else 'lte'}": moment}))

    return condition


def moment_of(value: str) -> tuple[Side, datetime]:
    """Return on which side of which point in time something is whose age is told."""
    side, length = length_of(value)
    return side, _shifted(-length)


def length_of(value: str) -> tuple[Side, timedelta]:
    """Return a length of time, and whether something shall be older or younger."""
    match = _LENGTH.fullmatch(value)
    if match is None or match[3].lower() not in _SECONDS:
        raise UnusableFilter(
            _("“%(value)s” is no length of time with < or >.") % {"value": value},
            possible=["<15min", "<1h", ">1h", ">1d", ">1w"],
        )
    try:
        length = timedelta(seconds=float(match[2]) * _SECONDS[match[3].lower()])
        _shifted(-length - timedelta(hours=1))  # whoever uses it has some slack
        _shifted(length)
    except OverflowError:
        raise UnusableFilter(_("“%(value)s” is too long a time.") % {"value": value}) from None
    return "older" if match[1] == ">" else "younger", length


def number(column: str, most: int = 2**63 - 1, reach: Reach = Reach.ROWS) -> Meaning:
    """A number that a column has; with `<` or `>` a bound for it."""

    def condition(value: str, using: str) -> Condition:
        match = _NUMBER.fullmatch(value)
        if match is None or int(match[2]) > most:
            raise UnusableFilter(
                _("“%(value)s” is no number, nor one with < or >.") % {"value": value}
            )
        return Condition(Q(**{f"{column}__{_LOOKUPS[match[1]]}": int(match[2])}), reach)

    return condition


def _shifted(length: timedelta) -> datetime:
    return instants.now() + length

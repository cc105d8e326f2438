"""Something that is done to all rows that a filter selects: in batches, up to where it was asked.

A page shows how many rows match, with a few of them, before anything is done. What it asks about
are the rows of one batch, by their ids; what comes to match after the question is not meant. The
next batch ends where the table ended when the first one was asked about.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from django.db.models import QuerySet
from django.http import QueryDict

from outbox.nouns import grouped

BATCH = 1_000
"""Rows that one request changes."""
COUNTED = 10_000
"""Rows that are counted; more are called so."""

OF = "of"
"""The field with the ids that a page has asked about."""
UP_TO = "up-to"
"""The field with the id of the newest row when the first batch was asked about."""
DONE = "done"
"""The field with how many rows batches before had."""

_IDS = re.compile(r"[0-9]{1,18}(,[0-9]{1,18})*")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of which a page asks whether it shall be done to them, of all that match.

    `left` matched when it was asked, these among them; `more` if they were not all counted.
    """

    numbers: Sequence[int]
    left: int
    more: bool
    up_to: int
    done: int = 0

    @property
    def is_last(self) -> bool:
        """Whether nothing comes behind it."""
        return self.left == len(self.numbers)

    @property
    def total(self) -> int:
        """How many rows there are, those that are done with included."""
        return self.done + self.left

    @property
    def total_text(self) -> str:
        return f"{grouped(self.total)}{'+' if self.more else ''}"

    @property
    def size_text(self) -> str:
        return grouped(len(self.numbers))

    def fields(self) -> list[tuple[str, str]]:
        """Return what the form of the page sends."""
        return [
            (OF, ",".join(map(str, self.numbers))),
            (UP_TO, str(self.up_to)),
            (DONE, str(self.done)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody has said yes to."""

    numbers: Sequence[int]
    up_to: int
    done: int

    @classmethod
    def read(cls, form: QueryDict) -> Self | None:
        """Return what a form says; None if no page has asked about it."""
        text = form.get(OF, "")
        if not _IDS.fullmatch(text):
            return None
        numbers = sorted(map(int, text.split(",")[:BATCH]))
        up_to, done = (_number(form.get(name, "")) for name in (UP_TO, DONE))
        return cls(numbers=numbers, up_to=up_to, done=done)

    def rows(self, matching: QuerySet[Any]) -> QuerySet[Any]:
        """Return those rows that still match."""
        return matching.filter(pk__in=self.numbers)

    def before(self, number: int) -> Self:
        """Return the part of it that comes before a row, whose turn it was not."""
        return replace(self, numbers=[each for each in self.numbers if each < number])

    def rest(self, matching: QuerySet[Any]) -> QuerySet[Any]:
        """Return what comes behind them, as far as the table went when it was asked first."""
        return matching.filter(pk__gt=self.numbers[-1], pk__lte=self.up_to)


def first_batch(matching: QuerySet[Any], everything: QuerySet[Any]) -> Batch | None:
    """Return the first rows that match; None if there are none."""
    newest = everything.order_by("-pk").values_list("pk", flat=True).first() or 0
    return _batch(matching.filter(pk__lte=newest), newest, 0)


def next_batch(answer: Answer, matching: QuerySet[Any]) -> Batch | None:
    """Return what comes behind a batch that was answered; None if there is nothing."""
    if answer.numbers[-1] >= answer.up_to:
        return None
    return _batch(answer.rest(matching), answer.up_to, answer.done + len(answer.numbers))


def _batch(rows: QuerySet[Any], up_to: int, done: int) -> Batch | None:
    found = list(rows.order_by("pk").values_list("pk", flat=True)[: COUNTED + 1])
    if not found:
        return None
    more = len(found) > COUNTED
    left = min(len(found), COUNTED)
    return Batch(numbers=found[:BATCH], left=left, more=more, up_to=up_to, done=done)


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0

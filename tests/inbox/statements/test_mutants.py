"""Mistakes that one makes easily, and that the other tests of statements catch."""

from collections.abc import Iterable, Iterator

import pytest
from django.db import connection

from outbox.statements import closing, looking
from outbox.statements.comparing import next_state
from outbox.statements.totals import Total
from outbox.states import BreakState
from tests.inbox.statements import test_reconciliation
from tests.inbox.statements.support import Both
from tests.inbox.statements.test_reconciliation import both
from tests.outbox.statements import test_closing, test_policy

__all__ = ["both"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def test_what_differs_is_a_break_at_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(state: BreakState | None, *, there: bool, old: bool, published: bool) -> object:
        found = next_state(state, there=there, old=old, published=published)
        return BreakState.OPEN if there else found

    monkeypatch.setattr(looking, "next_state", hasty)
    with pytest.raises(AssertionError):
        test_reconciliation.test_what_is_not_published_yet_is_in_transit(both)


def test_what_came_late_is_not_looked_for(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "late", lambda *_: [])
    with pytest.raises(AssertionError):
        test_reconciliation.test_late_rows_make_another_revision(both)


def test_only_numbers_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_count(ours: Iterable[Total], theirs: Iterable[Total]) -> Iterator[tuple[int, str]]:
        counts = {(each.start, each.type): each.count for each in theirs}
        for each in ours:
            if counts.get((each.start, each.type)) != each.count:
                yield each.start, each.type

    monkeypatch.setattr(test_policy, "differing", by_count)
    with pytest.raises(AssertionError):
        test_policy.test_counts_that_cancel_out_are_no_agreement()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one writer at a time there")
def test_a_bucket_is_closed_by_the_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_over", lambda before, now, using: now.time)
    with pytest.raises(AssertionError):
        test_closing.test_who_has_written_holds_up_what_was_not_closed_before()

"""Receipts are forgotten when no copy of their message can come any more."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inbox import retention
from inbox.models import DeadLetter, Original, Receipt
from inbox.retention import owned, prune
from inbox.states import CLOSED, OPEN, State
from outbox.extensions.pruning import Pruner, pruners
from tests.inbox.support import Handling, happened, postgresql, receive
from tests.kit.sessions import sessions

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def receipts(count: int = 1, *, days: float = 40, **values: Any) -> list[Receipt]:
    """Receipts that have not changed for some days."""
    changed = timezone.now() - timedelta(days=days)
    start = Receipt.objects.count()
    return Receipt.objects.bulk_create(
        Receipt(
            **{
                "handler": "h",
                "source": "/s",
                "message_id": f"m{start + number}",
                "type": "t",
                "changed": changed,
                **values,
            }
        )
        for number in range(count)
    )


def test_what_is_over_for_long_enough_is_deleted() -> None:
    """And nothing that is younger."""
    receipts(3)
    [young] = receipts(1, days=29)

    assert prune("default") == 3
    assert list(Receipt.objects.all()) == [young]


@pytest.mark.parametrize("state", State)
def test_what_is_open_is_never_deleted(state: State) -> None:
    """However old: it waits for another attempt, for others or for a person."""
    receipts(1, days=4000, state=state)

    assert prune("default") == (0 if state in OPEN else 1)
    assert (state in CLOSED) is not Receipt.objects.exists()


def test_dead_letters_are_deleted_when_they_are_over() -> None:
    """Dead ones wait for a person."""
    for state in ("dead", "processed", "discarded"):
        DeadLetter.objects.create(
            state=state,
            group="g",
            reason="undecodable",
            headers="{}",
            body=b"",
            digest=state,
            received=timezone.now() - timedelta(days=40),
        )

    assert prune("default") == 2
    assert DeadLetter.objects.get().state == "dead"


def test_originals_go_with_what_they_were_of() -> None:
    """And others stay."""
    [old] = receipts(1)
    [young] = receipts(1, days=1)
    for row in (old, young):
        Original.objects.create(receipt=row, headers="{}", body=b"", edited_by="x")

    prune("default")

    assert Original.objects.get().receipt_id == young.pk


def test_the_window_can_be_given() -> None:
    """In place of the setting; without either, everything is kept for ever."""
    receipts(1, days=40)
    with override_settings(INBOX={"RETENTION": None}):
        assert prune("default") == 0
        assert prune("default", timedelta(days=50)) == 0
        assert prune("default", timedelta(days=39)) == 1


def test_a_copy_within_the_window_is_recognised_and_a_later_one_is_not(handling: Handling) -> None:
    """That is what the window is for."""
    handling()
    message = happened(1)
    receive(message)
    prune("default")
    [within] = receive(message)
    Receipt.objects.update(changed=timezone.now() - timedelta(days=31))
    prune("default")
    [late] = receive(message)

    assert (within.duplicates, late.handled) == (1, 1)


def test_no_more_are_deleted_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, in transactions of limited size."""
    monkeypatch.setattr(retention, "BATCH", 4)
    receipts(5, days=50)
    receipts(5, days=40)

    assert prune("default", limit=7) == 7
    assert prune("default", limit=0) == 0
    assert prune("default") == 3


@postgresql
def test_what_another_has_locked_is_passed_by() -> None:
    """Two that prune at once, or an action of a person, do not wait for each other."""
    receipts(5)

    with sessions(1) as [other]:
        other.begin()
        other.run(lambda: list(Receipt.objects.select_for_update().order_by("pk")[:2]))
        assert prune("default") == 3
        other.commit()
    assert prune("default") == 2


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_step_costs_three_statements(count: int) -> None:
    """Find, delete the originals, delete; and one look that finds nothing for the letters."""
    receipts(count)
    with CaptureQueriesContext(connection) as captured:
        prune("default")
    statements = [q for q in captured if q["sql"].startswith(("SELECT id", "DELETE"))]

    assert len(statements) == (4 if count else 2)


def registered(name: str) -> Pruner:
    return next(each for each in pruners() if each.name == name)


def test_the_housekeeping_reaches_receipts_and_never_shortens_the_window() -> None:
    """outbox_prune --older-than=1d, say, is about messages: copies are recognised all the same."""
    old = receipts(3, days=40)
    receipts(2, days=20)
    before = timezone.now() - timedelta(days=1)
    pruner = registered("receipts")

    assert pruner.count is not None
    assert pruner.count("default", before=before, limit=10) == 3
    with transaction.atomic():
        assert pruner.prune("default", before=before, limit=2) == 2
        assert pruner.prune("default", before=before, limit=2) == 1
    assert Receipt.objects.count() == 2
    assert not Receipt.objects.filter(pk__in=[each.pk for each in old]).exists()


@pytest.mark.parametrize(("inbox", "days"), [(None, 1), (30, 60)])
def test_the_longer_of_the_two_windows_counts(inbox: int | None, days: int) -> None:
    """For ever is longer than anything."""
    receipts(1, days=50)
    before = timezone.now() - timedelta(days=days)

    with override_settings(INBOX={"RETENTION": inbox}):
        assert registered("receipts").prune("default", before=before, limit=10) == 0


def test_housekeeping_goes_by_the_window_of_the_inbox() -> None:
    """Whatever OUTBOX["RETENTION"] says: each kind of row has its own."""
    assert {each.name for each in owned()} == {"receipts", "dead letters"}
    with override_settings(OUTBOX={"RETENTION": None}, INBOX={"RETENTION": 3}):
        assert {each.window() for each in owned()} == {timedelta(days=3)}
    with override_settings(INBOX={"RETENTION": None}):
        assert {each.window() for each in owned()} == {None}


def test_dead_letters_have_a_pruner_of_their_own() -> None:
    """On the database where the routers put them."""
    assert registered("dead letters").database() == "default"

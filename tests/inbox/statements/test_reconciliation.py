"""What is lost between a sender and a group is found, named, and mended where that can be."""

from collections.abc import Iterator

import pytest
from django.db import transaction

from inbox.models import Receipt
from outbox.database.clock import database_now
from outbox.models import Break, BucketTotal, GroupTopic, Message, Reconciliation, ToState
from outbox.statements import sender, wire
from outbox.statements.buckets import HOUR, MINUTE
from outbox.statements.conf import peers
from outbox.statements.exchange import run_round
from outbox.statements.mending import accept, repair
from outbox.statements.sender import Expected
from tests.inbox.statements.support import GROUP, NOW, Both, breaks, emitted, id_at, reconciling
from tests.inbox.support import HAPPENED, Handling, fail
from tests.testapp.models import Effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture
def both(handling: Handling) -> Iterator[Both]:
    """A sender and a group, with a handler for the event of the test app."""
    handling()
    with reconciling() as found:
        found.round()  # the group tells its topics
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        yield found


def test_where_nothing_is_lost_nothing_is_said(both: Both) -> None:
    """Whatever the width: three hours, of several messages each."""
    emitted(*range(NOW - 180 * MINUTE, NOW, 7 * MINUTE))
    both.settle()

    assert both.compare(NOW - 180 * MINUTE) == {}
    assert not Break.objects.exists()


def test_a_group_tells_what_it_gets(both: Both) -> None:
    """Its topics, all where it has no queue, and what it handles."""
    assert list(GroupTopic.objects.values_list("group", "topic", "begins")) == [(GROUP, "#", 0)]
    assert Reconciliation.objects.get().handles == [HAPPENED]


def test_what_never_came_is_missing_there(both: Both) -> None:
    """At the first look it may be under way; at the second it is a break."""
    sent = emitted(NOW, NOW + 1, NOW + MINUTE)
    both.lost = {sent[1].id}
    both.settle()

    both.round()
    assert breaks("in_transit") == {"missing": [sent[1].id]}
    both.round()
    assert breaks() == {"missing": [sent[1].id]}


def test_of_many_the_one_is_found(both: Both) -> None:
    """In a bucket of more messages than are listed: by the totals of its seconds."""
    sent = emitted(*[NOW + 30 * number for number in range(1500)])
    both.lost = {sent[777].id}
    both.settle()

    assert both.compare() == {"missing": [sent[777].id]}


def test_of_a_second_with_more_messages_than_can_be_told(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its smaller parts are compared, and nothing is asked for ever."""
    monkeypatch.setattr(wire, "MOST_LISTED", 20)
    monkeypatch.setattr(wire, "LISTED_AT_ONCE", 10)
    sent = emitted(*[NOW + 5 * number for number in range(100)])
    both.lost = {sent[77].id}
    both.settle()

    assert both.compare() == {"missing": [sent[77].id]}
    assert not ToState.objects.exists()


def test_what_a_group_has_forgotten_is_missing_there(both: Both) -> None:
    """Receipts that are deleted are as good as never written."""
    sent = emitted(NOW, NOW + 1)
    both.settle()
    Receipt.objects.filter(message_id=sent[0].id).delete()

    assert both.compare() == {"missing": [sent[0].id]}


def test_what_a_sender_has_forgotten_is_unknown_here(both: Both) -> None:
    """As after a restore to an earlier time, also where it has nothing left of the bucket."""
    sent = emitted(NOW, NOW + 1, NOW + 5 * MINUTE)
    both.settle()
    Message.objects.filter(message_id__in=[sent[1].id, sent[2].id]).delete()

    assert both.compare() == {"unknown": [sent[1].id, sent[2].id]}


def test_what_is_dead_there_is_unsettled(both: Both, handling: Handling) -> None:
    """And says so; discarded, it is over."""
    handling(fail, name="fail", pattern="tests.failing")
    sent = emitted(NOW, type_="tests.failing")
    both.settle()
    both.round()  # for what it handles now
    assert both.compare() == {"unsettled": [sent[0].id]}
    assert Break.objects.get().there == "retrying"

    Receipt.objects.filter(message_id=sent[0].id).update(state="discarded")
    assert both.compare() == {}
    assert breaks("repaired") == {"unsettled": [sent[0].id]}


def test_what_was_handled_under_two_names_of_the_sender_counts_twice(both: Both) -> None:
    """Its OUTBOX["SOURCE"] was changed, and it was published again."""
    sent = emitted(NOW)
    both.settle()
    receipt = Receipt.objects.get(message_id=sent[0].id)
    receipt.pk, receipt.source = None, "/renamed"
    receipt.save(force_insert=True)

    assert both.compare() == {"twice": [sent[0].id]}


def test_what_is_mended_is_repaired(both: Both) -> None:
    """And what is lost once more is a break once more."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    assert both.compare() == {"missing": [sent[0].id]}

    both.lost, both.carried = set(), 0
    both.settle()
    both.round()
    assert breaks() == {}
    assert breaks("repaired") == {"missing": [sent[0].id]}

    Receipt.objects.filter(message_id=sent[0].id).delete()
    assert both.compare() == {"missing": [sent[0].id]}


def test_what_is_accepted_stays_so(both: Both) -> None:
    """However often it is compared."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    both.compare()
    Break.objects.update(state="accepted")

    assert both.compare() == {}
    assert breaks("accepted") == {"missing": [sent[0].id]}


def test_what_a_group_was_not_bound_to_is_not_missing(both: Both) -> None:
    """From the first whole bucket of its binding on it is."""
    sent = emitted(NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    both.lost = {each.id for each in sent}
    both.settle()
    GroupTopic.objects.update(topic=HAPPENED, begins=NOW + 1)
    GroupTopic.objects.create(group=GROUP, topic="#", begins=0, ends=1)

    row = Reconciliation.objects.get()
    expected = Expected.of(row, peers()[GROUP], "default")
    totals = expected.totals(NOW, NOW + 10 * MINUTE, MINUTE)
    assert [each.start for each in totals] == [NOW + MINUTE, NOW + 2 * MINUTE]


def test_what_nobody_asked_about_changes_nothing(both: Both) -> None:
    """An answer that comes twice, or on no statement, is dropped."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    both.round()
    both.carried = 0  # everything is delivered again
    both.settle()

    assert breaks("in_transit") == {"missing": [sent[0].id]}


def test_late_rows_make_another_revision(both: Both) -> None:
    """A closed bucket that gets a row is totalled and stated again."""
    emitted(NOW, NOW + 1)
    Reconciliation.objects.update(closed=NOW - MINUTE, stated=NOW - MINUTE)
    both.settle()
    both.round()
    [first] = BucketTotal.objects.filter(start=NOW)
    assert (first.revision, first.count) == (1, 2)

    late = emitted(NOW + 2)
    both.lost = {late[0].id}
    both.settle()
    both.round()
    assert list(
        BucketTotal.objects.filter(start=NOW).order_by("revision").values_list("revision", "count")
    ) == [(1, 2), (2, 3)]
    assert breaks("in_transit") == {"missing": [late[0].id]}


def test_more_late_buckets_than_are_stated_again_are_told(
    both: Both, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender.closing, "MOST_LATE", 2)
    emitted(NOW)
    both.settle()
    both.round()
    assert "--since" not in caplog.text
    emitted(NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    both.settle()
    both.round()
    assert f"manage.py reconcile {GROUP} --since" in caplog.text


def test_after_a_long_time_a_round_closes_a_part(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour at least; the next is due at once, until all is closed."""
    monkeypatch.setattr(sender, "CLOSE_SECONDS", 0.0)
    sent = emitted(*range(NOW, NOW + 2 * HOUR, HOUR // 2))
    both.settle()
    Reconciliation.objects.update(closed=NOW, stated=NOW)
    closed, more = [], True
    while more:
        with transaction.atomic():
            more = run_round(GROUP, peers()[GROUP], "default")
        row = Reconciliation.objects.get()
        closed.append(row.closed)
        assert (row.next_at <= database_now("default")) == more
    assert closed[:3] == [NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR]
    assert BucketTotal.objects.count() == len(sent)
    both.settle()
    assert not ToState.objects.exists()
    assert not Break.objects.exists()


def test_ids_of_other_kinds_are_left_out(both: Both) -> None:
    """What is no UUIDv7 has no time that both sides could read."""
    emitted(NOW)
    other = id_at(NOW, 1).replace("-7000-", "-4000-")
    Message.objects.filter(type=HAPPENED).update(message_id=other)
    both.settle()

    assert both.compare() == {}


def test_what_is_not_published_yet_is_in_transit(both: Both) -> None:
    """However long that takes: it is pending or parked, which others tell."""
    sent = emitted(NOW)
    both.lost = both.held = {sent[0].id}
    both.settle()

    assert both.compare() == {}
    assert breaks("in_transit") == {"missing": [sent[0].id]}
    both.held = set()
    assert both.compare() == {"missing": [sent[0].id]}


def test_a_repair_goes_to_that_group_alone(both: Both) -> None:
    """Exactly what is missing; it is open until the group says that it has it."""
    sent = emitted(NOW, NOW + 1, NOW + 2)
    both.lost = {sent[1].id}
    both.settle()
    both.compare()

    [number] = Break.objects.values_list("pk", flat=True)
    assert repair([number], by="anna", using="default") == [number]
    assert both.again == [sent[1].id]
    assert breaks() == {"missing": [sent[1].id]}
    both.round()
    assert breaks("repaired") == {"missing": [sent[1].id]}
    assert Effect.objects.count() == 3


def test_a_break_is_accepted_for_a_reason(both: Both) -> None:
    """And by somebody; only what is open can be."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    both.compare()

    numbers = list(Break.objects.values_list("pk", flat=True))
    assert accept(numbers, by="anna", using="default", reason="tested by hand") == numbers
    found = Break.objects.get()
    assert (found.state, found.by, found.reason) == ("accepted", "anna", "tested by hand")
    assert accept(numbers, by="anna", using="default", reason="again") == []

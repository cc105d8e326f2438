"""Receiving from a relay in the same process."""

import time

import pytest
from django.db import connection, transaction
from django.test import override_settings

from inbox.calling.calls import LostInHandler
from inbox.models import DeadLetter, Receipt
from inbox.sources import local
from inbox.sources.local import receive, retry_due
from outbox.message.envelope import Envelope
from tests.inbox.support import HAPPENED, Handling, Mended, effects, happened, make_due, record
from tests.testapp.events import Happened
from tests.testapp.handlers import RECORD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def refuse_one(event: Happened, message: Envelope) -> None:
    if event.number == 1:
        raise ValueError("no luck")
    record(event, message)


def test_handlers_of_all_groups_are_called(handling: Handling) -> None:
    """There is no queue that would belong to one of them."""
    handling(name="a", declared_group="one")
    handling(name="b", declared_group="two")

    assert receive([happened(5)], using="default") == [None]

    assert effects("record") == [5, 5]
    assert effects(RECORD) == [5]


def test_everything_is_settled(handling: Handling) -> None:
    """A failure is the inbox's to try again, and nothing that the relay would have to stop for."""
    handling(refuse_one, name="r")
    page = [happened(1, "a"), happened(2, "a"), happened(3, "b")]

    assert receive(page, using="default") == [None, None, None]

    assert effects("record") == [2, 3]
    assert Receipt.objects.get(handler="r", message_id=page[0].id).state == "retrying"


@pytest.mark.parametrize(("limit", "settled"), [({}, 5), ({"seconds": 100.0}, 1)])
def test_only_who_gives_a_limit_gets_back_less_than_was_handed_over(
    handling: Handling, limit: dict[str, float], settled: int
) -> None:
    """A relay hands the rest over again; whoever calls it with messages of their own does not."""

    def slow(event: Happened, message: Envelope) -> None:
        time.sleep(0.01)
        record(event, message)

    handling(slow)
    with override_settings(INBOX={"BATCH_SECONDS": 0.001}):
        done = receive([happened(n) for n in range(5)], using="default", **limit)

    assert len(done) == settled
    assert Receipt.objects.exclude(handler=RECORD).count() == settled


def test_what_is_due_is_handled_for_all_groups(handling: Handling) -> None:
    """The relay asks about once a second, since no consumer process does it."""
    handling(Mended(), name="a", declared_group="one")
    handling(Mended(), name="b", declared_group="two")
    receive([happened(7)], using="default")
    assert effects("record") == []
    make_due()

    assert retry_due(using="default") is False

    assert effects("record") == [7, 7]


def test_effects_are_in_the_callers_transaction(handling: Handling) -> None:
    """When the relay cannot checkpoint, nothing has been handled."""
    with transaction.atomic():
        receive([happened()], using="default")
        transaction.set_rollback(True)

    assert Receipt.objects.count() == 0
    assert effects() == []


def test_a_message_that_nobody_wants_is_settled(handling: Handling) -> None:
    """As a broker drops what nobody subscribed to."""
    assert receive([happened(type="nobody.wants")], using="default") == [None]
    assert DeadLetter.objects.count() == 0


def test_an_event_that_nobody_wants_is_told_once(
    handling: Handling, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of each type leaves a trace, with what to do; what is handled leaves none."""
    monkeypatch.setattr(local, "_unhandled", set())
    handling()
    page = [happened(n, type=kind) for n, kind in enumerate(("a.b", HAPPENED, "a.b", "c.d"))]

    receive(page, using="default")
    receive(page, using="default")

    told = [record.message for record in caplog.records if record.name == "inbox"]
    assert [text.partition(":")[0] for text in told] == ["Nobody handles a.b", "Nobody handles c.d"]
    assert "handlers.py" in told[0]


def test_a_version_that_a_group_does_not_know_is_its_dead_letter(handling: Handling) -> None:
    """As it would be on its queue; a group that knows the version handles it."""
    handling(name="old", declared_group="old", version=1, pattern="tests.thing")
    handling(name="new", declared_group="new", version=2, pattern="tests.thing")
    message = happened(7, type="tests.thing", version=2)

    assert receive([message], using="default") == [None]

    dead = DeadLetter.objects.get()
    assert (dead.group, dead.reason) == ("old", DeadLetter.Reason.UNKNOWN_VERSION)
    assert Receipt.objects.get().handler == "new"


def test_data_that_does_not_fit_is_dead_with_its_handler() -> None:
    """The handler is named."""
    assert receive([happened(data=b"{}")], using="default") == [None]

    dead = Receipt.objects.get()
    assert (dead.handler, dead.state, dead.reason) == (RECORD, "dead", "invalid_data")


def test_when_its_time_is_over_the_rest_is_left(handling: Handling) -> None:
    """To the relay, which has it again in its next page."""
    handling()

    assert receive([happened(1), happened(2)], using="default", seconds=0) == [None]
    assert effects("record") == [1]


def test_a_page_is_no_longer_than_batch_seconds(handling: Handling) -> None:
    """A relay in the same process runs handlers as a consumer does."""
    handling()

    with override_settings(INBOX={"BATCH_SECONDS": 1e-9}):
        assert receive([happened(1), happened(2)], using="default", seconds=60) == [None]
    assert effects("record") == [1]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="ends a session of PostgreSQL")
def test_what_comes_after_a_call_that_lost_the_database_is_kept_first(handling: Handling) -> None:
    """So that others are handled, and the relay does not begin with the same call for ever."""

    def lose_one(event: Happened, message: Envelope) -> None:
        if event.number == 1:
            connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")
        record(event, message)

    handling(lose_one, name="r")
    page = [happened(1, "a"), happened(2, "b")]
    with pytest.raises(LostInHandler), transaction.atomic():
        receive(page, using="default")
    connection.close()
    with transaction.atomic():
        receive(page, using="default")
    assert set(Receipt.objects.filter(handler="r").values_list("state", "reason")) == {
        ("retrying", "redelivered")
    }

    with transaction.atomic():
        receive([happened(3, "c")], using="default")
    assert effects("record") == [3]

"""Requests of whose deadline nobody was told: housekeeping settles them."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from inbox.conf import inbox_settings
from inbox.consumer import Consumer
from outbox.extensions.pruning import cutoff, prune_batch
from outbox.models import Reply, Request, Scheduled, Settlement
from outbox.replies.overdue import MARGIN, Overdue
from outbox.runtime.housekeeping import Housekeeping
from outbox.runtime.shutdown import Shutdown
from tests.inbox.support import receive
from tests.relay.test_housekeeping import housekeeping as of_relay
from tests.requests.support import ASKER, Wire, ask, reply_to

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def lose_deadlines(ago: timedelta) -> None:
    """Let the deadlines of all requests be some time ago, and their messages be lost."""
    Request.objects.update(deadline=cutoff("default", ago))
    Scheduled.objects.all().delete()


def run(overdue: Overdue, limit: int = 1000) -> list[int]:
    """Go one round; return how many requests each turn has looked at."""
    before, looked = cutoff("default", MARGIN), []
    while True:
        found = prune_batch(overdue, "default", before=before, limit=limit)
        assert found is not None
        looked.append(found)
        if found < limit:
            return looked


def test_a_lost_deadline(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """The request is expired, with the reason; what comes later is kept, and changes nothing."""
    asked = ask()
    request = wire.publish()[0]
    lose_deadlines(MARGIN + timedelta(seconds=5))
    with caplog.at_level(logging.WARNING, "outbox"):
        assert run(Overdue()) == [1]
    assert asked.state() == "expired"
    assert "1 request is expired by housekeeping" in caplog.text
    end = Settlement.objects.get()
    assert end.by == "housekeeping"
    assert "was lost" in end.reason
    receive(reply_to(request, b'{"amount": 1}'), group=ASKER)
    assert asked.state() == "expired"
    assert Reply.objects.get().number is None


def test_a_deadline_that_may_still_be_told(wire: Wire) -> None:
    asked = ask()
    lose_deadlines(MARGIN - timedelta(minutes=5))
    assert run(Overdue()) == [0]
    assert asked.state() == "pending"


def test_in_pages(wire: Wire) -> None:
    """Each turn is one statement if nothing was lost; the next round begins where one has ended."""
    settled = [ask() for _ in range(4)]
    for each in settled:
        each.cancel()
    lost = ask()
    lose_deadlines(MARGIN + timedelta(hours=2))
    overdue = Overdue()
    assert run(overdue, limit=2) == [2, 2, 1]
    assert lost.state() == "expired"
    assert [each.state() for each in settled] == ["cancelled"] * 4
    before = cutoff("default", MARGIN)
    with CaptureQueriesContext(connection) as queries:
        assert overdue("default", before=before, limit=10) == 0
    assert len(queries) == 1


def test_many_are_settled_in_several_transactions(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.replies.overdue.AT_ONCE", 2)
    asked = [ask() for _ in range(5)]
    lose_deadlines(MARGIN + timedelta(hours=2))
    overdue = Overdue()
    before = cutoff("default", MARGIN)
    turn = partial(prune_batch, overdue, "default", before=before, limit=10)
    assert turn() == 10
    assert Settlement.objects.count() == 2
    assert turn() == 10
    assert turn() == 1
    assert [each.state() for each in asked] == ["expired"] * 5


def test_a_request_that_another_transaction_holds_is_settled_in_the_next_round(wire: Wire) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("there is one writer at a time")
    asked = ask()
    lose_deadlines(MARGIN + timedelta(hours=2))
    overdue = Overdue()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(Request.objects.select_for_update())
            held.set()
            done.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(30)
        assert run(overdue) == [1]
        assert asked.state() == "pending"
    finally:
        done.set()
        holder.join()
    assert run(overdue) == [1]
    assert asked.state() == "expired"


def of_consumer() -> Housekeeping:
    with Shutdown() as shutdown:
        return Consumer(
            ASKER, url="amqp://127.0.0.1", conf=inbox_settings(), using="default", shutdown=shutdown
        )._housekeeping


@pytest.mark.parametrize("of", [partial(of_relay, "default", 60.0), of_consumer])
def test_who_does_it(wire: Wire, of: Callable[[], Housekeeping]) -> None:
    """Relays and consumers, in their rounds."""
    asked = ask()
    lose_deadlines(MARGIN + timedelta(seconds=5))
    housekeeping = of()
    for _ in range(20):  # kinds of rows, of which each has a turn
        housekeeping._next = 0.0
        housekeeping.turn()
    assert asked.state() == "expired"

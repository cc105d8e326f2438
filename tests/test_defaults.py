"""Relay, consumer and people's actions under defaults that a role has for requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from psycopg.pq import TransactionStatus

import outbox
from inbox import operator
from inbox import retention as inbox_retention
from inbox.models import Receipt
from outbox.extensions.pruning import prune_batch
from outbox.models import Message
from outbox.producer.scheduling import deliver_due
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import Status
from relay.brokers.local import LocalBroker
from relay.conf import RelaySettings
from relay.log import open_log
from relay.log.rebase import rebase
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from relay.parking import people
from relay.replay import Replay, Selection
from relay.transfer import transfer
from tests.inbox.support import (
    Handling,
    effects,
    fail,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    record,
    states,
    turn,
    waiting_for_lock,
)
from tests.kit.defaults import defaults
from tests.kit.sessions import Session, sessions
from tests.kit.support import Counted, RecordingBroker
from tests.kit.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), postgresql]

MILLISECONDS = 150
"""What the server lets a transaction idle, and last."""


@pytest.fixture(autouse=True)
def one_lane() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 1}):
        yield


@pytest.fixture
def handling() -> Iterator[Handling]:
    found = Handling()
    yield found
    found.forget()


@pytest.fixture
def impatient() -> Iterator[None]:
    """A role whose transactions may neither idle nor last."""
    with defaults(**short()):
        yield


def short() -> dict[str, str]:
    connection.ensure_connection()
    names = ["idle_in_transaction_session_timeout"]
    if connection.connection.info.server_version >= 170_000:
        names.append("transaction_timeout")
    return dict.fromkeys(names, f"{MILLISECONDS}ms")


def outlast(observer: Session) -> None:
    """Wait, doing nothing, until our transaction has lasted for longer than the role allows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_current_xact_id_if_assigned()")
        pid = cursor.fetchone()[0]

    def over() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = %s "
                "AND state_change > clock_timestamp() - interval '%s ms'",
                [pid, 2 * MILLISECONDS],
            )
            return not cursor.fetchone()[0]

    until(lambda: observer.run(over))


def commit(*numbers: int, key: str = "a") -> None:
    with transaction.atomic():
        outbox.emit_many([Counted(key, number) for number in numbers])


@contextmanager
def relay(broker: Any, **options: Any) -> Iterator[Relay]:
    conf = RelaySettings(BACKEND="tests", RETRY_MAX=0.1, **options)
    shutdown = Shutdown()
    found = Relay(open_log("test", using="default"), broker, conf, shutdown)
    try:
        yield found
    finally:
        found.close()
        shutdown.close()


# --- Timeouts of transactions ----------------------------------------------------------------


def test_a_page_may_wait_for_its_broker(impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    """For longer than the role lets a transaction idle or last: published once, checkpointed."""
    commit(1, 2, 3)
    broker = RecordingBroker()
    with sessions(1) as [observer], relay(broker) as subject:
        broker.before_confirming = lambda: outlast(observer)
        subject.sweep()

    assert broker.numbers() == [1, 2, 3]
    assert [each.count for each in Checkpoint.objects.all()] == [3]
    assert "is away" not in caplog.text


def test_a_handler_may_wait(impatient: None, handling: Handling) -> None:
    """In a batch, in a turn at what is due and in a page of the local broker."""
    calls: list[int] = []
    with sessions(1) as [observer]:

        def wait(event: Any, message: Any) -> None:
            calls.append(event.number)
            record(event, message)
            outlast(observer)
            if calls == [2]:
                raise ValueError("once")

        handling(wait, name="wait")
        [first] = receive(happened(2))
        assert (first.handled, first.retrying) == (0, 1)
        make_due()
        assert turn().handled == 1

        handling(wait, name="counted", pattern="tests.counted")
        commit(3)
        with relay(LocalBroker.from_settings("", {}, using="default")) as subject:
            subject.sweep()

    assert (calls, effects()) == ([2, 2, 3], [2, 3])
    assert set(states()) == {"processed"}


def test_what_a_role_sets_for_statements_applies_to_handlers(handling: Handling) -> None:
    """A query that runs away is the failure of its handler alone."""

    def run_away(event: Any, message: Any) -> None:
        record(event, message)
        if event.number == 2:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(30)")

    handling(run_away, name="run_away")
    with defaults(statement_timeout="100ms"):
        results = receive(*[happened(number, key=str(number)) for number in range(4)])

    assert [(each.handled, each.retrying) for each in results] == [(1, 0), (1, 0), (0, 1), (1, 0)]
    assert "statement timeout" in results[2].failures["run_away"]
    assert effects() == [0, 1, 3]


# --- Isolation -------------------------------------------------------------------------------


def test_a_consumer_sees_what_another_left_in_its_line(handling: Handling) -> None:
    """With REPEATABLE READ it would look with eyes from before it had to wait for the other."""
    handling(fail, name="ordered", ordered=True)
    with defaults(default_transaction_isolation="repeatable read"), sessions(1) as [other]:
        other.begin()
        other.run(receive, happened(1))
        handling.forget()
        handling(record, name="ordered", ordered=True)
        with in_thread(lambda: receive(happened(2))) as second:
            until(waiting_for_lock)
            other.commit()

    [result] = second.get()
    assert result.waiting == 1
    assert effects() == []


def test_emitting_transactions_may_have_any_level() -> None:
    """They are the application's: whatever it is, nothing is lost and keys keep their order."""
    broker = RecordingBroker()
    with (
        defaults(default_transaction_isolation="serializable"),
        sessions(2) as [early, late],
        relay(broker) as subject,
    ):
        early.begin()
        late.begin()
        late.run(outbox.emit, Counted("a", 1))
        late.commit()
        subject.sweep()
        early.run(outbox.emit, Counted("a", 2))
        subject.sweep()
        early.commit()
        subject.sweep()

    assert broker.numbers() == [1, 2]


# --- All of them -----------------------------------------------------------------------------


def everything(observe: Callable[[str], Any]) -> None:
    """Do one of each, telling what comes; what emits is the application's, and not told."""
    broker = RecordingBroker()
    commit(1, 2)
    first = Message.objects.order_by("position").first()
    assert first is not None
    with transaction.atomic():
        outbox.emit(Counted("a", 3), delay=0.001)
    with relay(broker, PARK_MIN=0.001, PARK_MAX=0.001) as subject:
        broker.refuse[str(first.message_id)] = Status.UNROUTABLE
        observe("page")
        assert transfer(subject.log, broker, 0, 100, subject._parking)
        assert Parked.objects.count() == 2
        observe("requeue")
        assert people.requeue(Parked.objects.all())
        observe("retry")
        assert transfer(subject.log, broker, 0, 100, subject._parking)
        observe("discard")
        assert people.discard(Parked.objects.all(), by="a person")
    observe("schedule")
    until(lambda: deliver_due("default") == 1)
    observe("replay")
    broker.refuse.clear()
    replay = Replay("test", broker, Selection(), using="default")
    replay.begin()
    assert not replay.page()
    observe("prune")
    prune_batch(lambda using, **_: Message.objects.using(using).count(), "default", **NOTHING)
    observe("rebase")
    assert rebase("default")
    observe("batch")
    receive(happened(1))
    observe("turn")
    make_due()
    assert turn().retrying == 1
    observe("person")
    assert operator.retry([row.pk for row in Receipt.objects.all()], using="default").changed
    observe("receipts")
    inbox_retention.prune("default", older_than=timedelta(seconds=1))


NOTHING: dict[str, Any] = {"before": timezone.now(), "limit": 1}
HANDLERS = {"batch", "turn"}


def test_every_transaction_of_ours_says_what_it_needs(handling: Handling) -> None:
    """READ COMMITTED, no end by time; and statements that are none of a handler's go on."""
    handling(fail, name="failing")
    seen: dict[str, set[tuple[str, ...]]] = {}
    doing = ""

    def observe(what: str) -> None:
        nonlocal doing
        doing = what

    def look(execute: Callable[..., Any], sql: Any, *args: Any) -> Any:
        raw = connection.connection
        if doing and raw is not None and raw.info.transaction_status is TransactionStatus.INTRANS:
            seen.setdefault(doing, set()).add(raw.execute(SETTINGS).fetchone())
        return execute(sql, *args)

    with (
        defaults(
            default_transaction_isolation="repeatable read",
            statement_timeout="20s",
            lock_timeout="21s",
            synchronous_commit="off",
            **dict.fromkeys(short(), "22s"),
        ),
        connection.execute_wrapper(look),
    ):
        everything(observe)

    own = ("read committed", "0", "0", "0", "0", "off")
    rebasing = (*own[:4], "2s", "off")  # how long it waits for pages before it tries again
    shared = ("read committed", "0", "0", "20s", "21s", "local")
    others = {"rebase": rebasing, **dict.fromkeys(HANDLERS, shared)}
    for what, found in seen.items():
        assert found <= {own, others.get(what, own)}, what
    assert len(seen) == 12


SETTINGS = """
SELECT current_setting('transaction_isolation'),
       current_setting('idle_in_transaction_session_timeout'),
       coalesce(current_setting('transaction_timeout', true), '0'),
       current_setting('statement_timeout'), current_setting('lock_timeout'),
       current_setting('synchronous_commit')
"""

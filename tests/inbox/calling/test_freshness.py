"""Before each batch and turn, connections of every database are as fresh as in a request."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox import RetryPolicy
from inbox.delivery import Delivery
from inbox.models import DeadLetter
from inbox.receiving.dead_letters import Unusable, bury
from outbox.database.freshness import refresh
from relay.brokers.local import LocalBroker
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from tests.inbox.support import (
    Handling,
    Queue,
    closing_shutdown,
    effects,
    happened,
    make_due,
    postgresql,
    receive,
    record,
    states,
)
from tests.kit.database import exists_session, terminate
from tests.kit.sessions import sessions
from tests.kit.support import Counted, RecordingBroker
from tests.kit.waiting import until

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import task
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import task

pytestmark = [
    pytest.mark.usefixtures("_second_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "second"]),
    postgresql,
]

ONCE = RetryPolicy(attempts=1)
SECOND = "second"
KEPT = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
"""Connections that requests share, and check before they use them."""
pids: list[int] = []


@pytest.fixture(params=[{"CONN_MAX_AGE": 0}, KEPT], ids=["closed", "checked"])
def second(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The second database, with what may be said of its connections."""
    connections.settings[SECOND].update(request.param)
    pids.clear()
    yield connections[SECOND]
    connections[SECOND].close()
    del connections[SECOND]


def use_second() -> None:
    """Use the second database, in whatever session there is."""
    with connections[SECOND].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pids.append(cursor.fetchone()[0])


def end_session() -> None:
    """Let the server end the session that was used last, as it does with one that idles."""
    with sessions(1) as [other]:
        other.run(terminate, pids[-1])
        until(lambda: not other.run(exists_session, pids[-1]))


def handle(event: Any, message: outbox.Envelope) -> None:
    use_second()
    record(event, message)


class FailsFirst:
    """A handler that uses the second database, and fails the first time."""

    failed = False

    def __call__(self, event: Any, message: outbox.Envelope) -> None:
        use_second()
        if not self.failed:
            self.failed = True
            raise ValueError("no luck")


def test_a_handler_gets_a_fresh_session(second: Any, queue: Queue, handling: Handling) -> None:
    """Its only attempt is not lost to a session that has ended since the last batch."""
    handling(handle, retry=ONCE)
    queue.declare()
    for number in (1, 2):
        queue.publish(happened(number))
        queue.drain()
        assert effects() == list(range(1, number + 1))
        end_session()

    assert len(set(pids)) == 2
    assert states() == ["processed"] * 2


def test_a_session_that_idled_for_too_long_is_replaced(
    second: Any, queue: Queue, handling: Handling
) -> None:
    """As idle_session_timeout has it."""
    handling(handle, retry=ONCE)
    queue.declare()
    with sessions(1) as [other]:
        queue.publish(happened(1))
        queue.drain()
        with connections[SECOND].cursor() as cursor:
            cursor.execute("SET idle_session_timeout = 20")
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        until(lambda: not other.run(exists_session, pid))
        queue.publish(happened(2))
        queue.drain()

    assert effects() == [1, 2]


def test_a_turn_at_what_is_due_has_fresh_sessions(
    second: Any, queue: Queue, handling: Handling
) -> None:
    """What failed before, and has one attempt left."""
    handling(FailsFirst(), retry=RetryPolicy(attempts=2))
    queue.declare()
    receive(happened(1), group=queue.name)
    make_due()
    end_session()

    queue.drain()

    assert states() == ["processed"]
    assert len(set(pids)) == 2


@task
def look() -> int:
    """Use the second database."""
    use_second()
    return pids[-1]


def test_a_task_with_one_attempt_gets_a_fresh_session(second: Any) -> None:
    """Also in a relay that runs handlers itself, which it does in its own transaction."""
    with override_settings(TASKS={"default": {"BACKEND": "inbox.tasks.OutboxBackend"}}):
        for _ in range(2):
            result = look.enqueue()
            call_command("relay", "--until-empty", stdout=StringIO())
            result.refresh()
            assert result.status == Status.SUCCESSFUL
            end_session()


def test_a_turn_of_a_relay_has_fresh_sessions(second: Any, handling: Handling) -> None:
    """What is due with the local broker."""
    handling(FailsFirst(), retry=RetryPolicy(attempts=2))
    receive(happened(1))
    make_due()
    end_session()

    conf = RelaySettings(BACKEND="tests")
    with closing_shutdown() as shutdown:
        broker = LocalBroker.from_settings("", {}, using="default")
        relay = Relay(open_log("test", using="default"), broker, conf, shutdown)
        relay._keep_alive()
        relay.close()

    assert states() == ["processed"]


def test_a_replay_has_fresh_sessions(second: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its pages, for brokers that use a database of their own."""
    broker = RecordingBroker()

    def use() -> None:
        use_second()
        end_session()

    for module in ("relay", "relay_replay"):
        monkeypatch.setattr(
            f"relay.management.commands.{module}.create_broker", lambda name, *, using: broker
        )
    with transaction.atomic():
        outbox.emit_many([Counted("k", number) for number in range(3)])
    call_command("relay", "--until-empty", stdout=StringIO())
    broker.before_confirming = use
    call_command("relay_replay", "--all", "--page-size=1", "--json", stdout=StringIO())

    assert len(broker.published) == 6
    assert len(set(pids)) == 3


def test_a_session_that_nobody_uses_is_not_opened(second: Any) -> None:
    """Nor is it asked for anything: a check comes with the first use, as Django has it."""
    refresh("default")
    refresh("default")
    assert second.connection is None
    use_second()
    with CaptureQueriesContext(second) as queries:
        refresh("default")
    assert not queries.captured_queries


def test_the_consumers_own_session_stays(queue: Queue, handling: Handling) -> None:
    """A batch costs no new one, though CONN_MAX_AGE is 0."""
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    own: list[int] = []

    def note(event: Any, message: outbox.Envelope) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            own.append(cursor.fetchone()[0])

    handling(note, name="record")
    queue.declare()
    for _ in range(3):
        queue.publish(happened(1))
        queue.drain()

    assert len(own) == 3
    assert len(set(own)) == 1


def test_an_age_that_is_set_counts_for_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """So sessions do not live for ever where that was not wanted."""
    connection.ensure_connection()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    monkeypatch.setattr(connection, "close_at", connection.close_at)
    connection.close_at = 10.0**12
    refresh("default")
    assert connection.connection is not None
    connection.close_at = 0.0

    refresh("default")

    assert connection.connection is None


def test_a_transaction_is_left_alone(second: Any) -> None:
    """That of a test, or of a caller: whatever its age."""
    with transaction.atomic(using=SECOND), transaction.atomic():
        use_second()
        refresh("default")
        use_second()

    assert pids[0] == pids[1]


def test_dead_letters_are_received_with_fresh_sessions(second: Any, handling: Handling) -> None:
    """By a command that takes its time."""
    handling(handle, retry=ONCE)
    delivery = Delivery.of(happened(1))
    use_second()
    end_session()
    bury([Unusable(delivery, DeadLetter.Reason.UNKNOWN_TYPE, "x", "g")], "default")

    call_command("inbox_retry", "--dead-letters", "--all", stdout=StringIO())

    assert effects() == [1]

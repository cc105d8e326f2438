"""Consuming while broker or database are away, and what of that is waited for."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connection, connections

from inbox.verdicts import Retry
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    Queue,
    attempts,
    closing_shutdown,
    effects,
    happened,
    heartbeats,
    in_thread,
    make_due,
    make_queue,
    postgresql,
    record,
    records,
    slow_receipts,
    states,
)
from tests.kit.database import exists_session, terminate
from tests.kit.defaults import defaults
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.sessions import sessions
from tests.kit.waiting import until
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_deleted_queue_is_declared_again(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """The consumer says what happened, and goes on with a new queue."""
    handling()
    with queue.consuming() as consumer:
        until(lambda: exists(queue) and queue.consumers() == 1)
        with queue.channel() as channel:
            channel.queue_delete(queue.name)
        until(lambda: told("The broker is back"))
        queue.publish(happened(5))
        until(lambda: consumer.progress.handled == 1)

    [said] = told("The broker has ended our subscription")
    assert f"nothing more of queue {queue.queue!r} is delivered; was it deleted? If" in said
    assert "so is what waited in it" in said
    assert "Nothing is lost" not in said
    assert told("The broker is away") == []
    assert effects() == [5]


def exists(queue: Queue) -> bool:
    try:
        return queue.ready() >= 0
    except Exception:
        return False


def test_a_broker_that_is_away_is_told_once(
    handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """However many attempts it takes, with its addresses; credentials are not in the log."""
    handling()
    url = "amqp://guest:secret@127.0.0.1:1//;amqp://guest:secret@localhost:1/other"
    queue = make_queue(url, RETRY_MAX=0.1)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        with in_thread(consumer.run):
            until(lambda: attempts(consumer) > 5)
            shutdown.request()

    [said] = told("The broker is away")
    assert "(amqp://127.0.0.1:1//;amqp://localhost:1/other)" in said
    assert "Nothing is lost" in said
    assert "secret" not in said


def test_with_several_groups_in_a_process_an_outage_names_the_group(
    handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Each has a connection of its own; one that ends does not say that it tries again."""
    handling()
    queue = make_queue("amqp://guest:guest@127.0.0.1:1//")
    with closing_shutdown() as shutdown:
        queue.consumer(shutdown, several=True).run(until_empty=True)

    [said] = told(f"Group {queue.name}: The broker is away")
    assert said.endswith("Nothing is lost.")


def test_a_running_consumer_goes_on_asking_a_broker_that_does_not_let_it_in(
    broker_url: str, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Credentials can be rotated; what is refused is told once, without them."""
    handling()
    parts = urlsplit(broker_url)
    url = f"amqp://{parts.username}:hunter2@{parts.hostname}:{parts.port}//"
    with closing_shutdown() as shutdown:
        consumer = make_queue(url, RETRY_MAX=0.1).consumer(shutdown)
        with in_thread(consumer.run):
            until(lambda: attempts(consumer) > 2)
            shutdown.request()

    [said] = told("The broker does not let us in")
    assert "user name or password is refused" in said
    assert "hunter2" not in said
    assert told("The broker is away") == []


@pytest.mark.parametrize("url", ["redis://:secret@localhost", "amqp://guest:secret@host:99999//"])
def test_a_url_that_cannot_work_ends_the_consumer(url: str) -> None:
    """Waiting would not help: the error says what it must look like, and quotes nothing of it."""
    with closing_shutdown() as shutdown, pytest.raises(ConfigurationError, match="URL") as caught:
        make_queue(url).consumer(shutdown)

    assert "secret" not in str(caught.value)


def test_until_empty_gives_up_on_an_absent_broker(handling: Handling) -> None:
    """At once, and says so by its result."""
    handling()
    started = time.monotonic()
    with closing_shutdown() as shutdown:
        queue = make_queue("amqp://guest:guest@127.0.0.1:1//")
        assert queue.consumer(shutdown, RETRY_MAX=60).run(until_empty=True) is False
    assert time.monotonic() - started < 10


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restarted_broker_loses_nothing(
    end: str,
    rabbit_node: RabbitNode,
    own_queue: Queue,
    handling: Handling,
    told: Callable[[str], list[str]],
) -> None:
    """Said once; afterwards the consumer goes on by itself, and each message is handled once."""
    handling()
    own_queue.declare()
    with own_queue.consuming(PREFETCH=5) as consumer:
        own_queue.publish(*[happened(number) for number in range(20)])
        until(lambda: consumer.progress.handled >= 5)
        # The node writes the names of new quorum queues to disk half a second late; a queue that
        # is younger than that would not survive a power failure.
        rabbit_node.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
        getattr(rabbit_node, end)()
        until(lambda: consumer.progress.away == "broker")
        rabbit_node.start()
        until(lambda: not consumer.progress.away, 60)
        own_queue.publish(*[happened(number) for number in range(20, 30)])
        until(lambda: consumer.progress.handled >= 30, 60)

    assert sorted(effects()) == list(range(30))
    assert len(told("The broker is away")) == len(told("The broker is back")) == 1


@pytest.mark.slow
def test_a_silent_broker_is_found_out(
    rabbit_node: RabbitNode,
    own_queue: Queue,
    handling: Handling,
    told: Callable[[str], list[str]],
) -> None:
    """A half-open connection, where nothing comes and nothing fails, ends by its heartbeat."""
    handling()
    own_queue.declare()
    with own_queue.consuming(HEARTBEAT=1, SOCKET_TIMEOUT=2, CONNECT_TIMEOUT=1) as consumer:
        until(lambda: own_queue.consumers() == 1)
        rabbit_node.pause()
        until(lambda: consumer.progress.away == "broker")
        rabbit_node.resume()
        until(lambda: not consumer.progress.away, 60)
        own_queue.publish(happened(1))
        until(lambda: consumer.progress.handled == 1)

    assert effects() == [1]
    assert len(told("The broker is away")) == 1


def test_a_connection_closed_by_the_server_is_opened_again(
    rabbit_node: RabbitNode,
    own_queue: Queue,
    handling: Handling,
    told: Callable[[str], list[str]],
) -> None:
    """As when an operator closes it; consuming goes on."""
    handling()
    own_queue.declare()
    own_queue.publish(happened(1))
    with own_queue.consuming() as consumer:
        until(lambda: consumer.progress.handled == 1)
        rabbit_node.ctl("close_all_connections", "by an operator")
        until(lambda: told("The broker is back"))
        own_queue.publish(happened(2))
        until(lambda: consumer.progress.handled == 2)

    [said] = told("The broker is away")
    assert "by an operator" in said


def test_a_connection_that_breaks_under_a_heartbeat_is_opened_again(
    rabbit_node: RabbitNode,
    own_queue: Queue,
    handling: Handling,
    told: Callable[[str], list[str]],
) -> None:
    """If only the heartbeat has met the error, during a retry, consuming goes on all the same."""
    calls: list[int] = []

    def function(event: Happened, message: Envelope) -> None:
        calls.append(event.number)
        if calls == [1]:
            raise Retry(after=0)
        if calls == [1, 1]:
            rabbit_node.ctl("close_all_connections", "by an operator")
            until(lambda: not heartbeats())
        record(event, message)

    handling(function)
    own_queue.declare()
    own_queue.publish(happened(1))
    with own_queue.consuming(HEARTBEAT=1) as consumer:
        until(lambda: consumer.progress.handled == 1)
        own_queue.publish(happened(2))
        until(lambda: consumer.progress.handled == 2)

    assert effects() == [1, 2]
    assert len(told("The broker is away")) == 1


@contextlib.contextmanager
def database_away() -> Iterator[None]:
    """Refuse new connections to the test database, and end those of others."""
    settings = connection.settings_dict
    name = settings["NAME"]
    admin = psycopg.connect(
        **{**connection.get_connection_params(), "dbname": "postgres"}, autocommit=True
    )
    connection.ensure_connection()
    own = connection.connection.info.backend_pid

    def allow(allowed: bool) -> None:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(allowed).lower()}')

    try:
        allow(False)
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = %s AND pid <> %s",
            [name, own],
        )
        yield
    finally:
        allow(True)
        admin.close()


@postgresql
def test_while_the_database_is_away_messages_wait(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """They stay unacknowledged, it is said once, and handling goes on by itself, once each."""
    handling()
    queue.declare()
    with queue.consuming(HEARTBEAT=1) as consumer:
        queue.publish(happened(1))
        until(lambda: consumer.progress.handled == 1)
        with database_away():
            queue.publish(*[happened(number) for number in range(2, 12)])
            until(lambda: consumer.progress.away == "database" and attempts(consumer) > 5)
            time.sleep(3)  # longer than the broker waits for a heartbeat
            assert queue.ready() < 10
            assert queue.consumers() == 1
        until(lambda: consumer.progress.handled == 11)

    assert effects() == list(range(1, 12))
    assert consumer.progress.duplicates == 0
    assert len(told("The database is away")) == len(told("The database is back")) == 1
    assert "(database 'default')" in told("The database is away")[0]
    assert told("The broker is away") == []
    assert queue.ready() == 0


@postgresql
def test_a_connection_lost_in_a_batch_repeats_the_batch(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Nothing of it has happened: the batch is handled anew, once, without another delivery."""
    lost: list[int] = []

    def lose_connection(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2 and not lost:
            pid = connections[DEFAULT_DB_ALIAS].connection.info.backend_pid
            lost.append(pid)
            with sessions(1) as [other]:
                other.run(terminate, pid)
            record(event, message)

    handling(lose_connection)
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])

    with queue.consuming() as consumer:
        until(lambda: consumer.progress.handled == 5)

    assert effects() == list(range(5))
    assert len(told("The database is away")) == 1


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Let sessions that begin in the block write nothing, as on a server that only follows."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])

    def alter(how: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} {how}")

    alter("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        alter("RESET default_transaction_read_only")


@postgresql
def test_a_read_only_database_is_an_outage(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """After a failover to a server that only reads, messages wait for one that writes."""
    handling()
    queue.declare()
    queue.publish(happened(1))

    with contextlib.ExitStack() as failover:
        failover.enter_context(read_only())
        with queue.consuming() as consumer:
            until(lambda: consumer.progress.away == "database" and attempts(consumer) > 2)
            failover.close()
            until(lambda: consumer.progress.handled == 1)

    assert effects() == [1]
    [said] = told("The database is away")
    assert "read-only transaction" in said


@postgresql
def test_a_handler_that_idles_for_too_long_fails_by_itself(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """The server ends the session under it; its neighbours are handled, and later it is as well."""
    pids: list[int] = []

    def idle(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2 and not pids:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])
            with sessions(1) as [other]:
                until(lambda: not other.run(exists_session, pids[0]))

    handling(idle, name="idle")
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])

    with queue.consuming() as consumer:
        until(lambda: consumer.progress.handled == 5)

    assert sorted(effects()) == list(range(5))
    assert consumer.progress.retrying == 1
    assert len(told("Handler idle failed")) == 1
    assert told("The database is away") == []


@postgresql
def test_a_batch_that_is_ended_each_time_is_tried_smaller(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """By a timeout of the role, which is told by its name: there is progress all the same."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(40)])
    with (
        slow_receipts("INSERT", 0.02),
        defaults(statement_timeout="200ms"),
        queue.consuming() as consumer,
    ):
        until(lambda: consumer.progress.handled == 40)

    assert effects() == list(range(40))
    assert told("The database is away") == []
    said = told("The database has ended what we did")
    assert said
    assert "see statement_timeout of the role" in said[0]


@postgresql
def test_until_empty_gives_up_on_an_absent_database(queue: Queue, handling: Handling) -> None:
    """Nothing is acknowledged."""
    handling()
    queue.declare()
    queue.publish(happened(1))

    with closing_shutdown() as shutdown, database_away():
        consumer = queue.consumer(shutdown)
        with in_thread(lambda: consumer.run(until_empty=True)) as background:
            pass
        assert background.get() is False

    until(lambda: queue.ready() == 1)


@postgresql
def test_a_broken_connection_to_another_database_is_replaced(
    queue: Queue, handling: Handling
) -> None:
    """What breaks within a batch fails there once, not until the process is restarted."""
    connections.settings["second"] = connections.settings[DEFAULT_DB_ALIAS]
    second = connections["second"]
    # In place of the one that refuses databases which the test runner does not know.
    second.ensure_connection = lambda: second.connection or second.connect()
    pids: list[int] = []

    def use_second(event: Happened, message: Envelope) -> None:
        with second.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.append(cursor.fetchone()[0])
        record(event, message)
        if event.number == 1:
            terminate(pids[0])

    handling(use_second)
    queue.declare()
    try:
        queue.publish(happened(1), happened(2))
        assert queue.drain().progress.retrying == 1
        make_due()
        queue.drain()
    finally:
        second.close()
        del connections["second"]
        del connections.settings["second"]

    assert effects() == [1, 2]
    assert len(set(pids)) == 2


@postgresql
@pytest.mark.parametrize(
    ("table", "renamed"),
    [
        ("django_inbox_receipt", "TO elsewhere"),
        ("django_inbox_binding", "TO elsewhere"),
        ("django_inbox_receipt", "COLUMN last_attempts TO elsewhere"),
    ],
)
def test_an_unmigrated_database_is_an_error(
    queue: Queue, handling: Handling, table: str, renamed: str
) -> None:
    """Waiting would not help: the error goes up, and the messages stay in the queue."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    name = "elsewhere" if renamed == "TO elsewhere" else table
    back = renamed.replace("TO elsewhere", f"TO {table}")
    if "COLUMN" in renamed:
        back = "COLUMN elsewhere TO last_attempts"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME {renamed}")
    try:
        with pytest.raises(ProgrammingError, match=r"django_inbox|last_attempts"):
            queue.drain()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name} RENAME {back}")

    until(lambda: queue.ready() == 1)


@postgresql
def test_a_table_that_is_away_for_a_while_is_waited_for(
    queue: Queue, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """As while a dump is restored over it, if it was there when the consumer began."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    with queue.consuming():
        until(lambda: effects() == [1])
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_inbox_receipt RENAME TO elsewhere")
        try:
            queue.publish(happened(2))
            until(lambda: records(caplog, "The database is not ready"))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE elsewhere RENAME TO django_inbox_receipt")
        until(lambda: effects() == [1, 2])

    assert len(records(caplog, "The database is not ready")) == 1


@postgresql
def test_a_message_whose_handler_loses_the_database_holds_up_no_other(
    queue: Queue, handling: Handling
) -> None:
    """In the batch in which it comes, too: the next time each of that is handled with care."""

    def function(event: Any, message: Envelope) -> None:
        if event.number == 1:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        record(event, message)

    handling(function)
    queue.declare()
    queue.publish(*[happened(number) for number in range(3)])

    with queue.consuming():
        until(lambda: states() == ["processed", "dead", "processed"])

    assert sorted(effects()) == [0, 2]  # in whatever order, as they are handled one by one then
    assert queue.ready() == 0

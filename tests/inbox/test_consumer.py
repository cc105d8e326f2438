"""Consuming a real queue: batches, acknowledgements, failures and outages."""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest
from amqp.channel import Channel
from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connection, connections
from django.test import override_settings
from django.utils import timezone

from inbox import consumer as consumer_module
from inbox import retention
from inbox.consumer import Consumer
from inbox.ledger import Ledger
from inbox.models import DeadLetter, Receipt
from inbox.receiver import Batch
from inbox.registry import handlers
from inbox.subscription import Subscription
from inbox.verdicts import Retry, RetryPolicy
from outbox import housekeeping
from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError
from outbox.retention import Pruner
from tests.inbox.support import (
    Handling,
    Mended,
    Queue,
    block_effects,
    closing_shutdown,
    effects,
    happened,
    in_thread,
    make_due,
    make_queue,
    postgresql,
    receive,
    record,
    records,
    states,
    until,
    waiting_for_lock,
)
from tests.services.rabbitmq import RabbitNode
from tests.sessions import sessions
from tests.support import amqp_message
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """What the consumer has said that begins so."""
    caplog.set_level(logging.INFO, "inbox")
    return lambda start: records(caplog, start)


@pytest.fixture
def acks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Every (tag, multiple) that is acknowledged; each when its messages are committed."""
    sent: list[tuple[int, bool]] = []
    original = Channel.basic_ack

    def basic_ack(channel: Channel, tag: int, multiple: bool = False, **rest: Any) -> None:
        sent.append((tag, multiple))
        original(channel, tag, multiple=multiple, **rest)

    monkeypatch.setattr(Channel, "basic_ack", basic_ack)
    return sent


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that is received."""
    sizes: list[int] = []

    def counted(deliveries: Any, **options: Any) -> Batch:
        sizes.append(len(deliveries))
        return Batch(deliveries, **options)

    monkeypatch.setattr(consumer_module, "Batch", counted)
    return sizes


class Attempts:
    """A handler that fails until it is mended, and notes when it was called."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.broken = True

    def __call__(self, event: Happened, message: Envelope) -> None:
        if event.number < 0:
            self.times.append(time.monotonic())
            if self.broken:
                raise ValueError("no luck")
        record(event, message)


# --- Batches and acknowledgements -----------------------------------------------------------


def test_messages_are_handled_and_gone(queue: Queue, handling: Handling) -> None:
    """Published to the exchange, handled, acknowledged, counted."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(10)])

    consumer = queue.drain()

    assert effects() == list(range(10))
    progress = consumer.progress
    assert (progress.received, progress.handled, progress.retrying) == (10, 10, 0)
    assert queue.ready() == 0


def test_what_is_prefetched_is_one_batch(
    queue: Queue, handling: Handling, batches: list[int]
) -> None:
    """No batch is larger than PREFETCH; a full queue is not handled one by one."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(40)])

    queue.drain(PREFETCH=10)

    assert effects() == list(range(40))
    # How many have arrived when a batch begins is up to the broker.
    assert 1 < max(batches) <= 10
    assert sum(batches) == 40


def test_a_batch_is_acknowledged_with_one_frame(
    queue: Queue, handling: Handling, batches: list[int], acks: list[tuple[int, bool]]
) -> None:
    """The last tag, and all before it."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(100)])

    queue.drain(PREFETCH=20)

    ends = [sum(batches[: n + 1]) for n in range(len(batches))]
    assert acks == [(end, True) for end in ends]


def test_a_failed_message_is_acknowledged_with_its_batch(
    queue: Queue, handling: Handling, acks: list[tuple[int, bool]]
) -> None:
    """It is in the database with its receipt, and nothing goes back to the broker."""
    handling(Attempts(), retry=RetryPolicy(base=3600, cap=3600))
    queue.declare()
    queue.publish(happened(1), happened(-2), happened(3))

    consumer = queue.drain()

    assert max(acks) == (3, True)
    assert (consumer.progress.handled, consumer.progress.retrying) == (2, 1)
    assert queue.ready() == 0
    assert states() == ["processed", "retrying", "processed"]


@postgresql
def test_nothing_is_acknowledged_before_the_commit(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the transaction waits for a lock there is no ack; at each, its receipts are there."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])
    committed: list[int] = []
    original = Subscription.ack

    def ack(subscription: Subscription, tag: int, *, multiple: bool = False) -> None:
        with sessions(1) as [other]:
            committed.append(other.run(Receipt.objects.count))
        original(subscription, tag, multiple=multiple)

    monkeypatch.setattr(Subscription, "ack", ack)
    with sessions(1) as [blocker]:
        blocker.begin()
        blocker.run(block_effects)
        with queue.consuming() as consumer:
            until(waiting_for_lock)
            assert committed == []
            assert queue.ready() == 0
            blocker.commit()
            until(lambda: consumer.progress.received == 5)
            until(lambda: committed)

    assert sum(committed) >= 5
    assert 0 not in committed
    assert queue.ready() == 0


def test_a_message_that_is_not_acknowledged_comes_again_and_is_suppressed(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement gets lost after the commit: no second effect, no second dead letter."""
    handling()
    queue.declare()
    strange = amqp_message(happened())
    strange.properties["application_headers"] = {"x": "y"}
    queue.publish(happened(1))
    queue.publish_raw((strange, "tests.happened"))
    with monkeypatch.context() as lossy, closing_shutdown() as shutdown:
        lossy.setattr(Subscription, "ack", lambda *_, **__: shutdown.request())
        queue.consumer(shutdown).run()
    until(lambda: queue.ready() == 2)

    consumer = queue.drain()

    assert (consumer.progress.duplicates, consumer.progress.dead) == (1, 1)
    assert effects() == [1]
    assert DeadLetter.objects.count() == 1
    assert queue.ready() == 0


@postgresql
def test_two_consumers_share_a_queue(queue: Queue, handling: Handling) -> None:
    """Every message is handled once, whoever gets it."""
    handling()
    queue.declare()
    with queue.consuming(PREFETCH=5) as one, queue.consuming(PREFETCH=5) as two:
        until(lambda: queue.consumers() == 2)
        queue.publish(*[happened(number) for number in range(200)])
        until(lambda: one.progress.handled + two.progress.handled == 200)

    assert sorted(effects()) == list(range(200))
    assert one.progress.handled
    assert two.progress.handled


def test_a_prefix_keeps_two_environments_apart(
    queue: Queue, handling: Handling, broker_url: str
) -> None:
    """With the same group on the same exchange, each has a queue and gets every message."""
    handling()
    staging = make_queue(broker_url, queue.name, QUEUE_PREFIX="staging.")
    queue.declare()
    staging.declare()
    try:
        queue.publish(happened(1))

        assert (queue.ready(), staging.ready()) == (1, 1)
        assert staging.drain().progress.handled == 1
        assert (queue.ready(), staging.ready()) == (1, 0)
    finally:
        staging.delete()


# --- Failed messages ----------------------------------------------------------------------------


def test_a_failed_message_is_tried_again_until_it_is_handled(
    queue: Queue, handling: Handling
) -> None:
    """By the consumer itself, without another delivery."""
    attempts = Attempts()
    handling(attempts, retry=RetryPolicy(attempts=50, base=0.1, cap=0.1))
    queue.declare()
    queue.publish(happened(-1))

    with queue.consuming() as consumer:
        until(lambda: len(attempts.times) >= 3)
        attempts.broken = False
        until(lambda: consumer.progress.handled)

    assert effects() == [-1]
    assert consumer.progress.received == 1
    assert Receipt.objects.get().attempts == len(attempts.times)


def test_another_consumer_of_the_group_takes_over_what_is_due(
    queue: Queue, handling: Handling
) -> None:
    """A failure belongs to no process: the one that met it may be gone."""
    attempts = Attempts()
    handling(attempts)
    queue.declare()
    queue.publish(happened(-1))
    queue.drain()
    attempts.broken = False
    make_due()

    assert queue.drain().progress.handled == 1
    assert effects() == [-1]


def test_a_failing_message_does_not_hold_up_others(queue: Queue, handling: Handling) -> None:
    """While it waits for its next attempt, the queue flows."""
    handling(Attempts(), retry=RetryPolicy(base=3600, cap=3600))
    queue.declare()
    queue.publish(happened(-1))

    with queue.consuming() as consumer:
        until(lambda: consumer.progress.retrying)
        queue.publish(*[happened(number) for number in range(50)])
        until(lambda: consumer.progress.handled == 50)

    assert effects() == list(range(50))


def test_a_backlog_of_retries_does_not_starve_fresh_messages(
    queue: Queue, handling: Handling
) -> None:
    """While hundreds are due, a batch is received between two turns."""
    handled: list[int] = []
    handling(lambda event, message: handled.append(event.number), name="seen")
    old = [happened(number) for number in range(500)]
    broken = handling(Attempts(), name="broken")
    for start in range(0, 500, 100):
        receive(*[replace_number(each) for each in old[start : start + 100]], group=queue.name)
    handlers.remove("broken")
    assert broken.function.broken  # type: ignore[attr-defined]
    handling(lambda event, message: handled.append(event.number), name="broken")
    handled.clear()
    make_due()
    queue.declare()
    queue.publish(*[happened(1000 + number) for number in range(10)])

    queue.drain()

    assert len(handled) == 500 + 2 * 10
    last_fresh = max(index for index, number in enumerate(handled) if number >= 1000)
    assert last_fresh < 350


def replace_number(message: Envelope) -> Envelope:
    """Make a message one that Attempts fails on."""
    return msgspec.structs.replace(message, data=b'{"key":"k","number":-1}')


def test_an_idle_consumer_looks_for_what_is_due_once_a_second(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with every batch: under load it is one statement a second more."""
    handling()
    queue.declare()
    looked: list[float] = []
    original = Ledger.due

    def due(ledger: Ledger, *arguments: Any) -> Any:
        looked.append(time.monotonic())
        return original(ledger, *arguments)

    monkeypatch.setattr(Ledger, "due", due)
    with queue.consuming(PREFETCH=1) as consumer:
        until(lambda: len(looked) >= 2)
        queue.publish(*[happened(number) for number in range(100)])
        until(lambda: consumer.progress.batches >= 100)
        until(lambda: len(looked) >= 4)

    gaps = [b - a for a, b in itertools.pairwise(looked)]
    assert min(gaps) >= consumer_module.TURN_EVERY


def test_retries_go_on_while_the_broker_is_away(handling: Handling) -> None:
    """They need the database only."""
    handling(Mended())
    queue = make_queue("amqp://guest:guest@127.0.0.1:1//", RETRY_MAX=60)
    handling.forget()
    handling.group = queue.name
    handling(Mended())
    receive(happened(1), group=queue.name)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        with in_thread(consumer.run):
            until(lambda: consumer.progress.away == "broker")
            make_due()
            until(lambda: consumer.progress.handled == 1)
            shutdown.request()

    assert effects() == [1]


# --- Stopping -----------------------------------------------------------------------------------


def test_until_empty_says_whether_all_was_handled(queue: Queue, handling: Handling) -> None:
    """False if something has come to be retrying or dead in this run, and still is."""
    broken = True

    def function(event: Happened, message: Envelope) -> None:
        if broken:
            raise Retry(after=3600)  # a random pause might be over within the run
        record(event, message)

    handling(function)
    queue.declare()
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is True
        queue.publish(happened(-1))
        assert queue.consumer(shutdown).run(until_empty=True) is False
        assert queue.consumer(shutdown).run(until_empty=True) is True  # nothing new
        make_due()
        assert queue.consumer(shutdown).run(until_empty=True) is False
        make_due()
        broken = False
        assert queue.consumer(shutdown).run(until_empty=True) is True

    assert effects() == [-1]


def test_until_empty_is_content_with_a_failure_that_heals(queue: Queue, handling: Handling) -> None:
    """It goes on as long as anything is due."""
    handling(Mended(), retry=RetryPolicy(base=1e-6, cap=1e-6))
    queue.declare()
    queue.publish(happened(1))
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is True

    assert effects() == [1]


@pytest.mark.parametrize("what", ["type", "data"])
def test_until_empty_tells_of_the_dead(what: str, queue: Queue, handling: Handling) -> None:
    """Whether a handler could not use a message, or no handler could."""
    handling(pattern="tests.#", version=1)
    queue.declare()
    if what == "data":
        queue.publish(happened(data=b"{"))
    else:
        queue.publish(happened(version=2))
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is False


@postgresql
def test_a_stop_finishes_the_batch(queue: Queue, handling: Handling) -> None:
    """What has begun is committed and acknowledged; the rest stays in the queue."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(30)])

    with closing_shutdown() as shutdown, sessions(1) as [blocker]:
        blocker.begin()
        blocker.run(block_effects)
        with in_thread(lambda: queue.consumer(shutdown, PREFETCH=10).run()) as background:
            until(waiting_for_lock)
            shutdown.request()
            blocker.commit()
        assert background.get() is True

    handled = len(effects())
    assert 1 <= handled <= 10
    until(lambda: queue.ready() == 30 - handled)
    assert queue.drain().progress.duplicates == 0
    assert effects() == list(range(30))


def test_a_stop_interrupts_an_outage(handling: Handling) -> None:
    """A consumer that waits for its broker ends at once."""
    handling()
    queue = make_queue("amqp://guest:guest@127.0.0.1:1//", RETRY_MAX=60)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        with in_thread(consumer.run) as background:
            until(lambda: consumer.progress.away)
            shutdown.request()
        assert background.get() is True


def test_an_exchange_of_another_kind_ends_the_consumer(queue: Queue, handling: Handling) -> None:
    """Waiting would not help: the error says what to do."""
    handling()
    with queue.channel() as channel:
        channel.exchange_declare(queue.exchange, "direct", durable=True, auto_delete=False)

    with pytest.raises(ConfigurationError, match="not a durable topic exchange"):
        queue.drain()


# --- Outages ------------------------------------------------------------------------------------


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

    [said] = told("The broker is away")
    assert "was queue" in said
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
            until(lambda: consumer._outages > 5)
            shutdown.request()

    [said] = told("The broker is away")
    assert "(amqp://127.0.0.1:1//;amqp://localhost:1/other)" in said
    assert "Nothing is lost" in said
    assert "secret" not in said


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
            until(lambda: consumer._outages > 2)
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
            until(lambda: consumer.progress.away == "database" and consumer._outages > 5)
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


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


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
            until(lambda: consumer.progress.away == "database" and consumer._outages > 2)
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


def exists_session(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None


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
    """A handler that uses a second database fails once, not until the process is restarted."""
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

    handling(use_second)
    queue.declare()
    try:
        queue.publish(happened(1))
        queue.drain()
        terminate(pids[0])
        queue.publish(happened(2))
        assert queue.drain().progress.retrying == 1
        make_due()
        queue.drain()
    finally:
        second.close()
        del connections["second"]
        del connections.settings["second"]

    assert effects() == [1, 2]
    assert len(set(pids)) == 2


# --- Long work ---------------------------------------------------------------


@pytest.mark.slow
def test_heartbeats_go_on_while_a_handler_runs(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Six seconds of work, a heartbeat of two: the broker keeps the connection."""
    handling(lambda event, message: time.sleep(6))
    queue.declare()
    queue.publish(happened(1))

    with queue.consuming(HEARTBEAT=2) as consumer:
        until(lambda: consumer.progress.handled == 1)
        until(lambda: queue.consumers() == 1)
        handled_at = time.monotonic()
        # Long enough for either side to notice a heartbeat that was missed meanwhile.
        until(lambda: time.monotonic() - handled_at > 3)

    assert told("The broker is away") == []
    assert (consumer.progress.received, consumer.progress.duplicates) == (1, 0)
    assert queue.ready() == 0


def test_no_thread_is_left_behind(queue: Queue, handling: Handling) -> None:
    """Neither after an orderly end nor after an outage."""
    handling()
    queue.drain()

    assert not heartbeats()


def heartbeats() -> list[threading.Thread]:
    """Return the threads that send heartbeats for consumers of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "inbox-heartbeat"]


def test_an_outage_of_one_does_not_hide_that_of_the_other(
    handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Broker and database are told apart."""
    with closing_shutdown() as shutdown:
        consumer: Consumer = make_queue("amqp://127.0.0.1:1//").consumer(shutdown)
        for what in ("broker", "broker", "database", "database"):
            consumer._away(what, "gone")
        consumer._back("broker")
        assert consumer.progress.away == "database"
        consumer._back("database")

    assert len(told("The broker is away")) == len(told("The database is away")) == 1
    assert told("The database is back after 2 attempts")
    assert consumer.progress.away == ""


@postgresql
def test_an_unmigrated_database_is_an_error(queue: Queue, handling: Handling) -> None:
    """Waiting would not help: the error goes up, and the messages stay in the queue."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_inbox_receipt RENAME TO elsewhere")
    try:
        with pytest.raises(ProgrammingError, match="django_inbox_receipt"):
            queue.drain()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_inbox_receipt")

    until(lambda: queue.ready() == 1)


# --- Housekeeping ---------------------------------------------------------------------------


def old_receipts(count: int) -> None:
    changed = timezone.now() - timedelta(days=40)
    Receipt.objects.bulk_create(
        Receipt(handler="gone", source="/s", message_id=f"m{number}", type="t", changed=changed)
        for number in range(count)
    )


@override_settings(OUTBOX={"RETENTION": None})
def test_a_consumer_prunes_what_the_inbox_owns(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any relay, and while its queue is idle; batch by batch, never what is young."""
    monkeypatch.setattr(housekeeping, "BATCH", 4)
    handling()
    old_receipts(10)
    queue.declare()
    with (
        closing_shutdown() as shutdown,
        in_thread(queue.consumer(shutdown, PRUNE_INTERVAL=0.1).run),
    ):
        until(lambda: not Receipt.objects.exists())
        queue.publish(happened(1))
        until(lambda: effects() != [])
        shutdown.request()

    assert states() == ["processed"]


def test_a_consumer_that_is_told_not_to_prune(queue: Queue, handling: Handling) -> None:
    """PRUNE_INTERVAL of 0: outbox_prune or a relay does."""
    handling()
    old_receipts(1)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown, PRUNE_INTERVAL=0)
        assert consumer.run(until_empty=True) is True

    assert Receipt.objects.exists()


def test_a_consumer_goes_on_if_it_cannot_prune(
    queue: Queue,
    handling: Handling,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[str], list[str]],
) -> None:
    """It says so, and tries again in the next round."""

    def broken(using: str, **_: Any) -> int:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        return 0

    handling()
    monkeypatch.setattr(retention, "owned", lambda: [Pruner(name="receipts", prune=broken)])
    queue.declare()
    with (
        closing_shutdown() as shutdown,
        in_thread(queue.consumer(shutdown, PRUNE_INTERVAL=0.1).run),
    ):
        until(lambda: len(told("Housekeeping is put off")) > 1)
        queue.publish(happened(1))
        until(lambda: effects() != [])
        shutdown.request()


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
        until(lambda: "dead" in states())

    assert effects() == [0, 2]
    assert states() == ["processed", "dead", "processed"]
    assert queue.ready() == 0

"""manage.py consume: its options, its errors, and how it ends."""

import json
import signal
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from inbox.handlers import registry
from inbox.handlers.registry import HandlerRegistry
from tests.inbox.support import (
    Handling,
    Queue,
    block_effects,
    effects,
    happened,
    postgresql,
    waiting_for_lock,
)
from tests.kit.processes import Process, run
from tests.kit.sessions import sessions
from tests.kit.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def environment(queue: Queue, database_url: str, handling: Handling) -> dict[str, str]:
    """What makes a process consume the queue of this test; the queue exists."""
    handling(name="bound")
    queue.declare()
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        "TEST_INBOX": json.dumps({"PREFETCH": 10}),
    }


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> HandlerRegistry:
    """A registry without the handlers of the installed apps."""
    empty = HandlerRegistry()
    monkeypatch.setattr("inbox.handlers.groups.handlers", empty)
    monkeypatch.setattr("inbox.consumer.handlers", empty)
    return empty


def call(**options: Any) -> str:
    stdout = StringIO()
    call_command("consume", stdout=stdout, **options)
    return stdout.getvalue()


# --- Processes ------------------------------------------------------------


@postgresql
def test_until_empty_handles_the_queue_and_exits_0(
    queue: Queue, environment: dict[str, str]
) -> None:
    """The last line is one JSON object with the figures."""
    queue.publish(*[happened(number) for number in range(25)])

    code, output = run("consume", "--group", queue.name, "--until-empty", **environment)

    assert code == 0, output
    assert effects() == list(range(25))
    figures = json.loads(output.splitlines()[-1])
    assert (figures["message"], figures["group"]) == ("stopped", queue.name)
    assert (figures["received"], figures["handled"], figures["dead"]) == (25, 25, 0)
    assert queue.ready() == 0


@postgresql
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_batch_and_exits_0(
    number: signal.Signals, queue: Queue, environment: dict[str, str]
) -> None:
    """What has begun is committed and acknowledged, the rest stays in the queue."""
    queue.publish(*[happened(number) for number in range(30)])

    with (
        sessions(1) as [blocker],
        Process("consume", "--group", queue.name, **environment) as process,
    ):
        blocker.begin()
        blocker.run(block_effects)
        process.wait_for(waiting_for_lock)
        process.send(number)
        blocker.commit()
        assert process.wait() == 0, process.output

    handled = len(effects())
    assert 1 <= handled <= 20
    until(lambda: queue.ready() == 30 - handled)


@postgresql
def test_a_second_signal_exits_at_once(queue: Queue, environment: dict[str, str]) -> None:
    """In the middle of a batch: nothing of it has happened, and all comes again."""
    queue.publish(*[happened(number) for number in range(5)])

    with (
        sessions(1) as [blocker],
        Process("consume", "--group", queue.name, **environment) as process,
    ):
        blocker.begin()
        blocker.run(block_effects)
        process.wait_for(waiting_for_lock)
        process.send(signal.SIGTERM)
        process.send(signal.SIGINT)
        assert process.wait() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        assert "Second signal" in process.output

    until(lambda: queue.ready() == 5)
    assert effects() == []


@postgresql
def test_an_idle_consumer_stops_on_a_signal(queue: Queue, environment: dict[str, str]) -> None:
    """Without waiting for a message."""
    with Process("consume", "--group", queue.name, **environment) as process:
        process.wait_for(queue.consumers)
        process.send(signal.SIGTERM)
        assert process.wait(10) == 0, process.output


# --- In this process ------------------------------------------------------


@pytest.fixture
def settled(queue: Queue) -> Iterator[Queue]:
    """The queue of the test, as the settings' own."""
    with override_settings(INBOX={"URL": queue.url, "EXCHANGE": queue.exchange}):
        yield queue


def test_the_only_group_need_not_be_named(settled: Queue, only: HandlerRegistry) -> None:
    """One group of handlers leaves nothing to choose."""
    only.add(registry.Handler(name="n", pattern="a", function=print, declared_group=settled.name))

    assert json.loads(call(until_empty=True).splitlines()[-1])["group"] == settled.name


def test_all_groups_are_consumed_unless_some_are_named(
    settled: Queue, only: HandlerRegistry
) -> None:
    """The figures are those of all, and of each."""
    names = [f"{settled.name}-{letter}" for letter in "abc"]
    for name in names:
        only.add(registry.Handler(name=name, pattern="x", function=print, declared_group=name))
    try:
        every = json.loads(call(until_empty=True).splitlines()[-1])
        some = json.loads(call(until_empty=True, group=names[:2]).splitlines()[-1])
    finally:
        with settled.channel() as channel:
            for name in names:
                channel.queue_delete(name)

    assert list(every["groups"]) == names
    assert every["received"] == every["groups"][names[0]]["received"] == 0
    assert list(some["groups"]) == names[:2]


def test_an_unknown_group_is_refused(only: HandlerRegistry) -> None:
    """The error lists those that there are."""
    only.add(registry.Handler(name="n", pattern="x", function=print, declared_group="a"))

    with pytest.raises(CommandError, match=r"No handlers in group 'z'\. Groups: a\."):
        call(group=["a", "z"])


@pytest.mark.parametrize("group", [None, "a", ["a", "b"]])
def test_without_handlers_it_says_how_to_write_one(
    group: str | list[str] | None, only: HandlerRegistry
) -> None:
    """There is nothing to bind a queue for."""
    with pytest.raises(CommandError, match=r"No handlers are registered.*@inbox\.handler"):
        call(group=group)


def test_without_a_broker_it_says_what_to_do(handling: Handling) -> None:
    """The local broker needs no consumer; another one needs a URL."""
    handling()
    with (
        override_settings(INBOX={}, RELAYS={}),
        pytest.raises(CommandError, match=r"no broker to consume from.*manage\.py relay.*INBOX"),
    ):
        call(group="g")


def test_a_failed_message_makes_it_exit_1(settled: Queue, handling: Handling) -> None:
    """With --until-empty somebody waits for the answer."""

    def refuse(event: object, message: object) -> None:
        raise ValueError

    handling(refuse)
    settled.declare()
    settled.publish(happened())

    with pytest.raises(CommandError, match="Not everything could be handled"):
        call(group=settled.name, until_empty=True)


def test_an_exchange_of_another_kind_is_an_error(settled: Queue, handling: Handling) -> None:
    """Told in a sentence, without a traceback."""
    handling()
    with settled.channel() as channel:
        channel.exchange_declare(settled.exchange, "fanout", durable=True, auto_delete=False)

    with pytest.raises(CommandError, match="not a durable topic exchange"):
        call(group=settled.name, until_empty=True)


@postgresql
def test_an_unmigrated_database_is_an_error(settled: Queue, handling: Handling) -> None:
    """It says which command is missing."""
    handling()
    settled.declare()
    settled.publish(happened())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_inbox_receipt RENAME TO elsewhere")
    try:
        with pytest.raises(CommandError, match=r"manage\.py migrate"):
            call(group=settled.name, until_empty=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_inbox_receipt")


def test_the_signals_are_given_back(settled: Queue, handling: Handling) -> None:
    """A process that calls the command goes on as before."""
    handling()
    before = signal.getsignal(signal.SIGTERM)

    call(group=settled.name, until_empty=True)

    assert signal.getsignal(signal.SIGTERM) == before


def test_settings_that_cannot_work_are_an_error(handling: Handling) -> None:
    """Told in a sentence, without a traceback."""
    handling()
    with (
        override_settings(INBOX={"PREFETCH": 0}),
        pytest.raises(CommandError, match="PREFETCH"),
    ):
        call(group="g")


def test_an_absent_broker_makes_it_exit_1(handling: Handling) -> None:
    """With --until-empty it does not wait for its return."""
    handling()
    with (
        override_settings(INBOX={"URL": "amqp://guest:guest@127.0.0.1:1//"}),
        pytest.raises(CommandError, match="Not everything"),
    ):
        call(group="g", until_empty=True)


@pytest.mark.parametrize("groups", [["one"], ["one", "two"]])
def test_an_outage_names_the_group_where_there_are_several(
    groups: list[str], handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """With a single one there is nothing to tell apart."""
    for group in groups:
        handling(name=group, declared_group=group)
    with (
        override_settings(INBOX={"URL": "amqp://guest:guest@127.0.0.1:1//"}),
        pytest.raises(CommandError, match="Not everything could be handled"),
    ):
        call(groups=groups, until_empty=True)

    said = sorted(text for text in caplog.messages if "The broker is away" in text)
    starts = [f"Group {each}: The broker" for each in groups] if len(groups) > 1 else ["The broker"]
    assert len(said) == len(starts)
    assert all(text.startswith(start) for text, start in zip(said, starts, strict=True))

"""Exchange, queue and bindings on a real broker."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

from inbox.conf import InboxSettings
from inbox.topology import queue_arguments, queue_name, routing_keys
from outbox.exceptions import ConfigurationError
from tests.inbox.support import Handling, Queue, happened
from tests.support import Registered


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("version", "unlimited"),
    [
        ("3.10.8", False),
        ("3.13.7", False),
        ("4.0.0", True),
        ("4.1.0-rc.1", True),
        ("4", True),
        ("10.2", True),
        ("", False),
        ("unknown", False),
        ("v4.0", False),
        (".4", False),
        (None, False),
        (4, True),
    ],
)
def test_rabbitmq_4_is_told_not_to_drop(version: Any, unlimited: bool) -> None:
    """From version 4 on a quorum queue drops after 20 deliveries, unless its arguments forbid."""
    server = {} if version is None else {"version": version}
    connection: Any = SimpleNamespace(connection=SimpleNamespace(server_properties=server))

    arguments = queue_arguments(connection)

    assert arguments.pop("x-queue-type") == "quorum"
    assert arguments == ({"x-delivery-limit": -1} if unlimited else {})


@pytest.mark.sqlite
def test_a_queue_is_named_like_its_group_behind_the_prefix() -> None:
    """As INBOX says, unless other settings are given."""
    assert queue_name("billing") == "billing"
    with override_settings(INBOX={"QUEUE_PREFIX": "staging."}):
        assert queue_name("billing") == "staging.billing"
        assert queue_name("billing", InboxSettings(QUEUE_PREFIX="test:")) == "test:billing"


@pytest.mark.sqlite
def test_topics_of_their_own_are_bound_as_well(handling: Handling, registered: Registered) -> None:
    """The routing key is the topic, which need not be the type that a handler names."""
    registered("tests.moved", topic="elsewhere.moved")
    registered("tests.staying")
    handlers = [
        handling(name="a", pattern="tests.moved"),
        handling(name="b", pattern="tests.other"),
    ]

    assert routing_keys(handlers) == {"tests.moved", "elsewhere.moved", "tests.other"}
    assert routing_keys(handlers[1:]) == {"tests.other"}


def test_a_quorum_queue_is_declared_and_bound(queue: Queue, handling: Handling) -> None:
    """One durable queue for the group, one binding for each pattern of its handlers."""
    handling(name="a", pattern="tests.one")
    handling(name="b", pattern="tests.*.two")
    handling(name="elsewhere", pattern="tests.three", declared_group="other")
    queue.declare()

    for topic in ("tests.one", "tests.x.two", "tests.three", "tests.one.more"):
        queue.publish(happened(topic=topic))

    assert queue.ready() == 2
    with queue.channel() as channel:
        # Declaring the same again is allowed, anything else is not.
        channel.queue_declare(
            queue.name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        channel.exchange_declare(queue.exchange, "topic", durable=True, auto_delete=False)


def test_declaring_twice_changes_nothing(queue: Queue, handling: Handling) -> None:
    """Every consumer of a group declares at its start."""
    handling()
    queue.declare()
    queue.publish(happened())
    queue.declare()

    assert queue.ready() == 1


def test_an_event_with_a_topic_of_its_own_reaches_its_handler(
    queue: Queue, handling: Handling, registered: Registered
) -> None:
    """A handler names the type; the queue gets the topic."""
    event_type = registered("tests.moved", topic="elsewhere.moved")
    handling(pattern=event_type.name)
    queue.declare()

    queue.publish(happened(type="tests.moved", topic="elsewhere.moved"))

    assert queue.ready() == 1


def test_a_queue_with_other_arguments_is_used_as_it_is(
    queue: Queue, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator may have reasons; a warning says so."""
    handling()
    with queue.channel() as channel:
        channel.queue_declare(
            queue.name, durable=True, auto_delete=False, arguments={"x-max-length": 1000}
        )

    queue.declare()
    queue.publish(happened())

    assert queue.ready() == 1
    [warning] = [r for r in caplog.records if r.name == "inbox"]
    assert warning.levelname == "WARNING"
    assert queue.name in warning.getMessage()
    assert "used as it is" in warning.getMessage()


def test_an_exchange_of_another_kind_is_refused(queue: Queue, handling: Handling) -> None:
    """The error says what is wrong and what to do."""
    handling()
    with queue.channel() as channel:
        channel.exchange_declare(queue.exchange, "fanout", durable=True, auto_delete=False)
        channel.queue_declare(queue.name)

    with pytest.raises(ConfigurationError, match="not a durable topic exchange") as caught:
        queue.declare()

    assert queue.exchange in str(caught.value)
    assert "INBOX['EXCHANGE']" in str(caught.value)

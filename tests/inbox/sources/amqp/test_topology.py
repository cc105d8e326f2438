"""Exchange, queue and bindings on a real broker."""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.exceptions import AccessRefused
from django.test import override_settings
from kombu import Connection

from inbox.conf import InboxSettings
from inbox.handlers.topics import topics_of
from inbox.sources.amqp.topology import declare, queue_arguments, queue_exists, queue_name
from outbox.exceptions import ConfigurationError
from tests.inbox.support import HAPPENED, Handling, Queue, happened, topics_of_group
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.support import Registered
from tests.kit.waiting import until


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

    assert topics_of(handlers) == {"tests.moved", "elsewhere.moved", "tests.other"}
    assert topics_of(handlers[1:]) == {"tests.other"}


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


def test_an_exchange_with_arguments_of_an_operator_is_used_as_it_is(
    queue: Queue, handling: Handling
) -> None:
    """An alternate exchange, say: what we did not ask for is none of our business."""
    handling()
    with queue.channel() as channel:
        channel.exchange_declare(
            queue.exchange,
            "topic",
            durable=True,
            auto_delete=False,
            arguments={"alternate-exchange": "amq.fanout"},
        )
    queue.declare()
    queue.publish(happened())

    assert queue.ready() == 1


class User:
    """A user of a RabbitMQ node of our own, who may do only what a test says."""

    def __init__(self, node: RabbitNode) -> None:
        self._node = node
        self._name = f"user-{uuid.uuid4().hex[:8]}"
        node.ctl("add_user", self._name, "secret")
        self.url = node.url.replace("guest:guest", f"{self._name}:secret")

    def may(
        self,
        *,
        configure: str = "^$",
        write: str = "^$",
        read: str = "^$",
        exchange: str = "",
        topics: str = "",
    ) -> None:
        """Give rights; of an exchange that is named only to what matches `topics`."""
        self._node.ctl("set_permissions", self._name, configure, write, read)
        if exchange:
            self._node.ctl("set_topic_permissions", self._name, exchange, topics, topics)


@pytest.mark.slow
def test_what_is_there_needs_no_right_to_configure_or_bind(
    rabbit_node: RabbitNode, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Queue and bindings are an administrator's: used, with a warning that names what to bind."""
    handling()
    name = f"rights-{uuid.uuid4().hex}"
    user = User(rabbit_node)
    topics = topics_of_group(handling.group)
    options: dict[str, Any] = {"exchange": name, "queue": name, "topics": topics}
    with Connection(rabbit_node.url) as admin, Connection(user.url) as connection:
        channel: Any = admin.channel()
        try:
            user.may(read=f"^{name}$")
            assert not queue_exists(connection, name)
            with pytest.raises(AccessRefused, match=name):
                declare(connection, **options)
            declare(admin, **options)
            assert not caplog.records
            assert queue_exists(connection, name)

            declare(connection, **options)
            consuming: Any = connection.channel()
            consuming.basic_cancel(consuming.basic_consume(name))

            [warning] = caplog.records
            assert "may not bind" in warning.getMessage()
            assert repr(HAPPENED) in warning.getMessage()
            user.may(write=f"^{name}$", read=f"^{name}$")
            declare(connection, **options)
            assert len(caplog.records) == 1
            user.may(read=f"^{name}$")
            declare(connection, **options, gone=["tests.gone"])
            assert "may not unbind" in caplog.records[-1].getMessage()
        finally:
            channel.queue_delete(name)
            channel.exchange_delete(name)


@pytest.mark.slow
def test_what_is_refused_is_not_returned_and_stops_nothing(
    rabbit_node: RabbitNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several topics one may be forbidden: the others are bound, or unbound, all the same."""
    name = f"rights-{uuid.uuid4().hex}"
    user = User(rabbit_node)
    names: dict[str, Any] = {"exchange": name, "queue": name}
    with Connection(rabbit_node.url) as admin, Connection(user.url) as connection:
        channel: Any = admin.channel()
        try:
            declare(admin, **names, topics=["a.gone", "b.gone"])
            user.may(write=f"^{name}$", read=f"^{name}$", exchange=name, topics="^b")
            declared = declare(
                connection, **names, topics=["a.new", "b.new"], gone=["a.gone", "b.gone"]
            )
            for topic in ("a.new", "b.new", "a.gone", "b.gone"):
                channel.basic_publish_confirm(Message(topic), exchange=name, routing_key=topic)
            arrived: list[str] = []

            def take() -> bool:
                if found := channel.basic_get(name, no_ack=True):
                    arrived.append(found.body)
                return len(arrived) == 2

            until(take)
            assert channel.basic_get(name) is None
        finally:
            channel.queue_delete(name)
            channel.exchange_delete(name)

    assert declared == ({"b.new"}, {"b.gone"})
    assert arrived == ["b.new", "a.gone"]
    bind, unbind = [each.getMessage() for each in caplog.records]
    assert "may not bind" in bind
    assert "bind it for 'a.new';" in bind
    assert "may not unbind" in unbind
    assert unbind.endswith("unbind it from 'a.gone'.")


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

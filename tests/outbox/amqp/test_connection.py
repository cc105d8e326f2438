"""Connections to AMQP brokers, and what is told of those that do not come about."""

import socket
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from amqp.exceptions import AccessRefused, AMQPError, ConnectionForced, NotAllowed

from outbox.amqp import connection as amqp
from outbox.amqp.transport import TCP, TLS
from tests.kit.services.tls import in_the_middle

TIMES: Any = {"name": "test", "connect_timeout": 5, "socket_timeout": 5, "heartbeat": 0}


def test_what_a_broker_refuses_is_told(broker_url: str) -> None:
    """A wrong password and a wrong virtual host, in words and without a secret."""
    parts = urlsplit(broker_url)
    where = f"{parts.hostname}:{parts.port}"
    for url, told in {
        f"amqp://{parts.username}:hunter2@{where}//": "user name or password is refused (ACCESS_",
        f"amqp://{parts.username}:{parts.password}@{where}/nope": "the virtual host is refused",
    }.items():
        with pytest.raises(AMQPError) as caught:
            amqp.connect(url, name="test", connect_timeout=5, socket_timeout=5, heartbeat=0)
        found = amqp.refusal(caught.value)
        assert found.startswith(told)
        assert "hunter2" not in found


def test_of_a_list_each_is_its_own(broker_url: str) -> None:
    """kombu keeps port, virtual host and the way of reading of the first one, which is away."""
    parts = urlsplit(broker_url)
    where = f"{parts.hostname}:{parts.port}"
    url = f"amqp://nobody:x@127.0.0.1:1/nowhere;amqp://{parts.username}:{parts.password}@{where}"
    connection = amqp.connect(url, **TIMES)
    try:
        assert isinstance(connection.connection.transport, TCP)
        assert connection.connection.virtual_host == "/"
    finally:
        amqp.drop(connection)


def test_a_url_without_a_port_means_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever port the one before it has, and however it is encrypted."""
    tried = []

    def connect(self: Any, host: str, port: int, timeout: float) -> None:
        tried.append((host, port, type(self)))
        raise ConnectionRefusedError

    monkeypatch.setattr("amqp.transport._AbstractTransport._connect", connect)
    with pytest.raises(ConnectionRefusedError):
        amqp.connect("amqps://a;amqp://b:1;amqp://c;AMQPS://d", **TIMES)

    assert tried == [("a", 5671, TLS), ("b", 1, TCP), ("c", 5672, TCP), ("d", 5671, TLS)]


def test_an_address_of_ipv6(broker_url: str) -> None:
    """In brackets, as it is shown too."""
    [server] = amqp.read(broker_url)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with in_the_middle(server.port or 5672, host="::1") as middle:
        url = f"amqp://{server.user}:{server.password}@[::1]:{middle.port}//"
        amqp.drop(amqp.connect(url, **TIMES))

    assert amqp.address(url) == f"amqp://[::1]:{middle.port}//"


def test_permissions_are_told_too() -> None:
    """Such as a user who may not declare the exchange."""
    said = "ACCESS_REFUSED - configure access to exchange 'events' in vhost '/' refused for 'a'"
    assert amqp.refusal(AccessRefused(said)).startswith(f"permission is refused ({said})")


IN = "exchange 'shop.events' in vhost '/' refused for user 'a b'"


@pytest.mark.parametrize(
    ("exc", "command"),
    [
        (
            AccessRefused(f"ACCESS_REFUSED - configure access to {IN}"),
            r"rabbitmqctl set_permissions -p / 'a b' '^shop\.events$' WRITE READ",
        ),
        (
            AccessRefused(f"ACCESS_REFUSED - write access to {IN}"),
            r"rabbitmqctl set_permissions -p / 'a b' CONFIGURE '^shop\.events$' READ",
        ),
        (
            AccessRefused(
                "ACCESS_REFUSED - read access to queue 'q' in vhost 'v' refused for user 'a'"
            ),
            "rabbitmqctl set_permissions -p v a CONFIGURE WRITE '^q$'",
        ),
        (
            AccessRefused(f"ACCESS_REFUSED - access to {IN}", (60, 40)),
            r"rabbitmqctl set_permissions -p / 'a b' CONFIGURE '^shop\.events$' READ",
        ),
        (
            AccessRefused(
                "ACCESS_REFUSED - access to queue 'q' in vhost 'v' refused for user 'a'", (50, 20)
            ),
            "rabbitmqctl set_permissions -p v a CONFIGURE '^q$' READ",
        ),
        (
            AccessRefused(f"ACCESS_REFUSED - access to topic 'a.b' in {IN}", (60, 40)),
            r"rabbitmqctl set_topic_permissions -p / 'a b' shop.events '^a\.b$' READ",
        ),
        (
            AccessRefused(f"ACCESS_REFUSED - write access to topic 'a.b' in {IN}"),
            r"rabbitmqctl set_topic_permissions -p / 'a b' shop.events '^a\.b$' READ",
        ),
        (
            NotAllowed("NOT_ALLOWED - access to vhost 'v' refused for user 'a'"),
            "rabbitmqctl set_permissions -p v a CONFIGURE WRITE READ",
        ),
        (NotAllowed("NOT_ALLOWED - vhost v not found"), "rabbitmqctl add_vhost v"),
        (
            AccessRefused("ACCESS_REFUSED - Login was refused using authentication mechanism X"),
            "rabbitmqctl add_user, or change_password",
        ),
    ],
    ids=str,
)
def test_a_refusal_names_the_command_that_mends_it(exc: Exception, command: str) -> None:
    """With the resource in its place, by what the broker says."""
    assert command in amqp.refusal(exc)


@pytest.mark.parametrize(
    "exc",
    [
        ConnectionForced("CONNECTION_FORCED - broker forced connection closure"),
        NotAllowed("NOT_ALLOWED - access to vhost '/' refused for user 'a': connection limit (1) "),
        NotAllowed("NOT_ALLOWED - vhost '/' is down"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("timed out"),
    ],
    ids=str,
)
def test_what_passes_by_itself_is_no_refusal(exc: Exception) -> None:
    """A broker that is away or at its limits is waited for."""
    assert amqp.refusal(exc) == ""


@pytest.mark.parametrize("raised", [OSError("broken pipe"), AMQPError("closed already")])
def test_a_connection_that_cannot_be_dropped_is_gone_all_the_same(raised: Exception) -> None:
    """Who drops it goes on with another one: nothing is raised."""
    connection = Mock(collect=Mock(side_effect=raised))

    amqp.drop(connection)

    connection.collect.assert_called_once()

"""Connections to AMQP brokers, and what is told of those that do not come about."""

from urllib.parse import urlsplit

import pytest
from amqp.exceptions import AccessRefused, AMQPError, ConnectionForced, NotAllowed

from outbox import amqp


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


def test_permissions_are_told_too() -> None:
    """Such as a user who may not declare the exchange."""
    said = "ACCESS_REFUSED - configure access to exchange 'events' in vhost '/' refused for 'a'"
    assert amqp.refusal(AccessRefused(said)).startswith(f"permission is refused ({said})")


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

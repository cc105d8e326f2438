"""What AMQP 0-9-1 tells about a broker without side effects: little, and honest about it."""

from collections.abc import Iterator, Mapping
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

from outbox.amqp import connection as amqp
from outbox.error_text import describe
from outbox.extensions.diagnosis import Finding, Level


def examine(
    relay: str, url: str, *, exchange: str, timeout: float, ssl: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Connect, and look whether the exchange exists; publishes and declares nothing.

    Without an exchange, where the relay carries tasks only, answering is all there is to tell.
    """
    address = amqp.address(url, ssl)
    try:
        connection = amqp.connect(
            url,
            name="django-outbox-inbox doctor",
            connect_timeout=timeout,
            socket_timeout=timeout,
            heartbeat=0,
            ssl=ssl,
        )
    except (AMQPError, OSError) as exc:
        refused = amqp.refusal(exc)
        what = "does not let us in" if refused else "cannot be reached"
        when = "when it does" if refused else "when the broker is back"
        yield Finding(
            level=Level.ERROR,
            id="relay.broker",
            title=f"Relay {relay!r}: the broker {what}",
            text=f"{address}: {refused or describe(exc)}",
            hint=f"Nothing is lost: the relay publishes everything {when}.",
        )
        return
    try:
        yield (
            _exchange(relay, address, exchange, connection)
            if exchange
            else Finding(
                level=Level.OK,
                id="relay.broker",
                title=f"Relay {relay!r}: broker",
                text=f"{address} answers. Queues of Celery tasks are declared when tasks are sent.",
            )
        )
    finally:
        amqp.drop(connection)


def _exchange(relay: str, address: str, exchange: str, connection: Connection) -> Finding:
    channel: Any = connection.channel()  # py-amqp's, beneath kombu's types
    try:
        channel.exchange_declare(exchange, "topic", passive=True)
    except NotFound:
        return Finding(
            level=Level.WARNING,
            id="relay.exchange",
            title=f"Relay {relay!r}: the exchange is missing",
            text=f"{address} has no exchange {exchange!r}, so no queue is bound to it either.",
            hint="The relay declares it when it connects; queues come with manage.py consume.",
        )
    except (AMQPError, OSError) as exc:
        return Finding(
            level=Level.ERROR,
            id="relay.exchange",
            title=f"Relay {relay!r}: the exchange cannot be used",
            text=f"{address}, exchange {exchange!r}: {amqp.refusal(exc) or describe(exc)}",
            hint="Check the permissions of the relay's user, and the exchange's type.",
        )
    return Finding(
        level=Level.OK,
        id="relay.broker",
        title=f"Relay {relay!r}: broker",
        text=(
            f"{address} answers and has the exchange {exchange!r}. Whether a queue is bound for "
            "every event type cannot be told over AMQP without publishing something: list the "
            f"bindings with rabbitmqctl list_bindings, source {exchange!r}."
        ),
    )

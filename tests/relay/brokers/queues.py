"""A queue of a test's own, and pages for it."""

import uuid

from kombu import Connection

from outbox.message.envelope import Envelope
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import Outcome, Status


def page(count: int, topic: str = "t", size: int = 2, key: str | None = None) -> list[Envelope]:
    data = b"x" * size
    return [
        Envelope(id=str(uuid.uuid4()), source="/t", type="t", data=data, topic=topic, key=key)
        for _ in range(count)
    ]


class Queue:
    """A queue of the test's own, bound to an exchange of its own."""

    def __init__(self, url: str, **arguments: object) -> None:
        self.url = url
        self.name = f"amqp-{uuid.uuid4()}"
        self.arguments = arguments

    def declare(self) -> None:
        with Connection(self.url) as connection:
            channel = connection.channel()
            channel.exchange_declare(self.name, "topic", durable=True, auto_delete=False)
            channel.queue_declare(
                self.name,
                durable=True,
                auto_delete=False,
                arguments={"x-queue-type": "quorum", **self.arguments},
            )
            channel.queue_bind(self.name, self.name, routing_key="t")

    def ids(self) -> list[str]:
        with Connection(self.url) as connection:
            channel = connection.channel()
            found = []
            while (raw := channel.basic_get(self.name, no_ack=True)) is not None:
                found.append(raw.properties["message_id"])
            return found

    def delete(self) -> None:
        with Connection(self.url) as connection:
            channel = connection.channel()
            channel.queue_delete(self.name)
            channel.exchange_delete(self.name)

    def broker(self, **options: object) -> AMQPBroker:
        return AMQPBroker.from_settings(
            self.url, {"EXCHANGE": self.name, **options}, using="default"
        )


def statuses(outcomes: list[Outcome]) -> set[Status]:
    return {outcome.status for outcome in outcomes}

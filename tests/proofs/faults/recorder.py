"""Record what is published: a queue of our own beside that of the consumers."""

import json
from typing import Any

from kombu import Connection

from tests.proofs.faults.history import Event
from tests.proofs.faults.service.vocabulary import CHANGED, HOPPED, RARE

TYPES = (CHANGED, RARE, HOPPED)


class Recorder:
    """A durable queue that gets a copy of everything, in the order in which the broker took it.

    It is bound to each type, not to all: with a queue for everything nothing would ever be
    unroutable.
    """

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self.queue = f"{exchange}-recorder"
        self.published: list[Event] = []
        self.complete = True
        """False once something may have been published that is not recorded."""
        with Connection(url) as link:
            channel: Any = link.channel()
            channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
            arguments = {"x-queue-type": "quorum"}
            channel.queue_declare(self.queue, durable=True, auto_delete=False, arguments=arguments)
        self.attach()

    @property
    def repeated(self) -> int:
        """How many of the recorded messages were there already."""
        return len(self.published) - len(set(self.published))

    def attach(self) -> None:
        with Connection(self._url) as link:
            for kind in TYPES:
                link.channel().queue_bind(self.queue, self._exchange, routing_key=kind)

    def detach(self) -> None:
        """Record nothing from now on, so that only the consumers' queue decides on routing."""
        self.complete = False
        with Connection(self._url) as link:
            for kind in TYPES:
                link.channel().queue_unbind(self.queue, self._exchange, routing_key=kind)

    def collect(self) -> None:
        """Take everything that has arrived into `published`."""
        with Connection(self._url) as link:
            channel: Any = link.channel()
            while waiting := channel.queue_declare(self.queue, passive=True).message_count:
                before = len(self.published)
                tag = channel.basic_consume(self.queue, callback=self._record, no_ack=True)
                while len(self.published) < before + waiting:
                    link.drain_events(timeout=10)
                # What was on its way arrives before the answer to this.
                channel.basic_cancel(tag)

    def close(self) -> None:
        """Remove the queue and the exchange."""
        with Connection(self._url) as link:
            channel: Any = link.channel()
            channel.queue_delete(self.queue)
            channel.exchange_delete(self._exchange)

    def _record(self, message: Any) -> None:
        headers, data = message.headers, json.loads(message.body)
        self.published.append(
            Event(
                headers["ce-type"],
                headers["ce-partitionkey"],
                data.get("version", 0),
                data["tag"],
            )
        )

"""Celery's other brokers, such as Redis: tasks are published by kombu, as Celery itself would.

Tasks only. Such a transport takes a message, and tells nothing of what becomes of it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from kombu import Connection
from kombu.common import maybe_declare
from kombu.exceptions import KombuError
from kombu.transport import TRANSPORT_ALIASES

from outbox.celery import wire
from outbox.celery.entities import entity
from outbox.conf import parse
from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError, UndecodableMessage
from relay.brokers.base import CONFIRMED, Broker, Outcome, Status

logger = logging.getLogger("relay")

AMQP = ("amqp", "amqps", "pyamqp", "librabbitmq")
LOSING = {
    "confluentkafka": "drops what its buffer holds, without a word",
    "filesystem": "lets a reader take files that are half written",
    "gcpubsub": "does not wait until a message is taken",
    "memory": "ends with the process of the relay",
    "sqlalchemy": "forgets what a worker has taken and not finished",
    "sqla": "forgets what a worker has taken and not finished",
}
"""Transports of kombu that no message may be given to, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KombuOptions:
    """OPTIONS of KombuBroker.

    TRANSPORT_OPTIONS: Celery's broker_transport_options: what names queues must be the same.
    CONNECT_TIMEOUT, SOCKET_TIMEOUT: bounds of connecting, and of one read or write, in seconds, as
        far as the transport knows them.
    SSL: Celery's broker_use_ssl.
    """

    TRANSPORT_OPTIONS: Mapping[str, Any] = field(default_factory=dict)
    CONNECT_TIMEOUT: float = 5.0
    SOCKET_TIMEOUT: float = 15.0
    SSL: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be positive")
        if not isinstance(self.TRANSPORT_OPTIONS, Mapping):
            raise ConfigurationError("TRANSPORT_OPTIONS must be a dict")


class KombuBroker(Broker):
    """Publishes Celery tasks by a transport of kombu: what it has taken without an error is done.

    Confirms nothing: a server that loses what it has acknowledged, as Redis may when it crashes,
    loses tasks. Whether there is a worker cannot be told either.
    """

    confirms: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    durable: ClassVar[bool] = False
    routable_check: ClassVar[bool] = False
    carries_events: ClassVar[bool] = False
    carries_tasks: ClassVar[bool] = True

    def __init__(self, url: str, options: KombuOptions) -> None:
        self._url = url
        self._options = options
        self._connection: Connection | None = None

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        scheme = url.partition("://")[0].partition("+")[0]
        if scheme not in TRANSPORT_ALIASES:
            raise ConfigurationError(
                "The broker's URL must begin with a transport of kombu, such as redis://"
            )
        if scheme in AMQP:
            raise ConfigurationError("Use relay.brokers.amqp.AMQPBroker for an AMQP broker")
        if scheme in LOSING:
            raise ConfigurationError(f"The transport {scheme!r} of kombu {LOSING[scheme]}")
        for each in url.split(";"):
            try:
                urlsplit(each).port  # noqa: B018 - it must be readable
            except ValueError:
                raise ConfigurationError(
                    "The broker's URL cannot be read: user and password must be percent-encoded"
                ) from None
        return cls(url, parse(KombuOptions, options, "OPTIONS"))

    @property
    def address(self) -> str:
        return ";".join(map(_address, self._url.split(";")))

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        try:
            channel = self._channel()
            for envelope in page:
                try:
                    outcomes.append(_publish(channel, envelope))
                except self._errors():
                    raise
                except Exception as exc:  # a transport's own, about one message: too large, say
                    outcomes.append(Outcome(Status.REFUSED, f"{type(exc).__name__}: {exc}"))
        except self._errors() as exc:
            self.close()
            lost = Outcome(Status.UNKNOWN, f"{type(exc).__name__}: {exc}")
            outcomes += [lost] * (len(page) - len(outcomes))
        return outcomes

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.collect(socket_timeout=1)
        except (KombuError, OSError):
            logger.debug("Error while dropping the broker connection", exc_info=True)

    def _channel(self) -> Any:
        if self._connection is None:
            options = self._options
            self._connection = Connection(
                self._url,
                connect_timeout=options.CONNECT_TIMEOUT,
                ssl=dict(options.SSL) if options.SSL is not None else False,
                transport_options={
                    "socket_connect_timeout": options.CONNECT_TIMEOUT,
                    "socket_timeout": options.SOCKET_TIMEOUT,
                    **options.TRANSPORT_OPTIONS,
                },
            )
            self._connection.ensure_connection(
                max_retries=1, interval_start=0, reraise_as_library_errors=False
            )
        return self._connection.default_channel

    def _errors(self) -> tuple[type[BaseException], ...]:
        """Return what says that the broker is away, in the words of its transport."""
        own = self._connection
        known = (*own.connection_errors, *own.channel_errors) if own else ()
        return (KombuError, OSError, *known)


def _publish(channel: Any, envelope: Envelope) -> Outcome:
    """Publish one task as kombu's Producer does, but for the serialising, which is done."""
    try:
        task = wire.decode(envelope.data)
    except UndecodableMessage as exc:
        return Outcome(Status.REFUSED, str(exc))
    for declared in task.declare:
        maybe_declare(entity(declared), channel)
    properties = dict(task.properties)
    message = channel.prepare_message(
        task.content,
        priority=properties.pop("priority", None),
        content_type=properties.pop("content_type", None),
        content_encoding=properties.pop("content_encoding", None),
        headers=dict(task.headers),
        properties=properties,
    )
    channel.basic_publish(message, exchange=task.exchange, routing_key=task.routing_key)
    return CONFIRMED


def _address(url: str) -> str:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

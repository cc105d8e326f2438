"""Celery's other brokers, such as Redis: tasks are published by kombu, as Celery itself would.

Tasks only. Such a transport takes a message, and tells nothing of what becomes of it.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from django.core.checks import CheckMessage
from kombu import Connection
from kombu.common import maybe_declare
from kombu.exceptions import KombuError, OperationalError
from kombu.transport import TRANSPORT_ALIASES

from outbox.amqp import exposure, urls
from outbox.celery.declarations import entity
from outbox.conf import flaws_in, parse, refuse
from outbox.error_text import describe, is_a, name_of, text_of
from outbox.exceptions import ConfigurationError, UndecodableMessage
from outbox.guards import guard
from outbox.message import celery_task
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, EXPOSURE, UNSENT, Broker, Outcome, Status, behind
from relay.brokers.kombu_servers import links, servers

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

OF_THE_SERVER = {
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "BusyLoadingError",
    "ClusterDownError",
    "MasterDownError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "TryAgainError",
}
"""What Redis answers, whatever the message, or how its client calls that."""

DENIALS = ("AuthenticationError", "NoPermissionError")

IN_A_ROW = 10
"""Messages refused one after the other; more are not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KombuOptions:
    """OPTIONS of KombuBroker.

    TRANSPORT_OPTIONS: Celery's broker_transport_options: what names queues must be the same.
    CONNECT_TIMEOUT, SOCKET_TIMEOUT: bounds of connecting, and of one read or write, in seconds, as
        far as the transport knows them.
    SSL: Celery's broker_use_ssl. With Redis the server's certificate and its host name are checked,
        unless "ssl_cert_reqs" or "ssl_check_hostname" say otherwise here or in the URL.
    """

    TRANSPORT_OPTIONS: Mapping[str, Any] = field(default_factory=dict, repr=False)
    CONNECT_TIMEOUT: float = 5.0
    SOCKET_TIMEOUT: float = 15.0
    SSL: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        for name in ("CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
            if not getattr(self, name) > 0:
                yield f"{name} must be positive, not {getattr(self, name)}"
        for name in ("TRANSPORT_OPTIONS", "SSL"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) and not (name == "SSL" and value is None):
                yield f"{name} must be a dict, not {type(value).__name__}"


class KombuBroker(Broker):
    """Publishes Celery tasks by a transport of kombu: what it has taken without an error is done.

    Confirms nothing: a server that loses what it has acknowledged, as Redis may when it crashes,
    loses tasks. Whether there is a worker cannot be told either.

    A task that the server refuses, or the transport, while it takes others is refused. What is
    refused for all is an outage, as is a server without memory left, or one that only reads.
    """

    confirms: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    durable: ClassVar[bool] = False
    routable_check: ClassVar[bool] = False
    carries_events: ClassVar[bool] = False
    carries_tasks: ClassVar[bool] = True

    def __init__(self, url: str, options: KombuOptions) -> None:
        self._url = url
        self.messaging_system = _system(url)
        self._options = options
        self._connection: Connection | None = None
        self._servers = servers(url, options.SSL)

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        flaws = flaws_in(cls._check_url, url)
        refuse(flaws + flaws_in(parse, KombuOptions, options, "OPTIONS"))
        return cls(url, parse(KombuOptions, options, "OPTIONS"))

    @staticmethod
    def _check_url(url: str) -> None:
        for server in urls.read(url, options=None):
            transport = server.scheme.partition("+")[0]
            if transport not in TRANSPORT_ALIASES:
                raise ConfigurationError(
                    "The broker's URL must begin with a transport of kombu, such as redis://"
                )
            if transport in AMQP:
                raise ConfigurationError("Use relay.brokers.amqp.AMQPBroker for an AMQP broker")
            if transport in LOSING:
                raise ConfigurationError(
                    f"The transport {transport!r} of kombu {LOSING[transport]}"
                )

    @property
    def address(self) -> str:
        return urls.shown(self._url)

    def open(self) -> None:
        guard().connects(self.address)

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        refused: list[int] = []  # since the last that passed
        stopped: dict[str, str] = {}
        passed, reason, rest = False, "", UNSENT
        ends = time.monotonic() + self.page_seconds
        try:
            channel = self._channel()
            self.denied = False
            for index, envelope in enumerate(page):
                if outcomes and time.monotonic() >= ends:
                    break
                if envelope.key in stopped:
                    outcomes.append(behind(stopped[envelope.key]))
                    continue
                try:
                    outcomes.append(_publish(channel, envelope))
                except Exception as exc:
                    if self._is_away(exc):
                        raise
                    reason = self._describe(exc)
                    outcomes.append(Outcome(Status.REFUSED, reason))
                    refused.append(index)
                    if len(refused) == IN_A_ROW:
                        break
                if outcomes[-1] is CONFIRMED:
                    passed, refused = True, []
                elif envelope.key is not None and self.hold_keys:
                    stopped[envelope.key] = envelope.id
        except Exception as exc:
            self.close()
            reason = self._describe(exc)
            rest = Outcome(Status.UNKNOWN, reason)
            self.denied = reason.startswith(DENIALS)
        if refused and (len(refused) == IN_A_ROW or not passed):
            # As likely as not nothing passes, for want of a permission say: no message is blamed.
            del outcomes[refused[0] :]
            rest = Outcome(Status.UNKNOWN, reason)
            self.denied = reason.startswith(DENIALS)
        return outcomes + [rest] * (len(page) - len(outcomes))

    def _is_away(self, exc: Exception) -> bool:
        """Tell whether an error says that the server is away or takes nothing from anybody."""
        known = self._connection.connection_errors if self._connection else ()
        if is_a(exc, OperationalError, OSError, *known):
            return True
        return name_of(exc) in OF_THE_SERVER or text_of(exc).partition(" ")[0] in OF_THE_SERVER

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
            self._connect()
        assert self._connection is not None
        return self._connection.default_channel

    def _connect(self) -> None:
        """Connect to the first server that answers."""
        options = self._options
        guard().connects(self.address)
        for left, server in zip(reversed(range(len(self._servers))), self._servers, strict=True):
            connection = self._connection = Connection(
                **server,
                connect_timeout=options.CONNECT_TIMEOUT,
                transport_options={
                    "socket_connect_timeout": options.CONNECT_TIMEOUT,
                    "socket_timeout": options.SOCKET_TIMEOUT,
                    **options.TRANSPORT_OPTIONS,
                },
            )
            try:
                connection.ensure_connection(
                    max_retries=1, interval_start=0, reraise_as_library_errors=False
                )
                return
            except self._errors():
                if not left:
                    raise
                self.close()

    def _errors(self) -> tuple[type[BaseException], ...]:
        """Return what says that the broker is away, in the words of its transport."""
        own = self._connection
        known = (*own.connection_errors, *own.channel_errors) if own else ()
        return (KombuError, OSError, *known)

    def _describe(self, exc: BaseException) -> str:
        return urls.scrubbed(describe(exc), self._url)

    @classmethod
    def check_deployment(
        cls, name: str, url: str, options: Mapping[str, Any]
    ) -> list[CheckMessage]:
        found = links(url, options.get("SSL"))
        return exposure.warnings(f"RELAYS[{name!r}]", found, EXPOSURE)


def _publish(channel: Any, envelope: Envelope) -> Outcome:
    """Publish one task as kombu's Producer does, but for the serialising, which is done."""
    try:
        task = celery_task.decode(envelope.data)
    except UndecodableMessage as exc:
        return Outcome(Status.REFUSED, text_of(exc))
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


def _system(url: str) -> str:
    """Return what OpenTelemetry calls what is behind a URL, by its scheme."""
    scheme = url.partition(":")[0].partition("+")[0].lower()
    return {"sqs": "aws_sqs", "rediss": "redis"}.get(scheme, scheme)

"""RabbitMQ and other AMQP 0-9-1 brokers: persistent, mandatory, with pipelined confirms.

kombu gives the connection and the topology, py-amqp the events of confirm mode. kombu's own
`confirm_publish` waits for each message before it sends the next. What is published is packed by
relay.brokers.amqp.frames, and written many messages at once.
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from amqp.basic_message import Message
from amqp.exceptions import (
    AccessRefused,
    AMQPError,
    ContentTooLarge,
    NotFound,
    PreconditionFailed,
)
from django.core.checks import CheckMessage, Warning
from kombu import Connection
from msgspec.structs import replace

from outbox.amqp import connection as amqp
from outbox.amqp import exposure
from outbox.amqp.exchange import UnusableExchange, declare_events
from outbox.conf import flaws_in, parse, refuse
from outbox.error_text import describe
from outbox.exceptions import AccessDenied, ConfigurationError
from outbox.extensions.diagnosis import Finding
from outbox.message.celery_task import MESSAGE_ID, TaskMessage, is_task
from outbox.message.envelope import Envelope
from outbox.nouns import counted
from relay.brokers.amqp import doctor
from relay.brokers.amqp.denials import is_about_us, unblamed
from relay.brokers.amqp.frames import Frames, Unsendable
from relay.brokers.amqp.options import AMQPOptions
from relay.brokers.amqp.queues import read_depth
from relay.brokers.amqp.tasks import Routes
from relay.brokers.amqp.window import ConfirmWindow
from relay.brokers.base import EXPOSURE, Broker, Depth, Outcome, Status, hold, unusable
from relay.exceptions import BrokerFailed

logger = logging.getLogger("relay")

MESSAGES_FAULT = (AccessRefused, ContentTooLarge, PreconditionFailed)
"""For what RabbitMQ closes a channel over one message. Anything else is about the channel."""

TASKS_FAULT = (*MESSAGES_FAULT, NotFound)
"""A task names its exchange itself. That of the events is declared; if it vanishes, it is again."""

DENIALS = 3
"""Messages whose topic we may not publish to, while none passes: more are not tried."""

SEND_BYTES = 64 * 1024
"""How much is written at once, about, before confirms are looked at."""

READ_SECONDS = 1.0
"""How often, at least, a wait for confirms looks at the clock and at the heartbeat."""


class AMQPBroker(Broker):
    """Publishes events to one durable topic exchange; the topic is the routing key.

    Declares that exchange, if it is missing, and nothing else: queues and bindings belong to their
    consumers. Celery tasks go where Celery sends them, and their queues are declared as Celery
    does.
    """

    confirms: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    durable: ClassVar[bool] = True
    routable_check: ClassVar[bool] = True
    carries_tasks: ClassVar[bool] = True
    addresses_queues = True
    messaging_system = "rabbitmq"

    def __init__(self, url: str, options: AMQPOptions) -> None:
        self._url = url
        self._options = options
        self._connection: Connection | None = None
        self._channel: Any = None
        self._frames: Frames | None = None
        self._to_queue: Frames | None = None
        self._direct = False
        self._routes: Routes | None = None
        self._tasks: dict[str, TaskMessage] = {}
        self._refusals: dict[bytes, tuple[str, float]] = {}
        self._next_tag = 1
        self._opened = 0.0
        self._ends = math.inf
        self._window: ConfirmWindow | None = None
        self._blocked = ""

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        flaws = flaws_in(amqp.check_url, url)
        refuse(flaws + flaws_in(parse, AMQPOptions, options, "OPTIONS"))
        return cls(url, parse(AMQPOptions, options, "OPTIONS"))

    @property
    def address(self) -> str:
        return amqp.address(self._url, self._options.SSL)

    def open(self) -> None:
        try:
            self._ensure_channel()
        except UnusableExchange as exc:
            self.close()
            raise ConfigurationError(f"{exc}.") from exc
        except (AMQPError, OSError) as exc:
            self.close()
            if refused := amqp.refusal(exc):
                raise AccessDenied(
                    f"The broker does not let us in ({self.address}): {refused}."
                ) from exc
            raise

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        if not any(map(is_task, page)):
            return self._publish(page)
        try:
            self._ensure_channel()
            assert self._routes is not None
            self._tasks, refused = self._routes.prepare(page)
            if refused and self.hold_keys:
                refused = hold(page, refused)
        except (AMQPError, OSError) as exc:
            self.close()
            self.denied = bool(amqp.refusal(exc))
            return [Outcome(Status.UNKNOWN, _describe(exc)) for _ in page]
        try:
            sent = [each for index, each in enumerate(page) if index not in refused]
            outcomes = iter(self._publish_declared(sent))
        finally:
            self._tasks = {}
        return [refused.get(index) or next(outcomes) for index in range(len(page))]

    def _publish_declared(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes = self._publish(page)
        for each, outcome in zip(page, outcomes, strict=True):
            if outcome.status is Status.UNROUTABLE and self._routes and each.id in self._tasks:
                self._routes.forget(self._tasks[each.id])
        return outcomes

    def publish_to(self, queue: str, page: Sequence[Envelope]) -> list[Outcome]:
        self._direct = True
        try:
            return self._publish([replace(each, topic=queue) for each in page])
        finally:
            self._direct = False

    def depth_of(self, queue: str) -> Depth | None:
        try:
            return read_depth(self._ensure_channel().connection, queue)
        except (AMQPError, OSError) as exc:
            self.close()
            raise BrokerFailed(_describe(exc)) from exc

    def _publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        limit = self._options.MAX_IN_FLIGHT
        window = ConfirmWindow(page, limit=limit, hold=self.hold_keys)
        denials: list[str] = []
        try:
            channel = self._ensure_channel()
            self.denied = False
            window = self._window = ConfirmWindow(
                page, first_tag=self._next_tag, limit=limit, hold=self.hold_keys
            )
            self._ends = time.monotonic() + self.page_seconds
            faults = TASKS_FAULT if self._tasks else MESSAGES_FAULT
            while not window.done:
                try:
                    self._pump(channel, window)
                except faults as exc:
                    reason = _describe(exc)
                    if isinstance(exc, AccessRefused):
                        denials.append(reason)
                    about_us = len(denials) > DENIALS and is_about_us(window, denials)
                    if not window.in_flight or about_us:
                        raise
                    self.close()
                    window.channel_closed(reason)
                    channel = self._ensure_channel()
            self._next_tag = window.next_tag
        except (AMQPError, OSError) as exc:
            # After any error the channel's tags mean nothing more: what is open stays unknown.
            self.close()
            self.denied = bool(amqp.refusal(exc))
            return unblamed(window, denials, window.outcomes(_describe(exc)))
        finally:
            self._window = None
        outcomes = unblamed(window, denials, window.outcomes())
        self.denied = is_about_us(window, denials)
        # A channel that has met a full quorum queue may be refused for ever, even when the queue
        # is empty and without a limit again (rabbitmq-server issue 12206). Not each time: a new
        # channel gets a few messages past the limit before it is told.
        if time.monotonic() - self._opened > RENEW_SECONDS and any(
            outcome.status is Status.NACKED for outcome in outcomes
        ):
            self.close()
        return outcomes

    def _pump(self, channel: Any, window: ConfirmWindow) -> None:
        """Send what the window allows and read confirms until every message has its outcome."""
        patience = self._options.CONFIRM_TIMEOUT
        settled, deadline = 0, time.monotonic() + patience
        while not window.done:
            if time.monotonic() >= self._ends:
                window.stop()
            more = self._send(channel, window)
            if window.done:
                return  # nothing was sent that could be waited for
            if window.settled != settled:
                # Each confirm starts the time anew: a page of one key over a slow link takes as
                # long as it takes, but a broker that accepts and never confirms is found out.
                settled, deadline = window.settled, time.monotonic() + patience
            # Past the deadline what has arrived meanwhile is still read: sending may have taken
            # all the time.
            wait = 0 if more else min(deadline - time.monotonic(), READ_SECONDS)
            if not self._read(channel, wait) and not more and time.monotonic() >= deadline:
                raise ConfirmTimeout(
                    f"{counted(window.in_flight, 'message')} not confirmed within {patience:g} s"
                )

    def _send(self, channel: Any, window: ConfirmWindow) -> bool:
        """Write what the window allows, at most SEND_BYTES or one message; return whether more."""
        own = self._to_queue if self._direct else self._frames
        assert own is not None
        parts, size = [], 0
        while size < SEND_BYTES and (envelope := window.next()) is not None:
            task = self._tasks.get(envelope.id)
            try:
                frames = own.pack_task(task) if task else own.pack(envelope)
            except Exception as exc:  # there is no I/O in it: the message alone is to blame
                window.unsendable(_unsendable(exc))
                continue
            parts.append(frames)
            size += len(frames)
        if parts:
            channel.connection.transport.write(b"".join(parts))
            channel.connection.bytes_sent += 1  # for the heartbeat: something was
        return size >= SEND_BYTES

    def _read(self, channel: Any, wait: float) -> bool:
        """Wait for something from the broker, read all there is; False if nothing came.

        A heartbeat would make py-amqp wait for as long again, so it never waits for long.
        """
        assert self._connection is not None
        drain_events, came = channel.connection.drain_events, False
        try:
            drain_events(timeout=max(wait, 0))
            came = True
            while not self._blocked:
                drain_events(timeout=0)
        except TimeoutError:
            self._connection.heartbeat_check()
        self._stop_if_blocked()
        return came

    def _stop_if_blocked(self) -> None:
        if self._blocked:
            raise ConfirmTimeout(f"connection.blocked: {self._blocked}")

    def keep_alive(self) -> None:
        if self._connection is not None and not self._alive():
            self.close()

    def examine(self, relay: str) -> Iterable[Finding]:
        options = self._options
        return doctor.examine(
            relay,
            self._url,
            exchange="" if self.messages == "tasks" else options.EXCHANGE,
            timeout=options.CONNECT_TIMEOUT,
            ssl=options.SSL,
        )

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._routes = None
        self._next_tag, self._blocked = 1, ""
        if connection is not None:
            amqp.drop(connection)

    def _ensure_channel(self) -> Any:
        if self._channel is not None and self._alive():
            return self._channel
        self.close()
        options = self._options
        self._connection = connection = amqp.connect(
            self._url,
            name="django-outbox-inbox relay",
            connect_timeout=options.CONNECT_TIMEOUT,
            socket_timeout=options.SOCKET_TIMEOUT,
            heartbeat=options.HEARTBEAT,
            ssl=options.SSL,
            on_blocked=self._on_blocked,
            on_unblocked=self._on_unblocked,
        )
        if self.messages != "tasks":
            declare_events(connection, options.EXCHANGE)
        channel: Any = connection.channel()  # py-amqp's, beneath kombu's types
        # A message that comes back must not choose the codec, which py-amqp would import.
        channel.auto_decode = False
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        place = (channel.channel_id, channel.connection.frame_max)
        self._frames = Frames(*place, exchange=options.EXCHANGE, mandatory=options.MANDATORY)
        # The default exchange, in which a queue's name is its routing key.
        self._to_queue = Frames(*place, exchange="", mandatory=True)
        self._routes = Routes(connection, self._refusals)
        self._channel, self._next_tag, self._opened = channel, 1, time.monotonic()
        return channel

    def _alive(self) -> bool:
        """Read what arrived since the last page, a close above all; keep the heartbeat."""
        assert self._connection is not None
        try:
            if not self._connection.connected:
                return False
            self._connection.heartbeat_check()
            while True:
                self._connection.drain_events(timeout=0)
        except TimeoutError:
            return not self._blocked
        except (AMQPError, OSError):
            return False

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if self._window is not None:
            self._window.ack(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        if self._window is not None:
            self._window.nack(tag, multiple)

    def _on_return(self, exc: Any, exchange: str, routing_key: str, returned: Message) -> None:
        if self._window is not None:
            # A task's message_id is none of ours.
            headers = returned.properties.get("application_headers") or {}
            self._window.returned(
                headers.get(MESSAGE_ID) or returned.properties.get("message_id", ""),
                f"no queue is bound to exchange {exchange!r} for {routing_key!r} "
                f"({exc.reply_code} {exc.reply_text}); start its consumer first, or bind a queue",
            )

    def _on_blocked(self, reason: str = "") -> None:
        self._blocked = reason or "the broker is out of memory or disk"

    def _on_unblocked(self) -> None:
        self._blocked = ""

    @classmethod
    def check(cls, name: str, url: str, options: Mapping[str, Any]) -> list[CheckMessage]:
        try:
            broker = cls.from_settings(url, options, using="default")
        except ConfigurationError as exc:
            return unusable(name, exc)
        if not broker._options.MANDATORY:
            return [
                Warning(
                    f"RELAYS[{name!r}]: with MANDATORY off, events that reach no queue are lost.",
                    hint="Leave MANDATORY on, and bind a queue for every event type.",
                    id="relay.W002",
                )
            ]
        return []

    @classmethod
    def check_deployment(
        cls, name: str, url: str, options: Mapping[str, Any]
    ) -> list[CheckMessage]:
        links = exposure.amqp_links(url, options.get("SSL"))
        return exposure.warnings(f"RELAYS[{name!r}]", links, EXPOSURE)


RENEW_SECONDS = 15.0
"""Age from which a channel is replaced when the broker refuses something on it."""


class ConfirmTimeout(OSError):
    """The broker did not confirm in time, or told its publishers to stop."""


def _unsendable(exc: Exception) -> str:
    told = str(exc) if isinstance(exc, Unsendable) else describe(exc)
    return f"it cannot be sent over AMQP: {told}"


def _describe(exc: Exception) -> str:
    if isinstance(exc, ConfirmTimeout | UnusableExchange):
        return str(exc)
    return amqp.refusal(exc) or describe(exc)

"""What stands in for kombu's Producer: it writes the message that Celery made into the outbox."""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from django.db import connections, transaction
from kombu import Exchange, Producer, Queue
from kombu.compression import compress
from kombu.entity import maybe_delivery_mode
from kombu.serialization import dumps

from outbox.amqp import urls
from outbox.celery import apps_in_use
from outbox.celery.context import headers_of
from outbox.celery.declarations import declaration
from outbox.celery.keys import queue_of
from outbox.celery.results import note
from outbox.conf import outbox_settings
from outbox.context import originated
from outbox.error_text import describe
from outbox.exceptions import InvalidEvent, PayloadTooLarge
from outbox.message import celery_task
from outbox.message.cloudevents import MAX_ATTRIBUTE, flaw
from outbox.message.context import Context
from outbox.message.envelope import Envelope
from outbox.message.event_types import MAX_NAME
from outbox.message.ids import uuid7_text
from outbox.producer.drafting import inherited
from outbox.producer.measuring import emitted
from outbox.producer.writing import append
from outbox.tracing.hooks import created_task

SILENCE = 60
"""Seconds without events for monitors after one that could not be published."""

_silent_until = 0.0
logger = logging.getLogger("outbox")


class OutboxProducer(Producer):
    """Writes each message into the log of the database `using`, in the running transaction.

    Serialises and compresses as kombu would, connects to no broker. Raises InvalidEvent for what
    could not be published unchanged.
    """

    def __init__(self, app: Celery, using: str, key: str | None = None) -> None:
        # Without a channel: there is nothing to connect to.
        super().__init__(None, auto_declare=False)  # type: ignore[arg-type]
        self._app = app
        self._using = using
        self.key = key
        """What orders the message; without one it is the queue."""

    @property
    def connection(self) -> Any:
        """The app's connection for publishing, not connected; Celery asks it for its transport."""
        return self._app.amqp.producer_pool.connections.connection

    @property
    def channel(self) -> Any:  # type: ignore[override]
        """A channel of the app's own connection. The rpc:// backend declares its queue on it."""
        return self.connection.default_channel

    def publish(  # type: ignore[override]
        self,
        body: Any,
        routing_key: str | None = None,
        delivery_mode: Any = None,
        mandatory: bool | None = None,
        immediate: bool | None = None,
        priority: int | None = 0,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: dict[str, Any] | None = None,
        compression: str | None = None,
        exchange: Exchange | str | None = None,
        declare: Iterable[Any] | None = None,
        expiration: float | None = None,
        retry: bool = False,
        retry_policy: Any = None,
        timeout: Any = None,
        confirm_timeout: Any = None,
        **properties: Any,
    ) -> None:
        """Write a task's message. What concerns the connection to a broker is the relay's."""
        found = _identity(body, headers)
        if found is None:
            self._publish_event(
                body,
                exchange=exchange,
                routing_key=routing_key,
                headers=headers,
                serializer=serializer,
                delivery_mode=delivery_mode,
                declare=declare,
            )
            return
        name, task_id = found
        if immediate:
            raise InvalidEvent(f"Task {name}: brokers no longer know immediate=True.")
        content, content_type, content_encoding = _serialised(
            body, content_type, content_encoding, serializer
        )
        headers = {} if headers is None else headers
        declare = list(declare or ())
        if compression:
            content, headers["compression"] = compress(content, compression)
        properties |= {
            "content_type": content_type,
            "content_encoding": content_encoding,
            "delivery_mode": _delivery_mode(exchange, delivery_mode),
            "priority": priority,
            "reply_to": _name(properties.get("reply_to")),
        }
        if expiration is not None:
            properties["expiration"] = str(int(expiration * 1000))
        message_id = uuid7_text()
        context = created_task(name, message_id, _context(message_id, headers))
        # In the given dict, as kombu does: receivers of after_task_publish look there.
        headers |= _context_headers(message_id, context)
        task = celery_task.TaskMessage(
            exchange=_name(exchange) or "",
            routing_key=routing_key or "",
            headers=celery_task.carried(headers, "headers"),
            properties={
                key: celery_task.carried(value, key)
                for key, value in properties.items()
                if value is not None
            },
            mandatory=mandatory,
            declare=[declaration(each) for each in declare],
            **celery_task.body_fields(content),  # type: ignore[arg-type]
        )
        queue = queue_of(task.exchange, task.routing_key, declare)
        self._write(name, task_id, queue, message_id, celery_task.encode(task), context)

    def _write(
        self,
        name: str,
        task_id: str,
        queue: str,
        message_id: str,
        data: bytes,
        context: dict[str, Any],
    ) -> None:
        started, conf = time.perf_counter(), outbox_settings()
        task_id = _column("id", task_id, MAX_ATTRIBUTE)
        if len(data) > conf.MAX_DATA_BYTES:
            raise PayloadTooLarge(
                f"Task {name}: its message of {len(data):,} bytes is more than "
                f"OUTBOX['MAX_DATA_BYTES'] ({conf.MAX_DATA_BYTES:,}). Store the content elsewhere "
                "and pass a reference."
            )
        envelope = Envelope(
            id=message_id,
            source=conf.source,
            type=celery_task.TASK_TYPE,
            data=data,
            content_type=celery_task.CONTENT_TYPE,
            topic=_column("name", name[:MAX_NAME], MAX_NAME),
            # See Kind.key().
            key=task_id if self.key is None else self.key,
            subject=None if self.key is None else task_id,
            time=datetime.now(UTC),
            attributes=originated(),
            **context,
        )
        scope = queue if self.key is None else self.key
        connection = connections[self._using]
        append(connection, [envelope], conf, scope=scope)
        emitted(connection, [envelope], started)
        note(task_id, self._using)

    def _publish_event(self, event: Any, **options: Any) -> None:
        """Publish what monitors are told, after the commit and at best: they live with losses."""

        def publish() -> None:
            _publish_at_best(self._app, event, options)

        if connections[self._using].in_atomic_block:  # manual transactions have no hooks
            transaction.on_commit(publish, using=self._using, robust=True)


def _publish_at_best(app: Celery, event: Any, options: dict[str, Any]) -> None:
    """Publish an event for monitors; if the broker is away, none for a while.

    Whoever has just committed shall not wait for a broker, once for each task.
    """
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        with app.amqp.producer_pool.acquire(block=True) as producer:
            producer.publish(event, retry=False, **options)
    except Exception as exc:
        _silent_until = time.monotonic() + SILENCE
        logger.warning(
            "No task-sent events for %d s, as the broker is away: %s. Tasks are in the outbox.",
            SILENCE,
            urls.scrubbed(describe(exc), apps_in_use.broker_url(app)),
        )


def _identity(body: Any, headers: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return name and id of the task; None if the message is no task but an event of Celery."""
    # Protocol 2 has them among the headers, protocol 1 in the body.
    for place in (headers, body):
        if isinstance(place, Mapping) and "task" in place and "id" in place:
            return place["task"], place["id"]
    return None


def _serialised(
    body: Any, content_type: str | None, content_encoding: str | None, serializer: str | None
) -> tuple[bytes, str, str]:
    """Return the body's bytes with their type and encoding, as kombu does."""
    if not content_type:
        content_type, content_encoding, body = dumps(body, serializer=serializer)
    elif not isinstance(body, str | bytes):
        raise InvalidEvent(
            f"With content_type={content_type!r} the body would have to be serialised already."
        )
    if isinstance(body, str):
        content_encoding = content_encoding or "utf-8"
        return body.encode(content_encoding), content_type, content_encoding
    return bytes(body), content_type, content_encoding or "binary"


def _delivery_mode(exchange: Any, given: Any) -> int:
    own = exchange.delivery_mode if isinstance(exchange, Exchange) else None
    return maybe_delivery_mode(given or own) or 2


def _name(entity: Any) -> Any:
    return entity.name if isinstance(entity, Exchange | Queue) else entity


def _context(message_id: str, headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context for the log's row: the current one, unless the caller's headers say."""
    given = {
        "correlation_id": headers.get(celery_task.CORRELATION_ID),
        "causation_id": headers.get(celery_task.CAUSATION_ID),
        "trace_parent": headers.get(celery_task.TRACE_PARENT),
        "trace_state": headers.get(celery_task.TRACE_STATE),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return dict(inherited(message_id, **chosen))


def _context_headers(message_id: str, context: Mapping[str, Any]) -> dict[str, str]:
    # The id is that of the row and never the caller's: by it a returned message is found again.
    return dict(headers_of(Context(**context))) | {celery_task.MESSAGE_ID: message_id}


def _column(what: str, value: Any, limit: int) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"The {what} of a task must be a string, not {value!r}")
    with suppress(UnicodeEncodeError):
        if problem := flaw(value, limit):
            raise InvalidEvent(f"The {what} of the task {problem}")
    return value

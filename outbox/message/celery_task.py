"""A Celery task as a message of the log: all that a producer of kombu would give to the broker.

Body, headers and properties are kept as they are after serialising and compressing, so that a
worker gets the same bytes as from Celery itself. Needs neither Celery nor kombu.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message.envelope import Envelope

TASK_TYPE = "celery.task"
TASK_SOURCE = "celery"
"""The source of receipts of tasks, in the inbox."""
CONTENT_TYPE = "application/vnd.celery.task+json"

MESSAGE_ID = "outbox_message_id"
"""The header with the id of the message by which a task was started, if one was."""
CORRELATION_ID = "outbox_correlation_id"
CAUSATION_ID = "outbox_causation_id"
TRACE_PARENT = "traceparent"
TRACE_STATE = "tracestate"

MAX_SHORT = 255
"""Bytes of a short string of AMQP: names, routing keys, most properties, keys of headers."""

MAX_HEADERS = 32 * 1024
"""Bytes of all headers of a task, as JSON. AMQP wants them in one frame."""

SHORT_PROPERTIES = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_NUMBERS = {"delivery_mode": range(1, 3), "priority": range(256), "timestamp": range(2**63)}
_INT64 = range(-(2**63), 2**63)


class ExchangeDeclaration(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="exchange"
):
    """An exchange, with the attributes of kombu's."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    passive: bool = False
    no_declare: bool = False
    delivery_mode: int | None = None
    arguments: dict[str, Any] | None = None


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What binds a queue to one more exchange."""

    exchange: ExchangeDeclaration
    routing_key: str = ""
    arguments: dict[str, Any] | None = None


class QueueDeclaration(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="queue"
):
    """A queue and its exchange, with the attributes of kombu's."""

    name: str
    exchange: ExchangeDeclaration | None = None
    routing_key: str = ""
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    no_declare: bool = False
    queue_arguments: dict[str, Any] | None = None
    binding_arguments: dict[str, Any] | None = None
    bindings: list[Binding] = []
    expires: float | None = None
    message_ttl: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int | None = None


Declaration = QueueDeclaration | ExchangeDeclaration


class TaskMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be published. `mandatory` is None where the relay may decide.

    `body` is text, or base64 if it is no UTF-8. `declare` names what has to be there first.
    """

    exchange: str
    routing_key: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    mandatory: bool | None = None
    declare: list[Declaration] = []

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        if self.encoding == "base64":
            return base64.b64decode(self.body, validate=True)
        return self.body.encode()


def is_task(envelope: Envelope) -> bool:
    """Tell whether a message is a Celery task, and no event."""
    return envelope.content_type == CONTENT_TYPE


def body_fields(content: bytes) -> dict[str, str]:
    """Return the fields of a TaskMessage that carry its body."""
    try:
        return {"body": content.decode()}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(content).decode(), "encoding": "base64"}


def encode(task: TaskMessage) -> bytes:
    """Return the data of a task's message; raise InvalidEvent if it could not be published."""
    _check(task)
    return msgspec.json.encode(task)


def decode(data: bytes) -> TaskMessage:
    """Return the task of a message's data; raise UndecodableMessage if it is none."""
    try:
        task = msgspec.json.decode(data, type=TaskMessage)
        _check(task)
        task.content  # noqa: B018 - it must be readable
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UndecodableMessage(f"the data are no task message: {exc}") from None
    return task


def readable(task: TaskMessage) -> dict[str, Any]:
    """Return a task for people: name, id and arguments, then the rest.

    Arguments that are not plain JSON are left out, with the texts that Celery makes of them: they
    could hold secrets that nobody can tell apart.
    """
    headers = {k: v for k, v in task.headers.items() if k not in {"argsrepr", "kwargsrepr"}}
    shown: dict[str, Any] = {"task": headers.pop("task", None), "id": headers.pop("id", None)}
    try:
        body = msgspec.json.decode(task.content)
    except msgspec.MsgspecError:
        body = None
    if isinstance(body, list) and len(body) == 3:
        shown |= {"args": body[0], "kwargs": body[1], "embed": body[2]}
    elif isinstance(body, dict):
        shown |= body
    else:
        shown["body"] = f"{len(task.content):,} bytes, {task.properties.get('content_type')}"
    return shown | {
        "exchange": task.exchange,
        "routing_key": task.routing_key,
        "properties": task.properties,
        "headers": headers,
    }


def carried(value: Any, where: str) -> Any:
    """Return a value as JSON gives it back; raise InvalidEvent if that is not the same for AMQP."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), where)
    if isinstance(value, int) and value in _INT64:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return {_key(key, where): carried(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [carried(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise InvalidEvent(
        f"{where} of the task is a {type(value).__qualname__} that the outbox cannot carry "
        "unchanged: use strings, numbers of at most 64 bits, booleans, None, lists and dicts of "
        "those, or send the task with outbox=False."
    )


def _check(task: TaskMessage) -> None:
    """Raise InvalidEvent for what a broker would refuse, or close its connection for."""
    short("exchange", task.exchange)
    short("routing_key", task.routing_key)
    for name in SHORT_PROPERTIES:
        if (value := task.properties.get(name)) is not None:
            short(name, value)
    for name, allowed in _NUMBERS.items():
        number = task.properties.get(name)
        if number is not None and (not isinstance(number, int) or number not in allowed):
            raise InvalidEvent(f"{name} of the task is {number!r}")
    carried(task.headers, "headers")
    if (size := len(msgspec.json.encode(task.headers))) > MAX_HEADERS:
        raise InvalidEvent(
            f"The headers of the task have {size:,} bytes, stamps included; at most "
            f"{MAX_HEADERS:,} are allowed. Pass it as an argument."
        )


def short(name: str, value: Any) -> str:
    """Return a value that fits a short string of AMQP; raise InvalidEvent if it does not."""
    if not isinstance(value, str):
        raise InvalidEvent(f"{name} of the task must be a string, not a {type(value).__name__}")
    if len(_text(value, name).encode()) > MAX_SHORT:
        raise InvalidEvent(f"{name} of the task is longer than {MAX_SHORT} bytes")
    return value


def _key(key: Any, where: str) -> str:
    return short(f"a key of {where}", key)


def _text(value: str, where: str) -> str:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidEvent(f"{where} of the task contains a lone surrogate, which UTF-8 has not")
    return value

"""Celery tasks that were sent through the outbox, read from their messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outbox.exceptions import UndecodableMessage
from outbox.message import celery_task
from outbox.message.celery_task import TaskMessage
from outbox.message.envelope import Envelope
from outbox.message.kinds import TASK

_PICKLED = ("pickle", "x-python-serialize")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTask:
    """A task as a worker will get it: its name, id and arguments, and where it goes.

    `key` is what orders it, if it was given one. `headers` are all headers of its message, with
    `eta`, `expires` and `group` among them.
    """

    name: str
    id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    exchange: str
    routing_key: str
    key: str | None
    headers: Mapping[str, Any]


def sent_task(envelope: Envelope) -> SentTask:
    """Return the task of a message; raise UndecodableMessage if it is none, or is pickled."""
    task = celery_task.decode(envelope.data)
    body = _body(task)
    if isinstance(body, Mapping):  # of Celery's first protocol
        name, task_id = body["task"], body["id"]
        args, kwargs = body["args"], body["kwargs"]
    else:
        name, task_id = task.headers["task"], task.headers["id"]
        args, kwargs, _ = body
    return SentTask(
        name=name,
        id=task_id,
        args=tuple(args),
        kwargs=dict(kwargs),
        exchange=task.exchange,
        routing_key=task.routing_key,
        key=TASK.key(envelope.key, envelope.subject),
        headers=dict(task.headers),
    )


def _body(task: TaskMessage) -> Any:
    # Whoever has sent a task has imported them; others need not.
    from kombu.compression import decompress  # noqa: PLC0415
    from kombu.serialization import loads  # noqa: PLC0415

    content_type = str(task.properties.get("content_type", ""))
    if any(word in content_type for word in _PICKLED):
        raise UndecodableMessage(
            "the task's arguments are pickled, and pickled data is never read: unpickling runs code"
        )
    content: Any = task.content
    if compression := task.headers.get("compression"):
        content = decompress(content, compression)
    encoding = task.properties.get("content_encoding", "utf-8")
    return loads(content, content_type, encoding, accept={content_type})

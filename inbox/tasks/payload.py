"""A task as a message carries it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.utils.module_loading import import_string

from inbox.tasks.failures import TaskNotFound
from inbox.tasks.framework import AnyTask, Task, normalize_json
from outbox.exceptions import UndecodableMessage


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a message; the task's result has the id of the message."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue_name: str
    priority: int
    enqueued_at: datetime
    run_after: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as the outbox takes it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def read(data: bytes | memoryview | Any) -> Payload:
    """Return the payload of a message, its data or what was decoded of it.

    Raises UndecodableMessage if it is none.
    """
    try:
        if isinstance(data, bytes | memoryview):
            return msgspec.json.decode(bytes(data), type=Payload)
        return msgspec.convert(data, Payload)
    except msgspec.MsgspecError as exc:
        raise UndecodableMessage(f"it is no task: {exc}") from exc


def write(task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any], now: datetime) -> Payload:
    """Return what a message shall carry; raise TypeError or ValueError for what is not JSON."""
    return Payload(
        task=task.module_path,
        args=[_json(task, f"argument {index}", value) for index, value in enumerate(args)],
        kwargs={name: _json(task, f"argument {name!r}", value) for name, value in kwargs.items()},
        queue_name=task.queue_name,
        priority=task.priority,
        enqueued_at=now,
        run_after=task.run_after,
    )


def find_task(found: Payload, alias: str, source: str = "") -> AnyTask:
    """Return the task that a message names, with its options; raise TaskNotFound."""
    try:
        task = import_string(found.task)
    except (ImportError, ValueError) as exc:
        by = f", which {source} has enqueued" if source else ""
        raise TaskNotFound(f"there is no {found.task} here{by}: {exc}") from exc
    if not isinstance(task, Task) or task.module_path != found.task:
        raise TaskNotFound(f"{found.task} is no task")
    return task.using(
        backend=alias,
        queue_name=found.queue_name,
        priority=found.priority,
        run_after=found.run_after,
    )


def _json(task: AnyTask, where: str, value: Any) -> Any:
    try:
        plain = normalize_json(value)
        _check_keys(plain)
    except (TypeError, ValueError, RecursionError) as exc:
        kind = ValueError if isinstance(exc, RecursionError) else type(exc)
        raise kind(
            f"{task.module_path}, {where}: {exc}. Arguments of tasks are JSON: strings, numbers, "
            "True, False, None, and lists and dicts of them; of a model give the primary key."
        ) from exc
    return plain


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"Unsupported key of a dict: {type(key)}")
            _check_keys(item)
    elif isinstance(value, list):
        for item in value:
            _check_keys(item)

"""A task as a message carries it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from inbox.django_tasks import registered
from inbox.django_tasks.failures import TaskNotFound
from inbox.django_tasks.framework import AnyTask, Task, normalize_json
from outbox.database.instants import as_django, utc
from outbox.exceptions import UndecodableMessage

MAX_PATH = 255
"""Characters that an error shows of a task's path."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a message; the task's result has the id of the message. Times are in UTC."""

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
        run_after=None if task.run_after is None else utc(task.run_after),
    )


def find_task(found: Payload, alias: str, source: str = "") -> AnyTask:
    """Return the task that a message names, with its options; raise TaskNotFound.

    Among those that are imported: what a message says is never a reason to import anything.
    """
    path = found.task if len(found.task) <= MAX_PATH else f"{found.task[:MAX_PATH]}..."
    try:
        task = registered.look_up(found.task)
    except LookupError as exc:
        by = f", which {source} has enqueued" if source else ""
        raise TaskNotFound(
            f"there is no {path} here{by}: {exc}. Tasks are known by the module tasks of "
            "each app in INSTALLED_APPS, and by the modules that "
            f"TASKS[{alias!r}]['OPTIONS']['MODULES'] names; these are imported at the start."
        ) from None
    # By its type: a lazy object would be evaluated if it were asked what it is.
    if not issubclass(type(task), Task) or task.module_path != found.task:
        raise TaskNotFound(f"{path} is no task; the decorator stands on a function of that name")
    found_task: AnyTask = task
    return found_task.using(
        backend=alias,
        queue_name=found.queue_name,
        priority=found.priority,
        run_after=None if found.run_after is None else as_django(utc(found.run_after)),
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

"""What orders tasks on their way: the queue that they are for, or a key that they were given."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kombu import Queue

from outbox.exceptions import InvalidEvent
from outbox.producer.drafting import key_text

Key = str | Callable[..., object]
"""A task's `outbox_key`: a format of its arguments, or a function of them."""


def queue_of(exchange: str, routing_key: str, declare: Iterable[Any]) -> str:
    """Return the name of the queue that a task is for, as far as that can be told.

    By an exchange alone it can be any that is bound there, so the exchange stands for them all.
    """
    if not exchange:
        return routing_key
    for each in declare:  # by Celery, also the default queue of a task that goes elsewhere
        if isinstance(each, Queue) and getattr(each.exchange, "name", "") == exchange:
            return str(each.name)
    return exchange


def key_of_call(
    task: Any, given: object, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> str | None:
    """Return the key of a call of a task: the given one, else what the task makes of its arguments.

    Raises InvalidEvent if it is none, TypeError for arguments that are not the task's.
    """
    if given is not None:
        return key_text(given)
    if getattr(task, "outbox_key", None) is None:
        return None
    # Statically: as an attribute of a class a function would become a method.
    key: Any = inspect.getattr_static(task, "outbox_key")
    args, kwargs = args or (), kwargs or {}
    if callable(key):
        return key_text(key(*args, **kwargs))
    bound = inspect.signature(task.run).bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        return key_text(key.format(**bound.arguments))
    except (LookupError, AttributeError) as exc:
        raise InvalidEvent(
            f"The task {task.name} has no argument for {exc} in its outbox_key {key!r}"
        ) from exc

"""TASKS, as far as it is about OutboxBackend: read as plain settings, without the framework."""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from inbox.conf import is_group
from inbox.handlers.registry import MAX_HANDLER_NAME
from inbox.verdicts import RetryPolicy
from outbox.conf import outbox_settings, parse
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import is_type_name

BACKEND = "inbox.tasks.OutboxBackend"
PREFIX = "django.task."
_OTHERS = ("django.tasks.", "django_tasks.")
_MAX_SERVICE = 100

ONCE = RetryPolicy(attempts=1)
"""Tasks of Django are called once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """TASKS[alias]["OPTIONS"].

    GROUP: the group of handlers that runs the tasks, and so the queue on the broker. Services
        that share a broker must not share it.
    MODULES: modules with tasks, besides the module `tasks` of each installed app. They are imported
        at the start; no other task can be run.
    RETRY_POLICY: an inbox.RetryPolicy, or a dict of its fields. By default a task is called once.
    """

    GROUP: str = "tasks"
    MODULES: Sequence[str] = ()
    RETRY_POLICY: RetryPolicy | Mapping[str, Any] = ONCE

    def __post_init__(self) -> None:
        if not is_group(self.GROUP):
            raise ConfigurationError(
                f"GROUP {self.GROUP!r}: 1 to 100 letters, digits, or any of '_.:-', and not amq.*"
            )
        if not isinstance(self.MODULES, list | tuple) or not all(map(_is_module, self.MODULES)):
            raise ConfigurationError(
                "MODULES must be a list of the names of modules, such as ['shop.jobs'], not "
                f"{self.MODULES!r}"
            )
        self.policy  # noqa: B018 - checks itself

    @property
    def policy(self) -> RetryPolicy:
        """RETRY_POLICY as one; raises ConfigurationError."""
        given = self.RETRY_POLICY
        if isinstance(given, RetryPolicy):
            return given
        try:
            return RetryPolicy(**given)
        except TypeError:
            raise ConfigurationError(
                "RETRY_POLICY must be an inbox.RetryPolicy or a dict of attempts, base and cap, "
                f"not {given!r}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQueue:
    """One queue name of a backend, and how its tasks are run."""

    alias: str
    name: str
    group: str
    policy: RetryPolicy

    @property
    def type(self) -> str:
        """The event type of its messages, and the name of its handler."""
        return event_type(self.name)

    @property
    def topic(self) -> str:
        """The topic of its messages: no other service is bound to it."""
        return f"tasks.{_service()}.{self.name}"


def event_type(queue: str) -> str:
    """Return the event type of the tasks of a queue."""
    return f"{PREFIX}{queue}"


def task_queues() -> list[TaskQueue]:
    """Return the queues of every OutboxBackend in TASKS; raise ConfigurationError if it is wrong.

    A class derived from it is one as well.
    """
    found: dict[str, TaskQueue] = {}
    for alias, params in _backends():
        for queue in _queues(alias, params):
            if (other := found.get(queue.name)) is not None:
                raise ConfigurationError(
                    f"TASKS: the queue {queue.name!r} is one of {other.alias!r} and of {alias!r}; "
                    "its tasks would run in both."
                )
            found[queue.name] = queue
    return list(found.values())


def task_modules() -> list[str]:
    """Return what the backends in TASKS name as modules with tasks; raise ConfigurationError."""
    found = [module for alias, params in _backends() for module in _options(alias, params).MODULES]
    return list(dict.fromkeys(found))


def _backends() -> Iterator[tuple[str, Mapping[str, Any]]]:
    tasks = getattr(settings, "TASKS", {})
    for alias, params in tasks.items() if isinstance(tasks, Mapping) else ():
        if isinstance(params, Mapping) and _is_ours(params.get("BACKEND")):
            yield alias, params


def _is_ours(path: object) -> bool:
    if not isinstance(path, str) or path.startswith(_OTHERS):
        return False
    if path == BACKEND:
        return True
    try:
        found = import_string(path)
    except ImportError:
        return False  # told by the framework
    module = sys.modules.get("inbox.django_tasks.backend")  # there if anything is derived from it
    return (
        module is not None and isinstance(found, type) and issubclass(found, module.OutboxBackend)
    )


def _options(alias: str, params: Mapping[str, Any]) -> TaskOptions:
    where = f"TASKS[{alias!r}]"
    try:
        return parse(TaskOptions, params.get("OPTIONS", {}), f"{where}['OPTIONS']")
    except ConfigurationError as exc:
        text = str(exc)
        raise ConfigurationError(text if text.startswith(where) else f"{where}: {text}") from None


def _is_module(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _queues(alias: str, params: Mapping[str, Any]) -> Iterator[TaskQueue]:
    where = f"TASKS[{alias!r}]"
    options = _options(alias, params)
    names = params.get("QUEUES", ["default"])
    if not names:
        raise ConfigurationError(
            f"{where}: OutboxBackend needs names in QUEUES, a handler for each"
        )
    for name in sorted(set(map(str, names))):
        queue = TaskQueue(alias=alias, name=name, group=options.GROUP, policy=options.policy)
        fits = len(queue.type) <= MAX_HANDLER_NAME and is_type_name(queue.type)
        if not fits:
            raise ConfigurationError(
                f"{where}: the queue {name!r} cannot be part of an event type; use letters, "
                f"digits, '-' and '_', at most {MAX_HANDLER_NAME - len(PREFIX)} characters."
            )
        yield queue


def _service() -> str:
    """Return a word for this service that no other has, from OUTBOX["SOURCE"]."""
    source = outbox_settings().source
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", source).strip("-")[:_MAX_SERVICE]
    if word == source.strip("/"):
        return word
    return f"{word}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"

"""Register an event type and a handler for each queue of the backends in TASKS."""

from typing import Any

from django.core.signals import setting_changed

from inbox.django_tasks import registered
from inbox.django_tasks.conf import task_modules, task_queues
from inbox.handlers.registry import Handler, handlers
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import EventType, registry

_registered: list[EventType] = []


def install() -> None:
    """Register what TASKS asks for, and no longer what it asked for before; import the tasks.

    Nothing for a TASKS that is wrong, which a system check tells. Raises ConfigurationError for a
    module of MODULES that does not exist.
    """
    for known in _registered:
        handlers.remove(known.name)
        registry.remove(known)
    _registered.clear()
    try:
        queues, modules = task_queues(), task_modules()
    except ConfigurationError:
        return
    if not queues:
        return
    from inbox.django_tasks.running import Runner  # noqa: PLC0415 - imports the task framework

    for queue in queues:
        _registered.append(registry.add(EventType(name=queue.type, topic=queue.topic)))
        run = Runner(queue.alias)
        handlers.add(
            Handler(
                name=queue.type,
                pattern=queue.type,
                function=run,
                version=1,
                declared_group=queue.group,
                retry=queue.policy,
                on_dead=run.on_dead,
            )
        )
    registered.load(modules)


def _changed(*, setting: str, **_: Any) -> None:
    if setting == "TASKS":
        install()


setting_changed.connect(_changed)

"""Results of tasks that refuse to wait for a task which only the end of the transaction sends."""

import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult
from django.db import connections, transaction

from outbox.database import commit_hooks
from outbox.exceptions import OutboxError


class TaskNotSent(OutboxError, CeleryTimeoutError):
    """The transaction that sends the task is open, so its result cannot come before that ends."""


class _Open:
    """Stands for an open transaction: a hook of its commit, which its rollback drops."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._thread = threading.get_ident()
        self._over = False

    def __call__(self) -> None:
        self._over = True

    @property
    def is_ours(self) -> bool:
        """Whether it is open still, and whoever asks would have to end it."""
        mine = self._thread == threading.get_ident()
        return mine and not self._over and connections[self._using].in_atomic_block


_unsent: WeakValueDictionary[str, _Open] = WeakValueDictionary()


def note(task_id: str, using: str) -> None:
    """Note that a task is sent by the end of the running transaction."""
    connection = connections[using]
    if not connection.in_atomic_block:
        return  # manual transactions have no hooks
    hook = next(
        (each for each in commit_hooks.waiting(connection) if isinstance(each, _Open)), None
    )
    if hook is None:
        hook = _Open(using)
        transaction.on_commit(hook, using=using, robust=True)
    _unsent[task_id] = hook


def _refuse_unsent(result: Any) -> None:
    for task_id in _ids(result) if _unsent else ():
        hook = _unsent.get(task_id)
        if hook is not None and hook.is_ours:
            raise TaskNotSent(
                f"The task {task_id} is sent by the commit of this transaction, so to wait for its "
                "result here would never end. Leave the transaction.atomic() block first, or send "
                "the task with outbox=False."
            )


def _ids(result: Any) -> Iterator[str]:
    """Return the ids of a result and of all that has to come before it."""
    while result is not None:
        yield result.id
        for each in getattr(result, "results", None) or ():
            yield from _ids(each)
        result = result.parent


class OutboxResult(AsyncResult):  # type: ignore[type-arg]
    """The result of a task that may be in the outbox."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result; raise TaskNotSent if it cannot come before this transaction ends."""
        if not self.ignored:
            _refuse_unsent(self)
        return super().get(*args, **kwargs)

    wait = get


class OutboxGroupResult(GroupResult):
    """The results of a group whose tasks may be in the outbox."""

    def join(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for all results; raise TaskNotSent as OutboxResult does."""
        _refuse_unsent(self)
        return super().join(*args, **kwargs)

    def join_native(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same, where the result backend has a way of its own."""
        _refuse_unsent(self)
        return super().join_native(*args, **kwargs)

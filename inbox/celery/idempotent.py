"""Celery tasks whose database effects happen once, however often their message is delivered.

The task's run and its receipt are one transaction, as with the handler of an event. Import it from
inbox.celery.
"""

import hashlib
import inspect
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from celery import current_task
from celery.exceptions import Ignore, Reject, Retry
from celery.local import Proxy
from celery.states import SUCCESS
from django.db import connections, router, transaction

from inbox.calling import sessions
from inbox.calling.calls import check_handled
from inbox.calling.savepoints import Savepoints
from inbox.calling.sessions import Session
from inbox.calling.transactions import kept_open
from inbox.handlers.registry import MAX_HANDLER_NAME
from inbox.ledger import results
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Claim
from outbox.database.transactions import own_transaction
from outbox.error_text import describe
from outbox.exceptions import ConfigurationError
from outbox.failpoints import hit
from outbox.message.celery_task import TASK_SOURCE, TASK_TYPE
from outbox.message.context import current_context
from outbox.signatures import explained

logger = logging.getLogger("inbox")
P = ParamSpec("P")
R = TypeVar("R")

MAX_ID = 255
TELLING = 5.0
"""Seconds that a run may take, after its commit, to send callbacks and tell the result backend."""
LOOK_AGAIN = 0.05


@overload
def idempotent(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def idempotent(
    *, key: str | Callable[..., object] | None = None, using: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@explained("@idempotent or @idempotent(key='{order_id}')")
def idempotent(
    function: Callable[P, R] | None = None,
    /,
    *,
    key: str | Callable[..., object] | None = None,
    using: str | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Let the database effects of a Celery task happen once. Goes beneath the task decorator.

    @shared_task(bind=True, acks_late=True, reject_on_worker_lost=True)
    @idempotent
    def charge(self, order_id): ...

    The function runs in a transaction on the database `using`, by default that of the inbox,
    together with a receipt for the task's id. What raises leaves nothing behind, Retry, Reject
    and Ignore included, so that the next try runs. A run that finds the receipt calls nothing
    and returns what the first one returned; if the result backend has that already, it raises
    celery.exceptions.Ignore, and the result stays as it is.

    `key` takes the place of the task's id: a format of the arguments, such as "{order_id}", or
    a function that gets them (without the task itself). Two tasks of one name and key are one.

    Called directly, not by a worker, the function runs in a transaction, without a receipt.
    Raises ConfigurationError for a task, above whose decorator it would do nothing.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _check(function)

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            call = partial(function, *args, **kwargs)
            alias = using or _database()
            task = _current_task()
            if task is None or task.request.called_directly:
                with transaction.atomic(using=alias):
                    return call()
            message = task.request.id if key is None else _key(key, function, task, args, kwargs)
            claim = (_within(message, MAX_ID), _within(task.name, MAX_HANDLER_NAME), TASK_SOURCE)
            running = _running.get()
            if running is not None and running.claim == claim:
                return call()  # by another run() of the same task, which a subclass has extended
            value: R = _Run(task, claim, alias)(call)
            return value

        run.idempotent = True  # type: ignore[attr-defined]
        return run

    return decorate if function is None else decorate(function)


class _Duplicate(NamedTuple):
    """A receipt that was there before, and what is known of the result."""

    result: str | None


@dataclass(eq=False)
class _Run:
    """One run of a task in a worker."""

    task: Any
    claim: Claim
    using: str
    again: list[Callable[[], object]] = field(default_factory=list)
    """Retries that the task has asked for, to be sent after the rollback."""
    sessions: list[Session] = field(default_factory=list)

    def __call__(self, call: Callable[[], R]) -> R:
        _hold_back_retries(self.task)
        token = _running.set(self)
        try:
            found = self._in_transaction(call)
        except BaseException:
            _running.reset(token)
            for session in self.sessions:
                session.rolled_back()
            self._send()
            raise
        _running.reset(token)
        if isinstance(found, _Duplicate):
            first: R = self._first_result(found)
            return first
        hit("inbox.task_committed")
        return found

    def _in_transaction(self, call: Callable[[], R]) -> R | _Duplicate:
        ledger = Ledger(self.using)
        message, name, source = self.claim
        with own_transaction(self.using, durable=False, handlers=True):
            # Waits for a run of the same that has not ended, and then sees its receipt.
            claimed = ledger.claim(
                [(name, source, message, TASK_TYPE, current_context().correlation_id)]
            )
            if not claimed:
                return self._duplicate()
            savepoints = Savepoints(self.using)
            savepoints.begin()
            with sessions.others_kept(self.using), kept_open(connections[self.using]) as session:
                self.sessions.append(session)
                value = call()
            check_handled(connections[self.using])
            session.undo()
            savepoints.release()  # which is not there if the task has ended the transaction
            if savepoints.changed:
                sessions.set_back(connections[self.using], savepoints.before)
            if self.again:
                raise Retry("retry(throw=False) rolls back as well")
            if (result := results.write(value)) is not None:
                ledger.keep_result(claimed[self.claim], result)
            hit("inbox.task_handled")
        return value

    def _duplicate(self) -> _Duplicate:
        from inbox.models import Receipt  # noqa: PLC0415 - models are not loaded when this is

        message, name, source = self.claim
        rows = Receipt.objects.using(self.using).filter(
            message_id=message, handler=name, source=source
        )
        [result] = rows.values_list("result", flat=True) or [results.NOT_KEPT]
        return _Duplicate(result)

    def _first_result(self, found: _Duplicate) -> Any:
        task, number = self.task, self.task.request.id
        logger.info(
            "Task %s[%s] has had its effects before (receipt %s); nothing is done again.",
            task.name,
            number,
            self.claim[0],
        )
        if _has_succeeded(task, patience=TELLING if self.claim[0] == number else 0):
            raise Ignore("it has succeeded before, and its result is there")
        # The first run ended before it could tell: what follows the task must not wait for ever.
        try:
            return results.read(found.result)
        except results.NotKept:
            raise Ignore("it has had its effects before, and its result was not kept") from None

    def _send(self) -> None:
        """Send the retries, as the task would have done itself."""
        for send in self.again:
            try:
                send()
            except Exception as exc:
                raise Reject(describe(exc), requeue=False) from exc


_running: ContextVar[_Run | None] = ContextVar("inbox_running_task", default=None)


def _current_task() -> Any:
    """Return the task itself, not the proxy, which is of the thread that runs it; or None."""
    proxy: Any = current_task
    return proxy._get_current_object() if proxy else None


def _hold_back_retries(task: Any) -> None:
    """Let retry() send its message after the transaction has rolled back.

    In the transaction it could become a part of it, where tasks go through the outbox, and be
    rolled back as well.
    """
    send = task.apply_async
    if hasattr(send, "holds_back"):
        return

    @wraps(send)
    def apply_async(*args: Any, **options: Any) -> Any:
        running = _running.get()
        if running is None or options.get("task_id") != running.task.request.id:
            return send(*args, **options)
        running.again.append(partial(send, *args, **options))
        return None

    apply_async.holds_back = True  # type: ignore[attr-defined]
    task.apply_async = apply_async


def _has_succeeded(task: Any, patience: float) -> bool:
    """Tell whether the result backend has the result; to read that of RPC would take it away.

    The first run commits before it sends callbacks and tells the backend. It may be at that still,
    so it gets some time for it.
    """
    from celery.backends.base import DisabledBackend  # noqa: PLC0415 - loads most of Celery

    request = task.request
    if isinstance(task.backend, DisabledBackend) or not task.backend.persistent:
        return False
    if request.is_eager or task.ignore_result or request.ignore_result:
        patience = 0
    deadline = time.monotonic() + patience
    while task.AsyncResult(request.id).state != SUCCESS:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_AGAIN)
    return True


def _key(
    key: str | Callable[..., object],
    function: Callable[..., Any],
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> str:
    if callable(key):
        return str(key(*task.request.args, **task.request.kwargs))
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return key.format(**bound.arguments)


def _within(text: str, most: int) -> str:
    """Return a name of at most so many characters, which is another one for another text."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return f"{text[: most - 33]}~{digest}"


def _check(function: object) -> None:
    from celery import Task  # noqa: PLC0415 - loads most of Celery

    # A proxy must not be asked: that would make the task before its app is ready.
    if isinstance(function, type) or issubclass(type(function), Proxy | Task):
        raise ConfigurationError(
            "@idempotent goes beneath the task decorator, next to the function; of a task class "
            "it decorates run()."
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"@idempotent: {function.__qualname__} is async or a generator, which Celery does not "
            "run."
        )


def _database() -> str:
    from inbox.models import Receipt  # noqa: PLC0415 - models are not loaded when this is

    return router.db_for_write(Receipt)

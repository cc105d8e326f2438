"""Carry the context through Celery: with what is sent, and into what a worker runs.

Importing this module connects it to Celery's signals. The outbox does so itself when its app is
loaded in a process that has imported Celery before, as every worker has; processes without Celery
never import it here.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun
from celery.states import SUCCESS

from outbox.message.celery_task import (
    CAUSATION_ID,
    CORRELATION_ID,
    MESSAGE_ID,
    TRACE_PARENT,
    TRACE_STATE,
)
from outbox.message.cloudevents import MAX_ATTRIBUTE, MAX_TRACE_STATE, flaw
from outbox.message.context import Context, current_context, use_context
from outbox.message.origin import made
from outbox.tracing.hooks import Fail, here, process_task

_SCOPE = "_outbox_scope"


def headers_of(context: Context) -> Iterator[tuple[str, str]]:
    """Return the headers by which a task is told of the work that starts it."""
    for name, value in (
        (CORRELATION_ID, context.correlation_id),
        (CAUSATION_ID, context.causation_id),
        (TRACE_PARENT, context.trace_parent),
        (TRACE_STATE, context.trace_state),
    ):
        if value is not None:
            yield name, value


def context_of(request: Any) -> Context:
    """Return the context for the run of a task, from its request.

    The flow is that of the headers; else, for a task that runs within its caller, the caller's;
    else that of its root task. What the task does is caused by the message that started it, or,
    where there was none, by the task itself, under its id.
    """
    headers = request.headers or {}
    around = current_context() if request.is_eager else Context()
    return Context(
        correlation_id=_usable(headers.get(CORRELATION_ID))
        or around.correlation_id
        or _usable(request.root_id)
        or _usable(request.id),
        causation_id=_usable(headers.get(MESSAGE_ID)) or _usable(request.id),
        trace_parent=_usable(headers.get(TRACE_PARENT)) or around.trace_parent,
        trace_state=_usable(headers.get(TRACE_STATE), MAX_TRACE_STATE) or around.trace_state,
        origin=made("task", f"{request.task}"),
    )


def _usable(value: object, limit: int = MAX_ATTRIBUTE) -> str | None:
    """Return a header that an event can carry; anybody may have written it."""
    return value if isinstance(value, str) and value and not flaw(value, limit) else None


def _tell(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        for name, value in headers_of(here(current_context())):
            headers.setdefault(name, value)


def _enter(task: Any, **_: Any) -> None:
    request, context = task.request, context_of(task.request)
    with ExitStack() as stack:
        stack.enter_context(use_context(context))
        fail: Fail | None = None
        if not request.is_eager:  # then it runs within its caller's span
            again = bool(request.retries) or request.eta is not None
            fail = stack.enter_context(process_task(context, task.name, again=again))
        setattr(request, _SCOPE, (stack.pop_all(), fail))


def _leave(task: Any, retval: Any = None, state: str | None = None, **_: Any) -> None:
    scope: tuple[ExitStack, Fail | None] | None = task.request.get(_SCOPE)
    if scope is not None:
        stack, fail = scope
        if fail is not None and isinstance(retval, BaseException) and state != SUCCESS:
            fail(retval, None)
        stack.close()


# Whoever imports this more than once connects once.
for _signal, _receiver in (
    (before_task_publish, _tell),
    (task_prerun, _enter),
    (task_postrun, _leave),
):
    _signal.connect(_receiver, weak=False, dispatch_uid=f"{__name__}.{_receiver.__name__}")

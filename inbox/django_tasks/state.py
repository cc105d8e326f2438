"""The result of a task: what its message, and the receipt of its run, say of it."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import router

from inbox.conf import inbox_settings
from inbox.django_tasks import failures, payload
from inbox.django_tasks.conf import event_type
from inbox.django_tasks.failures import ResultTooLarge, TaskNotFound
from inbox.django_tasks.framework import (
    AnyResult,
    AnyTask,
    InvalidTask,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from inbox.django_tasks.payload import Payload, find_task
from inbox.ledger import results
from inbox.states import State
from outbox.database import instants
from outbox.database.instants import as_django, utc
from outbox.exceptions import UndecodableMessage
from outbox.producer.writing import write_database

if TYPE_CHECKING:
    from inbox.models import Receipt

STATUS = {
    State.PROCESSED: TaskResultStatus.SUCCESSFUL,
    State.SKIPPED: TaskResultStatus.FAILED,
    State.DISCARDED: TaskResultStatus.FAILED,
    State.DEAD: TaskResultStatus.FAILED,
    State.RETRYING: TaskResultStatus.READY,
    State.WAITING: TaskResultStatus.READY,
}
"""What a receipt means. None at all is READY: a running task has not committed its own."""

NOT_KNOWN = ""
"""Stands for a worker that is not kept; there is one for each attempt."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """What is known of a task's run."""

    status: TaskResultStatus = TaskResultStatus.READY
    started_at: datetime | None = None
    finished_at: datetime | None = None
    last_attempted_at: datetime | None = None
    errors: list[TaskError] = field(default_factory=list)
    worker_ids: list[str] = field(default_factory=list)
    value: Any = None


def ready(task: AnyTask, number: str, found: Payload, alias: str) -> AnyResult:
    """Return the result of a task that has not begun."""
    return _result(task, number, found, alias, _Run())


def running(
    task: AnyTask, number: str, found: Payload, alias: str, receipt: "Receipt", worker: str
) -> AnyResult:
    """Return the result of a task that begins now."""
    now = instants.now()
    again = receipt.state == State.RETRYING  # a fresh claim looks processed
    run = _Run(
        status=TaskResultStatus.RUNNING,
        started_at=(receipt.received if again else None) or now,
        last_attempted_at=now,
        errors=_errors(receipt) if again else [],
        worker_ids=[NOT_KNOWN] * (receipt.attempts if again else 0) + [worker],
    )
    return _result(task, number, found, alias, run)


def succeed(result: AnyResult, value: Any) -> str:
    """Let a result be successful; return what the receipt shall keep of it.

    Raises ResultTooLarge.
    """
    _set(result, "status", TaskResultStatus.SUCCESSFUL)
    finished = instants.now()
    _set(result, "finished_at", as_django(finished))
    _set(result, "errors", [])
    _set(result, "_return_value", value)
    assert result.last_attempted_at is not None
    text = results.write(
        {
            "value": value,
            "started_at": utc(result.last_attempted_at).isoformat(),
            "finished_at": finished.isoformat(),
            "worker_id": result.worker_ids[-1],
        }
    )
    if not text:
        raise ResultTooLarge(
            f"what it returned is longer than {results.MAX_RESULT:,} characters of JSON. Keep it "
            "in a model, and return the primary key."
        )
    return text


def find(number: str, alias: str, queues: Collection[str]) -> AnyResult:
    """Return the result of a task; raise TaskResultDoesNotExist if nothing is known of it."""
    try:
        uuid = UUID(number)
    except (ValueError, AttributeError, TypeError):
        raise TaskResultDoesNotExist(f"{number!r} is no id of a task's result") from None
    types = [event_type(queue) for queue in queues]
    # The message first: one that is pruned in between has a receipt for longer.
    data, due = _message(uuid, types)
    receipt = _receipt(str(uuid), types)
    if data is None and receipt is not None:
        data = receipt.body
    if data is None:
        raise TaskResultDoesNotExist(
            f"{number}: it was never enqueued here, or its message is no longer kept "
            "(OUTBOX['RETENTION'])."
        )
    if receipt is None and due is not None and _forgotten(due):
        raise TaskResultDoesNotExist(
            f"{number}: it has no receipt, or none any more (INBOX['RETENTION'])."
        )
    try:
        found = payload.read(data)
        task = find_task(found, alias)
    except (UndecodableMessage, TaskNotFound, InvalidTask) as exc:
        raise TaskResultDoesNotExist(f"{number}: {exc}") from exc
    run = _Run() if receipt is None else _run(receipt)
    return _result(task, str(uuid), found, alias, run)


def _message(uuid: UUID, types: list[str]) -> tuple[Any, datetime | None]:
    """Return the data of a task's message, and when it has entered the log."""
    from outbox.models import Message, Scheduled  # noqa: PLC0415 - tasks are imported before models

    using = write_database()
    # Again, because it may have entered the log in between.
    for model in (Message, Scheduled, Message):
        rows = model._default_manager.using(using).filter(message_id=uuid, type__in=types)
        for data, time in rows.values_list("data", "time"):
            return data, time if model is Message else None
    return None, None


def _receipt(number: str, types: list[str]) -> "Receipt | None":
    from inbox.models import Receipt  # noqa: PLC0415 - tasks are imported before models

    rows = Receipt.objects.using(router.db_for_write(Receipt))
    return rows.filter(message_id=number, handler__in=types).first()


def _forgotten(due: datetime) -> bool:
    """Tell whether a task that was due then may have a receipt that was pruned."""
    window = inbox_settings().retention
    return window is not None and due < instants.now() - window


def _run(receipt: "Receipt") -> _Run:
    """Return what a receipt says."""
    run = _Run(
        status=STATUS[State(receipt.state)],
        started_at=receipt.received or receipt.changed,
        last_attempted_at=receipt.changed,
        worker_ids=[NOT_KNOWN] * receipt.attempts,
    )
    if run.status != TaskResultStatus.READY:
        run.finished_at = receipt.changed
    if run.status != TaskResultStatus.SUCCESSFUL:
        run.errors = _errors(receipt)
        return run
    # There is none of a task that has committed the transaction itself.
    kept = json.loads(receipt.result or "{}")
    if kept:
        run.value = kept["value"]
        run.last_attempted_at = datetime.fromisoformat(kept["started_at"])
        run.started_at = receipt.received or run.last_attempted_at
        run.finished_at = datetime.fromisoformat(kept["finished_at"])
        run.worker_ids[-1:] = [kept["worker_id"]]
    return run


def _errors(receipt: "Receipt") -> list[TaskError]:
    return failures.read(receipt.error, receipt.reason)


def _result(task: AnyTask, number: str, found: Payload, alias: str, run: _Run) -> AnyResult:
    result: AnyResult = TaskResult(
        task=task,
        id=number,
        status=run.status,
        enqueued_at=as_django(utc(found.enqueued_at)),
        started_at=_given(run.started_at),
        finished_at=_given(run.finished_at),
        last_attempted_at=_given(run.last_attempted_at),
        args=found.args,
        kwargs=found.kwargs,
        backend=alias,
        errors=run.errors,
        worker_ids=run.worker_ids,
    )
    _set(result, "_return_value", run.value)
    return result


def _given(moment: datetime | None) -> datetime | None:
    return None if moment is None else as_django(utc(moment))


def _set(result: AnyResult, name: str, value: Any) -> None:
    """Set an attribute of a result, which is frozen for users."""
    object.__setattr__(result, name, value)

"""Tasks that the tests of inbox.django_tasks enqueue."""

import sys
from contextlib import suppress
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, transaction

import inbox
from tests.kit.database import exists_session
from tests.kit.sessions import sessions
from tests.kit.waiting import until
from tests.testapp.models import Effect

if django.VERSION >= (6, 0):
    from django.tasks import TaskContext, task
else:
    from django_tasks import TaskContext, task

NAME = "task"
fail_times = 0
"""How often flaky() fails before it succeeds."""


def leave(number: int, key: str = "") -> Effect:
    return Effect.objects.create(key=key, number=number, message_id="", handler=NAME)


@task
def add(number: int, more: int = 0) -> int:
    """Leave an effect, and return something."""
    leave(number + more)
    return number + more


@task
def nothing() -> None:
    leave(0)


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@task
def fail(number: int) -> None:
    """Leave an effect, and then fail."""
    leave(number)
    raise LookupError(f"no luck with {number}")


@task
def fail_with(text: str) -> None:
    raise LookupError(text) if text else LookupError


@task
def violate(number: int) -> None:
    """Fail in the database."""
    effect = leave(number)
    with transaction.atomic():
        Effect(pk=effect.pk, key="", number=1, message_id="", handler="").save(force_insert=True)


@task
def swallow(number: int) -> None:
    """Hide an error of the database, which breaks the transaction."""
    effect = leave(number)
    with suppress(IntegrityError):
        Effect(pk=effect.pk, key="", number=1, message_id="", handler="").save(force_insert=True)


@task
def reject() -> None:
    raise inbox.Reject("not this one")


@task
def deep(number: int) -> None:
    """Fail with a traceback longer than a receipt keeps."""
    if number:
        try:
            deep.func(number - 1)
        except ValueError as exc:
            raise ValueError(f"level {number}") from exc
    raise ValueError("the innermost")


@task
def flaky(number: int) -> int:
    """Fail as often as the test wants, each time with an effect that must not remain."""
    global fail_times
    leave(number)
    if fail_times:
        fail_times -= 1
        raise LookupError("not yet")
    return number


@task(takes_context=True)
def with_context(context: TaskContext, number: int) -> list[Any]:
    global fail_times
    if fail_times:
        fail_times -= 1
        raise LookupError("not yet")
    result = context.task_result
    errors = [error.exception_class_path for error in result.errors]
    return [result.id, str(result.status), context.attempt, number, errors]


@task
async def wait(number: int) -> int:
    """Use the database from async code, within the transaction of the task."""
    await sync_to_async(leave)(number)
    if number < 0:
        raise LookupError("negative")
    return number


@task
def give(size: int) -> str:
    leave(size)
    return "x" * size


@task
def give_a_set() -> set[int]:
    leave(1)
    return {1}


@task
def idle() -> None:
    """Do nothing until the server ends the session."""
    leave(0)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    with sessions(1) as [other]:
        until(lambda: not other.run(exists_session, pid))
    leave(1)


def no_task() -> None:
    """A function like others."""


class Holder:
    """Has a task as an attribute."""

    add = add


@task
def imported(names: list[str]) -> list[str]:
    """Return which of these modules this process has imported."""
    return [name for name in names if name in sys.modules]

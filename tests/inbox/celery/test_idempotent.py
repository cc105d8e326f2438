"""Tasks whose effects happen once: what becomes of effects, receipts and results."""

import contextlib
import logging
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.exceptions import MaxRetriesExceededError
from django.db import connection, transaction

from inbox.celery import idempotent
from inbox.celery.idempotent import _has_succeeded
from inbox.models import Receipt
from outbox.exceptions import ConfigurationError
from tests.inbox import celery_tasks as tasks
from tests.inbox.celery_app import app
from tests.inbox.support import effects, in_thread, postgresql, waiting_for_lock
from tests.kit.sessions import sessions
from tests.kit.waiting import until
from tests.testapp.models import Effect

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def run(task: Any, *args: Any, task_id: str | None = None, **kwargs: Any) -> Any:
    """Run a task as a worker does, within this process; return its result."""
    return task.apply(args, kwargs, task_id=task_id or str(uuid.uuid4()), throw=False)


def test_a_second_run_has_no_effect_and_the_same_result() -> None:
    """The receipt is found: nothing is called, and what the first run returned is returned."""
    first = run(tasks.once, 1, task_id="t1")
    second = run(tasks.once, 1, task_id="t1")

    assert (first.state, second.state) == ("SUCCESS", "SUCCESS")
    assert first.result == second.result == Effect.objects.get().pk


def test_the_receipt_says_which_task_it_was() -> None:
    """Its handler is the task's name, its message the task's id."""
    run(tasks.nothing, 1, task_id="t1")

    receipt = Receipt.objects.get()
    assert (receipt.handler, receipt.source) == ("tests.inbox.celery_tasks.nothing", "celery")
    assert (receipt.message_id, receipt.correlation_id) == ("t1", "t1")
    assert (receipt.state, receipt.result) == ("processed", None)


def test_other_ids_are_other_tasks() -> None:
    """Each id has effects of its own."""
    run(tasks.once, 1)
    run(tasks.once, 1)

    assert effects() == [1, 1]


def test_a_duplicate_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the task, at level INFO."""
    with caplog.at_level(logging.INFO, "inbox"):
        run(tasks.once, 1, task_id="t1")
        assert not [r for r in caplog.records if r.name == "inbox"]
        run(tasks.once, 1, task_id="t1")

    [record] = [r for r in caplog.records if r.name == "inbox"]
    assert record.levelno == logging.INFO
    assert "tests.inbox.celery_tasks.once[t1] has had its effects before" in record.getMessage()


def test_a_result_that_cannot_be_kept_is_not_made_up() -> None:
    """What is not JSON is unknown later: the second run is ignored, not given another value."""
    assert run(tasks.unkeepable, 1, task_id="t1").state == "SUCCESS"
    second = run(tasks.unkeepable, 1, task_id="t1")

    assert second.state == "IGNORED"
    assert effects() == [1]


@pytest.mark.parametrize("task", [tasks.keyed, tasks.keyed_by_function], ids=lambda t: t.name)
def test_a_key_takes_the_place_of_the_id(task: Any) -> None:
    """Two tasks of one key are one; another key is another."""
    first = run(task, 1)
    second = run(task, number=1)
    run(task, 2)

    assert first.result == second.result
    assert effects() == [1, 2]


def test_a_long_name_and_key_are_kept_apart() -> None:
    """Names and keys that are longer than a receipt has room for do not become the same."""

    @app.task(name="n" * 300)
    @idempotent(key="{text}")
    def long(text: str) -> int:
        return tasks.effect("long", 1)

    run(long, "x" * 1000 + "a")
    run(long, "x" * 1000 + "b")
    run(long, "x" * 1000 + "b")

    assert Effect.objects.count() == 2


@pytest.mark.parametrize("task", [tasks.mended, tasks.autoretried], ids=lambda t: t.name)
def test_a_retry_runs(task: Any) -> None:
    """retry() and autoretry_for leave no receipt behind: the next try has the effects."""
    result = run(task, 1, fails=2)

    assert result.state == "SUCCESS"
    assert Effect.objects.get().pk == result.result


@pytest.mark.parametrize(
    ("task", "error"), [(tasks.mended, MaxRetriesExceededError), (tasks.autoretried, ValueError)]
)
def test_the_last_failure_leaves_nothing(task: Any, error: type[Exception]) -> None:
    """When all tries have failed there is neither effect nor receipt."""
    result = run(task, 1, fails=9)

    assert isinstance(result.result, error)
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)


@pytest.mark.parametrize("what", ["Reject", "Ignore"])
def test_reject_and_ignore_leave_nothing(what: str) -> None:
    """The transaction rolls back with the receipt, so the next delivery runs."""
    number = str(uuid.uuid4())
    assert run(tasks.raising, 1, what, task_id=number).state in ("REJECTED", "IGNORED")
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)

    assert run(tasks.raising, 1, what, task_id=number).state == "SUCCESS"
    assert effects() == [1]


@pytest.mark.parametrize("task", [tasks.based, tasks.recording, tasks.extended])
def test_classes_of_tasks(task: Any) -> None:
    """It works with a base of one's own, on run() of a class, and of a class that extends it."""
    first = run(task, 1, task_id="t1")
    second = run(task, 1, task_id="t1")

    assert first.state == second.state == "SUCCESS", first.result
    assert first.result == second.result
    assert effects(getattr(task, "name", "") if task is not tasks.based else "based") == [1]


def test_called_directly_it_is_a_function_in_a_transaction() -> None:
    """Without a worker there is no id and no receipt; events can be emitted all the same."""
    assert tasks.told(1)
    assert tasks.once(1)
    assert tasks.once(1)
    assert Receipt.objects.count() == 0


def test_a_broken_transaction_is_a_failure() -> None:
    """A database error that was swallowed undoes everything, so the task has not succeeded."""

    @app.task(name="tests.swallows")
    @idempotent
    def swallows() -> None:
        tasks.effect("swallows", 1)
        transaction.set_rollback(True)

    result = run(swallows)

    assert result.state == "FAILURE"
    assert "marked for rollback" in str(result.result)
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_the_transaction_cannot_be_ended(statement: str) -> None:
    """A task that would commit without its receipt fails instead."""

    @app.task(name=f"tests.{statement}")
    @idempotent
    def ends() -> None:
        tasks.effect("ends", 1)
        with connection.cursor() as cursor:
            cursor.execute(statement)

    assert run(ends).state == "FAILURE"
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)


@postgresql
def test_of_two_at_the_same_time_the_second_waits() -> None:
    """It waits for the transaction of the first, and then finds its receipt."""
    with sessions(1) as [blocker]:
        blocker.begin()
        blocker.run(_lock_effects)
        with (
            in_thread(lambda: run(tasks.once, 1, task_id="t1")) as first,
            in_thread(lambda: run(tasks.once, 1, task_id="t1")) as second,
        ):
            until(lambda: waiting() == 2)
            blocker.rollback()
            results = {first.get().result, second.get().result}

    assert results == {Effect.objects.get().pk}


@postgresql
def test_if_the_first_fails_the_second_runs() -> None:
    """The second waits, and when the first has rolled back it has the effects."""
    with sessions(1) as [other]:
        other.begin()
        other.run(
            Receipt.objects.create,
            handler="tests.inbox.celery_tasks.once",
            source="celery",
            message_id="t1",
            type="celery.task",
        )
        with in_thread(lambda: run(tasks.once, 1, task_id="t1")) as second:
            until(waiting_for_lock)
            other.rollback()
            assert second.get().state == "SUCCESS"

    assert effects() == [1]


def waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])


def _lock_effects() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE testapp_effect IN EXCLUSIVE MODE")


def test_it_belongs_beneath_the_task_decorator() -> None:
    """Above it, or on a class, it is refused: it would do nothing, or make the task too early."""
    with pytest.raises(ConfigurationError, match="beneath the task decorator"):
        idempotent(tasks.once)
    with pytest.raises(ConfigurationError, match="beneath the task decorator"):
        idempotent(tasks.Recording)


def test_what_celery_would_not_run_is_refused() -> None:
    """A coroutine function does nothing in a worker."""

    async def later() -> None: ...

    with pytest.raises(ConfigurationError, match="async"):
        idempotent(later)


class Sending(Task):  # type: ignore[type-arg]
    """A base whose retries are sent in a transaction, if there is one, as through the outbox."""

    abstract = True
    in_transaction: list[bool] = []

    def apply_async(self, *args: Any, **options: Any) -> Any:
        self.in_transaction.append(connection.in_atomic_block)


@pytest.mark.parametrize("options", [{}, {"throw": False}])
def test_a_retry_is_sent_after_the_rollback(options: dict[str, Any]) -> None:
    """In the transaction it would be rolled back as well, where sending is a part of it."""
    Sending.in_transaction.clear()

    @app.task(base=Sending, bind=True, name=f"tests.sending{len(options)}")
    @idempotent
    def again(self: Any) -> None:
        tasks.effect("again", 1)
        self.retry(**options)

    request = {"id": "t1", "delivery_info": {}, "is_eager": False}
    outcome = build_tracer(again.name, again, app=app)("t1", (), {}, request)

    assert Sending.in_transaction == [False]
    assert outcome.info.state == "RETRY"
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)


@postgresql
@pytest.mark.parametrize(
    "spoil",
    [
        lambda: connection.cursor().execute("SELECT 1 / 0"),
        lambda: connection.connection.rollback(),
        lambda: (connection.connection.rollback(), connection.connection.execute("SELECT 1")),
    ],
    ids=["failed", "over", "another"],
)
def test_a_transaction_that_will_not_commit_is_no_success(spoil: Any) -> None:
    """A task that goes on after that, and returns, has not done what it says."""

    @app.task(name=f"tests.spoils.{uuid.uuid4()}")
    @idempotent
    def spoils() -> None:
        tasks.effect("spoils", 1)
        with contextlib.suppress(Exception):
            spoil()

    assert run(spoils).state == "FAILURE"
    assert (Effect.objects.count(), Receipt.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("patience", "ignore_result", "found"),
    [(60, False, True), (0, False, False), (60, True, False)],
)
def test_a_first_run_that_has_just_committed_gets_time_to_tell(
    patience: float, ignore_result: bool, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has committed before the result backend knows; callbacks must not be sent by both."""
    app = Celery("told", backend="cache+memory://", set_as_current=False)
    task = app.task(name="told.task", ignore_result=ignore_result)(tasks.effect)
    states = iter(["STARTED", "STARTED", "SUCCESS"])
    monkeypatch.setattr(task, "AsyncResult", lambda _: SimpleNamespace(state=next(states)))
    task.push_request(id="t1", is_eager=False)
    try:
        assert _has_succeeded(task, patience) is found
    finally:
        task.pop_request()


@postgresql
@pytest.mark.parametrize("how", ["SET search_path TO tenant_t", "SELECT tenant_t.enter()"])
@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_what_a_task_sets_is_set_back(how: str, fails: bool) -> None:
    """Its receipt and its result are where they belong, and the next task finds nothing of it."""

    def query(statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    query("CREATE SCHEMA tenant_t")
    query("CREATE TABLE tenant_t.testapp_effect (LIKE public.testapp_effect INCLUDING ALL)")
    query(
        "CREATE FUNCTION tenant_t.enter() RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('search_path', 'tenant_t', false); END $$"
    )
    try:

        @app.task(name=f"tenant {uuid.uuid4()}")
        @idempotent
        def switch() -> str:
            query(how)
            query("SELECT pg_advisory_lock(4712)") if "SELECT" not in how else None
            tasks.effect("tenant", 1)
            if fails:
                raise ValueError("no luck")
            return "done"

        result = run(switch, task_id="t1")

        assert result.state == ("FAILURE" if fails else "SUCCESS")
        assert query("SHOW search_path") == [('"$user", public',)]
        locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert query(locks) == []
        assert query("SELECT count(*) FROM tenant_t.testapp_effect") == [(0 if fails else 1,)]
        assert effects() == []
        if not fails:
            assert Receipt.objects.get().result == '"done"'
    finally:
        query("DROP SCHEMA tenant_t CASCADE")

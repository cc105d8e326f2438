"""Who waits for a task within the transaction that sends it is told, and waits not for ever."""

import threading
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult
from django.db import connections, transaction
from django.test import TestCase, override_settings

from outbox.celery import TaskNotSent
from outbox.celery.results import _unsent
from tests.outbox.celery.support import new_app

pytestmark = pytest.mark.django_db(transaction=True)


def plus(*numbers: int) -> int:
    return sum(numbers)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    app = new_app(result_backend=f"file://{tmp_path}")
    app.task(plus, name="unit.add", shared=False, typing=False)
    return app


@pytest.fixture
def add(app: Any) -> Any:
    return app.tasks["unit.add"]


def store(result: Any, value: int = 3) -> None:
    result.backend.store_result(result.id, value, "SUCCESS")


WAYS = {
    "delay": lambda add: add.delay(1, 2),
    "send_task": lambda add: add.app.send_task("unit.add", (1, 2)),
    "another": lambda add: add.app.AsyncResult(add.delay(1, 2).id),
    "chain": lambda add: chain(add.s(1, 2), add.s(3), add.s(4))(),
    "group": lambda add: group(add.s(1), add.s(2))(),
    "chord": lambda add: chord([add.s(1), add.s(2)], add.s())(),
    "group of chains": lambda add: group(chain(add.s(1), add.s(2)), add.s(3))(),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_result_can_come_before_the_commit(add: Any, way: str) -> None:
    """Also not for whoever has given himself some time for it."""
    with transaction.atomic():
        result = WAYS[way](add)
        with pytest.raises(TaskNotSent, match="sent by the commit of this transaction"):
            result.get()
        with pytest.raises(CeleryTimeoutError):
            result.get(timeout=60)
        with transaction.atomic(), pytest.raises(TaskNotSent):
            result.get()

    with pytest.raises(CeleryTimeoutError) as raised:
        result.get(timeout=0.01, interval=0.01)
    assert not isinstance(raised.value, TaskNotSent)


def test_other_ways_to_wait(add: Any) -> None:
    """By the names that they had once, or where the backend has a way of its own."""
    with transaction.atomic():
        one, several = add.delay(1), group(add.s(1), add.s(2))()
        for wait in (one.wait, several.join, several.join_native):
            with pytest.raises(TaskNotSent):
                wait()


def test_after_the_commit_results_are_as_ever(add: Any) -> None:
    """Also in a hook of the commit, and in the next transaction."""
    values: list[Any] = []
    with transaction.atomic():
        result = add.delay(1, 2)
        store(result)
        transaction.on_commit(lambda: values.append(result.get()))
    with transaction.atomic():
        values.append(result.get())

    assert values == [3, 3]
    assert result.id not in _unsent


def test_a_hook_before_ours_may_wait(add: Any) -> None:
    """The transaction is over for it as well."""
    values: list[Any] = []
    results: list[Any] = []
    with transaction.atomic():
        transaction.on_commit(lambda: values.append(results[0].get()))
        results.append(add.delay(1, 2))
        store(results[0])

    assert values == [3]


def test_what_was_rolled_back_leaves_nothing(add: Any) -> None:
    """No task, and nothing in memory: of the transaction, or of a savepoint."""
    with transaction.atomic():
        with pytest.raises(RuntimeError), transaction.atomic():
            first = add.delay(1)
            raise RuntimeError
        assert first.id not in _unsent
        second = add.delay(2)
        assert second.id in _unsent
        transaction.set_rollback(True)

    assert second.id not in _unsent


def test_another_thread_may_wait(add: Any) -> None:
    """It is not the one that has to commit."""
    got: list[Any] = []

    def wait(result: Any) -> None:
        try:
            got.append(result.get(timeout=60))
        finally:
            connections.close_all()

    with transaction.atomic():
        result = add.delay(1, 2)
        thread = threading.Thread(target=wait, args=(result,))
        thread.start()
        store(result)
        thread.join(60)

    assert got == [3]


def test_what_does_not_wait_is_not_refused(app: Any, add: Any) -> None:
    """A task without a result, an eager one; and to ask for a state."""
    with transaction.atomic():
        ignored = add.apply_async((1,), ignore_result=True)
        assert ignored.get() is None
        asked = add.delay(1)
        assert (asked.state, asked.ready()) == ("PENDING", False)
        app.conf.task_always_eager = True
        assert add.delay(1, 2).get() == 3


def test_results_are_celerys(app: Any, add: Any) -> None:
    """Of Celery's classes, under Celery's names, and they survive what those survive."""
    with transaction.atomic():
        one, several = add.delay(1), group(add.s(1), add.s(2))()

    assert isinstance(one, AsyncResult)
    assert isinstance(several, GroupResult)
    assert type(one).__name__ == "AsyncResult"
    assert type(several).__name__ == "GroupResult"
    several.save(backend=app.backend)
    restored = app.GroupResult.restore(several.id, backend=app.backend)
    assert [each.id for each in restored] == [each.id for each in several]
    function, (class_, *_) = one.__reduce__()[:2]
    assert callable(function), class_


class TestInATestCase(TestCase):
    """The commit of a TestCase never comes, unless a test says so."""

    def test_the_commit_counts_that_is_played(self) -> None:
        app = new_app(result_backend="cache+memory://")
        add: Any = app.task(plus, name="unit.add", shared=False, typing=False)
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            result = add.delay(1, 2)
            store(result)
            with pytest.raises(TaskNotSent):
                result.get()

        assert result.get() == 3


def test_a_group_takes_its_members_within_the_transaction(add: Any) -> None:
    """A generator that takes its time holds it open for so long, also one that is its own."""
    seen: list[bool] = []

    def members() -> Any:
        for number in range(3):
            seen.append(connections["default"].in_atomic_block)
            yield add.s(number)

    with override_settings(OUTBOX={"SOURCE": "/tests", "CELERY_OUTSIDE": "own"}):
        group(members()).delay()
        assert (len(seen), seen[-1]) == (3, True)
        seen.clear()
        group(list(members())).delay()
        assert seen == [False] * 3

"""In a coroutine: an error that says what to await, where Django says nothing but no."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import chain, group
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.test import override_settings

import outbox
from outbox.models import Message
from tests.inbox import task_functions
from tests.kit.support import Counted
from tests.outbox.celery.support import arguments, new_app, written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def outside(policy: str) -> Any:
    return override_settings(OUTBOX={"SOURCE": "/tests", "CELERY_OUTSIDE": policy})


def plus(*numbers: int) -> int:
    return sum(numbers)


@pytest.fixture
def add() -> Any:
    return new_app().task(plus, name="unit.add", shared=False, typing=False)


@pytest.fixture
def _tasks_of_django() -> Iterator[None]:
    with override_settings(TASKS={"default": {"BACKEND": "inbox.tasks.OutboxBackend"}}):
        yield


CALLS = {
    "delay": (lambda add: add.delay(1), "adelay()"),
    "apply_async": (lambda add: add.apply_async((1,)), "aapply_async()"),
    "send_task": (lambda add: add.app.send_task("unit.add", (1,)), "asend_task()"),
    "group": (lambda add: group(add.s(1), add.s(2)).delay(), "sync_to_async"),
    "chain": (lambda add: chain(add.s(1), add.s(2)).delay(), "sync_to_async"),
    "cancel": (lambda add: outbox.cancel("00000000-0000-7000-8000-000000000000"), "acancel()"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_a_coroutine_says_what_to_await(add: Any, call: str) -> None:
    """It is Django's error as well, for whoever catches that; nothing is written."""
    function, words = CALLS[call]

    async def in_a_loop() -> str:
        with pytest.raises(outbox.InEventLoop) as raised:
            function(add)
        return str(raised.value)

    with outside("own"):
        told = asyncio.run(in_a_loop())

    assert words in told
    assert "await sync_to_async(function)()" in told
    assert issubclass(outbox.InEventLoop, SynchronousOnlyOperation)
    assert not Message.objects.exists()


@pytest.mark.usefixtures("_tasks_of_django")
def test_a_task_of_django_says_it_as_well() -> None:
    async def in_a_loop() -> None:
        with pytest.raises(outbox.InEventLoop, match="Await aenqueue"):
            task_functions.add.enqueue(1)

    asyncio.run(in_a_loop())
    assert not Message.objects.exists()


@pytest.mark.parametrize("call", ["emit", "emit_many", "delay"])
def test_where_a_transaction_is_missing_the_recipe_is_told(add: Any, call: str) -> None:
    """Of a coroutine it would be no help to say that it shall open one."""

    async def in_a_loop() -> str:
        with pytest.raises(outbox.TransactionRequired) as raised:
            if call == "emit":
                outbox.emit(Counted("a", 1))
            elif call == "emit_many":
                outbox.emit_many([Counted("a", 1)])
            else:
                add.delay(1)
        return str(raised.value)

    with outside("error"):
        assert "await sync_to_async(function)()" in asyncio.run(in_a_loop())
    with outside("error"), pytest.raises(outbox.TransactionRequired) as raised:
        outbox.emit(Counted("a", 1)) if call != "delay" else add.delay(1)
    assert "async" not in str(raised.value)


def test_a_connection_without_autocommit_is_no_exception(
    add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always a transaction then, and in a coroutine no way into it."""

    async def in_a_loop() -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
        with pytest.raises(outbox.InEventLoop, match=r"Await aemit"):
            outbox.emit(Counted("a", 1))
        with pytest.raises(outbox.InEventLoop, match="Await aemit_many"):
            outbox.emit_many([Counted("a", 1)])
        with pytest.raises(outbox.InEventLoop, match="Await adelay"):
            add.delay(1)

    asyncio.run(in_a_loop())


def test_the_twins_write(add: Any) -> None:
    """In transactions of their own, as CELERY_OUTSIDE says; with all options."""

    async def send() -> list[str]:
        first = await add.adelay(1)
        second = await add.aapply_async((2,), countdown=3, outbox_key="k")
        third = await add.app.asend_task("elsewhere.add", (3,))
        return [first.id, second.id, third.id]

    with outside("own"):
        ids = async_to_sync(send)()

    assert [task.headers["id"] for task in written()] == ids
    assert [arguments(task)[0] for task in written()] == [[1], [2], [3]]


def test_the_twins_are_in_the_transaction_of_the_tasks_thread(add: Any) -> None:
    """As aemit() is; a call without await sees none, and goes its own way."""

    async def send() -> None:
        atomic = transaction.atomic()
        await sync_to_async(atomic.__enter__)()
        await add.adelay(1)
        await outbox.aemit(Counted("a", 1))
        with pytest.raises(outbox.TransactionRequired):
            add.delay(2)
        await sync_to_async(transaction.set_rollback)(True)
        await sync_to_async(atomic.__exit__)(None, None, None)

    with outside("error"):
        async_to_sync(send)()

    assert not Message.objects.exists()


def test_the_recipe_works(add: Any) -> None:
    """Data, event and task in one function: they commit together, or not at all."""

    def place(fails: bool) -> None:
        with transaction.atomic():
            outbox.emit(Counted("a", 1))
            group(add.s(number) for number in range(2)).delay()
            if fails:
                raise RuntimeError("no luck")

    async def view() -> None:
        with pytest.raises(RuntimeError):
            await sync_to_async(place)(True)
        await sync_to_async(place)(False)

    with outside("error"):
        async_to_sync(view)()

    assert Message.objects.count() == 3
    assert not connection.in_atomic_block


def test_outside_of_the_outbox_a_coroutine_may_send(add: Any) -> None:
    """Plain Celery may as well: it needs a broker, and no database."""
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - for this test alone

    async def in_a_loop() -> None:
        for send in (add.delay, lambda number: add.apply_async((number,), outbox=False)):
            with pytest.raises(OperationalError):
                send(1)

    with outside("direct"):
        asyncio.run(in_a_loop())

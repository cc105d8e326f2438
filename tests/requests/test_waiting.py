"""Waiting for an answer: who may, for how long, and what wakes whom."""

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.models import Receipt
from inbox.states import State
from outbox.replies import waking
from tests.inbox.support import receive
from tests.kit.database import terminate
from tests.kit.waiting import until
from tests.requests.support import ANSWERER, ASKER, Given, Wire, ask, reply_to

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="SQLite notifies nobody"
)


@pytest.mark.parametrize("timeout", [0, -1, -1e9, 0.01])
def test_a_time_that_is_over(wire: Wire, timeout: float) -> None:
    with pytest.raises(outbox.StillPending):
        ask().result(timeout)
    with pytest.raises(outbox.StillPending):
        async_to_sync(ask().aresult)(timeout)


@pytest.mark.parametrize("call", ["result", "aresult"])
def test_no_time_at_all(wire: Wire, call: str) -> None:
    """NaN is before and behind nothing: waiting for it would not end."""
    asked = ask()
    wait = asked.result if call == "result" else async_to_sync(asked.aresult)
    with pytest.raises(ValueError, match="not NaN"):
        wait(float("nan"))


def test_what_has_ended_needs_no_listening(wire: Wire) -> None:
    """Two queries, however long one would have waited."""
    asked = ask()
    receive(reply_to(wire.publish()[0], b'{"amount": 8}'), group=ASKER)
    with CaptureQueriesContext(connection) as queries:
        assert asked.result(timeout=5) == Given(8)
    assert len(queries) == 2


@pytest.mark.parametrize("timeout", [0.01, 60])
def test_a_handler_does_not_wait(wire: Wire, answer: Callable[..., None], timeout: float) -> None:
    """Whatever the database of the request: who would take the answer waits for this handler."""
    found: list[BaseException] = []

    def wait(event: object, message: outbox.Envelope) -> None:
        for call in (asked.result, async_to_sync(asked.aresult)):
            with pytest.raises(outbox.WaitingInTransaction) as raised:
                call(timeout)
            found.append(raised.value)
        with pytest.raises(outbox.StillPending):
            asked.result()

    answer(wait)
    asked = ask()
    receive(wire.publish()[0], group=ANSWERER)
    assert Receipt.objects.get().state == State.PROCESSED
    assert len(found) == 2


def test_a_handler_of_another_database_does_not_wait_either(wire: Wire) -> None:
    """It is in no transaction of the outbox's database, and waits in vain all the same."""
    asked = ask()
    with (
        outbox.use_context(origin="handler:billing.invoice"),
        pytest.raises(outbox.WaitingInTransaction, match="not in a handler"),
    ):
        asked.result(timeout=60)


@pytest.mark.parametrize("form", [str.upper, lambda text: text.replace("-", ""), UUID])
def test_an_id_in_another_form(wire: Wire, form: Callable[[str], Any]) -> None:
    asked = replace(ask(), id=form(ask().id))
    assert asked.state() == "pending"
    assert asked.cancel() is True


@pytest.mark.parametrize(
    "wrong", ["", "x", "\x00", "é" * 32, "\ud800", None, 7, b"x", "9" * 10_000]
)
def test_what_is_no_id(wire: Wire, wrong: Any) -> None:
    asked = outbox.Asked(id=wrong)
    for call in (asked.state, asked.result, asked.cancel):
        with pytest.raises(outbox.UnknownRequest):
            call()


@contextmanager
def waiting(asked: outbox.Asked, found: list[object]) -> Iterator[None]:
    """Wait in another thread until the block has ended."""

    def wait() -> None:
        try:
            found.append(asked.result(timeout=20))
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join(20)


@contextmanager
def only_woken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nobody look by himself, but when he is woken."""
    with monkeypatch.context() as patch:
        patch.setattr("outbox.replies.asked.FIRST_PAUSE", 15.0)
        patch.setattr("outbox.replies.asked.LAST_PAUSE", 15.0)
        yield


@postgresql
@pytest.mark.parametrize("form", [str, str.upper])
def test_who_waits_is_woken_alone(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, form: Callable[[str], str]
) -> None:
    """By his own request, whatever else is settled, and in whatever form he has its id."""
    mine, other = ask(), ask()
    requests = wire.publish()
    found: list[object] = []
    with (
        only_woken(monkeypatch),
        psycopg.connect(**connection.get_connection_params() | {"autocommit": True}) as watch,
    ):
        watch.execute(f'LISTEN "{waking.channel_of(UUID(other.id))}"')
        with waiting(replace(mine, id=form(mine.id)), found):
            until(waiters)
            started = time.monotonic()
            receive(*(reply_to(each, b'{"amount": 8}') for each in requests), group=ASKER)
        assert time.monotonic() - started < 14
        assert found == [Given(8)]
        heard = list(watch.notifies(timeout=5, stop_after=1))
        assert [each.channel for each in heard] == [waking.channel_of(UUID(other.id))]


def waiters() -> list[int]:
    """Return the sessions that have listened, looked once more, and wait."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND state = 'idle' AND query LIKE %s",
            ["%django_outbox_request%LEFT OUTER JOIN%"],
        )
        return [pid for (pid,) in cursor.fetchall()]


@postgresql
def test_a_batch_of_answers_notifies_with_one_statement(wire: Wire) -> None:
    for _ in range(5):
        ask()
    replies = [reply_to(each, b'{"amount": 8}') for each in wire.publish()]
    with CaptureQueriesContext(connection) as queries:
        receive(*replies, group=ASKER)
    assert sum("pg_notify" in each["sql"] and "settled" in each["sql"] for each in queries) == 1


@postgresql
def test_nobody_is_notified_where_that_is_off(wire: Wire) -> None:
    asked = ask()
    options = {"LANES": 1, "NOTIFY": False}
    with override_settings(OUTBOX=options), CaptureQueriesContext(connection) as queries:
        asked.cancel()
    assert not any("pg_notify" in each["sql"] for each in queries)


@postgresql
def test_behind_a_pooler_nobody_listens(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next statement may have another session, which would go on listening for ever."""
    monkeypatch.setattr(waking, "is_own_session", lambda connection: False)
    asked = ask()
    with CaptureQueriesContext(connection) as queries, pytest.raises(outbox.StillPending):
        asked.result(timeout=0.05)
    assert not any("LISTEN" in each["sql"] for each in queries)


@postgresql
def test_nobody_listens_any_more_when_the_time_is_over(wire: Wire) -> None:
    asked = ask()
    with pytest.raises(outbox.StillPending):
        asked.result(timeout=0.05)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_listening_channels()")
        assert cursor.fetchone() == (0,)


@postgresql
def test_a_session_that_ends_while_one_waits(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the error of the database, and none of what is done about it."""
    asked, found = ask(), []

    def wait() -> None:
        try:
            asked.result(timeout=20)
        except BaseException as exc:
            found.append(exc)
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    with only_woken(monkeypatch):
        thread.start()
        until(waiters)
        terminate(waiters()[0])
        thread.join(20)
    [exc] = found
    assert "terminat" in str(exc) or "closed" in str(exc)
    assert asked.state() == "pending"


def test_a_task_that_waits_can_be_cancelled(wire: Wire) -> None:
    """And leaves nothing behind."""
    asked = ask()

    async def run() -> None:
        task = asyncio.create_task(asked.aresult(timeout=60))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asked.astate() == "pending"

    async_to_sync(run)()


def test_many_tasks_wait_at_once(wire: Wire) -> None:
    """For one request and its one answer."""
    asked = ask()
    request = wire.publish()[0]

    def settle() -> None:
        receive(reply_to(request, b'{"amount": 8}'), group=ASKER)

    async def run() -> list[Any]:
        tasks = [asyncio.create_task(asked.aresult(timeout=60)) for _ in range(100)]
        await asyncio.sleep(0)
        await sync_to_async(settle)()
        return await asyncio.gather(*tasks)

    assert async_to_sync(run)() == [Given(8)] * 100


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_is_told_what_to_await(wire: Wire) -> None:
    asked = ask()

    async def look() -> None:
        with pytest.raises(outbox.InEventLoop, match=r"astate\(\)"):
            asked.state()
        with pytest.raises(outbox.InEventLoop, match=r"aresult\(\)"):
            asked.result(timeout=1)
        with pytest.raises(outbox.InEventLoop, match=r"acancel\(\)"):
            asked.cancel()

    async_to_sync(look)()


def test_errors_travel_to_other_processes(wire: Wire) -> None:
    """With what they know, as those of a pool of processes have to."""
    asked = ask()
    asked.cancel(by="me")
    with pytest.raises(outbox.RequestCancelled) as raised:
        asked.result()
    for again in (pickle.loads(pickle.dumps(raised.value)), copy.copy(raised.value)):
        assert type(again) is outbox.RequestCancelled
        assert (str(again), again.request_id) == (str(raised.value), asked.id)


def test_waiting_in_the_transaction_of_a_view(wire: Wire) -> None:
    """As with ATOMIC_REQUESTS."""
    asked = ask()
    with transaction.atomic(), pytest.raises(outbox.WaitingInTransaction):
        asked.result(timeout=1)

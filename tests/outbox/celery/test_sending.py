"""Which way tasks go, and what stands in the outbox then."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals
from django.contrib import admin
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from kombu import Exchange
from kombu.exceptions import OperationalError

import outbox
from outbox.admin_support.envelopes import EnvelopeAdmin
from outbox.celery import OutboxTask, policy, producer
from outbox.exceptions import ConfigurationError, TransactionRequired
from outbox.message import celery_task
from outbox.models import Message
from outbox.producer import writing
from relay.log import open_log
from tests.kit.admin_pages import list_url, log_in, page, rows, shown
from tests.outbox.celery.support import NOWHERE, arguments, new_app, written

pytestmark = pytest.mark.django_db(transaction=True)


def outside(policy: str) -> Any:
    return override_settings(OUTBOX={"SOURCE": "/tests", "CELERY_OUTSIDE": policy})


def plus(*numbers: int) -> int:
    return sum(numbers)


@pytest.fixture
def app() -> Any:
    app = new_app()

    app.task(plus, name="unit.add", shared=False, typing=False)
    return app


@pytest.fixture
def add(app: Any) -> Any:
    return app.tasks["unit.add"]


def send_by_name(app: Any) -> Any:
    return app.send_task("elsewhere.add", (1, 2))


WAYS = {
    "delay": lambda app: app.tasks["unit.add"].delay(1, 2),
    "apply_async": lambda app: app.tasks["unit.add"].apply_async((1, 2), countdown=3),
    "signature": lambda app: app.tasks["unit.add"].s(1, 2).delay(),
    "send_task": send_by_name,
    "chain": lambda app: chain(app.tasks["unit.add"].s(1, 2), app.tasks["unit.add"].s(3))(),
    "delay_on_commit": lambda app: app.tasks["unit.add"].delay_on_commit(1, 2),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_one_insert(app: Any, way: str) -> None:
    """However it is sent, and without a broker."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        WAYS[way](app)

    assert [query["sql"].split(" ")[0] for query in queries] == ["INSERT"]
    [task] = written()
    assert arguments(task) == ([1, 2], {})


def test_the_row_is_an_ordinary_message(add: Any) -> None:
    """Type, topic, key and context are where events have theirs."""
    with transaction.atomic(), outbox.use_context(correlation_id="flow", trace_parent="00-a-b-01"):
        result = add.delay(1, 2)

    row = Message.objects.get()
    assert (row.type, row.topic, row.subject, row.key) == (
        "celery.task",
        "unit.add",
        None,
        result.id,
    )
    assert (row.content_type, row.correlation_id) == (celery_task.CONTENT_TYPE, "flow")
    [task] = written()
    assert task.headers["outbox_message_id"] == str(row.message_id)
    assert task.headers["outbox_correlation_id"] == "flow"
    assert task.headers["traceparent"] == "00-a-b-01"
    assert "outbox_causation_id" not in task.headers
    assert "tracestate" not in task.headers


def test_headers_of_the_caller_win(add: Any) -> None:
    """In the message and in the row; but for the row's own id."""
    given = {"outbox_correlation_id": "mine", "outbox_message_id": "stale", "x": [1, None]}
    with transaction.atomic(), outbox.use_context(correlation_id="flow", causation_id="cause"):
        add.apply_async(headers=given)

    [task] = written()
    row = Message.objects.get()
    assert task.headers["outbox_correlation_id"] == row.correlation_id == "mine"
    assert task.headers["outbox_causation_id"] == row.causation_id == "cause"
    assert task.headers["outbox_message_id"] == str(row.message_id)
    assert task.headers["x"] == [1, None]


def test_a_rollback_takes_the_task_along(add: Any) -> None:
    """Of a savepoint just its own."""
    with transaction.atomic():
        add.delay(1)
        with pytest.raises(RuntimeError), transaction.atomic():
            add.delay(2)
            raise RuntimeError
    with pytest.raises(RuntimeError), transaction.atomic():
        group(add.s(3), add.s(4)).delay()
        raise RuntimeError

    assert [arguments(task)[0] for task in written()] == [[1]]


@pytest.mark.parametrize("plain", [True, False])
def test_a_group_goes_as_a_whole(plain: bool) -> None:
    """Also where only the tasks are of the outbox, and Celery takes a producer from its pool."""
    app: Any = (
        Celery("plain", broker=NOWHERE, set_as_current=False, task_cls=OutboxTask)
        if plain
        else new_app()
    )
    add = app.task(plus, name="unit.add", shared=False)

    with transaction.atomic():
        group(add.s(number) for number in range(3)).delay()

    assert [arguments(task)[0] for task in written()] == [[0], [1], [2]]


def test_a_chord_goes_with_what_unlocks_it(app: Any, add: Any, tmp_path: Path) -> None:
    """With a result backend that is polled for the header, Celery sends a task that does."""
    app.conf.result_backend = f"file://{tmp_path}"
    with transaction.atomic():
        chord([add.s(1), add.s(2)], add.s())()

    assert sorted(row.topic for row in Message.objects.all()) == [
        "celery.chord_unlock",
        "unit.add",
        "unit.add",
    ]


@pytest.mark.parametrize(
    "send",
    [
        lambda add: add.apply_async((1,), outbox=False),
        lambda add: add.s(1).set(outbox=False).delay(),
        lambda add: group(add.s(1).set(outbox=False), add.s(2).set(outbox=False)).delay(),
        lambda add: add.app.send_task("unit.add", (1,), outbox=False),
        lambda add: add.app.send_task("unit.bypass", (1,)),
        lambda add: add.app.tasks["unit.bypass"].delay(1),
        lambda add: add.apply_async((1,), connection=add.app.connection_for_write()),
    ],
)
def test_a_bypass_goes_to_the_broker(app: Any, add: Any, send: Any) -> None:
    """By a call, by a task, or by a connection that is given: here nobody answers there."""
    app.task(plus, name="unit.bypass", outbox=False, shared=False)

    with transaction.atomic(), pytest.raises(OperationalError):
        send(add)

    assert not Message.objects.exists()


def test_a_call_decides_before_its_task(app: Any) -> None:
    """A task that usually bypasses the outbox goes into it for one call."""
    app.task(plus, name="unit.bypass", outbox=False, shared=False)

    with transaction.atomic():
        app.tasks["unit.bypass"].apply_async((1,), outbox=True)
        app.send_task("unit.bypass", (2,), outbox=True)

    assert [arguments(task)[0] for task in written()] == [[1], [2]]


def test_outside_a_transaction_the_broker_is_used(add: Any) -> None:
    """By default a task that no data commits with goes its usual way."""
    with pytest.raises(OperationalError):
        add.delay(1)
    with pytest.raises(OperationalError):
        group(add.s(1), add.s(2)).delay()

    assert not Message.objects.exists()


def test_outside_a_transaction_can_be_an_error(app: Any, add: Any) -> None:
    """For whoever wants to be sure."""
    with outside("error"):
        for send in (add.delay, group(add.s(1), add.s(2)).delay, partial(send_by_name, app)):
            with pytest.raises(outbox.TransactionRequired, match="atomic"):
                send()
        with pytest.raises(OperationalError):
            add.apply_async((1,), outbox=False)


def test_outside_a_transaction_tasks_can_have_their_own(add: Any) -> None:
    """A group is in one together: a member that is refused takes the others along."""
    with outside("own"):
        add.delay(1)
        group(add.s(2), add.s(3)).delay()
        with pytest.raises(outbox.InvalidEvent):
            group(add.s(4), add.s(5).set(headers={"x": object()})).delay()

    assert [arguments(task)[0] for task in written()] == [[1], [2], [3]]


def test_eager_tasks_run_at_once(app: Any, add: Any) -> None:
    """As ever with task_always_eager, also in a transaction."""
    app.conf.task_always_eager = True
    with transaction.atomic():
        assert add.delay(1, 2).get() == 3
        assert group(add.s(1), add.s(2)).delay().get() == [1, 2]

    assert not Message.objects.exists()


def test_on_commit_still_means_on_commit(add: Any) -> None:
    """A hook runs outside the transaction, so its task goes to the broker."""
    with pytest.raises(OperationalError), transaction.atomic():
        transaction.on_commit(partial(add.delay, 1))

    assert not Message.objects.exists()


def test_signals_are_sent(add: Any) -> None:
    """Before may change the message; after means that it is in the outbox."""
    seen: list[Any] = []

    def before(headers: Any, **_: Any) -> None:
        headers["added"] = "yes"

    def after(headers: Any, **_: Any) -> None:
        seen.append((headers["outbox_message_id"], Message.objects.count()))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with transaction.atomic():
            add.delay(1)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)

    [task] = written()
    assert task.headers["added"] == "yes"
    assert seen == [(str(Message.objects.get().message_id), 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headers": {"at": datetime(2026, 1, 1, tzinfo=UTC)}}, "headers.at .* datetime"),
        ({"headers": {"raw": [b"x"]}}, r"headers.raw\[0\] .* bytes"),
        ({"headers": {"big": 2**64}}, "headers.big"),
        ({"headers": {"bad": float("nan")}}, "headers.bad"),
        ({"headers": {"long": "x" * 40_000}}, "at most"),
        ({"exchange": "e", "routing_key": "x" * 256}, "routing_key"),
        ({"task_id": "x" * 256}, "correlation_id|256"),
        ({"task_id": "a\nb"}, "U.000A"),
        ({"immediate": True}, "immediate"),
        ({"priority": 300}, "priority"),
    ],
)
def test_what_could_not_be_published_is_refused(add: Any, options: Any, words: str) -> None:
    """When it is sent, with words, instead of by the relay or the broker."""
    with transaction.atomic(), pytest.raises(outbox.InvalidEvent, match=words):
        add.apply_async((1,), **options)

    assert not Message.objects.exists()


def test_large_arguments_are_refused(add: Any) -> None:
    """By the bound that events have."""
    with transaction.atomic(), pytest.raises(outbox.PayloadTooLarge, match="MAX_DATA_BYTES"):
        add.delay("x" * 2_000_000)


def test_a_long_name_is_shortened_in_the_topic_alone(app: Any) -> None:
    """The worker gets the whole of it."""
    name = "unit." + "x" * 300
    with transaction.atomic():
        app.send_task(name)

    [task] = written()
    assert task.headers["task"] == name
    assert Message.objects.get().topic == name[:255]


def test_every_option_is_in_the_message(add: Any) -> None:
    """What Celery makes of them, a broker will get."""
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    with transaction.atomic():
        add.apply_async(
            (1,),
            task_id="chosen",
            eta=eta,
            expires=eta + timedelta(days=1),
            priority=7,
            exchange=Exchange("elsewhere", "topic"),
            delivery_mode="transient",
            routing_key="a.b",
            compression="zlib",
            serializer="pickle",
            reply_to="answers",
            link_error=add.s(2),
            headers={"mine": 1},
        )

    [task] = written()
    assert (task.exchange, task.routing_key) == ("elsewhere", "a.b")
    assert task.encoding == "base64"
    assert task.headers["compression"] == "application/x-gzip"
    assert task.headers["eta"] == eta.isoformat()
    assert task.headers["mine"] == 1
    properties = dict(task.properties)
    assert int(properties.pop("expiration")) > 0
    assert properties == {
        "content_type": "application/x-python-serialize",
        "content_encoding": "binary",
        "correlation_id": "chosen",
        "reply_to": "answers",
        "delivery_mode": 1,
        "priority": 7,
    }


def test_events_cannot_pretend_to_be_tasks(registered: Any) -> None:
    """The content type of tasks is reserved."""
    registered("tests.pretended")
    with (
        transaction.atomic(),
        pytest.raises(outbox.InvalidEvent, match="of a task, not of an event"),
    ):
        outbox.emit("tests.pretended", b"{}", content_type=celery_task.CONTENT_TYPE)


def test_a_person_sees_name_id_and_arguments(add: Any) -> None:
    """And no secret, wherever Celery has put it."""
    with transaction.atomic():
        result = add.apply_async((1,), {"password": "hush"}, headers={"token": "hush"})

    shown = str(EnvelopeAdmin(Message, admin.site).shown_data(Message.objects.get()))
    assert "unit.add" in shown
    assert result.id in shown
    assert "&quot;args&quot;: [" in shown
    assert "hush" not in shown


def test_the_admin_finds_a_task(client: Client, add: Any) -> None:
    """By its name in the list, by the type in the filter, by its id in the search."""
    log_in(client, "django_outbox.message")
    with transaction.atomic():
        first, second = add.delay(1, 2), add.delay(3, 4)

    text = shown(page(client, list_url(Message)))
    assert f"unit.add Celery {first.id}" in text
    assert "?type=celery.task" in page(client, list_url(Message))
    [found] = rows(client, list_url(Message, f"?q={second.id}"))
    assert found.key == second.id
    assert len(rows(client, list_url(Message, "?type=unit.add"))) == 2


def test_protocol_one_works(app: Any, add: Any) -> None:
    """Where name and id stand in the body."""
    app.conf.task_protocol = 1
    task_id = str(uuid.uuid4())
    with transaction.atomic():
        add.apply_async((1,), task_id=task_id)

    assert Message.objects.get().key == task_id


@pytest.mark.parametrize("way", [way for way in WAYS if way != "send_task"])
def test_the_database_of_the_app_counts(
    app: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For tasks that name none, whatever the routers say."""
    monkeypatch.setattr("outbox.celery.policy.write_database", lambda: "other")
    monkeypatch.setattr("outbox.celery.task.write_database", lambda: "other")
    app.outbox_using = "default"
    with transaction.atomic():
        WAYS[way](app)

    assert len(written()) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_transaction_on_another_database_is_told(
    add: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rollback does not take the task back, which nobody expects; once is enough."""
    monkeypatch.setattr(policy, "_warned", set())
    with outside("own"), transaction.atomic(using="other"):
        add.delay(1, 2)
        add.delay(3, 4)

    [told] = caplog.messages
    assert "in a transaction on the database 'other'" in told
    assert "outbox_using='other'" in told


def test_events_for_monitors_do_no_harm(
    app: Any, add: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the broker away other hooks run, it is told once, and not tried for each task."""
    monkeypatch.setattr(producer, "_silent_until", 0.0)
    app.conf.task_send_sent_event = True
    ran: list[int] = []
    for number in range(3):
        with transaction.atomic():
            add.delay(1, number)
            transaction.on_commit(lambda number=number: ran.append(number))  # type: ignore[misc]

    assert ran == [0, 1, 2]
    assert len(written()) == 3
    [told] = caplog.messages
    assert "No task-sent events for 60 s" in told


def test_to_ask_for_a_transaction_opens_no_connection(add: Any) -> None:
    """Celery needs none to send a task, so where none can be opened it still works."""
    connection.close()
    with outside("error"), pytest.raises(TransactionRequired):
        add.delay(1, 2)
    assert connection.connection is None

    async def in_a_loop() -> None:
        with pytest.raises(TransactionRequired):
            add.delay(1, 2)

    with outside("error"):
        asyncio.run(in_a_loop())


def test_without_the_app_it_says_what_to_do(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of what Django says about models."""
    monkeypatch.setattr(writing.apps, "is_installed", lambda name: name != "outbox")
    with pytest.raises(ConfigurationError, match="add 'outbox' and 'relay' to INSTALLED_APPS"):
        add.delay(1, 2)


def test_no_task_waits_for_another(add: Any) -> None:
    """Its id is the key for people; to a relay two messages of one id are strangers."""
    with transaction.atomic():
        for number in range(2):
            add.apply_async((1, number), task_id="nightly")
    positions = [row.position for row in Message.objects.filter(key="nightly")]
    fetched = open_log("default", using="default").fetch(positions)

    assert [each.key for each in fetched.messages.values()] == [None, None]

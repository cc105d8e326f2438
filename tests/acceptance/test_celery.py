"""Tasks through the outbox and a real worker: nothing is lost, and nothing is different."""

import json
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from django.db import transaction
from django.test import override_settings
from kombu import Connection

from outbox.message.celery_task import TASK_TYPE
from outbox.message.context import Context, use_context
from outbox.models import Message
from project.demo.waiting import wait_until
from relay.brokers.base import CONFIRMED
from relay.conf import create_broker
from relay.replay import envelope
from tests.acceptance.celery_worker import PATIENCE, Worker, running_worker
from tests.kit.processes import Process
from tests.testapp.models import Effect
from tests.testapp.tasks import add, app, fail, failed, flaky, note, settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

AMQP = "relay.brokers.amqp.AMQPBroker"
Start = Callable[[str], AbstractContextManager[Worker]]
OURS = ("outbox_message_id", "outbox_correlation_id")


@pytest.fixture(scope="session")
def start(broker_url: str, tmp_path_factory: Any, database_url: str) -> Start:
    @contextmanager
    def started(queue_type: str) -> Iterator[Worker]:
        results = f"file://{tmp_path_factory.mktemp('results')}"
        with running_worker(
            broker_url, results, queue_type=queue_type, backend=AMQP, database_url=database_url
        ) as worker:
            yield worker
        with Connection(broker_url) as link:
            link.channel().queue_delete(worker.queue)
            link.channel().exchange_delete(worker.queue)

    return started


@pytest.fixture(scope="module", params=["classic", "quorum"])
def amqp_worker(request: Any, start: Start) -> Iterator[Worker]:
    with start(request.param) as worker:
        yield worker


@pytest.fixture
def worker(amqp_worker: Worker) -> Worker:
    """The worker, with an empty page."""
    amqp_worker.file.unlink(missing_ok=True)
    return amqp_worker


@pytest.fixture(params=["classic", "quorum"])
def own_worker(request: Any, start: Start) -> Iterator[Worker]:
    """A worker for one test: whoever can't tell how much comes leaves nothing for the next one."""
    with start(request.param) as worker:
        yield worker


SOON = datetime(2030, 1, 1, tzinfo=UTC)
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "headers": lambda: {"headers": {"a": "b", "n": [1, 2.5, None, True, {"x": -(2**40)}]}},
    "countdown": lambda: {"countdown": 0.5},
    "eta": lambda: {"eta": datetime.now(UTC) + timedelta(seconds=0.5)},
    "expires": lambda: {"expires": SOON},
    "priority": lambda: {"priority": 4},
    "queue": lambda: {"queue": app.conf.task_default_queue},
    "exchange": lambda: {
        "exchange": app.conf.task_default_queue,
        "routing_key": app.conf.task_default_queue,
        "exchange_type": "topic",
    },
    "pickle": lambda: {"serializer": "pickle"},
    "compression": lambda: {"compression": "zlib"},
    "correlation_id": lambda: {"correlation_id": "flow-1"},
    "reply_to": lambda: {"reply_to": "answers"},
    "link_error": lambda: {"link_error": failed.s()},
    "time_limits": lambda: {"time_limit": 30, "soft_time_limit": 20},
    "shadow": lambda: {"shadow": "another.name"},
    "ignore_result": lambda: {"ignore_result": True},
    "stamps": lambda: {"stamped_headers": ["stamp"], "stamp": "value"},
    "transient": lambda: {"delivery_mode": "transient"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_worker_sees_no_difference(worker: Worker, name: str) -> None:
    """Of each option, field by field of its request; but for the context that we add."""
    options = OPTIONS[name]()
    task_id = str(uuid.uuid4())
    with transaction.atomic():
        note.apply_async((1, "é"), {"b": [2]}, task_id=task_id, outbox=False, **options)
    [plain] = worker.wait_for(1)
    with transaction.atomic():
        note.apply_async((1, "é"), {"b": [2]}, task_id=task_id, **options)
    worker.relay()
    through = worker.wait_for(2)[1]

    headers = through["request"]["headers"] or {}
    message_id = str(Message.objects.get(type=TASK_TYPE).message_id)
    assert headers.get("outbox_message_id", through["request"].get("outbox_message_id"))
    assert message_id in str(through["request"])
    assert _comparable(through) == _comparable(plain)


def _comparable(line: Any) -> Any:
    """Return a line without what differs between any two messages, and without our own."""
    request = _without(line["request"], {*OURS, "consumer_tag", "worker_pid", "delivery_tag"})
    request["headers"] = request.get("headers") or None
    if "expiration" in request.get("properties", {}):
        # Milliseconds from now on; a day is as long as that may take.
        request["properties"]["expiration"] = int(request["properties"]["expiration"]) // 86_400_000
    return {**line, "request": request}


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        kept = {k: _without(v, names) for k, v in value.items() if k not in names}
        if kept.get("eta"):
            kept["eta"] = kept["eta"][:10]  # a countdown begins when it is called
        return kept
    return value


def send_all() -> None:
    """Send every kind of canvas, in one transaction."""
    with transaction.atomic():
        chain(add.s(1, 2), add.s(4), note.s())()
        group(note.s("g1"), note.s("g2")).delay()
        chord([add.s(10), add.s(20)], note.s())()
        add.apply_async((100, 1), link=note.s())
        fail.apply_async(task_id="failing", link_error=failed.s())
        flaky.delay(5)
        note.apply_async(("later",), eta=datetime.now(UTC) + timedelta(seconds=1))


def results(worker: Worker) -> tuple[set[Any], set[Any]]:
    noted = {repr(line["args"][0]) for line in worker.lines("note")}
    others = {line["task"] for line in worker.lines() if line["task"] in ("failed", "flaky")}
    return noted, others


NOTED = {"7", "'g1'", "'g2'", "[10, 20]", "101", "'later'"}


def test_canvases_run_to_their_end(worker: Worker) -> None:
    """chain, group, chord, link, link_error, retry and eta; a retry outlives its rollback."""
    send_all()
    worker.relay()

    worker.wait_for(len(NOTED), "note")
    worker.wait_for(1, "flaky")
    worker.wait_for(1, "failed")
    assert results(worker) == (NOTED, {"failed", "flaky"})
    assert worker.lines("flaky")[0]["retries"] == 2
    assert len(worker.lines("note")) == len(NOTED)


@pytest.mark.parametrize("point", ["relay.read", "relay.published", "relay.checkpointed"])
def test_a_killed_relay_loses_no_task(own_worker: Worker, point: str, database_url: str) -> None:
    """What it may have published is published again by the next one."""
    worker = own_worker
    send_all()
    environment = {"TEST_RELAYS": json.dumps(worker.relays), "DATABASE_URL": database_url}
    with Process("relay", "--until-empty", failpoint=point, **environment) as relay:
        assert relay.wait() == -signal.SIGKILL, relay.output
    worker.relay()

    # Some come twice, so their number tells nothing.
    expected = (NOTED, {"failed", "flaky"})
    assert wait_until(lambda: results(worker) == expected, PATIENCE), results(worker)


def test_a_rolled_back_task_never_runs(worker: Worker) -> None:
    """Nor does its canvas; the one after it does."""
    with pytest.raises(RuntimeError), transaction.atomic():
        note.delay("never")
        chord([add.s(1), add.s(2)], note.s())()
        raise RuntimeError
    with transaction.atomic():
        note.delay("yes")
    worker.relay()

    worker.wait_for(1)
    assert [line["args"] for line in worker.lines()] == [["yes"]]


def test_an_idempotent_task_that_comes_twice_acts_once(worker: Worker) -> None:
    """Its effect, its event and its own task, all of the flow that it belongs to, after a retry."""
    with use_context(Context(correlation_id="flow-7")), transaction.atomic():
        settle.delay(7)
    [mine] = Message.objects.all()
    worker.relay()
    worker.wait_for(1, "settle")

    with override_settings(RELAYS=worker.relays):
        broker = create_broker("default", using="default")
        assert broker.publish([envelope(mine)]) == [CONFIRMED]
        broker.close()
    with transaction.atomic():
        note.delay("behind it")
    worker.relay()

    worker.wait_for(2, "note")
    assert Effect.objects.filter(handler="settle").count() == 1
    caused = Message.objects.filter(causation_id=str(mine.message_id)).order_by("position")
    assert [(each.topic, each.correlation_id) for each in caused] == [
        ("tests.happened", "flow-7"),
        ("tests.note", "flow-7"),
    ]
    [noted] = [line for line in worker.lines("note") if line["args"] == ["settled"]]
    assert noted["request"]["headers"]["outbox_correlation_id"] == "flow-7"

"""Whatever a task is told, its message through the outbox is the one that Celery itself sends."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery._state import pop_current_task, push_current_task
from celery.app.task import Context
from django.db import transaction
from kombu import Connection, Exchange, Queue, pools
from kombu.common import Broadcast
from kombu.transport import memory

from outbox.celery import OutboxCelery
from outbox.models import Message
from relay.brokers.kombu import _publish
from relay.replay import envelope

pytestmark = pytest.mark.django_db(transaction=True)

SOON = datetime(2035, 1, 1, tzinfo=UTC)
URL = "memory://"


def add(*numbers: Any, **more: Any) -> Any:
    """Stand for a task; nobody runs it."""


def typed(number: int, *, note: str = "") -> None:
    """Stand for a task with a signature."""


def configured(app: Any, **conf: Any) -> Any:
    """Return an app with the tasks of the tests, and with a broker in memory."""
    app.conf.update(result_backend="cache+memory://", accept_content=["json", "pickle", "yaml"])
    app.conf.update(conf)
    app.task(add, name="unit.add", shared=False, typing=False)
    app.task(typed, name="unit.typed", shared=False)
    app.task(
        add,
        name="unit.urgent",
        shared=False,
        typing=False,
        priority=3,
        expires=SOON,
        time_limit=30,
        soft_time_limit=20,
        ignore_result=True,
        serializer="pickle",
        compression="zlib",
        queue="urgent",
    )
    return app


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    _clear()
    yield
    _clear()


def _clear() -> None:
    pools.reset()  # connections remember what they have declared
    memory.Transport.global_state.clear()
    memory.Channel.queues.clear()


def in_the_broker() -> dict[str, list[Any]]:
    """Take what is in all queues: each message as a worker would find it."""
    found: dict[str, list[Any]] = {}
    with Connection(URL) as link:
        channel: Any = link.default_channel
        for queue in sorted(memory.Channel.queues):
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.setdefault(queue, []).append(_comparable(message))
    return found


OURS = ("outbox_message_id", "outbox_correlation_id", "outbox_causation_id")
MOMENT = re.compile(r"(20[23]\d-\d\d-\d\dT)[\d:.]+")
"""Some count from now on."""

UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _comparable(message: Any) -> Any:
    headers = {name: value for name, value in message.headers.items() if name not in OURS}
    properties = {k: v for k, v in message.properties.items() if k != "delivery_tag"}
    if "expiration" in properties:
        properties["expiration"] = int(properties["expiration"]) // 100_000_000
    return [message.content_type, message.content_encoding, headers, properties, _body(message)]


def _body(message: Any) -> Any:
    body = message.body
    text = body if isinstance(body, str) else body.decode("latin-1")
    for name in OURS:
        assert name not in text
    return text


def alike(found: Any) -> Any:
    """Return what two runs have in common: each id is another, and the first is the first."""
    text = MOMENT.sub(r"\1", json.dumps(found, default=repr, sort_keys=True))
    numbers: dict[str, str] = {}
    return json.loads(UUID.sub(lambda m: numbers.setdefault(m[0], f"id-{len(numbers)}"), text))


def through_the_outbox(app: Any, call: Callable[[Any], Any]) -> dict[str, list[Any]]:
    with transaction.atomic():
        call(app)
    rows = list(Message.objects.order_by("position"))
    assert rows, "nothing is in the outbox"
    assert not in_the_broker(), "something went past the outbox"
    with Connection(URL) as link:
        for row in rows:
            _publish(link.default_channel, envelope(row))
    return in_the_broker()


TASK = "unit.add"
CALLS: dict[str, Callable[[Any], Any]] = {
    "delay": lambda app: app.tasks[TASK].delay(1, "é", note=[1, {"a": None}]),
    "typed": lambda app: app.tasks["unit.typed"].delay(1, note="n"),
    "task's options": lambda app: app.tasks["unit.urgent"].delay(1),
    "task's options by name": lambda app: app.send_task("unit.urgent", (1,)),
    "call's options": lambda app: app.tasks["unit.urgent"].apply_async(
        (1,), priority=9, queue="other", serializer="json", compression="bzip2", expires=None
    ),
    "send_task": lambda app: app.send_task("elsewhere", (1,), {"a": 2}, countdown=4, priority=2),
    "send_task by place": lambda app: app.send_task("elsewhere", [1], {"a": 2}, 5, SOON),
    "eta": lambda app: app.tasks[TASK].apply_async((1,), eta=SOON),
    "countdown": lambda app: app.tasks[TASK].apply_async((1,), countdown=1000),
    "expires": lambda app: app.tasks[TASK].apply_async((1,), expires=1000.5),
    "expires at": lambda app: app.tasks[TASK].apply_async((1,), expires=SOON + timedelta(days=1)),
    "headers": lambda app: app.tasks[TASK].apply_async((1,), headers={"a": {"b": [1, 2.5]}}),
    "shadow": lambda app: app.tasks[TASK].apply_async((1,), shadow="other.name"),
    "ignore_result": lambda app: app.tasks[TASK].apply_async((1,), ignore_result=True),
    "argsrepr": lambda app: app.tasks[TASK].apply_async((1,), argsrepr="(hidden)", kwargsrepr="-"),
    "link": lambda app: app.tasks[TASK].apply_async((1,), link=[app.tasks[TASK].s(2)]),
    "link_error": lambda app: app.tasks[TASK].apply_async(
        (1,), link_error=app.tasks[TASK].si(2).set(queue="errors")
    ),
    "pickle": lambda app: app.tasks[TASK].apply_async(({1, 2},), serializer="pickle"),
    "queue": lambda app: app.tasks[TASK].apply_async((1,), queue="made.up"),
    "a queue itself": lambda app: app.tasks[TASK].apply_async(
        (1,), queue=Queue("given", Exchange("given", "topic"), "g.#", max_priority=5)
    ),
    "exchange": lambda app: app.tasks[TASK].apply_async((1,), exchange="x", routing_key="y"),
    "user's properties": lambda app: app.tasks[TASK].apply_async(
        (1,), reply_to="answers", correlation_id="c-1", delivery_mode=1, message_id="m", type="t"
    ),
    "stamps": lambda app: app.tasks[TASK].s(1).stamp(who="me", n=[1, 2]).apply_async(),
    "immutable": lambda app: app.tasks[TASK].si(1).apply_async((2,)),
    "partial": lambda app: app.tasks[TASK].s(1, a=1).apply_async((2,), {"b": 2}, priority=4),
    "signature by name": lambda app: app.signature("elsewhere", (1,), queue="far").delay(),
    "chain": lambda app: chain(app.tasks[TASK].s(1), app.tasks[TASK].s(2), app.tasks[TASK].s())(),
    "pipe": lambda app: (app.tasks[TASK].s(1) | app.tasks["unit.urgent"].s()).delay(),
    "chain with link_error": lambda app: (
        chain(app.tasks[TASK].s(1), app.tasks[TASK].s())
        .on_error(app.tasks[TASK].s(9))
        .apply_async(countdown=5, priority=2)
    ),
    "group": lambda app: group(app.tasks[TASK].s(n) for n in range(3)).apply_async(priority=1),
    "empty group": lambda app: [group().apply_async(), app.tasks[TASK].delay()],
    "group by names": lambda app: group(app.signature("a", (1,)), app.signature("b")).delay(),
    "chord": lambda app: chord([app.tasks[TASK].s(n) for n in range(2)], app.tasks[TASK].s())(),
    "chord in a chain": lambda app: (
        app.tasks[TASK].s(0) | group(app.tasks[TASK].s(n) for n in range(2)) | app.tasks[TASK].s()
    ).delay(),
    "chain in a group": lambda app: group(
        app.tasks[TASK].s(1) | app.tasks[TASK].s(2), app.tasks[TASK].s(3)
    ).delay(),
    "chunks": lambda app: app.tasks[TASK].chunks(zip(range(5), range(5), strict=True), 2).delay(),
    "map": lambda app: app.tasks[TASK].map([1, 2]).delay(),
    "starmap": lambda app: app.tasks[TASK].starmap([(1, 2), (3, 4)]).delay(),
    "from a task": lambda app: _within_a_task(app),
}


def _within_a_task(app: Any) -> None:
    """Send as the code of a running task does: of its root, its parent, and with its headers."""
    task = app.tasks["unit.typed"]
    ids = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    request = Context(id=ids[0], root_id=ids[1], parent_id=ids[2], delivery_info={"priority": 6})
    task.request_stack.push(request)
    push_current_task(task)
    try:
        app.tasks[TASK].delay(1)
    finally:
        pop_current_task()
        task.request_stack.pop()


def _router(name: str, args: Any, kwargs: Any, options: Any, **_: Any) -> Any:
    return {"queue": "routed", "priority": 8} if args and args[0] == 1 else None


TOPIC = Exchange("tasks", "topic")
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "routes": {
        "task_routes": {
            "unit.add": {"queue": "feeds", "routing_key": "feeds.add", "priority": 7},
            "unit.*": {"queue": "rest"},
            re.compile("else.*"): {"exchange": "far", "routing_key": "away"},
        }
    },
    "router": {"task_routes": (_router, {"elsewhere": "far"})},
    "queues": {
        "task_queues": [
            Queue("default", TOPIC, "task.#", queue_arguments={"x-max-priority": 9}),
            Queue("urgent", TOPIC, "urgent.#", message_ttl=60),
        ],
        "task_default_queue": "default",
        "task_default_exchange": "tasks",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "task.default",
    },
    "broadcast": {"task_queues": [Broadcast("celery"), Queue("urgent")]},
    "options": {
        "task_default_priority": 5,
        "task_default_delivery_mode": "transient",
        "task_serializer": "pickle",
        "task_compression": "zlib",
        "task_ignore_result": True,
        "result_extended": True,
        "task_inherit_parent_priority": True,
        "enable_utc": False,
        "timezone": "Asia/Kathmandu",
    },
    "protocol 1": {"task_protocol": 1},
}


def outcome(run: Callable[[], dict[str, list[Any]]]) -> Any:
    """Return what was sent, or what was raised instead."""
    try:
        return alike(run())
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_message_is_what_celery_sends(setting: str) -> None:
    """To the byte, in the same queues and the same order; but for the headers that are ours."""
    conf = SETTINGS[setting]

    def plainly(call: Callable[[Any], Any]) -> dict[str, list[Any]]:
        app = configured(Celery("same", broker=URL, set_as_current=False), **conf)
        call(app)
        return in_the_broker()

    def ours(call: Callable[[Any], Any]) -> dict[str, list[Any]]:
        app = configured(OutboxCelery("same", broker=URL, set_as_current=False), **conf)
        return through_the_outbox(app, call)

    differences = {}
    for name, call in CALLS.items():
        found = []
        for run in (plainly, ours):
            found.append(outcome(partial(run, call)))
            _clear()
        if found[0] != found[1]:
            differences[name] = found
        Message.objects.all().delete()

    assert not differences

"""Tasks on Redis, where there is one at its standard port."""

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from django.db import transaction
from kombu import Connection, Exchange, Queue

from outbox.celery import OutboxCelery
from outbox.exceptions import ConfigurationError
from outbox.models import Message
from relay.brokers.base import CONFIRMED, UNSENT, Status
from relay.brokers.kombu import KombuBroker
from relay.replay import envelope

pytestmark = pytest.mark.django_db(transaction=True)

URL = "redis://127.0.0.1:6379/15"


@pytest.fixture
def app() -> Iterator[OutboxCelery]:
    try:
        redis.Redis.from_url(URL).ping()
    except redis.ConnectionError:
        pytest.skip("no Redis at its standard port")
    name = f"tasks-{uuid.uuid4()}"
    app = OutboxCelery("unit", broker=URL, set_as_current=False)
    queue = Queue(name, Exchange(name, "direct"), name)
    app.conf.update(task_default_queue=name, task_queues=[queue])
    yield app
    with Connection(URL) as link:
        link.default_channel.queue_delete(name)
    app.close()


def taken(app: OutboxCelery) -> Any:
    """Take one message from the queue: its body and what else it has, but for its number."""
    name = app.conf.task_default_queue
    with Connection(URL) as link:
        message: Any = link.default_channel.basic_get(name, no_ack=True)
        assert message is not None
        properties = dict(message.properties)
        properties["delivery_info"] = dict(properties["delivery_info"])
        properties.pop("delivery_tag", None)
        return message.body, dict(message.headers), properties, message.content_type


def test_a_worker_gets_what_celery_would_have_sent(app: OutboxCelery) -> None:
    """Body, properties and headers, but for those that we add."""
    call: dict[str, Any] = {"args": (1, "é"), "task_id": "chosen", "priority": 3, "expires": 60}
    app.send_task("unit.add", outbox=False, origin="same", **call)
    plain = taken(app)
    with transaction.atomic():
        app.send_task("unit.add", origin="same", **call)

    broker = KombuBroker.from_settings(URL, {}, using="default")
    try:
        assert broker.publish([envelope(Message.objects.get())]) == [CONFIRMED]
    finally:
        broker.close()
    through = taken(app)
    added = {name for name in through[1] if name.startswith("outbox_")}
    assert added == {"outbox_message_id", "outbox_correlation_id"}
    for headers in (plain[1], through[1]):
        for name in (*added, "expires", "origin"):
            headers.pop(name, None)
    assert through == plain


def test_a_redis_that_is_away_is_an_outage(app: OutboxCelery) -> None:
    """No message is to blame."""
    with transaction.atomic():
        app.send_task("unit.add")
    broker = KombuBroker.from_settings("redis://127.0.0.1:1/0", {}, using="default")

    [outcome] = broker.publish([envelope(Message.objects.get())])

    assert outcome.status is Status.UNKNOWN


@pytest.mark.parametrize("hold", [True, False])
def test_behind_a_refused_task_its_key_waits(app: OutboxCelery, hold: bool) -> None:
    """And nothing else of the page, if keys are held at all."""
    with transaction.atomic():
        app.send_task("unit.add", (1,), outbox_key="k")
        app.send_task("unit.add", (2,), outbox_key="k")
        app.send_task("unit.add", (3,), outbox_key="l")
        app.send_task("unit.add", (4,))
    broken, *others = [envelope(row) for row in Message.objects.order_by("position")]
    page = [msgspec.structs.replace(broken, data=b"{"), *others]
    broker = KombuBroker.from_settings(URL, {}, using="default")
    broker.hold_keys = hold
    try:
        outcomes = broker.publish(page)
    finally:
        broker.close()

    held = Status.HELD if hold else Status.CONFIRMED
    assert [each.status for each in outcomes] == [
        Status.REFUSED,
        held,
        Status.CONFIRMED,
        Status.CONFIRMED,
    ]


@pytest.mark.parametrize("url", ["filesystem://", "memory://", "amqp://h//", "sqla+sqlite://", "x"])
def test_transports_that_lose_messages_are_refused(url: str) -> None:
    """And AMQP, which has an adapter that can do more."""
    with pytest.raises(ConfigurationError):
        KombuBroker.from_settings(url, {}, using="default")


@pytest.mark.parametrize("url", ["redis://:pa#ss@h/0", "redis://user:se/cret@h/0"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as refused:
        KombuBroker.from_settings(url, {}, using="default")

    assert "pa" not in str(refused.value).replace("password", "")
    assert "cret" not in str(refused.value)


def test_a_page_ends_when_its_time_is_over(app: OutboxCelery) -> None:
    """However little time there is, one is sent; the rest is not."""
    with transaction.atomic():
        for _ in range(3):
            app.send_task("unit.add")
    page = [envelope(each) for each in Message.objects.order_by("position")]
    broker = KombuBroker.from_settings(URL, {}, using="default")
    broker.page_seconds = 0.0
    try:
        assert broker.publish(page) == [CONFIRMED, UNSENT, UNSENT]
    finally:
        broker.close()

"""The examples of the pages about Celery run as they stand."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import group
from celery.signals import import_modules
from django.db import transaction
from django.test import override_settings

from inbox.celery import ConsumeStep
from inbox.models import Receipt
from outbox.celery import OutboxCelery
from outbox.models import Message
from project.shop.models import Order
from relay.conf import create_broker, relay_settings
from tests.testapp.models import Effect

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to"
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCKS.findall((HOW_TO / page).read_text())


def numbered(number: int) -> None:
    """Take what the calls of the pages give to tasks."""


@pytest.fixture
def app() -> OutboxCelery:
    """The app of the page, but with a broker that nobody can reach: nothing may go there."""
    first, package, *_ = blocks("celery-tasks.md")
    assert "from project.celery import app" in package
    names: dict[str, Any] = {}
    before = list(import_modules.receivers or ())
    exec(first.replace('("project")', '("project", set_as_current=False)'), names)
    import_modules.receivers = before  # it would look for tasks of the project when that starts
    app: OutboxCelery = names["app"]
    app.conf.update(broker_url="amqp://nobody.invalid", broker_connection_retry=False)
    return app


@pytest.mark.django_db(transaction=True)
def test_a_task_waits_for_the_commit(app: OutboxCelery) -> None:
    """With the app of the page, delay() within a transaction writes into the outbox."""
    names = {
        "transaction": transaction,
        "send_receipt": app.task(name="docs.send_receipt")(numbered),
        "order": Effect(key="order", number=1, handler="docs", message_id="1"),
    }
    [block] = blocks("celery-on-commit.md")
    exec(block, names)

    assert Message.objects.get().topic == "docs.send_receipt"


@pytest.mark.django_db(transaction=True)
def test_the_calls_of_the_table_mean_the_same(app: OutboxCelery) -> None:
    """What stands before and what stands after write the same messages, each once."""
    task = app.task(name="docs.task")(numbered)
    names = {
        "task": task,
        "transaction": transaction,
        "partial": partial,
        "group": lambda *_: group(task.s(1), task.s(2)),
    }
    page = (HOW_TO / "celery-on-commit.md").read_text()
    rows = re.findall(r"^\| `(.*)` \| `(.*)` \|$", page, re.MULTILINE)
    assert len(rows) == 4
    with override_settings(OUTBOX={"SOURCE": "/tests", "CELERY_OUTSIDE": "own"}):
        for number, row in enumerate(rows):
            found = []
            for expression in row:
                Message.objects.all().delete()
                with transaction.atomic():
                    eval(expression, names)
                found.append(Message.objects.count())
            assert found == [2, 2] if number == 3 else found == [1, 1], row


@pytest.mark.django_db(transaction=True)
def test_the_keys_of_the_page(app: OutboxCelery) -> None:
    """A task makes its key of its arguments, and a call has one of its own."""
    [block] = [each for each in blocks("celery-tasks.md") if "outbox_key" in each]
    with transaction.atomic():
        exec(block, {"app": app, "__name__": "docs"})

    keys = Message.objects.order_by("position").values_list("key", flat=True)
    assert list(keys) == ["order-7", "customer-3"]


@pytest.mark.django_db(transaction=True)
def test_the_async_view_of_the_page(app: OutboxCelery) -> None:
    """Order and tasks commit together, called from a coroutine."""
    [block] = [each for each in blocks("celery-tasks.md") if "async def view" in each]
    names: dict[str, Any] = {
        "Order": Order,
        "group": group,
        "send_receipt": app.task(name="docs.send_receipt")(numbered),
        "notify": app.task(name="docs.notify")(numbered),
        "sync_to_async": sync_to_async,
        "transaction": transaction,
    }
    exec(block, names)
    async_to_sync(names["view"])(None)

    topics = Message.objects.order_by("position").values_list("topic", flat=True)
    assert list(topics) == ["docs.send_receipt", "docs.notify"]
    assert Order.objects.get().customer == "Ada"


def test_the_relays_of_the_pages_are_usable() -> None:
    """Each value of RELAYS gives brokers that carry what it says."""
    settings = [block for block in blocks("celery-tasks.md") if block.startswith("RELAYS")]
    found = []
    for block in settings:
        names: dict[str, Any] = {}
        exec(block, names)
        with override_settings(RELAYS=names["RELAYS"]):
            for name in relay_settings():
                found.append(create_broker(name, using="default"))

    assert [(each.messages, each.carries_tasks) for each in found] == [
        ("all", True),
        ("events", False),
        ("tasks", True),
    ]


@pytest.mark.django_db(transaction=True)
def test_idempotent_tasks_act_once() -> None:
    """The page's tasks leave a receipt each: by the task's id, and by a key of the arguments."""
    [block] = blocks("idempotent-tasks.md")
    acted: list[tuple[str, int]] = []
    block = block.replace(
        "charge(order_id): ...", "charge(order_id): acted.append(('c', order_id))"
    )
    block = block.replace("order_id): ...", "order_id): acted.append(('r', order_id))")
    names: dict[str, Any] = {"acted": acted, "__name__": "docs"}
    exec(block, names)
    for task_id in ("1", "1", "2"):
        names["charge"].apply((7,), task_id=task_id, throw=True)
        names["remind"].apply((7,), task_id=f"r{task_id}", throw=True)

    assert acted == [("c", 7), ("r", 7), ("c", 7)]
    assert set(Receipt.objects.values_list("handler", "message_id")) == {
        ("docs.charge", "1"),
        ("docs.charge", "2"),
        ("docs.remind", "7"),
    }


def test_the_step_is_one_of_the_workers() -> None:
    """The page's app has the step in its worker's blueprint."""
    [block] = blocks("celery-workers.md")
    names: dict[str, Any] = {}
    exec(block.replace('Celery("shop")', 'Celery("shop", set_as_current=False)'), names)

    assert names["app"].steps["worker"] == {ConsumeStep}

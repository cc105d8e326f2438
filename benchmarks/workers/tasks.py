"""Celery tasks, sent by `delay()`: `tasks calls COUNT`, or `tasks send COUNT KIND`.

calls   a one-row transaction without and with one call of each kind, in turns
send    many calls, as fast as they go; through the outbox in transactions of 1,000
"""

import json
import os
import sys
import time
from itertools import count
from statistics import median
from typing import Any

import django

WARM_UP = 50
BATCH = 1000


def calls(number: int) -> dict[str, Any]:
    """Return the median seconds of a transaction without and with a call of each kind."""
    numbers = count()
    one_by_one(WARM_UP, numbers)
    return one_by_one(number, numbers)


def one_by_one(number: int, numbers: "count[int]") -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ("without", *TASKS)}
    for _ in range(number):
        for name, found in times.items():
            started = time.perf_counter()
            with transaction.atomic():
                Order(number=next(numbers), note="x" * 200).save(force_insert=True)
                if task := TASKS.get(name):
                    task.delay(str(number), NOTE)
            found.append(time.perf_counter() - started)
    return {name: median(found) for name, found in times.items()}


def send(number: int, kind: str) -> dict[str, Any]:
    """Return how long so many calls took, without the first."""
    task = TASKS[kind]
    with transaction.atomic():
        task.delay("0", NOTE)
    started = time.perf_counter()
    for start in range(0, number - 1, BATCH):
        with transaction.atomic():
            for each in range(start, min(start + BATCH, number - 1)):
                task.delay(str(each), NOTE)
    return {"messages": number - 1, "seconds": time.perf_counter() - started}


NOTE = "x" * 200


def app_of(cls: Any, **options: Any) -> Any:
    """Return a Celery app whose tasks go to the queue of the measurement."""
    app = cls("bench", broker=os.environ["BROKER_URL"], set_as_current=False)
    app.conf.update(
        broker_transport_options=options,
        task_queues=[
            Queue(
                QUEUE,
                Exchange(EXCHANGE, "topic"),
                routing_key="#",
                queue_arguments={"x-queue-type": "quorum"},
            )
        ],
        task_default_queue=QUEUE,
        task_default_exchange=EXCHANGE,
        task_default_exchange_type="topic",
        task_default_routing_key="bench.task",
    )
    return app


def placed(order: str, note: str) -> None:
    """Stand for the task; no worker runs it."""


if __name__ == "__main__":
    django.setup()

    from celery import Celery
    from django.db import transaction
    from kombu import Exchange, Queue

    from benchmarks.queues import EXCHANGE, QUEUE
    from benchmarks.service.models import Order
    from outbox.celery import OutboxCelery

    TASKS = {
        "plain": app_of(Celery).task(placed),
        "confirmed": app_of(Celery, confirm_publish=True).task(placed),
        "outbox": app_of(OutboxCelery).task(placed),
    }
    what, given, *kind = sys.argv[1:]
    found = calls(int(given)) if what == "calls" else send(int(given), *kind)
    print(json.dumps(found))

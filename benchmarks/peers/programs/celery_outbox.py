"""django-celery-outbox: `migrate`, `drain MESSAGES CONCURRENCY`, `emit TRANSACTIONS`."""

import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from django_celery_outbox import OutboxCelery
from kombu import Exchange, Queue

EVENT = {"order": "1", "number": 1, "note": "x" * 212}  # 250 bytes of JSON
TASK = "bench.noop"
BATCH = 500

exchange = Exchange("bench", type="topic", durable=True)
app = OutboxCelery("bench", broker=os.environ.get("BROKER_URL") or "memory://")
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_default_exchange="bench",
    task_default_exchange_type="topic",
    task_default_routing_key="bench.order.placed",
    task_queues=[
        Queue("bench", exchange, routing_key="#", queue_arguments={"x-queue-type": "quorum"})
    ],
    task_default_queue="bench",
)


def migrate() -> dict[str, Any]:
    from django.core.management import call_command  # noqa: PLC0415 - after django.setup()

    call_command("migrate", run_syncdb=True, verbosity=0)
    return {}


def drain(messages: int, concurrency: int) -> dict[str, Any]:
    """Measure from the first row that is gone to the last, seen from outside."""
    from django.db import connection, transaction  # noqa: PLC0415

    for start in range(0, messages, BATCH):
        with transaction.atomic():
            for _ in range(start, min(start + BATCH, messages)):
                app.send_task(TASK, args=[EVENT])
    command = [
        *(sys.executable, "-m", "django", "celery_outbox_relay", "--batch-size", "500"),
        *("--idle-time", "0.01", "--shutdown-timeout", "600"),
        *("--publish-concurrency", str(concurrency)),
    ]
    relay = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first_seen = at_first = 0.0
        while True:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM celery_outbox")
                left = cursor.fetchone()[0]
            now = time.monotonic()
            if left < messages and not first_seen:
                first_seen, at_first = left, now
            if not left:
                break
            if relay.poll() is not None:
                sys.exit("the relay has ended")
            time.sleep(0.02)
    finally:
        relay.terminate()
        relay.wait(30)
    return {"messages": first_seen, "seconds": now - at_first}


def emit(transactions: int) -> dict[str, Any]:
    """Measure a one-row transaction without and with a task, in turns."""
    from django.db import transaction  # noqa: PLC0415

    from benchmarks.peers.programs.orders.models import Order  # noqa: PLC0415

    without: list[float] = []
    with_task: list[float] = []
    for number in range(transactions):
        for times, sends in ((without, False), (with_task, True)):
            started = time.perf_counter()
            with transaction.atomic():
                Order(number=number, note="x" * 200).save(force_insert=True)
                if sends:
                    app.send_task(TASK, args=[EVENT])
            times.append(time.perf_counter() - started)
    return {"without": median(without), "with": median(with_task)}


def main(command: str, *arguments: str) -> None:
    work = {"migrate": migrate, "drain": drain, "emit": emit}[command]
    print(json.dumps(work(*map(int, arguments))))


if __name__ == "__main__":
    import django

    django.setup()
    # By its real name: the library imports the app from there.
    from benchmarks.peers.programs import celery_outbox

    celery_outbox.main(*sys.argv[1:])

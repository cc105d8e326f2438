"""Celery tasks for tests with a real worker: each call is a line of JSON in a file.

TASKS_BROKER, TASKS_RESULTS   the broker and the result backend
TASKS_QUEUE                   the name of the queue, "" for none but the default
TASKS_QUEUE_TYPE              "classic" or "quorum"
TASKS_FILE                    the file
"""

import json
import os
from pathlib import Path
from typing import Any

from kombu import Exchange, Queue

from inbox.celery import idempotent
from outbox.celery import OutboxCelery


def configure(app: OutboxCelery) -> OutboxCelery:
    """Set an app up from the environment; tests do it anew for each test."""
    name = os.environ.get("TASKS_QUEUE", "celery")
    quorum = os.environ.get("TASKS_QUEUE_TYPE") == "quorum"
    arguments = {"x-queue-type": "quorum"} if quorum else {"x-max-priority": 9}
    if os.environ.get("TASKS_BROKER", "").startswith("redis"):
        arguments = {}
    app.conf.update(
        broker_url=os.environ.get("TASKS_BROKER", "amqp://"),
        result_backend=os.environ.get("TASKS_RESULTS") or None,
        broker_connection_retry_on_startup=True,
        task_default_queue=name,
        task_queues=[
            Queue(name, Exchange(name, "direct"), name, queue_arguments=arguments),
        ],
        task_default_exchange=name,
        task_default_routing_key=name,
        accept_content=["json", "pickle"],
        task_create_missing_queues=True,
        worker_hijack_root_logger=False,
        worker_detect_quorum_queues=quorum,
    )
    return app


app = configure(OutboxCelery("tests"))


def write(**line: Any) -> None:
    """Append a line to the file."""
    with Path(os.environ["TASKS_FILE"]).open("a") as file:
        file.write(json.dumps(line, default=repr) + "\n")


@app.task(bind=True, name="tests.note")
def note(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Write down how it was called, with the whole request."""
    request = {name: value for name, value in vars(self.request).items() if name[0] != "_"}
    write(task="note", args=args, kwargs=kwargs, request=request)
    return args[0] if args else None


@app.task(name="tests.add")
def add(*numbers: Any) -> Any:
    """Add numbers, or a list of them."""
    flat = [n for each in numbers for n in (each if isinstance(each, list) else [each])]
    write(task="add", result=sum(flat))
    return sum(flat)


@app.task(name="tests.fail")
def fail(*args: Any) -> None:
    """Fail."""
    raise ValueError("as asked")


@app.task(name="tests.failed")
def failed(request: Any, exc: Any, traceback: Any) -> None:
    """Take note of a failure."""
    write(task="failed", id=request.id)


@app.task(bind=True, name="tests.flaky", max_retries=3)
def flaky(self: Any, number: int) -> int:
    """Fail twice within a transaction that it rolls back by its retry."""
    from django.db import transaction  # noqa: PLC0415 - the module is imported before Django

    with transaction.atomic():
        if self.request.retries < 2:
            raise self.retry(countdown=0)
    write(task="flaky", number=number, retries=self.request.retries)
    return number


@app.task(bind=True, name="tests.settle", max_retries=3)
@idempotent
def settle(self: Any, number: int) -> int:
    """Leave an effect, an event and another task behind, once; fail after them the first time."""
    import outbox  # noqa: PLC0415 - the module is imported before Django
    from tests.testapp.events import Happened  # noqa: PLC0415
    from tests.testapp.models import Effect  # noqa: PLC0415

    Effect.objects.create(key="settle", number=number, message_id=self.request.id, handler="settle")
    outbox.emit(Happened(key="settled", number=number))
    note.delay("settled")
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    write(task="settle", number=number)
    return number

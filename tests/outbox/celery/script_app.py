"""The Celery app of a project whose scripts do not all set up Django.

SCRIPT_BROKER, SCRIPT_QUEUE   the broker, and the queue that its tasks go to
"""

import os
import signal
from typing import Any

from celery.utils.log import get_task_logger

from outbox.celery import OutboxCelery

logger = get_task_logger(__name__)
app = OutboxCelery("script", broker=os.environ.get("SCRIPT_BROKER", "amqp://127.0.0.1:1//"))
app.conf.task_default_queue = os.environ.get("SCRIPT_QUEUE", "script")
app.conf.beat_schedule = {"often": {"task": "script.add", "schedule": 0.2, "args": (5,)}}
app.conf.beat_schedule_filename = os.environ.get("SCRIPT_SCHEDULE", "")


@app.task(name="script.add")
def add(*numbers: Any) -> Any:
    logger.info("noted: %s", numbers)
    return sum(numbers)


@app.task(name="script.die", ignore_result=True)
def die() -> None:
    """End the process, in a way that leaves the rest to the worker."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="script.failed")
def failed(task_id: str) -> None:
    logger.info("noted: failed")


@app.task(name="script.twice")
def twice(number: int) -> int:
    """Send another task by itself, outside of any transaction."""
    add.delay(number, number)
    return number

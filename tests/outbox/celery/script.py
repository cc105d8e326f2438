"""Processes that send tasks to a queue of their own."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection

from tests.test_public_api import python

APP = "tests.outbox.celery.script_app"


class Script:
    """Runs programs that send tasks, and tells what has arrived."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue = f"script-{uuid.uuid4()}"

    def environment(self, outside: str = "", django: bool = True) -> dict[str, str]:
        return {
            "SCRIPT_BROKER": self.url,
            "SCRIPT_QUEUE": self.queue,
            "DJANGO_SETTINGS_MODULE": "tests.settings" if django else "",
            "TEST_OUTBOX": json.dumps({"CELERY_OUTSIDE": outside} if outside else {}),
        }

    def run(self, program: str, outside: str = "", *, django: bool = True) -> str:
        program = f"from {APP} import app, add\n{program}"
        return python(program, **self.environment(outside, django))

    def arrived(self) -> list[Any]:
        """Take all that is in the queue: the arguments of each task."""
        with Connection(self.url) as link:
            channel: Any = link.channel()
            channel.queue_declare(self.queue, durable=True, auto_delete=False)
            found = []
            while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                found.append(json.loads(message.body)[0])
        return found


@pytest.fixture
def script(broker_url: str) -> Iterator[Script]:
    found = Script(broker_url)
    yield found
    with Connection(broker_url) as link:
        link.channel().queue_delete(found.queue)

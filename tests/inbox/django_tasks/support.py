"""What the tests of Django's tasks share."""

from typing import Any

from django.core.management import call_command
from django.utils import timezone

import outbox
from outbox.models import Message
from relay.replay import envelope

BACKEND = "inbox.tasks.OutboxBackend"


QUEUES = ["default", "reports"]


def backend(**options: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "QUEUES": QUEUES, "OPTIONS": options}


def run_tasks() -> None:
    """Publish what is in the outbox to the handlers of this process."""
    call_command("relay", "--until-empty", verbosity=0)


def message_of(result: Any) -> outbox.Envelope:
    return envelope(Message.objects.get(message_id=result.id))


def payload_of(path: str) -> dict[str, Any]:
    return {
        "task": path,
        "args": [],
        "kwargs": {},
        "queue_name": "default",
        "priority": 0,
        "enqueued_at": timezone.now().isoformat(),
    }

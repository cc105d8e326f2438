"""What tests of batches share."""

from collections.abc import Callable
from typing import Any

from inbox.models import Receipt
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    record,
)
from tests.testapp.events import Happened


def named(name: str) -> Callable[[Any, Envelope], None]:
    """A handler that records its name."""
    return lambda event, message: record(event, message, name)


def receipts() -> set[tuple[str, str]]:
    return set(Receipt.objects.filter(state="processed").values_list("handler", "message_id"))


def fail(event: Happened, message: Envelope) -> None:
    record(event, message, "fail")
    raise ValueError("no luck")

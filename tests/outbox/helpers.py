"""Events, and ways to look at the log, for the tests of this package."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import msgspec
import pydantic
from django.db import DEFAULT_DB_ALIAS, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.conf import outbox_settings
from outbox.models import Message
from relay.log import open_log


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal


@outbox.event("tests.rich", subject="reference")
@dataclass(frozen=True)
class Rich:
    """A dataclass with every kind of value that JSON does not have."""

    reference: UUID
    at: datetime
    day: date
    total: Decimal
    size: Size
    lines: list[Line] = field(default_factory=list)
    comment: str | None = None
    ratio: float | None = None


@outbox.event("tests.packed", key="order_id", version=2, topic="warehouse.parcels")
class Packed(msgspec.Struct, frozen=True):
    """A msgspec.Struct."""

    order_id: int
    weight: Decimal
    at: datetime | None = None


@outbox.event("tests.billed", key="invoice")
class Billed(pydantic.BaseModel):
    """A pydantic model, with an alias."""

    invoice: str = pydantic.Field(alias="invoiceNumber")
    amount: Decimal
    at: datetime | None = None
    ratio: float | None = None


PLAIN = outbox.register("tests.plain")
KEYED = outbox.register("tests.keyed", key="id", subject=lambda payload: f"thing/{payload['id']}")


def logged(using: str = DEFAULT_DB_ALIAS) -> list[outbox.Envelope]:
    """Return what a relay reads that starts at the beginning, in the order of emission."""
    log = open_log("tests", using=using)
    found: list[tuple[int, outbox.Envelope]] = []
    for lane in range(outbox_settings().LANES):
        for look in range(3):
            with transaction.atomic(using=using):
                sequence = log.acquire(lane)
                assert sequence is not None
                page = log.read(lane, 10_000, sequence)
            # What a snapshot from before a flush does not show was not there before this call. The
            # newest one may never be on disk, on a server where others write all the time.
            if read := page.durable or (look > 0 and not page):
                break
            log.flush()
        assert read
        found += zip(page.positions, page.messages, strict=True)
    return [envelope for _, envelope in sorted(found, key=lambda pair: pair[0])]


def rows(using: str = DEFAULT_DB_ALIAS) -> list[Message]:
    """Return the rows of the log that this connection sees, in the order of emission."""
    return list(Message.objects.using(using).order_by("position"))


def notes() -> list[str]:
    """Return the notes of all Placed events in the log."""
    return [msgspec.json.decode(bytes(row.data))["note"] for row in rows()]


def statements(captured: CaptureQueriesContext) -> Sequence[str]:
    """Return what was executed, without what opens and ends transactions and savepoints."""
    control = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    return [
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].upper().startswith(control)
    ]

"""What has come in and was handled in the last day or week, and how long it took."""

import math
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from inbox.models import Receipt
from inbox.states import State
from outbox.message.ids import time_of
from outbox.models import Message
from outbox.reports.history import Period, Step, history

COLUMNS = ("state", "message_id", "changed")


def received(using: str, period: Period) -> list[Step]:
    """Return the receipts of each step, by when they came in first. Two statements."""
    # What is open or was tried again has `received`; else it has not changed since it came in.
    return history(Receipt.objects.using(using), period, COLUMNS, time=["received", "changed"])


def is_handled(row: Sequence[object]) -> bool:
    """Tell whether a receipt of a step is processed."""
    return row[0] == State.PROCESSED


def emitted(steps: Sequence[Step], log: str) -> dict[str, datetime]:
    """Return when the messages of receipts were emitted, or due, by their id. One statement.

    The log of this service knows; of others the id says it, if it is a UUIDv7.
    """
    ids = {row[1] for step in steps for row in step.rows if is_handled(row)}
    found = {each: moment for each in ids if (moment := time_of(each)) is not None}
    rows = Message.objects.using(log).filter(message_id__in=map(UUID, found))
    found |= {str(each): moment for each, moment in rows.values_list("message_id", "time")}
    return found


def seconds(step: Step, times: dict[str, datetime]) -> list[float]:
    """Return how long each handled receipt of a step has taken since its message was emitted."""
    return sorted(
        max(0.0, (row[2] - times[row[1]]).total_seconds())
        for row in step.rows
        if is_handled(row) and row[1] in times
    )


def percentile(ascending: Sequence[float], part: float) -> float | None:
    """Return the number that a part of them, such as 0.95, do not exceed; None if there is none."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(part * len(ascending)) - 1)]

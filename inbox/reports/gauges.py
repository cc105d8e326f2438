"""What handlers owe, in numbers for monitoring."""

from collections import Counter
from collections.abc import Iterator, Sequence

from django.db import connections, router

from inbox.handlers.registry import handlers
from inbox.ledger.sql import turns
from inbox.models import DeadLetter, Receipt
from inbox.states import OPEN, State
from outbox.database import instants
from outbox.database.clock import database_now
from outbox.extensions.gauges import Gauge, Meter, Reading, register_meter

COUNTED = 10_000
"""Rows of a state that are counted at most, the newest; more are as many and one."""
OTHERS = "(not in the code)"
"""The handlers that are not there any more: anybody's receipts must not make ever more labels."""

RECEIPTS = Gauge(
    "inbox_open_receipts",
    ("handler", "state"),
    "messages that are not over: retrying, waiting or dead; of each state the newest 10,001",
)
LETTERS = Gauge(
    "inbox_dead_letters",
    ("reason",),
    "dead letters that wait for a person, among the newest 10,000",
)
OVERDUE = Gauge(
    "inbox_overdue_seconds", (), "how long the oldest due receipt of a known handler has been due"
)


def read(using: str) -> Iterator[Reading]:
    """Read what is open, by index: a statement for each state, however many handlers there are.

    Handlers of the code are there with 0 as well.
    """
    names = [each.name for each in handlers]
    receipts = Receipt.objects.using(using)
    counts: Counter[tuple[str, str]] = Counter()
    for state in OPEN:
        counts.update({(name, state.value): 0 for name in names})
        newest = receipts.filter(state=state).order_by("-pk").values_list("handler", flat=True)
        counts.update((_known(name), state.value) for name in newest[: COUNTED + 1])
    for labels, count in sorted(counts.items()):
        yield Reading(RECEIPTS, labels, count)
    yield Reading(OVERDUE, (), _overdue(using, names))
    # There is no index of their states: of those that are over nobody keeps many.
    letters = DeadLetter.objects.using(using).order_by("-pk").values_list("reason", "state")
    reasons = Counter(reason for reason, state in letters[:COUNTED] if state == State.DEAD)
    for reason in DeadLetter.Reason:
        yield Reading(LETTERS, (reason.value,), reasons[reason.value])


def _overdue(using: str, names: Sequence[str]) -> float:
    """Return for how many seconds the oldest due receipt of these handlers has been due.

    One statement for all of them, of one index lookup each.
    """
    if not names:
        return 0.0
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(turns.first_due(len(names), connection.vendor), names)
        [(first,)] = cursor.fetchall()
    if first is None:
        return 0.0
    return max(0.0, (database_now(using) - instants.read(first)).total_seconds())


def _known(name: str) -> str:
    return name if handlers.get(name) else OTHERS


def register() -> None:
    """Let metrics have these gauges."""
    gauges = (RECEIPTS, LETTERS, OVERDUE)
    register_meter(Meter("inbox", gauges, read, database=lambda: router.db_for_write(Receipt)))

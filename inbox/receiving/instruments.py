"""What is counted of receiving and handling: see outbox.instruments."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from inbox.ledger.rows import Settlement
from inbox.receiving.tally import Tally
from inbox.states import Reason
from outbox.instruments import LONG_BUCKETS, OTHER, Instrument, Kind, add, declare, hook, record

ALL_GROUPS = "(all)"
"""The group where one process handles for all of them, as the local broker does."""
MOST_ERRORS = 50
"""Types of errors of handlers that have a name of their own."""

_HANDLER = {"handler": "outbox.handler"}
_PROCESSES = {"messaging.operation.name": "process", "messaging.operation.type": "process"}

RECEIVED = declare(
    Instrument(
        name="inbox_received_total",
        kind=Kind.COUNTER,
        labels={"group": "messaging.consumer.group.name", "result": "inbox.result"},
        meaning="deliveries: new, duplicate (nothing was left to do), or unusable (a dead letter)",
        otel="messaging.client.consumed.messages",
        unit="{message}",
        constant={"messaging.operation.name": "receive", "messaging.operation.type": "receive"},
        details=("messaging.system",),
    )
)
HANDLED = declare(
    Instrument(
        name="inbox_handled_total",
        kind=Kind.COUNTER,
        labels={**_HANDLER, "outcome": "outbox.outcome"},
        meaning="what became of a message with a handler, each time: processed, retrying or dead "
        "after a failure, skipped; waiting and redelivered if it was put off and not called",
        otel="inbox.handled.messages",
        unit="{message}",
    )
)
HANDLER_SECONDS = declare(
    Instrument(
        name="inbox_handler_seconds",
        kind=Kind.HISTOGRAM,
        labels=_HANDLER,
        meaning="how long a call of a handler took, whether it succeeded or failed",
        otel="messaging.process.duration",
        constant=_PROCESSES,
        details=("messaging.system", "messaging.consumer.group.name", "error.type"),
    )
)
CRITICAL_SECONDS = declare(
    Instrument(
        name="inbox_critical_seconds",
        kind=Kind.HISTOGRAM,
        labels=_HANDLER,
        meaning="from the time of a message, when it was emitted or due, until it was processed "
        "for good",
        otel="inbox.critical.duration",
        details=("messaging.system",),
        buckets=LONG_BUCKETS,
    )
)

_errors: set[str] = set()


@hook
def received(
    group: str | None, system: str, results: Sequence[Tally], settlements: Iterable[Settlement]
) -> None:
    """Count a batch that has committed: its deliveries, and what handlers made of them."""
    odd = [each for each in results if each.letters or each.duplicates]
    counts = Counter([_result(each) for each in odd])
    counts["new"] += len(results) - len(odd)
    for result, count in counts.items():
        if count:
            add(RECEIVED, (group or ALL_GROUPS, result), count, details=(system,))
    _handled(system, settlements)


@hook
def handled(system: str, settlements: Iterable[Settlement]) -> None:
    """Count what became of messages with handlers, in a transaction that has committed."""
    _handled(system, settlements)


def _handled(system: str, settlements: Iterable[Settlement]) -> None:
    by_handler: dict[str, list[Settlement]] = defaultdict(list)
    for each in settlements:
        by_handler[each.handler.name].append(each)
    now = datetime.now(UTC)
    for name, found in by_handler.items():
        outcomes = Counter(
            [each.state if each.reason is None else _outcome(each) for each in found]
        )
        for outcome, count in outcomes.items():
            add(HANDLED, (name, str(outcome)), count)
        seconds = {"": [x.seconds for x in found if x.seconds is not None and x.exc is None]}
        for each in found:
            if each.exc is not None and each.seconds is not None:
                seconds.setdefault(_error(each.exc), []).append(each.seconds)
        for error, values in seconds.items():
            record(
                HANDLER_SECONDS, (name,), values, details=(system, found[0].handler.group, error)
            )
        times = [x.time for x in found if x.time is not None]  # of what was processed
        ages = [(now - time).total_seconds() for time in times]
        record(CRITICAL_SECONDS, (name,), ages, details=(system,))


def _result(tally: Tally) -> str:
    if tally.letters:
        return "unusable"
    return "duplicate" if tally.duplicates and not tally.settled + tally.waiting else "new"


def _outcome(settlement: Settlement) -> str:
    if settlement.reason is Reason.REDELIVERED:
        return "redelivered"
    return settlement.state


def _error(exc: BaseException) -> str:
    """Return the name of an error's class, or OTHER once there are too many of them."""
    name = type(exc).__name__[:100]
    if name not in _errors:
        if len(_errors) >= MOST_ERRORS:
            return OTHER
        _errors.add(name)
    return name

"""Emit in transactions: `emit TRANSACTIONS BATCHES`.

A one-row transaction without and with an event, in turns; then events of 1,000 at a time.
"""

import json
import sys
import time
from statistics import median

import django

BATCH = 1000
WARM_UP = 50


def main(transactions: int, batches: int) -> None:
    one_by_one(WARM_UP)
    without, with_event = one_by_one(transactions)
    print(
        json.dumps(
            {
                "without": without,
                "with": with_event,
                "each_of_many": median(many(number) for number in range(batches)) / BATCH,
            }
        )
    )


def one_by_one(transactions: int) -> tuple[float, float]:
    """Return the median seconds of a transaction without and with an event."""
    without: list[float] = []
    with_event: list[float] = []
    for number, event in enumerate(placed(range(transactions))):
        for times, emits in ((without, False), (with_event, True)):
            started = time.perf_counter()
            with transaction.atomic():
                Order(number=number, note="x" * 200).save(force_insert=True)
                if emits:
                    outbox.emit(event)
            times.append(time.perf_counter() - started)
    return median(without), median(with_event)


def many(number: int) -> float:
    """Return the seconds of emit_many(), without the transaction around it."""
    events = list(placed(range(number * BATCH, (number + 1) * BATCH)))
    with transaction.atomic():
        started = time.perf_counter()
        outbox.emit_many(events)
        return time.perf_counter() - started


if __name__ == "__main__":
    django.setup()

    from django.db import transaction

    import outbox
    from benchmarks.service.events import placed
    from benchmarks.service.models import Order

    main(int(sys.argv[1]), int(sys.argv[2]))

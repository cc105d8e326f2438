"""Emit at a steady rate, whatever happens: `steady RATE SECONDS FIRST`.

One event in each transaction, beside one row. Prints when each message's transaction had committed.
"""

import json
import sys
import threading
import time

import django

PER_THREAD = 200
"""Transactions a second that a thread can be asked for."""


def main(rate: float, seconds: float, first: int) -> None:
    threads = max(1, round(rate / PER_THREAD))
    total = round(rate * seconds)
    committed: list[tuple[str, float]] = []
    late: list[float] = []
    started = time.monotonic() + 0.2

    def emit(own: int) -> None:
        numbers = range(first + own, first + total, threads)
        for number, event in zip(numbers, placed(numbers), strict=True):
            due = started + (number - first) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            late.append(time.monotonic() - due)
            at: list[float] = []
            with transaction.atomic():
                # Before the outbox adds its own, which would count.
                transaction.on_commit(lambda at=at: at.append(time.time()))  # type: ignore[misc]
                Order(number=number, note="x" * 200).save(force_insert=True)
                message = outbox.emit(event)
            committed.append((message.id, at[0]))
        connection.close()

    working = [threading.Thread(target=emit, args=(own,)) for own in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    achieved = total / (time.monotonic() - started)
    print(json.dumps({"committed": committed, "rate": achieved, "late": max(late)}))


if __name__ == "__main__":
    django.setup()

    from django.db import connection, transaction

    import outbox
    from benchmarks.service.events import placed
    from benchmarks.service.models import Order

    main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))

"""Ask and be answered, by turns with two plain events: `ask MESSAGES CHUNKS`.

Log, relay, inbox and handlers in this process, by the local broker, in chunks. Of two events the
handler of the first emits the second, that of the second writes one row; the handler of a request
returns the reply, which settles it.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import django

PAGE = 100


def main(messages: int, chunks: int) -> None:
    drain()
    kinds: dict[str, Callable[[int], object]] = {"events": tell, "requests": ask}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(-1, chunks):  # the first one warms up
        names = list(kinds) if turn % 2 else list(kinds)[::-1]
        for name in names:
            seconds = measured(kinds[name], messages)
            if turn >= 0:
                found[name].append(seconds / messages)
    pending = Request.objects.filter(settlement__isnull=True).count()
    answered = Settlement.objects.filter(outcome="answered").count()
    done = (pending, answered, Effect._default_manager.count())
    if done != (0, messages * (chunks + 1), messages * (chunks + 1)):
        raise RuntimeError(f"pending, answered and effects: {done}")
    ratio = median(
        with_reply / plain
        for with_reply, plain in zip(found["requests"], found["events"], strict=True)
    )
    print(json.dumps({name: median(times) for name, times in found.items()} | {"ratio": ratio}))


def measured(write: Callable[[int], object], messages: int) -> float:
    started = time.perf_counter()
    for number in range(messages):
        with transaction.atomic():
            write(number)
    drain()
    return time.perf_counter() - started


def tell(number: int) -> object:
    return outbox.emit(Told(str(number), number, NOTE))


def ask(number: int) -> object:
    return outbox.ask(Asked(str(number), number, NOTE))


def drain() -> None:
    """Publish what is pending, and what comes of it."""
    while busy := log.lanes_with_work(LANES):
        for lane in busy:
            transfer(log, broker, lane, PAGE)


if __name__ == "__main__":
    django.setup()

    from django.db import transaction

    import outbox
    from benchmarks.service.events import NOTE, Asked, Told
    from benchmarks.service.models import Effect
    from outbox.conf import outbox_settings
    from outbox.models import Request, Settlement
    from relay.brokers.local import LocalBroker
    from relay.log import open_log
    from relay.transfer import transfer

    LANES = outbox_settings().LANES
    log = open_log("local", using="default", start="beginning")
    broker = LocalBroker.from_settings("", {}, using="default")
    main(int(sys.argv[1]), int(sys.argv[2]))

"""A process that changes aggregates from several threads: `python -m tests.proofs.faults.writers`.

It reads commands from its standard input, one a line: `go`, and `pause`, which is answered, once
no transaction is open any more, with a line of JSON of what it did so far (see Counts).
"""

import dataclasses
import json
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Sequence

import django
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction

SAVEPOINT, ROLLED_BACK, SLOW = 0.05, 0.07, 0.005
"""Which part of the transactions undoes a savepoint, is rolled back itself, stays open for long."""
SLOW_SECONDS = (0.2, 0.8)
PER_TRANSACTION = 3
"""How many aggregates a transaction changes at most."""


@dataclasses.dataclass(slots=True)
class Counts:
    """Changes by what the writer knows of them; in doubt: the connection broke at the commit."""

    committed: int = 0
    rolled_back: int = 0
    in_doubt: int = 0


class ChangedMind(Exception):
    """Rolls a transaction or a savepoint back."""


class Writer(threading.Thread):
    """Makes about so many changes a second while the gate is open."""

    def __init__(self, rate: float, gate: threading.Event) -> None:
        super().__init__(daemon=True)
        self.counts = Counts()
        self._rate = rate
        self._gate = gate
        self._idle = threading.Event()
        self._random = random.Random()

    def run(self) -> None:
        due = time.monotonic()
        while True:
            if not self._gate.is_set():
                self._idle.set()
                self._gate.wait()
                self._idle.clear()
                due = time.monotonic()
                continue  # it may be closed again, and whoever did that has seen us idle
            count = self._random.randint(1, PER_TRANSACTION)
            # What a fault or a slow transaction has cost is made up for, but not all at once.
            due = max(due + count / self._rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            self._change(count)

    def wait_idle(self) -> None:
        self._idle.wait()

    def _change(self, count: int) -> None:
        committing = False
        try:
            with transaction.atomic():
                # In one order in every thread, so that two never wait for each other.
                for key in sorted(self._random.sample(ALL_KEYS, count)):
                    if self._happens(SAVEPOINT):
                        self._change_and_undo(key)
                    change(key)
                if self._happens(SLOW):
                    time.sleep(self._random.uniform(*SLOW_SECONDS))
                if self._happens(ROLLED_BACK):
                    raise ChangedMind
                committing = True
        except ChangedMind:
            self.counts.rolled_back += count
        except (OperationalError, InterfaceError, DatabaseError):
            connections.close_all()
            self.counts.in_doubt += count if committing else 0
            self.counts.rolled_back += 0 if committing else count
            time.sleep(0.1)  # the database is away: no reason to ask it in a tight loop
        else:
            self.counts.committed += count

    def _change_and_undo(self, key: str) -> None:
        try:
            with transaction.atomic():
                change(key)
                raise ChangedMind
        except ChangedMind:
            self.counts.rolled_back += 1

    def _happens(self, share: float) -> bool:
        return self._random.random() < share


def change(key: str) -> None:
    """Change an aggregate and emit the event of it; the truth goes into a table of its own."""
    aggregate = Aggregate.objects.select_for_update().get(key=key)
    aggregate.version += 1
    aggregate.save()
    kind, tag = kind_of(key, aggregate.version), uuid.uuid4().hex
    Change.objects.create(key=key, version=aggregate.version, kind=kind, tag=tag)
    outbox.emit(EVENTS[kind](key=key, version=aggregate.version, tag=tag))


def main(arguments: Sequence[str]) -> None:
    threads, rate = int(arguments[0]), float(arguments[1])
    gate = threading.Event()
    writers = [Writer(rate / threads, gate) for _ in range(threads)]
    for writer in writers:
        writer.start()
    for line in sys.stdin:
        if line.strip() == "go":
            gate.set()
        elif line.strip() == "pause":
            gate.clear()
            for writer in writers:
                writer.wait_idle()
            counts = [dataclasses.astuple(writer.counts) for writer in writers]
            total = Counts(*map(sum, zip(*counts, strict=True)))
            print(json.dumps(dataclasses.asdict(total)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.proofs.faults.settings")
    django.setup()

    import outbox
    from tests.proofs.faults.service.events import EVENTS
    from tests.proofs.faults.service.models import Aggregate, Change
    from tests.proofs.faults.service.vocabulary import KEYS, RARE_KEYS, kind_of

    ALL_KEYS = (*KEYS, *RARE_KEYS)
    main(sys.argv[1:])

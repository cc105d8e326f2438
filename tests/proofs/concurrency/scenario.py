"""Writers and relays at work at once on a real database, and a checker of what came out.

Writers count up 40 aggregates under row locks, which is what makes an order per key. They take
transaction ids early, emit late, roll back savepoints and whole transactions, and some stay open
for more than a second. Relays publish into one recording broker meanwhile.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import connection, connections, transaction
from django.test import override_settings

import outbox
from outbox.runtime.backoff import Backoff
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import Status
from relay.doorbell import Doorbell
from relay.exceptions import BrokerFailed, StaleCursor
from relay.isolation import Isolation
from relay.judgement import Patience
from relay.log import Log
from relay.parking.store import Parking
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker

KEYS = 40
LANES = 2
PATIENCE = 10.0
OFFENCES = 8

MakeLog = Callable[[], Log]


@dataclass
class Findings:
    """What the checker found; all empty when every promise held."""

    lost: list[Counted]
    ghosts: list[Counted]
    doubled: list[Counted]
    disordered: list[tuple[str, list[int]]]
    committed: int = 0
    pages: int = 0
    by_relay: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.ghosts or self.doubled or self.disordered)


class Rollback(Exception):
    """Undo a transaction or savepoint."""


@dataclass
class Scenario:
    make_log: MakeLog
    seed: int
    page_size: int
    writers: int = 8
    relays: int = 3
    transactions: int = 30
    crash_rate: float = 0.0
    refuse_rate: float = 0.0
    offend_rate: float = 0.0
    parking: type[Parking] = Parking

    def run(self) -> Findings:
        """Run writers and relays to the end;  on aggregates that the test makes and drops."""
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE aggregate (key text PRIMARY KEY, number int NOT NULL)")
            cursor.execute(
                "INSERT INTO aggregate SELECT 'k' || n, 0 FROM generate_series(1, %s) AS n", [KEYS]
            )
        try:
            with override_settings(OUTBOX={"LANES": LANES}):
                return self._run()
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE aggregate")

    def _run(self) -> Findings:
        self._committed: list[Counted] = []
        self._broker = FickleBroker(
            random.Random(f"{self.seed}/broker"), self.refuse_rate, self.offend_rate
        )
        self._by_relay: Counter[str] = Counter()
        self._writing = threading.Event()
        self._writing.set()
        self._errors: list[BaseException] = []
        writers = [self._thread(self._write, n) for n in range(self.writers)]
        relays = [self._thread(self._relay, n) for n in range(self.relays)]
        for thread in writers:
            thread.join()
        self._writing.clear()
        for thread in relays:
            thread.join()
        if self._errors:
            raise self._errors[0]
        repeats = self.crash_rate > 0 or self.offend_rate > 0
        findings = check(self._committed, self._broker, duplicates_allowed=repeats)
        findings.by_relay = self._by_relay
        return findings

    def _thread(self, target: Callable[[int], None], number: int) -> threading.Thread:
        def run() -> None:
            try:
                target(number)
            except BaseException as exc:
                self._errors.append(exc)
                self._writing.clear()
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # --- Writers ------------------------------------------------------------------------------

    def _write(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        for turn in range(self.transactions):
            # Each writer stays open for over a second once, at a time of its own.
            hold = 1.1 if turn == 3 + 2 * number else 0.0
            events: list[Counted] = []
            try:
                with transaction.atomic():
                    self._transact(rng, events, hold)
                    if rng.random() < 0.15:
                        raise Rollback
            except Rollback:
                continue
            self._committed += events  # list += is atomic enough under the GIL: one extend

    def _transact(self, rng: random.Random, events: list[Counted], hold: float) -> None:
        if hold or rng.random() < 0.4:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")  # an early id, however late it emits
            time.sleep(rng.random() * 0.02)
        # A hot set of keys makes writers queue for row locks; sorted, so that they never deadlock.
        keys = sorted({f"k{min(rng.randint(1, KEYS), rng.randint(1, KEYS))}" for _ in range(3)})
        for key in keys:
            events.append(self._count(key))
            if rng.random() < 0.2:
                try:
                    with transaction.atomic():
                        self._count(key)
                        raise Rollback
                except Rollback:
                    pass
        if hold:
            # Only now the hot rows are free of us: others must go on meanwhile.
            time.sleep(hold)
        elif rng.random() < 0.5:
            time.sleep(rng.random() * 0.01)

    @staticmethod
    def _count(key: str) -> Counted:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE aggregate SET number = number + 1 WHERE key = %s RETURNING number", [key]
            )
            event = Counted(key, cursor.fetchone()[0])
        outbox.emit(event)
        return event

    # --- Relays -------------------------------------------------------------------------------

    def _relay(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/relay/{number}")
        shutdown = Shutdown()
        doorbell = Doorbell("default", shutdown, listen=True)
        doorbell.connect()
        try:
            self._read(rng, number, doorbell)
        finally:
            doorbell.close()
            shutdown.close()

    def _read(self, rng: random.Random, number: int, doorbell: Doorbell) -> None:
        log = self.make_log()
        parking = self.parking(log, Patience(backoff=Backoff(base=0.01, cap=0.02)))
        isolation = Isolation(log.using)
        moved = time.monotonic()
        while True:
            last_look = not self._writing.is_set()
            log.hear(doorbell.heard())
            busy = log.lanes_with_work(LANES)
            rng.shuffle(busy)
            for lane in busy:
                if self._turn(log, lane, rng, number, parking, isolation):
                    moved = time.monotonic()
            if not busy:
                if last_look and not parking.open.exists():
                    return
                time.sleep(0.001)
            if last_look and time.monotonic() - moved > PATIENCE:
                return  # a broken reader that sees work and never does it, or owes and never pays

    def _turn(
        self,
        log: Log,
        lane: int,
        rng: random.Random,
        number: int,
        parking: Parking,
        isolation: Isolation,
    ) -> bool:
        crash = rng.random() < self.crash_rate
        broker = CrashingBroker(self._broker) if crash else self._broker
        try:
            first = rng.random() < 0.5
            moved = transfer(
                log, broker, lane, self.page_size, parking, isolation, fresh_first=first
            )
        except (StaleCursor, Crash, BrokerFailed):
            return True
        if moved is None:
            return False
        self._by_relay[f"relay {number}"] += moved.published
        return moved.published > 0


class Crash(BaseException):
    """The relay dies after publishing and before its checkpoint."""


class FickleBroker(RecordingBroker):
    """Refuses a part of the messages once; each has its fate from the start.

    Over another part the link breaks each time, until it has broken OFFENCES times.
    """

    def __init__(self, rng: random.Random, rate: float, offend_rate: float) -> None:
        super().__init__()
        self._rng = rng
        self._rate = rate
        self._offend_rate = offend_rate
        self._seen: set[str] = set()
        self._offences: Counter[str] = Counter()
        self._fates = threading.Lock()

    def publish(self, page):  # type: ignore[no-untyped-def]
        with self._fates:
            for each in page:
                if each.id not in self._offences:
                    self._offences[each.id] = 0
                    if self._rng.random() < self._offend_rate:
                        self.offends.add(each.id)
            offending = [each.id for each in page if each.id in self.offends]
            for message_id in offending[:1]:
                self._offences[message_id] += 1
                if self._offences[message_id] > OFFENCES:
                    self.offends.discard(message_id)
        return super().publish(page)

    def _outcomes(self, page):  # type: ignore[no-untyped-def]
        for each in page:
            if each.id in self.refuse:
                del self.refuse[each.id]
            elif each.id not in self._seen and self._rng.random() < self._rate:
                self.refuse[each.id] = Status.UNROUTABLE
            self._seen.add(each.id)
        return super()._outcomes(page)


class CrashingBroker(RecordingBroker):
    def __init__(self, inner: RecordingBroker) -> None:
        self._inner = inner

    def publish(self, page):  # type: ignore[no-untyped-def]
        self._inner.publish(page)
        raise Crash


def check(
    committed: list[Counted], broker: RecordingBroker, *, duplicates_allowed: bool = False
) -> Findings:
    """Compare what was committed with what was published, in the order of publishing."""
    published = [
        Counted(e.key or "", n) for e, n in zip(broker.published, broker.numbers(), strict=True)
    ]
    counts = Counter(published)
    by_key: dict[str, list[int]] = defaultdict(list)
    seen: set[Counted] = set()
    for event in published:
        # What a receiver that deduplicates gets to see.
        if event not in seen:
            seen.add(event)
            by_key[event.key].append(event.number)
    return Findings(
        lost=sorted(set(committed) - seen, key=str),
        ghosts=sorted(seen - set(committed), key=str),
        doubled=[] if duplicates_allowed else [e for e, n in counts.items() if n > 1],
        disordered=[(key, ns) for key, ns in by_key.items() if ns != sorted(ns)],
        committed=len(committed),
        pages=len(broker.pages),
    )

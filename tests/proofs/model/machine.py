"""A simple model of the log, and everything that can be done to it, in any order.

The model knows per key what was committed, in order. Whatever happens in between - open
transactions, crashes, refusals, outages, requeues, discards - at the end everything committed and
not discarded has been published, in the order of its key, and nothing else.
"""

from collections import defaultdict

from django.db import connection, transaction
from django.db.models.functions import Now
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import outbox
from outbox.runtime.backoff import Backoff
from relay.brokers.base import Status
from relay.exceptions import BrokerFailed
from relay.isolation import Isolation
from relay.judgement import Patience
from relay.log import Log, open_log
from relay.models import Parked
from relay.parking.people import discard, requeue
from relay.parking.store import Parking, open_rows
from relay.transfer import transfer
from tests.kit.sessions import Session
from tests.kit.support import Counted, RecordingBroker
from tests.proofs.concurrency.scenario import Crash, CrashingBroker

KEYS = ("a", "b", "c")
KEY = st.sampled_from(KEYS)
SESSIONS = 2
LANES = 2
REFUSAL = st.sampled_from([Status.UNROUTABLE, Status.NACKED, Status.REFUSED, Status.UNKNOWN])


class LogMachine(RuleBasedStateMachine):
    """Emits, commits, relays and breaks things; see the module."""

    parking_class = Parking

    def make_log(self) -> Log:
        return open_log("model", using="default")

    def __init__(self) -> None:
        super().__init__()
        empty()
        self.broker = RecordingBroker()
        self.log = self.make_log()
        self.parking = self.parking_class(self.log, Patience(3, Backoff(base=3600.0, cap=3600.0)))
        self.isolation = Isolation("default")
        self.sessions = [Session() for _ in range(SESSIONS)]
        self.open: dict[int, list[tuple[str, int]]] = {}
        self.committed: dict[str, list[int]] = defaultdict(list)
        self.discarded: set[tuple[str, int]] = set()
        self.next: dict[str, int] = defaultdict(int)
        self.id_of: dict[tuple[str, int], str] = {}

    def teardown(self) -> None:
        for session in self.sessions:
            session.close()

    # --- Writers -----------------------------------------------------------------------------

    @rule(key=KEY, count=st.integers(1, 4), refused=st.none() | REFUSAL)
    def emit(self, key: str, count: int, refused: Status | None) -> None:
        """Commit messages; the broker may refuse the first of them until it is mended."""
        if self._is_locked(key):
            return
        with transaction.atomic():
            serials = [self._emit(key) for _ in range(count)]
        self.committed[key] += serials
        if refused is Status.UNKNOWN:
            self.broker.offends.add(self.id_of[key, serials[0]])
        elif refused is not None:
            self.broker.refuse[self.id_of[key, serials[0]]] = refused

    @rule(key=KEY)
    def emit_and_roll_back(self, key: str) -> None:
        if not self._is_locked(key):
            with transaction.atomic():
                self._emit(key)
                transaction.set_rollback(True)

    @rule(number=st.integers(0, SESSIONS - 1))
    def begin(self, number: int) -> None:
        """A transaction takes an early id."""
        if number not in self.open:
            self.sessions[number].begin()
            self.open[number] = []

    @rule(number=st.integers(0, SESSIONS - 1), key=KEY)
    def emit_in_session(self, number: int, key: str) -> None:
        # As row locks would have it: a key belongs to one open transaction.
        if number in self.open and not self._is_locked(key, but=number):
            self.open[number].append((key, self.sessions[number].run(self._emit, key)))

    @rule(number=st.integers(0, SESSIONS - 1), commits=st.booleans())
    def end(self, number: int, commits: bool) -> None:
        if number not in self.open:
            return
        emitted = self.open.pop(number)
        if commits:
            self.sessions[number].commit()
            for key, serial in emitted:
                self.committed[key].append(serial)
        else:
            self.sessions[number].rollback()

    # --- The relay ---------------------------------------------------------------------------

    @rule(lane=st.integers(0, LANES - 1), size=st.integers(1, 4), fresh_first=st.booleans())
    def page(self, lane: int, size: int, fresh_first: bool) -> None:
        self._transfer(self.broker, lane, size, fresh_first=fresh_first)

    @rule(lane=st.integers(0, LANES - 1), size=st.integers(1, 4))
    def crash(self, lane: int, size: int) -> None:
        """The relay dies after publishing, before anything is written down; another starts."""
        try:
            self._transfer(CrashingBroker(self.broker), lane, size)
        except (Crash, BrokerFailed):
            self.log = self.make_log()
            self.isolation = Isolation("default")

    @rule(lane=st.integers(0, LANES - 1), after=st.integers(0, 3))
    def outage(self, lane: int, after: int) -> None:
        """The connection breaks within a page."""
        self.broker.breaks_after = after
        self._transfer(self.broker, lane, 4)
        self.broker.breaks_after = None

    # --- What goes wrong, and what people do about it ------------------------------------------

    @rule()
    def mend(self) -> None:
        self.broker.refuse.clear()
        self.broker.offends.clear()

    @rule()
    def time_passes(self) -> None:
        Parked.objects.filter(state="parked").update(next_attempt_at=Now())

    @rule()
    def requeue(self) -> None:
        requeue(Parked.objects.all())

    @precondition(lambda self: open_rows("default").exists())
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        rows = list(open_rows("default").order_by("position"))
        row = data.draw(st.sampled_from(rows))
        discard(Parked.objects.filter(pk=row.pk), by="model")
        [found] = [event for event, i in self.id_of.items() if i == str(row.message_id)]
        self.discarded.add(found)

    # --- What always holds ---------------------------------------------------------------------

    @invariant()
    def nothing_uncommitted_is_published(self) -> None:
        for key, serials in self._published().items():
            assert set(serials) <= set(self.committed[key])

    @invariant()
    def keys_are_in_order(self) -> None:
        """What a receiver that deduplicates sees of a key is in the order of its commits."""
        for key, serials in self._published().items():
            order = [self.committed[key].index(serial) for serial in dict.fromkeys(serials)]
            assert order == sorted(order), (key, serials)

    def finish(self) -> None:
        """Let everything heal, and compare."""
        for number in list(self.open):
            self.end(number, commits=True)
        self.broker.refuse.clear()
        self.broker.offends.clear()
        for _ in range(200):
            requeue(Parked.objects.filter(state="dead"))
            self.time_passes()
            busy = self.log.lanes_with_work(LANES)
            if not busy:
                break
            for lane in busy:
                self._transfer(self.broker, lane, 5)
        published = self._published()
        for key in KEYS:
            owed = [s for s in self.committed[key] if (key, s) not in self.discarded]
            # What was discarded may have been published before, by a page that crashed.
            got = [s for s in dict.fromkeys(published[key]) if (key, s) not in self.discarded]
            assert got == owed, (key, got, owed)
        self.keys_are_in_order()

    def _published(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for envelope, serial in zip(self.broker.published, self.broker.numbers(), strict=True):
            found[str(envelope.key)].append(serial)
        return found

    def _transfer(
        self, broker: RecordingBroker, lane: int, size: int, *, fresh_first: bool = False
    ) -> None:
        transfer(
            self.log, broker, lane, size, self.parking, self.isolation, fresh_first=fresh_first
        )

    def _emit(self, key: str) -> int:
        self.next[key] += 1
        serial = self.next[key]
        self.id_of[key, serial] = outbox.emit(Counted(key, serial)).id
        return serial

    def _is_locked(self, key: str, but: int | None = None) -> bool:
        return any(key in {k for k, _ in emitted} for n, emitted in self.open.items() if n != but)


def empty() -> None:
    """Start an example with nothing in the tables."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE django_outbox_message, django_relay_checkpoint, django_relay_parked"
        )

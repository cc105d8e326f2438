"""Receive a batch: deduplicate, handle, settle, in one transaction.

One statement claims the receipts of the whole batch, as processed. Each handler runs in a
savepoint; what fails, or has to wait for others of its key, is kept with its message, in one
statement more, and handled later by inbox.receiving.retries. So all of a batch can be acknowledged.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from inbox.acknowledgements.telling import Acknowledgements
from inbox.calling.calls import Calls
from inbox.conf import inbox_settings
from inbox.delivery import LARGE, Delivery
from inbox.handlers.ordering import BEHIND, HANDLE, STALE, Line, LineKey, stored_place
from inbox.handlers.registry import Handler, handlers
from inbox.handlers.versions import bound_to_versions, served
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Claim, Kept, MessageName, Settlement
from inbox.models import DeadLetter
from inbox.receiving import dead_letters, instruments, settlement, steps
from inbox.receiving.dead_letters import Unusable
from inbox.receiving.isolation import isolation
from inbox.receiving.tally import Tally
from inbox.replies import faults, withdrawals
from inbox.replies.withdrawals import NAME as WITHDRAWALS
from inbox.replies.withdrawals import Target
from inbox.states import State
from outbox.error_text import storable, text_of
from outbox.exceptions import UndecodableMessage
from outbox.failpoints import hit
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.requests import CANCELLED
from outbox.tracing.hooks import now, received


class Wanted(NamedTuple):
    """An event, its place in the batch, how it came in, what becomes of it, and who wants it.

    Its receipts have its id and source as bounded() makes them.
    """

    place: int
    delivery: Delivery
    envelope: Envelope
    tally: Tally
    handlers: list[Handler]

    def claim(self, handler: Handler) -> Claim:
        """Return what the receipt of a handler is unique by."""
        return (bounded(self.envelope.id), handler.name, bounded(self.envelope.source))


class Batch:
    """The deliveries of one transaction. `group` selects handlers; None means all of them.

    When handlers have run for `seconds` by the `clock`, it ends with the message that they are at:
    what was not begun is left to the next batch, as if it had not come yet. What no handler can
    use is in `unusable` in the end, and a dead letter unless it is one. `system` is what brought
    them, as OpenTelemetry calls it.
    """

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        *,
        using: str,
        group: str | None = None,
        keep_letters: bool = True,
        seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        system: str = "outbox",
    ) -> None:
        self.deliveries = deliveries
        self._letters: list[tuple[int, Unusable]] = []
        self._keep_letters = keep_letters
        self._seconds = seconds
        self._clock = clock
        self.woke = False
        """Whether messages that were waiting may go on now."""
        self._group = group
        self._using = using
        self._ledger = Ledger(using)
        self._calls = Calls(self._ledger)
        # Of transactions that a handler has committed.
        self._done: set[Claim] = set()
        self._noted: list[Settlement] = []
        self._all_noted: list[Settlement] = []
        self._system = system

    @property
    def unusable(self) -> list[Unusable]:
        """What no handler can use of what was received."""
        return [letter for _, letter in self._letters]

    @property
    def settlements(self) -> list[Settlement]:
        """What became of handler calls, but of those that simply returned."""
        return self._settlements

    def receive(self) -> list[Tally]:
        """Process the batch and commit; return what became of each delivery, in order.

        Nothing has happened to those at the end that there was no time for; the first is never one.
        Raises a database error that is an outage when the database is away; nothing has happened
        then.
        """
        since = now()
        with isolation.shared():
            self._calls.run(self._receive, self._keep_handled)
        hit("inbox.committed")
        received(self._messages(), group=self._group, since=since)
        instruments.received(self._group, self._system, self.results, self._all)
        dead_letters.tell(self.unusable)
        for settled in self._settlements:
            settlement.tell(settled)
        return self.results

    def _messages(self) -> Iterator[Envelope]:
        """Return what was received and somebody wants, but for what is left to another batch."""
        return (item.envelope for item in self._wanted if item.place < len(self.results))

    def _receive(self) -> None:
        self.results = [Tally() for _ in self.deliveries]
        self._letters = []
        self._settlements = list(self._noted)
        self._all = list(self._all_noted)  # those as well that simply returned
        self._kept: list[Kept] = []
        self._faults: list[tuple[Settlement, Envelope]] = []
        self._unwanted: list[tuple[int, Envelope, str]] = []
        self._acknowledgements = Acknowledgements(self._using)
        self._handled: set[Claim] = set()
        self._counted: set[Claim] = set()
        self._withdrawn: list[Envelope] = []
        wanted = self._wanted = self._decode()
        self._cancelled = _cancelled(wanted)
        hit("inbox.received")
        keys = {
            key for item in wanted for handler in item.handlers if (key := _line(handler, item))
        } | {key for each in self._cancelled.values() if (key := each.line)}
        # Before the receipts: whoever waits for one of those holds all its lines already.
        self._ledger.lock(keys)
        self._claims = self._claim(wanted)
        claims = dict(self._claims)
        self._lines = self._ledger.lines(keys) if claims else {}
        self._calls.steps.load(_for_steps(wanted, claims))
        ends, begun = self._clock() + self._seconds, 0
        for item in wanted:
            # All events of one delivery are settled together.
            if item.place > begun and self._clock() >= ends:
                self._leave(item.place)
                break
            begun = item.place
            for handler in item.handlers:
                state = self._handle(handler, item, claims)
                if self._calls.over:
                    return
                self._acknowledgements.add(item.envelope, handler, state)
        self._calls.finish()
        withdrawn = [each for m in self._withdrawn for each in withdrawals.targets(m)]
        self._kept += withdrawals.in_advance(withdrawn, claims)
        self._ledger.forget(sorted(claims.values()))
        self._write()
        faults.tell(self._faults, self._using)
        self._acknowledge()
        if self._keep_letters:
            dead_letters.bury(self.unusable, self._using)
        hit("inbox.handled")

    def _leave(self, place: int) -> None:
        """Leave what comes from a place on to another batch."""
        self.results = self.results[:place]
        self._letters = [(each, letter) for each, letter in self._letters if each < place]

    def _acknowledge(self) -> None:
        for place, envelope, group in self._unwanted:
            if place < len(self.results):
                self._acknowledgements.add_unwanted(envelope, group)
        self._acknowledgements.tell()

    def _write(self) -> None:
        self._ledger.keep(self._kept)
        self._ledger.advance(self._lines.values())
        ready = {line.key: 0.0 for line in self._lines.values() if line.ready}
        self._ledger.wake(ready)
        self.woke |= bool(ready)
        self.woke |= withdrawals.apply(self._ledger, self._withdrawn)

    def _keep_handled(self) -> None:
        """Let no receipts stand but those of handlers that have run; the others are to come."""
        claims = self._claims
        self._ledger.forget(sorted(claims[each] for each in claims.keys() - self._handled))
        self._kept = [each for each in self._kept if each.settlement.state is State.PROCESSED]
        self._write()
        self._done |= self._handled
        self._noted = [each for each in self._settlements if each.state is State.PROCESSED]
        self._all_noted = [each for each in self._all if each.state is State.PROCESSED]

    def _decode(self) -> list[Wanted]:
        """Return the usable messages and who wants them; the others become dead letters."""
        wanted = []
        limit = inbox_settings().MAX_BYTES
        for place, delivery in self._parts():
            if not delivery.fits(limit):
                self._dead(dead_letters.too_large(delivery, self._group or ""), place)
                continue
            try:
                envelope = delivery.decode()
            except UndecodableMessage as exc:
                reason = DeadLetter.Reason.UNDECODABLE
                self._dead(Unusable(delivery, reason, text_of(exc), self._group or ""), place)
                continue
            wanting = handlers.for_message(envelope, self._group)
            if not wanting and envelope.type == CANCELLED:
                continue  # nobody here answers anything
            usable = [handler for handler in wanting if handler.version in (None, envelope.version)]
            if usable:
                wanted.append(Wanted(place, delivery, envelope, self.results[place], usable))
            if usable and len(usable) == len(wanting):
                continue
            # Without a queue of a group, a message that nobody wants concerns nobody.
            concerned = (
                {handler.group for handler in wanting} if self._group is None else {self._group}
            )
            for group in sorted(concerned - served(wanting, envelope.version)):
                others = bound_to_versions(wanting, group)
                self._dead(dead_letters.unwanted(delivery, envelope, group, others), place)
                self._unwanted.append((place, envelope, group))
        return wanted

    def _parts(self) -> Iterator[tuple[int, Delivery]]:
        for place, delivery in enumerate(self.deliveries):
            for part in delivery.parts():
                yield place, part

    def _dead(self, letter: Unusable, place: int) -> None:
        self._letters.append((place, letter))
        self.results[place].bury()

    def _claim(self, wanted: list[Wanted]) -> dict[Claim, int]:
        """Insert the receipts of the batch; return those that were not there before."""
        rows = {}
        for item in wanted:
            envelope = item.envelope
            flow = envelope.correlation_id and bounded(envelope.correlation_id)
            for handler in item.handlers:
                message, name, source = claim = item.claim(handler)
                rows[claim] = (name, source, message, bounded(envelope.type), flow)
        for claim, target in self._cancelled.items():
            rows.setdefault(claim, target.row)
        # Every process claims in the same order, so that two cannot wait for each other.
        return self._ledger.claim([rows[claim] for claim in sorted(rows)])

    def _handle(self, handler: Handler, item: Wanted, claims: dict[Claim, int]) -> State | None:
        """Let a handler have a message; return the state of the receipt, None if it had one."""
        tally, claim = item.tally, item.claim(handler)
        # A second copy in this batch is a duplicate.
        number = claims.pop(claim, None)
        if number is None:
            again = claim in self._done - self._counted
            self._counted.add(claim)
            tally.handled += again
            tally.duplicates += not again
            return None
        line = self._lines.get(key) if (key := _line(handler, item)) else None
        if target := self._cancelled.get(claim):
            settled, place = target.settlement(None), 0
        else:
            settled, place = self._decide(handler, item, line)
        tally.count(settled)
        self._all.append(settled)
        if settled.state is State.PROCESSED:
            self._handled.add(claim)
            if handler.name == WITHDRAWALS:
                self._withdrawn.append(item.envelope)
        if settled.state is State.PROCESSED and settled.reason is None:
            return settled.state
        if settled.state is State.DEAD:
            self._faults.append((settled, item.envelope))
        self._settlements.append(settled)
        self._kept.append(_kept(number, settled, item, place))
        return settled.state

    def _decide(self, handler: Handler, item: Wanted, line: Line | None) -> tuple[Settlement, int]:
        """Call a handler, unless its order says otherwise; return what follows and the place."""
        envelope = item.envelope
        message = settlement.name_of(envelope)
        sequence = None
        if line is not None and handler.sequence is None and line.decide(None, None) is BEHIND:
            line.ready = line.head_state is State.WAITING  # whose turn it should have been
            return self._hold(handler, message, line, line.next_place(None))
        sequenced = handler.sequence is not None
        unread = line.place_unread(sequenced=sequenced) if line is not None else 0
        if item.delivery.redelivered and len(item.delivery.body) > LARGE:
            # To read it may be what has ended another process, by the memory that it takes.
            self.woke = True
            return self._stays(settlement.redelivered(handler, message), line, unread)
        try:
            event = settlement.read(handler, envelope)
            if line is not None and handler.sequence is not None:
                sequence = handler.sequence_of(event)
        except UndecodableMessage as exc:
            settled = settlement.unusable(handler, message, exc, state=None)
            return self._stays(settled, line, line.end() if line is not None else 0)
        except MemoryError as exc:
            settled = settlement.failed(handler, envelope, exc, state=None, earlier=0)
            return self._stays(settled, line, unread)
        place, decision = 0, HANDLE
        if line is not None:
            place, decision = (
                line.next_place(sequence),
                line.decide(sequence, handler.sequence_start),
            )
        if decision is STALE:
            return settlement.stale(handler, message, place, state=None), 0
        if decision is BEHIND or (decision.missing and handler.gap_seconds):
            assert line is not None
            return self._hold(handler, message, line, place, decision.missing)
        if item.delivery.redelivered:
            # With the rest of its batch it could end this process, as perhaps another one before.
            self.woke = True
            return self._stays(settlement.redelivered(handler, message), line, place)
        settled = steps.handle(self._calls, handler, event, envelope, state=None, earlier=0)
        if settled.state is not State.PROCESSED:
            return self._stays(settled, line, place)
        if line is not None:
            line.handled(sequence)
        return settlement.went_on(settled, decision.missing), 0

    def _hold(
        self,
        handler: Handler,
        message: MessageName,
        line: Line,
        place: int,
        missing: range = range(0),
    ) -> tuple[Settlement, int]:
        return self._stays(
            settlement.held(handler, message, state=None, missing=missing), line, place
        )

    def _stays(self, settled: Settlement, line: Line | None, place: int) -> tuple[Settlement, int]:
        if line is None:
            return settled, 0
        line.put(settled.state, place)
        return settled, stored_place(place)


def _line(handler: Handler, item: Wanted) -> LineKey | None:
    """Return the line in which a handler has to keep a message, if any."""
    if not handler.ordered or item.envelope.key is None:
        return None
    return LineKey(handler.name, bounded(item.envelope.source), bounded(item.envelope.key))


def _for_steps(
    wanted: Iterable[Wanted], claims: Collection[Claim]
) -> Iterator[tuple[Handler, Any, Envelope]]:
    """Return what may lead to steps of processes, with its event."""
    for item in wanted:
        for handler in item.handlers:
            if handler.process and item.claim(handler) in claims:
                # What cannot be read is told when its turn comes.
                with suppress(UndecodableMessage, MemoryError):
                    yield handler, settlement.read(handler, item.envelope), item.envelope


def _cancelled(wanted: Iterable[Wanted]) -> dict[Claim, Target]:
    """Return the requests that are cancelled by some messages, for each handler."""
    return {
        target.claim: target
        for item in wanted
        if item.envelope.type == CANCELLED
        for target in withdrawals.targets(item.envelope)
    }


def _kept(number: int, settled: Settlement, item: Wanted, place: int) -> Kept:
    kept = Kept(number, settled.following(0, None))
    key = settled.instance or item.envelope.key
    if settled.state in (State.PROCESSED, State.SKIPPED):
        return kept
    delivery, envelope = item.delivery, item.envelope
    return kept._replace(
        key=key and bounded(key),
        place=place,
        topic=storable(delivery.topic, 255),
        content_type=storable(delivery.kept_content_type(envelope) or "", 255) or None,
        headers=delivery.kept_headers(),
        body=delivery.body,
    )

"""Receive a batch: deduplicate, handle, settle, in one transaction.

One statement claims the receipts of the whole batch, as processed. Each handler runs in a
savepoint; what fails, or has to wait for others of its key, is kept with its message, in one
statement more, and handled later by inbox.retries. So all of a batch can be acknowledged.
"""

from collections.abc import Sequence
from typing import NamedTuple

from inbox import deadletters, outcomes
from inbox.calls import Calls
from inbox.deadletters import Unusable
from inbox.delivery import Delivery, Result
from inbox.ledger import Claim, Kept, Ledger, storable
from inbox.models import DeadLetter
from inbox.order import BEHIND, HANDLE, STALE, Line, LineKey, stored_place
from inbox.outcomes import Outcome
from inbox.registry import Handler, handlers
from inbox.states import State
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage
from outbox.failpoints import hit


class Wanted(NamedTuple):
    delivery: Delivery
    envelope: Envelope
    result: Result
    handlers: list[Handler]


class Batch:
    """The deliveries of one transaction. `group` selects handlers; None means all of them.

    What no handler can use is in `unusable` in the end, and a dead letter unless it is one.
    """

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        *,
        using: str,
        group: str | None = None,
        keep_letters: bool = True,
    ) -> None:
        self.deliveries = deliveries
        self.unusable: list[Unusable] = []
        self._keep_letters = keep_letters
        self.woke = False
        """Whether messages that were waiting may go on now."""
        self._group = group
        self._using = using
        self._ledger = Ledger(using)
        self._calls = Calls(self._ledger)
        # Of transactions that a handler has committed.
        self._done: set[Claim] = set()
        self._noted: list[Outcome] = []

    def receive(self) -> list[Result]:
        """Process the batch and commit; return what became of each delivery, in order.

        Raises a database error that is an outage when the database is away; nothing has happened
        then.
        """
        self._calls.run(self._receive, self._keep_handled)
        hit("inbox.committed")
        deadletters.tell(self.unusable)
        for outcome in self._told:
            outcome.tell()
        return self.results

    def _receive(self) -> None:
        self.results = [Result() for _ in self.deliveries]
        self.unusable = []
        self._told = list(self._noted)
        self._kept: list[Kept] = []
        self._handled: set[Claim] = set()
        self._counted: set[Claim] = set()
        wanted = self._decode()
        hit("inbox.received")
        keys = {key for item in wanted for found in item.handlers if (key := _line(found, item))}
        # Before the receipts: whoever waits for one of those holds all its lines already.
        self._ledger.lock(keys)
        self._claims = self._claim(wanted)
        claims = dict(self._claims)
        self._lines = self._ledger.lines(keys) if claims else {}
        for item in wanted:
            for found in item.handlers:
                self._handle(found, item, claims)
                if self._calls.over:
                    return
        self._calls.finish()
        self._write()
        if self._keep_letters:
            deadletters.bury(self.unusable, self._using)
        hit("inbox.handled")

    def _write(self) -> None:
        self._ledger.keep(sorted(self._kept))
        self._ledger.advance(self._lines.values())
        ready = {line.key: 0.0 for line in self._lines.values() if line.ready}
        self._ledger.wake(ready)
        self.woke |= bool(ready)

    def _keep_handled(self) -> None:
        """Let no receipts stand but those of handlers that have run; the others are to come."""
        claims = self._claims
        self._ledger.forget(sorted(claims[each] for each in claims.keys() - self._handled))
        self._kept = [each for each in self._kept if each.state is State.PROCESSED]
        self._write()
        self._done |= self._handled
        self._noted = [each for each in self._told if each.state is State.PROCESSED]

    def _decode(self) -> list[Wanted]:
        """Return the usable messages and who wants them; the others become dead letters."""
        wanted = []
        for delivery, result in zip(self.deliveries, self.results, strict=True):
            try:
                envelope = delivery.decode()
            except UndecodableMessage as exc:
                reason = DeadLetter.Reason.UNDECODABLE
                self.unusable.append(Unusable(delivery, reason, str(exc), self._group or ""))
                result.dead += 1
                result.letters += 1
                continue
            wanting = handlers.for_type(envelope.type, self._group)
            usable = [found for found in wanting if found.version in (None, envelope.version)]
            if usable:
                wanted.append(Wanted(delivery, envelope, result, usable))
            # Without a queue of a group, a message that nobody wants concerns nobody.
            concerned = {found.group for found in wanting} if self._group is None else {self._group}
            for group in sorted(concerned - {found.group for found in usable}):
                others = [found for found in wanting if found.group == group]
                self.unusable.append(deadletters.unwanted(delivery, envelope, group, others))
                result.dead += 1
                result.letters += 1
        return wanted

    def _claim(self, wanted: list[Wanted]) -> dict[Claim, int]:
        """Insert the receipts of the batch; return those that were not there before."""
        rows = {
            (envelope.id, found.name, envelope.source): (
                found.name,
                envelope.source,
                envelope.id,
                envelope.type,
                envelope.correlation_id,
            )
            for _, envelope, _, wanting in wanted
            for found in wanting
        }
        # Every process claims in the same order, so that two cannot wait for each other.
        return self._ledger.claim([rows[claim] for claim in sorted(rows)])

    def _handle(self, found: Handler, item: Wanted, claims: dict[Claim, int]) -> None:
        envelope, result = item.envelope, item.result
        claim = (envelope.id, found.name, envelope.source)
        # A second copy in this batch is a duplicate.
        number = claims.pop(claim, None)
        if number is None:
            again = claim in self._done - self._counted
            self._counted.add(claim)
            result.handled += again
            result.duplicates += not again
            return
        line = self._lines.get(key) if (key := _line(found, item)) else None
        outcome, place = self._decide(found, item, line)
        _count(result, outcome)
        if outcome.state is State.PROCESSED:
            self._handled.add(claim)
        if outcome.state is State.PROCESSED and outcome.reason is None:
            return
        self._told.append(outcome)
        self._kept.append(_kept(number, outcome, item, place))

    def _decide(self, found: Handler, item: Wanted, line: Line | None) -> tuple[Outcome, int]:
        """Call a handler, unless its order says otherwise; return the outcome and the place."""
        envelope = item.envelope
        message = outcomes.about(envelope)
        sequence = None
        if line is not None and found.sequence is None and line.decide(None, None) is BEHIND:
            line.ready = line.head_state is State.WAITING  # whose turn it should have been
            return self._hold(found, message, line, line.next_place(None))
        try:
            event = outcomes.read(found, envelope)
            if line is not None and found.sequence is not None:
                sequence = found.sequence_of(event)
        except UndecodableMessage as exc:
            outcome = outcomes.unusable(found, message, exc, state=None)
            return self._stays(outcome, line, line.end() if line is not None else 0)
        place, decision = 0, HANDLE
        if line is not None:
            place, decision = line.next_place(sequence), line.decide(sequence, found.sequence_start)
        if decision is STALE:
            return outcomes.stale(found, message, place, state=None), 0
        if decision is BEHIND or (decision.missing and found.gap_seconds):
            assert line is not None
            return self._hold(found, message, line, place, decision.missing)
        if item.delivery.redelivered:
            # With the rest of its batch it could end this process, as perhaps another one before.
            self.woke = True
            return self._stays(outcomes.redelivered(found, message), line, place)
        outcome = outcomes.attempt(self._calls, found, event, envelope, state=None, earlier=0)
        if outcome.state is not State.PROCESSED:
            return self._stays(outcome, line, place)
        if line is not None:
            line.handled(sequence)
        return outcomes.went_on(outcome, decision.missing), 0

    def _hold(
        self, found: Handler, message: str, line: Line, place: int, missing: range = range(0)
    ) -> tuple[Outcome, int]:
        return self._stays(outcomes.held(found, message, state=None, missing=missing), line, place)

    def _stays(self, outcome: Outcome, line: Line | None, place: int) -> tuple[Outcome, int]:
        if line is None:
            return outcome, 0
        line.put(outcome.state, place)
        return outcome, stored_place(place)


def _line(found: Handler, item: Wanted) -> LineKey | None:
    """Return the line in which a handler has to keep a message, if any."""
    if not found.ordered or item.envelope.key is None:
        return None
    return LineKey(found.name, item.envelope.source, item.envelope.key)


def _count(result: Result, outcome: Outcome) -> None:
    result.handled += outcome.state is State.PROCESSED
    result.retrying += outcome.state is State.RETRYING
    result.waiting += outcome.state is State.WAITING
    result.skipped += outcome.state is State.SKIPPED
    result.dead += outcome.state is State.DEAD
    if outcome.error and outcome.state in (State.RETRYING, State.DEAD):
        result.failures[outcome.handler.name] = outcome.error


def _kept(number: int, outcome: Outcome, item: Wanted, place: int) -> Kept:
    kept = Kept(
        number, outcome.state, outcome.attempts, outcome.delay, outcome.reason, outcome.error
    )
    if outcome.state in (State.PROCESSED, State.SKIPPED):
        return kept
    delivery, envelope = item.delivery, item.envelope
    return kept._replace(
        key=envelope.key,
        place=place,
        topic=storable(delivery.topic, 255),
        content_type=envelope.content_type,
        headers=delivery.kept_headers(envelope),
        body=delivery.body,
    )

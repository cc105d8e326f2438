"""Where refused messages wait: park them, try them again in the order of their key, settle them.

Everything here runs in the transaction that holds the lane's lock, so that no page of the lane is
read meanwhile; or it is a person's action, which row locks keep apart from the relay's.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from django.db import transaction
from django.db.models import Min, QuerySet
from django.db.models.functions import Now

from outbox.envelope import Envelope
from relay.brokers.base import Outcome, Status
from relay.log import Log, Page
from relay.models import Parked
from relay.parked import OPEN, TRANSITIONS, ParkedState, Verb
from relay.policy import Patience


@dataclass(frozen=True, slots=True)
class Due:
    """A parked message whose turn it is."""

    row: Parked
    envelope: Envelope


@dataclass(frozen=True)
class Parking:
    """What one relay has parked, in the database of its log."""

    log: Log
    patience: Patience = field(default_factory=Patience)
    hold_keys: bool = True

    @cached_property
    def open(self) -> QuerySet[Parked]:
        """What this relay still owes."""
        return open_rows(self.log.using).filter(relay=self.log.relay)

    def held_keys(self, page: Page) -> set[str]:
        """Return the keys of a page that have to wait. One statement."""
        if not self.hold_keys:
            return set()
        keys = {message.key for message in page.messages if message.key is not None}
        waiting = self.open.filter(key__in=keys).values_list("key", flat=True).distinct()
        return {key for key in waiting if key is not None}

    def add(self, page: Page, refused: Mapping[int, Outcome]) -> None:
        """Park messages of a page, by their index in it. One statement."""
        Parked.objects.using(self.log.using).bulk_create(
            self._new(page, index, outcome) for index, outcome in refused.items()
        )

    def _new(self, page: Page, index: int, outcome: Outcome) -> Parked:
        message = page.messages[index]
        row = Parked(
            relay=self.log.relay,
            lane=page.lane,
            position=page.positions[index],
            message_id=message.id,
            type=message.type,
            topic=message.topic,
            key=message.key,
            state=ParkedState.WAITING,
            reason=outcome.status.value,
            error=outcome.reason,
            parked_at=Now(),
        )
        if outcome.status is not Status.HELD:
            self._refuse(row, outcome)
        return row

    def due(self, lane: int, limit: int) -> list[Due]:
        """Return messages to try again, in order, each key from its first: at most `limit`.

        With a key held, what waits behind its first comes along, to be sent if that is confirmed.
        """
        heads = (
            self.open.filter(lane=lane, state=ParkedState.PARKED, next_attempt_at__lte=Now())
            .order_by("next_attempt_at")
            .select_for_update(skip_locked=_skips_locked(self.log.using))[:limit]
        )
        found = {head.pk: head for head in heads}
        keys = {head.key for head in found.values() if head.key is not None}
        if keys and self.hold_keys:
            rows = self.open.filter(key__in=keys).order_by("position")
            behind = _startable(rows.select_for_update()[:limit], set(found))
            found |= {row.pk: row for row in behind}
        chosen = sorted(found.values(), key=lambda row: row.position)[:limit]
        fetched, cut = self.log.fetch([row.position for row in chosen])
        end = max(fetched) if cut else math.inf
        self._forget([r for r in chosen if r.position < end and r.position not in fetched])
        return [Due(row, fetched[row.position]) for row in chosen if row.position in fetched]

    def settle(self, tried: Sequence[Due], outcomes: Sequence[Outcome], *, by: str) -> int:
        """Write down what became of messages that were due; return how many are published.

        What the broker said nothing about, and what was held, stays as it is. A fixed number of
        statements.
        """
        confirmed: list[Parked] = []
        refused: list[Parked] = []
        for item, outcome in zip(tried, outcomes, strict=True):
            if outcome.status is Status.CONFIRMED:
                confirmed.append(item.row)
            elif outcome.status not in (Status.HELD, Status.UNKNOWN):
                self._refuse(item.row, outcome)
                refused.append(item.row)
        if refused:
            Parked.objects.using(self.log.using).bulk_update(
                refused,
                ["state", "reason", "error", "attempts", "next_attempt_at"],
            )
        if confirmed:
            _apply(self.open.filter(pk__in=[row.pk for row in confirmed]), Verb.CONFIRM, by=by)
            reach(self.open, {row.key for row in confirmed if row.key is not None})
            self._hurry(confirmed)
        return len(confirmed)

    def _refuse(self, row: Parked, outcome: Outcome) -> None:
        row.attempts += 1
        row.reason, row.error = outcome.status.value, outcome.reason
        pause = self.patience.pause(outcome.status, row.attempts)
        if pause is None:
            row.state, row.next_attempt_at = TRANSITIONS[Verb.GIVE_UP].target, None
        else:
            row.state = TRANSITIONS[Verb.REFUSE].target
            row.next_attempt_at = Now() + timedelta(seconds=pause)

    def _hurry(self, confirmed: Iterable[Parked]) -> None:
        """Try others of the same topics now: whatever was wrong with their queue is over."""
        topics = defaultdict(set)
        for row in confirmed:
            if row.state == ParkedState.PARKED and row.attempts:
                topics[row.lane].add(row.topic)
        for lane, names in topics.items():
            later = self.open.filter(
                lane=lane, state=ParkedState.PARKED, next_attempt_at__gt=Now(), topic__in=names
            )
            later.update(next_attempt_at=Now())

    def _forget(self, rows: Sequence[Parked]) -> None:
        """Give up what somebody has deleted from the log."""
        if rows:
            gone = self.open.filter(pk__in=[row.pk for row in rows])
            _apply(gone, Verb.DISCARD, by="nobody", error="The message is no longer in the log.")
            reach(self.open, {row.key for row in rows if row.key is not None})


def open_rows(using: str) -> QuerySet[Parked]:
    """Return what all relays of a database still owe."""
    return Parked.objects.using(using).filter(state__in=OPEN)


def requeue(rows: QuerySet[Parked]) -> int:
    """Try parked and dead messages again at once, as if for the first time; return how many."""
    return rows.filter(state__in=TRANSITIONS[Verb.REQUEUE].sources).update(
        state=TRANSITIONS[Verb.REQUEUE].target, attempts=0, next_attempt_at=Now()
    )


def discard(rows: QuerySet[Parked], *, by: str) -> int:
    """Give messages up, for good; return how many. What waited behind them goes on."""
    with transaction.atomic(using=rows.db):
        affected = rows.filter(state__in=OPEN)
        keys: dict[str, set[str]] = defaultdict(set)
        for relay, key in affected.values_list("relay", "key").distinct():
            if key is not None:
                keys[relay].add(key)
        count = _apply(affected, Verb.DISCARD, by=by)
        for relay, names in keys.items():
            reach(open_rows(rows.db).filter(relay=relay), names)
    return count


def reach(rows: QuerySet[Parked], keys: set[str]) -> None:
    """Let the first open message of each key have its turn, if it waited for it."""
    if not keys:
        return
    firsts = rows.filter(key__in=keys).values("key").annotate(first=Min("position"))
    rows.filter(
        position__in=firsts.values("first"), state__in=TRANSITIONS[Verb.REACH].sources
    ).update(state=TRANSITIONS[Verb.REACH].target, next_attempt_at=Now())


def _apply(rows: QuerySet[Parked], verb: Verb, *, by: str, **values: str) -> int:
    transition = TRANSITIONS[verb]
    return rows.filter(state__in=transition.sources).update(
        state=transition.target, settled_at=Now(), settled_by=by, next_attempt_at=None, **values
    )


def _startable(rows: Iterable[Parked], due: set[int]) -> list[Parked]:
    """Return the rows that nothing of their key stands before which is not due itself."""
    stopped: set[str | None] = set()
    startable = []
    for row in rows:
        if row.pk not in due and row.state != ParkedState.WAITING:
            stopped.add(row.key)
        if row.key not in stopped:
            startable.append(row)
    return startable


def _skips_locked(using: str) -> bool:
    connection = transaction.get_connection(using)
    return bool(connection.features.has_select_for_update_skip_locked)

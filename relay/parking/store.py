"""Where refused messages wait: park them, try them again in the order of their key, settle them.

Everything here runs in a transaction that holds the lane's lock, also what people do: no page of
the lane is read meanwhile, and nothing changes under a message that is being published."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.db.models.functions import Now

from outbox.message.envelope import Envelope
from relay.brokers.base import Outcome, Status
from relay.judgement import Patience
from relay.log import Log, Page
from relay.models import Parked
from relay.sql import parked as sql
from relay.states import OPEN, TRANSITIONS, ParkedState, Verb

MENDED = (Status.UNROUTABLE.value, Status.REFUSED.value)
"""Reasons that are over for a whole topic when they are over for one message."""

HURRIED = 1_000
"""Parked messages of a topic that are tried at once when one of them gets through, at most."""


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
        rows = _run(self.log.using, sql.HELD, self.log.relay, keys)
        return {row[0] for row in rows}

    def add(self, page: Page, refused: Mapping[int, Outcome]) -> None:
        """Park messages of a page, by their index in it. One statement; another if some wait."""
        rows = [self._new(page, index, outcome) for index, outcome in refused.items()]
        Parked.objects.using(self.log.using).bulk_create(rows)
        if waiting := {row.key for row in rows if row.state is ParkedState.WAITING and row.key}:
            # What they wait for may have been published since, where lanes have become more.
            reach(self.log.using, self.log.relay, waiting)

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

        With keys held, what waits behind the first of a key comes along, to be sent if that is
        confirmed; what is due behind another that is not waits as well.
        """
        heads = self.open.filter(
            lane=lane, state=ParkedState.PARKED, next_attempt_at__lte=Now()
        ).order_by("next_attempt_at")[:limit]
        chosen = {head.pk: head for head in heads}
        if self.hold_keys:
            keyed = {pk: head for pk, head in chosen.items() if head.key is not None}
            lines = self._first_of(
                {head.key for head in keyed.values() if head.key is not None}, limit
            )
            startable = _startable(lines, set(keyed))
            self._hold([pk for pk in keyed if pk not in startable])
            chosen = {pk: head for pk, head in chosen.items() if pk not in keyed} | startable
        rows = sorted(chosen.values(), key=lambda row: row.position)[:limit]
        found, cut = self.log.fetch([row.position for row in rows])
        ids = {row.position: str(row.message_id) for row in rows}
        # After a restart of positions there may be another message at one.
        fetched = {place: each for place, each in found.items() if each.id == ids[place]}
        end = max(found) if cut else math.inf
        self._forget([row for row in rows if row.position < end and row.position not in fetched])
        return [Due(row, fetched[row.position]) for row in rows if row.position in fetched]

    def _first_of(self, keys: set[str], limit: int) -> list[Parked]:
        """Return the first open rows of each key, about `limit` of all together, in order."""
        if not keys:
            return []
        vendor = connections[self.log.using].vendor
        parameters = _parameters(vendor, self.log.relay, keys) | {"each": -(-limit // len(keys))}
        rows = Parked.objects.using(self.log.using).raw(sql.BEHIND[vendor], parameters)
        return sorted(rows, key=lambda row: row.position)

    def _hold(self, numbers: Sequence[int]) -> None:
        if numbers:
            held = self.open.filter(pk__in=numbers, state__in=TRANSITIONS[Verb.HOLD].sources)
            held.update(state=TRANSITIONS[Verb.HOLD].target, next_attempt_at=None, changed=Now())

    def settle(self, tried: Sequence[Due], outcomes: Sequence[Outcome], *, by: str) -> int:
        """Write down what became of messages that were due; return how many are published.

        What the broker said nothing about, and what was held or not sent, stays as it is. A fixed
        number of statements.
        """
        confirmed: list[Parked] = []
        refused: list[Parked] = []
        for item, outcome in zip(tried, outcomes, strict=True):
            if outcome.status is Status.CONFIRMED:
                confirmed.append(item.row)
            elif outcome.status not in (Status.HELD, Status.UNSENT, Status.UNKNOWN):
                self._refuse(item.row, outcome)
                refused.append(item.row)
        if refused:
            Parked.objects.using(self.log.using).bulk_update(
                refused,
                ["state", "reason", "error", "attempts", "next_attempt_at", "changed"],
            )
        if confirmed:
            apply(self.open.filter(pk__in=[row.pk for row in confirmed]), Verb.CONFIRM, by=by)
            reach(self.log.using, self.log.relay, keys_of(confirmed))
            self._hurry(confirmed, {row.topic for row in refused})
        return len(confirmed)

    def _refuse(self, row: Parked, outcome: Outcome) -> None:
        row.changed = Now()
        row.reason, row.error = outcome.status.value, outcome.reason
        pause: float | None = 0.0
        if outcome.status is not Status.LATER:
            row.attempts += 1
            pause = self.patience.pause(outcome.status, row.attempts)
        if pause is None or outcome.final:
            row.state, row.next_attempt_at = TRANSITIONS[Verb.GIVE_UP].target, None
        else:
            row.state = TRANSITIONS[Verb.REFUSE].target
            row.next_attempt_at = Now() + timedelta(seconds=max(pause, outcome.after))

    def _hurry(self, confirmed: Iterable[Parked], refused: set[str]) -> None:
        """Try others of the same topics now: what was wrong with their binding is mended.

        Not after nacks: a queue that was full has room for some, and not for all that waits.
        """
        for lane, topic in {
            (row.lane, row.topic)
            for row in confirmed
            if row.attempts and row.reason in MENDED and row.topic not in refused
        }:
            later = self.open.filter(
                lane=lane,
                topic=topic,
                state=ParkedState.PARKED,
                next_attempt_at__gt=Now(),
                reason__in=MENDED,
            )
            some = list(later.order_by("next_attempt_at").values_list("pk", flat=True)[:HURRIED])
            later.filter(pk__in=some).update(next_attempt_at=Now())

    def _forget(self, rows: Sequence[Parked]) -> None:
        """Give up what somebody has deleted from the log."""
        if rows:
            gone = self.open.filter(pk__in=[row.pk for row in rows])
            apply(gone, Verb.DISCARD, by="nobody", error="The message is no longer in the log.")
            reach(self.log.using, self.log.relay, keys_of(rows))


def open_rows(using: str) -> QuerySet[Parked]:
    """Return what all relays of a database still owe."""
    return Parked.objects.using(using).filter(state__in=OPEN)


def reach(using: str, relay: str, keys: set[str]) -> None:
    """Let the first open message of each key have its turn, if it waited for it."""
    if keys:
        vendor = connections[using].vendor
        with connections[using].cursor() as cursor:
            cursor.execute(sql.REACH[vendor], _parameters(vendor, relay, keys))


def keys_of(rows: Iterable[Parked]) -> set[str]:
    return {row.key for row in rows if row.key is not None}


def _run(using: str, statements: Mapping[str, str], relay: str, keys: set[str]) -> list[Any]:
    vendor = connections[using].vendor
    with connections[using].cursor() as cursor:
        cursor.execute(statements[vendor], _parameters(vendor, relay, keys))
        return list(cursor.fetchall())


def _parameters(vendor: str, relay: str, keys: set[str]) -> dict[str, Any]:
    wanted = sorted(keys)
    return {"relay": relay, "keys": wanted if vendor == "postgresql" else json.dumps(wanted)}


def apply(rows: QuerySet[Parked], verb: Verb, *, by: str, **values: str) -> int:
    transition = TRANSITIONS[verb]
    return rows.filter(state__in=transition.sources).update(
        state=transition.target,
        settled_at=Now(),
        settled_by=by,
        next_attempt_at=None,
        changed=Now(),
        **values,
    )


def _startable(rows: Iterable[Parked], due: set[int]) -> dict[int, Parked]:
    """Return the rows that nothing of their key stands before which is not due itself."""
    stopped: set[str | None] = set()
    startable = {}
    for row in rows:
        if row.pk not in due and row.state != ParkedState.WAITING:
            stopped.add(row.key)
        if row.key not in stopped:
            startable[row.pk] = row
    return startable

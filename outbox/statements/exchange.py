"""The exchange as the sender has it: send statements, take what a group answers."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connections
from django.db.models import Q, QuerySet

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.extensions.resending import unpublished
from outbox.message.envelope import Envelope
from outbox.message.ids import time_of as time_in
from outbox.message.ids import uuid7_text
from outbox.message.requests import address_of
from outbox.models import Break, GroupTopic, Reconciliation, ToState
from outbox.producer.addresses import own_address
from outbox.producer.writing import append
from outbox.statements import log, wire
from outbox.statements.buckets import (
    ceiling,
    finer,
    floor,
    is_forgotten,
    is_width,
    milliseconds,
    moment,
)
from outbox.statements.comparing import Difference, compare, is_old, next_state
from outbox.statements.conf import PeerSettings, peers
from outbox.statements.fitting import fitting
from outbox.statements.sender import (
    PATIENCE,
    UNRESOLVED,
    Expected,
    again,
    close,
    locked,
    note,
    note_all,
    plan,
)
from outbox.statements.topics import Topic, remember
from outbox.statements.totals import Total
from outbox.statements.wire import Answer, Listing, Statement
from outbox.states import BreakKind, BreakState

logger = logging.getLogger("outbox")

SENT_AT_ONCE = 20
"""Statements that are under way to a group, at most."""
MOST_BREAKS = 1000
"""Breaks that one listing makes, at most; what is beyond is found when these are mended."""
LONGEST_CONFIRM = timedelta(seconds=10)
"""What differs twice, at least so far apart, is a break; or the peer's GRACE, if that is less."""
PER_BUCKET = (BreakKind.MISSING, BreakKind.UNKNOWN, BreakKind.UNSETTLED)


def run_round(group: str, peer: PeerSettings, using: str) -> bool:
    """Close buckets, note what is to be stated, and send what can be sent; in this transaction.

    Returns whether more could be closed, after a time in which nothing was; then the next round is
    due at once. Raises ConfigurationError if there is nobody here to take an answer.
    """
    own_address()
    row = locked(group, peer, using)
    expected = Expected.of(row, peer, using)
    again(group, using, after=max(PATIENCE, 3 * peer.EVERY))
    more = False
    if expected.topics:
        late, more = close(row, expected)
        plan(row, expected, late)
    elif not ToState.objects.using(using).filter(group=group).exists():
        # Nothing is known of the group: an empty statement asks for its topics.
        start = row.stated
        ToState.objects.using(using).create(
            group=group, since=start, until=start, width=peer.bucket
        )
    row.next_at = database_now(using) + (timedelta(0) if more else peer.EVERY)
    row.save(using=using, update_fields=["next_at"])
    send(row, expected)
    return more


def ask_since(group: str, peer: PeerSettings, since: int, using: str) -> None:
    """Note all closed buckets from a time on, to be stated with the next round."""
    row = locked(group, peer, using)
    note_all(group, floor(since, peer.bucket), row.stated, peer.bucket, using)


def send(row: Reconciliation, expected: Expected) -> int:
    """Send statements that are noted and not sent yet; return how many."""
    using, group = expected.using, row.group
    rows = ToState.objects.using(using).filter(group=group)
    room = SENT_AT_ONCE - rows.filter(message_id__isnull=False).count()
    unsent = rows.filter(message_id=None).order_by("since", "-width", "pk")
    waiting = list(unsent[: max(0, room)])
    while _refitted(waiting, expected.peer.bucket, using):
        waiting = list(unsent[: max(0, room)])
    for each in waiting:
        _send(each, expected)
    if waiting:
        row.asked_at = database_now(using)
        row.save(using=using, update_fields=["asked_at"])
    return len(waiting)


def _refitted(waiting: Iterable[ToState], bucket: int, using: str) -> bool:
    """Note what was noted while BUCKET was another as it is to be stated now; False if nothing was.

    The group would refuse it as it is.
    """
    old = [each for each in waiting if not is_width(each.width, bucket)]
    for each in old:
        each.delete(using=using)
        first, last = floor(each.since, bucket), ceiling(each.until, bucket)
        note(each.group, [(first, last)], bucket, type_=each.type, using=using)
    return bool(old)


def _send(row: ToState, expected: Expected) -> None:
    using, peer = expected.using, expected.peer
    totals = expected.totals(row.since, row.until, row.width, row.type)
    until = _whole(row, totals)
    if until < row.until:
        note(row.group, [(until, row.until)], row.width, type_=row.type, using=using)
        clash = ToState.objects.using(using).filter(
            group=row.group, width=row.width, since=row.since, until=until, type=row.type
        )
        clash.exclude(pk=row.pk).delete()
        row.until = until
    body = Statement(
        group=row.group,
        address=own_address(),
        since=row.since,
        until=row.until,
        width=row.width,
        bucket=peer.bucket,
        patterns=[row.type] if row.type else list(peer.TYPES),
        totals=[each for each in totals if each.start < until],
    )
    row.message_id = UUID(publish(body, address_of(row.group), using=using))
    row.sent_at = database_now(using)
    row.save(using=using)


def _whole(row: ToState, totals: list[Total]) -> int:
    """Return until when a statement can go, with no more totals than a message has."""
    if len(totals) <= wire.MOST_TOTALS:
        return row.until
    cut = totals[wire.MOST_TOTALS].start
    return cut if cut > row.since else min(row.until, row.since + row.width)


def publish(
    body: Statement | Answer, address: str, *, using: str, cause: Envelope | None = None
) -> str:
    """Write a statement or an answer into the log, to an address; return the id of its message."""
    message_id = uuid7_text()
    envelope = Envelope(
        id=message_id,
        source=outbox_settings().source,
        type=wire.TYPE,
        content_type=wire.CONTENT_TYPE,
        data=wire.encode(body),
        topic=address,
        time=datetime.now(UTC),
        correlation_id=message_id if cause is None else cause.correlation_id or cause.id,
        causation_id=None if cause is None else cause.id,
    )
    append(connections[using], [envelope], outbox_settings())
    return message_id


def take(answer: Answer, using: str) -> None:
    """Take what a group answers: its topics, and what differs; state what is to be looked into.

    In the running transaction. An answer on nothing that is asked says nothing.
    """
    peer = peers().get(answer.group)
    if peer is None:
        return
    row = locked(answer.group, peer, using)
    try:
        asked = ToState.objects.using(using).filter(message_id=UUID(answer.to)).first()
    except ValueError:
        asked = None
    if asked is None or asked.group != answer.group:
        return
    row.answered_at, row.handles = database_now(using), sorted(answer.handles)
    row.save(using=using, update_fields=["answered_at", "handles"])
    _remember(answer, using)
    asked.delete(using=using)
    expected = Expected.of(row, peer, using)
    until = max(asked.since, min(answer.until, asked.until))
    note(row.group, [(until, asked.until)], asked.width, type_=asked.type, using=using)
    said = fitting(answer, asked.since, asked.until, asked.width, asked.type)
    if said.forgotten > asked.since:
        logger.warning(
            "Group %s keeps no receipts of what is before %s: nothing is said of that.",
            row.group,
            moment(min(said.forgotten, asked.until)).isoformat(),
        )
    _Looked(expected, asked, said, until).write()
    send(row, expected)


def _remember(answer: Answer, using: str) -> None:
    rows = GroupTopic.objects.using(using).filter(group=answer.group)
    now = milliseconds(database_now(using))
    stored = {each.topic: each for each in rows}
    known = {name: Topic(name, each.begins, each.ends) for name, each in stored.items()}
    for name, topic in remember(known, answer.topics, now).items():
        if name not in stored:
            GroupTopic(group=answer.group, topic=name, begins=topic.begins, ends=topic.ends).save(
                using=using
            )
        elif topic != known[name]:
            rows.filter(topic=name).update(begins=topic.begins, ends=topic.ends)


@dataclass(slots=True)
class _Looked:
    """What one answer says about the messages that were asked for."""

    expected: Expected
    asked: ToState
    answer: Answer
    until: int

    def write(self) -> None:
        """Bring the breaks up to date, and note what is to be stated in smaller parts."""
        listed = {(each.since, each.type) for each in self.answer.listings}
        narrower = finer(self.asked.width, self.expected.peer.bucket)
        width = narrower or self.asked.width
        for start, kind in self.answer.differing:
            if (start, kind) not in listed:
                end = start + self.asked.width
                note(self.asked.group, [(start, end)], width, type_=kind, using=self._using)
        for listing in self.answer.listings:
            self._compare(listing)
        self._agreed()
        self._twice()

    @property
    def _using(self) -> str:
        return self.expected.using

    @property
    def _locked(self) -> QuerySet[Break]:
        """The breaks of the group, which nobody accepts while they are looked at."""
        rows = Break.objects.using(self._using).filter(group=self.asked.group)
        locks = connections[self._using].features.has_select_for_update
        return rows.select_for_update() if locks else rows

    def _breaks(self, since: int, until: int) -> Iterator[Break]:
        return self._locked.filter(start__gte=since, start__lt=until).iterator()

    def _compare(self, listing: Listing) -> None:
        """Compare what both have of a bucket, message by message."""
        found: dict[tuple[str, str], Difference] = {}
        complete = True
        ours = self.expected.ids(listing.since, listing.until, listing.type)
        for each in compare(ours, listing.ids):
            if len(found) >= MOST_BREAKS:
                complete = False
                break
            found[each.kind, each.message_id] = each
        unknown = [each.message_id for each in found.values() if each.kind is BreakKind.UNKNOWN]
        for message_id in self._not_unknown(unknown):
            del found[BreakKind.UNKNOWN, message_id]
        known = {
            (each.kind, each.message_id): each
            for each in self._breaks(listing.since, listing.until)
            if each.type == listing.type and each.kind in PER_BUCKET
        }
        missing = [each.message_id for each in found.values() if each.kind is BreakKind.MISSING]
        held = unpublished(missing, relay=self.expected.peer.RELAY, using=self._using)
        self._settle(listing.type, found, known, held=held, complete=complete)

    def _not_unknown(self, message_ids: list[str]) -> set[str]:
        """Return which ids the log has all the same, or may have had before retention."""
        kept = outbox_settings().retention
        oldest = None if kept is None else database_now(self._using) - kept
        here = log.known(message_ids, self._using)
        for each in message_ids:
            made = time_in(each)
            if made is None or (oldest is not None and made < oldest):
                here.add(each)
        return here

    def _settle(
        self,
        type_: str,
        found: Mapping[tuple[str, str], Difference],
        known: Mapping[tuple[str, str], Break],
        *,
        held: Iterable[str] = (),
        complete: bool = True,
    ) -> None:
        """Write what becomes of breaks that are known, and those that are new."""
        now, held = database_now(self._using), set(held)
        confirm = min(self.expected.peer.GRACE, LONGEST_CONFIRM)
        sent = self.asked.sent_at or now
        opened: Counter[str] = Counter()
        new, changed = [], []
        for name in sorted(found.keys() | (known.keys() if complete else set())):
            row, difference = known.get(name), found.get(name)
            before = None if row is None else BreakState(row.state)
            after = next_state(
                before,
                there=difference is not None,
                old=row is not None and is_old(row.found, sent, confirm),
                published=name[1] not in held,
            )
            there = "" if difference is None else difference.there
            if row is None:
                if after is not None:
                    new.append(self._new(name, type_, there, now))
                continue
            if after is None:
                row.delete(using=self._using)
                continue
            if after is BreakState.OPEN and before is not BreakState.OPEN:
                opened[row.kind] += 1
            if after is not before or (difference is not None and there != row.there):
                if before is BreakState.REPAIRED:
                    row.found = now
                if after is not before:
                    row.changed = now
                row.state, row.there = after, there or row.there
                changed.append(row)
        Break.objects.using(self._using).bulk_create(new, batch_size=500)
        fields = ["state", "there", "changed", "found"]
        Break.objects.using(self._using).bulk_update(changed, fields, batch_size=200)
        for kind, count in sorted(opened.items()):
            logger.warning(
                "Reconciliation with group %s: %d messages of %s are %s.",
                self.asked.group,
                count,
                type_,
                BreakKind(kind).name.lower(),
            )

    def _new(self, name: tuple[str, str], type_: str, there: str, now: datetime) -> Break:
        kind, message_id = name
        made = time_in(message_id)
        return Break(
            group=self.asked.group,
            kind=kind,
            message_id=message_id,
            type=type_,
            start=milliseconds(made) if made else self.asked.since,
            there=there,
            found=now,
            changed=now,
        )

    def _agreed(self) -> None:
        """Write that nothing differs any more where the two sides say the same."""
        width = self.asked.width
        differ = set(map(tuple, self.answer.differing))
        rows = self._locked.filter(
            Q(type=self.asked.type) if self.asked.type else Q(),
            start__gte=self.asked.since,
            start__lt=self.until,
            state__in=UNRESOLVED,
            kind__in=PER_BUCKET,
        )
        by_type: dict[str, dict[tuple[str, str], Break]] = {}
        for row in rows.iterator():
            if not self._is_told(row):
                continue
            if (floor(row.start, width), row.type) not in differ:
                by_type.setdefault(row.type, {})[row.kind, row.message_id] = row
        for type_, known in by_type.items():
            self._settle(type_, {}, known)

    def _is_told(self, row: Break) -> bool:
        """Tell whether the answer says anything of the time of a break."""
        width, bucket = self.asked.width, self.expected.peer.bucket
        return not is_forgotten(floor(row.start, width), width, bucket, self.answer.forgotten)

    def _twice(self) -> None:
        """Write what a handler of the group has handled twice."""
        by_type: dict[str, dict[tuple[str, str], Difference]] = {}
        for message_id, type_ in self.answer.twice.items():
            found = Difference(BreakKind.TWICE, message_id)
            by_type.setdefault(type_, {})[BreakKind.TWICE, message_id] = found
        rows = self._locked.filter(
            Q(type=self.asked.type) if self.asked.type else Q(),
            kind=BreakKind.TWICE,
            start__gte=self.asked.since,
            start__lt=self.until,
        )
        known: dict[str, dict[tuple[str, str], Break]] = {}
        for row in filter(self._is_told, rows.iterator()):
            known.setdefault(row.type, {})[row.kind, row.message_id] = row
        for type_ in by_type.keys() | known.keys():
            self._settle(type_, by_type.get(type_, {}), known.get(type_, {}))

"""What one answer says about the messages that were asked for, and what becomes of breaks."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Q, QuerySet

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.extensions.resending import unpublished
from outbox.message.ids import time_of as time_in
from outbox.models import Break, ToState
from outbox.statements import log
from outbox.statements.buckets import finer, floor, is_forgotten, milliseconds
from outbox.statements.comparing import Difference, compare, is_old, next_state
from outbox.statements.sender import UNRESOLVED, Expected, note
from outbox.statements.wire import Answer, Listing
from outbox.states import BreakKind, BreakState

logger = logging.getLogger("outbox")

MOST_BREAKS = 1000
"""Breaks that one listing makes, at most; what is beyond is found when these are mended."""
LONGEST_CONFIRM = timedelta(seconds=10)
"""What differs twice, at least so far apart, is a break; or the peer's GRACE, if that is less."""
PER_BUCKET = (BreakKind.MISSING, BreakKind.UNKNOWN, BreakKind.UNSETTLED)


@dataclass(slots=True)
class Looked:
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
        if self.asked.width == self.expected.peer.bucket:
            self._measured()

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
                    assert difference is not None
                    new.append(self._new(difference, type_, now))
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

    def _new(self, difference: Difference, type_: str, now: datetime) -> Break:
        moment = time_in(difference.message_id)
        start = milliseconds(moment) if moment else self.asked.since
        return Break(
            group=self.asked.group,
            kind=difference.kind,
            message_id=difference.message_id,
            type=type_,
            start=start if difference.start is None else difference.start,
            there=difference.there,
            figures=difference.figures,
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

    def _measured(self) -> None:
        """Write of which buckets the two sides have other business totals.

        Other numbers are another break. Where messages differ, totals are not compared.
        """
        by_type: dict[str, dict[tuple[str, str], Difference]] = {}
        for each in self.answer.compared:
            name, figures = each.name, {"here": each.stated, "there": each.booked}
            found = Difference(BreakKind.MEASURE, name, start=each.start, figures=figures)
            by_type.setdefault(each.type, {})[BreakKind.MEASURE, name] = found
        rows = self._locked.filter(
            Q(type=self.asked.type) if self.asked.type else Q(),
            kind=BreakKind.MEASURE,
            start__gte=self.asked.since,
            start__lt=self.until,
        )
        differ = set(map(tuple, self.answer.differing))
        known: dict[str, dict[tuple[str, str], Break]] = {}
        for row in filter(self._is_told, rows.iterator()):
            if (row.start, row.type) not in differ:
                known.setdefault(row.type, {})[row.kind, row.message_id] = row
        for type_ in by_type.keys() | known.keys():
            self._settle(type_, by_type.get(type_, {}), known.get(type_, {}))

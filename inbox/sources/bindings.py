"""What a group remembers of its queue: which topics it has bound, and since when some were missing.

A broker that has lost a queue, or never had a binding, tells nobody: where another group's queue is
bound to the same topics, every event has found a route. So a group keeps a row for each binding in
its own database. They are written when a consumer connects, in two steps:

    plan (what is new is written, unconfirmed) → the source declares → confirm

A process that ends in between leaves what is new unconfirmed, and the next one tells of it. Now and
then consumers note that they are there, and when their queue was there last: messages may be
missing from that time on if it is gone later.

What no consumer of the group has wanted for a day is unbound, by one that is connecting or notes
that it is there: only what the group has bound itself, and not before, as older processes may still
handle it in a rolling deployment. The row stays, with the time: if the topic is wanted again,
messages may be missing since then. An older process that notes that it is there binds it again.
"""

import logging
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from django.db import connections, router, transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Greatest

from inbox.handlers.registry import handlers
from inbox.handlers.topics import types_of
from inbox.models import Binding
from inbox.sources.base import Declared, Place
from outbox.database.fields import InstantField
from outbox.database.instants import now
from outbox.database.sqlite import only_writer
from outbox.extensions.diagnosis import Finding, Level

logger = logging.getLogger("inbox")

_told: set[tuple[str, str]] = set()
"""Groups and queues of theirs that are not read any more, as this process has logged."""
UNBIND_AFTER = timedelta(days=1)
"""How long nobody must have wanted a topic that is unbound."""
TOLD_FOR = timedelta(days=7)
"""How long the doctor tells of what may be missing."""
MARGIN = timedelta(minutes=5)
"""Added to both ends of what is to be published again: clocks differ, and receivers drop what they
have had."""
READ_WITHIN = timedelta(hours=1)
"""A queue that no consumer has noted for so long is read by none; they note it every 10 minutes."""
LISTED = 1000
"""Bindings that the doctor looks at, at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a source is to do, and what of that was missing.

    `gone` are topics to be unbound, with the time since when messages may be missing if they are
    wanted again. `lost`: the queue was there once, and is not. `missing` are topics that have been
    bound by nobody since `since`; None if nothing is known of the group.
    """

    topics: frozenset[str]
    gone: Mapping[str, datetime]
    lost: bool
    missing: tuple[str, ...]
    since: datetime | None
    made: datetime
    """Before anything was declared."""


class Bindings:
    """The memory of one group about its queue, in the database `using`."""

    def __init__(self, using: str, group: str, place: Place) -> None:
        self._using = using
        self._group = group
        self._place = place

    def plan(self, topics: Collection[str], *, exists: bool) -> Plan:
        """Compare what is wanted with what was there; note what is new before it is declared.

        `exists`: whether the queue was there.
        """
        with only_writer(connections[self._using]):
            return self._plan(topics, exists=exists)

    def _plan(self, topics: Collection[str], *, exists: bool) -> Plan:
        moment = now()
        rows = list(Binding.objects.using(self._using).filter(group=self._group))
        here = {row.topic: row for row in rows if (row.queue, row.exchange) == self._place}
        lost = not exists and any(map(_is_known, here.values()))
        missing = [
            topic
            for topic in sorted(topics)
            if lost or topic not in here or not _is_bound(here[topic])
        ]
        self._tell_unread(rows)
        last = max((row.seen for row in rows if _is_known(row)), default=None)
        since = [
            _since(here[topic], moment, here[topic].seen) if topic in here else last
            for topic in missing
        ]
        self._note_missing(missing, since, here, moment, lost=lost)
        unwanted = [row for topic, row in here.items() if topic not in topics]
        if lost:
            self._note_lost(unwanted, moment)
        return Plan(
            topics=frozenset(topics),
            gone={} if lost else self._note_gone(unwanted, moment),
            lost=lost,
            missing=tuple(missing),
            since=min((each for each in since if each is not None), default=None),
            made=moment,
        )

    def confirm(self, plan: Plan, declared: Declared) -> None:
        """Note what the broker has done; tell what may be missing, and what is unbound."""
        with only_writer(connections[self._using]):
            self._confirm(plan, declared)

    def _confirm(self, plan: Plan, declared: Declared) -> None:
        moment = now()
        mine = self._mine()
        bound = [topic for topic in plan.missing if topic in declared.bound]
        if bound:
            mine.filter(topic__in=bound, declared=None, unbound=None).update(declared=moment)
        mine.filter(topic__in=plan.topics).update(seen=_later(plan.made), wanted=moment)
        for topic, since in plan.gone.items():
            row = mine.filter(topic=topic)
            if topic in declared.unbound:
                # Also if somebody has bound it meanwhile, who is to look again: which came first?
                row.update(declared=moment, unbound=since, missing_since=None, lost=False)
            else:  # tried again in a day
                row.filter(unbound=since).update(declared=moment, unbound=None, wanted=moment)
        if unbound := declared.unbound & plan.gone.keys():
            logger.warning(UNBOUND, self._place.queue, ", ".join(sorted(unbound)), self._group)
        if plan.since is not None and bound:
            what = LOST if plan.lost else ADDED
            logger.warning(
                what + " Publish them again where they were emitted: %s",
                *(self._place.queue, self._group, ", ".join(bound), as_text(plan.since)),
                replay_command(bound, plan.since, moment),
            )

    def seen(self, plan: Plan, contact: datetime) -> bool:
        """Note that a consumer is there; return whether the queue is bound as it should be.

        `contact` is when its queue was there last, for certain. Nothing is noted if others have
        unbound what we handle; it is not as it should be either if it is time to unbind something.
        """
        moment = now()
        rows = list(self._mine())
        if len({row.topic for row in rows if row.unbound is None} & plan.topics) < len(plan.topics):
            return False
        with only_writer(connections[self._using]):
            self._mine().filter(topic__in=plan.topics).update(seen=_later(contact), wanted=moment)
        return not any(_is_due(row, moment) for row in rows if row.topic not in plan.topics)

    def _tell_unread(self, rows: Iterable[Binding]) -> None:
        """Log once in this process which other queues the group has had."""
        for queue in sorted({row.queue for row in rows} - {self._place.queue}):
            if (self._group, queue) not in _told:
                _told.add((self._group, queue))
                last = max(row.wanted for row in rows if row.queue == queue)
                logger.warning(
                    UNREAD,
                    self._group,
                    self._place.queue,
                    queue,
                    as_text(last),
                    _drain(self._group, queue),
                )

    def _mine(self) -> QuerySet[Binding]:
        return Binding.objects.using(self._using).filter(
            group=self._group, queue=self._place.queue, exchange=self._place.exchange
        )

    def _note_missing(
        self,
        missing: Sequence[str],
        since: Sequence[datetime | None],
        here: Mapping[str, Binding],
        moment: datetime,
        *,
        lost: bool,
    ) -> None:
        """Note what is to be bound, before it is: who comes after us knows since when."""
        if not missing:
            return
        with transaction.atomic(self._using):
            Binding.objects.using(self._using).bulk_create(
                [
                    Binding(
                        group=self._group,
                        queue=self._place.queue,
                        exchange=self._place.exchange,
                        topic=topic,
                        seen=moment,
                        wanted=moment,
                        missing_since=begun,
                    )
                    for topic, begun in zip(missing, since, strict=True)
                    if topic not in here
                ],
                ignore_conflicts=True,
            )
            for topic, begun in zip(missing, since, strict=True):
                if topic in here and (here[topic].declared or here[topic].unbound):
                    self._mine().filter(topic=topic).update(
                        declared=None, unbound=None, wanted=moment, missing_since=begun, lost=lost
                    )

    def _note_lost(self, unwanted: Iterable[Binding], moment: datetime) -> None:
        """Note that the new queue is not bound to what others may want again."""
        for row in unwanted:
            since = _since(row, moment, row.seen)
            if row.unbound is None and since is not None:
                self._mine().filter(topic=row.topic).update(
                    declared=moment, unbound=since, missing_since=None, lost=False
                )

    def _note_gone(self, unwanted: Iterable[Binding], moment: datetime) -> dict[str, datetime]:
        """Note what is to be unbound, before it is; return it, with the time."""
        gone: dict[str, datetime] = {}
        for row in unwanted:
            since = _since(row, moment, moment) or moment
            still = self._mine().filter(topic=row.topic, wanted__lt=moment - UNBIND_AFTER)
            if _is_due(row, moment) and still.update(
                declared=None, unbound=since, missing_since=None, lost=False
            ):
                gone[row.topic] = since
        return gone


UNREAD = (
    "Group %r reads queue %r, and has read %r before, last at %s. Unless other processes still do, "
    "with another INBOX['QUEUE_PREFIX'], what waits there is not handled, and it fills for ever. %s"
)
LOST = (
    "Queue %r of group %r was there before, was missing, and is declared anew for %s. Events that "
    "were published since %s may not have reached it, and what waited in it is gone."
)
ADDED = (
    "Queue %r of group %r is now bound to %s, which it was not before. Events of these that were "
    "published since %s may not have reached it."
)
UNBOUND = (
    "Queue %r is unbound from %s: no consumer of group %r has had a handler for that for a day. "
    "Where no other queue is bound to it, such events are unroutable from now on: the relay that "
    "publishes them parks them, and what has the same key waits behind. Stop emitting them, or "
    "bind a queue."
)


def _later(moment: datetime) -> Greatest:
    """Return the value of `seen` for a consumer that was there then: others may be ahead of it."""
    return Greatest("seen", Value(moment, output_field=InstantField()))


def _is_known(row: Binding) -> bool:
    """Tell whether a binding has been there; a start may have ended before it was declared."""
    return bool(row.declared or row.missing_since or row.unbound)


def _is_bound(row: Binding) -> bool:
    """Tell whether the broker has confirmed a binding, and nobody has begun to undo it."""
    return row.declared is not None and row.unbound is None


def _is_due(row: Binding, moment: datetime) -> bool:
    """Tell whether a binding that is not wanted here is to be undone, or this to be finished."""
    done = row.unbound is not None and row.declared is not None
    return not done and row.wanted < moment - UNBIND_AFTER


def _since(row: Binding, moment: datetime, last: datetime) -> datetime | None:
    """Return since when messages may be missing of a binding that was there last at `last`."""
    if row.unbound is not None:
        unbound: datetime = row.unbound
        return unbound
    earlier: datetime | None = row.missing_since
    if row.declared is None:
        return earlier
    # Nobody may have looked after an earlier one yet.
    return earlier if earlier and row.declared > moment - TOLD_FOR else last


def replay_command(topics: Collection[str], since: datetime, until: datetime) -> str:
    """Return the command that publishes again what topics may have missed."""
    types = " ".join(f"--type {shlex.quote(each)}" for each in types_of(topics))
    first, last = since - MARGIN, until + MARGIN + timedelta(minutes=1)
    return (
        f"manage.py relay_replay --since {first:%Y-%m-%dT%H:%M}+00:00 "
        f"--until {last:%Y-%m-%dT%H:%M}+00:00 {types}"
    )


def as_text(moment: datetime) -> str:
    """Return a point in time for people."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def examine_bindings() -> Iterator[Finding]:
    """Tell for a week of events that may be missing; a warning where a queue was lost."""
    recent = Q(declared=None) | Q(declared__gt=now() - TOLD_FOR)
    rows = Binding.objects.using(router.db_for_write(Binding)).filter(
        recent, missing_since__isnull=False
    )
    ordered = rows.order_by("group", "queue", "lost", "topic")[:LISTED]
    for (group, queue, lost), same in groupby(
        ordered, key=lambda row: (row.group, row.queue, row.lost)
    ):
        found = list(same)
        since = min(row.missing_since for row in found if row.missing_since)
        until = max((row.declared or now()) for row in found)
        topics = [row.topic for row in found]
        how = "It was missing, and was declared anew." if lost else "It was not bound to them."
        yield Finding(
            level=Level.WARNING if lost else Level.INFO,
            id="inbox.bindings",
            title=f"Events may be missing in group {group!r}",
            text=f"Queue {queue!r} did not get {', '.join(topics)} from {as_text(since)} to "
            f"{as_text(until)}. {how}",
            hint="Publish it again where it was emitted; receivers drop what they have had: "
            f"{replay_command(topics, since, until)}. Then: manage.py inbox_bindings --replayed "
            f"--group {shlex.quote(group)}",
            figures={"topics": len(topics)},
        )


def examine_abandoned() -> Iterator[Finding]:
    """Tell of queues of groups that have no handlers here; a warning if none came for a day."""
    rows = Binding.objects.using(router.db_for_write(Binding)).exclude(group__in=handlers.groups())
    ordered = rows.order_by("group", "queue", "topic")[:LISTED]
    for (group, queue), same in groupby(ordered, key=lambda row: (row.group, row.queue)):
        found = list(same)
        last = max(row.wanted for row in found)
        yield Finding(
            level=Level.WARNING if last < now() - UNBIND_AFTER else Level.INFO,
            id="inbox.abandoned",
            title=f"Group {group!r} has no handlers here",
            text=f"Its queue {queue!r} was bound to {', '.join(row.topic for row in found)}, and "
            f"its consumers were there last at {as_text(last)}. Without them it fills for ever.",
            hint="If nobody is to handle it any more, delete the queue, with what waits in it, and "
            f"what we remember of it: rabbitmqctl delete_queue {shlex.quote(queue)}; manage.py "
            f"inbox_bindings --forget {shlex.quote(group)}. It may also be another service's that "
            "has the same database.",
            figures={"topics": len(found)},
        )


def examine_unread(queues: Mapping[str, str]) -> Iterator[Finding]:
    """Tell of queues that groups have had before; `queues` are those of the groups that are here.

    An INBOX["QUEUE_PREFIX"] was changed: nobody reads the old one, and it is still bound.
    """
    rows = Binding.objects.using(router.db_for_write(Binding)).filter(group__in=queues)
    rows = rows.exclude(queue__in=queues.values())
    for (group, queue), same in groupby(
        rows.order_by("group", "queue")[:LISTED], key=lambda row: (row.group, row.queue)
    ):
        found = list(same)
        last = max(row.wanted for row in found)
        yield Finding(
            level=Level.WARNING if last < now() - READ_WITHIN else Level.INFO,
            id="inbox.unread",
            title=f"A queue of group {group!r} is not read any more",
            text=f"Its consumers read {queues[group]!r} here. They have read {queue!r} before, "
            f"last at {as_text(last)}: what waits there is not handled, and it fills for ever.",
            hint=f"{_drain(group, queue)} Nothing is to be done while other processes read it, "
            "with another INBOX['QUEUE_PREFIX'].",
            figures={"topics": len(found)},
        )


def _drain(group: str, queue: str) -> str:
    """Return what to do about a queue that a group does not read any more."""
    name = shlex.quote(group)
    return (
        "With the QUEUE_PREFIX of before run manage.py consume --until-empty --group "
        f"{name}; then rabbitmqctl delete_queue {shlex.quote(queue)}; then, as it is now, "
        f"manage.py inbox_bindings --forget {name}."
    )

"""Answer statements of senders: a handler in each group, at the address of its queue."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import router, transaction

from inbox.conf import inbox_settings
from inbox.handlers.registry import MAX_HANDLER_NAME, Handler, handlers
from inbox.models import Binding, Receipt
from inbox.statements import receipts
from inbox.statements.receipts import Had
from inbox.verdicts import Reject
from outbox.database.clock import database_now
from outbox.exceptions import ConfigurationError, UndecodableMessage
from outbox.failpoints import hit
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.event_types import is_type_name
from outbox.message.requests import is_address
from outbox.producer.writing import write_database
from outbox.statements import exchange, wire
from outbox.statements.buckets import HOUR, SECOND, is_forgotten, milliseconds, moment
from outbox.statements.conf import peers
from outbox.statements.measures import Compared, Measured, Window, compares, told
from outbox.statements.topics import Topic
from outbox.statements.totals import differing, raised
from outbox.statements.wire import Answer, Listing, Statement

logger = logging.getLogger("inbox")

NAME = "outbox.statements"
SECONDS = 1.0
"""How long one statement may be compared; what is left then is stated again by the sender."""
STEP = 10
"""Buckets that are compared at once."""
MOST_BINDINGS = wire.MOST_PATTERNS
MARGIN = timedelta(hours=1)
"""By how much a sender's clock may be ahead, so that an id is younger than its receipt."""


def take(group: str, event: Any, message: Envelope) -> None:
    """Answer a statement, or take an answer, by what the message is."""
    try:
        body = wire.decode(message.data)
    except UndecodableMessage as exc:
        raise Reject(str(exc)) from exc
    home = write_database()
    with transaction.atomic(using=home):
        if isinstance(body, Answer):
            exchange.take(body, home)
            hit("outbox.compared")
        elif body.group == group:
            reply = answer(body, message, using=router.db_for_write(Receipt))
            exchange.publish(reply, body.address, using=home, cause=message)
            hit("inbox.answered")
        else:
            logger.warning("A statement for group %s has come to group %s.", body.group, group)


def answer(statement: Statement, message: Envelope, *, using: str) -> Answer:
    """Return what a group has to say on a statement. Takes SECONDS, or one step if that is more."""
    found = _Comparison(statement, message, using)
    found.run()
    return Answer(
        group=statement.group,
        to=message.id,
        until=found.until,
        differing=found.differing,
        listings=found.listings,
        twice=found.twice,
        compared=found.compared,
        topics=list(topics_of(statement.group, using)),
        handles=sorted({each.pattern for each in _handlers(statement.group)}),
        forgotten=found.forgotten,
    )


class _Comparison:
    """What both sides have, step by step, for as long as there is time and room."""

    def __init__(self, statement: Statement, message: Envelope, using: str) -> None:
        self._statement = statement
        self._source = bounded(message.source)
        self._using = using
        self._handlers = [each.name for each in _handlers(statement.group)]
        self._room = wire.MOST_LISTED
        self._ends = time.monotonic() + SECONDS
        self.forgotten = forgotten(using)
        self.until = statement.since
        self.differing: list[tuple[int, str]] = []
        self.listings: list[Listing] = []
        self.twice: dict[str, str] = {}
        self.compared: list[Compared] = []

    def run(self) -> None:
        step = self._statement.width * (STEP if self._statement.width < HOUR else 1)
        while self.until < self._statement.until:
            self._compare(self.until, min(self.until + step, self._statement.until))
            full = len(self.differing) >= wire.MOST_TOTALS or len(self.twice) >= wire.MOST_TOTALS
            if full or time.monotonic() > self._ends:
                return

    def _compare(self, since: int, until: int) -> None:
        had = self._had(since, until, self._statement.patterns)
        width = self._statement.width
        narrow = receipts.totals(had, min(width, self._statement.bucket), self._using)
        mine = raised(narrow, width)
        theirs = [each for each in self._statement.totals if since <= each.start < until]
        for start, kind in differing(theirs, mine):
            if is_forgotten(start, width, self._statement.bucket, self.forgotten):
                continue
            self.differing.append((start, kind))
            if is_type_name(kind):
                self._list(start, kind)
        self.twice |= receipts.twice(had, self._using)
        if width == self._statement.bucket:
            self._measure(since, until)
        self.until = until

    def _measure(self, since: int, until: int) -> None:
        """Compare business totals where the two sides have the same messages."""
        differ, width = set(self.differing), self._statement.width
        for each in self._statement.measured:
            function = compares.get(each.type)
            if function is None or not since <= each.start < until:
                continue
            if is_forgotten(each.start, width, width, self.forgotten):
                continue
            if (each.start, each.type) not in differ:
                booked = told(partial(function, self._window(each)), self._using)
                if booked != each.figures:
                    self.compared.append(Compared(each.start, each.type, each.figures, booked))

    def _window(self, each: Measured) -> Window:
        ends = each.start + self._statement.width
        had = self._had(each.start, ends, [each.type])
        return Window(
            source=self._source,
            type=each.type,
            since=moment(each.start),
            until=moment(ends),
            message_ids=receipts.settled(had, self._using),
        )

    def _list(self, start: int, kind: str) -> None:
        """Tell a bucket message by message, if these are few or there is nothing smaller."""
        width, bucket = self._statement.width, self._statement.bucket
        if width > bucket or self._room <= 0 or time.monotonic() > self._ends:
            return
        few = min(self._room, wire.LISTED_AT_ONCE)
        most = wire.MOST_LISTED if width <= SECOND else few
        ids = receipts.states(self._had(start, start + width, [kind]), self._using, most=most)
        if ids is not None:
            self._room -= len(ids) + 1
            self.listings.append(Listing(type=kind, since=start, until=start + width, ids=ids))

    def _had(self, since: int, until: int, types: list[str]) -> Had:
        return Had(
            since=since,
            until=until,
            source=self._source,
            types=types,
            group=self._statement.group,
            handlers=self._handlers,
        )


def forgotten(using: str) -> int:
    """Return the time of ids before which receipts may have been deleted, since they are over."""
    kept = inbox_settings().retention
    if kept is None:
        return 0
    return max(0, milliseconds(database_now(using) - kept + min(kept / 10, MARGIN)))


def topics_of(group: str, using: str) -> Iterator[Topic]:
    """Yield what the queue of a group is bound to, and since when; all, where there is no queue."""
    conf = inbox_settings()
    rows = Binding.objects.using(using).filter(group=group, exchange=conf.EXCHANGE)
    mine = list(rows.filter(queue=conf.QUEUE_PREFIX + group).order_by("topic")[:MOST_BINDINGS])
    if not mine:
        yield Topic("#", 0)
    for row in mine:
        # What was lost, or is being bound again, has had its beginning before.
        begins = row.missing_since if row.lost or row.declared is None else row.declared
        if begins is not None and not is_address(row.topic):
            ends = None if row.unbound is None else milliseconds(row.unbound)
            first = milliseconds(begins)
            yield Topic(row.topic, first if ends is None else min(first, ends), ends)


def install() -> None:
    """Answer statements for all groups, if INBOX says so; take answers, if we state anything."""
    try:
        conf, wanted = inbox_settings(), peers()
    except ConfigurationError:
        return  # a system check tells what is wrong
    groups = set(handlers.groups()) if conf.STATEMENTS else set()
    if wanted:
        groups.add(conf.group)
    for group in sorted(groups):
        handlers.add(_handler(group))


def _handler(group: str) -> Handler:
    return Handler(
        name=f"{NAME}.{group}"[:MAX_HANDLER_NAME],
        pattern=NAME,
        function=partial(take, group),
        declared_group=group,
        addressed=True,
        only=wire.TYPE,
    )


def _handlers(group: str) -> list[Handler]:
    """Return the handlers of a group that are for events."""
    return [each for each in handlers.groups().get(group, []) if not each.addressed]

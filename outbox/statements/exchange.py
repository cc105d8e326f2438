"""The exchange as the sender has it: send statements, take what a group answers."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connections

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.message.requests import address_of
from outbox.models import GroupTopic, Message, Reconciliation, ToState
from outbox.producer.addresses import own_address
from outbox.producer.writing import append
from outbox.statements import measures, wire
from outbox.statements.buckets import (
    ceiling,
    floor,
    is_width,
    milliseconds,
    moment,
)
from outbox.statements.conf import PeerSettings, peers
from outbox.statements.fitting import fitting
from outbox.statements.looking import Looked
from outbox.statements.measures import Measured
from outbox.statements.sender import (
    PATIENCE,
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
from outbox.statements.wire import Answer, Statement

logger = logging.getLogger("outbox")

SENT_AT_ONCE = 20
"""Statements that are under way to a group, at most."""


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
    until = min(_whole(row, totals), measures.with_room(totals) or row.until)
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
        measured=list(_measured(row, totals, until, expected)),
    )
    row.message_id = UUID(publish(body, address_of(row.group), using=using))
    row.sent_at = database_now(using)
    row.save(using=using)


def _measured(
    row: ToState, totals: Iterable[Total], until: int, expected: Expected
) -> Iterator[Measured]:
    """Return the business totals, if it is buckets that are stated."""
    if row.width != expected.peer.bucket:
        return iter(())

    def ids(total: Total) -> Iterator[str]:
        return expected.ids(total.start, total.start + row.width, total.type)

    return measures.measured((each for each in totals if each.start < until), ids, expected.using)


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
    asked = _asked(answer, using)
    if asked is None:
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
    Looked(expected, asked, said, until).write()
    send(row, expected)


def _asked(answer: Answer, using: str) -> ToState | None:
    """Return what an answer is on, also if that was stated again before the answer came.

    Else one that takes longer than the patience with it would never count. What it is on says the
    statement in the log.
    """
    try:
        to = UUID(answer.to)
    except ValueError:
        return None
    rows = ToState.objects.using(using).filter(group=answer.group)
    if found := rows.filter(message_id=to).first():
        return found
    sent = Message.objects.using(using).filter(message_id=to, type=wire.TYPE).first()
    statement = wire.decode(bytes(sent.data)) if sent is not None else None
    if not isinstance(statement, Statement) or statement.group != answer.group:
        return None
    return rows.filter(
        since=statement.since,
        until=statement.until,
        width=statement.width,
        type__in=("", *statement.patterns),
    ).first()


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

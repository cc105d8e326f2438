"""What the doctor asks about the consumer: what is dead or overdue, and its queues."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from amqp.exceptions import AMQPError
from django.db import DatabaseError, connections, router
from django.db.models.functions import Now
from django.db.transaction import atomic

from inbox.conf import broker_url, inbox_settings, local_relays
from inbox.handlers.registry import handlers
from inbox.ledger.masking import masked
from inbox.models import DeadLetter, OpenRequest, Receipt
from inbox.replies import waiting
from inbox.sources.amqp.depths import Depth, read_depths
from inbox.sources.amqp.topology import queue_name
from inbox.sources.bindings import examine_abandoned, examine_bindings, examine_unread
from inbox.states import State
from outbox.admin_support.html import span
from outbox.amqp import connection as amqp
from outbox.conf import outbox_settings
from outbox.database import instants
from outbox.error_text import describe
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding, Level, Part, in_time
from outbox.extensions.pages import failure_of
from outbox.message.ids import time_of
from outbox.message.kinds import EVENT, kind_of
from outbox.message.requests import is_address
from outbox.models import Message
from outbox.nouns import counted
from outbox.producer.writing import write_database

COUNTED = 1000
"""Rows that are counted at most; more are more than that."""
NAMED = 10
"""Handlers, types or groups that are told at most, those with the most messages first."""
LOOKED_AT = 500
"""Newest receipts that are looked at for what they say about senders."""
LEEWAY = timedelta(hours=1)
"""How far clocks and housekeeping may be off."""
KEEPS_FAILING = 2
"""Calls for one message that have failed, from which on its handler keeps failing."""
SHOWN = 200
"""Characters of an error."""
OVERDUE = timedelta(minutes=1)
"""How long what is due may lie there until somebody should look."""


def examine(using: str) -> Iterator[Finding]:
    """Examine the tables where the routers say they are written, and the queue of every group."""
    letters, receipts = router.db_for_write(DeadLetter), router.db_for_write(Receipt)
    parts: dict[str, tuple[str, Part]] = {
        "Dead letters": (letters, _dead_letters),
        "Dead receipts": (receipts, _dead_and_failing),
        "Receipts without a handler": (receipts, _gone),
        "Overdue receipts": (receipts, _overdue),
        "Open requests": (router.db_for_write(OpenRequest), lambda _using: waiting.examine()),
        "Dead letters of strangers": (letters, _strangers),
        "Senders with our source": (receipts, _same_source),
        "Events that nobody handles": (using, _unhandled),
    }
    for what, (alias, part) in parts.items():
        yield from in_time("inbox", what, alias, part)
    yield from _queues()
    yield from examine_bindings()
    yield from examine_abandoned()
    yield from examine_unread({group: queue_name(group) for group in handlers.groups()})


def _dead_and_failing(using: str) -> Iterator[Finding]:
    dead = _dead_by_handler(using)
    yield from _dead_receipts(using, dead)
    yield from _failing(using, dead)


def _dead_letters(using: str) -> Finding:
    letters = DeadLetter.objects.using(using).filter(state=State.DEAD)
    newest = letters.order_by("-pk").values_list("reason", "type", "pk")
    found = list(newest[: COUNTED + 1])
    if not found:
        return Finding(
            level=Level.OK, id="inbox.dead", title="Dead letters", text="There are none."
        )
    count = _count(len(found))
    reason, event_type, number = found[0]
    return Finding(
        level=Level.WARNING,
        id="inbox.dead",
        title="Dead letters wait for a person",
        text=f"{count}, the newest: {DeadLetter.Reason(reason).label}, {event_type or 'no type'}.",
        hint="Look at them in the admin; see 'manage.py inbox_retry --dead-letters'.",
        figures={"count": len(found)},
        page=f"failures/{failure_of('letters', number)}",
    )


@dataclass(slots=True)
class _Dead:
    """The dead receipts of a handler, of the newest COUNTED: the newest of them, and since when."""

    number: int
    type: str
    count: int = 0
    since: datetime | None = None
    failed: int = 0
    """How many its handler has failed on again and again."""
    attempts: int = 0

    def take(self, received: datetime | None, reason: str | None, attempts: int) -> None:
        """Count one more."""
        self.count += 1
        self.since = min((at for at in (self.since, received) if at), default=None)
        if reason == Receipt.Reason.FAILED and attempts >= KEEPS_FAILING:
            self.failed += 1
            self.attempts = max(self.attempts, attempts)


def _dead_by_handler(using: str) -> dict[str, _Dead]:
    columns = ("pk", "handler", "type", "received", "reason", "attempts")
    dead = Receipt.objects.using(using).filter(state=State.DEAD).values_list(*columns)
    newest = list(dead.order_by("-pk")[: COUNTED + 1])
    if len(newest) > COUNTED:
        # Those of one handler that has many of them must not hide another's.
        seen = {row[1] for row in newest}
        others = sorted({each.name for each in handlers} - seen)
        newest += [row for name in others for row in dead.filter(handler=name)[:1]]
    found: dict[str, _Dead] = {}
    for number, name, event_type, received, reason, attempts in newest:
        found.setdefault(name, _Dead(number, event_type)).take(received, reason, attempts)
    return found


def _dead_receipts(using: str, dead: Mapping[str, _Dead]) -> Iterator[Finding]:
    """Tell of each handler that has given up, the worst first; of the others as one."""
    if not dead:
        yield Finding(
            level=Level.OK, id="inbox.receipts", title="Dead receipts", text="There are none."
        )
    names = sorted(dead, key=lambda name: -dead[name].count)
    for name in names[:NAMED]:
        each = dead[name]
        newest = Receipt.objects.using(using).filter(pk=each.number)
        yield Finding(
            level=Level.WARNING,
            id="inbox.receipts",
            about=name,
            title=f"Messages are dead: {name} could not handle them",
            text=f"{_count(each.count)}, {_since(each.since)}, the newest: {each.type}. "
            f"The last error: {_error(newest.values_list('error', flat=True).first())}",
            hint="Mend the handler, then retry or discard them: in the admin under Messaging, "
            "Failures, or with 'manage.py inbox_retry'.",
            figures={"count": each.count, "since": each.since and each.since.isoformat()},
            page=f"failures/{failure_of('receipts', each.number)}",
        )
    if others := names[NAMED:]:
        count = sum(dead[name].count for name in others)
        yield Finding(
            level=Level.WARNING,
            id="inbox.receipts",
            about="others",
            title=f"Messages are dead: {counted(len(others), 'other handler')}",
            text=f"{_count(count)}. See 'manage.py failures'.",
            hint="Mend the handlers, then retry or discard them.",
            figures={"count": count},
            page="failures/",
        )


@dataclass(slots=True)
class _Failing:
    """What a handler fails on again and again, tried again or dead: how many, and since when."""

    retrying: int = 0
    dead: int = 0
    attempts: int = 0
    since: datetime | None = None
    number: int = 0
    """The newest of them."""

    @property
    def count(self) -> int:
        return self.retrying + self.dead

    def take(self, number: int, received: datetime | None, attempts: int) -> None:
        """Count one more that is tried again."""
        self.retrying += 1
        self.add(number, received, attempts)

    def add(self, number: int, since: datetime | None, attempts: int) -> None:
        self.number = max(self.number, number)
        self.attempts = max(self.attempts, attempts)
        self.since = min((at for at in (self.since, since) if at), default=None)


def _failing(using: str, dead: Mapping[str, _Dead]) -> Iterator[Finding]:
    """Tell of handlers that fail again and again: what was not mended in time is dead, and worse.

    So it is told until nobody owes anything any more, and not only until all of it is dead.
    """
    tried = Receipt.objects.using(using).filter(
        state=State.RETRYING, reason=Receipt.Reason.FAILED, attempts__gte=KEEPS_FAILING
    )
    columns = tried.values_list("handler", "pk", "received", "attempts")
    newest = list(columns.order_by("-pk")[: COUNTED + 1])
    if len(newest) > COUNTED:
        seen = {row[0] for row in newest}
        others = sorted({each.name for each in handlers} - seen)
        planned = columns.filter(next_attempt_at__isnull=False)
        newest += [row for name in others for row in planned.filter(handler=name)[:1]]
    failing: dict[str, _Failing] = {}
    for name, number, received, attempts in newest:
        failing.setdefault(name, _Failing()).take(number, received, attempts)
    for name, each in dead.items():
        if each.failed or name in failing:
            found = failing.setdefault(name, _Failing())
            found.dead += each.failed
            found.add(each.number if not found.number else 0, each.since, each.attempts)
    names = sorted(failing, key=lambda name: (-failing[name].count, name))
    for name in names[:NAMED]:
        yield _keeps_failing(name, failing[name], using)
    if others := names[NAMED:]:
        count = sum(failing[name].count for name in others)
        yield Finding(
            level=Level.WARNING,
            id="inbox.failing",
            about="others",
            title=f"{counted(len(others), 'other handler keeps', 'other handlers keep')} failing",
            text=f"{counted(count, 'message')}. See 'manage.py failures'.",
            hint="Mend the handlers.",
            figures={"count": count},
            page="failures/",
        )


def _keeps_failing(name: str, found: _Failing, using: str) -> Finding:
    receipts = Receipt.objects.using(using).filter(handler=name, reason=Receipt.Reason.FAILED)
    tried = receipts.filter(state=State.RETRYING, attempts__gte=KEEPS_FAILING)
    newest = tried.order_by("-changed") if found.retrying else receipts.filter(pk=found.number)
    known = handlers.get(name)
    limit = f" of {known.retry_policy.attempts}" if known is not None else ""
    dead = f", {found.dead:,} of them dead" if found.dead else ""
    return Finding(
        level=Level.WARNING,
        id="inbox.failing",
        title=f"Handler {name} keeps failing",
        text=f"{counted(found.count, 'message')}{dead}, {_since(found.since)}, with up to "
        f"{found.attempts}{limit} attempts. The last error: "
        f"{_error(newest.values_list('error', flat=True).first())}",
        hint="Mend the handler before the attempts are over; messages are tried again by "
        "themselves, and dead after the last one."
        if found.retrying
        else "Mend the handler, then retry or discard what is dead.",
        figures={
            "count": found.count,
            "dead": found.dead,
            "attempts": found.attempts,
            "since": found.since and found.since.isoformat(),
        },
        page=f"failures/{failure_of('receipts', found.number)}",
    )


def _error(text: str | None) -> str:
    """Return the first line of an error, as far as it is shown."""
    return masked((text or "no error is kept").strip()).partition("\n")[0][:SHOWN]


def _gone(using: str) -> Iterator[Finding]:
    """Tell of messages that wait for handlers that are not there any more."""
    unfinished = Receipt.objects.using(using).filter(state__in=(State.RETRYING, State.WAITING))
    newest = unfinished.order_by("-pk").values_list("handler", flat=True)[: COUNTED + 1]
    left = Counter(name for name in newest if handlers.get(name) is None)
    named = left.most_common(NAMED)
    for name, count in named:
        yield Finding(
            level=Level.WARNING,
            id="inbox.gone",
            title=f"There is no handler {name} any more",
            text=f"{counted(count, 'message waits', 'messages wait')} for it, and nobody will "
            "handle them.",
            hint="If it was renamed, give the new one its name: @handler(…, name=…). Else discard "
            "them, in the admin.",
            figures={"count": count},
        )
    if others := len(left) - len(named):
        yield Finding(
            level=Level.WARNING,
            id="inbox.gone",
            about="others",
            title=f"There are no handlers any more of {counted(others, 'other name')}",
            text=f"{counted(left.total() - sum(count for _, count in named), 'message')} for them.",
            hint="See 'manage.py failures', and the receipts in the admin.",
        )


def _strangers(using: str) -> Iterator[Finding]:
    """Tell of messages on our queues that we have not asked for: somebody shares the queue."""
    letters = DeadLetter.objects.using(using).filter(
        state=State.DEAD, reason=DeadLetter.Reason.UNKNOWN_TYPE
    )
    newest = letters.order_by("-pk").values_list("group", "type", "source")[:COUNTED]
    strange: dict[str, Counter[tuple[str, str]]] = {}
    for group, event_type, source in newest:
        if not handlers.for_type(event_type, group):
            strange.setdefault(group, Counter())[event_type, source] += 1
    for group, found in sorted(strange.items()):
        shown = ", ".join(f"{kind} of {source}" for (kind, source), _ in found.most_common(NAMED))
        yield Finding(
            level=Level.WARNING,
            id="inbox.strangers",
            title=f"Group {group!r} gets events that no handler of it asked for",
            text=f"{counted(found.total(), 'dead letter')}: {shown}.",
            hint="If another service consumes from this queue as well, each gets a part of what "
            "the other should get: give each its own OUTBOX['SOURCE'], INBOX['GROUP'] or "
            "QUEUE_PREFIX. If a handler was removed, unbind what it was for.",
            figures={"count": found.total()},
        )


def _same_source(using: str) -> Iterator[Finding]:
    """Tell of messages that bear our own SOURCE, and are not in our log: another service has it."""
    conf = outbox_settings()
    newest = Receipt.objects.using(using).order_by("-pk").values_list("source", "message_id")
    # What is older than that may have been deleted from the log.
    since = instants.now() - conf.retention + LEEWAY if conf.retention is not None else None
    ids = {
        UUID(text)
        for source, text in newest[:LOOKED_AT]
        if source == conf.source
        and (made := time_of(text)) is not None
        and (since is None or made > since)
    }
    missing = ids - _in_logs(ids)
    if not missing:
        return
    yield Finding(
        level=Level.WARNING,
        id="inbox.source",
        title=f"Another service seems to have the SOURCE {conf.source!r}",
        text=f"{counted(len(missing), 'message bears', 'messages bear')} it among the newest "
        f"{LOOKED_AT} receipts, and this service has not emitted them, {min(missing)} for one.",
        hint="Give each service a SOURCE of its own, in OUTBOX: receivers tell messages apart by "
        "source and id. (After the log was restored from a backup this means nothing.)",
        figures={"count": len(missing)},
    )


def _in_logs(ids: set[UUID]) -> set[UUID]:
    """Return which messages are in a log of ours: that of the outbox, or another that there is."""
    home = write_database()
    found: set[UUID] = set()
    for alias in (home, *(each for each in connections if each != home)):
        if left := ids - found:
            with suppress(DatabaseError) if alias != home else nullcontext(), atomic(using=alias):
                rows = Message.objects.using(alias).filter(message_id__in=left)
                found |= set(rows.values_list("message_id", flat=True))
    return found


def _unhandled(using: str) -> Iterator[Finding]:
    """Tell which events the local broker drops, since nobody handles them."""
    if not any(local_relays()):
        return
    newest = Message.objects.using(using).order_by("-position")
    types = set(newest.values_list("type", "content_type", "topic")[:COUNTED])
    dropped = sorted(
        {
            event_type
            for event_type, content_type, topic in types
            if kind_of(content_type) is EVENT
            and not is_address(topic)
            and not handlers.for_type(event_type)
        }
    )
    if dropped:
        more = f" and {len(dropped) - NAMED} more" if len(dropped) > NAMED else ""
        yield Finding(
            level=Level.INFO,
            id="inbox.unhandled",
            title="Nobody handles some events",
            text=f"The local broker drops them, which counts as published: "
            f"{', '.join(dropped[:NAMED])}{more}.",
            hint="Write a handler in the handlers.py of an app in INSTALLED_APPS. What came before "
            "it, manage.py relay_replay publishes again.",
            figures={"types": len(dropped)},
        )


def _since(moment: datetime | None) -> str:
    if moment is None:
        return "nobody knows since when"
    return f"since {moment:%Y-%m-%d %H:%M:%S} UTC, {span(instants.now() - moment)} ago"


def _overdue(using: str) -> Finding:
    """Tell of handlers that nobody calls; of those that are not there any more, _gone() does."""
    known = [each.name for each in handlers]
    due = Receipt.objects.using(using).filter(
        handler__in=known, next_attempt_at__lt=Now() - OVERDUE
    )
    found = list(due.values_list("handler", flat=True)[: COUNTED + 1])
    if not found:
        return Finding(level=Level.OK, id="inbox.overdue", title="Retries", text="None is overdue.")
    return Finding(
        level=Level.WARNING,
        id="inbox.overdue",
        title="Nobody handles what is due",
        text=f"{_count(len(found))} {'message is' if len(found) == 1 else 'messages are'} due for "
        f"over a minute: {', '.join(sorted(set(found)))}.",
        hint="Start the consumers of these handlers, or the relay with the local broker.",
        figures={"count": len(found)},
    )


def _count(found: int) -> str:
    return f"More than {COUNTED:,}" if found > COUNTED else f"{found:,}"


def _queues() -> Iterator[Finding]:
    groups, url = sorted(handlers.groups()), broker_url()
    if not groups or not url:
        what = "no handlers" if not groups else "no broker to consume from"
        yield Finding(
            level=Level.OK, id="inbox.queue", title="Queues", text=f"There are none: {what}."
        )
        return
    conf = inbox_settings()
    try:
        depths = list(read_depths(url, groups))
    except (AMQPError, OSError, ConfigurationError) as exc:
        refused = amqp.refusal(exc)
        yield Finding(
            level=Level.ERROR,
            id="inbox.broker",
            title=f"The broker {'does not let us in' if refused else 'cannot be reached'}",
            text=f"{amqp.address(url, conf.SSL)}: {refused or describe(exc)}",
            hint="Consumers that run go on by themselves "
            + ("when it does; others end at their start." if refused else "when it is back."),
            hides=("inbox.queue", "inbox.bindings", "inbox.abandoned", "inbox.unread"),
        )
        return
    for depth in depths:
        yield _queue(depth)


def _queue(depth: Depth) -> Finding:
    name, group = depth.queue, depth.group
    if depth.missing:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Queue {name!r} is missing",
            text=f"The handlers of group {group!r} get nothing, and what is published for them "
            "reaches no queue.",
            hint=f"Start its consumer, which declares it: manage.py consume --group {group}",
        )
    if depth.error:
        return Finding(
            level=Level.ERROR,
            id="inbox.queue",
            title=f"Queue {name!r} cannot be examined",
            text=depth.error,
            hint="Check the permissions of the consumer's user.",
        )
    figures = {"ready": depth.ready, "consumers": depth.consumers}
    waiting = counted(depth.ready, "message waits", "messages wait")
    if not depth.consumers:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Nobody consumes queue {name!r}",
            text=f"{waiting} in it.",
            hint=f"Start manage.py consume --group {group}",
            figures=figures,
        )
    return Finding(
        level=Level.OK,
        id="inbox.queue",
        title=f"Queue {name!r}",
        text=f"{waiting} in it, {counted(depth.consumers, 'consumer')}.",
        figures=figures,
    )

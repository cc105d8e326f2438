"""What handlers have given up, keep failing on, or do not get to."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now

from inbox.handlers.registry import handlers
from inbox.ledger.masking import masked
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.admin_support.html import span
from outbox.database import instants
from outbox.extensions.diagnosis import Finding, Level
from outbox.extensions.pages import failure_of
from outbox.nouns import counted

COUNTED = 1000
"""Rows that are counted at most; more are more than that."""
NAMED = 10
"""Handlers, types or groups that are told at most, those with the most messages first."""
KEEPS_FAILING = 2
"""Calls for one message that have failed, from which on its handler keeps failing."""
SHOWN = 200
"""Characters of an error."""
OVERDUE = timedelta(minutes=1)
"""How long what is due may lie there until somebody should look."""


def dead_and_failing(using: str) -> Iterator[Finding]:
    dead = _dead_by_handler(using)
    yield from _dead_receipts(using, dead)
    yield from _failing(using, dead)


def dead_letters(using: str) -> Finding:
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


def gone(using: str) -> Iterator[Finding]:
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


def _since(moment: datetime | None) -> str:
    if moment is None:
        return "nobody knows since when"
    return f"since {moment:%Y-%m-%d %H:%M:%S} UTC, {span(instants.now() - moment)} ago"


def overdue(using: str) -> Finding:
    """Tell of handlers that nobody calls; of those that are not there any more, gone() does."""
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

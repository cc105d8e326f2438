"""What the doctor asks about relays: are they behind, why, and who is in the way."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

from django.db import connections
from django.db.models import Count, Max

from outbox.admin_support.html import span
from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.error_text import masked
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding, Level, Part, in_time
from outbox.extensions.pages import failure_of
from outbox.nouns import counted
from relay.conf import create_broker, relay_settings
from relay.log.soundness import flaws
from relay.parking.store import open_rows
from relay.reports import sessions
from relay.reports.status import COUNTED, LaneStatus, lanes
from relay.retention import prunable_messages
from relay.states import ParkedState

BEHIND_SECONDS = 60.0
"""Age of the oldest pending message from which a relay that moves is called behind."""

EMITTER_AGE = timedelta(seconds=10)
"""How long a transaction that has emitted may stay open."""

PIN_AGE = timedelta(minutes=5)
"""How long a transaction may hold the vacuum horizon back."""


REASONS = 10
"""Kinds of parked messages that are told, the most frequent first; of the others it is said that
they are there."""
BEHIND, STALLED, NOT_RUNNING = "relay.behind", "relay.stalled", "relay.not_running"


def examine(using: str) -> Iterator[Finding]:
    """Examine relays, what holds them up, their brokers, and whether somebody prunes."""
    parts: dict[str, Part] = {
        "The log": _log,
        "Relays": _relays,
        "Parked messages": parked,
        "Open transactions": _activity,
        "Retention": _retention,
    }
    for what, part in parts.items():
        yield from in_time("relay", what, using, part)
    for name in relay_settings():
        yield from _broker(name, using)


def _log(using: str) -> Iterator[Finding]:
    for flaw in flaws(using):
        yield Finding(
            level=Level.ERROR,
            id="relay.log",
            title="The log cannot be read as it stands",
            text=f"{flaw.text} No relay publishes anything.",
            hint=flaw.hint,
        )


def _relays(using: str) -> Iterator[Finding]:
    for name, group in groupby(lanes(using), key=lambda status: status.relay):
        yield from _relay(name, list(group), using)


def _broker(name: str, using: str) -> Iterator[Finding]:
    try:
        broker = create_broker(name, using=using)
    except ConfigurationError:
        return  # told by the system checks, which are examined as well
    yield from broker.examine(name)


def parked(using: str) -> Iterator[Finding]:
    """Examine parked messages and the keys that wait behind them."""
    rows = open_rows(using).exclude(state=ParkedState.WAITING)
    reasons = rows.values_list("relay", "state", "reason", "topic").annotate(
        count=Count("pk"), keys=Count("key", distinct=True), error=Max("error"), newest=Max("pk")
    )
    waiting = open_rows(using).filter(state=ParkedState.WAITING).count()
    kinds = list(reasons.order_by("-count", "relay", "state", "reason", "topic")[: REASONS + 1])
    for relay, state, reason, topic, count, keys, error, newest in kinds[:REASONS]:
        verb = "is" if count == 1 else "are"
        what = f"Relay {relay!r}: {counted(count, 'message')} to {topic!r} {verb} {state}"
        said = masked(error or "", tuple(outbox_settings().REDACT))
        text = f"{reason}: {said}. {counted(keys, 'key waits', 'keys wait')}."
        figures = {"count": count, "keys": keys, "waiting": waiting}
        about = f"{relay}: {topic}: {reason}"
        page = f"failures/{failure_of('parked', newest)}"
        if state == ParkedState.DEAD:
            yield Finding(
                level=Level.ERROR,
                id="relay.dead",
                title=what,
                text=text,
                hint="Mend the reason, then: manage.py relay_requeue, or discard them.",
                figures=figures,
                about=about,
                page=page,
                hides=("relay.parked",),
            )
        else:
            yield Finding(
                level=Level.WARNING,
                id="relay.parked",
                title=what,
                text=text,
                hint="Mend the reason; they are tried again by themselves.",
                figures=figures,
                about=about,
                page=page,
            )
    if kinds[REASONS:]:
        yield Finding(
            level=Level.WARNING,
            id="relay.parked",
            title="There are more kinds of parked messages",
            text=f"Those of the {REASONS} most frequent are told one by one.",
            hint="Look at all of them: in the admin under Messaging, Failures.",
            about="others",
            page="failures/",
        )


def _relay(name: str, found: list[LaneStatus], using: str) -> Iterator[Finding]:
    figures = _figures(found)
    if name not in relay_settings():
        yield Finding(
            level=Level.INFO,
            id="relay.retired",
            title=f"Relay {name!r} is only in checkpoints",
            text="It is not in RELAYS: nothing is published by it, and only what it has parked is "
            "kept for it.",
            hint="If it was renamed, the new name starts on its own, from where its START says. "
            "What it has parked is kept until it is discarded, see manage.py relay_requeue.",
            figures=figures,
        )
        return
    if moved := [status.lane for status in found if status.moved]:
        yield Finding(
            level=Level.ERROR,
            id="relay.moved",
            title=f"Relay {name!r}: the database is another one",
            text=f"The cursors of lanes {_list(moved)} were written in another database cluster.",
            hint="The log was restored or moved. See 'Ready for production' in the documentation.",
            figures=figures,
            about=name,
            hides=(BEHIND, STALLED, NOT_RUNNING),
        )
        return
    yield _progress(name, found, using, figures)


def _progress(
    name: str, found: list[LaneStatus], using: str, figures: dict[str, object]
) -> Finding:
    backlog = f"{_backlog(found)} pending, the oldest for {_oldest(found)}"
    stalled = [status.lane for status in found if status.stalled]
    if stalled and not _seems_to_run(using, name):
        return Finding(
            level=Level.ERROR,
            id=NOT_RUNNING,
            title=f"Relay {name!r}: no process seems to run",
            text=f"{backlog}; lanes {_list(stalled)} do not move.",
            hint=f"Start it: manage.py relay --relay {name}",
            figures=figures,
            about=name,
            hides=(BEHIND, STALLED),
        )
    if stalled:
        return Finding(
            level=Level.ERROR,
            id=STALLED,
            title=f"Relay {name!r}: lanes stand still",
            text=f"{backlog}; lanes {_list(stalled)} do not move, though a process is there.",
            hint="Its log says why: the broker is away, or does not confirm.",
            figures=figures,
            about=name,
            hides=(BEHIND, NOT_RUNNING),
        )
    if max(status.oldest_pending or 0 for status in found) > BEHIND_SECONDS:
        return Finding(
            level=Level.WARNING,
            id=BEHIND,
            title=f"Relay {name!r} is behind",
            text=f"{backlog}; it is moving.",
            hint="If it does not catch up: more processes, up to one per lane, or a faster broker.",
            figures=figures,
            about=name,
        )
    never = all(status.last_checkpoint is None for status in found)
    return Finding(
        level=Level.OK,
        id="relay.progress",
        title=f"Relay {name!r}",
        text="It has never published anything." if never else f"{_backlog(found)} pending.",
        figures=figures,
    )


def _activity(using: str) -> Iterator[Finding]:
    if connections[using].vendor != "postgresql":
        return
    emitters = sessions.emitters(using, EMITTER_AGE)
    for session in emitters:
        yield Finding(
            level=Level.WARNING,
            id="relay.emitter",
            title="A transaction that has emitted is open",
            text=f"{session}. What it emitted is published when it commits; nobody else waits.",
            hint="Do slow work before or after the transaction, not in it.",
            figures={"pid": session.pid, "age": session.age},
        )
    told = {session.pid for session in emitters}
    for session in sessions.pins(using, PIN_AGE):
        if session.pid not in told:
            yield Finding(
                level=Level.WARNING,
                id="relay.pin",
                title="A transaction holds vacuum back",
                text=f"{session}. Publishing goes on as fast, dead rows stay on disk.",
                hint=f"If it was forgotten: SELECT pg_terminate_backend({session.pid})",
                figures={"pid": session.pid, "age": session.age},
            )
    for name, owner, age in sessions.prepared(using, PIN_AGE):
        yield Finding(
            level=Level.WARNING,
            id="relay.prepared",
            title="A prepared transaction is open",
            text=f"{name!r} of {owner}, prepared {age:.0f} s ago, holds vacuum back.",
            hint="Finish it: COMMIT PREPARED or ROLLBACK PREPARED.",
            figures={"age": age},
        )
    for slot, kind, pins, wal in sessions.idle_slots(using):
        keeps = f"{counted(wal, 'byte')} of WAL" if wal is not None else "WAL"
        yield Finding(
            level=Level.WARNING,
            id="relay.slot",
            title="A replication slot is not read",
            text=f"{slot!r} ({kind}) keeps {keeps}{' and dead rows' if pins else ''}.",
            hint="Start its reader, or drop it: SELECT pg_drop_replication_slot(…)",
            figures={"wal_bytes": wal},
        )


def _retention(using: str) -> Iterator[Finding]:
    keep = outbox_settings().retention
    if keep is None:
        yield Finding(
            level=Level.INFO,
            id="relay.retention",
            title="Retention",
            text="OUTBOX['RETENTION'] is None: the log grows for ever.",
        )
        return
    # The housekeeping comes round in its own time.
    late = max(keep / 10, timedelta(hours=1))
    overdue = prunable_messages(using, before=database_now(using) - keep - late, limit=1)
    yield Finding(
        level=Level.WARNING if overdue else Level.OK,
        id="relay.retention",
        title="Retention",
        text=(
            "There are messages that should have been deleted by now."
            if overdue
            else "What is old and published has been deleted."
        ),
        hint=(
            "Set PRUNE_INTERVAL of a relay that runs, or run: manage.py outbox_prune"
            if overdue
            else ""
        ),
    )


def _seems_to_run(using: str, name: str) -> bool:
    return connections[using].vendor == "postgresql" and sessions.seems_to_run(using, name)


def _figures(found: list[LaneStatus]) -> dict[str, object]:
    return {
        "lanes": {
            status.lane: {
                "backlog": status.backlog,
                "oldest_pending": status.oldest_pending,
                "last_checkpoint": status.last_checkpoint,
                "rate": status.rate,
            }
            for status in found
        }
    }


def _backlog(found: list[LaneStatus]) -> str:
    count = sum(min(status.backlog or 0, COUNTED) for status in found)
    return f"More than {count:,}" if any(status.more for status in found) else f"{count:,}"


def _oldest(found: list[LaneStatus]) -> str:
    return span(timedelta(seconds=max(status.oldest_pending or 0 for status in found)))


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))

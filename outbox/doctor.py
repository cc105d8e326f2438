"""What the doctor asks about the producer: settings, database, clock, what is overdue."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.core.checks import ERROR, WARNING, CheckMessage
from django.core.checks.registry import registry
from django.db import connections

from outbox.acknowledging import examination as acknowledgements
from outbox.database.clock import database_now
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding, Level, Part, examiners, in_time
from outbox.flow.conf import flow_settings
from outbox.flow.peers import Told, ask
from outbox.models import Message, Scheduled
from outbox.nouns import counted
from outbox.replies import endings
from outbox.statements import findings

CLOCK_SECONDS = 1.0
"""How much the clocks of database and machine may differ."""

OVERDUE_SECONDS = 10.0
"""How late a scheduled message may be."""

NOBODYS = "doctor"
"""A conversation that peers are asked for, to see whether they answer."""

COUNTED = 1000
"""Rows that are counted at most; more are more than that."""


def examine(using: str) -> Iterator[Finding]:
    """Examine what the outbox owns."""
    answers = _ask_peers()  # who answers meanwhile costs no time
    yield from _settings(using)
    yield _database(using)
    yield _clock(using)
    parts: Mapping[str, Part] = {
        "Scheduled messages": _scheduled,
        "Requests": endings.examine,
        "Messages that nobody publishes": _unread,
        "Acknowledgements": acknowledgements.examine,
        "Statements": findings.examine,
    }
    for what, part in parts.items():
        yield from in_time("outbox", what, using, part)
    yield from map(_peer, answers())


def _ask_peers() -> Callable[[], Sequence[Told]]:
    """Ask all peers about a conversation that there is not; they have a second, all together."""
    try:
        peers = flow_settings().peers
    except ConfigurationError:  # which the finding about the settings tells
        peers = {}
    return ask(peers, NOBODYS) if peers else lambda: ()


def _peer(told: Told) -> Finding:
    name = told.peer
    if not told.why:
        return Finding(
            level=Level.OK,
            id="outbox.peer",
            title=f"Peer {name!r}",
            text="It answers within a second.",
            about=name,
        )
    return Finding(
        level=Level.WARNING,
        id="outbox.peer",
        title=f"Peer {name!r} does not tell",
        text=f"It was asked what it knows of a conversation: {told.why}.",
        hint=(
            "Conversations lack its half. Does its service run, at the URL in FLOW['PEERS'], with "
            "conversation_view() and this TOKEN? Nothing else waits for it."
        ),
        about=name,
    )


def _unread(using: str) -> Iterator[Finding]:
    """Tell of messages that no relay is to publish; a service that emits nothing needs none."""
    if "relay" in examiners() and getattr(settings, "RELAYS", None):
        return  # the relay examines it
    if Message.objects.using(using).exists() or Scheduled.objects.using(using).exists():
        yield Finding(
            level=Level.WARNING,
            id="outbox.unread",
            title="Nobody publishes what is emitted",
            text="There are messages in the outbox, and no relay is configured.",
            hint="Add 'relay' to INSTALLED_APPS, configure RELAYS, and run manage.py relay.",
        )


def _settings(using: str) -> Iterator[Finding]:
    """Run the system checks of the apps that have examiners."""
    mine = [
        check
        for check in registry.get_checks()
        if getattr(check, "__module__", "").partition(".")[0] in examiners()
    ]
    found = [m for check in mine for m in check(app_configs=None, databases=[using])]
    yield from map(_from_check, found)
    if not found:
        yield Finding(
            level=Level.OK,
            id="outbox.settings",
            title="Settings",
            text="OUTBOX, RELAYS and INBOX pass all system checks.",
        )


def _from_check(message: CheckMessage) -> Finding:
    level = Level.INFO
    if message.level >= WARNING:
        level = Level.ERROR if message.level >= ERROR else Level.WARNING
    return Finding(
        level=level,
        id=str(message.id),
        title="Settings",
        text=str(message.msg),
        hint=str(message.hint or ""),
    )


def _database(using: str) -> Finding:
    connection = connections[using]
    connection.ensure_connection()
    development = connection.vendor != "postgresql"
    version = ".".join(map(str, connection.get_database_version()))
    name = f"{connection.display_name} {version}, database {using!r}"
    return Finding(
        level=Level.INFO if development else Level.OK,
        id="outbox.database",
        title="Database",
        text=f"{name}: for development only." if development else f"{name}.",
        hint="Use PostgreSQL in production." if development else "",
    )


def _clock(using: str) -> Finding:
    started = time.monotonic()
    before = datetime.now(UTC)
    theirs = database_now(using)
    took = time.monotonic() - started
    difference = (theirs - before).total_seconds() - took / 2
    figures = {"ahead": round(difference, 3)}
    if abs(difference) - took / 2 <= CLOCK_SECONDS:
        return Finding(
            level=Level.OK,
            id="outbox.clock",
            title="Clock",
            text=f"Database and this machine agree within {abs(difference) + took / 2:.3f} s.",
            figures=figures,
        )
    direction = "ahead of" if difference > 0 else "behind"
    return Finding(
        level=Level.WARNING,
        id="outbox.clock",
        title="Clocks differ",
        text=f"The database is {abs(difference):.1f} s {direction} this machine.",
        hint=(
            "Delivery of scheduled messages and retention go by the database's clock, the times "
            "of events by that of the machine that emits them. Synchronise both (NTP)."
        ),
        figures=figures,
    )


def _scheduled(using: str) -> Finding:
    now = database_now(using)
    waiting = Scheduled.objects.using(using).order_by("due_at", "pk")
    late = list(waiting.filter(due_at__lte=now).values_list("due_at", flat=True)[: COUNTED + 1])
    overdue = (now - late[0]).total_seconds() if late else 0.0
    figures = {"due": len(late), "overdue": round(overdue, 3)}
    if overdue <= OVERDUE_SECONDS:
        return Finding(
            level=Level.OK,
            id="outbox.scheduled",
            title="Scheduled messages",
            text="None is overdue.",
            figures=figures,
        )
    more = len(late) > COUNTED
    count = f"more than {COUNTED:,} messages" if more else counted(len(late), "message")
    return Finding(
        level=Level.WARNING,
        id="outbox.scheduled",
        title="Scheduled messages are overdue",
        text=f"{count} should be in the log, the oldest for {overdue:.0f} s.",
        hint="A running relay delivers them, one of any name: start manage.py relay.",
        figures=figures,
    )

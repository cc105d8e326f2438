"""What the relay lets go: what every relay has published, old checkpoints, settled parked rows."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox.database.instants import parameter
from outbox.extensions.pruning import BATCH, register_pruner
from outbox.models import Message
from relay.conf import relay_settings
from relay.models import Checkpoint, Parked
from relay.reports.publications import publications
from relay.reports.state import OUT_OF_THE_FLOW, State, cursors
from relay.sql import retention as sql
from relay.sql.log import SQLITE_CURSOR

COUNTED_AT_ONCE = 10_000
"""Messages that one statement looks at which only counts them."""


@dataclass(slots=True)
class Run:
    """How far the lanes have been looked through, so that what is kept is not met again."""

    before: datetime
    places: dict[int, int] = field(default_factory=dict)  # lane -> last position


class Messages:
    """Deletes, or only counts, old messages that every relay of RELAYS has published.

    Relays that only have checkpoints hold nothing back. Without any relay in RELAYS all is kept:
    nothing has been published, then. See outbox.extensions.pruning.Prune.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete
        self._runs = threading.local()

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        if not relay_settings():
            return 0
        look = self._on_postgresql if _is_postgresql(using) else self._on_sqlite
        run = self._run(using, before)
        found = 0
        for lane in list(run.places):
            while lane in run.places and found < limit:
                found += look(using, run, lane, limit - found)
        return found

    def _run(self, using: str, before: datetime) -> Run:
        runs: dict[str, Run] = vars(self._runs).setdefault("by_database", {})
        run = runs.get(using)
        if run is None or run.before != before:
            run = runs[using] = Run(before)
            run.places = {row[0]: 0 for row in _query(using, sql.LANES_OF_LOG, {})}
        return run

    def _on_postgresql(self, using: str, run: Run, lane: int, limit: int) -> int:
        """Look at the next rows of a lane; leave it if they end there, or are all too young."""
        relays = relay_settings().items()
        size = limit if self._delete else min(max(limit, BATCH), COUNTED_AT_ONCE)
        parameters = {
            "lane": lane,
            "after": run.places[lane],
            "before": run.before,
            "limit": size,
            "owing": [name for name, conf in relays if conf.START == "beginning"],
            "from_now": [name for name, conf in relays if conf.START == "now"],
        }
        statement = sql.PG_PRUNE if self._delete else sql.PG_PRUNABLE
        [(done, examined, last, old)] = _query(using, statement, parameters)
        if examined < size or not old:
            del run.places[lane]
        else:
            run.places[lane] = last
        return int(done)

    def _on_sqlite(self, using: str, run: Run, lane: int, limit: int) -> int:
        bounds = []
        for name, conf in relay_settings().items():
            [(_, position, _)] = _query(using, SQLITE_CURSOR, {"relay": name, "lane": lane})
            if position is not None or conf.START == "beginning":
                bounds.append(position or 0)
        parameters = {
            "lane": lane,
            "after": run.places[lane],
            "bound": min(bounds, default=2**63 - 1),
            "before": parameter(run.before, connections[using]),
            "limit": limit,
        }
        [(done, last)] = _query(using, sql.SQLITE_PRUNABLE, parameters)
        if self._delete:
            with connections[using].cursor() as executing:
                executing.execute(sql.SQLITE_PRUNE, parameters)
        if done < limit:
            del run.places[lane]
        else:
            run.places[lane] = last
        return int(done)


class Checkpoints:
    """Deletes, or only counts, old checkpoints; see outbox.extensions.pruning.Prune.

    The newest of a chain is the cursor, the first (previous = 0) tells where it started, and the
    one that opened the cursor's window tells where the next begins: they stay, however old.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        found = 0
        for newest in cursors(using):
            if found < limit:
                found += self._of_chain(newest, using, before, limit - found)
        return found

    def _of_chain(self, newest: Checkpoint, using: str, before: datetime, limit: int) -> int:
        checkpoints = Checkpoint.objects.using(using)
        prunable = _prunable(checkpoints, newest)
        if not self._delete:
            return prunable.filter(created__lt=before)[:limit].count()
        oldest = prunable.order_by("previous").values_list("pk", "created")[:limit]
        old = [pk for pk, created in oldest if created < before]
        return checkpoints.filter(pk__in=old).delete()[0]


class Settled:
    """Deletes, or only counts, what is known of parked messages that were settled long ago."""

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = Parked.objects.using(using)
        old = rows.filter(settled_at__lt=before)
        if not self._delete:
            return old[:limit].count()
        found = list(old.order_by("settled_at").values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=found).delete()[0]


prunable_messages: Callable[..., int] = Messages(delete=False)
"""Counts the messages that could be deleted; see outbox.extensions.pruning.Prune."""


def oldest_message(using: str) -> datetime | None:
    """Return the time of the first message of the log."""
    return Message.objects.using(using).order_by("pk").values_list("time", flat=True).first()


def holds_message(using: str) -> Iterator[str]:
    """Yield what keeps the first message of the log."""
    if not relay_settings():
        yield _("no relay is in RELAYS, so nothing has been published")
        return
    first = Message.objects.using(using).order_by("pk").first()
    for each in publications(first, list(relay_settings())) if first else ():
        if each.state in (State.PENDING, *OUT_OF_THE_FLOW) and each.state != State.DISCARDED:
            yield _("for relay %(relay)s it is %(state)s") % {
                "relay": each.relay,
                "state": each.state.label,
            }


def oldest_checkpoint(using: str) -> datetime | None:
    """Return the time of the oldest checkpoint that does not stay for good. A statement a chain."""
    found = (
        _prunable(Checkpoint.objects.using(using), newest)
        .order_by("previous")
        .values_list("created", flat=True)
        .first()
        for newest in cursors(using)
    )
    return min((each for each in found if each is not None), default=None)


def oldest_settled(using: str) -> datetime | None:
    """Return when the first of the parked messages that are known to be settled was."""
    rows = Parked.objects.using(using).filter(settled_at__isnull=False).order_by("settled_at")
    return rows.values_list("settled_at", flat=True).first()


def register() -> None:
    """Let outbox_prune and the housekeeping reach what the relay owns."""
    register_pruner(
        "messages",
        Messages(delete=True),
        count=prunable_messages,
        oldest=oldest_message,
        holds=holds_message,
    )
    register_pruner(
        "checkpoints",
        Checkpoints(delete=True),
        count=Checkpoints(delete=False),
        oldest=oldest_checkpoint,
    )
    register_pruner(
        "parked", Settled(delete=True), count=Settled(delete=False), oldest=oldest_settled
    )


def _prunable(checkpoints: QuerySet[Checkpoint], newest: Checkpoint) -> QuerySet[Checkpoint]:
    """Return those of a chain that need not stay, given its newest."""
    return checkpoints.filter(
        relay=newest.relay, lane=newest.lane, previous__gt=0, previous__lt=newest.previous
    ).exclude(previous=newest.window_previous)


def _is_postgresql(using: str) -> bool:
    return connections[using].vendor == "postgresql"


def _query(using: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

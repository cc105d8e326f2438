"""Delete what nobody needs any more, in batches, beside live traffic.

The outbox knows neither who reads its log nor who receives: whoever owns rows registers a pruner
for them, so that one command and the housekeeping of whoever runs reach them.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from django.db import connections

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.database.transactions import own_transaction
from outbox.producer.writing import write_database

BATCH = 1000
"""Rows that one transaction deletes, by default."""
ALL = 2**31 - 1
"""The limit of who only counts."""

PRUNE_KEY = zlib.crc32(b"django-outbox-inbox prune")

# One process prunes at a time: two would wait for each other's rows. The relay rather goes on.
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
_LOCK = "SELECT pg_advisory_xact_lock(%s) IS NOT NULL"


def retention() -> timedelta | None:
    """Return OUTBOX["RETENTION"], how long most things are kept; None is for ever."""
    return outbox_settings().retention


class Prune(Protocol):
    """Deletes at most `limit` rows that were done with before `before`; returns how many.

    Fewer than `limit` tells that there is nothing more to delete now. Called within a short
    transaction of its own. Calls with the same `before` belong to one run, so a pruner may
    remember how far it has looked.
    """

    def __call__(self, using: str, *, before: datetime, limit: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruner:
    """Some kind of row that is not kept for ever.

    `count`, if there is one, is like `prune` and deletes nothing; it is called once in a run.
    `database` returns the alias of the database that holds the rows, as the routers say; `window`
    how long they are kept, None for ever. `oldest` returns since when the oldest row is there that
    retention is about, by index; `holds` says in a few words what keeps it, if rows may be old and
    not yet deleted. Those of a smaller `place` have their turn first.
    """

    name: str
    prune: Prune
    count: Prune | None = None
    database: Callable[[], str] = write_database
    window: Callable[[], timedelta | None] = retention
    oldest: Callable[[str], datetime | None] | None = None
    holds: Callable[[str], Iterable[object]] | None = None
    place: int = 100


_pruners: dict[str, Pruner] = {}


def register_pruner(
    name: str,
    prune: Prune,
    *,
    count: Prune | None = None,
    database: Callable[[], str] = write_database,
    window: Callable[[], timedelta | None] = retention,
    oldest: Callable[[str], datetime | None] | None = None,
    holds: Callable[[str], Iterable[object]] | None = None,
    place: int = 100,
) -> None:
    """Let outbox_prune and a relay's housekeeping delete rows of a kind that people call `name`.

    See Prune and Pruner for the arguments. A second registration of a name replaces the first.
    """
    _pruners[name] = Pruner(
        name=name,
        prune=prune,
        count=count,
        database=database,
        window=window,
        oldest=oldest,
        holds=holds,
        place=place,
    )


def pruners() -> Sequence[Pruner]:
    """Return what is registered, by place, and then in the order of registration."""
    return sorted(_pruners.values(), key=lambda each: each.place)


def pruners_of(using: str) -> Sequence[Pruner]:
    """Return the pruners of a database: those of its log, and others as the routers say."""
    return [
        each for each in pruners() if each.database is write_database or each.database() == using
    ]


def cutoff(using: str, keep: timedelta) -> datetime:
    """Return the moment before which things are old, by the clock of the database."""
    return database_now(using) - keep


def prune_batch(
    prune: Prune, using: str, *, before: datetime, limit: int, wait: bool = True
) -> int | None:
    """Run a pruner once, in a transaction of its own; return how many rows it deleted.

    One process prunes at a time. If another one does, wait for its batch, or return None.
    """
    connection = connections[using]
    with own_transaction(using):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(_LOCK if wait else _TRY_LOCK, [PRUNE_KEY])
                if not cursor.fetchone()[0]:
                    return None
        return prune(using, before=before, limit=limit)

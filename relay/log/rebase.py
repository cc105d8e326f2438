"""Carry the cursors of all relays over to another database cluster.

Checkpoints say what is published by transaction ids, and rows say by such an id when they were
written. After a dump and restore, an upgrade or a switch to a logical replica, both come from
another cluster, and the ids that are given out now have nothing to do with them. So before
anybody reads: every row that a relay has yet to publish gets an id of this cluster, and every
relay a cursor of this cluster in which exactly these ids were in flight.

Which rows are pending. A row of the old cluster is judged by the old cursor, which is pure
arithmetic on snapshots and valid anywhere. A row that was written here, before the relay
started, must not be: its low id may lie in what the old cursor has passed. It is pending,
whatever the cursor says. A row's id T is taken for one of this cluster if

    id that created the table here  <=  T  <=  id that inserted the row here (its xmin).

Every row written here fulfils that: nothing can be emitted before there is a table, and a row
is inserted under the id of its transaction or of one of its savepoints, which are given out
later. (PostgreSQL keeps only half of those two ids; a table whose relay first runs four
billion transactions after it was created here is beyond this.) So no row of this cluster is
ever judged by a foreign cursor: nothing is lost. A row of the old cluster can fulfil it by
coincidence, and is then published once more. In a restored dump only ids can coincide that
were given out while the restore ran. After pg_upgrade ids go on, the table is newer than all of
them and the old cursor is exact. A logical replica whose ids are near those of its publisher may
publish much of what the log still holds again; receivers drop it.

What a relay has parked, in whatever state, is not pending for it, whatever cursor and ids say: it
has left the flow, and what becomes of it is written in its row of django_relay_parked, for as
long as that is kept. It is tried again from there, before all that is pending of its key; and what
was discarded is not published. For other relays it is a message like any other.

How. Ids are burned first, by transactions that write nothing: one for each group of relays that
share pending rows, one that is pending for everyone, one for nobody. Then, under a lock that
keeps all readers out, in one transaction, before it has an id itself: a snapshot S, in which
all of these are finished. Pending rows get the id of their group. Published ones are left
alone unless their id is not visible in S: it would come back as new one day. Every chain is
extended by one checkpoint, whose snapshots are S with the ids of the relay's groups put back in
flight; from there the reader goes on as always, and fetches those rows by exact id, in the
order of their positions. What is emitted meanwhile is either rewritten with the rest or not
visible in S, and so new to every cursor.

The chain's uniqueness is the fence here as well: if anybody extended one, all is rolled back.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import IntegrityError, OperationalError, connections

from outbox.conf import outbox_settings
from outbox.database import instants
from outbox.database.transactions import own_transaction
from outbox.error_text import text_of
from outbox.failpoints import hit
from outbox.runtime.identity import process_name
from relay.locks import REBASE_KEY
from relay.log.soundness import demand_soundness, is_loading
from relay.log.window import CheckpointRow, Window
from relay.snapshots import with_in_flight
from relay.sql import log as sql
from relay.sql import rebase as statements

logger = logging.getLogger("relay")

LOCK_NOT_AVAILABLE = "55P03"


class Group(NamedTuple):
    """Relays that have yet to publish the same rows; `key` is how PostgreSQL writes their names."""

    key: str
    relays: tuple[str, ...]


class Chain(NamedTuple):
    """How far a relay has come in a lane: by checkpoint `id`, to be extended after `previous`.

    `previous` is 0 in a lane without checkpoints of its own, where `id` is the relay's start.
    """

    id: int
    relay: str
    lane: int
    system_identifier: int
    moved: bool
    previous: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the log is now: the snapshot S, this cluster, the highest position in use."""

    now: str
    system_identifier: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedIds:
    """Finished transaction ids that no row carries yet, and for whom each will be pending."""

    groups: Mapping[Group, int]
    everyone: int
    nobody: int

    def of(self, relay: str) -> list[int]:
        """Return the ids whose rows a relay has yet to publish."""
        return [self.everyone, *(id for group, id in self.groups.items() if relay in group.relays)]

    @property
    def all(self) -> list[int]:
        return [self.everyone, self.nobody, *self.groups.values()]


def is_moved(using: str) -> bool:
    """Tell whether cursors or messages come from another cluster and are not rebased yet."""
    return _any_moved(using, _chains(using))


def rebase(using: str) -> bool:
    """Rebase all relays of a database if it was moved; tell whether it is rebased now.

    False if another process is at it, or is reading for longer than a moment, or if rows are being
    loaded: look again later. Must be called outside a transaction. Raises UnsoundLog if not all
    of the log seems to have come.
    """
    started = time.monotonic()
    demand_soundness(using)
    if is_loading(using):
        logger.warning(
            "The log of database %r was restored or moved, and rows are still being loaded into "
            "it. All relays wait.",
            using,
        )
        return False
    try:
        groups = _survey(using)
        if groups is None:
            return True
        ids = BurnedIds(
            groups={group: _burn(using) for group in groups},
            everyone=_burn(using),
            nobody=_burn(using),
        )
        hit("rebase.burned")
        return _rebase(using, ids, started)
    except _Busy:
        return False
    except IntegrityError as exc:
        logger.warning(
            "The log of database %r is not rebased yet, because a checkpoint was written "
            "meanwhile: %s. It is tried again.",
            using,
            text_of(exc).strip(),
        )
        return False


class _Busy(Exception):
    """Others hold the lock, or have been at work since the survey."""


def _survey(using: str) -> list[Group] | None:
    """Return which groups of relays share pending rows; None if there is nothing to rebase."""
    with own_transaction(using):
        _lock(using)
        chains = _chains(using)
        if not _any_moved(using, chains):
            return None
        logger.warning(
            "The log of database %r was restored or moved: %s. All relays wait while it is "
            "looked through for what they have yet to publish.",
            using,
            _finding(chains),
        )
        _query(using, statements.WHOLE_LOG, {})
        rows = _query(using, statements.GROUPS, _parameters(chains))
        return [Group(key, tuple(relays)) for key, relays in rows]


def _rebase(using: str, ids: BurnedIds, started: float) -> bool:
    with own_transaction(using):
        _lock(using)
        [row] = _query(using, statements.SITE, {})
        site = Site(now=row[0], system_identifier=row[1], sequence=row[2])
        chains = _chains(using)
        if not _any_moved(using, chains):
            return True
        parameters = _parameters(chains) | {
            "groups": [group.key for group in ids.groups],
            "ids": list(ids.groups.values()),
            "everyone": ids.everyone,
            "nobody": ids.nobody,
            "burned": [str(each) for each in ids.all],
            "now": site.now,
        }
        _query(using, statements.WHOLE_LOG, {})
        rewritten = _query(using, statements.REWRITE, parameters)
        if any(returns for _relays, _count, returns in rewritten):
            raise _Busy  # parked since the survey; the next one finds its group
        hit("rebase.rewritten")
        duration = timedelta(seconds=time.monotonic() - started)
        rows = [_checkpoint(chain, site, ids, duration).values() for chain in chains]
        with connections[using].cursor() as cursor:
            cursor.executemany(sql.CHECKPOINT, rows)
    hit("rebase.committed")
    pending = [(relays, count) for relays, count, _returns in rewritten if relays is not None]
    logger.warning(
        "The log of database %r is rebased, after %.1f s. To be published: %s. Some of it may "
        "have been published before the move already; receivers drop what they have had.",
        using,
        duration.total_seconds(),
        _counts(pending, chains),
    )
    return True


def _checkpoint(chain: Chain, site: Site, ids: BurnedIds, duration: timedelta) -> CheckpointRow:
    """Return the row that extends a chain: an empty window that ends at the rebased cursor."""
    cursor = with_in_flight(site.now, ids.of(chain.relay))
    window = Window(
        lane=chain.lane,
        previous=chain.previous,
        before=chain.previous,
        floor=cursor,
        ceiling=cursor,
        start=0,
        next_start=0,
        sequence=site.sequence,
        system_identifier=site.system_identifier,
    )
    return CheckpointRow.of(
        window.counted_as_large(sql.LARGE_WINDOW),
        [],
        complete=True,
        relay=chain.relay,
        by=process_name(),
        duration=duration,
        created=instants.now(),
    )


def _lock(using: str) -> None:
    try:
        _query(using, statements.LOCK, {"rebase_key": REBASE_KEY})
    except OperationalError as exc:
        if getattr(exc.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise _Busy from exc
        raise


def _chains(using: str) -> list[Chain]:
    lanes = outbox_settings().LANES
    return [Chain(*row) for row in _query(using, statements.CHAINS, {"lanes": lanes})]


def _any_moved(using: str, chains: Sequence[Chain]) -> bool:
    if any(chain.moved for chain in chains):
        return True
    [(strangers,)] = _query(using, statements.STRANGERS, {})
    return bool(strangers)


def _burn(using: str) -> int:
    [(transaction_id,)] = _query(using, statements.BURN, {})
    return int(transaction_id)


def _parameters(chains: Sequence[Chain]) -> dict[str, Any]:
    return {
        "chains": [chain.id for chain in chains],
        "chain_lanes": [chain.lane for chain in chains],
        "moved": [chain.moved for chain in chains],
        "started": [not chain.previous for chain in chains],
    }


def _finding(chains: Sequence[Chain]) -> str:
    moved = [chain for chain in chains if chain.moved]
    if not moved:
        return "messages carry transaction ids that this cluster has not reached"
    relays = ", ".join(sorted({chain.relay for chain in moved}))
    clusters = ", ".join(sorted({str(chain.system_identifier) for chain in moved}))
    return f"the cursors of {relays} were written in another cluster ({clusters})"


def _counts(pending: Sequence[tuple[list[str], int]], chains: Sequence[Chain]) -> str:
    """Return how many messages each relay has yet to publish, for people."""
    counts = {
        relay: sum(count for relays, count in pending if relay in relays)
        for relay in sorted({chain.relay for chain in chains})
    }
    return ", ".join(f"{count:,} by relay {relay!r}" for relay, count in counts.items()) or "all"


def _query(using: str, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

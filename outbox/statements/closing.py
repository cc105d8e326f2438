"""When a bucket is closed: nobody who is at it can add to it any more.

An id is made when a message is emitted, and its row written at once. So when a bucket has been over
for a moment, only those transactions can add to it that have written to the log by then: they have
an id, and hold a lock on the log until they end, prepared ones too. A bucket is closed when they
have. A transaction that has written nothing to the log holds up no bucket, however long it is open.

What comes later all the same, since it was scheduled or a clock was behind, is found by what the
last look did not see, and makes another revision of its bucket.
"""

from dataclasses import dataclass
from typing import Any

from django.db import connections

from outbox.database.clock import database_now
from outbox.models import Reconciliation
from outbox.statements import sql
from outbox.statements.buckets import bound, floor, milliseconds

SKEW = 2000
"""Milliseconds by which clocks may differ, or a process may pause, until a row is late."""
MOST_LATE = 2000
"""Buckets with late rows that one look finds at most."""
_WRAP = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of the log at one time, in milliseconds; on SQLite there is only a position.

    `xid` is that of the transaction which looked: whoever had written by then has a lower one.
    """

    time: int
    xid: int = 0
    snapshot: str = ""
    system: str = ""
    position: int = 0


def look(using: str) -> Look:
    """Look at the log now."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(sql.PG_MARK)
            time, xid, snapshot, system = cursor.fetchone()
            return Look(time=time, xid=int(xid), snapshot=snapshot, system=system)
        cursor.execute(sql.SQLITE_POSITION)
        [position] = cursor.fetchone()
    return Look(time=milliseconds(database_now(using)), position=position)


def closed_before(before: Look, now: Look, width: int, using: str) -> int:
    """Return the time before which buckets are closed, given the look before this one."""
    over = _over(before, now, using)
    return 0 if over is None else floor(max(0, over - SKEW), width)


def late(row: Reconciliation, now: Look, width: int, using: str) -> list[int]:
    """Return which closed buckets have got a row since the last look; at most MOST_LATE.

    Nothing of another cluster can be told from that look.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            values: dict[str, Any] = {"position": row.position, "before": bound(row.closed).hex}
            cursor.execute(sql.SQLITE_LATE, values)
            found = {floor(int(text[:12], 16), width) for (text,) in cursor}
            return sorted(found)[:MOST_LATE]
        if not row.snapshot or row.system != now.system:
            return []
        cursor.execute(sql.HIGHEST_LANE)
        [highest] = cursor.fetchone()
        if highest is None:
            return []
        values = {
            "lanes": list(range(highest + 1)),
            "before": bound(row.closed),
            "snapshot": row.snapshot,
            "width": width,
            "limit": MOST_LATE,
        }
        cursor.execute(sql.PG_LATE, values)
        return sorted(start for (start,) in cursor.fetchall())[:MOST_LATE]


def oldest_writer(xids: list[int], own: int) -> int | None:
    """Return the oldest of some transactions, whose ids lack what counts their turns over.

    `own` is a whole id that is not far from theirs.
    """
    half = _WRAP // 2
    return min((own + (xid - own + half) % _WRAP - half for xid in xids), default=None)


def _over(before: Look, now: Look, using: str) -> int | None:
    """Return the newest of the two times at which nobody is at the log who was at it then."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return now.time  # whoever writes waits for us, or we for him
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_WRITERS)
        oldest = oldest_writer([int(xid) for (xid,) in cursor.fetchall()], now.xid)
    if oldest is None or oldest > now.xid:
        return now.time
    if before.system == now.system and oldest > before.xid > 0:
        return before.time
    return None

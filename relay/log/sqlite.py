"""The log on SQLite, for development: with one writer at a time, position order is commit order."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.backends.utils import typecast_timestamp

from outbox.celery.wire import CONTENT_TYPE
from outbox.envelope import Envelope
from relay import sql
from relay.log.base import Fetched, Log, Page


class SQLiteLog(Log):
    """A window is everything above the cursor; the unique chain is the only fence there is."""

    def lanes_with_work(self, lanes: int) -> list[int]:
        parameters = {"relay": self.relay, "from_beginning": self.start == "beginning"}
        return sorted(row[0] for row in self._query(sql.SQLITE_LANES, parameters))

    def acquire(self, lane: int) -> int | None:
        return 0

    def read(self, lane: int, size: int, sequence: int) -> Page:
        where = {"relay": self.relay, "lane": lane}
        [(previous, last, highest)] = self._query(sql.SQLITE_CURSOR, where)
        [(parked, retries)] = self._query(sql.SQLITE_PARKED, where)
        starts = last is None
        if starts:
            last = 0 if self.start == "beginning" else highest
        parameters = {"lane": lane, "after": last, "size": size, "bytes": self.page_bytes}
        rows = self._query(sql.SQLITE_PAGE, parameters)
        return Page(
            lane=lane,
            previous=previous or 0,
            messages=[_envelope(row) for row in rows],
            positions=[row[0] for row in rows],
            complete=not (rows and rows[-1][-1]),
            floor="",
            ceiling="",
            window_start=last,
            next_start=0,
            sequence=sequence,
            window_previous=previous or 0,
            window_count=0,
            system_identifier=0,
            last_position=last,
            parked=bool(parked),
            retries=bool(retries),
            due=starts and self.start == "now",
        )

    def fetch(self, positions: Sequence[int]) -> Fetched:
        parameters = {
            "positions": json.dumps(list(positions)),
            "size": len(positions),
            "bytes": self.page_bytes,
        }
        rows = self._query(sql.SQLITE_FETCH, parameters)
        return Fetched({row[0]: _envelope(row) for row in rows}, bool(rows and rows[-1][-1]))

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def _stored(self, value: Any) -> Any:
        if isinstance(value, timedelta):
            return value // timedelta(microseconds=1)
        if isinstance(value, datetime):
            return connections[self.using].ops.adapt_datetimefield_value(value)
        return value


def _envelope(row: tuple[Any, ...]) -> Envelope:
    """Return the envelope of a row: position, Envelope's fields in order, whether there is more."""
    values = dict(zip(Envelope.__struct_fields__, row[1:-1], strict=True))
    time = values["time"]
    if values["content_type"] == CONTENT_TYPE:
        values["key"] = None  # that of a task is for people: no task waits for another
    stamp = typecast_timestamp(time) if isinstance(time, str) else time
    return Envelope(
        **values
        | {
            "id": str(uuid.UUID(values["id"])),
            "data": bytes(values["data"]),
            "time": stamp.replace(tzinfo=stamp.tzinfo or UTC),
            "attributes": json.loads(values["attributes"]),
        }
    )

"""The log on SQLite, for development: with one writer at a time, position order is commit order."""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from outbox.database.instants import parameter, read
from outbox.message.envelope import Envelope
from outbox.message.kinds import kind_of
from relay.log.base import Fetched, Log
from relay.log.window import Page, Window
from relay.sql import log as sql


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
        window = Window(
            lane=lane,
            previous=previous or 0,
            before=previous or 0,
            floor="",
            ceiling="",
            start=last,
            next_start=0,
            last=last,
            sequence=sequence,
            system_identifier=0,
            due=starts and self.start == "now",
        )
        return Page(
            window=window,
            messages=[_envelope(row) for row in rows],
            positions=[row[0] for row in rows],
            complete=not (rows and rows[-1][-1]),
            parked=bool(parked),
            retries=bool(retries),
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
            return parameter(value, connections[self.using])
        return value


def _envelope(row: tuple[Any, ...]) -> Envelope:
    """Return the envelope of a row: position, Envelope's fields in order, whether there is more."""
    values = dict(zip(Envelope.__struct_fields__, row[1:-1], strict=True))
    values["key"] = kind_of(values["content_type"]).key(values["key"], values["subject"])
    return Envelope(
        **values
        | {
            "id": str(uuid.UUID(values["id"])),
            "data": bytes(values["data"]),
            "time": read(values["time"]),
            "attributes": json.loads(values["attributes"]),
        }
    )

"""Who on the database server holds things up: sessions, prepared transactions, slots."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from outbox.database import instants
from outbox.producer.wakeup import CHANNEL
from relay.locks import lock_key
from relay.sql import doctor as sql

# Quoted text, dollar-quoted text, numbers; also where the server has cut the query short.
_LITERAL = re.compile(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)|\b\d[\w.]*", re.DOTALL)
SHOWN = 200
"""Characters of a query that are shown."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session with a transaction that has been open for `age` seconds."""

    pid: int
    user: str | None
    application: str | None
    address: str | None
    state: str | None
    age: float
    query: str

    def __str__(self) -> str:
        who = f"pid {self.pid}, user {self.user}, application {self.application or '-'!r}"
        return (
            f"{who}, from {self.address or 'a local socket'}, {self.state} with a transaction "
            f"open for {self.age:.0f} s; last query: {self.query}"
        )


@dataclass(frozen=True, slots=True)
class Connected:
    """Sessions of one application, user and address; `busy` are within a transaction."""

    application: str | None
    user: str | None
    address: str | None
    listens: bool
    count: int
    busy: int
    since: datetime | None


def connected(using: str) -> list[Connected]:
    """Return who is connected to this database, at most fifty kinds of sessions."""
    rows = _query(using, sql.PG_CONNECTED, {"channel": CHANNEL})
    return [
        Connected(application, user, address, listens, count, busy, since and instants.read(since))
        for application, user, address, listens, count, busy, since in rows
    ]


def emitters(using: str, age: timedelta) -> list[Session]:
    """Return up to five transactions older than `age` that have emitted and not committed."""
    return [_session(row) for row in _query(using, sql.PG_EMITTERS, {"age": age})]


def pins(using: str, age: timedelta) -> list[Session]:
    """Return up to five transactions older than `age` that hold the vacuum horizon back."""
    return [_session(row) for row in _query(using, sql.PG_PINS, {"age": age})]


def prepared(using: str, age: timedelta) -> list[tuple[str, str, float]]:
    """Return up to five prepared transactions older than `age`: name, owner, age in seconds."""
    return [(row[0], row[1], row[2]) for row in _query(using, sql.PG_PREPARED, {"age": age})]


def idle_slots(using: str) -> list[tuple[str, str, bool, int | None]]:
    """Return up to five replication slots nobody reads: name, type, pins rows, bytes of WAL."""
    return [(row[0], row[1], row[2], row[3]) for row in _query(using, sql.PG_SLOTS, {})]


def seems_to_run(using: str, relay: str) -> bool:
    """Tell whether there is a trace of a process of a relay, or of one of any name that listens."""
    parameters = {"channel": CHANNEL, "relay_key": lock_key(relay)}
    [(listens, holds)] = _query(using, sql.PG_PRESENCE, parameters)
    return bool(listens or holds)


def without_literals(query: str) -> str:
    """Return a query in one line without its values, which are nobody's business."""
    bare = " ".join(_LITERAL.sub("?", query).split())
    return bare if len(bare) <= SHOWN else f"{bare[:SHOWN]}…"


def _session(row: tuple[Any, ...]) -> Session:
    pid, user, application, address, state, age, query = row
    return Session(pid, user, application, address, state, age, without_literals(query or ""))


def _query(using: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

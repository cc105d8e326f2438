"""How large tables are, as PostgreSQL's own statistics say; nothing is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connections
from django.db.models import Model

from outbox.database import instants

# Names as regclass takes them: quoted, in the search path. A table that is away is left out.
_SIZES = """
SELECT wanted.name, c.reltuples::bigint, pg_table_size(c.oid), pg_indexes_size(c.oid),
       s.n_live_tup, s.n_dead_tup,
       greatest(s.last_vacuum, s.last_autovacuum) AT TIME ZONE 'UTC',
       greatest(s.last_analyze, s.last_autoanalyze) AT TIME ZONE 'UTC'
FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
ORDER BY wanted.place
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: rows are estimates; `rows` is None if it was never looked at by the server."""

    model: type[Model]
    rows: int | None
    bytes: int
    index_bytes: int
    dead: int | None
    vacuumed: datetime | None
    analyzed: datetime | None


def tables(models: Sequence[type[Model]], using: str) -> list[Table]:
    """Return the sizes of the tables of some models, none on SQLite. One statement."""
    connection = connections[using]
    if connection.vendor != "postgresql" or not models:
        return []
    names = {connection.ops.quote_name(each._meta.db_table): each for each in models}
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, [list(names)])
        return [
            Table(
                model=names[name],
                rows=_rows(estimate, live),
                bytes=size,
                index_bytes=indexes,
                dead=dead,
                vacuumed=vacuumed and instants.read(vacuumed),
                analyzed=analyzed and instants.read(analyzed),
            )
            for name, estimate, size, indexes, live, dead, vacuumed, analyzed in cursor.fetchall()
        ]


def _rows(estimate: int, live: int | None) -> int | None:
    """Return the planner's estimate; before the first vacuum, what the statistics have counted."""
    if estimate >= 0:
        return max(estimate, 0)
    return live or None

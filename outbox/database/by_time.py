"""Find where a time begins in a table whose keys follow it, with no index but theirs."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connections
from django.db.models import Model

from outbox.database.instants import parameter

# A binary search over the keys for each moment, all in one statement: one lookup a step, about
# log2(keys) steps, whatever the number of rows. With LATERAL the planner has no choice but one
# index lookup for each step; SQLite knows none, and needs none.
_FIRST = """
WITH RECURSIVE edges (edge, moment) AS (VALUES {edges}),
search (edge, moment, low, high) AS (
    SELECT edge, moment, (SELECT coalesce(min({key}), 0) FROM {table}),
           (SELECT coalesce(max({key}), -1) + 1 FROM {table})
    FROM edges
    UNION ALL
    SELECT edge, moment,
           CASE WHEN {time} < moment THEN c.{key} + 1 ELSE low END,
           CASE WHEN {time} < moment THEN high ELSE (low + high) / 2 END
    FROM search LEFT JOIN {middle}
    WHERE low < high
)
SELECT low FROM search WHERE low >= high ORDER BY edge
"""
_MIDDLE = "FROM {table} AS t WHERE t.{key} >= (low + high) / 2 AND t.{key} < high"
_PG_MIDDLE = f"LATERAL (SELECT t.* {_MIDDLE} ORDER BY t.{{key}} LIMIT 1) AS c ON true"
_SQLITE_MIDDLE = (
    f"{{table}} AS c ON c.{{key}} = (SELECT t.{{key}} {_MIDDLE} ORDER BY t.{{key}} LIMIT 1)"
)
_PG_EDGE = "(CAST(%s AS integer), CAST(%s AS timestamptz))"
_SQLITE_EDGE = "(%s, %s)"


def first_keys(
    model: type[Model], moments: Sequence[datetime], *, time: Sequence[str], using: str
) -> list[int]:
    """Return for each moment the lowest primary key from which on rows are not older than that.

    `moments` ascend. `time` names columns, of which the first that is not null tells the time of a
    row. Where a few rows stand out of line the place is only about right, and keys ascend even so.
    One statement.
    """
    connection = connections[using]
    is_pg = connection.vendor == "postgresql"
    quote = connection.ops.quote_name
    columns = [f"c.{quote(name)}" for name in time]
    names = {"table": quote(model._meta.db_table), "key": quote(str(model._meta.pk.column))}
    statement = _FIRST.format(
        edges=", ".join([_PG_EDGE if is_pg else _SQLITE_EDGE] * len(moments)),
        time=columns[0] if len(columns) == 1 else f"coalesce({', '.join(columns)})",
        middle=(_PG_MIDDLE if is_pg else _SQLITE_MIDDLE).format(**names),
        **names,
    )
    values = [v for n, each in enumerate(moments) for v in (n, parameter(each, connection))]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]
